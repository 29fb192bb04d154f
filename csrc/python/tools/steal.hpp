// steal.hpp: from Python's C API to pybind11: a new reference, or the error that is set.
#pragma once

#include <pybind11/pybind11.h>

namespace tapegrad::python {

inline pybind11::object steal(PyObject* o) {
  if (!o) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(o);
}

}  // namespace tapegrad::python
