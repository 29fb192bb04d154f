// environment.cpp: whether what a function closes over is still what it was when the function was recorded.
//
// tapegrad.compiled.environment takes the snapshot, a tuple of checks; this file compares, by identity, in a few
// nanoseconds an object.
#include <cstring>

#include "python/compiled/compile.hpp"
#include "python/compiled/environment.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

PyObject* missing;  // stands for a name that is not there

// The same object, or a number or a text that is equal to the last bit.
bool same(PyObject* now, PyObject* then) {
  if (now == then) return true;
  if (!now) return then == missing;
  if (Py_TYPE(now) != Py_TYPE(then)) return false;
  if (PyFloat_CheckExact(now))
    return std::memcmp(&((PyFloatObject*)now)->ob_fval, &((PyFloatObject*)then)->ob_fval, sizeof(double)) == 0;
  if (PyLong_CheckExact(now) || PyUnicode_CheckExact(now) || PyBytes_CheckExact(now))
    return PyObject_RichCompareBool(now, then, Py_EQ) == 1;
  return false;
}

// A dict has a version that changes with each assignment; 0 where this Python keeps none.
std::uint64_t version_of(PyObject* dict) {
#if PY_VERSION_HEX < 0x030C0000
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#else
  (void)dict;
  return 0;
#endif
}

bool same_names(PyObject* dict, PyObject* names, PyObject* values) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
    PyObject* now = PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(names, i));
    if (!same(now, PyTuple_GET_ITEM(values, i))) return false;
  }
  return true;
}

// Also in the same order.
bool same_pairs(PyObject* dict, PyObject* names, PyObject* values) {
  if (PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(names)) return false;
  PyObject *name, *value;
  for (Py_ssize_t at = 0, i = 0; PyDict_Next(dict, &at, &name, &value); ++i)
    if (!same(name, PyTuple_GET_ITEM(names, i)) || !same(value, PyTuple_GET_ITEM(values, i))) return false;
  return true;
}

bool same_items(PyObject* const* now, PyObject* then, Py_ssize_t count) {
  if (count != PyTuple_GET_SIZE(then)) return false;
  for (Py_ssize_t i = 0; i < count; ++i)
    if (!same(now[i], PyTuple_GET_ITEM(then, i))) return false;
  return true;
}

// Bytes, shape and kind of number; any of the three can be assigned in place.
bool same_numbers(PyObject* array, PyObject* copy, PyObject* shape, PyObject* format) {
  Py_buffer now;
  if (PyObject_GetBuffer(array, &now, PyBUF_CONTIG_RO | PyBUF_FORMAT) < 0) {
    PyErr_Clear();
    return false;
  }
  bool equal = now.len == PyBytes_GET_SIZE(copy) && now.ndim == PyTuple_GET_SIZE(shape) &&
               std::memcmp(now.buf, PyBytes_AS_STRING(copy), static_cast<std::size_t>(now.len)) == 0;
  equal = equal && now.format && PyUnicode_CompareWithASCIIString(format, now.format) == 0;
  for (int k = 0; equal && k < now.ndim; ++k) equal = now.shape[k] == PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, k));
  PyBuffer_Release(&now);
  return equal;
}

// A type is known by its version, which changes with any assignment to it or to a base; when it did, Python looks
// closer.
bool same_type(PyObject* check) {
  auto* type = reinterpret_cast<PyTypeObject*>(PyList_GET_ITEM(check, 1));
  const unsigned long then = PyLong_AsUnsignedLong(PyList_GET_ITEM(check, 2));
  if (then && type->tp_version_tag == then) return true;
  PyObject* equal = PyObject_CallFunctionObjArgs(PyList_GET_ITEM(check, 3), check, nullptr);
  const bool yes = equal == Py_True;
  Py_XDECREF(equal);
  return yes;
}

// [kind, dict, names, values, version, object whose dict it is or None]
bool same_dict(PyObject* check, bool whole) {
  PyObject *dict = PyList_GET_ITEM(check, 1), *names = PyList_GET_ITEM(check, 2), *owner = PyList_GET_ITEM(check, 5);
  if (owner != Py_None) {
    PyObject** place = _PyObject_GetDictPtr(owner);
    if (place && *place && *place != dict) return false;
  }
  const std::uint64_t version = version_of(dict);
  if (version && version == PyLong_AsUnsignedLongLong(PyList_GET_ITEM(check, 4))) return true;
  PyObject* values = PyList_GET_ITEM(check, 3);
  if (!(whole ? same_pairs(dict, names, values) : same_names(dict, names, values))) return false;
  PyObject* number = PyLong_FromUnsignedLongLong(version);
  if (!number) return false;
  PyList_SetItem(check, 4, number);
  return true;
}

// Values that had no attributes have none still.
bool still_bare(PyObject* values) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values); ++i)
    if (as_value(PyTuple_GET_ITEM(values, i))->dict) return false;
  return true;
}

bool holds(PyObject* check) {
  const auto item = [&](Py_ssize_t i) { return PyList_GET_ITEM(check, i); };
  PyObject* holder = item(1);
  switch (PyLong_AsLong(item(0))) {
    case kCell:
      return same(PyCell_GET(holder), item(2));
    case kNames:
      return same_dict(check, false);
    case kItems:
      return same_dict(check, true);
    case kList:
      return same_items(((PyListObject*)holder)->ob_item, item(2), PyList_GET_SIZE(holder));
    case kArray:
      return same_numbers(holder, item(2), item(3), item(4));
    case kType:
      return same_type(check);
    case kBare:
      return still_bare(holder);
    default: {
      PyObject* equal = PyObject_CallFunctionObjArgs(holder, check, nullptr);
      const bool yes = equal == Py_True;
      Py_XDECREF(equal);
      return yes;
    }
  }
}

}  // namespace

int unchanged(PyObject* checks) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(checks); ++i) {
    if (!holds(PyTuple_GET_ITEM(checks, i))) return PyErr_Occurred() ? -1 : static_cast<int>(i) + 1;
  }
  return 0;
}

void register_environment(py::module_& m) {
  missing = PyObject_CallNoArgs(reinterpret_cast<PyObject*>(&PyBaseObject_Type));
  if (!missing) throw py::error_already_set();
  m.attr("missing") = py::reinterpret_borrow<py::object>(missing);
  m.def(
      "unchanged",
      [](const py::tuple& checks) {
        const int changed = unchanged(checks.ptr());
        if (changed < 0) throw py::error_already_set();
        return changed;
      },
      py::arg("checks"), "0 if every check of a snapshot still holds, else 1 + the index of one that does not.");
  m.def(
      "attributes_of",
      [](py::handle v) {
        if (!is_value(v.ptr())) throw py::type_error("expected a Value");
        PyObject* dict = as_value(v.ptr())->dict;
        return py::reinterpret_borrow<py::object>(dict ? dict : Py_None);
      },
      py::arg("value"), "The dict of a Value's attributes; None if it has none.");
  m.def(
      "dict_version", [](const py::dict& dict) { return version_of(dict.ptr()); }, py::arg("dict"),
      "A number that changes with each assignment to the dict; 0 where Python keeps none.");
  m.def(
      "type_version",
      [](const py::type& type) {
        const py::str name("__call__");
        _PyType_Lookup(reinterpret_cast<PyTypeObject*>(type.ptr()),
                       name.ptr());  // gives the type a version if it has none
        return reinterpret_cast<PyTypeObject*>(type.ptr())->tp_version_tag;
      },
      py::arg("type"), "A number that changes with each assignment to the type; 0 if it has none.");
}

}  // namespace tapegrad::python
