// function.cpp: the type of a compiled function: arming it with programs, its attributes, and its place in Python's
// collector. What it does not know itself it asks its owner for.
#include <cstddef>
#include <memory>
#include <vector>

#include "python/compiled/compile.hpp"
#include "python/compiled/function_object.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

constexpr std::size_t kMaxReady = 8;

PyObject *str_bind, *str_doc, *str_module;

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
  str_bind = PyUnicode_InternFromString("bind");
  str_doc = PyUnicode_InternFromString("__doc__");
  str_module = PyUnicode_InternFromString("__module__");
  PyObject* type = PyType_FromSpec(&function_spec);
  if (!type || !init_calls() || !str_bind || !str_doc || !str_module) return false;
  m.attr("CompiledFunction") = py::reinterpret_steal<py::object>(type);
  return true;
}

}  // namespace tapegrad::python
