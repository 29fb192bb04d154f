// result_memory.hpp: arrays for what runs over lanes return. Fresh pages from the system would cost as much as filling
// them, so that the memory of large arrays that died is used again.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <vector>

namespace tapegrad::python {

using Array = pybind11::array_t<double, pybind11::array::c_style | pybind11::array::forcecast>;

// An array that nothing else uses; its numbers are anything. A large one starts where its cache line and that of
// `like`, where given, have as many numbers left: then whole vectors of both lie in one line each. Under the
// interpreter lock.
Array result_array(const std::vector<std::size_t>& shape, const double* like = nullptr);

}  // namespace tapegrad::python
