// array_methods.cpp: what an array Value has beyond the operators: where, clip, what NumPy calls, and the tables of all
// methods and slots.

#include "python/arrays/arrays.hpp"

namespace tapegrad::python {

namespace {

template <ArrayOp op>
PyObject* value_reduce(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return reduce_lanes(op, self, args, nargs, kwnames);
}

PyObject* value_dot(PyObject* self, PyObject* other) {
  return dot(self, other);
}

PyObject* value_clip(PyObject* self, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 2) {
    PyErr_Format(PyExc_TypeError, "clip() takes the two arguments low and high, %zd given", nargs);
    return nullptr;
  }
  return clip(self, args[0], args[1]);
}

// NumPy calls v.__array_function__(function, types, args, kwargs).
PyObject* value_array_function(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (nargs != 4 || !PyTuple_Check(args[2]) || !PyDict_Check(args[3])) {
    PyErr_SetString(
        PyExc_TypeError,
        "__array_function__() is for NumPy to call: with a function, types, a tuple and a dict of arguments");
    return nullptr;
  }
  PyObject* module = PyImport_ImportModule("tapegrad._numpy");
  PyObject* out = module ? PyObject_CallMethod(module, "array_function", "OOO", args[0], args[2], args[3]) : nullptr;
  Py_XDECREF(module);
  return out;
}

#define TAPEGRAD_FASTCALL(f) reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f))
#define TAPEGRAD_REDUCTION(name, text)                                                                                 \
  {#name, TAPEGRAD_FASTCALL(value_reduce<ArrayOp::name>), METH_FASTCALL | METH_KEYWORDS,                               \
   #name "($self, /, axis=None, *, dtype=None, out=None, keepdims=False)\n--\n\n" text                                 \
         "\n\naxis: a number or a tuple of them; all axes if None. keepdims: keep them, with length 1. A Value that\n" \
         "holds one number is its own " #name "."}

}  // namespace

PyObject* where(PyObject* condition, PyObject* a, PyObject* b) {
  PyObject* value = is_value(a) ? a : is_value(b) ? b : is_value(condition) ? condition : nullptr;
  const Flags like = value ? node_of(value)->flags : fresh_flags(value_type());
  PyTypeObject* type = value ? result_type(value) : value_type();
  const Held c = read_operand(condition, "the condition of where()", like);
  const Held x = c ? read_operand(a, "an operand of where()", like) : Held();
  const Held y = x ? read_operand(b, "an operand of where()", like) : Held();
  if (!y) return nullptr;
  Node* operands[] = {c.get(), x.get(), y.get()};
  const Flags all = operands[0]->flags | operands[1]->flags | operands[2]->flags;
  if (all & kArray) {
    ArrayDraft draft;
    draft.op = ArrayOp::where;
    draft.operands = operands;
    draft.count = 3;
    return make_value(draft, like, all, type, "where");
  }
  static const long label = [] {
    PyObject* text = PyUnicode_InternFromString("where");
    return text ? intern_label(text) : -1;
  }();
  if (label < 0) return nullptr;
  const bool first = operands[0]->data != 0;
  const Node* chosen = first ? operands[1] : operands[2];
  const double local_grads[] = {0.0, first ? 1.0 : 0.0, first ? 0.0 : 1.0};
  return show(arena().make_custom(operands, 3, local_grads, static_cast<std::uint32_t>(label), chosen->data,
                                  inherited(like) | (chosen->flags & kDataInt)),
              type, all);
}

PyObject* clip(PyObject* x, PyObject* low, PyObject* high) {
  PyObject* raised = low == Py_None ? Py_NewRef(x) : maximum(x, low);
  if (!raised || high == Py_None) return raised;
  PyObject* out = minimum(raised, high);
  Py_DECREF(raised);
  return out;
}

PyMethodDef array_methods[] = {
    TAPEGRAD_REDUCTION(sum, "The sum of the lanes."),
    TAPEGRAD_REDUCTION(mean, "The mean of the lanes; NaN of none."),
    TAPEGRAD_REDUCTION(
        max, "The largest lane. The gradient goes to it; lanes that tie share it evenly. ValueError of none."),
    TAPEGRAD_REDUCTION(
        min, "The smallest lane. The gradient goes to it; lanes that tie share it evenly. ValueError of none."),
    {"dot", value_dot, METH_O,
     "dot($self, other, /)\n--\n\nThe product of vectors and matrices, as `@`; with a number on either side, `*`.\n\n"
     "ValueError where the lengths do not fit or an operand has more than two axes."},
    {"reshape", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(value_reshape)),
     METH_VARARGS | METH_KEYWORDS,
     "reshape($self, /, *shape, order='C')\n--\n\nThe same lanes in the same order, in another shape; one length may "
     "be -1. ValueError where\n"
     "the lanes do not fill it."},
    {"transpose", value_transpose, METH_VARARGS,
     "transpose($self, /, *axes)\n--\n\nThe axes in another order: reversed if none is given."},
    {"clip", TAPEGRAD_FASTCALL(value_clip), METH_FASTCALL,
     "clip($self, low, high, /)\n--\n\nmaximum(self, low), then minimum of that and high; None for no bound."},
    {"__array_ufunc__", TAPEGRAD_FASTCALL(value_array_ufunc), METH_FASTCALL | METH_KEYWORDS,
     "NumPy's functions over Values: arithmetic with arrays of numbers gives array Values, all else works element by "
     "element."},
    {"__array_function__", TAPEGRAD_FASTCALL(value_array_function), METH_FASTCALL,
     "NumPy's other functions over Values: those that have a meaning for array Values, and a TypeError for the rest."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot array_slots[] = {
    {Py_mp_length, reinterpret_cast<void*>(value_length)},
    {Py_mp_subscript, reinterpret_cast<void*>(value_subscript)},
    {Py_tp_iter, reinterpret_cast<void*>(value_iterate)},
    {Py_nb_matrix_multiply, reinterpret_cast<void*>(value_matmul)},
    {0, nullptr},
};

}  // namespace tapegrad::python
