// arrays.cpp: NumPy arrays in and out: reading array-likes, views that keep their memory alive, and assignment in
// place.
#include "python/arrays/arrays.hpp"

#include <pybind11/numpy.h>

#include <cstring>

#include "core/lanes/lanes.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

using Api = py::detail::npy_api;

// NumPy's functions; importing NumPy may fail. Null with an error set.
const Api* numpy() {
  try {
    return &Api::get();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ImportError, error.what());
  }
  return nullptr;
}

const py::detail::PyArray_Proxy* proxy(PyObject* array) {
  return py::detail::array_proxy(array);
}
char kind_of(PyObject* array) {
  return py::detail::array_descriptor_proxy(proxy(array)->descr)->kind;
}

// Whether the elements are float64 as this machine has it, the type of our own views.
bool is_own_type(PyObject* array) {
  static PyObject* type = numpy()->PyArray_DescrFromType_(Api::NPY_DOUBLE_);
  return proxy(array)->descr == type;
}

Shape array_shape(PyObject* array, bool* fits) {
  Shape shape;
  *fits = true;
  for (int d = 0; d < proxy(array)->nd; ++d)
    *fits = *fits && shape.append(static_cast<std::size_t>(proxy(array)->dimensions[d]));
  return shape;
}

PyObject* new_array(double* values, const Shape& shape) {
  const Api* api = numpy();
  if (!api) return nullptr;
  Py_intptr_t dims[kMaxDims];
  for (int d = 0; d < shape.ndim; ++d) dims[d] = static_cast<Py_intptr_t>(shape.dims[d]);
  return api->PyArray_NewFromDescr_(
      api->PyArray_Type_, api->PyArray_DescrFromType_(Api::NPY_DOUBLE_), shape.ndim, dims, nullptr, values,
      Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_WRITEABLE_, nullptr);
}

void release_view(PyObject* capsule) {
  release(static_cast<Buffer*>(PyCapsule_GetPointer(capsule, nullptr)));
}

// Things that NumPy may find an array in. Strings, mappings and sets are none.
bool is_array_like(PyObject* o) {
  if (is_ndarray(o) || PyList_Check(o) || PyTuple_Check(o)) return true;
  if (PyUnicode_Check(o) || PyBytes_Check(o) || PyByteArray_Check(o) || PyDict_Check(o) || is_value(o)) return false;
  if (PySequence_Check(o)) return true;
  const int has = PyObject_HasAttrString(o, "__array__") || PyObject_HasAttrString(o, "__array_interface__");
  return has || PyObject_CheckBuffer(o);
}

// Replaces the error that NumPy has set by one of ours where the shape or the kind of the input is to blame.
void explain(PyObject* o, const char* what) {
  if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError)) return;
  PyErr_Clear();
  PyErr_Format(PyExc_TypeError,
               "%s must be a number or an array of numbers; NumPy makes no array of this %.200s (rows of different "
               "lengths?): %R",
               what, Py_TYPE(o)->tp_name, o);
}

// v.data = value, v.grad = value: `place` says which. A gradient of zeros needs no buffer.
int assign(Node* node, Buffer* Array::* place, PyObject* value, const char* what) {
  const Held hold(node);  // reading may run code that makes another thing of this Value
  Data data;
  if (!read_data(value, what, &data)) return -1;
  if (!(node->flags & kArray)) return refuse_changed();
  Array& array = *node->array;
  Buffer*& buffer = array.*place;
  if (!data.array) {
    if (place == &Array::grad && data.number.value == 0) {
      disown(buffer);
      buffer = nullptr;
      return 0;
    }
    if (!renew(buffer, array.size)) return PyErr_NoMemory(), -1;
    lanes::fill(array.size, data.number.value, buffer->values());
    return 0;
  }
  const Shape shape = shape_of(&array);
  bool fits;
  const Shape given = array_shape(data.array, &fits);
  Shape together;
  if (!fits || !broadcast(given, shape, &together) || !(together == shape)) {
    PyObject *own_shape = shape_tuple(shape), *given_shape = PyObject_GetAttrString(data.array, "shape");
    if (own_shape && given_shape)
      PyErr_Format(PyExc_ValueError,
                   "%s of shape %S does not fit a Value of shape %S, which keeps its shape: broadcast or reshape it, "
                   "or make a new "
                   "Value",
                   what, given_shape, own_shape);
    Py_XDECREF(own_shape);
    Py_XDECREF(given_shape);
    return -1;
  }
  // `v.data -= step` ends with assigning the view that it has worked on.
  const auto* source = proxy(data.array);
  if (buffer && source->data == reinterpret_cast<char*>(buffer->values()) && given == shape &&
      is_own_type(data.array) && py::detail::check_flags(data.array, Api::NPY_ARRAY_C_CONTIGUOUS_))
    return 0;
  // A view that somebody has of the old numbers, perhaps the very one assigned here, keeps them.
  if (!renew(buffer, array.size)) return PyErr_NoMemory(), -1;
  PyObject* target = new_array(buffer->values(), shape);
  const int done = target ? numpy()->PyArray_CopyInto_(target, data.array) : -1;
  Py_XDECREF(target);
  return done;
}

}  // namespace

