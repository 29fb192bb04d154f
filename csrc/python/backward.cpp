// backward.cpp: the sweep as Python calls it: native where the graph is, with Python rules where a program has put
// some.
#include <new>

#include "core/sweep.hpp"
#include "python/numbers.hpp"
#include "python/observe.hpp"
#include "python/value.hpp"

namespace tapegrad::python {

namespace {

bool call_rule(void*, Node* node) {
  PyObject* rule = as_value(static_cast<PyObject*>(node->handle))->rule;
  Py_INCREF(rule);  // it may replace itself
  PyObject* result = PyObject_CallNoArgs(rule);
  Py_DECREF(rule);
  Py_XDECREF(result);
  return result != nullptr;
}

}  // namespace

PyObject* value_backward(PyObject* self, PyObject* const*, Py_ssize_t nargs, PyObject* kwnames) {
  if (nargs || kwnames) {
    PyErr_SetString(PyExc_TypeError, "backward() takes no arguments");
    return nullptr;
  }
  if (refuse_while_recording("backward()")) return nullptr;
  settle_tracking();
  Node* root = node_of(self);
  root->grad = 1.0;
  root->flags = static_cast<Flags>((root->flags & ~kGradInt) | ((root->flags & kFloatGrad) ? 0 : kGradInt));
  if (!(root->flags & kTracked)) {
    sweep(root);
    Py_RETURN_NONE;
  }
  Py_INCREF(self);
  bool finished = false;
  try {
    finished = sweep_with_rules(arena(), root, call_rule, nullptr);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  Py_DECREF(self);
  if (!finished) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace tapegrad::python
