// current_frame.hpp: where in a program the interpreter is, without making a frame object for it.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace tapegrad::python {

// Code (borrowed from the running frame) and the offset of its instruction in bytes; false where no Python code runs.
bool current_place(PyCodeObject** code, int* instruction);

}  // namespace tapegrad::python
