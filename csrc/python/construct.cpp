// construct.cpp: making Values from Python: Value(data, children, op or local gradients, label), subclasses, and
// further dialects.
#include <algorithm>
#include <cstring>
#include <vector>

#include "python/arrays.hpp"
#include "python/modes.hpp"
#include "python/numbers.hpp"
#include "python/observe.hpp"
#include "python/value.hpp"

namespace tapegrad::python {

PyTypeObject* dialect_types[kMaxDialects];

namespace {

int dialect_count = 0;
bool dialect_float_grad[kMaxDialects];
char dialect_names[kMaxDialects][128];

}  // namespace

// Walks up from a subclass to the dialect's own type.
Flags fresh_flags(PyTypeObject* type) {
  while (type->tp_dealloc != value_dealloc) type = type->tp_base;
  int i = dialect_count - 1;
  while (i > 0 && dialect_types[i] != type) --i;
  return static_cast<Flags>((i << kDialectShift) | (dialect_float_grad[i] ? kFloatGrad : kGradInt));
}

namespace {

// ---- arguments
// -------------------------------------------------------------------------------------------------------------------

struct Arguments {
  PyObject* data = nullptr;  // all borrowed
  PyObject* children = nullptr;
  PyObject* op = nullptr;
  PyObject* local_grads = nullptr;
  PyObject* label = nullptr;

  // The third place is an operation's name or, in the manner of one-file GPT scripts, the local gradients.
  void set_third(PyObject* third) { (PyUnicode_Check(third) ? op : local_grads) = third; }

  bool set_position(Py_ssize_t i, PyObject* value) {
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

  bool set_keyword(PyObject* name, PyObject* value) {
    const char* text = PyUnicode_AsUTF8(name);
    if (!text) return false;
    PyObject** place = nullptr;
    if (!std::strcmp(text, "data")) place = &data;
    if (!std::strcmp(text, "_children") || !std::strcmp(text, "children")) place = &children;
    if (!std::strcmp(text, "_op") || !std::strcmp(text, "op")) place = PyUnicode_Check(value) ? &op : &local_grads;
    if (!std::strcmp(text, "local_grads") || !std::strcmp(text, "_local_grads")) place = &local_grads;
    if (!std::strcmp(text, "label")) place = &label;
    if (!place) {
      PyErr_Format(
          PyExc_TypeError,
          "Value() got an unexpected keyword argument '%U'; it takes data, children, op, local_grads and label", name);
      return false;
    }
    if (*place) {
      PyErr_Format(PyExc_TypeError, "Value() got more than one value for argument '%U'", name);
      return false;
    }
    *place = value;
    return true;
  }

  bool complete() const {
    if (data) return true;
    PyErr_SetString(PyExc_TypeError, "Value() needs a number as its first argument 'data'");
    return false;
  }
};

// What the arguments say, read and checked; nothing of it is bound to a node yet.
struct Parsed {
  Data data;
  std::vector<Node*> operands;
  std::vector<Data> local_data;
  std::vector<double> local_grads;
  std::vector<Held> local_arrays;
  std::uint32_t label = 0;
  bool arrays = false;  // the data, a child or a local gradient is an array
  bool tracked = false;
  PyObject* kept = nullptr;  // the tuple of the children
  bool from_set = false;

  ~Parsed() { Py_XDECREF(kept); }

