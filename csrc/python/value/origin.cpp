// origin.cpp: reading what a program says a Value comes from, and binding nodes to it.
#include "python/value/origin.hpp"

#include <algorithm>
#include <cstring>

namespace tapegrad::python {

bool ValueArguments::set_position(Py_ssize_t i, PyObject* value) {
  switch (i) {
    case 0:
      data = value;
      return true;
    case 1:
      children = value;
      return true;
    case 2:
      set_third(value);
      return true;
    case 3:
      label = value;
      return true;
  }
  PyErr_Format(PyExc_TypeError, "Value() takes at most 4 positional arguments (data, children, op, label), %zd given",
               i + 1);
  return false;
}

bool ValueArguments::set_keyword(PyObject* name, PyObject* value) {
  const char* text = PyUnicode_AsUTF8(name);
  if (!text) return false;
  PyObject** place = nullptr;
  if (!std::strcmp(text, "data")) place = &data;
  if (!std::strcmp(text, "_children") || !std::strcmp(text, "children")) place = &children;
  if (!std::strcmp(text, "_op") || !std::strcmp(text, "op")) place = PyUnicode_Check(value) ? &op : &local_grads;
  if (!std::strcmp(text, "local_grads") || !std::strcmp(text, "_local_grads")) place = &local_grads;
  if (!std::strcmp(text, "label")) place = &label;
  if (!place) {
    PyErr_Format(PyExc_TypeError,
                 "Value() got an unexpected keyword argument '%U'; it takes data, children, op, local_grads and label",
                 name);
    return false;
  }
  if (*place) {
    PyErr_Format(PyExc_TypeError, "Value() got more than one value for argument '%U'", name);
    return false;
  }
  *place = value;
  return true;
}

bool ValueArguments::complete() const {
  if (data) return true;
  PyErr_SetString(PyExc_TypeError, "Value() needs a number as its first argument 'data'");
  return false;
}

bool ParsedArguments::keep_children(PyObject* children) {
  kept = PySequence_Tuple(children);
  if (!kept) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) && !Py_TYPE(children)->tp_iter)
      PyErr_Format(PyExc_TypeError, "children must be an iterable of Values, not %.200s: %R",
                   Py_TYPE(children)->tp_name, children);
    return false;
  }
  from_set = PyAnySet_Check(children);
  return true;
}

bool ParsedArguments::read_children() {
  const Py_ssize_t count = PyTuple_GET_SIZE(kept);
  operands.reserve(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* child = PyTuple_GET_ITEM(kept, i);
    if (!is_value(child)) {
      PyErr_Format(PyExc_TypeError, "children[%zd] must be a Value, not %.200s: %R; wrap a number as Value(number)", i,
                   Py_TYPE(child)->tp_name, child);
      return false;
    }
    operands.push_back(node_of(child));
    tracked |= (node_of(child)->flags & kTracked) != 0;
    arrays |= (node_of(child)->flags & kArray) != 0;
  }
  // A set has no order of its own; creation order makes runs repeatable.
  if (from_set)
    std::sort(operands.begin(), operands.end(), [](Node* x, Node* y) { return Arena::id(x) < Arena::id(y); });
  return true;
}

bool ParsedArguments::read_local_grads(PyObject* numbers) {
  PyObject* sequence = PySequence_Tuple(numbers);
  if (!sequence) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) && !Py_TYPE(numbers)->tp_iter)
      PyErr_Format(PyExc_TypeError,
                   "the third argument must be an operation's name or a tuple of local gradients, not %.200s: %R",
                   Py_TYPE(numbers)->tp_name, numbers);
    return false;
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(sequence);
  bool fine = true;
  for (Py_ssize_t i = 0; fine && i < count; ++i) {
    Data local;
    fine = read_data(PyTuple_GET_ITEM(sequence, i), "a local gradient", &local);
    arrays |= local.array != nullptr;
    if (fine) local_data.push_back(std::move(local));
  }
  Py_DECREF(sequence);
  return fine;
}

bool ParsedArguments::settle_local_grads() {
  if (!local_data.empty() && local_data.size() != operands.size()) {
    PyErr_Format(PyExc_ValueError, "%zu local gradients were given for %zu children; give one for each",
                 local_data.size(), operands.size());
    return false;
  }
  for (const Data& local : local_data) {
    if (!arrays) {
      local_grads.push_back(local.number.value);
      continue;
    }
    local_arrays.push_back(leaf_of(local, 0));
    if (!local_arrays.back()) return false;
  }
  return true;
}

bool ParsedArguments::read(const ValueArguments& args) {
  if (args.children && !keep_children(args.children)) return false;
  if (!read_data(args.data, "data", &data)) return false;
  arrays = data.array != nullptr;
  if (args.local_grads && !read_local_grads(args.local_grads)) return false;
  if (args.op) {
    if (!PyUnicode_Check(args.op)) {
      PyErr_Format(PyExc_TypeError, "_op must be a string, not %.200s: %R", Py_TYPE(args.op)->tp_name, args.op);
      return false;
    }
    const long index = intern_label(args.op);
    if (index < 0) return false;
    label = static_cast<std::uint32_t>(index);
  }
  return (!args.children || read_children()) && settle_local_grads();
}

void ParsedArguments::drop_children() {
  operands.clear();
  local_grads.clear();
  local_arrays.clear();
  label = 0;
  tracked = false;
}

