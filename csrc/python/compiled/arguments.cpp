// arguments.cpp: structures of arguments as flat lists of parts, and the walk that compares and reads in one go.
#include "python/compiled/arguments.hpp"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// NumPy's types, looked up once; a structure has to be there before, and with it NumPy.
struct NumpyTypes {
  PyTypeObject *array, *float64, *int64;
  PyObject *doubles, *wholes;

  static const NumpyTypes& get() {
    static const NumpyTypes types = [] {
      const auto& api = py::detail::npy_api::get();
      const py::module_ numpy = py::module_::import("numpy");
      const auto type = [&](const char* name) {
        return reinterpret_cast<PyTypeObject*>(py::object(numpy.attr(name)).release().ptr());
      };
      return NumpyTypes{api.PyArray_Type_, type("float64"), type("int64"), py::dtype::of<double>().release().ptr(),
                        py::dtype::of<std::int64_t>().release().ptr()};
    }();
    return types;
  }
};

bool is_word(PyObject* o, const char* word) {
  return PyUnicode_Check(o) && PyUnicode_CompareWithASCIIString(o, word) == 0;
}

// The same object, or equal strings.
bool same(PyObject* a, PyObject* b) {
  if (a == b) return true;
  return PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b) && PyUnicode_Compare(a, b) == 0;
}

// An array has at most 64 axes.
template <typename T>
// NOLINTNEXTLINE(misc-no-recursion)
void copy_strided(const char* data, const py::ssize_t* extents, const py::ssize_t* strides, int axes, double*& to) {
  if (!axes) {
    *to++ = static_cast<double>(*reinterpret_cast<const T*>(data));
    return;
  }
  for (py::ssize_t i = 0; i < extents[0]; ++i)
    copy_strided<T>(data + i * strides[0], extents + 1, strides + 1, axes - 1, to);
}

}  // namespace

ArgumentShape::ArgumentShape(PyObject* structures) : structures_(Py_NewRef(structures)) {}

ArgumentShape::~ArgumentShape() {
  Py_DECREF(structures_);
}

std::unique_ptr<ArgumentShape> ArgumentShape::make(PyObject* structures) {
  if (!PyTuple_CheckExact(structures)) {
    PyErr_SetString(PyExc_TypeError, "structures of arguments are a tuple");
    return nullptr;
  }
  NumpyTypes::get();
  std::unique_ptr<ArgumentShape> shape(new ArgumentShape(structures));
  std::size_t numeric = 0;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(structures); ++i) {
    const std::size_t first = shape->parts_.size();
    if (!shape->add(PyTuple_GET_ITEM(structures, i), kDeepest)) return nullptr;
    numeric += shape->parts_[first].kind != Kind::fixed;
  }
  shape->arguments_ = static_cast<std::size_t>(PyTuple_GET_SIZE(structures));
  shape->single_ = numeric == 1;
  return shape;
}

// NOLINTNEXTLINE(misc-no-recursion): at most kDeepest levels
bool ArgumentShape::add(PyObject* structure, int levels) {
  if (!levels || !PyTuple_CheckExact(structure) || !PyTuple_GET_SIZE(structure)) return false;
  const Py_ssize_t size = PyTuple_GET_SIZE(structure);
  const auto item = [&](Py_ssize_t i) { return PyTuple_GET_ITEM(structure, i); };
  if (size == 1) {
    const bool whole = is_word(item(0), "int");
    if (!whole && !is_word(item(0), "float")) return false;
    parts_.push_back({whole ? Kind::whole : Kind::real, nullptr, 1, {}, !whole});
    ++numbers_;
    return true;
  }
  if (is_word(item(0), "static") && size == 3) {
    parts_.push_back({Kind::fixed, item(2), 0, {}, true});
    return true;
  }
  if (is_word(item(0), "array") && size == 3 && PyTuple_CheckExact(item(1))) {
    Part part{Kind::array, nullptr, 1, {}, item(2) == Py_True};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(item(1)); ++i) {
      part.extents.push_back(PyLong_AsSsize_t(PyTuple_GET_ITEM(item(1), i)));
      if (part.extents.back() < 0) {
        PyErr_Clear();
        return false;
      }
      part.count *= static_cast<std::size_t>(part.extents.back());
    }
    numbers_ += part.count;
    parts_.push_back(std::move(part));
    return true;
  }
  Kind kind;
  Py_ssize_t first = 2;
  PyObject* keys = nullptr;
  if (item(1) == reinterpret_cast<PyObject*>(&PyList_Type)) {
    kind = Kind::list;
  } else if (item(1) == reinterpret_cast<PyObject*>(&PyTuple_Type)) {
    kind = Kind::tuple;
  } else if (item(1) == reinterpret_cast<PyObject*>(&PyDict_Type) && size >= 3 && PyTuple_CheckExact(item(2))) {
    kind = Kind::dict;
    keys = item(2);
    first = 3;
    if (PyTuple_GET_SIZE(keys) != size - 3) return false;
  } else {
    return false;
  }
  parts_.push_back({kind, keys, static_cast<std::size_t>(size - first), {}, true});
  for (Py_ssize_t i = first; i < size; ++i)
    if (!add(item(i), levels - 1)) return false;
  return true;
}

