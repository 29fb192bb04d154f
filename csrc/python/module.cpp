// module.cpp: the module _core. It only makes the types and names the functions.
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "core/arrays/arrays.hpp"
#include "core/program/interrupts.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/compile.hpp"
#include "python/tools/gradients.hpp"
#include "python/tools/modes.hpp"
#include "python/tools/statistics.hpp"
#include "python/tools/steal.hpp"
#include "python/value/graphs.hpp"
#include "python/value/layers.hpp"
#include "python/value/value.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

void retain(void* handle) {
  Py_INCREF(static_cast<PyObject*>(handle));
}
void release(void* handle) {
  Py_DECREF(static_cast<PyObject*>(handle));
}

// Called once a layer and step: without pybind11's argument matching.
PyMethodDef fast_functions[] = {
    {"neuron", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(neuron)), METH_FASTCALL,
     "neuron($module, w, x, b, act, /)\n--\n\nact(b + w[0]*x[0] + ...) as one Value, with the nodes that Python's "
     "sum() makes.\n\n"
     "None where that has to be done in Python because operators or the activation were replaced. act: a function's "
     "name, or ''."},
    {"layer", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(layer)), METH_FASTCALL,
     "layer($module, neurons, x, cls, act, flag, /)\n--\n\nneuron() for each of the neurons, by their attributes w and "
     "b, as a list.\n\n"
     "None if it has to be done in Python, or a neuron is not exactly a cls. flag: None, or the name of the attribute "
     "that switches\n"
     "the activation on."},
    {"backward_over_lanes", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(backward_over_lanes)),
     METH_FASTCALL,
     "backward_over_lanes($module, program, checks, shapes, args, mean, threads, /)\n--\n\nWhat run_lanes_backward() "
     "does and returns, where each of args is an array of doubles in C order with a lane\nof the shape given on its "
     "first axis, and nothing has changed since the recording. None for all other arguments, and\nwhere a guard does "
     "not hold."},
    {"values_over_lanes", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(values_over_lanes)), METH_FASTCALL,
     "values_over_lanes($module, program, checks, shapes, args, threads, /)\n--\n\nThe outputs of run_lanes(), an "
     "array "
     "each, or None as backward_over_lanes() has it."},
    {"gradients_over_lanes", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(gradients_over_lanes)),
     METH_FASTCALL,
     "gradients_over_lanes($module, program, checks, shapes, args, chosen, threads, /)\n--\n\n(values, gradients by "
     "the "
     "arguments chosen, each of its argument's shape), or None as backward_over_lanes() has it."},
    {nullptr, nullptr, 0, nullptr},
};

// Nodes, handles and types are those of one interpreter. Asked before pybind11 has a say, which on CPython 3.11 would
// wait there for ever; and again when the module is filled, since newer versions ask for the definition in the main
// interpreter.
bool in_subinterpreter() {
  return PyInterpreterState_Get() != PyInterpreterState_Main();
}
constexpr const char* kOneInterpreter =
    "tapegrad cannot be imported in a subinterpreter: its graphs belong to the main interpreter; use threads or "
    "processes instead";

}  // namespace

Engine::Engine() : arena({retain, release}) {}
Engine engine;

