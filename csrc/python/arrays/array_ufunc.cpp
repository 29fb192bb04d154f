// array_ufunc.cpp: NumPy's universal functions with a Value among their arguments (NEP 13). Arithmetic of a Value with
// an array of numbers or a NumPy scalar is our own; everything else, object arrays of Values above all, goes on element
// by element as for any Python object.
#include <pybind11/numpy.h>

#include <cstring>

#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

PyObject* power(PyObject* l, PyObject* r) {
  return PyNumber_Power(l, r, Py_None);
}

// The numbers of a Value, anything else as it is.
py::object plain(py::handle h) {
  if (!is_value(h.ptr())) return py::reinterpret_borrow<py::object>(h);
  Node* node = node_of(h.ptr());
  PyObject* data = node->flags & kArray ? data_view(node) : to_python(node->data, node->flags & kDataInt);
  if (!data) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(data);
}

template <int operation>
PyObject* compare(PyObject* l, PyObject* r) {
  try {
    return PyObject_RichCompare(plain(l).ptr(), plain(r).ptr(), operation);
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

// Equality is identity: no number is a Value. An array of numbers is asked number by number.
template <int operation>
PyObject* same(PyObject* l, PyObject* r) {
  PyObject* array = is_value(l) ? r : l;
  if (!is_numeric_array(array)) return PyBool_FromLong((l == r) == (operation == Py_EQ));
  py::object differs = py::module_::import("numpy").attr("full")(py::getattr(array, "shape"), operation == Py_NE);
  return differs.attr("ndim").cast<int>() ? differs.release().ptr() : PyBool_FromLong(operation == Py_NE);
}

struct Function {
  const char* name;
  binaryfunc own;
  PyObject* ufunc;  // NumPy's, for ever
};

Function functions[] = {
    {"add", PyNumber_Add, nullptr},
    {"multiply", PyNumber_Multiply, nullptr},
    {"subtract", PyNumber_Subtract, nullptr},
    {"true_divide", PyNumber_TrueDivide, nullptr},
    {"power", power, nullptr},
    {"matmul", PyNumber_MatrixMultiply, nullptr},
    {"maximum", maximum, nullptr},
    {"minimum", minimum, nullptr},
    {"less", compare<Py_LT>, nullptr},
    {"less_equal", compare<Py_LE>, nullptr},
    {"greater", compare<Py_GT>, nullptr},
    {"greater_equal", compare<Py_GE>, nullptr},
    {"equal", same<Py_EQ>, nullptr},
    {"not_equal", same<Py_NE>, nullptr},
};

binaryfunc find(PyObject* ufunc) {
  if (!functions[0].ufunc) {
    const py::module_ numpy = py::module_::import("numpy");
    for (Function& f : functions) f.ufunc = py::object(numpy.attr(f.name)).release().ptr();
  }
  for (const Function& f : functions)
    if (f.ufunc == ufunc) return f.own;
  return nullptr;
}

bool compares(PyObject* ufunc) {
  const binaryfunc own = find(ufunc);
  return own == compare<Py_LT> || own == compare<Py_LE> || own == compare<Py_GT> || own == compare<Py_GE>;
}

// An operand that Python's protocol hands to us: a Value, a plain Python number, or an array lifted to a Value. Null
// for what is none of them, or with an error set.
py::object operand(PyObject* o, Flags like) {
  if (is_value(o)) return py::reinterpret_borrow<py::object>(o);
  Number number;
  const int done = read_number(o, &number);
  if (done > 0) return py::reinterpret_steal<py::object>(to_python(number.value, number.flags));
  if (done < 0 || !is_numeric_array(o)) return py::object();
  const Held leaf = read_operand(o, "an operand", like);
  return py::reinterpret_steal<py::object>(leaf ? handle_of(leaf.get()) : nullptr);
}

// Refuses what NumPy could only get wrong: it takes an array Value for a single object.
bool check_elements(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  bool arrays = false;
  for (Py_ssize_t i = 2; i < nargs; ++i) arrays |= holds_array(args[i]);
  if (arrays && PyUnicode_CompareWithASCIIString(args[1], "__call__") &&
      PyUnicode_CompareWithASCIIString(args[1], "at")) {
    PyErr_Format(PyExc_TypeError,
                 "the method %R of %R is not defined for a Value that holds an array: use the Value's own methods",
                 args[1], args[0]);
    return false;
  }
  for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); ++i) {
    PyObject* value = args[nargs + i];
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), "out") || !PyTuple_Check(value)) continue;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(value); ++k) {
      if (!is_numeric_array(PyTuple_GET_ITEM(value, k))) continue;
      PyErr_SetString(PyExc_TypeError,
                      "a Value cannot be written into an array of numbers: write x = x + v in place of x += v");
      return false;
    }
  }
  return true;
}

