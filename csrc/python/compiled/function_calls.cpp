// function_calls.cpp: calls of a compiled function. Those with arguments like those of the last few go straight to
// their programs; every other call, and every call whose guards do not hold, goes to the owner, a Python object that
// sorts arguments, records and chooses programs.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "python/compiled/environment.hpp"
#include "python/compiled/function_object.hpp"
#include "python/compiled/observe.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

constexpr std::size_t kFewNumbers = 16;

PyObject* names[kWays];

// What a call works with, kept alive meanwhile.
class InUse {
 public:
  explicit InUse(Ready* ready) : ready_(ready) { ++ready_->users; }
  ~InUse() { release(ready_); }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  Ready* ready_;
};

PyObject* slow(PyObject* self, Way way, PyObject* const* args, Py_ssize_t count, PyObject* kwnames) {
  std::vector<PyObject*> all{as_function(self)->owner};
  const Py_ssize_t total = count + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
  all.insert(all.end(), args, args + total);
  return PyObject_VectorcallMethod(names[way], all.data(), static_cast<std::size_t>(count + 1), kwnames);
}

// Numbers of a call: on the stack where they are few.
class Numbers {
 public:
  explicit Numbers(std::size_t count) {
    if (count <= kFewNumbers) return;
    many_.reset(new double[count]);
    data_ = many_.get();
  }
  double* data() { return data_; }

 private:
  double few_[kFewNumbers];
  std::unique_ptr<double[]> many_;
  double* data_ = few_;
};

PyObject* finished(const Ready& ready, const double* outputs, std::size_t count) {
  if (!ready.finish) return PyFloat_FromDouble(outputs[0]);
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(count));
  for (std::size_t i = 0; list && i < count; ++i) {
    PyObject* number = PyFloat_FromDouble(outputs[i]);
    if (!number)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), number);
  }
  PyObject* numbers = list ? PyObject_GetIter(list) : nullptr;
  Py_XDECREF(list);
  PyObject* out = numbers ? PyObject_CallOneArg(ready.finish, numbers) : nullptr;
  Py_XDECREF(numbers);
  return out;
}

// 1: served, with the result or an error in *out; 0: another has to.
template <typename Run>
int attempt(PyObject* self, Way way, std::size_t place, PyObject* const* args, Py_ssize_t count, Run run,
            PyObject** out) {
  std::vector<Ready*>& all = *as_function(self)->ready[way];
  Ready* ready = all[place];
  Numbers inputs(ready->shape->numbers());
  if (!ready->shape->read(args, count, inputs.data())) return 0;
  const int changed = unchanged(ready->checks);
  if (changed < 0) return 1;
  if (changed) {  // does not come back soon
    const auto found = std::find(all.begin(), all.end(), ready);
    if (found != all.end()) {
      all.erase(found);
      release(ready);
    }
    return 0;
  }
  const InUse in_use(ready);
  if (place && place < all.size() && all[place] == ready)
    std::rotate(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(place),
                all.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  const long guard = run(*ready, inputs.data(), out);
  if (guard >= 0) return 0;
  ++ready->runnable->direct_calls;
  return 1;
}

template <typename Run>
PyObject* fast(PyObject* self, Way way, PyObject* const* args, Py_ssize_t count, PyObject* kwnames, Run run) {
  const std::vector<Ready*>* all = as_function(self)->ready[way];
  if (all && !kwnames && !observer()) {
    PyObject* out = nullptr;
    try {
      // A place may hold another after an attempt: then one is tried twice or left to the owner, who knows all.
      for (std::size_t place = 0; place < all->size(); ++place)
        if (attempt(self, way, place, args, count, run, &out)) return out;
    } catch (const std::bad_alloc&) {
      return PyErr_NoMemory();
    } catch (py::error_already_set& e) {  // Ctrl-C while it was compiled
      e.restore();
      return nullptr;
    } catch (const std::exception& e) {  // a program that passes made too long
      PyErr_SetString(PyExc_ValueError, e.what());
      return nullptr;
    }
  }
  return slow(self, way, args, count, kwnames);
}

}  // namespace

PyObject* function_vectorcall(PyObject* self, PyObject* const* args, std::size_t nargsf, PyObject* kwnames) {
  return fast(self, kCallWay, args, PyVectorcall_NARGS(nargsf), kwnames,
              [](Ready& ready, const double* inputs, PyObject** out) {
                const std::size_t count = ready.runnable->program().outputs.size();
                Numbers outputs(count);
                const long guard = ready.runnable->run(inputs, outputs.data());
                if (guard == -1) *out = finished(ready, outputs.data(), count);
                return guard;
              });
}

PyObject* function_value_and_grad(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames) {
  return fast(self, kGradientWay, args, count, kwnames, [](Ready& ready, const double* inputs, PyObject** out) {
    double value;
    Numbers gradients(ready.shape->numbers());
    const long guard = ready.runnable->run_gradients(inputs, {}, &value, gradients.data());
    if (guard != -1) return guard;
    PyObject* slopes = ready.shape->gradients(gradients.data());
    PyObject* shown = slopes ? finished(ready, &value, 1) : nullptr;
    *out = shown ? PyTuple_Pack(2, shown, slopes) : nullptr;
    Py_XDECREF(shown);
    Py_XDECREF(slopes);
    return guard;
  });
}

PyObject* function_backward(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames) {
  return fast(self, kBackwardWay, args, count, kwnames, [](Ready& ready, const double* inputs, PyObject** out) {
    double value;
    const long guard = ready.runnable->run_backward(inputs, &value);
    if (guard == -1) *out = finished(ready, &value, 1);
    return guard;
  });
}

bool init_calls() {
  names[kCallWay] = PyUnicode_InternFromString("call");
  names[kGradientWay] = PyUnicode_InternFromString("value_and_grad");
  names[kBackwardWay] = PyUnicode_InternFromString("backward");
  return names[0] && names[1] && names[2];
}

}  // namespace tapegrad::python
