// function.cpp: the type of a compiled function. Calls with arguments like those of the last few go straight to their
// programs; every other call, and every call whose guards do not hold, goes to the owner, a Python object that sorts
// arguments, records and chooses programs.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "python/compiled/arguments.hpp"
#include "python/compiled/compile.hpp"
#include "python/compiled/environment.hpp"
#include "python/compiled/observe.hpp"
#include "python/compiled/programs.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

enum Way { kCallWay, kGradientWay, kBackwardWay, kWays };

// A program that a call with arguments of some shape may run at once. Counted: a run may let go of the interpreter, and
// another thread may put it away meanwhile. All under the interpreter lock.
struct Ready {
  PyObject* program;  // owns `runnable`
  RunnableProgram* runnable;
  PyObject* checks;  // snapshot of the environment
  PyObject* finish;  // makes the result of an iterator over the outputs; null where it is one float
  std::unique_ptr<ArgumentShape> shape;
  std::size_t users = 1;

  ~Ready() {
    Py_DECREF(program);
    Py_DECREF(checks);
    Py_XDECREF(finish);
  }
};

void release(Ready* ready) {
  if (!--ready->users) delete ready;
}

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

struct FunctionObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* owner;
  PyObject* weakrefs;
  std::vector<Ready*>* ready[kWays];  // the one last used first
};

FunctionObject* as_function(PyObject* o) {
  return reinterpret_cast<FunctionObject*>(o);
}

PyObject *names[kWays], *str_bind, *str_doc, *str_module;

constexpr std::size_t kFewNumbers = 16, kMaxReady = 8;

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

void put_away(FunctionObject* f, int way) {
  const std::unique_ptr<std::vector<Ready*>> all(f->ready[way]);
  f->ready[way] = nullptr;
  if (!all) return;
  for (Ready* ready : *all) release(ready);
}

// arm(way, program, checks, structures, finish): calls in this way with arguments of such structures may use the
// program; finish makes the result of an iterator over its outputs, None where it is one float.
PyObject* function_arm(PyObject* self, PyObject* args) {
  int way;
  PyObject *program, *checks, *structures, *finish;
  if (!PyArg_ParseTuple(args, "iOO!O!O", &way, &program, &PyTuple_Type, &checks, &PyTuple_Type, &structures, &finish))
    return nullptr;
  if (way < 0 || way >= kWays) {
    PyErr_Format(PyExc_ValueError, "there is no way %d to call a function", way);
    return nullptr;
  }
  FunctionObject* f = as_function(self);
  try {
    if (!f->ready[way]) f->ready[way] = new std::vector<Ready*>();
    std::vector<Ready*>& all = *f->ready[way];
    for (Ready* ready : all)
      if (ready->program == program && ready->checks == checks) Py_RETURN_NONE;
    auto* runnable = py::cast<RunnableProgram*>(py::handle(program));
    std::unique_ptr<ArgumentShape> shape = ArgumentShape::make(structures);
    if (!shape) {
      if (PyErr_Occurred()) return nullptr;
      Py_RETURN_NONE;
    }
    all.reserve(kMaxReady + 1);
    all.insert(all.begin(), new Ready{Py_NewRef(program), runnable, Py_NewRef(checks),
                                      finish == Py_None ? nullptr : Py_NewRef(finish), std::move(shape)});
    if (all.size() > kMaxReady) {
      Ready* oldest = all.back();
      all.pop_back();
      release(oldest);
    }
  } catch (const std::exception& e) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, e.what());
    return nullptr;
  }
  Py_RETURN_NONE;
}

// disarm(): the next calls all go to the owner.
PyObject* function_disarm(PyObject* self, PyObject*) {
  for (int way = 0; way < kWays; ++way) put_away(as_function(self), way);
  Py_RETURN_NONE;
}

PyObject* function_calls(PyObject*, PyObject* program) {
  try {
    return PyLong_FromUnsignedLongLong(py::cast<RunnableProgram&>(py::handle(program)).direct_calls);
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
    return nullptr;
  }
}

PyObject* function_getattro(PyObject* self, PyObject* name) {
  if (name == str_module)  // the function's, not the type's
    return PyObject_GetAttr(as_function(self)->owner, name);
  PyObject* own = PyObject_GenericGetAttr(self, name);
  if (own || !PyErr_ExceptionMatches(PyExc_AttributeError)) return own;
  PyErr_Clear();
  return PyObject_GetAttr(as_function(self)->owner, name);
}

PyObject* function_program(PyObject* self, void*) {
  return PyObject_GetAttrString(as_function(self)->owner, "program");
}

PyObject* function_doc(PyObject* self, void*) {
  return PyObject_GetAttr(as_function(self)->owner, str_doc);
}

PyObject* function_cache_info(PyObject* self, PyObject*) {
  return PyObject_CallMethod(as_function(self)->owner, "cache_info", nullptr);
}

PyObject* function_cache_clear(PyObject* self, PyObject*) {
  return PyObject_CallMethod(as_function(self)->owner, "cache_clear", nullptr);
}

PyObject* function_get(PyObject* self, PyObject* instance, PyObject*) {
  if (!instance || instance == Py_None) return Py_NewRef(self);
  return PyObject_CallMethodObjArgs(as_function(self)->owner, str_bind, instance, nullptr);
}

