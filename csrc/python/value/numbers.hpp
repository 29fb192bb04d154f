// numbers.hpp: Python numbers in and out, and the exceptions that Python's own arithmetic would raise.
#pragma once

#include "python/value/value.hpp"

namespace tapegrad::python {

struct Number {
  double value;
  Flags flags;  // kDataInt for a whole number that Python would show as an int
};

// Reads a Python number: int, float, a NumPy scalar, anything with __index__ or __float__. 1: done; 0: not a number
// (nothing set); -1: error set. Containers, Values that hold arrays among them, are not numbers, even if they convert.
int read_number(PyObject* o, Number* out);

// The same for the two commonest kinds alone, exactly int and exactly float: false for all others, nothing set.
inline bool read_plain_number(PyObject* o, Number* out) {
  if (PyFloat_CheckExact(o)) {
    *out = {PyFloat_AS_DOUBLE(o), 0};
    return true;
  }
  if (!PyLong_CheckExact(o)) return false;
  int overflow;
  const long long whole = PyLong_AsLongLongAndOverflow(o, &overflow);
  constexpr auto limit = static_cast<long long>(kMaxInt);
  if (overflow || whole < -limit || whole > limit) return false;
  *out = {static_cast<double>(whole), kDataInt};
  return true;
}

// The same, but a TypeError naming `what` where it is not a number. False with an error set.
bool require_number(PyObject* o, const char* what, Number* out);

// An int or a float, as Python would show the number.
inline PyObject* to_python(double value, bool is_int) {
  return is_int ? PyLong_FromDouble(value) : PyFloat_FromDouble(value);
}

// Sets the exception that Python raises for this status of `name(x)` or, for powers, `x ** y`; returns null.
PyObject* raise_status(Status status, const char* name, double x);
PyObject* raise_power(Status status, double x, double y);

}  // namespace tapegrad::python
