// construct.cpp: making Values from Python: Value(data, children, op or local gradients, label), and subclasses.
#include "python/compiled/observe.hpp"
#include "python/tools/modes.hpp"
#include "python/value/origin.hpp"

namespace tapegrad::python {

namespace {

PyObject* set_label(PyObject* self, PyObject* label) {
  if (self && label && !(PyUnicode_CheckExact(label) && PyUnicode_GET_LENGTH(label) == 0) &&
      assign_label(self, label) < 0)
    Py_CLEAR(self);
  return self;
}

// Whether the class was made while a function ran. Such a class can become garbage, with its instances, and the
// collector has to see that they belong together; a class at the top of a module lives on, and its instances need not
// be looked at.
bool made_in_function(PyTypeObject* type) {
  PyObject* name = reinterpret_cast<PyHeapTypeObject*>(type)->ht_qualname;
  PyObject* locals = PyUnicode_FromString("<locals>");
  const int found = locals ? PyUnicode_Contains(name, locals) : -1;
  Py_XDECREF(locals);
  if (found < 0) PyErr_Clear();
  return found != 0;
}

// A plain Value from arguments that have been sorted out.
PyObject* construct(PyTypeObject* type, const ValueArguments& args) {
  if (observer() && (is_value(args.data) || is_traced_number(args.data) || args.local_grads)) [[unlikely]] {
    PyObject* made = observe_construction(args.data, args.children, args.local_grads);
    if (made != Py_None) return set_label(made, args.label);
    Py_DECREF(made);
  }
  const Flags flags = fresh_flags(type);
  if (!args.children && !args.op && !args.local_grads) {
    Data data;
    if (!read_data(args.data, "data", &data)) return nullptr;
    if (!data.array)
      return set_label(show(arena().make_leaf(data.number.value, flags | data.number.flags), type, 0), args.label);
    Node* leaf = make_array_leaf(data.array, flags);
    return leaf ? set_label(show(leaf, type, 0), args.label) : nullptr;
  }
  ParsedArguments parsed;
  if (!parsed.read(args)) return nullptr;
  Node* node = make_parsed(parsed, flags);
  return node ? set_label(show(node, type, parsed.tracked ? kTracked : 0), args.label) : nullptr;
}

}  // namespace

PyObject* value_vectorcall(PyObject* callable, PyObject* const* args, std::size_t nargsf, PyObject* kwnames) {
  auto* type = reinterpret_cast<PyTypeObject*>(callable);
  const Py_ssize_t count = PyVectorcall_NARGS(nargsf);
  if (type->tp_init != value_init || type->tp_new != value_new) {  // the program has replaced the constructor
    PyObject* tuple = PyTuple_New(count);
    PyObject* kwargs = kwnames ? PyDict_New() : nullptr;
    bool fine = tuple && (!kwnames || kwargs);
    for (Py_ssize_t i = 0; fine && i < count; ++i) PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; fine && kwnames && i < PyTuple_GET_SIZE(kwnames); ++i)
      fine = PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i), args[count + i]) == 0;
    PyObject* self = fine ? PyType_Type.tp_call(callable, tuple, kwargs) : nullptr;
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return self;
  }
  if (count == 1 && !kwnames && PyFloat_CheckExact(args[0])) [[likely]]
    return show(arena().make_leaf(PyFloat_AS_DOUBLE(args[0]), fresh_flags(type)), type, 0);
  ValueArguments arguments;
  for (Py_ssize_t i = 0; i < count; ++i)
    if (!arguments.set_position(i, args[i])) return nullptr;
  for (Py_ssize_t i = 0; kwnames && i < PyTuple_GET_SIZE(kwnames); ++i)
    if (!arguments.set_keyword(PyTuple_GET_ITEM(kwnames, i), args[count + i])) return nullptr;
  return arguments.complete() ? construct(type, arguments) : nullptr;
}

// The subclass is an attribute too.
void settle_subclass(PyObject* self) {
  pin(as_value(self));
  PyTypeObject* type = Py_TYPE(self);
  give_array_protocols(type);
  // Slots may hold anything, and so may a class that can die.
  if (type->tp_basicsize > value_type()->tp_basicsize || made_in_function(type)) track(as_value(self));
}

// For subclasses, and for programs that call __new__: a leaf in creation order, which __init__ may still give operands.
PyObject* value_new(PyTypeObject* type, PyObject*, PyObject*) {
  Node* node = arena().make_constant(0.0, fresh_flags(type));
  if (!node) return no_node();
  if (type->tp_dealloc == value_dealloc) return show(node, type, 0);
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) {
    discard(node);
    return nullptr;
  }
  as_value(self)->node = node;
  node->handle = self;
  node->refs = 1;
  PyObject_GC_UnTrack(self);
  settle_subclass(self);
  return self;
}

int value_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  ValueArguments arguments;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i)
    if (!arguments.set_position(i, PyTuple_GET_ITEM(args, i))) return -1;
  PyObject *name, *item;
  Py_ssize_t position = 0;
  while (kwargs && PyDict_Next(kwargs, &position, &name, &item))
    if (!arguments.set_keyword(name, item)) return -1;
  if (!arguments.complete()) return -1;
  ParsedArguments parsed;
  if (!parsed.read(arguments)) return -1;
  if (in_mode(Mode::no_grad)) parsed.drop_children();
  ValueObject* v = as_value(self);
  const bool plain_leaf = v->node->op == Op::leaf && parsed.operands.empty() && !parsed.label && !parsed.needs_array();
  if (!plain_leaf && !bind(v, parsed, true)) return -1;
  const Number number = parsed.data.number;
  if (!(v->node->flags & kArray)) v->node->data = number.value;
  v->node->grad = 0.0;
  v->node->flags = static_cast<Flags>((v->node->flags & ~(kDataInt | kGradInt)) | number.flags |
                                      ((v->node->flags & (kFloatGrad | kArray)) ? 0 : kGradInt));
  Py_INCREF(self);
  PyObject* labelled = set_label(self, arguments.label);
  Py_XDECREF(labelled);
  return labelled ? 0 : -1;
}

}  // namespace tapegrad::python