bool is_ndarray(PyObject* o) {
  static PyTypeObject* type = nullptr;
  if (!type) {  // nothing is an array as long as nobody has imported NumPy
    PyObject* modules = PyImport_GetModuleDict();
    if (!modules || !PyDict_GetItemString(modules, "numpy")) return false;
    const Api* api = numpy();
    if (!api) {
      PyErr_Clear();
      return false;
    }
    type = api->PyArray_Type_;
  }
  return PyObject_TypeCheck(o, type);
}

bool is_numeric_array(PyObject* o) {
  return is_ndarray(o) && std::strchr("biuf", kind_of(o));
}

bool read_data(PyObject* o, const char* what, Data* out) {
  const int done = read_number(o, &out->number);
  if (done) return done > 0;
  PyObject* array = nullptr;
  if (holds_array(o)) {
    array = data_view(node_of(o));
    if (!array) return false;
  } else if (is_array_like(o)) {
    const Api* api = numpy();
    if (!api) return false;
    array = api->PyArray_FromAny_(o, nullptr, 0, 0, 0, nullptr);
    if (!array) {
      explain(o, what);
      return false;
    }
  } else {
    PyErr_Format(PyExc_TypeError, "%s must be a number or an array of real numbers, not %.200s: %R", what,
                 Py_TYPE(o)->tp_name, o);
    return false;
  }
  if (!is_numeric_array(array)) {
    PyErr_Format(PyExc_TypeError,
                 "%s must be a number or an array of real numbers, not %.200s with elements of type %S: %R", what,
                 Py_TYPE(o)->tp_name, proxy(array)->descr, o);
    Py_DECREF(array);
    return false;
  }
  if (proxy(array)->nd == 0) {  // an object that converts to an array without axes
    PyObject* number = PyNumber_Float(array);
    const bool fine = number && require_number(number, what, &out->number);
    Py_XDECREF(number);
    Py_DECREF(array);
    return fine;
  }
  out->array = array;
  return true;
}

Buffer* copy_array(PyObject* array, Shape* shape) {
  const Api* api = numpy();
  if (!api) return nullptr;
  bool fits;
  *shape = array_shape(array, &fits);
  if (!fits) {
    PyErr_Format(PyExc_ValueError, "an array of %d axes is too much for a Value: %d at most", proxy(array)->nd,
                 kMaxDims);
    return nullptr;
  }
  Buffer* buffer = make_buffer(shape->size);
  if (!buffer) return PyErr_NoMemory(), nullptr;
  PyObject* target = new_array(buffer->values(), *shape);
  const int done = target ? api->PyArray_CopyInto_(target, array) : -1;
  Py_XDECREF(target);
  if (done == 0) return buffer;
  release(buffer);
  return nullptr;
}

PyObject* view_of(Buffer* buffer, const Shape& shape) {
  PyObject* array = new_array(buffer->values(), shape);
  if (!array) return nullptr;
  PyObject* owner = PyCapsule_New(buffer, nullptr, release_view);
  if (!owner) {
    Py_DECREF(array);
    return nullptr;
  }
  retain(buffer);
  if (numpy()->PyArray_SetBaseObject_(array, owner) < 0) {  // takes the owner over, also on failure
    Py_DECREF(array);
    return nullptr;
  }
  return array;
}

PyObject* data_view(Node* node) {
  return view_of(node->array->data, shape_of(node));
}

PyObject* grad_view(Node* node) {
  Buffer* grad = own_grad(*node->array);
  return grad ? view_of(grad, shape_of(node)) : PyErr_NoMemory();
}

int refuse_changed() {
  PyErr_SetString(PyExc_ValueError,
                  "the Value was made to hold something else while it was assigned to; assign once more");
  return -1;
}

int assign_data(Node* node, PyObject* value) {
  return assign(node, &Array::data, value, "data");
}
int assign_grad(Node* node, PyObject* value, const char* what) {
  return assign(node, &Array::grad, value, what);
}

PyObject* shape_tuple(const Shape& shape) {
  PyObject* tuple = PyTuple_New(shape.ndim);
  for (int d = 0; tuple && d < shape.ndim; ++d) {
    PyObject* n = PyLong_FromSize_t(shape.dims[d]);
    if (!n) Py_CLEAR(tuple);
    if (tuple) PyTuple_SET_ITEM(tuple, d, n);
  }
  return tuple;
}

}  // namespace tapegrad::python