  // Takes the children as they are now; which nodes they show is for the end, see read().
  bool keep_children(PyObject* children) {
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

  bool read_children() {
    const Py_ssize_t count = PyTuple_GET_SIZE(kept);
    operands.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
      PyObject* child = PyTuple_GET_ITEM(kept, i);
      if (!is_value(child)) {
        PyErr_Format(PyExc_TypeError, "children[%zd] must be a Value, not %.200s: %R; wrap a number as Value(number)",
                     i, Py_TYPE(child)->tp_name, child);
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

  bool read_local_grads(PyObject* numbers) {
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

  // The local gradients as numbers, or as leaves where arrays are about.
  bool settle_local_grads() {
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

  // The nodes come last: what is read before them may run code of the program's, which may do anything to Values.
  bool read(const Arguments& args) {
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

  // Under no_grad a Value has no graph, whatever it was computed from.
  void drop_children() {
    operands.clear();
    local_grads.clear();
    local_arrays.clear();
    label = 0;
    tracked = false;
  }

  std::size_t count() const { return operands.size(); }
  const double* grads() const { return local_grads.empty() ? nullptr : local_grads.data(); }

  // Whether the node has to be of Op::array: numbers with a rule of the program's own, or none, need not.
  bool needs_array() const { return data.array || !local_arrays.empty(); }

  // The node of Op::array that the arguments ask for, of the given shape. False with ValueError where local gradients
  // do not fit.
  bool draft(ArrayDraft* out) {
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

  std::vector<Node*> all;  // what a draft's operands point to
};

// A node of its own for the arguments; null with an error set.
Node* make_parsed(Parsed& parsed, Flags flags) {
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

// Values made from this one count on its shape.
bool may_take_shape(const Node* node, const Shape& shape) {
  if (node->refs <= 1 || shape == shape_of(node)) return true;
  PyErr_SetString(PyExc_ValueError,
                  "cannot give another shape to a Value that other Values were made from. Make a new Value instead");
  return false;
}

// Gives a node these operands, and if `with_data` the data too; else it keeps what it holds. False with an error set.
bool rebind(Node* node, Parsed& parsed, bool with_data) {
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

// Gives the handle's node these operands, and the data too if that is asked for. A node that may not have them where it
// stands is replaced by a new one.
bool bind(ValueObject* self, Parsed& parsed, bool with_data) {
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
PyObject* construct(PyTypeObject* type, const Arguments& args) {
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
  Parsed parsed;
  if (!parsed.read(args)) return nullptr;
  Node* node = make_parsed(parsed, flags);
  return node ? set_label(show(node, type, parsed.tracked ? kTracked : 0), args.label) : nullptr;
}

}  // namespace

bool set_children(PyObject* self, PyObject* children) {
  Parsed parsed;
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
  Arguments arguments;
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
  Arguments arguments;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); ++i)
    if (!arguments.set_position(i, PyTuple_GET_ITEM(args, i))) return -1;
  PyObject *name, *item;
  Py_ssize_t position = 0;
  while (kwargs && PyDict_Next(kwargs, &position, &name, &item))
    if (!arguments.set_keyword(name, item)) return -1;
  if (!arguments.complete()) return -1;
  Parsed parsed;
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

namespace {

// One table of two, each ended by an empty entry, for ever.
template <typename Entry>
Entry* joined(const Entry* first, const Entry* second, const char* Entry::* name) {
  static std::vector<Entry> all;
  for (const Entry* table : {first, second})
    for (; table->*name; ++table) all.push_back(*table);
  all.push_back(Entry{});
  return all.data();
}

}  // namespace

PyObject* make_dialect(const char* name, bool float_grad) {
  if (dialect_count == kMaxDialects || std::strlen(name) >= sizeof dialect_names[0]) {
    PyErr_Format(PyExc_ValueError, "cannot make dialect '%s': at most %d dialects, with names under %zu characters",
                 name, kMaxDialects, sizeof dialect_names[0]);
    return nullptr;
  }
  char* own_name = dialect_names[dialect_count];
  std::strcpy(own_name, name);
  static PyMemberDef members[] = {
      {"__weaklistoffset__", T_PYSSIZET, offsetof(ValueObject, weakrefs), READONLY, nullptr},
      {"__dictoffset__", T_PYSSIZET, offsetof(ValueObject, dict), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr},
  };
  // Every dialect has the slots of its own, so that none pays for Python's generic deallocation of subclasses.
  std::vector<PyType_Slot> slots = {
      {Py_tp_dealloc, reinterpret_cast<void*>(value_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(value_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(value_clear)},
      {Py_tp_new, reinterpret_cast<void*>(value_new)},
      {Py_tp_init, reinterpret_cast<void*>(value_init)},
      {Py_tp_setattro, reinterpret_cast<void*>(value_setattro)},
      {Py_tp_repr, reinterpret_cast<void*>(value_repr)},
      {Py_tp_members, members},
      {Py_tp_doc, const_cast<char*>(
                      "Value(data, children=(), op='', label='', **names)\n--\n\n"
                      "One number in a computation, or an array of numbers, and how it came about.\n\n"
                      "data: a number, or an array of real numbers with at least one axis, which is copied as\n"
                      "float64. children: the Values it was computed from. op: the operation's name, or a\n"
                      "tuple of the derivatives by each child. label: a name for drawings. The arguments may also be\n"
                      "called _children, _op and local_grads.\n"
                      "TypeError where an argument is of another kind.")},
  };
  if (dialect_count == 0) {
    slots.push_back({Py_tp_getset, joined(value_getset, array_getset, &PyGetSetDef::name)});
    slots.push_back({Py_tp_methods, joined(value_methods, array_methods, &PyMethodDef::ml_name)});
    for (const PyType_Slot* table : {operator_slots, array_slots})
      for (; table->slot; ++table) slots.push_back(*table);
  }
  slots.push_back({0, nullptr});
  PyType_Spec spec = {own_name, sizeof(ValueObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                      slots.data()};
  auto* type = reinterpret_cast<PyTypeObject*>(
      PyType_FromSpecWithBases(&spec, dialect_count ? reinterpret_cast<PyObject*>(value_type()) : nullptr));
  if (!type || (dialect_count == 0 && !hide_array_protocols(type))) return nullptr;
  type->tp_vectorcall = value_vectorcall;
  // Plain instances own no reference to their type, which so must never look unused, whatever a program does with
  // __class__.
  Py_SET_REFCNT(reinterpret_cast<PyObject*>(type), Py_REFCNT(reinterpret_cast<PyObject*>(type)) + (1 << 28));
  dialect_float_grad[dialect_count] = float_grad;
  dialect_types[dialect_count++] = type;
  return Py_NewRef(reinterpret_cast<PyObject*>(type));
}

}  // namespace tapegrad::python
