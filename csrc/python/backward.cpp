// backward.cpp: the sweep as Python calls it: native where the graph is, with Python rules where a program has put
// some.
#include <new>

#include "core/lanes.hpp"
#include "core/sweep.hpp"
#include "python/arrays.hpp"
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

// The gradient that a sweep starts from: ones, or what the program gives.
bool seed(Node* root, PyObject* gradient) {
  const bool given = gradient && gradient != Py_None;
  if (root->flags & kArray) {
    if (given) return assign_grad(root, gradient, "gradient") == 0;
    Buffer* ones = renew(root->array->grad, root->array->size);
    if (!ones) {
      PyErr_NoMemory();
      return false;
    }
    lanes::fill(root->array->size, 1.0, ones->values());
    return true;
  }
  Number number{1.0, kDataInt};
  if (given && !require_number(gradient, "gradient", &number)) return false;
  root->grad = number.value;
  const bool is_int = number.flags && !(root->flags & kFloatGrad);
  root->flags = static_cast<Flags>((root->flags & ~kGradInt) | (is_int ? kGradInt : 0));
  return true;
}

// The one argument, if there is one. False with an error set.
bool read_gradient(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames, PyObject** gradient) {
  const Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  if (nargs + named > 1) {
    PyErr_Format(PyExc_TypeError, "backward() takes at most one argument, gradient, but %zd were given", nargs + named);
    return false;
  }
  if (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "gradient")) {
    PyErr_Format(PyExc_TypeError, "backward() got an unexpected keyword argument '%U'; it takes gradient",
                 PyTuple_GET_ITEM(kwnames, 0));
    return false;
  }
  if (nargs + named) *gradient = args[0];
  return true;
}

}  // namespace

PyObject* value_backward(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* gradient = nullptr;
  if ((nargs || kwnames) && !read_gradient(args, nargs, kwnames, &gradient)) return nullptr;
  if (refuse_while_recording("backward()")) return nullptr;
  if (!seed(node_of(self), gradient)) return nullptr;
  settle_tracking();
  Node* root = node_of(self);
  if (!(root->flags & kTracked)) {
    if (!sweep(root, &arena())) return PyErr_NoMemory();
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
