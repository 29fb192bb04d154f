// statistics.hpp: what a graph is made of.
#pragma once

#include <pybind11/pybind11.h>

namespace tapegrad::python {

void register_statistics(pybind11::module_& m);

}  // namespace tapegrad::python
