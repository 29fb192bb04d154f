// methods.cpp: the functions and methods of `Value`, what it is where Python wants a number or an order, and the tables
// of all of them.
#include "python/value/recording.hpp"

namespace tapegrad::python {

namespace {

PyObject* not_implemented() {
  Py_RETURN_NOTIMPLEMENTED;
}

PyObject* value_positive(PyObject* self) {
  return Py_NewRef(self);
}

PyObject* value_absolute(PyObject* self) {
  return record_unary<Op::abs>(node_of(self), result_type(self));
}

// The number a Value stands for where Python wants one; an array of one lane will do.
bool one_number(PyObject* self, const char* what, PyObject* error, double* number) {
  Node* node = node_of(self);
  *number = node->data;
  return !(node->flags & kArray) || only_lane(node, what, error, number);
}

int value_bool(PyObject* self) {
  if (observer()) [[unlikely]] {
    PyObject* seen = observe("truth", self);
    Py_XDECREF(seen);
    return seen ? seen == Py_True : -1;
  }
  double number;
  return one_number(self, "the truth", PyExc_ValueError, &number) ? number != 0.0 : -1;
}

PyObject* value_float(PyObject* self) {
  if (observer()) [[unlikely]]
    return observe("real", self);
  double number;
  return one_number(self, "float()", PyExc_TypeError, &number) ? PyFloat_FromDouble(number) : nullptr;
}

PyObject* value_int(PyObject* self) {
  if (observer()) [[unlikely]]
    return observe("whole", self);
  double number;
  return one_number(self, "int()", PyExc_TypeError, &number) ? PyLong_FromDouble(number) : nullptr;
}

Py_hash_t value_hash(PyObject* self) {
  return static_cast<Py_hash_t>(Arena::id(node_of(self)) & static_cast<std::uint64_t>(PY_SSIZE_T_MAX));
}

// Order is that of the data; equality is identity, and a foreign class may have its own say.
PyObject* value_compare(PyObject* l, PyObject* r, int operation) {
  if (operation == Py_EQ || operation == Py_NE) {
    if (l != r) return not_implemented();
    return PyBool_FromLong(operation == Py_EQ);
  }
  if (observer()) [[unlikely]] {
    PyObject* compared = observe("data", l);
    PyObject* out = compared ? PyObject_RichCompare(compared, r, operation) : nullptr;
    Py_XDECREF(compared);
    return out;
  }
  Number number;
  const int done = read_number(r, &number);
  if (done <= 0) return done ? nullptr : compare_arrays(l, r, operation);
  if (node_of(l)->flags & kArray) [[unlikely]]
    return compare_arrays(l, r, operation);
  const double x = node_of(l)->data;
  Py_RETURN_RICHCOMPARE(x, number.value, operation);
}

template <Op op>
PyObject* value_function(PyObject* self, PyObject*) {
  return record_unary<op>(node_of(self), result_type(self));
}

PyObject* value_format(PyObject* self, PyObject* spec) {
  if (!PyUnicode_Check(spec)) {
    PyErr_Format(PyExc_TypeError, "__format__() takes a str, not %.200s: %R", Py_TYPE(spec)->tp_name, spec);
    return nullptr;
  }
  if (PyUnicode_GET_LENGTH(spec) == 0) return PyObject_Str(self);
  PyObject* number = PyObject_GetAttrString(self, "data");
  if (!number) return nullptr;
  PyObject* out = PyObject_Format(number, spec);
  Py_DECREF(number);
  return out;
}

PyObject* graph_function(const char* name, PyObject* self, PyObject* argument) {
  PyObject* module = PyImport_ImportModule("tapegrad._graphs");
  if (!module) return nullptr;
  PyObject* out =
      argument ? PyObject_CallMethod(module, name, "OO", self, argument) : PyObject_CallMethod(module, name, "O", self);
  Py_DECREF(module);
  return out;
}
PyObject* value_reduce(PyObject* self, PyObject*) {
  return graph_function("reduce_value", self, nullptr);
}
PyObject* value_setstate(PyObject* self, PyObject* state) {
  return graph_function("restore_value", self, state);
}
PyObject* value_copy(PyObject* self, PyObject*) {
  return graph_function("copy_value", self, nullptr);
}

// A function of two operands, either of which may be a Value, a number or an array.
template <Op op>
PyObject* function_of_two(PyObject* a, PyObject* b, PyObject* (*self)(PyObject*, PyObject*)) {
  Number number;
  if (is_value(a) && is_value(b)) return record_binary<op>(node_of(a), node_of(b), result_type(a));
  if (is_value(a) || is_value(b)) {
    PyObject* value = is_value(a) ? a : b;
    const int done = read_number(value == a ? b : a, &number);
    if (done < 0) return nullptr;
    if (done && value == a) return record_constant<op>(node_of(a), number, result_type(a));
    if (done) return record_constant<op, true>(node_of(b), number, result_type(b));
  }
  // The first that is no Value becomes one; then the same again.
  PyObject* value = is_value(a) ? a : is_value(b) ? b : nullptr;
  const Held leaf =
      read_operand(is_value(a) ? b : a, op == Op::maximum ? "an operand of maximum()" : "an operand of minimum()",
                   value ? node_of(value)->flags : fresh_flags(value_type()));
  PyObject* lifted = leaf ? handle_of(leaf.get()) : nullptr;
  PyObject* out = !lifted ? nullptr : is_value(a) ? self(a, lifted) : self(lifted, b);
  Py_XDECREF(lifted);
  return out;
}

}  // namespace

PyObject* maximum(PyObject* a, PyObject* b) {
  return function_of_two<Op::maximum>(a, b, maximum);
}
PyObject* minimum(PyObject* a, PyObject* b) {
  return function_of_two<Op::minimum>(a, b, minimum);
}

#define TAPEGRAD_FASTCALL(f) reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f))

PyMethodDef value_methods[] = {
#define TAPEGRAD_UNARY(id, label, ...)       \
  {#id, value_function<Op::id>, METH_NOARGS, \
   #id "($self, /)\n--\n\n" #id " of the value; makes one node, labelled '" label "'."},
#include "core/ops/ops.def"
    {"backward", TAPEGRAD_FASTCALL(value_backward), METH_FASTCALL | METH_KEYWORDS,
     "backward($self, /, gradient=1, zero_grad=False)\n--\n\n"
     "Reverse sweep from this node: sets its grad to 1 (each lane's, where it holds an array), or to the gradient "
     "given, and adds\n"
     "d(self)/d(node) times that into the grad of every node it was made from.\n\n"
     "Nothing is zeroed first, unless zero_grad says so: then the grads of all these nodes are. Operands are read as "
     "they are\n"
     "now."},
    {"zero_grad", value_zero_grad, METH_NOARGS,
     "zero_grad($self, /)\n--\n\nSets the grad of this node, and of every node that it was made from, to zero."},
    {"detach", value_detach, METH_NOARGS,
     "detach($self, /)\n--\n\nA leaf with the same data: no gradient goes through it to this node."},
    {"__format__", value_format, METH_O, "Formats the data: f'{v:.4f}'."},
    {"__reduce_ex__", value_reduce, METH_O, "Pickles the value, and the graph it stands on, without recursion."},
    {"__copy__", value_copy, METH_NOARGS, "A new value with the same data, grad, operands and attributes."},
    {"__setstate__", value_setstate, METH_O, "Restores what __reduce_ex__ saved."},
    {nullptr, nullptr, 0, nullptr},
};

namespace {

template <typename F>
void* slot(F function) {
  return reinterpret_cast<void*>(function);
}

PyObject* native_methods[static_cast<int>(Op::count)];

}  // namespace

bool remember_native_methods() {
  bool fine = true;
#define TAPEGRAD_UNARY(id, ...)                                                                                      \
  native_methods[static_cast<int>(Op::id)] = PyObject_GetAttrString(reinterpret_cast<PyObject*>(value_type()), #id); \
  fine = fine && native_methods[static_cast<int>(Op::id)];
#include "core/ops/ops.def"
  return fine;
}

PyObject* native_method(Op op) {
  return native_methods[static_cast<int>(op)];
}

PyType_Slot operator_slots[] = {
    {Py_nb_add, slot(value_add)},
    {Py_nb_subtract, slot(value_subtract)},
    {Py_nb_multiply, slot(value_multiply)},
    {Py_nb_true_divide, slot(value_divide)},
    {Py_nb_power, slot(value_power)},
    {Py_nb_negative, slot(value_negative)},
    {Py_nb_positive, slot(value_positive)},
    {Py_nb_absolute, slot(value_absolute)},
    {Py_nb_bool, slot(value_bool)},
    {Py_nb_float, slot(value_float)},
    {Py_nb_int, slot(value_int)},
    {Py_tp_hash, slot(value_hash)},
    {Py_tp_richcompare, slot(value_compare)},
    {0, nullptr},
};

}  // namespace tapegrad::python
