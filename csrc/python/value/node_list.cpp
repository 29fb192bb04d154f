// node_list.cpp: which lists there are, and how Python's Values become handles of their nodes.
#include "python/value/node_list.hpp"

#include <string>

#include "core/graph/sweep.hpp"

namespace py = pybind11;

namespace tapegrad::python {

std::unordered_map<Node*, Member>& members() {
  static auto* map = new std::unordered_map<Node*, Member>();
  return *map;
}

NodeList::~NodeList() {
  for (Node* n : nodes_) {
    const auto found = members().find(n);
    if (found != members().end() && found->second.list == this) members().erase(found);
  }
  for (Node* n : nodes_) arena().let_go(n);
}

void NodeList::adopt(py::handle value, std::size_t i) {
  if (!is_value(value.ptr()) || i >= nodes_.size() || nodes_[i]->handle)
    throw py::value_error("damaged graph: node " + std::to_string(i) + " of " + std::to_string(nodes_.size()) +
                          " is missing or belongs to another Value already");
  ValueObject* self = as_value(value.ptr());
  Node* old = self->node;
  if (old->refs != 1) throw py::value_error("cannot restore a Value that other Values were already made from");
  const Flags carried = old->flags & (kPinned | kTracked | kHasRule);
  Node* node = nodes_[i];
  old->handle = nullptr;
  old->flags &= static_cast<Flags>(~carried);
  self->node = node;
  node->handle = self;
  ++node->refs;
  arena().drop(old);
  if (carried & kPinned) pin(self);
  bool tracked = carried & kTracked;
  for_each_operand(node, [&](Node* operand) { tracked |= (operand->flags & kTracked) != 0; });
  if (tracked) track(self);
  node->flags |= carried & kHasRule;
}

void require_value(py::handle value, const char* function) {
  if (!is_value(value.ptr()))
    throw py::type_error(std::string(function) + "() takes a Value, not " + Py_TYPE(value.ptr())->tp_name);
}

}  // namespace tapegrad::python
