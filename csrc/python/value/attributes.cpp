// attributes.cpp: what a Value shows of its node (data, grad, label) and the attributes that a program hangs on it; the
// table of all of them.
#include "python/value/attributes.hpp"

#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/value/numbers.hpp"

namespace tapegrad::python {

namespace {

PyObject *str_data, *str_grad, *str_label, *str_class, *str_empty;

PyObject* get_data(PyObject* self, void*) {
  if (observer()) [[unlikely]]
    return observe("data", self);
  Node* n = node_of(self);
  if (n->flags & (kDataInt | kArray)) [[unlikely]]
    return n->flags & kArray ? data_view(n) : to_python(n->data, true);
  return PyFloat_FromDouble(n->data);
}

int set_data(PyObject* self, PyObject* value, void*) {
  if (!value) return refuse_delete("data");
  if (refuse_while_recording("assigning the data of a Value")) return -1;
  Node* n = node_of(self);
  if (n->flags & kArray) [[unlikely]]
    return assign_data(n, value);
  Number number;
  if (!require_number(value, "data", &number)) return -1;
  n = node_of(self);  // once more: reading may run code that makes another thing of this Value
  if (n->flags & kArray) [[unlikely]]
    return refuse_changed();
  n->data = number.value;
  n->flags = static_cast<Flags>((n->flags & ~kDataInt) | number.flags);
  return 0;
}

PyObject* get_grad(PyObject* self, void*) {
  if (refuse_while_recording("reading the grad of a Value")) return nullptr;
  Node* n = node_of(self);
  if (n->flags & (kGradInt | kArray)) [[unlikely]]
    return n->flags & kArray ? grad_view(n) : to_python(n->grad, true);
  return PyFloat_FromDouble(n->grad);
}

int set_grad(PyObject* self, PyObject* value, void*) {
  if (!value) return refuse_delete("grad");
  if (refuse_while_recording("assigning the grad of a Value")) return -1;
  Node* n = node_of(self);
  if (n->flags & kArray) [[unlikely]]
    return assign_grad(n, value);
  Number number;
  if (!require_number(value, "grad", &number)) return -1;
  n = node_of(self);
  if (n->flags & kArray) [[unlikely]]
    return refuse_changed();
  static_assert(kGradInt == kDataInt << 1);
  n->grad = number.value;
  n->flags = static_cast<Flags>((n->flags & ~kGradInt) | (number.flags << 1));
  return 0;
}

PyObject* get_label(PyObject* self, void*) {
  PyObject* label = stored_attribute(self, str_label);
  if (!label && PyErr_Occurred()) return nullptr;
  return Py_NewRef(label ? label : str_empty);
}

int set_label(PyObject* self, PyObject* value, void*) {
  if (!value) return refuse_delete("label");
  return store_attribute(self, str_label, value);
}

// data, grad, _prev, _op, label and the program's own attributes, as a dict that writes through to the value.
PyObject* get_dict(PyObject* self, void*) {
  PyObject* module = PyImport_ImportModule("tapegrad._attributes");
  if (!module) return nullptr;
  PyObject* dict = as_value(self)->dict;
  PyObject* own = dict ? PyDict_Copy(dict) : PyDict_New();
  PyObject* out = own ? PyObject_CallMethod(module, "Attributes", "OO", self, own) : nullptr;
  Py_XDECREF(own);
  Py_DECREF(module);
  return out;
}

int set_dict(PyObject* self, PyObject* value, void*) {
  if (!value || !PyDict_Check(value)) {
    PyErr_Format(PyExc_TypeError, "__dict__ must be a dict, not %.200s", value ? Py_TYPE(value)->tp_name : "nothing");
    return -1;
  }
  PyObject *name, *item;
  Py_ssize_t position = 0;
  PyObject* copy = PyDict_Copy(value);  // assigning may run code that changes the original
  if (!copy) return -1;
  int done = 0;
  while (done == 0 && PyDict_Next(copy, &position, &name, &item)) done = PyObject_SetAttr(self, name, item);
  Py_DECREF(copy);
  return done;
}

}  // namespace

bool init_attributes() {
  str_data = PyUnicode_InternFromString("data");
  str_grad = PyUnicode_InternFromString("grad");
  str_label = PyUnicode_InternFromString("label");
  str_class = PyUnicode_InternFromString("__class__");
  str_empty = PyUnicode_InternFromString("");
  return init_operand_attributes() && str_data && str_grad && str_label && str_class && str_empty;
}

PyObject* stored_attribute(PyObject* self, PyObject* name) {
  PyObject* dict = as_value(self)->dict;
  return dict ? PyDict_GetItemWithError(dict, name) : nullptr;
}

// Keeps an attribute on the handle, and the handle as long as the node.
int store_attribute(PyObject* self, PyObject* name, PyObject* value) {
  ValueObject* v = as_value(self);
  if (!v->dict) {
    v->dict = PyDict_New();
    if (!v->dict) return -1;
  }
  if (PyDict_SetItem(v->dict, name, value) < 0) return -1;
  pin(v);
  if (PyObject_IS_GC(value)) track(v);
  return 0;
}

int refuse_delete(const char* what) {
  PyErr_Format(PyExc_AttributeError, "%s of a Value cannot be deleted; assign a new one instead", what);
  return -1;
}

int delete_attribute(PyObject* self, PyObject* name) {
  if (stored_attribute(self, name)) return PyDict_DelItem(as_value(self)->dict, name);
  if (!PyErr_Occurred())
    PyErr_Format(PyExc_AttributeError, "this Value has no attribute '%U' of its own to delete", name);
  return -1;
}

int assign_label(PyObject* self, PyObject* label) {
  return is_plain(self) ? store_attribute(self, str_label, label) : PyObject_SetAttr(self, str_label, label);
}

namespace {

PyObject *native_data, *native_grad;  // the class's own descriptors

// Whether data and grad are what they were when the module was loaded. A class's version tag changes with its
// attributes, so looking them up once for each tag is enough.
bool fields_are_native(PyTypeObject* type) {
  static PyTypeObject* checked;
  static unsigned int tag;
  if (type == checked && tag && type->tp_version_tag == tag) [[likely]]
    return true;
  PyObject* data = PyObject_GetAttr(reinterpret_cast<PyObject*>(type), str_data);
  PyObject* grad = data ? PyObject_GetAttr(reinterpret_cast<PyObject*>(type), str_grad) : nullptr;
  const bool native = data == native_data && grad == native_grad;
  if (!grad) PyErr_Clear();
  Py_XDECREF(data);
  Py_XDECREF(grad);
  if (native) {
    checked = type;
    tag = type->tp_version_tag;
  }
  return native;
}

// Plain instances own no reference to their type, others do, and Python counts as if all did.
int set_class(PyObject* self, PyObject* name, PyObject* value) {
  PyTypeObject* before = Py_TYPE(self);
  const bool was_plain = is_plain(self);
  if (was_plain) Py_INCREF(before);
  if (PyObject_GenericSetAttr(self, name, value) < 0) {
    if (was_plain) Py_DECREF(before);
    return -1;
  }
  if (is_plain(self)) {
    Py_DECREF(Py_TYPE(self));
  } else {
    settle_subclass(self);
  }
  return 0;
}

}  // namespace

bool remember_native_fields() {
  native_data = PyObject_GetAttr(reinterpret_cast<PyObject*>(value_type()), str_data);
  native_grad = PyObject_GetAttr(reinterpret_cast<PyObject*>(value_type()), str_grad);
  return native_data && native_grad;
}

// Other attributes than data and grad take the generic way; afterwards a handle that has some is pinned, and tracked if
// one may be part of a cycle.
int value_setattro(PyObject* self, PyObject* name, PyObject* value) {
  if ((name == str_data || name == str_grad) && value && is_plain(self) && fields_are_native(Py_TYPE(self)))
    return name == str_data ? set_data(self, value, nullptr) : set_grad(self, value, nullptr);
  if (name == str_class || (!PyUnicode_CHECK_INTERNED(name) && PyUnicode_Compare(name, str_class) == 0))
    return set_class(self, name, value);
  if (PyObject_GenericSetAttr(self, name, value) < 0) return -1;
  ValueObject* v = as_value(self);
  if (v->dict) {
    pin(v);
    if (value && PyObject_IS_GC(value)) track(v);
  }
  return 0;
}

PyObject* value_repr(PyObject* self) {
  PyObject* data = get_data(self, nullptr);
  if (!data) return nullptr;
  PyObject* text = PyUnicode_FromFormat("Value(data=%S)", data);
  Py_DECREF(data);
  return text;
}

PyGetSetDef value_getset[] = {
    {"data", get_data, set_data,
     "The number this node holds, int or float, or a NumPy array over its lanes; readable and writable, also in place.",
     nullptr},
    {"grad", get_grad, set_grad,
     "d(output)/d(this), in the shape of data, summed over all calls of backward(); zero at first, writable.", nullptr},
    {"label", get_label, set_label, "A name for drawings; '' at first.", nullptr},
    {"_prev", get_prev, set_prev, "The operands, as a set of Values.", nullptr},
    {"_children", get_children, nullptr, "The operands, as a tuple of Values in order.", nullptr},
    {"_op", get_op, set_op, "The operation that made this node: '+', '*', '**2', 'tanh', ...; '' for a leaf.", nullptr},
    {"_local_grads", get_local_grads, nullptr, "d(this)/d(operand) for each of _children, at the present data.",
     nullptr},
    {"_backward", get_backward, set_backward,
     "The rule that backward() applies to this node: callable, and assignable for operations of one's own.", nullptr},
    {"__dict__", get_dict, set_dict, "data, grad, _prev, _op, label and all attributes assigned.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace tapegrad::python
