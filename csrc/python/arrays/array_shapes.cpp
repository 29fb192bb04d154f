// array_shapes.cpp: the shape of an array Value: shape, ndim, size and T, len() and iteration, reshape and transpose.
#include <algorithm>
#include <cstring>
#include <vector>

#include "python/arrays/arrays.hpp"

namespace tapegrad::python {

namespace {

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

PyObject* get_transposed(PyObject* self) {
  return transposed(self, {});
}

Field fields[] = {{"shape", get_shape}, {"ndim", get_ndim}, {"size", get_size}, {"T", get_transposed}};

}  // namespace

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

PyObject* value_transpose(PyObject* self, PyObject* args) {
  std::vector<Py_ssize_t> order;
  return read_numbers(args, "transpose", &order) ? transposed(self, order) : nullptr;
}

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

PyGetSetDef array_getset[] = {
    {"shape", get_field, set_field, "The shape of the array held, as a tuple; () for one number.", &fields[0]},
    {"ndim", get_field, set_field, "The number of axes; 0 for one number.", &fields[1]},
    {"size", get_field, set_field, "The number of lanes; 1 for one number.", &fields[2]},
    {"T", get_field, set_field, "transpose(): the axes reversed.", &fields[3]},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace tapegrad::python