PyObject* function_repr(PyObject* self) {
  return PyObject_Repr(as_function(self)->owner);
}

PyObject* function_reduce(PyObject* self, PyObject*) {
  return PyObject_CallMethod(as_function(self)->owner, "reduce", nullptr);
}

int function_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  FunctionObject* f = as_function(self);
  Py_VISIT(f->owner);
  for (const std::vector<Ready*>* all : f->ready) {
    if (!all) continue;
    for (const Ready* ready : *all) {
      if (ready->users > 1) continue;  // a call that is under way owns it too
      Py_VISIT(ready->program);
      Py_VISIT(ready->checks);
      Py_VISIT(ready->finish);
      if (const int stop = ready->shape->traverse(visit, arg)) return stop;
    }
  }
  return 0;
}

int function_clear(PyObject* self) {
  FunctionObject* f = as_function(self);
  Py_CLEAR(f->owner);
  for (int way = 0; way < kWays; ++way) put_away(f, way);
  return 0;
}

void function_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  if (as_function(self)->weakrefs) PyObject_ClearWeakRefs(self);
  function_clear(self);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* function_new(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* owner;
  if (!PyArg_ParseTuple(args, "O", &owner)) return nullptr;
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) return nullptr;
  as_function(self)->vectorcall = function_vectorcall;
  as_function(self)->owner = Py_NewRef(owner);
  return self;
}

template <typename F>
PyCFunction as_method(F f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

PyMethodDef function_methods[] = {
    {"value_and_grad", as_method(function_value_and_grad), METH_FASTCALL | METH_KEYWORDS,
     "value_and_grad($self, /, *args, argnums=None, **kwargs)\n--\n\n"
     "The function's value and its gradient by the numeric arguments, each shaped like the argument.\n\n"
     "With one numeric argument the gradient itself, otherwise a tuple with an entry for each positional argument, "
     "None\n"
     "for static ones. Keyword arguments are not differentiated by.\n"
     "argnums: a position, or a tuple of positions, to differentiate by these only. The function must return one\n"
     "Value. TypeError for arguments that are Values and for results that are not one Value."},
    {"backward", as_method(function_backward), METH_FASTCALL | METH_KEYWORDS,
     "backward($self, /, *args, **kwargs)\n--\n\n"
     "As fn(*args).backward(): adds into the grad of every Value that the function closes over; returns the value.\n"
     "The function must return one Value."},
    {"cache_info", function_cache_info, METH_NOARGS,
     "cache_info($self, /)\n--\n\n"
     "What was recorded and why: one (arguments, reason, nodes, guards, calls) for each recording."},
    {"cache_clear", function_cache_clear, METH_NOARGS, "cache_clear($self, /)\n--\n\nForgets all recordings."},
    {"_arm", function_arm, METH_VARARGS, "Names the program for the next calls with arguments like these."},
    {"_disarm", function_disarm, METH_NOARGS, "Forgets what _arm() named."},
    {"_calls", function_calls, METH_O, "Calls that the program served without the owner."},
    {"__reduce__", function_reduce, METH_NOARGS, "A compiled function pickles as the function and its options."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef function_getset[] = {
    {"program", function_program, nullptr,
     "What was last used, as a tapegrad.Program: print it, draw it, save it. RuntimeError before the first call.",
     nullptr},
    {"__doc__", function_doc, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FunctionObject, vectorcall), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(FunctionObject, weakrefs), READONLY, nullptr},
    {"_owner", T_OBJECT, offsetof(FunctionObject, owner), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

template <typename F>
void* slot(F f) {
  return reinterpret_cast<void*>(f);
}

PyType_Slot function_slots[] = {
    {Py_tp_new, slot(function_new)},           {Py_tp_dealloc, slot(function_dealloc)},
    {Py_tp_traverse, slot(function_traverse)}, {Py_tp_clear, slot(function_clear)},
    {Py_tp_call, slot(PyVectorcall_Call)},     {Py_tp_getattro, slot(function_getattro)},
    {Py_tp_descr_get, slot(function_get)},     {Py_tp_repr, slot(function_repr)},
    {Py_tp_methods, function_methods},         {Py_tp_members, function_members},
    {Py_tp_getset, function_getset},           {0, nullptr},
};

PyType_Spec function_spec = {"tapegrad._core.CompiledFunction", sizeof(FunctionObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, function_slots};

}  // namespace

bool register_function(py::module_& m) {
  names[kCallWay] = PyUnicode_InternFromString("call");
  names[kGradientWay] = PyUnicode_InternFromString("value_and_grad");
  names[kBackwardWay] = PyUnicode_InternFromString("backward");
  str_bind = PyUnicode_InternFromString("bind");
  str_doc = PyUnicode_InternFromString("__doc__");
  str_module = PyUnicode_InternFromString("__module__");
  PyObject* type = PyType_FromSpec(&function_spec);
  if (!type || !names[0] || !names[1] || !names[2] || !str_bind || !str_doc || !str_module) return false;
  m.attr("CompiledFunction") = py::reinterpret_steal<py::object>(type);
  return true;
}

}  // namespace tapegrad::python
