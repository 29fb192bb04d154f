// node_list.hpp: nodes that live as long as a graph is being exported, imported or copied.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <unordered_map>
#include <utility>
#include <vector>

#include "python/arrays/arrays.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

inline constexpr Flags kSavedFlags = kDataInt | kGradInt | kExponentInt;

class NodeList;
struct Member {
  NodeList* list;
  std::size_t index;
};
// Which exported list a node is in, so that several Values of one pickle share their graph.
std::unordered_map<Node*, Member>& members();

// Nodes kept alive together: those of an exported graph, for as long as it is being written, or of an imported one.
class NodeList {
 public:
  NodeList() = default;
  NodeList(const NodeList&) = delete;
  NodeList& operator=(const NodeList&) = delete;
  ~NodeList();

  void add(Node* n) {
    if (!Arena::may_hold(n)) throw NoNodes(arena());
    nodes_.push_back(n);
    arena().hold(n);
  }

  // Like add, for lists whose members are to be found by find_exported().
  void add_exported(Node* n) {
    members()[n] = {this, nodes_.size()};
    add(n);
  }

  std::size_t size() const { return nodes_.size(); }
  Node* operator[](std::size_t i) const { return nodes_[i]; }

  // What Python calls the list: the Graph it belongs to, while that is alive.
  void set_owner(pybind11::weakref owner) { owner_ = std::move(owner); }
  pybind11::object owner() const { return owner_ ? owner_() : pybind11::none(); }

  // Makes `value`, fresh from __new__, the handle of node i.
  void adopt(pybind11::handle value, std::size_t i);

 private:
  std::vector<Node*> nodes_;
  pybind11::object owner_;
};

// TypeError, thrown, for anything but a Value.
void require_value(pybind11::handle value, const char* function);

}  // namespace tapegrad::python
