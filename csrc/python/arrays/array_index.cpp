// array_index.cpp: v[key] with NumPy's meaning of every key: numbers and slices take lanes at even distances, arrays
// and masks any lanes.
#include <pybind11/numpy.h>

#include <vector>

#include "python/arrays/arrays.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

PyObject* pick(PyObject* self, ArrayDraft& draft) {
  Node* node = node_of(self);
  draft.operands = &node;
  draft.count = 1;
  return make_value(draft, node->flags, node->flags, result_type(self), "index");
}

// v[i] with a whole number: the commonest key, and the one that iteration uses.
PyObject* pick_one(PyObject* self, Py_ssize_t given) {
  const Shape shape = shape_of(node_of(self));
  const auto length = static_cast<Py_ssize_t>(shape.dims[0]);
  const Py_ssize_t at = given < 0 ? given + length : given;
  if (at < 0 || at >= length) {
    PyErr_Format(PyExc_IndexError, "index %zd is out of range for a Value with %zd lanes along its first axis", given,
                 length);
    return nullptr;
  }
  std::int64_t params[1 + kMaxDims];
  ArrayDraft draft;
  draft.op = ArrayOp::view;
  for (int d = 1; d < shape.ndim; ++d) draft.shape.append(shape.dims[d]);
  params[0] = static_cast<std::int64_t>(at) * static_cast<std::int64_t>(draft.shape.size);
  std::int64_t step = 1;
  for (int d = draft.shape.ndim; d-- > 0;) {
    params[1 + d] = step;
    step *= static_cast<std::int64_t>(draft.shape.dims[d]);
  }
  draft.params = params;
  draft.param_count = 1 + static_cast<std::size_t>(draft.shape.ndim);
  return pick(self, draft);
}

// The key with an Ellipsis at its end, so that NumPy gives an array where it would give a number.
py::object with_ellipsis(py::handle key) {
  if (!PyTuple_Check(key.ptr())) return py::make_tuple(key, py::ellipsis());
  return py::reinterpret_steal<py::object>(PySequence_Concat(key.ptr(), py::make_tuple(py::ellipsis()).ptr()));
}

py::array take(const py::object& array, py::handle key) {
  py::object taken = array[key];
  if (py::isinstance<py::array>(taken)) return taken;
  return array[with_ellipsis(key)];
}

// Lets NumPy index a view of the data: what comes back says by its address which lanes they are, or is a copy.
PyObject* pick_by_numpy(PyObject* self, PyObject* key) {
  Node* node = node_of(self);
  const auto view = py::reinterpret_steal<py::object>(data_view(node));
  if (!view) return nullptr;
  const py::array taken = take(view, key);
  ArrayDraft draft;
  for (py::ssize_t d = 0; d < taken.ndim(); ++d) draft.shape.append(static_cast<std::size_t>(taken.shape(d)));
  const auto whole = py::reinterpret_borrow<py::array>(view);
  const auto *first = static_cast<const double*>(taken.data()), *start = static_cast<const double*>(whole.data());
  std::vector<std::int64_t> params;
  if (draft.shape.size == 0 || (first >= start && first < start + whole.size())) {
    draft.op = ArrayOp::view;
    params.push_back(draft.shape.size ? first - start : 0);
    for (py::ssize_t d = 0; d < taken.ndim(); ++d)
      params.push_back(taken.strides(d) / static_cast<py::ssize_t>(sizeof(double)));
  } else {
    draft.op = ArrayOp::gather;
    const py::module_ numpy = py::module_::import("numpy");
    const py::object lanes =
        numpy.attr("arange")(whole.size(), py::arg("dtype") = "int64").attr("reshape")(view.attr("shape"));
    const auto numbers = py::array_t<std::int64_t, py::array::c_style>::ensure(take(lanes, key));
    if (!numbers) throw py::error_already_set();
    params.assign(numbers.data(), numbers.data() + numbers.size());
  }
  draft.params = params.data();
  draft.param_count = params.size();
  return pick(self, draft);
}

}  // namespace

PyObject* value_subscript(PyObject* self, PyObject* key) {
  if (!holds_array(self)) {
    PyErr_SetString(PyExc_TypeError, "a Value that holds one number has no lanes to index");
    return nullptr;
  }
  if (PyLong_CheckExact(key)) {
    const Py_ssize_t at = PyNumber_AsSsize_t(key, PyExc_IndexError);
    return at == -1 && PyErr_Occurred() ? nullptr : pick_one(self, at);
  }
  try {
    return pick_by_numpy(self, key);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::cast_error& error) {
    PyErr_SetString(PyExc_TypeError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

}  // namespace tapegrad::python
