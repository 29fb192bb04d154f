// operators.cpp: the operators of `Value`: each makes the nodes that micrograd's Python code makes.
//
// micrograd writes some operators in terms of others, and programs replace those others: -a is a * -1, a - b is a +
// (-b), a / b is a * b**-1. Such an operator takes its native path only while the slots it is written with are the
// native ones, and goes through Python's protocol otherwise.
#include "python/value/recording.hpp"

namespace tapegrad::python {

namespace {

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

PyObject* power_of(PyObject* l, PyObject* r) {
  return value_power(l, r, Py_None);
}

}  // namespace

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

}  // namespace tapegrad::python
