// layers.cpp: neurons and layers in one call: the nodes that sum((w*x for w, x in zip(weights, inputs)), bias) makes, in that order.
#include "python/layers.hpp"

#include <vector>

#include "python/numbers.hpp"
#include "python/value.hpp"

namespace tapegrad::python {

namespace {

// An input: a Value's node, or a number that becomes a leaf wherever it is used.
struct Input {
  Node* node;
  Number number;
};

// Outcome of one step that can fail (error set) or find that it must be left to Python (no error).
enum class Outcome { done, leave, failed };

// Plain Values whose operators are the native ones, and that need no handles for the nodes in between.
bool is_simple(PyObject* o) {
  if (!is_plain(o) || (node_of(o)->flags & kTracked)) return false;
  const PyNumberMethods* slots = Py_TYPE(o)->tp_as_number;
  return slots->nb_add == value_add && slots->nb_multiply == value_multiply;
}

Outcome read_inputs(PyObject* x, std::vector<Input>* inputs) {
  PyObject* items = PySequence_Fast(x, "");
  if (!items) {
    PyErr_Format(PyExc_TypeError, "the input of a layer must be a sequence of numbers or Values, not %.200s: %R", Py_TYPE(x)->tp_name, x);
    return Outcome::failed;
  }
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
  inputs->reserve(static_cast<std::size_t>(count));
  Outcome outcome = Outcome::done;
  for (Py_ssize_t i = 0; i < count && outcome == Outcome::done; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items, i);
    Input input{};
    if (is_value(item)) {
      input.node = node_of(item);
      if (!is_simple(item)) outcome = Outcome::leave;
    } else {
      const int done = read_number(item, &input.number);
      if (done <= 0) outcome = done ? Outcome::failed : Outcome::leave;
    }
    inputs->push_back(input);
  }
  Py_DECREF(items);
  return outcome;
}

// Drops the node that a partial sum has grown into, or nothing.
struct Held {
  Node* node = nullptr;
  void replace(Node* next) {
    if (next) ++next->refs;
    if (node) arena().drop(node);
    node = next;
  }
  ~Held() { replace(nullptr); }
};

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
  for (Py_ssize_t i = 0; simple && i < count; ++i) simple = is_simple(PySequence_Fast_GET_ITEM(items, i));
  if (!simple) {
    Py_DECREF(items);
    return Outcome::leave;
  }
  Held sum;
  sum.replace(node_of(bias));
  bool memory = true;
  for (Py_ssize_t i = 0; memory && i < count; ++i) {
    Node* w = node_of(PySequence_Fast_GET_ITEM(items, i));
    const Input& input = inputs[static_cast<std::size_t>(i)];
    Held x, product;
    x.replace(input.node ? input.node : arena().make_constant(input.number.value, inherited(w->flags) | input.number.flags));
    product.replace(x.node ? combine<Op::mul>(w, x.node) : nullptr);
    sum.replace(product.node ? combine<Op::add>(sum.node, product.node) : nullptr);
    memory = sum.node != nullptr;
  }
  Py_DECREF(items);
  if (memory && act != Op::leaf) {
    double z;
    bool is_int;
    const Status status = evaluate_unary(act, sum.node->data, sum.node->flags & kDataInt, &z, &is_int);
    if (status != Status::ok) {
      raise_status(status, info(act).name, sum.node->data);
      return Outcome::failed;
    }
    Flags flags = inherited(sum.node->flags);
    if (is_int) flags |= int_flag(&z);
    sum.replace(arena().make_unary(act, sum.node, z, flags));
    memory = sum.node != nullptr;
  }
  *out = memory ? handle_of(sum.node) : PyErr_NoMemory();
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

PyObject* layer(PyObject* weights, PyObject* biases, PyObject* x, PyObject* activation) {
  PyObject* rows = PySequence_Fast(weights, "the weights of a layer must be a sequence with one sequence of Values a neuron");
  if (!rows) return nullptr;
  PyObject* offsets = PySequence_Fast(biases, "the biases of a layer must be a sequence of Values");
  if (!offsets) {
    Py_DECREF(rows);
    return nullptr;
  }
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(rows);
  PyObject* outs = nullptr;
  std::vector<Input> inputs;
  Op act = Op::leaf;
  Outcome outcome = Outcome::done;
  if (PySequence_Fast_GET_SIZE(offsets) != count) {
    PyErr_Format(PyExc_ValueError, "a layer needs as many biases as rows of weights, not %zd for %zd", PySequence_Fast_GET_SIZE(offsets),
                 count);
    outcome = Outcome::failed;
  } else if (count && !is_value(PySequence_Fast_GET_ITEM(offsets, 0))) {
    outcome = Outcome::leave;
  } else if (count && !read_activation(activation, PySequence_Fast_GET_ITEM(offsets, 0), &act)) {
    outcome = Outcome::failed;
  } else if (act == Op::free) {
    outcome = Outcome::leave;
  } else {
    outcome = read_inputs(x, &inputs);
  }
  if (outcome == Outcome::done) {
    outs = PyList_New(count);
    if (!outs) outcome = Outcome::failed;
  }
  for (Py_ssize_t i = 0; i < count && outcome == Outcome::done; ++i) {
    PyObject* out = nullptr;
    outcome = make_neuron(PySequence_Fast_GET_ITEM(rows, i), inputs, PySequence_Fast_GET_ITEM(offsets, i), act, &out);
    if (outcome == Outcome::done) PyList_SET_ITEM(outs, i, out);
  }
  Py_DECREF(rows);
  Py_DECREF(offsets);
  if (outcome == Outcome::done) return outs;
  Py_XDECREF(outs);
  if (outcome == Outcome::failed) return nullptr;
  Py_RETURN_NONE;
}

PyObject* neuron(PyObject* weights, PyObject* x, PyObject* bias, PyObject* activation) {
  PyObject* rows = PyTuple_Pack(1, weights);
  PyObject* biases = rows ? PyTuple_Pack(1, bias) : nullptr;
  PyObject* outs = biases ? layer(rows, biases, x, activation) : nullptr;
  Py_XDECREF(rows);
  Py_XDECREF(biases);
  if (!outs || outs == Py_None) return outs;
  PyObject* out = Py_NewRef(PyList_GET_ITEM(outs, 0));
  Py_DECREF(outs);
  return out;
}

}  // namespace tapegrad::python