bool ParsedArguments::draft(ArrayDraft* out) {
  all = operands;
  for (const Held& local : local_arrays) all.push_back(local.get());
  out->op = all.empty() && !label ? ArrayOp::leaf : ArrayOp::custom;
  out->operands = all.data();
  out->count = count();
  out->has_local_grads = !local_arrays.empty();
  out->label = label;
  out->number = data.number.value;
  if (!out->settle()) return true;
  PyErr_SetString(PyExc_ValueError,
                  "the shapes of the local gradients do not broadcast with those of the data and the children");
  return false;
}

Node* make_parsed(ParsedArguments& parsed, Flags flags) {
  Node* node = nullptr;
  flags |= parsed.data.number.flags;
  if (parsed.needs_array()) {
    ArrayDraft draft;
    Buffer* buffer = nullptr;
    if (parsed.data.array && !(buffer = copy_array(parsed.data.array, &draft.shape))) return nullptr;
    if (parsed.draft(&draft)) {
      node = make_array_node(arena(), draft, flags, buffer);
      if (!node) no_node();
    }
    if (!node) release(buffer);
    return node;
  }
  node = parsed.operands.empty() && !parsed.label
             ? arena().make_leaf(parsed.data.number.value, flags)
             : arena().make_custom(parsed.operands.data(), parsed.count(), parsed.grads(), parsed.label,
                                   parsed.data.number.value, flags);
  if (!node) no_node();
  return node;
}

namespace {

// Values made from this one count on its shape.
bool may_take_shape(const Node* node, const Shape& shape) {
  if (node->refs <= 1 || shape == shape_of(node)) return true;
  PyErr_SetString(PyExc_ValueError,
                  "cannot give another shape to a Value that other Values were made from. Make a new Value instead");
  return false;
}

// Gives a node these operands, and if `with_data` the data too; else it keeps what it holds. False with an error set.
bool rebind(Node* node, ParsedArguments& parsed, bool with_data) {
  if (with_data ? !parsed.needs_array() : !(node->flags & kArray)) {
    if (!may_take_shape(node, Shape())) return false;
    if (arena().set_operands(node, parsed.operands.data(), parsed.count(), parsed.grads(), parsed.label)) return true;
    no_node();
    return false;
  }
  ArrayDraft draft;
  Buffer *data = nullptr, *grad = nullptr;
  if (!with_data) {
    draft.shape = shape_of(node);
    data = node->array->data;
    grad = node->array->grad;
    own(data);
    if (grad) own(grad);
  } else if (parsed.data.array && !(data = copy_array(parsed.data.array, &draft.shape))) {
    return false;
  }
  if (parsed.draft(&draft) && may_take_shape(node, draft.shape)) {
    if (become_array(arena(), node, draft, data, grad)) return true;
    no_node();
  }
  disown(data);
  disown(grad);
  return false;
}

// Makes `to`, a leaf, hold the array that `from` holds, if it does.
bool hand_over(const Node* from, Node* to) {
  if (!(from->flags & kArray)) return true;
  ArrayDraft draft;
  draft.shape = shape_of(from);
  Buffer *data = from->array->data, *grad = from->array->grad;
  own(data);
  if (grad) own(grad);
  if (become_array(arena(), to, draft, data, grad)) return true;
  disown(data);
  disown(grad);
  no_node();
  return false;
}

}  // namespace

bool bind(ValueObject* self, ParsedArguments& parsed, bool with_data) {
  Node* node = self->node;
  const bool fits = std::all_of(parsed.operands.begin(), parsed.operands.end(),
                                [&](Node* operand) { return Arena::precedes(operand, node); });
  if (fits && !page_of(node)->leaf_page) {
    if (!rebind(node, parsed, with_data)) return false;
  } else if (!with_data && parsed.operands.empty() && !parsed.label && is_leaf(node)) {
    return true;
  } else {
    if (node->refs > 1) {
      PyErr_SetString(PyExc_ValueError,
                      "cannot give new operands to a Value that other Values were made from: they were made after it. "
                      "Make a new Value instead");
      return false;
    }
    Node* fresh = arena().make_constant(node->data, node->flags & ~(kArray | kPinned | kTracked | kHasRule));
    if (!fresh) {
      no_node();
      return false;
    }
    ++fresh->refs;  // the handle's, once it moves over
    if (!(with_data || hand_over(node, fresh)) || !rebind(fresh, parsed, with_data)) {
      arena().drop(fresh);
      return false;
    }
    fresh->grad = node->grad;
    fresh->flags |= node->flags & (kPinned | kTracked | kHasRule);
    fresh->handle = self;
    self->node = fresh;
    node->handle = nullptr;
    node->flags = 0;
    arena().drop(node);
  }
  if (parsed.tracked) track(self);
  return true;
}

bool set_children(PyObject* self, PyObject* children) {
  ParsedArguments parsed;
  PyObject* op = op_label(node_of(self));
  const long label = op ? intern_label(op) : -1;
  Py_XDECREF(op);
  if (label < 0) return false;
  parsed.label = static_cast<std::uint32_t>(label);
  if (!parsed.keep_children(children) || !parsed.read_children()) return false;
  // The operands that it has: the operation stays what it is.
  std::vector<Node*> now;
  for_each_operand(node_of(self), [&](Node* n) { now.push_back(n); });
  const auto within = [](const std::vector<Node*>& some, const std::vector<Node*>& all) {
    return std::all_of(some.begin(), some.end(),
                       [&](Node* n) { return std::find(all.begin(), all.end(), n) != all.end(); });
  };
  if (within(now, parsed.operands) && within(parsed.operands, now)) return true;
  return bind(as_value(self), parsed, false);
}

}  // namespace tapegrad::python
