// backward.cpp: the sweep as Python calls it: native where the graph is, with Python rules where a program has put
// some.
#include <new>

#include "core/graph/sweep.hpp"
#include "core/lanes/lanes.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/tools/gradients.hpp"
#include "python/tools/modes.hpp"
#include "python/value/numbers.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

namespace {

bool call(void*, Node* node) {
  // Rules that are not Python functions never get to look for Ctrl-C.
  static unsigned rules = 0;
  if (++rules % 256 == 0 && PyErr_CheckSignals() < 0) return false;
  return call_rule(node);
}

// The gradient that a sweep starts from: ones, or what the program gives.
bool seed(PyObject* self, PyObject* gradient) {
  const bool given = gradient && gradient != Py_None;
  Node* root = node_of(self);
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
  root = node_of(self);  // once more: reading may run code that makes another thing of this Value
  if (root->flags & kArray) return refuse_changed() == 0;
  root->grad = number.value;
  const bool is_int = number.flags && !(root->flags & kFloatGrad);
  root->flags = static_cast<Flags>((root->flags & ~kGradInt) | (is_int ? kGradInt : 0));
  return true;
}

// The arguments gradient and zero_grad. False with an error set.
bool read_arguments(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames, PyObject** gradient, bool* zero) {
  const Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  if (nargs + named > 2) {
    PyErr_Format(PyExc_TypeError, "backward() takes at most two arguments, gradient and zero_grad, but %zd were given",
                 nargs + named);
    return false;
  }
  PyObject* zero_grad = nargs > 1 ? args[1] : nullptr;
  if (nargs) *gradient = args[0];
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* name = PyTuple_GET_ITEM(kwnames, i);
    const bool first = !PyUnicode_CompareWithASCIIString(name, "gradient");
    if (!first && PyUnicode_CompareWithASCIIString(name, "zero_grad")) {
      PyErr_Format(PyExc_TypeError,
                   "backward() got an unexpected keyword argument '%U'; it takes gradient and zero_grad", name);
      return false;
    }
    PyObject*& place = first ? *gradient : zero_grad;
    if (place) {
      PyErr_Format(PyExc_TypeError, "backward() got more than one value for argument '%U'", name);
      return false;
    }
    place = args[nargs + i];
  }
  const int truth = zero_grad ? PyObject_IsTrue(zero_grad) : 0;
  *zero = truth == 1;
  return truth >= 0;
}

}  // namespace

PyObject* value_backward(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  PyObject* gradient = nullptr;
  bool zero = false;
  if ((nargs || kwnames) && !read_arguments(args, nargs, kwnames, &gradient, &zero)) return nullptr;
  if (refuse_while_recording("backward()")) return nullptr;
  if (zero) zero_gradients(node_of(self));
  if (!seed(self, gradient)) return nullptr;
  settle_tracking();
  Node* root = node_of(self);
  if (in_mode(Mode::anomaly)) [[unlikely]] {
    if (!checked_sweep(root)) return nullptr;
    Py_RETURN_NONE;
  }
  if (!(root->flags & kTracked)) {
    if (!sweep(root, &arena())) return PyErr_Occurred() ? nullptr : PyErr_NoMemory();
    Py_RETURN_NONE;
  }
  Py_INCREF(self);
  bool finished = false;
  try {
    finished = sweep_with_rules(arena(), root, call, nullptr);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  Py_DECREF(self);
  if (!finished) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace tapegrad::python
