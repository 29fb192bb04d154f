// layers.cpp: neurons and layers in one call: the nodes that sum((w*x for w, x in zip(weights, inputs)), bias) makes,
// in that order; over arrays one node for the whole sum.
#include "python/value/layers.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/value/numbers.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

namespace {

// An input: a Value (borrowed), a number that becomes a leaf wherever it is used, or with kArray in its flags an array
// in the tuple that the inputs come from, which becomes one leaf.
struct Input {
  PyObject* value;
  Number number;
};

// What decides how a row of weights is computed, and whether it may be computed here.
struct Plan {
  PyObject* kept = nullptr;  // a tuple of what the inputs are or belong to
  std::vector<Input> inputs;
  bool arrays = false;       // some input is an array
  std::vector<Held> leaves;  // where there are arrays: those that became leaves, by input
  Op act = Op::leaf;
  PyTypeObject* checked = nullptr;  // the type for which `act` has been looked up

  ~Plan() { Py_XDECREF(kept); }
};

// Outcome of one step that can fail (error set) or find that it must be left to Python (no error).
enum class Outcome { done, leave, failed };

// Plain Values whose operators are the native ones, and that need no handles for the nodes in between; with an array or
// with a number.
bool is_simple(PyObject* o, Flags array = 0) {
  if (!is_plain(o) || (node_of(o)->flags & (kTracked | kArray)) != array) return false;
  const PyNumberMethods* slots = Py_TYPE(o)->tp_as_number;
  return slots->nb_add == value_add && slots->nb_multiply == value_multiply;
}

// Reads the inputs into a plan. They are copied first: reading numbers may run code that changes x.
Outcome read_inputs(PyObject* x, Plan* plan) {
  PyObject* items = plan->kept = PySequence_Tuple(x);
  if (!items) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) && !Py_TYPE(x)->tp_iter)
      PyErr_Format(PyExc_TypeError, "the input of a layer must be a sequence of numbers or Values, not %.200s: %R",
                   Py_TYPE(x)->tp_name, x);
    return Outcome::failed;
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(items);
  plan->inputs.reserve(static_cast<std::size_t>(count));
  Outcome outcome = Outcome::done;
  for (Py_ssize_t i = 0; i < count && outcome == Outcome::done; ++i) {
    PyObject* item = PyTuple_GET_ITEM(items, i);
    Input input{};
    if (is_value(item)) {
      input.value = item;
      const Flags array = node_of(item)->flags & kArray;
      if (!is_simple(item, array)) outcome = Outcome::leave;
      plan->arrays |= array != 0;
    } else {
      const int done = read_number(item, &input.number);
      if (done < 0) outcome = Outcome::failed;
      if (done == 0 && !is_numeric_array(item)) outcome = Outcome::leave;
      if (done == 0) {
        input.number.flags = kArray;
        plan->arrays = true;
      }
    }
    plan->inputs.push_back(input);
  }
  if (plan->arrays) plan->leaves.resize(static_cast<std::size_t>(count));
  return outcome;
}

template <Op op>
Node* combine(Node* a, Node* b) {
  double z = Rule<op>::value(a->data, b->data);
  Flags flags = inherited(a->flags);
  if ((a->flags | b->flags) & kDataInt)
    if (Rule<op>::int_value(a->flags & kDataInt, b->flags & kDataInt, a->data, b->data)) flags |= int_flag(&z);
  return arena().make_binary(op, a, b, z, flags);
}

