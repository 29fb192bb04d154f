// array_methods.cpp: what an array Value has beyond the operators: shape, reductions, products, reshaping, where,
// maximum, minimum, clip.
#include <algorithm>
#include <cstring>
#include <vector>

#include "python/arrays.hpp"

namespace tapegrad::python {

namespace {

// ---- shape
// ---------------------------------------------------------------------------------------------------------------------------

// shape, ndim, size and T: unless the program has assigned an attribute of that name.
using Getter = PyObject* (*)(PyObject * self);

struct Field {
  const char* name;
  Getter get;
};

PyObject* get_field(PyObject* self, void* closure) {
  const auto* field = static_cast<const Field*>(closure);
  PyObject* assigned = as_value(self)->dict ? PyDict_GetItemString(as_value(self)->dict, field->name) : nullptr;
  return assigned ? Py_NewRef(assigned) : field->get(self);
}

int set_field(PyObject* self, PyObject* value, void* closure) {
  const auto* field = static_cast<const Field*>(closure);
  PyObject* name = PyUnicode_InternFromString(field->name);
  if (!name) return -1;
  const int done = value ? store_attribute(self, name, value) : delete_attribute(self, name);
  Py_DECREF(name);
  return done;
}

PyObject* get_shape(PyObject* self) {
  return shape_tuple(shape_of(node_of(self)));
}
PyObject* get_ndim(PyObject* self) {
  return PyLong_FromLong(shape_of(node_of(self)).ndim);
}
PyObject* get_size(PyObject* self) {
  return PyLong_FromSize_t(shape_of(node_of(self)).size);
}

Py_ssize_t value_length(PyObject* self) {
  if (const Array* array = array_of(node_of(self))) return static_cast<Py_ssize_t>(array->dims()[0]);
  PyErr_SetString(PyExc_TypeError, "a Value that holds one number has no length");
  return -1;
}

// The lanes along the first axis, each as a Value indexed out of this one.
PyObject* value_iterate(PyObject* self) {
  if (!holds_array(self)) {
    PyErr_SetString(PyExc_TypeError, "a Value that holds one number cannot be iterated over");
    return nullptr;
  }
  PyObject* builtins = PyEval_GetBuiltins();
  PyObject* map = PyDict_GetItemString(builtins, "map");
  PyObject* range = PyDict_GetItemString(builtins, "range");
  PyObject* item = PyObject_GetAttrString(self, "__getitem__");
  PyObject* places = range && item ? PyObject_CallFunction(range, "n", value_length(self)) : nullptr;
  PyObject* out = map && places ? PyObject_CallFunctionObjArgs(map, item, places, nullptr) : nullptr;
  Py_XDECREF(places);
  Py_XDECREF(item);
  return out;
}

// ---- reductions
// ------------------------------------------------------------------------------------------------------------------------

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

template <ArrayOp op>
PyObject* value_reduce(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
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

// ---- products
// --------------------------------------------------------------------------------------------------------------------------

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

PyObject* value_dot(PyObject* self, PyObject* other) {
  return dot(self, other);
}

// ---- other shapes
// ------------------------------------------------------------------------------------------------------------------------

// The whole numbers in the arguments (2, 3) or ((2, 3),); None as one argument is as if there were none.
bool read_numbers(PyObject* args, const char* name, std::vector<Py_ssize_t>* out) {
  PyObject* only = PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : nullptr;
  if (only == Py_None) return true;
  PyObject* items = only && (PyTuple_Check(only) || PyList_Check(only)) ? PySequence_Tuple(only) : Py_NewRef(args);
  if (!items) return false;
  bool fine = true;
  for (Py_ssize_t i = 0; fine && i < PyTuple_GET_SIZE(items); ++i) {
    PyObject* item = PyTuple_GET_ITEM(items, i);
    const Py_ssize_t n = PyNumber_AsSsize_t(item, PyExc_OverflowError);
    fine = n != -1 || !PyErr_Occurred();
    if (!fine && PyErr_ExceptionMatches(PyExc_TypeError))
      PyErr_Format(PyExc_TypeError, "%s() takes whole numbers, not %.200s: %R", name, Py_TYPE(item)->tp_name, item);
    out->push_back(n);
  }
  Py_DECREF(items);
  return fine;
}

// NumPy's order='C' is the only one there is.
bool only_c_order(PyObject* kwargs) {
  PyObject *name, *value;
  Py_ssize_t position = 0;
  while (kwargs && PyDict_Next(kwargs, &position, &name, &value)) {
    const bool fine = PyUnicode_CompareWithASCIIString(name, "order") == 0 && PyUnicode_Check(value) &&
                      PyUnicode_CompareWithASCIIString(value, "C") == 0;
    if (fine) continue;
    PyErr_Format(PyExc_TypeError, "reshape() takes a shape and order='C', not %U=%R", name, value);
    return false;
  }
  return true;
}

PyObject* value_reshape(PyObject* self, PyObject* args, PyObject* kwargs) {
  std::vector<Py_ssize_t> dims;
  if (!only_c_order(kwargs) || !read_numbers(args, "reshape", &dims)) return nullptr;
  Node* node = node_of(self);
  const std::size_t size = shape_of(node).size;
  const auto unknown = std::find(dims.begin(), dims.end(), -1);
  Shape known;
  bool fine = true;
  for (auto n = dims.begin(); n != dims.end(); ++n)
    if (n != unknown) fine = fine && *n >= 0 && known.append(static_cast<std::size_t>(*n));
  if (unknown != dims.end()) {
    fine = fine && known.size && size % known.size == 0;
    if (fine) *unknown = static_cast<Py_ssize_t>(size / known.size);
  }
  ArrayDraft draft;
  for (const Py_ssize_t n : dims) fine = fine && draft.shape.append(static_cast<std::size_t>(n));
  if (!fine || draft.shape.size != size) {
    PyObject* shape = shape_tuple(shape_of(node));
    if (shape) PyErr_Format(PyExc_ValueError, "reshape(): a Value of shape %S cannot take the shape %R", shape, args);
    Py_XDECREF(shape);
    return nullptr;
  }
  if (!(node->flags & kArray) && !draft.shape.ndim) return Py_NewRef(self);
  draft.op = ArrayOp::reshape;
  draft.operands = &node;
  draft.count = 1;
  return make_value(draft, node->flags, node->flags, result_type(self), "reshape");
}

PyObject* transposed(PyObject* self, const std::vector<Py_ssize_t>& order) {
  Node* node = node_of(self);
  const auto ndim = static_cast<Py_ssize_t>(shape_of(node).ndim);
  std::vector<std::int64_t> axes;
  for (Py_ssize_t i = 0; i < ndim; ++i) axes.push_back(ndim - 1 - i);
  bool fine = order.empty() || static_cast<Py_ssize_t>(order.size()) == ndim;
  for (std::size_t i = 0; fine && i < order.size(); ++i) {
    axes[i] = order[i] < 0 ? order[i] + ndim : order[i];
    fine = std::find(axes.begin(), axes.begin() + static_cast<Py_ssize_t>(i), axes[i]) ==
               axes.begin() + static_cast<Py_ssize_t>(i) &&
           axes[i] >= 0 && axes[i] < ndim;
  }
  if (!fine) {
    PyErr_Format(PyExc_ValueError,
                 "transpose(): the axes must be the numbers from 0 to %zd, each once, in the order wanted", ndim - 1);
    return nullptr;
  }
  if (ndim < 2) return Py_NewRef(self);
  ArrayDraft draft;
  draft.op = ArrayOp::transpose;
  draft.operands = &node;
  draft.count = 1;
  draft.params = axes.data();
  draft.param_count = axes.size();
  return make_value(draft, node->flags, node->flags, result_type(self), "transpose");
}

PyObject* value_transpose(PyObject* self, PyObject* args) {
  std::vector<Py_ssize_t> order;
  return read_numbers(args, "transpose", &order) ? transposed(self, order) : nullptr;
}

PyObject* get_transposed(PyObject* self) {
  return transposed(self, {});
}

Field fields[] = {{"shape", get_shape}, {"ndim", get_ndim}, {"size", get_size}, {"T", get_transposed}};

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

PyGetSetDef array_getset[] = {
    {"shape", get_field, set_field, "The shape of the array held, as a tuple; () for one number.", &fields[0]},
    {"ndim", get_field, set_field, "The number of axes; 0 for one number.", &fields[1]},
    {"size", get_field, set_field, "The number of lanes; 1 for one number.", &fields[2]},
    {"T", get_field, set_field, "transpose(): the axes reversed.", &fields[3]},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

bool hide_array_protocols(PyTypeObject* type) {
  for (const char* name : {"__iter__", "__len__"})
    if (PyDict_DelItemString(type->tp_dict, name) < 0) return false;
  PyType_Modified(type);
  return true;
}

void give_array_protocols(PyTypeObject* type) {
  if (!type->tp_iter) type->tp_iter = value_iterate;
  if (type->tp_as_mapping && !type->tp_as_mapping->mp_length) type->tp_as_mapping->mp_length = value_length;
}

PyType_Slot array_slots[] = {
    {Py_mp_length, reinterpret_cast<void*>(value_length)},
    {Py_mp_subscript, reinterpret_cast<void*>(value_subscript)},
    {Py_tp_iter, reinterpret_cast<void*>(value_iterate)},
    {Py_nb_matrix_multiply, reinterpret_cast<void*>(value_matmul)},
    {0, nullptr},
};

}  // namespace tapegrad::python
