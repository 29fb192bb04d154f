// graphs.cpp: copies of single nodes, and what Python sees of exported and imported graphs.
#include "python/value/graphs.hpp"

#include <memory>

#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/tools/steal.hpp"
#include "python/value/node_list.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// A new node over the same operands, with the same data and grad, alone in a list.
std::unique_ptr<NodeList> clone(py::handle value) {
  require_value(value, "clone");
  if (refuse_while_recording("copying a Value")) throw py::error_already_set();
  Node* n = node_of(value.ptr());
  const Flags base = n->flags & (kSavedFlags | kDialectMask | kFloatGrad);
  Node* copy = nullptr;
  if (n->op == Op::leaf)
    copy = arena().make_leaf(n->data, base);
  else if (n->op == Op::array)
    copy = clone_array(n, base);
  else if (n->op == Op::custom)
    copy = arena().make_custom(n->operands->nodes(), n->operands->count,
                               n->operands->has_local_grads ? n->operands->local_grads() : nullptr, n->operands->label,
                               n->data, base);
  else if (n->op == Op::powc)
    copy = arena().make_powc(n->a, n->exponent, n->data, base);
  else if (kArity[static_cast<int>(n->op)] == 2)
    copy = arena().make_binary(n->op, n->a, n->b, n->data, base);
  else
    copy = arena().make_unary(n->op, n->a, n->data, base);
  if (!copy) throw NoNodes(arena());
  copy->grad = n->grad;
  auto list = std::make_unique<NodeList>();
  list->add(copy);
  return list;
}

// What `_op` says unless the program has assigned it; and the backward rule that it has assigned, or None.
py::object native_op(py::handle value) {
  require_value(value, "native_op");
  return steal(op_label(node_of(value.ptr())));
}

py::object assigned_rule(py::handle value) {
  require_value(value, "assigned_rule");
  PyObject* rule = as_value(value.ptr())->rule;
  return py::reinterpret_borrow<py::object>(rule ? rule : Py_None);
}

}  // namespace

void register_graphs(py::module_& m) {
  py::class_<NodeList>(m, "NodeList", "Nodes of an exported or imported graph, kept alive together.")
      .def("__len__", &NodeList::size)
      .def("adopt", &NodeList::adopt, py::arg("value"), py::arg("index"),
           "Makes a fresh Value the handle of the node at index.");
  m.def("list_nodes", &list_nodes, py::arg("root"), py::arg("owner"),
        "Sets owner._nodes to the NodeList of the graph below root, operands first, and lets find_exported() give the "
        "owner.");
  m.def("export_nodes", &export_nodes, py::arg("nodes"),
        "(arrays, external Values, Values with attributes) of the nodes as they are now.");
  m.def("find_exported", &find_exported, py::arg("value"), "(owner, index) of a node being exported, or None.");
  m.def("import_graph", &import_graph, py::arg("arrays"), py::arg("externals"),
        "Builds the nodes of an exported graph.");
  m.def("clone", &clone, py::arg("value"),
        "A node with the same data, grad, operation and operands, alone in a NodeList.");
  m.def("hold_array", &hold_array, py::arg("value"), py::arg("data"),
        "Makes a fresh Value a leaf that holds the array.");
  m.def("native_op", &native_op, py::arg("value"), "The label of the operation that made the node.");
  m.def("assigned_rule", &assigned_rule, py::arg("value"), "The _backward that the program assigned, or None.");
}

}  // namespace tapegrad::python