bool ArgumentShape::read_array(const Part& part, PyObject* argument, double*& numbers) {
  const NumpyTypes& types = NumpyTypes::get();
  if (Py_TYPE(argument) != types.array) return false;
  const auto* array = py::detail::array_proxy(argument);
  if (array->nd != static_cast<int>(part.extents.size()) ||
      !std::equal(part.extents.begin(), part.extents.end(), array->dimensions) ||
      array->descr != (part.real ? types.doubles : types.wholes) ||
      !(array->flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
    return false;
  if (part.real && (array->flags & py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_)) {
    if (part.count) std::memcpy(numbers, array->data, part.count * sizeof(double));
    numbers += part.count;
  } else if (part.count) {
    if (part.real)
      copy_strided<double>(array->data, array->dimensions, array->strides, array->nd, numbers);
    else
      copy_strided<std::int64_t>(array->data, array->dimensions, array->strides, array->nd, numbers);
  }
  return true;
}

// NOLINTNEXTLINE(misc-no-recursion): add() let no more than kDeepest levels in
bool ArgumentShape::read_part(const Part*& part, PyObject* argument, double*& numbers) const {
  const Part& p = *part++;
  switch (p.kind) {
    case Kind::real:
      if (!PyFloat_CheckExact(argument) && Py_TYPE(argument) != NumpyTypes::get().float64) return false;
      *numbers++ = PyFloat_AS_DOUBLE(argument);
      return true;
    case Kind::whole: {
      PyObject* exact = nullptr;
      if (!PyLong_CheckExact(argument)) {
        if (Py_TYPE(argument) != NumpyTypes::get().int64) return false;
        argument = exact = PyNumber_Index(argument);
      }
      const double number = argument ? PyLong_AsDouble(argument) : -1.0;
      Py_XDECREF(exact);
      if (number == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
      }
      *numbers++ = number;
      return true;
    }
    case Kind::fixed:
      return same(p.object, argument);
    case Kind::array:
      return read_array(p, argument, numbers);
    case Kind::list:
    case Kind::tuple: {
      const bool is_list = p.kind == Kind::list;
      if (is_list ? !PyList_CheckExact(argument) : !PyTuple_CheckExact(argument)) return false;
      if (static_cast<std::size_t>(is_list ? PyList_GET_SIZE(argument) : PyTuple_GET_SIZE(argument)) != p.count)
        return false;
      for (std::size_t i = 0; i < p.count; ++i) {
        const auto at = static_cast<Py_ssize_t>(i);
        if (!read_part(part, is_list ? PyList_GET_ITEM(argument, at) : PyTuple_GET_ITEM(argument, at), numbers))
          return false;
      }
      return true;
    }
    case Kind::dict: {
      if (!PyDict_CheckExact(argument) || static_cast<std::size_t>(PyDict_GET_SIZE(argument)) != p.count) return false;
      PyObject *key, *item;
      Py_ssize_t at = 0;
      for (Py_ssize_t i = 0; PyDict_Next(argument, &at, &key, &item); ++i)
        if (!same(PyTuple_GET_ITEM(p.object, i), key) || !read_part(part, item, numbers)) return false;
      return true;
    }
  }
  return false;
}

bool ArgumentShape::read(PyObject* const* args, Py_ssize_t count, double* numbers) const {
  if (static_cast<std::size_t>(count) != arguments_) return false;
  const Part* part = parts_.data();
  for (Py_ssize_t i = 0; i < count; ++i)
    if (!read_part(part, args[i], numbers)) return false;
  return true;
}

// NOLINTNEXTLINE(misc-no-recursion): as read_part()
PyObject* ArgumentShape::gradient(const Part*& part, const double*& numbers) const {
  const Part& p = *part++;
  switch (p.kind) {
    case Kind::real:
    case Kind::whole:
      return PyFloat_FromDouble(*numbers++);
    case Kind::fixed:
      return Py_NewRef(Py_None);
    case Kind::array: {
      py::array_t<double> out(p.extents);
      if (p.count) std::memcpy(out.mutable_data(), numbers, p.count * sizeof(double));
      numbers += p.count;
      return out.release().ptr();
    }
    case Kind::list:
    case Kind::tuple: {
      const bool is_list = p.kind == Kind::list;
      const auto size = static_cast<Py_ssize_t>(p.count);
      PyObject* out = is_list ? PyList_New(size) : PyTuple_New(size);
      for (Py_ssize_t i = 0; out && i < size; ++i) {
        PyObject* item = gradient(part, numbers);
        if (!item) {
          Py_CLEAR(out);
        } else if (is_list) {
          PyList_SET_ITEM(out, i, item);
        } else {
          PyTuple_SET_ITEM(out, i, item);
        }
      }
      return out;
    }
    case Kind::dict: {
      PyObject* out = PyDict_New();
      for (Py_ssize_t i = 0; out && i < static_cast<Py_ssize_t>(p.count); ++i) {
        PyObject* item = gradient(part, numbers);
        if (!item || PyDict_SetItem(out, PyTuple_GET_ITEM(p.object, i), item) < 0) Py_CLEAR(out);
        Py_XDECREF(item);
      }
      return out;
    }
  }
  return nullptr;
}

PyObject* ArgumentShape::gradients(const double* numbers) const {
  const Part* part = parts_.data();
  PyObject* all = single_ ? nullptr : PyTuple_New(static_cast<Py_ssize_t>(arguments_));
  if (!single_ && !all) return nullptr;
  for (std::size_t i = 0; i < arguments_; ++i) {
    const bool wanted = part->kind != Kind::fixed;
    PyObject* one = nullptr;
    try {
      one = gradient(part, numbers);
    } catch (const std::exception&) {
      if (!PyErr_Occurred()) PyErr_NoMemory();
    }
    if (!one) {
      Py_XDECREF(all);
      return nullptr;
    }
    if (all)
      PyTuple_SET_ITEM(all, static_cast<Py_ssize_t>(i), one);
    else if (wanted)
      return one;
    else
      Py_DECREF(one);
  }
  return all;
}

int ArgumentShape::traverse(visitproc visit, void* arg) const {
  Py_VISIT(structures_);
  return 0;
}

}  // namespace tapegrad::python