// Refuses arrays of strings, complex numbers, dates: of anything but real numbers and objects.
bool check_kinds(PyObject* const* args, Py_ssize_t nargs) {
  const binaryfunc own = find(args[0]);
  if (own == same<Py_EQ> || own == same<Py_NE>) return true;  // they differ, and that is an answer
  for (Py_ssize_t i = 2; i < nargs; ++i) {
    if (!is_ndarray(args[i])) continue;
    const auto kind = py::cast<std::string>(py::getattr(args[i], "dtype").attr("kind"));
    if (std::strchr("biufO", kind[0])) continue;
    PyErr_Format(PyExc_TypeError, "a Value and an array with elements of type %S do not go together: %R",
                 py::object(py::getattr(args[i], "dtype")).ptr(), args[i]);
    return false;
  }
  return true;
}

// The same call with every Value in an object array without axes, which NumPy takes apart and puts together again.
PyObject* by_element(PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  const py::module_ numpy = py::module_::import("numpy");
  py::list inputs;
  for (Py_ssize_t i = 2; i < nargs; ++i) {
    if (!is_value(args[i])) {
      inputs.append(py::handle(args[i]));
      continue;
    }
    py::object box = numpy.attr("empty")(py::tuple(), py::arg("dtype") = "object");
    box[py::tuple()] = py::handle(args[i]);
    inputs.append(box);
  }
  py::dict kwargs;
  for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); ++i)
    kwargs[PyTuple_GET_ITEM(kwnames, i)] = py::handle(args[nargs + i]);
  const py::object function = py::getattr(args[0], args[1]);
  return function(*inputs, **kwargs).release().ptr();
}

}  // namespace

PyObject* value_array_ufunc(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  if (nargs < 2 || !PyUnicode_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError,
                    "__array_ufunc__() is for NumPy to call: with a function, a method's name and its arguments");
    return nullptr;
  }
  try {
    if (nargs == 4 && (!kwnames || !PyTuple_GET_SIZE(kwnames)) &&
        PyUnicode_CompareWithASCIIString(args[1], "__call__") == 0) {
      // A recorded function sees single numbers only, and every comparison of its numbers.
      const bool single = !is_numeric_array(args[2]) && !is_numeric_array(args[3]);
      const binaryfunc own = !observer() || (single && !compares(args[0])) ? find(args[0]) : nullptr;
      if (own == same<Py_EQ> || own == same<Py_NE>) {
        const auto objects = [](PyObject* o) { return is_ndarray(o) && !is_numeric_array(o); };
        if (!objects(args[2]) && !objects(args[3])) return own(args[2], args[3]);
      } else if (own) {
        const Flags like = node_of(self)->flags;
        const py::object l = operand(args[2], like), r = l ? operand(args[3], like) : py::object();
        if (l && r) return own(l.ptr(), r.ptr());
        if (PyErr_Occurred()) return nullptr;
      }
    }
    return check_elements(args, nargs, kwnames) && check_kinds(args, nargs) ? by_element(args, nargs, kwnames)
                                                                            : nullptr;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace tapegrad::python
