// recording.hpp: how an operation becomes a node: its value, whether Python would show an int, the error that Python
// would raise, and the node itself.
#pragma once

#include <cmath>

#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/value/numbers.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

// Whether a refused power yields what IEEE says instead: compiled functions do not raise, so neither does their
// recording.
inline bool goes_on(double x, double y, double* z) {
  if (!observer()) return false;
  *z = fn::pow(x, y);
  return true;
}

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
    return PyErr_NoMemory();
  Node* n = reversed ? arena().make_binary(op, leaf, a, z, flags) : arena().make_binary(op, a, leaf, z, flags);
  if (!n) [[unlikely]]
    discard(leaf);
  return show(n, type, a->flags);
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

}  // namespace tapegrad::python
