// lane_calls.cpp: a call over lanes whose arguments are arrays of the shapes of the last one, without Python in
// between.
#include <pybind11/numpy.h>

#include <vector>

#include "core/lanes/lanes.hpp"
#include "python/compiled/compile.hpp"
#include "python/compiled/environment.hpp"
#include "python/compiled/observe.hpp"
#include "python/compiled/programs.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// Adds the inputs that an array argument holds if it is one of doubles in C order, lanes first, each lane of this
// shape. False for any other.
bool read_array(PyObject* argument, PyObject* shape, std::size_t* lanes, std::vector<LaneInput>* inputs) {
  const auto& api = py::detail::npy_api::get();
  static PyObject* const doubles = py::dtype::of<double>().release().ptr();  // NumPy has one of it
  if (Py_TYPE(argument) != api.PyArray_Type_ || !PyTuple_CheckExact(shape)) return false;
  const auto* array = py::detail::array_proxy(argument);
  constexpr int kInOrder = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  const Py_ssize_t axes = PyTuple_GET_SIZE(shape);
  if (array->descr != doubles || (array->flags & kInOrder) != kInOrder || array->nd != axes + 1) return false;
  const auto extent = static_cast<std::size_t>(array->dimensions[0]);
  if (!extent || (*lanes && *lanes != extent)) return false;
  *lanes = extent;
  std::size_t count = 1;
  for (Py_ssize_t i = 0; i < axes; ++i) {
    const Py_ssize_t wanted = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
    if (wanted < 0 || array->dimensions[i + 1] != wanted) return false;
    count *= static_cast<std::size_t>(wanted);
  }
  const auto* data = reinterpret_cast<const double*>(array->data);
  for (std::size_t k = 0; k < count; ++k) inputs->push_back({data + k, count});
  return true;
}

}  // namespace

// backward_over_lanes(program, checks, shapes, args, mean, threads)
PyObject* backward_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 6 || !PyTuple_CheckExact(args[1]) || !PyTuple_CheckExact(args[2]) || !PyTuple_CheckExact(args[3])) {
    PyErr_SetString(PyExc_TypeError, "backward_over_lanes(program, checks, shapes, args, mean, threads) takes tuples");
    return nullptr;
  }
  PyObject *shapes = args[2], *arrays = args[3];
  try {
    if (observer() || PyTuple_GET_SIZE(arrays) != PyTuple_GET_SIZE(shapes)) Py_RETURN_NONE;
    auto& program = py::cast<RunnableProgram&>(py::handle(args[0]));
    std::size_t lanes = 0;
    std::vector<LaneInput> inputs;
    inputs.reserve(program.program().inputs);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(arrays); ++i)
      if (!read_array(PyTuple_GET_ITEM(arrays, i), PyTuple_GET_ITEM(shapes, i), &lanes, &inputs)) Py_RETURN_NONE;
    if (!lanes || inputs.size() != program.program().inputs || program.program().outputs.size() != 1) Py_RETURN_NONE;
    const int changed = unchanged(args[1]);
    if (changed) return changed < 0 ? nullptr : Py_NewRef(Py_None);
    const int mean = PyObject_IsTrue(args[4]);
    const long threads = PyLong_AsLong(args[5]);
    if (mean < 0 || (threads == -1 && PyErr_Occurred())) return nullptr;
    const double seed = mean ? 1.0 / static_cast<double>(lanes) : 1.0;
    std::vector<double> values(lanes);
    bool failed;
    const LaneOutcome outcome =
        program.run_lanes_backward(lanes, inputs, static_cast<int>(threads), values.data(), seed, &failed);
    if (failed) return nullptr;
    if (outcome.guard != -1) Py_RETURN_NONE;
    return PyFloat_FromDouble(lanes::sum(lanes, values.data()) * seed);
  } catch (const py::cast_error& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

}  // namespace tapegrad::python
