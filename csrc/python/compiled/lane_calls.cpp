// lane_calls.cpp: a call over lanes whose arguments are arrays of the shapes of the last one, without Python in
// between.
#include <pybind11/numpy.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "core/lanes/lanes.hpp"
#include "python/compiled/compile.hpp"
#include "python/compiled/environment.hpp"
#include "python/compiled/observe.hpp"
#include "python/compiled/programs.hpp"
#include "python/compiled/result_memory.hpp"

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

// A call whose arguments are such arrays, under a recording that stands for it.
class LaneCall {
 public:
  // False, with no error set, where the call has to go the long way; or with an error set.
  bool read(PyObject* program, PyObject* checks, PyObject* shapes, PyObject* arguments) {
    if (observer() || PyTuple_GET_SIZE(arguments) != PyTuple_GET_SIZE(shapes)) return false;
    program_ = &py::cast<RunnableProgram&>(py::handle(program));
    inputs_.reserve(program_->program().inputs);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(arguments); ++i)
      if (!read_array(PyTuple_GET_ITEM(arguments, i), PyTuple_GET_ITEM(shapes, i), &lanes_, &inputs_)) return false;
    return lanes_ && inputs_.size() == program_->program().inputs && unchanged(checks) == 0;
  }
  RunnableProgram& program() { return *program_; }
  std::size_t lanes() const { return lanes_; }
  const std::vector<LaneInput>& inputs() const { return inputs_; }
  bool one_output() const { return program_->program().outputs.size() == 1; }
  // See result_array().
  const double* like() const {
    for (const LaneInput& input : inputs_)
      if (input.stride == 1) return input.data;
    return nullptr;
  }

 private:
  RunnableProgram* program_ = nullptr;
  std::size_t lanes_ = 0;
  std::vector<LaneInput> inputs_;
};

// What work() returns; None where it has none. Its exceptions become Python's.
template <typename Work>
PyObject* answer(Work work) {
  try {
    PyObject* out = work();
    return out || PyErr_Occurred() ? out : Py_NewRef(Py_None);
  } catch (py::error_already_set& e) {  // Ctrl-C while it was compiled is one
    e.restore();
  } catch (const py::cast_error& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {  // a program that passes made too long
    PyErr_SetString(PyExc_ValueError, e.what());
  }
  return nullptr;
}

// A number of threads from 1 on; -1 with an error set.
int threads_of(PyObject* number) {
  const long threads = PyLong_AsLong(number);
  if (threads == -1 && PyErr_Occurred()) return -1;
  return static_cast<int>(std::clamp(threads, 1L, 1L << 20));
}

bool are_tuples(std::initializer_list<PyObject*> objects) {
  return std::all_of(objects.begin(), objects.end(), [](PyObject* o) { return PyTuple_CheckExact(o) != 0; });
}

}  // namespace

// backward_over_lanes(program, checks, shapes, args, mean, threads)
PyObject* backward_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 6 || !are_tuples({args[1], args[2], args[3]})) {
    PyErr_SetString(PyExc_TypeError, "backward_over_lanes(program, checks, shapes, args, mean, threads) takes tuples");
    return nullptr;
  }
  return answer([&]() -> PyObject* {
    LaneCall call;
    if (!call.read(args[0], args[1], args[2], args[3]) || !call.one_output()) return nullptr;
    const int mean = PyObject_IsTrue(args[4]), threads = threads_of(args[5]);
    if (mean < 0 || threads < 0) return nullptr;
    const double seed = mean ? 1.0 / static_cast<double>(call.lanes()) : 1.0;
    std::vector<double> values(call.lanes());
    bool failed;
    const LaneOutcome outcome =
        call.program().run_lanes_backward(call.lanes(), call.inputs(), threads, values.data(), seed, &failed);
    if (failed || outcome.guard != -1) return nullptr;
    return PyFloat_FromDouble(lanes::sum(call.lanes(), values.data()) * seed);
  });
}

// values_over_lanes(program, checks, shapes, args, threads)
PyObject* values_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 5 || !are_tuples({args[1], args[2], args[3]})) {
    PyErr_SetString(PyExc_TypeError, "values_over_lanes(program, checks, shapes, args, threads) takes tuples");
    return nullptr;
  }
  return answer([&]() -> PyObject* {
    LaneCall call;
    if (!call.read(args[0], args[1], args[2], args[3])) return nullptr;
    const int threads = threads_of(args[4]);
    if (threads < 0) return nullptr;
    py::list values;
    std::vector<double*> to;
    for (std::size_t k = 0; k < call.program().program().outputs.size(); ++k) {
      Array array = result_array({call.lanes()}, call.like());
      to.push_back(array.mutable_data());
      values.append(std::move(array));
    }
    const LaneOutcome outcome = call.program().run_lanes(call.lanes(), call.inputs(), threads, to.data());
    return outcome.guard == -1 ? values.release().ptr() : nullptr;
  });
}

// gradients_over_lanes(program, checks, shapes, args, chosen, threads)
PyObject* gradients_over_lanes(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 6 || !are_tuples({args[1], args[2], args[3], args[4]})) {
    PyErr_SetString(PyExc_TypeError,
                    "gradients_over_lanes(program, checks, shapes, args, chosen, threads) takes tuples");
    return nullptr;
  }
  return answer([&]() -> PyObject* {
    LaneCall call;
    if (!call.read(args[0], args[1], args[2], args[3]) || !call.one_output()) return nullptr;
    const int threads = threads_of(args[5]);
    if (threads < 0) return nullptr;
    const auto arguments = static_cast<std::size_t>(PyTuple_GET_SIZE(args[3]));
    std::vector<py::object> gradients(arguments);
    std::vector<double*> numbers_of(arguments, nullptr);
    py::tuple chosen(PyTuple_GET_SIZE(args[4]));
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      const std::size_t i = PyLong_AsSize_t(PyTuple_GET_ITEM(args[4], static_cast<Py_ssize_t>(k)));
      if (PyErr_Occurred()) return nullptr;
      if (i >= arguments) {
        PyErr_Format(PyExc_IndexError, "there is no argument %zu", i);
        return nullptr;
      }
      if (!gradients[i]) {
        const auto* array = py::detail::array_proxy(PyTuple_GET_ITEM(args[3], static_cast<Py_ssize_t>(i)));
        Array gradient = result_array({array->dimensions, array->dimensions + array->nd}, call.like());
        numbers_of[i] = gradient.mutable_data();
        gradients[i] = std::move(gradient);
      }
      chosen[k] = gradients[i];
    }
    std::vector<double*> to;
    std::vector<std::size_t> strides;
    for (std::size_t i = 0; i < arguments; ++i) {
      const auto* array = py::detail::array_proxy(PyTuple_GET_ITEM(args[3], static_cast<Py_ssize_t>(i)));
      std::size_t numbers = 1;
      for (int axis = 1; axis < array->nd; ++axis) numbers *= static_cast<std::size_t>(array->dimensions[axis]);
      for (std::size_t k = 0; k < numbers; ++k) {
        to.push_back(numbers_of[i] ? numbers_of[i] + k : nullptr);
        strides.push_back(numbers);
      }
    }
    Array values = result_array({call.lanes()}, call.like());
    const LaneOutcome outcome = call.program().run_lanes_gradients(call.lanes(), call.inputs(), threads,
                                                                   values.mutable_data(), to.data(), strides.data());
    return outcome.guard == -1 ? py::make_tuple(std::move(values), std::move(chosen)).release().ptr() : nullptr;
  });
}

}  // namespace tapegrad::python
