// operand_attributes.cpp: what a Value shows of how it was made: its operands, the operation, the partial derivatives
// and the rule of backward(); and what a program puts in their place.
#include <vector>

#include "core/graph/sweep.hpp"
#include "python/compiled/observe.hpp"
#include "python/value/attributes.hpp"

namespace tapegrad::python {

namespace {

PyObject *str_op, *str_prev;

// A new reference to the operand's handle, which from now on lives as its node does, so that its id() stays its own.
PyObject* operand_handle(Node* operand) {
  PyObject* h = handle_of(operand);
  if (h) pin(as_value(h));
  return h;
}

PyObject* apply_native_rule(PyObject* self, PyObject*) {
  if (refuse_while_recording("_backward()")) return nullptr;
  if (!apply_rule(node_of(self), &arena())) return PyErr_NoMemory();
  Py_RETURN_NONE;
}

PyMethodDef native_rule = {"_backward", apply_native_rule, METH_NOARGS,
                           "Adds this node's grad times its partial derivatives into the grads of its operands."};

}  // namespace

bool init_operand_attributes() {
  str_op = PyUnicode_InternFromString("_op");
  str_prev = PyUnicode_InternFromString("_prev");
  return str_op && str_prev;
}

PyObject* get_children(PyObject* self, void*) {
  std::vector<Node*> operands;
  for_each_operand(node_of(self), [&](Node* n) { operands.push_back(n); });
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(operands.size()));
  if (!tuple) return nullptr;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    PyObject* h = operand_handle(operands[i]);
    if (!h) {
      Py_DECREF(tuple);
      return nullptr;
    }
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), h);
  }
  return tuple;
}

// The same set object each time, as an attribute would be, so that a program may pop from it. A leaf has nothing to
// pop.
PyObject* get_prev(PyObject* self, void*) {
  PyObject* cached = stored_attribute(self, str_prev);
  if (cached || PyErr_Occurred()) return Py_XNewRef(cached);
  PyObject* children = get_children(self, nullptr);
  if (!children) return nullptr;
  PyObject* set = PySet_New(children);
  const bool leaf = PyTuple_GET_SIZE(children) == 0;
  Py_DECREF(children);
  if (set && !leaf && store_attribute(self, str_prev, set) < 0) Py_CLEAR(set);
  return set;
}

// Replaces the operands: for nodes that a program puts together by hand.
int set_prev(PyObject* self, PyObject* value, void*) {
  if (!value) return refuse_delete("_prev");
  if (refuse_while_recording("assigning the operands of a Value")) return -1;
  if (!set_children(self, value)) return -1;
  // A set is kept as it is: the program may go on adding to the one it holds, and expects to find it here.
  return PyAnySet_Check(value) ? store_attribute(self, str_prev, value) : 0;
}

PyObject* get_op(PyObject* self, void*) {
  PyObject* assigned = stored_attribute(self, str_op);
  if (assigned || PyErr_Occurred()) return Py_XNewRef(assigned);
  return op_label(node_of(self));
}

int set_op(PyObject* self, PyObject* value, void*) {
  if (!value) return refuse_delete("_op");
  return store_attribute(self, str_op, value);
}

PyObject* get_local_grads(PyObject* self, void*) {
  if (refuse_while_recording("reading the local gradients of a Value")) return nullptr;
  const Node* n = node_of(self);
  if (n->op == Op::array) {
    PyErr_SetString(PyExc_AttributeError, "a Value that holds an array, or comes from one, has no _local_grads");
    return nullptr;
  }
  std::vector<double> partials;
  int i = 0;
  for_each_operand(node_of(self), [&](Node*) { partials.push_back(partial(*n, i++)); });
  PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(partials.size()));
  if (!tuple) return nullptr;
  for (std::size_t k = 0; k < partials.size(); ++k) {
    PyObject* number = PyFloat_FromDouble(partials[k]);
    if (!number) {
      Py_DECREF(tuple);
      return nullptr;
    }
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(k), number);
  }
  return tuple;
}

PyObject* get_backward(PyObject* self, void*) {
  PyObject* rule = as_value(self)->rule;
  return rule ? Py_NewRef(rule) : PyCFunction_New(&native_rule, self);
}

int set_backward(PyObject* self, PyObject* rule, void*) {
  ValueObject* v = as_value(self);
  if (rule && !PyCallable_Check(rule)) {
    PyErr_Format(PyExc_TypeError, "_backward must be callable without arguments, not %.200s: %R",
                 Py_TYPE(rule)->tp_name, rule);
    return -1;
  }
  if (rule) {
    track(v);
    v->node->flags |= kHasRule;
  } else {
    v->node->flags &= static_cast<Flags>(~kHasRule);
  }
  PyObject* old = v->rule;
  v->rule = Py_XNewRef(rule);
  Py_XDECREF(old);
  return 0;
}

}  // namespace tapegrad::python
