// gradients.cpp: zero_grad, detach, the gradients that leave .grad alone, and the sweep under detect_anomaly.
#include "python/tools/gradients.hpp"

#include <algorithm>
#include <new>
#include <unordered_set>
#include <vector>

#include "core/graph/sweep.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/compile.hpp"
#include "python/compiled/observe.hpp"
#include "python/tools/modes.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

constexpr Flags kFloatFlags = static_cast<Flags>(~kGradInt);

// The nodes of a graph, kept alive while Python code may run.
class HeldGraph {
 public:
  explicit HeldGraph(Node* root) : nodes_(collect(root, true)) {
    for (Node* n : nodes_) arena().hold(n);
  }
  ~HeldGraph() {
    for (Node* n : nodes_) arena().let_go(n);
  }
  HeldGraph(const HeldGraph&) = delete;
  HeldGraph& operator=(const HeldGraph&) = delete;
  const std::vector<Node*>& nodes() const { return nodes_; }

 private:
  std::vector<Node*> nodes_;
};

// Puts the gradients of a graph aside, zeros in their place, and brings them back at the end.
class GradientsAside {
 public:
  explicit GradientsAside(const std::vector<Node*>& nodes) : nodes_(nodes) {
    kept_.reserve(nodes.size());
    for (Node* n : nodes) {
      Array* array = array_of(n);
      kept_.push_back({n->grad, array ? array->grad : nullptr, (n->flags & kGradInt) != 0});
      n->grad = 0.0;
      n->flags = static_cast<Flags>((n->flags & kFloatFlags) | ((n->flags & kFloatGrad) ? 0 : kGradInt));
      if (array) array->grad = nullptr;
    }
  }
  ~GradientsAside() {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      Node* n = nodes_[i];
      n->grad = kept_[i].number;
      n->flags = static_cast<Flags>((n->flags & kFloatFlags) | (kept_[i].is_int ? kGradInt : 0));
      Array* array = array_of(n);
      if (array) {
        release(array->grad);
        array->grad = kept_[i].array;
      } else {
        release(kept_[i].array);  // a rule made it a number
      }
    }
  }
  GradientsAside(const GradientsAside&) = delete;
  GradientsAside& operator=(const GradientsAside&) = delete;

 private:
  struct Kept {
    double number;
    Buffer* array;
    bool is_int;
  };
  const std::vector<Node*>& nodes_;
  std::vector<Kept> kept_;
};

// The gradients of root by the inputs as they come out of one sweep; None for inputs that it does not depend on. The
// gradients that nodes hold stay as they are.
py::list gradients(py::handle root, const py::sequence& inputs, py::handle gradient) {
  if (!is_value(root.ptr())) throw py::type_error("grad() takes a Value, not " + py::cast<std::string>(py::repr(root)));
  std::vector<Node*> wanted;
  for (py::handle h : inputs) {
    if (!is_value(h.ptr()))
      throw py::type_error("grad() takes gradients by Values, not by " + py::cast<std::string>(py::repr(h)));
    wanted.push_back(node_of(h.ptr()));
  }
  if (refuse_while_recording("grad()")) throw py::error_already_set();
  settle_tracking();
  const HeldGraph graph(node_of(root.ptr()));
  const GradientsAside kept(graph.nodes());
  PyObject* arguments[] = {gradient.ptr()};
  PyObject* done = value_backward(root.ptr(), arguments, 1, nullptr);
  if (!done) throw py::error_already_set();
  Py_DECREF(done);
  std::unordered_set<const Node*> asked(wanted.begin(), wanted.end()), reached;
  for (const Node* n : graph.nodes())
    if (asked.count(n)) reached.insert(n);
  py::list out;
  for (Node* n : wanted) {
    if (!reached.count(n)) {
      out.append(py::none());
      continue;
    }
    PyObject* found = n->flags & kArray ? grad_view(n) : to_python(n->grad, n->flags & kGradInt);
    if (!found) throw py::error_already_set();
    out.append(py::reinterpret_steal<py::object>(found));
  }
  return out;
}

}  // namespace

bool call_rule(Node* node) {
  PyObject* rule = as_value(static_cast<PyObject*>(node->handle))->rule;
  Py_INCREF(rule);  // it may replace itself
  PyObject* result = PyObject_CallNoArgs(rule);
  Py_DECREF(rule);
  Py_XDECREF(result);
  return result != nullptr;
}

bool checked_sweep(Node* root) {
  try {
    const HeldGraph graph(root);
    std::vector<Kind> before;
    for (Node* n : graph.nodes()) {
      if (is_leaf(n)) continue;
      const Kind own = gradient_kind(n);
      before.clear();
      for_each_operand(n, [&](Node* operand) { before.push_back(std::max(own, gradient_kind(operand))); });
      if (n->flags & kHasRule) {
        if (!call_rule(n)) return false;
      } else if (!apply_rule(n)) {
        PyErr_NoMemory();
        return false;
      }
      std::uint32_t i = 0, worse = ~0u;
      for_each_operand(n, [&](Node* operand) {
        if (i < before.size() && gradient_kind(operand) > before[i] && worse == ~0u) worse = i;
        ++i;
      });
      if (worse == ~0u) continue;
      raise_backward_anomaly(n, worse);
      return false;
    }
    return true;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
}

PyObject* value_zero_grad(PyObject* self, PyObject*) {
  if (refuse_while_recording("zero_grad()")) return nullptr;
  zero_gradients(node_of(self));
  Py_RETURN_NONE;
}

PyObject* value_detach(PyObject* self, PyObject*) {
  if (observer()) return detached(self);
  Node* node = node_of(self);
  PyTypeObject* type = type_of(node->flags);
  const Flags flags = inherited(node->flags) | (node->flags & kDataInt);
  if (!(node->flags & kArray)) return show(arena().make_leaf(node->data, flags), type, 0);
  ArrayDraft draft;
  draft.shape = shape_of(node);
  Buffer* data = make_buffer(node->array->size);
  if (!data) return PyErr_NoMemory();
  std::copy_n(node->array->data->values(), node->array->size, data->values());
  Node* leaf = make_array_node(arena(), draft, flags, data);
  if (!leaf) release(data);
  return show(leaf, type, 0);
}

void register_gradients(py::module_& m) {
  m.def("gradients", &gradients, py::arg("root"), py::arg("inputs"), py::arg("gradient"),
        "The gradients of root by each of the inputs, None where it does not depend on one; .grad is left alone.");
}

}  // namespace tapegrad::python
