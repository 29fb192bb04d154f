// function_object.hpp: a compiled function as an object, and the programs that its calls may run at once. Calls are in
// function_calls.cpp, the type and everything else in function.cpp.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "python/compiled/arguments.hpp"
#include "python/compiled/programs.hpp"

namespace tapegrad::python {

enum Way { kCallWay, kGradientWay, kBackwardWay, kWays };

// A program that a call with arguments of some shape may run at once. Counted: a run may let go of the interpreter, and
// another thread may put it away meanwhile. All under the interpreter lock.
struct Ready {
  PyObject* program;  // owns `runnable`
  RunnableProgram* runnable;
  PyObject* checks;  // snapshot of the environment
  PyObject* finish;  // makes the result of an iterator over the outputs; null where it is one float
  std::unique_ptr<ArgumentShape> shape;
  std::size_t users = 1;

  ~Ready() {
    Py_DECREF(program);
    Py_DECREF(checks);
    Py_XDECREF(finish);
  }
};

inline void release(Ready* ready) {
  if (!--ready->users) delete ready;
}

struct FunctionObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* owner;
  PyObject* weakrefs;
  std::vector<Ready*>* ready[kWays];  // the one last used first
};

inline FunctionObject* as_function(PyObject* o) {
  return reinterpret_cast<FunctionObject*>(o);
}

// function_calls.cpp
bool init_calls();
PyObject* function_vectorcall(PyObject* self, PyObject* const* args, std::size_t nargsf, PyObject* kwnames);
PyObject* function_value_and_grad(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames);
PyObject* function_backward(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames);

}  // namespace tapegrad::python
