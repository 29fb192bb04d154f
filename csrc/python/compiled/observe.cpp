// observe.cpp: the observer of each thread.
#include "python/compiled/observe.hpp"

#include "python/compiled/compile.hpp"

namespace py = pybind11;

namespace tapegrad::python {

int recordings = 0;

namespace {

// For words on what does not qualify as a repeat: a few of the lines are asked for. Beyond these nodes, which a user's
// code makes in about a millisecond, a recording is not to become dearer by them.
constexpr std::size_t kMostLines = std::size_t{1} << 17;

struct Recording {
  PyObject* observer;  // owned
  Node* marker;        // held: nodes made later have higher ids
  Recording* outer;
  NodeLines lines{kMostLines};
};
thread_local Recording* current = nullptr;

PyObject* traced_types;  // a tuple of the Python classes, for ever

// Starts noting looks in this thread; returns the id that separates old nodes from new ones.
std::uint64_t begin_recording(py::object who) {
  Node* marker = arena().make_constant(0.0, 0);
  if (!marker) throw NoNodes(arena());
  arena().hold(marker);
  current = new Recording{who.release().ptr(), marker, current};
  ++recordings;
  begin_watching();
  return Arena::id(marker);
}

void end_recording() {
  Recording* ended = current;
  if (!ended) throw std::logic_error("no recording to end");
  current = ended->outer;
  --recordings;
  end_watching();
  arena().let_go(ended->marker);
  Py_DECREF(ended->observer);
  delete ended;
}

}  // namespace

PyObject* thread_observer() {
  return current ? current->observer : nullptr;
}

void note_recorded(Node* node) {
  if (current && !is_leaf(node) && !current->lines.note(Arena::id(node))) PyErr_Clear();
}

const NodeLines* recorded_lines() {
  return current ? &current->lines : nullptr;
}

PyObject* observe(const char* method, PyObject* value) {
  PyObject* who = Py_NewRef(thread_observer());
  PyObject* seen = PyObject_CallMethod(who, method, "O", value);
  Py_DECREF(who);
  return seen;
}

PyObject* observe_construction(PyObject* data, PyObject* children, PyObject* local_grads) {
  PyObject* who = Py_NewRef(thread_observer());
  PyObject* made = PyObject_CallMethod(who, "construct", "OOO", data, children ? children : Py_None,
                                       local_grads ? local_grads : Py_None);
  Py_DECREF(who);
  return made;
}

bool refuse_while_recording(const char* what) {
  if (!observer()) return false;
  PyErr_Format(PyExc_TypeError,
               "%s is not possible inside a compiled function: it would happen once, when the function is recorded, "
               "and not at later "
               "calls; do it outside",
               what);
  return true;
}

bool is_traced_number(PyObject* o) {
  return observer() && traced_types &&
         PyObject_TypeCheck(o, reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(traced_types, 0)));
}

void register_observe(py::module_& m) {
  m.def("begin_recording", &begin_recording, py::arg("observer"),
        "From now on this thread's looks at Values go to the observer; returns the id that separates old nodes from "
        "new ones.");
  m.def("end_recording", &end_recording, "Ends what begin_recording() began.");
  m.def(
      "set_package_folders",
      [](const py::str& package, const py::tuple& programs) { set_package_folders(package.ptr(), programs.ptr()); },
      py::arg("package"), py::arg("programs"),
      "Code in the first folder, but for what is in the second, is tapegrad's own and no place where a program makes a "
      "node.");
  m.def("is_recording", [] { return observer() != nullptr; }, "Whether this thread is recording a compiled function.");
  m.def(
      "current_observer",
      [] {
        PyObject* who = observer();
        return py::reinterpret_borrow<py::object>(who ? who : Py_None);
      },
      "The observer of this thread, or None.");
  m.def(
      "meets_traced",
      [](const py::object& items) {
        if (!observer() || !traced_types) return false;
        PyObject* const* item = PySequence_Fast_ITEMS(items.ptr());
        for (Py_ssize_t k = PySequence_Fast_GET_SIZE(items.ptr()); k-- > 0; ++item)
          if (is_traced_number(*item)) return true;
        return false;
      },
      py::arg("items"),
      "Whether this thread is recording a compiled function and the list or tuple holds a number read from a Value.");
  m.def(
      "set_traced_type",
      [](py::type type) {
        Py_XDECREF(traced_types);
        traced_types = PyTuple_Pack(1, type.ptr());
      },
      "Tells which class stands for numbers that a recorded function got from Values.");
}

}  // namespace tapegrad::python
