// compile.hpp: what module.cpp registers of compiled functions.
#pragma once

#include <pybind11/pybind11.h>

namespace tapegrad::python {

void register_observe(pybind11::module_& m);      // observe.cpp
void register_programs(pybind11::module_& m);     // compile.cpp
void register_environment(pybind11::module_& m);  // environment.cpp
void register_contents(pybind11::module_& m);     // contents.cpp
bool register_function(pybind11::module_& m);     // function.cpp

// lane_calls.cpp: (program, checks, shapes, args, ..., threads), with whether the mean is wanted or which arguments'
// gradients are
PyObject* backward_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* values_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count);
PyObject* gradients_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count);

// operations.cpp: v.detach() where this thread is recording. New reference.
PyObject* detached(PyObject* value);

}  // namespace tapegrad::python
