// numbers.cpp: conversions from Python numbers, and errors worded as Python's with the offending value added.
#include "python/value/numbers.hpp"

#include <cmath>
#include <cstring>

#include "python/compiled/observe.hpp"

namespace tapegrad::python {

namespace {

int read_int(PyObject* o, Number* out) {
  int overflow = 0;
  const long long whole = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (!overflow && whole >= -static_cast<long long>(kMaxInt) && whole <= static_cast<long long>(kMaxInt)) {
    if (whole == -1 && PyErr_Occurred()) return -1;
    *out = {static_cast<double>(whole), kDataInt};
    return 1;
  }
  const double value = PyLong_AsDouble(o);
  if (value == -1.0 && PyErr_Occurred()) return -1;
  *out = {value, 0};
  return 1;
}

// Arrays and tensors have a length; the only ones that are numbers are those without axes.
bool is_container(PyObject* o) {
  PyTypeObject* type = Py_TYPE(o);
  const bool sized = (type->tp_as_mapping && type->tp_as_mapping->mp_length) ||
                     (type->tp_as_sequence && type->tp_as_sequence->sq_length);
  if (!sized) return false;
  PyObject* ndim = PyObject_GetAttrString(o, "ndim");
  const long axes = ndim ? PyLong_AsLong(ndim) : 1;
  Py_XDECREF(ndim);
  PyErr_Clear();
  return axes != 0;
}

}  // namespace

int read_number(PyObject* o, Number* out) {
  if (read_plain_number(o, out)) return 1;
  if (PyFloat_Check(o)) {
    *out = {PyFloat_AS_DOUBLE(o), 0};
    return 1;
  }
  if (PyLong_Check(o)) return read_int(o, out);
  if (is_value(o)) {
    if (observer()) [[unlikely]] {
      PyObject* seen = observe("real", o);
      Py_XDECREF(seen);
      if (!seen) return -1;
    }
    const Node* n = node_of(o);
    if (n->flags & kArray) return 0;
    *out = {n->data, static_cast<Flags>(n->flags & kDataInt)};
    return 1;
  }
  if (is_traced_number(o)) return 0;  // it has operators of its own
  PyTypeObject* type = Py_TYPE(o);
  PyNumberMethods* methods = type->tp_as_number;
  if (!methods || !(methods->nb_index || methods->nb_float) || PyComplex_Check(o)) return 0;
  if (std::strncmp(type->tp_name, "numpy.c", 7) == 0 || is_container(o))
    return 0;  // numpy.complex64, numpy.clongdouble
  if (methods->nb_index) {
    PyObject* whole = PyNumber_Index(o);
    if (whole) {
      const int done = read_int(whole, out);
      Py_DECREF(whole);
      return done;
    }
    if (!PyErr_ExceptionMatches(PyExc_TypeError) || !methods->nb_float) return -1;
    PyErr_Clear();
  }
  PyObject* real = PyNumber_Float(o);
  if (!real) return -1;
  *out = {PyFloat_AS_DOUBLE(real), 0};
  Py_DECREF(real);
  return 1;
}

bool require_number(PyObject* o, const char* what, Number* out) {
  if (is_traced_number(o)) {
    PyObject* real = PyNumber_Float(o);
    if (!real) return false;
    *out = {PyFloat_AsDouble(real), 0};
    Py_DECREF(real);
    return true;
  }
  const int done = read_number(o, out);
  if (done == 0) PyErr_Format(PyExc_TypeError, "%s must be a number, not %.200s: %R", what, Py_TYPE(o)->tp_name, o);
  return done > 0;
}

PyObject* raise_status(Status status, const char* name, double x) {
  PyObject* shown = PyFloat_FromDouble(x);
  if (!shown) return nullptr;
  if (status == Status::range) {
    PyErr_Format(PyExc_OverflowError, "math range error: %s(%R) is too large for a float", name, shown);
  } else {
    PyErr_Format(PyExc_ValueError, "math domain error: %s is not defined at %R", name, shown);
  }
  Py_DECREF(shown);
  return nullptr;
}

PyObject* raise_power(Status status, double x, double y) {
  PyObject* base = PyFloat_FromDouble(x);
  PyObject* exponent = PyFloat_FromDouble(y);
  if (base && exponent) {
    switch (status) {
      case Status::zero_power:
        PyErr_Format(PyExc_ZeroDivisionError, "0.0 cannot be raised to a negative power (division by zero): %R ** %R",
                     base, exponent);
        break;
      case Status::range:
        PyErr_Format(PyExc_OverflowError, "Numerical result out of range: %R ** %R is too large for a float", base,
                     exponent);
        break;
      default:
        PyErr_Format(PyExc_ValueError, "math domain error: %R ** %R is not a real number", base, exponent);
    }
  }
  Py_XDECREF(base);
  Py_XDECREF(exponent);
  return nullptr;
}

}  // namespace tapegrad::python