Outcome make_neuron(PyObject* weights, const std::vector<Input>& inputs, PyObject* bias, Op act, PyObject** out) {
  PyObject* items = PySequence_Fast(weights, "the weights of a neuron must be a sequence of Values");
  if (!items) return Outcome::failed;
  Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
  if (count > static_cast<Py_ssize_t>(inputs.size())) count = static_cast<Py_ssize_t>(inputs.size());
  bool simple = is_value(bias) && is_simple(bias);
  for (Py_ssize_t i = 0; simple && i < count; ++i) {
    PyObject* w = PySequence_Fast_GET_ITEM(items, i);
    simple = Py_TYPE(w) == Py_TYPE(bias) ? !(node_of(w)->flags & (kTracked | kArray)) : is_value(w) && is_simple(w);
  }
  if (!simple) {
    Py_DECREF(items);
    return Outcome::leave;
  }
  // Fresh nodes have no count of their own yet: each is held by its consumer as soon as there is one.
  Node* const start = node_of(bias);
  Node* sum = start;
  PyObject** rows = PySequence_Fast_ITEMS(items);
  for (Py_ssize_t i = 0; i < count; ++i) {
    Node* w = node_of(rows[i]);
    const Input& input = inputs[static_cast<std::size_t>(i)];
    Node* x = input.value ? node_of(input.value) : nullptr;
    if (!x) x = arena().make_constant(input.number.value, inherited(w->flags) | input.number.flags);
    Node* product = x ? combine<Op::mul>(w, x) : nullptr;
    if (!product && x && !input.value) discard(x);
    Node* next = product ? combine<Op::add>(sum, product) : nullptr;
    if (!next) {
      if (product) discard(product);
      if (sum != start) discard(sum);
      Py_DECREF(items);
      no_node();
      return Outcome::failed;
    }
    sum = next;
  }
  Py_DECREF(items);
  if (act != Op::leaf) {
    double z;
    bool is_int;
    Node* out_node = nullptr;
    const Status status = evaluate_unary(act, sum->data, sum->flags & kDataInt, &z, &is_int);
    if (status == Status::ok || observer()) {
      Flags flags = inherited(sum->flags);
      if (is_int) flags |= int_flag(&z);
      out_node = arena().make_unary(act, sum, z, flags);
      if (!out_node) no_node();
    } else {
      raise_status(status, info(act).name, sum->data);
    }
    if (!out_node) {
      if (sum != start) discard(sum);
      return Outcome::failed;
    }
    sum = out_node;
  }
  *out = sum == start ? Py_NewRef(bias) : show(sum, type_of(sum->flags), 0);
  return *out ? Outcome::done : Outcome::failed;
}

// The same where an input is an array: one node for b + w0*x0 + w1*x1 + ..., and one for the activation. Left to
// Python, and to broadcasting, where the weights are arrays too or the inputs differ in shape.
Outcome make_array_neuron(PyObject* weights, Plan* plan, PyObject* bias, Op act, PyObject** out) {
  PyObject* items = PySequence_Fast(weights, "the weights of a neuron must be a sequence of Values");
  if (!items) return Outcome::failed;
  const std::size_t count = std::min(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items)), plan->inputs.size());
  std::vector<Node*> operands;
  std::vector<Held> constants;
  operands.reserve(1 + 2 * count);
  bool simple = is_value(bias) && is_simple(bias), memory = true;
  if (simple) operands.push_back(node_of(bias));
  for (std::size_t i = 0; simple && memory && i < count; ++i) {
    PyObject* w = PySequence_Fast_GET_ITEM(items, static_cast<Py_ssize_t>(i));
    simple = is_value(w) && is_simple(w);
    if (!simple) break;
    operands.push_back(node_of(w));
    const Input& input = plan->inputs[i];
    const Flags flags = inherited(node_of(w)->flags);
    if (input.value) {
      operands.push_back(node_of(input.value));
      continue;
    }
    if (input.number.flags & kArray) {
      Held& leaf = plan->leaves[i];
      if (!leaf) leaf = Held(make_array_leaf(PyTuple_GET_ITEM(plan->kept, static_cast<Py_ssize_t>(i)), flags));
      operands.push_back(leaf.get());
    } else {
      constants.push_back(Held(arena().make_constant(input.number.value, flags | input.number.flags)));
      operands.push_back(constants.back().get());
    }
    memory = operands.back() != nullptr;
  }
  Outcome outcome = simple ? Outcome::done : Outcome::leave;
  if (!memory && !PyErr_Occurred()) no_node();
  if (!memory) outcome = Outcome::failed;
  ArrayDraft draft;
  draft.op = ArrayOp::affine;
  draft.operands = operands.data();
  draft.count = operands.size();
  if (outcome == Outcome::done && draft.settle()) outcome = Outcome::leave;
  if (outcome == Outcome::done) {
    const Flags flags = inherited(operands[0]->flags);
    PyTypeObject* type = Py_TYPE(bias);
    const Held sum(make_node(draft, flags, "affine"));
    Node* last = sum && act != Op::leaf ? make_lanes(act, sum.get(), nullptr, 0.0, flags) : sum.get();
    *out = last ? show(last, type, 0) : nullptr;
    if (!*out) outcome = Outcome::failed;
  }
  Py_DECREF(items);
  return outcome;
}

