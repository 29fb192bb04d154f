// labels.cpp: the labels of operations: '+' and the like from the table, and those that programs give to operations of
// their own.
#include <limits>

#include "python/arrays/arrays.hpp"
#include "python/value/numbers.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

namespace {

// Labels of custom operations, kept for ever: a program has few of them, and nodes store a number.
PyObject* label_list;
PyObject* label_index;

long intern_exact(PyObject* text) {
  PyObject* known = PyDict_GetItemWithError(label_index, text);
  if (known) return PyLong_AsLong(known);
  if (PyErr_Occurred()) return -1;
  const Py_ssize_t index = PyList_GET_SIZE(label_list);
  if (static_cast<std::size_t>(index) > std::numeric_limits<std::uint32_t>::max()) {
    PyErr_SetString(PyExc_OverflowError, "there are more different _op labels than can be counted");
    return -1;
  }
  PyObject* number = PyLong_FromSsize_t(index);
  if (!number || PyDict_SetItem(label_index, text, number) < 0 || PyList_Append(label_list, text) < 0) {
    Py_XDECREF(number);
    return -1;
  }
  Py_DECREF(number);
  return static_cast<long>(index);
}

}  // namespace

bool init_labels() {
  label_list = PyList_New(0);
  label_index = PyDict_New();
  PyObject* none = label_list && label_index ? PyUnicode_FromString("") : nullptr;
  const bool fine = none && intern_label(none) == 0;
  Py_XDECREF(none);
  return fine;
}

long intern_label(PyObject* given) {
  static PyObject* last;  // a rule names the same constant each time
  static long last_index;
  if (given == last) return last_index;
  PyObject* text = PyUnicode_FromObject(given);  // of a subclass only the text: it may come with a __hash__ of its own
  if (!text) return -1;
  const long index = intern_exact(text);
  Py_DECREF(text);
  if (index >= 0 && PyUnicode_CheckExact(given)) {
    Py_XSETREF(last, Py_NewRef(given));
    last_index = index;
  }
  return index;
}

PyObject* label_text(std::uint32_t index) {
  return PyList_GET_ITEM(label_list, static_cast<Py_ssize_t>(index));
}

PyObject* op_label(Node* n) {
  Op op = n->op;
  double number = n->exponent;
  if (op == Op::array) {
    const Array& array = *n->array;
    if (const char* label = array_label(array.op)) return PyUnicode_FromString(label);
    if (array.op == ArrayOp::custom) return Py_NewRef(label_text(array.label));
    op = array.table;
    number = array.number;
  }
  if (op == Op::custom) return Py_NewRef(label_text(n->operands->label));
  if (op != Op::powc) return PyUnicode_FromString(info(op).label);
  PyObject* exponent = to_python(number, n->flags & kExponentInt);
  if (!exponent) return nullptr;
  PyObject* text = PyUnicode_FromFormat("**%S", exponent);
  Py_DECREF(exponent);
  return text;
}

}  // namespace tapegrad::python
