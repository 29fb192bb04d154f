// array_reductions.cpp: sum, mean, max and min over axes, and products of vectors and matrices.
#include <cstring>

#include "python/arrays/arrays.hpp"

namespace tapegrad::python {

namespace {

// Reads one axis or a tuple of them into a bit mask; None is all of them.
bool read_axes(PyObject* axis, const Node* node, const char* name, std::uint32_t* mask) {
  const int ndim = shape_of(node).ndim;
  *mask = ndim == 32 ? ~0u : (1u << ndim) - 1;
  if (!axis || axis == Py_None) return true;
  *mask = 0;
  PyObject* items = PyTuple_Check(axis) ? Py_NewRef(axis) : PyTuple_Pack(1, axis);
  bool fine = items != nullptr;
  for (Py_ssize_t i = 0; fine && i < PyTuple_GET_SIZE(items); ++i) {
    PyObject* item = PyTuple_GET_ITEM(items, i);
    const Py_ssize_t given = PyNumber_AsSsize_t(item, PyExc_OverflowError);
    if (given == -1 && PyErr_Occurred()) {
      if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "%s(): axis must be a whole number, a tuple of them or None, not %.200s: %R",
                     name, Py_TYPE(item)->tp_name, item);
      fine = false;
      break;
    }
    const Py_ssize_t at = given < 0 ? given + ndim : given;
    if (at < 0 || at >= ndim) {
      PyErr_Format(PyExc_ValueError, "%s(): axis %zd is out of range for a Value with %d axes", name, given, ndim);
      fine = false;
    } else if (*mask >> at & 1) {
      PyErr_Format(PyExc_ValueError, "%s(): axis %zd is given twice", name, given);
      fine = false;
    } else {
      *mask |= 1u << at;
    }
  }
  Py_XDECREF(items);
  return fine;
}

// sum(axis=None, dtype=None, out=None, keepdims=False) and the like, so that np.sum(v) comes out here.
bool read_reduction(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames, const char* name, PyObject** axis,
                    bool* keepdims) {
  if (nargs > 1) {
    PyErr_Format(PyExc_TypeError, "%s() takes one positional argument, axis, but %zd were given", name, nargs);
    return false;
  }
  if (nargs) *axis = args[0];
  for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); ++i) {
    PyObject *key = PyTuple_GET_ITEM(kwnames, i), *value = args[nargs + i];
    const char* text = PyUnicode_AsUTF8(key);
    if (!text) return false;
    if (!std::strcmp(text, "axis") && !nargs) {
      *axis = value;
    } else if (!std::strcmp(text, "keepdims")) {
      const int on = PyObject_IsTrue(value);
      if (on < 0) return false;
      *keepdims = on;
    } else if (!std::strcmp(text, "dtype") || !std::strcmp(text, "out")) {
      if (value == Py_None) continue;
      PyErr_Format(PyExc_TypeError,
                   "%s(): %s is not for Values, which are float64 and make their own results; leave it out", name,
                   text);
      return false;
    } else {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'; it takes axis and keepdims", name,
                   key);
      return false;
    }
  }
  return true;
}

PyObject* product(PyObject* l, PyObject* r, const char* label) {
  PyObject* value = is_value(l) ? l : is_value(r) ? r : nullptr;
  const Flags like = value ? node_of(value)->flags : fresh_flags(value_type());
  PyTypeObject* type = value ? result_type(value) : value_type();
  const Held a = read_operand(l, "an operand of @", like);
  const Held b = a ? read_operand(r, "an operand of @", like) : Held();
  if (!b) return nullptr;
  Node* operands[] = {a.get(), b.get()};
  ArrayDraft draft;
  draft.op = ArrayOp::dot;
  draft.operands = operands;
  draft.count = 2;
  if (!(operands[0]->flags & operands[1]->flags & kArray)) {
    PyErr_Format(PyExc_ValueError,
                 "[%s] takes vectors and matrices, but one operand is a single number; multiply with *", label);
    return nullptr;
  }
  return make_value(draft, like, operands[0]->flags | operands[1]->flags, type, label);
}

}  // namespace

PyObject* reduce_lanes(ArrayOp op, PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const char* name = array_name(op);
  PyObject* axis = nullptr;
  ArrayDraft draft;
  if (!read_reduction(args, nargs, kwnames, name, &axis, &draft.keeps_axes) ||
      !read_axes(axis, node_of(self), name, &draft.axes))
    return nullptr;
  Node* node = node_of(self);  // only now: reading the axes may run code that makes another thing of this Value
  if (!(node->flags & kArray)) return Py_NewRef(self);
  draft.op = op;
  draft.operands = &node;
  draft.count = 1;
  return make_value(draft, node->flags, node->flags, result_type(self), name);
}

PyObject* value_matmul(PyObject* l, PyObject* r) {
  PyObject* value = is_value(l) ? l : r;
  PyObject* other = is_value(l) ? r : l;
  const bool listed = PyList_Check(other) || PyTuple_Check(other);
  if (!holds_array(l) && !holds_array(r) && !is_numeric_array(other)) Py_RETURN_NOTIMPLEMENTED;
  if (!is_value(value) || !(is_value(other) || is_numeric_array(other) || listed)) Py_RETURN_NOTIMPLEMENTED;
  return product(l, r, "@");
}

PyObject* dot(PyObject* a, PyObject* b) {
  const auto is_number = [](PyObject* o) {
    Number unused;
    return is_value(o) ? !holds_array(o) : read_number(o, &unused) > 0;
  };
  if (is_number(a) || is_number(b)) return PyNumber_Multiply(a, b);
  if (PyErr_Occurred()) return nullptr;
  return product(a, b, "dot");
}

}  // namespace tapegrad::python