// The activation's operation: leaf for none, free if Python has to do it because the method was replaced.
bool read_activation(PyObject* name, PyObject* sample, Op* act) {
  if (!PyUnicode_Check(name)) {
    PyErr_Format(PyExc_TypeError, "the activation must be a string, not %.200s: %R", Py_TYPE(name)->tp_name, name);
    return false;
  }
  *act = Op::leaf;
  if (PyUnicode_GET_LENGTH(name) == 0) return true;
  const char* text = PyUnicode_AsUTF8(name);
  if (!text) return false;
  *act = find_unary(text);
  if (*act == Op::free) {
    PyErr_Format(PyExc_ValueError,
                 "unknown activation %R; give the name of a Value method such as 'tanh' or 'relu', or ''", name);
    return false;
  }
  PyObject* method = PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(sample)), name);
  if (!method) return false;
  if (method != native_method(*act)) *act = Op::free;
  Py_DECREF(method);
  return true;
}

// act(bias + w . x) as a new reference in *out. `activation` is a str; the lookup is kept from row to row.
Outcome make_row(Plan* plan, PyObject* weights, PyObject* bias, PyObject* activation, bool active, PyObject** out) {
  if (!is_value(bias)) return Outcome::leave;
  if (plan->checked != Py_TYPE(bias)) {
    if (!read_activation(activation, bias, &plan->act)) return Outcome::failed;
    plan->checked = Py_TYPE(bias);
  }
  if (plan->act == Op::free) return Outcome::leave;
  const Op act = active ? plan->act : Op::leaf;
  return plan->arrays ? make_array_neuron(weights, plan, bias, act, out)
                      : make_neuron(weights, plan->inputs, bias, act, out);
}

// The result of an outcome: `value` (stolen), None for what is left to Python, null for an error.
PyObject* conclude(Outcome outcome, PyObject* value) {
  if (outcome == Outcome::done) return value;
  Py_XDECREF(value);
  if (outcome == Outcome::failed) return nullptr;
  Py_RETURN_NONE;
}

bool expect(const char* name, Py_ssize_t given, Py_ssize_t wanted) {
  if (given == wanted) return true;
  PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, %zd given", name, wanted, given);
  return false;
}

PyObject *str_w, *str_b;

// One row of a layer: reads the neuron's w and b, and its flag if there is one.
Outcome neuron_row(Plan* plan, PyObject* neuron, PyObject* activation, PyObject* flag, PyObject** out) {
  PyObject* weights = PyObject_GetAttr(neuron, str_w);
  PyObject* bias = weights ? PyObject_GetAttr(neuron, str_b) : nullptr;
  PyObject* active = bias && flag != Py_None ? PyObject_GetAttr(neuron, flag) : nullptr;
  Outcome outcome = Outcome::failed;
  if (bias && (active || flag == Py_None)) {
    const int on = active ? PyObject_IsTrue(active) : 1;
    if (on >= 0) outcome = make_row(plan, weights, bias, activation, on, out);
  }
  Py_XDECREF(active);
  Py_XDECREF(bias);
  Py_XDECREF(weights);
  return outcome;
}

}  // namespace

PyObject* neuron(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (!expect("neuron", nargs, 4)) return nullptr;
  Plan plan;
  PyObject* out = nullptr;
  Outcome outcome = read_inputs(args[1], &plan);
  if (outcome == Outcome::done) outcome = make_row(&plan, args[0], args[2], args[3], true, &out);
  return conclude(outcome, out);
}

PyObject* layer(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  if (!expect("layer", nargs, 5)) return nullptr;
  PyObject *cls = args[2], *activation = args[3], *flag = args[4];
  if (!str_w) str_w = PyUnicode_InternFromString("w");
  if (!str_b) str_b = PyUnicode_InternFromString("b");
  if (!str_w || !str_b) return nullptr;
  PyObject* neurons = PySequence_Tuple(args[0]);  // a copy: looking at attributes may run code that changes the list
  if (!neurons) return nullptr;
  const Py_ssize_t count = PyTuple_GET_SIZE(neurons);
  Plan plan;
  Outcome outcome = read_inputs(args[1], &plan);
  PyObject* outs = outcome == Outcome::done ? PyList_New(count) : nullptr;
  if (outcome == Outcome::done && !outs) outcome = Outcome::failed;
  for (Py_ssize_t i = 0; i < count && outcome == Outcome::done; ++i) {
    PyObject* one = PyTuple_GET_ITEM(neurons, i);
    PyObject* out = nullptr;
    outcome = reinterpret_cast<PyObject*>(Py_TYPE(one)) == cls ? neuron_row(&plan, one, activation, flag, &out)
                                                               : Outcome::leave;
    if (outcome == Outcome::done) PyList_SET_ITEM(outs, i, out);
  }
  Py_DECREF(neurons);
  return conclude(outcome, outs);
}

}  // namespace tapegrad::python
