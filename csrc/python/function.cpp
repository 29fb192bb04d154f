// function.cpp: the type of a compiled function. Calls with plain floats go straight to the program last used; every
// other call, and every call whose guards do not hold, goes to the owner, a Python object that sorts arguments, records
// and chooses programs.
#include <cstddef>
#include <vector>

#include "python/compile.hpp"
#include "python/environment.hpp"
#include "python/observe.hpp"
#include "python/programs.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

enum Way { kCallWay, kGradientWay, kBackwardWay, kWays };

// The program that a call with `count` floats may run at once.
struct Ready {
  PyObject* program;  // owns `runnable`
  RunnableProgram* runnable;
  PyObject* checks;  // snapshot of the environment
  Py_ssize_t count;
  unsigned long long calls;
};

struct FunctionObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* owner;
  PyObject* weakrefs;
  Ready ready[kWays];
};

FunctionObject* as_function(PyObject* o) {
  return reinterpret_cast<FunctionObject*>(o);
}

PyObject *names[kWays], *str_bind, *str_doc, *str_module;

constexpr Py_ssize_t kMaxFast = 16;

// Reads the arguments if the ready program may take them: 1 yes, 0 no, -1 error.
int read_fast(const Ready& ready, PyObject* const* args, Py_ssize_t count, PyObject* kwnames, double* inputs) {
  if (!ready.program || count != ready.count || kwnames || observer()) return 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (!PyFloat_CheckExact(args[i])) return 0;
    inputs[i] = PyFloat_AS_DOUBLE(args[i]);
  }
  const int changed = unchanged(ready.checks);
  return changed < 0 ? -1 : changed == 0;
}

PyObject* slow(PyObject* self, Way way, PyObject* const* args, Py_ssize_t count, PyObject* kwnames) {
  std::vector<PyObject*> all{as_function(self)->owner};
  const Py_ssize_t total = count + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
  all.insert(all.end(), args, args + total);
  return PyObject_VectorcallMethod(names[way], all.data(), static_cast<std::size_t>(count + 1), kwnames);
}

// Runs while `program` is kept alive: a run may let go of the interpreter and another thread may then replace what is
// ready.
template <typename Run>
PyObject* fast(PyObject* self, Way way, PyObject* const* args, Py_ssize_t count, PyObject* kwnames, Run run) {
  Ready& ready = as_function(self)->ready[way];
  double inputs[kMaxFast];
  const int fits = read_fast(ready, args, count, kwnames, inputs);
  if (fits < 0) return nullptr;
  if (fits) {
    PyObject* program = Py_NewRef(ready.program);
    ++ready.calls;
    PyObject* out = nullptr;
    long guard = -2;
    try {
      guard = run(*ready.runnable, inputs, &out);
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
    }
    Py_DECREF(program);
    if (guard == -1 || guard == -2) return out;
  }
  return slow(self, way, args, count, kwnames);
}

PyObject* function_vectorcall(PyObject* self, PyObject* const* args, std::size_t nargsf, PyObject* kwnames) {
  return fast(self, kCallWay, args, PyVectorcall_NARGS(nargsf), kwnames,
              [](RunnableProgram& p, const double* inputs, PyObject** out) {
                double value;
                const long guard = p.run(inputs, &value);
                if (guard == -1) *out = PyFloat_FromDouble(value);
                return guard;
              });
}

PyObject* function_value_and_grad(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames) {
  return fast(self, kGradientWay, args, count, kwnames,
              [count](RunnableProgram& p, const double* inputs, PyObject** out) {
                double value, gradients[kMaxFast];
                const long guard = p.run_gradients(inputs, {}, &value, gradients);
                if (guard != -1) return guard;
                PyObject* slopes = count == 1 ? PyFloat_FromDouble(gradients[0]) : PyTuple_New(count);
                if (!slopes) return -2L;
                for (Py_ssize_t i = 0; count > 1 && i < count; ++i) {
                  PyObject* slope = PyFloat_FromDouble(gradients[i]);
                  if (!slope) {
                    Py_DECREF(slopes);
                    return -2L;
                  }
                  PyTuple_SET_ITEM(slopes, i, slope);
                }
                PyObject* shown = PyFloat_FromDouble(value);
                *out = shown ? PyTuple_Pack(2, shown, slopes) : nullptr;
                Py_XDECREF(shown);
                Py_DECREF(slopes);
                return guard;
              });
}

PyObject* function_backward(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames) {
  return fast(self, kBackwardWay, args, count, kwnames, [](RunnableProgram& p, const double* inputs, PyObject** out) {
    double value;
    const long guard = p.run_backward(inputs, &value);
    if (guard == -1) *out = PyFloat_FromDouble(value);
    return guard;
  });
}

void put_away(Ready& ready) {
  PyObject *program = ready.program, *checks = ready.checks;
  ready = {};
  Py_XDECREF(program);
  Py_XDECREF(checks);
}

// arm(way, program, checks, count): calls in this way with `count` floats may use the program; None puts it away.
PyObject* function_arm(PyObject* self, PyObject* args) {
  int way;
  PyObject *program, *checks;
  Py_ssize_t count;
  if (!PyArg_ParseTuple(args, "iOO!n", &way, &program, &PyTuple_Type, &checks, &count)) return nullptr;
  if (way < 0 || way >= kWays || count > kMaxFast) Py_RETURN_NONE;
  Ready& ready = as_function(self)->ready[way];
  if (ready.program == program && ready.checks == checks) Py_RETURN_NONE;
  put_away(ready);
  if (program == Py_None) Py_RETURN_NONE;
  try {
    ready.runnable = py::cast<RunnableProgram*>(py::handle(program));
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
    return nullptr;
  }
  ready.program = Py_NewRef(program);
  ready.checks = Py_NewRef(checks);
  ready.count = count;
  Py_RETURN_NONE;
}

PyObject* function_calls(PyObject* self, PyObject* program) {
  unsigned long long calls = 0;
  for (const Ready& ready : as_function(self)->ready)
    if (ready.program == program) calls += ready.calls;
  return PyLong_FromUnsignedLongLong(calls);
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
  for (Ready& ready : f->ready) {
    Py_VISIT(ready.program);
    Py_VISIT(ready.checks);
  }
  return 0;
}

int function_clear(PyObject* self) {
  FunctionObject* f = as_function(self);
  Py_CLEAR(f->owner);
  for (Ready& ready : f->ready) put_away(ready);
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
    {"_arm", function_arm, METH_VARARGS, "Names the program for the next calls with plain floats."},
    {"_calls", function_calls, METH_O, "Calls that the program was ready for."},
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
    {Py_tp_new, slot(function_new)},
    {Py_tp_dealloc, slot(function_dealloc)},
    {Py_tp_traverse, slot(function_traverse)},
    {Py_tp_clear, slot(function_clear)},
    {Py_tp_call, slot(PyVectorcall_Call)},
    {Py_tp_getattro, slot(function_getattro)},
    {Py_tp_descr_get, slot(function_get)},
    {Py_tp_repr, slot(function_repr)},
    {Py_tp_methods, function_methods},
    {Py_tp_members, function_members},
    {Py_tp_getset, function_getset},
    {0, nullptr},
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
