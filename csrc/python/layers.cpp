// layers.cpp: neurons and layers in one call: the nodes that sum((w*x for w, x in zip(weights, inputs)), bias) makes, in that order.
#include "python/layers.hpp"

#include <vector>

#include "python/numbers.hpp"
#include "python/value.hpp"

namespace tapegrad::python {

namespace {

// An input: a Value (borrowed), or a number that becomes a leaf wherever it is used.
struct Input {
  PyObject* value;
  Number number;
};

// Outcome of one step that can fail (error set) or find that it must be left to Python (no error).
enum class Outcome { done, leave, failed };

// Plain Values whose operators are the native ones, and that need no handles for the nodes in between.
bool is_simple(PyObject* o) {
  if (!is_plain(o) || (node_of(o)->flags & (kTracked | kArray))) return false;
  const PyNumberMethods* slots = Py_TYPE(o)->tp_as_number;
  return slots->nb_add == value_add && slots->nb_multiply == value_multiply;
}

// Reads into `inputs` what the tuple *kept, which the caller is to release, keeps alive. A copy: reading numbers may run code that
// changes x.
Outcome read_inputs(PyObject* x, PyObject** kept, std::vector<Input>* inputs) {
  PyObject* items = *kept = PySequence_Tuple(x);
  if (!items) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) && !Py_TYPE(x)->tp_iter)
      PyErr_Format(PyExc_TypeError, "the input of a layer must be a sequence of numbers or Values, not %.200s: %R", Py_TYPE(x)->tp_name, x);
    return Outcome::failed;
  }
  const Py_ssize_t count = PyTuple_GET_SIZE(items);
  inputs->reserve(static_cast<std::size_t>(count));
  Outcome outcome = Outcome::done;
  for (Py_ssize_t i = 0; i < count && outcome == Outcome::done; ++i) {
    PyObject* item = PyTuple_GET_ITEM(items, i);
    Input input{};
    if (is_value(item)) {
      input.value = item;
      if (!is_simple(item)) outcome = Outcome::leave;
    } else {
      const int done = read_number(item, &input.number);
      if (done <= 0) outcome = done ? Outcome::failed : Outcome::leave;
    }
    inputs->push_back(input);
  }
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
      PyErr_NoMemory();
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
    if (status == Status::ok) {
      Flags flags = inherited(sum->flags);
      if (is_int) flags |= int_flag(&z);
      out_node = arena().make_unary(act, sum, z, flags);
      if (!out_node) PyErr_NoMemory();
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
    PyErr_Format(PyExc_ValueError, "unknown activation %R; give the name of a Value method such as 'tanh' or 'relu', or ''", name);
    return false;
  }
  PyObject* method = PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(sample)), name);
  if (!method) return false;
  if (method != native_method(*act)) *act = Op::free;
  Py_DECREF(method);
  return true;
}

}  // namespace

namespace {

// What decides how a row of weights is computed, and whether it may be computed here.
struct Plan {
  PyObject* kept = nullptr;  // what the inputs belong to
  std::vector<Input> inputs;
  Op act = Op::leaf;
  PyTypeObject* checked = nullptr;  // the type for which `act` has been looked up

  ~Plan() { Py_XDECREF(kept); }
};

// act(bias + w . x) as a new reference in *out. `activation` is a str; the lookup is kept from row to row.
Outcome make_row(Plan* plan, PyObject* weights, PyObject* bias, PyObject* activation, bool active, PyObject** out) {
  if (!is_value(bias)) return Outcome::leave;
  if (plan->checked != Py_TYPE(bias)) {
    if (!read_activation(activation, bias, &plan->act)) return Outcome::failed;
    plan->checked = Py_TYPE(bias);
  }
  if (plan->act == Op::free) return Outcome::leave;
  return make_neuron(weights, plan->inputs, bias, active ? plan->act : Op::leaf, out);
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
  Outcome outcome = read_inputs(args[1], &plan.kept, &plan.inputs);
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
  Outcome outcome = read_inputs(args[1], &plan.kept, &plan.inputs);
  PyObject* outs = outcome == Outcome::done ? PyList_New(count) : nullptr;
  if (outcome == Outcome::done && !outs) outcome = Outcome::failed;
  for (Py_ssize_t i = 0; i < count && outcome == Outcome::done; ++i) {
    PyObject* one = PyTuple_GET_ITEM(neurons, i);
    PyObject* out = nullptr;
    outcome = reinterpret_cast<PyObject*>(Py_TYPE(one)) == cls ? neuron_row(&plan, one, activation, flag, &out) : Outcome::leave;
    if (outcome == Outcome::done) PyList_SET_ITEM(outs, i, out);
  }
  Py_DECREF(neurons);
  return conclude(outcome, outs);
}

}  // namespace tapegrad::python
