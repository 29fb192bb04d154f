// operations.cpp: operations that recorded functions are made of beside those of Values: by name, and detach, select
// and linear, which are custom nodes to a graph.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "python/compiled/compile.hpp"
#include "python/compiled/program_class.hpp"
#include "python/value/numbers.hpp"

namespace tapegrad::python {

namespace {

// One node of a table operation over Values, whatever IEEE says of it.
py::object apply(const std::string& name, const py::sequence& operands) {
  for (int i = static_cast<int>(Op::powc) + 1; i < static_cast<int>(Op::count); ++i) {
    const Op op = static_cast<Op>(i);
    if (name != info(op).name) continue;
    const std::vector<Node*> nodes = nodes_of(operands);
    if (nodes.size() != kArity[i]) throw py::value_error(name + " takes " + std::to_string(kArity[i]) + " operands");
    Instruction instruction{static_cast<Code>(op), 0, 1};
    const double values[2] = {nodes[0]->data, nodes.back()->data};
    double z = evaluate({}, instruction, values);
    Flags either = 0;
    bool is_int = false;
    for (Node* n : nodes) either |= n->flags;
    switch (op) {
#define TAPEGRAD_BINARY(id, ...)                                                                                    \
  case Op::id:                                                                                                      \
    is_int = Rule<Op::id>::int_value(nodes[0]->flags & kDataInt, nodes[1]->flags & kDataInt, values[0], values[1]); \
    break;
#include "core/ops/ops.def"
      default:
        break;
    }
    Flags flags = inherited(nodes[0]->flags);
    if (is_int) flags |= int_flag(&z);
    Node* n = nodes.size() == 2 ? arena().make_binary(op, nodes[0], nodes[1], z, flags)
                                : arena().make_unary(op, nodes[0], z, flags);
    return steal(show(n, type_of(flags), either));
  }
  throw py::value_error("no operation '" + name + "'");
}

py::object custom(const char* label, const py::sequence& operands, double data, bool is_int) {
  const std::vector<Node*> nodes = nodes_of(operands);
  Flags flags = static_cast<Flags>(inherited(nodes[0]->flags) | (is_int ? kDataInt : 0)), either = 0;
  for (Node* n : nodes) either |= n->flags;
  return steal(show(arena().make_custom(nodes.data(), nodes.size(), nullptr, label_index(label), data, flags),
                    type_of(flags), either));
}

}  // namespace

PyObject* detached(PyObject* value) {
  try {
    const Node* n = node_of(value);
    return custom(kDetach, py::make_tuple(py::handle(value)), n->data, n->flags & kDataInt).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

void register_operations(py::module_& m) {
  m.def("apply", &apply, py::arg("name"), py::arg("operands"), "One node of a table operation, by name.");
  m.def(
      "detach",
      [](py::handle v) {
        Node* n = require_node(v);
        return custom(kDetach, py::make_tuple(v), n->data, n->flags & kDataInt);
      },
      py::arg("value"), "A node with the value's number, through which no gradient goes.");
  m.def(
      "select",
      [](py::handle c, py::handle a, py::handle b) {
        Node* chosen = require_node(c)->data != 0 ? require_node(a) : require_node(b);
        return custom(kSelect, py::make_tuple(c, a, b), chosen->data, chosen->flags & kDataInt);
      },
      py::arg("condition"), py::arg("a"), py::arg("b"), "A node that is a where the condition is not 0, else b.");
  m.def(
      "linear",
      [](const py::sequence& operands, py::handle data, const py::sequence& grads) {
        py::list all;
        for (py::handle h : operands) all.append(h);
        all.append(data);
        for (py::handle h : grads) all.append(h);
        return custom(kLinear, all, require_node(data)->data, false);
      },
      py::arg("operands"), py::arg("data"), py::arg("grads"),
      "A node with that number and those derivatives by its operands.");
  m.def(
      "peek",
      [](py::handle v) {
        Node* n = require_node(v);
        return steal(to_python(n->data, n->flags & kDataInt));
      },
      py::arg("value"), "The number of a Value, unnoticed by a recording.");
}

}  // namespace tapegrad::python