PYBIND11_MODULE(tapegrad_core, m) {
  if (in_subinterpreter()) throw std::runtime_error(kOneInterpreter);  // an ImportError, by pybind11
  m.doc() = "The native part of tapegrad: the Value type over the C++ core.";
  if (!init_attributes() || !init_labels()) throw py::error_already_set();
  py::object value = steal(make_dialect("tapegrad.Value", true));
  if (!remember_native_methods() || !remember_native_fields()) throw py::error_already_set();
  m.attr("Value") = value;

  m.def(
      "make_dialect",
      [](const std::string& name, bool float_grad) { return steal(make_dialect(name.c_str(), float_grad)); },
      py::arg("name"), py::kw_only(), py::arg("float_grad") = true,
      "A new Value type, 'module.Name': a subclass of tapegrad.Value with the same native operators, whose results are "
      "of its own\n"
      "type. With float_grad=False a gradient is the int 0 until something is added. At most 16 in a process.");
  m.def(
      "dialect_of",
      [](const py::type& type) {
        auto* t = reinterpret_cast<PyTypeObject*>(type.ptr());
        if (!PyType_IsSubtype(t, value_type())) return py::object(py::none());
        while (t->tp_dealloc != value_dealloc) t = t->tp_base;
        return py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(t));
      },
      py::arg("type"), "The native type that a Value type is or derives from; None for any other type.");
  if (PyModule_AddFunctions(m.ptr(), fast_functions) < 0) throw py::error_already_set();
  m.def(
      "live_nodes", [] { return arena().live_nodes(); },
      "Nodes alive in this process: exactly those that a living Value needs.");
  m.def("reserved_bytes", [] { return arena().reserved_bytes(); }, "Bytes that the node arena has from the system.");

  m.def(
      "array_bytes", [] { return buffer_bytes(); },
      "Bytes in the lanes and gradients of array Values and of views of them.");
  m.def(
      "dot", [](py::object a, py::object b) { return steal(dot(a.ptr(), b.ptr())); }, py::arg("a"), py::arg("b"),
      py::pos_only(),
      "The product of vectors and matrices, which may be Values or arrays; with a number, the product lane by lane.");
  m.def(
      "where", [](py::object c, py::object a, py::object b) { return steal(where(c.ptr(), a.ptr(), b.ptr())); },
      py::arg("condition"), py::arg("a"), py::arg("b"), py::pos_only(),
      "a where the condition is true, else b: lane by lane, with broadcasting. Each may be a Value, a number or an "
      "array; the\n"
      "gradient goes to what was taken, none to the condition. ValueError where shapes do not broadcast.");
  m.def(
      "maximum", [](py::object a, py::object b) { return steal(maximum(a.ptr(), b.ptr())); }, py::arg("a"),
      py::arg("b"), py::pos_only(),
      "The larger of two, lane by lane, with broadcasting; NaN wins. Where both are equal each gets half of the "
      "gradient.");
  m.def(
      "minimum", [](py::object a, py::object b) { return steal(minimum(a.ptr(), b.ptr())); }, py::arg("a"),
      py::arg("b"), py::pos_only(),
      "The smaller of two, lane by lane, with broadcasting; NaN wins. Where both are equal each gets half of the "
      "gradient.");
  m.def(
      "clip", [](py::object x, py::object low, py::object high) { return steal(clip(x.ptr(), low.ptr(), high.ptr())); },
      py::arg("x"), py::arg("low"), py::arg("high"), py::pos_only(),
      "minimum(maximum(x, low), high); None for no bound. At a bound x gets half of the gradient.");

  register_graphs(m);
  register_gradients(m);
  register_statistics(m);
  if (!register_modes(m.ptr())) throw py::error_already_set();
  register_observe(m);
  register_programs(m);
  register_environment(m);
  register_contents(m);
  if (!register_function(m)) throw py::error_already_set();

  set_pause_hooks({[]() -> void* { return PyEval_SaveThread(); },
                   [](void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); },
                   // What is seen here is set again, for the handler to run at a better time.
                   []() -> bool { return PyOS_InterruptOccurred() && (PyErr_SetInterrupt(), true); },
                   []() -> bool { return PyErr_CheckSignals() < 0; }});
  interrupt_hook = [] {
    if (PyErr_CheckSignals() < 0) throw py::error_already_set();
  };

  // Python's collector has to see the edges into values that became part of a possible cycle after they were used.
  py::module_::import("gc").attr("callbacks").attr("append")(py::cpp_function([](py::object phase, py::object) {
    if (tracking_unsettled && py::cast<std::string>(phase) == "start") settle_tracking();
  }));
}

}  // namespace tapegrad::python

extern "C" PYBIND11_EXPORT PyObject* PyInit__core();
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (!tapegrad::python::in_subinterpreter()) return tapegrad::python::PyInit_tapegrad_core();
  PyErr_SetString(PyExc_ImportError, tapegrad::python::kOneInterpreter);
  return nullptr;
}
