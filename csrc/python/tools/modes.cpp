// modes.cpp: the modes of each context, and the look at new nodes.
#include "python/tools/modes.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <unordered_set>
#include <vector>

#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/tools/node_lines.hpp"

namespace tapegrad::python {

int modes_on = 0;

namespace {

// A ContextVar for each mode, for ever. Its value is a list of its own for each time that a mode was entered, which
// holds whether it is on; or False. Leaving changes the list only: for that no memory is needed, and a mode that could
// not be left would be on for good.
PyObject* variables[2];

// Whether the mode is on, given the value of its variable.
PyObject* on_of(PyObject* value) {
  return PyList_CheckExact(value) && PyList_GET_SIZE(value) == 1 ? PyList_GET_ITEM(value, 0) : value;
}
int anomaly_contexts = 0;
int aside = 0;

// Never destroyed: it holds Python objects.
NodeLines& lines() {
  static auto* all = new NodeLines();
  return *all;
}
std::uint64_t first_id = 0;  // older nodes were made before the mode was entered

// The file and the line that made the node, as two new references; None and 0 where that is not known.
PyObject* origin_of(const Node* node) {
  const std::uint64_t id = Arena::id(node);
  const bool known = id >= first_id && !page_of(node)->leaf_page;
  const NodeLines::Place place = known ? lines().of(id) : NodeLines::Place{};
  return Py_BuildValue("(Oi)", place.code ? place.code->co_filename : Py_None, place.line);
}

Kind kind_of_number(double x) {
  return std::isfinite(x) ? Kind::finite : (std::isnan(x) ? Kind::nan : Kind::infinite);
}

Kind kind_of_buffer(Buffer* buffer, std::size_t size) {
  Kind worst = Kind::finite;
  for (std::size_t i = 0; i < size; ++i) worst = std::max(worst, kind_of_number(buffer->values()[i]));
  return worst;
}

// The first node whose operation made a number that is not finite out of better ones, among `node` and those that were
// made with it (newer than `known`, and without a handle); null if there is none.
Node* first_made(Node* node, std::uint64_t known) {
  Node* first = nullptr;
  std::vector<Node*> pending{node};
  std::unordered_set<Node*> seen{node};
  while (!pending.empty()) {
    Node* n = pending.back();
    pending.pop_back();
    const Kind kind = kind_of(n);
    Kind worst = Kind::finite;
    for_each_operand(n, [&](Node* operand) {
      const Kind its = kind_of(operand);
      worst = std::max(worst, its);
      const bool with_it = !is_leaf(operand) && !operand->handle && Arena::id(operand) > known;
      if (its != Kind::finite && with_it && seen.insert(operand).second) pending.push_back(operand);
    });
    if (worst < kind && (!first || Arena::id(n) < Arena::id(first))) first = n;
  }
  return first;
}

void raise_anomaly(const char* function, Node* node, long operand) {
  PyObject* module = PyImport_ImportModule("tapegrad.modes");
  PyObject* value = module ? handle_of(node) : nullptr;
  PyObject* origin = value ? origin_of(node) : nullptr;
  PyObject* raised = origin ? PyObject_CallMethod(module, function, "OOl", value, origin, operand) : nullptr;
  Py_XDECREF(raised);
  Py_XDECREF(origin);
  Py_XDECREF(value);
  Py_XDECREF(module);
}

// Notes a new node and looks at its number. False with an error set.
bool look(Node* node) {
  if (is_leaf(node) || page_of(node)->leaf_page) return true;
  const std::uint64_t id = Arena::id(node);
  const std::uint64_t newest = lines().newest(), known = !newest || newest >= id ? first_id : newest;
  if (!lines().note(id)) return false;
  if (kind_of(node) == Kind::finite) return true;
  Node* culprit;
  try {
    culprit = first_made(node, known);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
  if (!culprit) return true;
  raise_anomaly("raise_forward", culprit, 0);
  return false;
}

// Cuts a node off what it was made from. False with an error set.
bool make_leaf_of(Node* node) {
  if (is_leaf(node)) return true;
  if (!(node->flags & kArray)) {
    if (arena().set_operands(node, nullptr, 0, nullptr, 0)) return true;
  } else {
    ArrayDraft draft;
    draft.shape = shape_of(node);
    Buffer* data = node->array->data;
    retain(data);
    if (become_array(arena(), node, draft, data, nullptr)) return true;
    release(data);
  }
  no_node();
  return false;
}

PyObject* enter_mode(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2) return PyErr_Format(PyExc_TypeError, "enter_mode() takes a mode and whether it is on");
  const long mode = PyLong_AsLong(args[0]);
  const int on = PyObject_IsTrue(args[1]);
  if (PyErr_Occurred() || mode < 0 || mode > 1) return nullptr;
  if (refuse_while_recording(mode == 0 ? "no_grad()" : "detect_anomaly()")) return nullptr;
  PyObject *before = nullptr, *now = nullptr, *token = nullptr;
  if (PyContextVar_Get(variables[mode], nullptr, &before) < 0) return nullptr;
  if ((now = PyList_New(1))) {
    PyList_SET_ITEM(now, 0, PyBool_FromLong(on));
    token = PyContextVar_Set(variables[mode], now);
    Py_DECREF(now);
  }
  if (!token) {
    Py_DECREF(before);
    return nullptr;
  }
  Py_DECREF(token);
  ++modes_on;
  begin_watching();
  if (mode == static_cast<long>(Mode::anomaly) && anomaly_contexts++ == 0) {
    Node* marker = arena().make_constant(0.0, 0);
    first_id = marker ? Arena::id(marker) : 0;
    if (marker) discard(marker);
  }
  return before;
}

PyObject* leave_mode(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2) return PyErr_Format(PyExc_TypeError, "leave_mode() takes a mode and what enter_mode() gave");
  const long mode = PyLong_AsLong(args[0]);
  if (PyErr_Occurred() || mode < 0 || mode > 1) return nullptr;
  if (!modes_on) Py_RETURN_NONE;
  PyObject* now = nullptr;
  if (PyContextVar_Get(variables[mode], nullptr, &now) < 0) return nullptr;
  if (PyList_CheckExact(now)) PyList_SetItem(now, 0, Py_NewRef(on_of(args[1])));
  Py_DECREF(now);
  --modes_on;
  end_watching();
  if (mode == static_cast<long>(Mode::anomaly) && --anomaly_contexts == 0) lines().clear();
  Py_RETURN_NONE;
}

PyObject* mode_is_on(PyObject*, PyObject* mode) {
  const long which = PyLong_AsLong(mode);
  if (PyErr_Occurred() || which < 0 || which > 1) return nullptr;
  return PyBool_FromLong(in_mode(static_cast<Mode>(which)));
}

PyMethodDef functions[] = {
    {"enter_mode", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(enter_mode)), METH_FASTCALL,
     "enter_mode($module, mode, on, /)\n--\n\nTurns a mode (0: no_grad, 1: anomaly) on or off in this "
     "context; gives what leave_mode() wants."},
    {"leave_mode", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(leave_mode)), METH_FASTCALL,
     "leave_mode($module, mode, before, /)\n--\n\nEnds what enter_mode() began; once for each."},
    {"mode_is_on", mode_is_on, METH_O, "mode_is_on($module, mode, /)\n--\n\nWhether a mode is on in this context."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

bool in_mode_now(Mode mode) {
  PyObject* on = nullptr;
  if (PyContextVar_Get(variables[static_cast<int>(mode)], nullptr, &on) < 0) {
    PyErr_Clear();
    return false;
  }
  const bool yes = on_of(on) == Py_True;
  Py_DECREF(on);
  return yes;
}

Kind kind_of(const Node* node) {
  Array* array = array_of(node);
  return array ? kind_of_buffer(array->data, array->size) : kind_of_number(node->data);
}

Kind gradient_kind(const Node* node) {
  Array* array = array_of(node);
  if (!array) return kind_of_number(node->grad);
  return array->grad ? kind_of_buffer(array->grad, array->size) : Kind::finite;
}

PyObject* apply_modes(PyObject* handle) {
  if (aside || observer()) return handle;
  Node* node = node_of(handle);
  if ((in_mode_now(Mode::anomaly) && !look(node)) || (in_mode_now(Mode::no_grad) && !make_leaf_of(node))) {
    PyObject *type, *value, *traceback;  // what dies with the node may run code of the program's
    PyErr_Fetch(&type, &value, &traceback);
    Py_DECREF(handle);
    PyErr_Restore(type, value, traceback);
    return nullptr;
  }
  return handle;
}

ModesAside::ModesAside() {
  ++aside;
}
ModesAside::~ModesAside() {
  --aside;
}

void raise_backward_anomaly(Node* node, std::uint32_t i) {
  raise_anomaly("raise_backward", node, static_cast<long>(i));
}

bool register_modes(PyObject* module) {
  const char* names[] = {"tapegrad.no_grad", "tapegrad.detect_anomaly"};
  for (int mode = 0; mode < 2; ++mode)
    if (!(variables[mode] = PyContextVar_New(names[mode], Py_False))) return false;
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace tapegrad::python
