// operators.cpp: the number protocol and the functions of `Value`: each makes the nodes that micrograd's Python code
// makes.
//
// micrograd writes some operators in terms of others, and programs replace those others. Such an operator takes its
// native path only while the slots it is written with are the native ones, and goes through Python's protocol
// otherwise.
#include <cmath>

#include "python/arrays.hpp"
#include "python/numbers.hpp"
#include "python/observe.hpp"
#include "python/value.hpp"

namespace tapegrad::python {

PyObject* value_power(PyObject* l, PyObject* r, PyObject* modulus);
PyObject* value_negative(PyObject* self);

namespace {

PyObject* not_implemented() {
  Py_RETURN_NOTIMPLEMENTED;
}

// Whether a refused power yields what IEEE says instead: compiled functions do not raise, so neither does their
// recording.
bool goes_on(double x, double y, double* z) {
  if (!observer()) return false;
  *z = fn::pow(x, y);
  return true;
}

// ---- recording
// -----------------------------------------------------------------------------------------------------------------

template <Op op>
inline PyObject* record_binary(Node* a, Node* b, PyTypeObject* type) {
  const double x = a->data, y = b->data;
  double z;
  if constexpr (op == Op::pow) {
    const Status status = power(x, y, &z);
    if (status != Status::ok && !goes_on(x, y, &z)) return raise_power(status, x, y);
  } else {
    z = Rule<op>::value(x, y);
  }
  const Flags either = a->flags | b->flags;
  Flags flags = inherited(a->flags);
  if (either & (kDataInt | kArray)) [[unlikely]] {
    if (either & kArray) return record_lanes(op, a, b, type);
    if (Rule<op>::int_value(a->flags & kDataInt, b->flags & kDataInt, x, y)) flags |= int_flag(&z);
  }
  return show(arena().make_binary(op, a, b, z, flags), type, either);
}

// A binary operation with a Python number, which becomes a leaf; `reversed` puts the leaf first.
template <Op op, bool reversed = false>
inline PyObject* record_constant(Node* a, Number number, PyTypeObject* type) {
  const double x = reversed ? number.value : a->data, y = reversed ? a->data : number.value;
  double z;
  if constexpr (op == Op::pow) {
    const Status status = power(x, y, &z);
    if (status != Status::ok && !goes_on(x, y, &z)) return raise_power(status, x, y);
  } else {
    z = Rule<op>::value(x, y);
  }
  const Flags base = inherited(a->flags);
  Flags flags = base;
  if ((a->flags | number.flags) & (kDataInt | kArray)) [[unlikely]] {
    if (a->flags & kArray) return record_lanes_constant(op, a, number, reversed, type);
    const bool ai = a->flags & kDataInt, ni = number.flags & kDataInt;
    if (Rule<op>::int_value(reversed ? ni : ai, reversed ? ai : ni, x, y)) flags |= int_flag(&z);
  }
  Node* leaf = arena().make_constant(number.value, base | number.flags);
  if (!leaf) [[unlikely]]
    return no_node();
  Node* n = reversed ? arena().make_binary(op, leaf, a, z, flags) : arena().make_binary(op, a, leaf, z, flags);
  if (!n) [[unlikely]]
    discard(leaf);
  return show(n, type, a->flags);
}

PyObject* record_powc(Node* a, Number exponent, PyTypeObject* type) {
  const double x = a->data;
  double z;
  const Status status = power(x, exponent.value, &z);
  if (status != Status::ok && !goes_on(x, exponent.value, &z)) return raise_power(status, x, exponent.value);
  Flags flags = inherited(a->flags);
  if (a->flags & kArray) [[unlikely]]
    return record_lanes_power(a, exponent, type);
  if (exponent.flags & kDataInt) {
    flags |= kExponentInt;
    if ((a->flags & kDataInt) && exponent.value >= 0) flags |= int_flag(&z);
  }
  return show(arena().make_powc(a, exponent.value, z, flags), type, a->flags);
}

template <Op op>
inline PyObject* record_unary(Node* a, PyTypeObject* type) {
  const double x = a->data;
  double z = Rule<op>::value(x);
  if (!std::isfinite(z)) [[unlikely]] {  // an array's number is a NaN, and so is then z
    if (a->flags & kArray) return record_lanes_unary(op, a, type);
    const Status status = check<op>(x, z);
    if (status != Status::ok && !observer()) return raise_status(status, info(op).name, x);
  }
  Flags flags = inherited(a->flags);
  if (Rule<op>::int_value(a->flags & kDataInt, x)) flags |= int_flag(&z);
  return show(arena().make_unary(op, a, z, flags), type, a->flags);
}

inline PyNumberMethods* slots(PyObject* o) {
  return Py_TYPE(o)->tp_as_number;
}

// ---- add, multiply
// ---------------------------------------------------------------------------------------------------------------

// Everything but a plain Value with another, or with a Python int or float, on its right.
template <Op op>
PyObject* commutative_slow(PyObject* l, PyObject* r, binaryfunc native, binaryfunc PyNumberMethods::* slot,
                           PyObject* (*generic)(PyObject*, PyObject*)) {
  Number number;
  if (is_value(l)) {
    if (is_value(r)) return record_binary<op>(node_of(l), node_of(r), result_type(l));
    const int done = read_number(r, &number);
    if (done <= 0) return done ? nullptr : with_array(l, r, native);
    return record_constant<op>(node_of(l), number, result_type(l));
  }
  // Reflected: micrograd says `self + other`, which a program may have replaced.
  if (slots(r)->*slot != native) return generic(r, l);
  const int done = read_number(l, &number);
  if (done <= 0) return done ? nullptr : with_array(r, l, native);
  return record_constant<op>(node_of(r), number, result_type(r));
}

}  // namespace

PyObject* value_add(PyObject* l, PyObject* r) {
  if (is_plain(l)) [[likely]] {
    if (is_plain(r)) [[likely]]
      return record_binary<Op::add>(node_of(l), node_of(r), Py_TYPE(l));
    Number number;
    if (read_plain_number(r, &number)) return record_constant<Op::add>(node_of(l), number, Py_TYPE(l));
  }
  return commutative_slow<Op::add>(l, r, value_add, &PyNumberMethods::nb_add, PyNumber_Add);
}

PyObject* value_multiply(PyObject* l, PyObject* r) {
  if (is_plain(l)) [[likely]] {
    if (is_plain(r)) [[likely]]
      return record_binary<Op::mul>(node_of(l), node_of(r), Py_TYPE(l));
    Number number;
    if (read_plain_number(r, &number)) return record_constant<Op::mul>(node_of(l), number, Py_TYPE(l));
  }
  return commutative_slow<Op::mul>(l, r, value_multiply, &PyNumberMethods::nb_multiply, PyNumber_Multiply);
}

// ---- composite operators: -a is a * -1, a - b is a + (-b), a / b is a * b**-1
// -------------------------------------------------------

namespace {

bool native_add(PyObject* o) {
  return slots(o)->nb_add == value_add;
}
bool native_multiply(PyObject* o) {
  return slots(o)->nb_multiply == value_multiply;
}
bool native_negative(PyObject* o) {
  return slots(o)->nb_negative == value_negative && native_multiply(o);
}
bool native_power(PyObject* o) {
  return slots(o)->nb_power == value_power;
}
// Tracked operands need handles for the nodes in between, which the protocol makes.
bool untracked(PyObject* o) {
  return !(node_of(o)->flags & kTracked);
}

// The node of `a * -1`, without a handle; null when there is no memory (no error set).
Node* make_negative(Node* a) {
  const Flags base = inherited(a->flags);
  Node* minus_one = arena().make_constant(-1.0, base | kDataInt);
  if (!minus_one) return nullptr;
  double z = a->data * -1.0;
  Flags flags = base;
  if (a->flags & (kDataInt | kArray)) [[unlikely]] {
    if (a->flags & kArray) {
      const Held held(minus_one);
      return make_lanes(Op::mul, a, minus_one, 0.0, base);
    }
    flags |= int_flag(&z);
  }
  Node* n = arena().make_binary(Op::mul, a, minus_one, z, flags);
  if (!n) discard(minus_one);
  return n;
}

// The last step of a composite: `a op inner`, where inner has no handle yet and is freed on failure.
template <Op op>
PyObject* record_over(Node* a, Node* inner, PyTypeObject* type) {
  if (!inner) return PyErr_Occurred() ? nullptr : no_node();
  ++inner->refs;
  PyObject* out = record_binary<op>(a, inner, type);
  arena().drop(inner);
  return out;
}

template <Op op>
PyObject* record_over_constant(Node* inner, Number number, PyTypeObject* type) {
  if (!inner) return PyErr_Occurred() ? nullptr : no_node();
  ++inner->refs;
  PyObject* out = record_constant<op>(inner, number, type);
  arena().drop(inner);
  return out;
}

// The node of `a ** -1`, without a handle; null with an error set.
Node* make_reciprocal(Node* a) {
  double z;
  const Status status = power(a->data, -1.0, &z);
  if (status != Status::ok && !goes_on(a->data, -1.0, &z)) {
    raise_power(status, a->data, -1.0);
    return nullptr;
  }
  const Flags flags = inherited(a->flags) | kExponentInt;
  if (a->flags & kArray) [[unlikely]]
    return make_lanes(Op::powc, a, nullptr, -1.0, flags);
  Node* n = arena().make_powc(a, -1.0, z, flags);
  if (!n) no_node();
  return n;
}

// generic(x, unary(y)) by Python's protocol.
PyObject* compose(PyObject* x, PyObject* inner, PyObject* (*generic)(PyObject*, PyObject*)) {
  if (!inner) return nullptr;
  PyObject* out = generic(x, inner);
  Py_DECREF(inner);
  return out;
}

PyObject* reciprocal(PyObject* o) {
  PyObject* minus_one = PyLong_FromLong(-1);
  if (!minus_one) return nullptr;
  PyObject* out = PyNumber_Power(o, minus_one, Py_None);
  Py_DECREF(minus_one);
  return out;
}

PyObject* value_subtract(PyObject* l, PyObject* r) {
  Number number;
  if (is_value(l) && is_value(r)) {
    if (native_add(l) && native_negative(r) && untracked(l) && untracked(r))
      return record_over<Op::add>(node_of(l), make_negative(node_of(r)), result_type(l));
    return compose(l, PyNumber_Negative(r), PyNumber_Add);
  }
  if (is_value(l)) {
    const int done = read_number(r, &number);
    if (done <= 0) return done ? nullptr : with_array(l, r, value_subtract);
    if (!native_add(l)) return compose(l, PyNumber_Negative(r), PyNumber_Add);
    number.value = number.flags ? 0.0 - number.value : -number.value;
    return record_constant<Op::add>(node_of(l), number, result_type(l));
  }
  const int done = read_number(l, &number);
  if (done <= 0) return done ? nullptr : with_array(l, r, value_subtract);
  if (native_add(r) && native_negative(r) && untracked(r))
    return record_over_constant<Op::add>(make_negative(node_of(r)), number, result_type(r));
  return compose(l, PyNumber_Negative(r), PyNumber_Add);
}

PyObject* value_divide(PyObject* l, PyObject* r) {
  Number number;
  if (is_value(l) && is_value(r)) {
    if (native_multiply(l) && native_power(r) && untracked(l) && untracked(r)) {
      Node* inner = make_reciprocal(node_of(r));
      return inner ? record_over<Op::mul>(node_of(l), inner, result_type(l)) : nullptr;
    }
    return compose(l, reciprocal(r), PyNumber_Multiply);
  }
  if (is_value(l)) {
    const int done = read_number(r, &number);
    if (done <= 0) return done ? nullptr : with_array(l, r, value_divide);
    if (!native_multiply(l)) return compose(l, reciprocal(r), PyNumber_Multiply);
    double inverse;
    const Status status = power(number.value, -1.0, &inverse);
    if (status != Status::ok) {
      if (!(node_of(l)->flags & kArray)) return raise_power(status, number.value, -1.0);
      inverse = 1 / number.value;
    }
    return record_constant<Op::mul>(node_of(l), {inverse, 0}, result_type(l));
  }
  const int done = read_number(l, &number);
  if (done <= 0) return done ? nullptr : with_array(l, r, value_divide);
  if (native_multiply(r) && native_power(r) && untracked(r)) {
    Node* inner = make_reciprocal(node_of(r));
    return inner ? record_over_constant<Op::mul>(inner, number, result_type(r)) : nullptr;
  }
  return compose(l, reciprocal(r), PyNumber_Multiply);
}

PyObject* power_of(PyObject* l, PyObject* r) {
  return value_power(l, r, Py_None);
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

#define TAPEGRAD_FASTCALL(f) reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f))

}  // namespace

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

PyObject* value_negative(PyObject* self) {
  if (!native_multiply(self)) {
    PyObject* minus_one = PyLong_FromLong(-1);
    return minus_one ? compose(self, minus_one, PyNumber_Multiply) : nullptr;
  }
  return record_constant<Op::mul>(node_of(self), {-1.0, kDataInt}, result_type(self));
}

PyObject* value_power(PyObject* l, PyObject* r, PyObject* modulus) {
  if (modulus != Py_None) {
    PyErr_SetString(PyExc_TypeError,
                    "pow() with three arguments is not defined for Value: it has no derivative; drop the modulus");
    return nullptr;
  }
  Number number;
  if (is_plain(l) && read_plain_number(r, &number)) return record_powc(node_of(l), number, Py_TYPE(l));
  if (is_value(l)) {
    if (is_value(r)) return record_binary<Op::pow>(node_of(l), node_of(r), result_type(l));
    const int done = read_number(r, &number);
    if (done <= 0) return done ? nullptr : with_array(l, r, power_of);
    return record_powc(node_of(l), number, result_type(l));
  }
  const int done = read_number(l, &number);
  if (done <= 0) return done ? nullptr : with_array(l, r, power_of);
  return record_constant<Op::pow, true>(node_of(r), number, result_type(r));
}

namespace {

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
