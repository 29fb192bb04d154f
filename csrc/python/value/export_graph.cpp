// export_graph.cpp: a graph as flat arrays. They name operations, so that they can outlive this version's op codes.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <unordered_map>
#include <vector>

#include "core/graph/sweep.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/tools/steal.hpp"
#include "python/value/graphs.hpp"
#include "python/value/node_list.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// The operands, and of a custom array node the local gradients, which are nodes too.
template <typename Each>
void for_each_held(Node* n, Each each) {
  for_each_operand(n, each);
  if (n->op != Op::array) return;
  for (std::uint32_t k = n->array->count; k < n->array->held(); ++k) each(n->array->operands()[k]);
}

bool is_member(Node* n) {
  const auto found = members().find(n);
  return found != members().end() && !found->second.list->owner().is_none();
}

// A leaf that a variable holds is written as a Value of its own; others are constants of the graph.
bool is_variable(const Node* n) {
  return is_leaf(n) && n->handle;
}

}  // namespace

// Sets owner._nodes to the nodes below root in an order in which operands come first, but for variables and for nodes
// of graphs already exported. All in one go: another thread that looks for a node finds either nothing or an owner that
// is complete.
void list_nodes(py::handle root, py::object owner) {
  require_value(root, "list_nodes");
  if (refuse_while_recording("copying or pickling a Value")) throw py::error_already_set();
  const std::vector<Node*> newest_first = collect(node_of(root.ptr()), false);
  auto* list = new NodeList();
  py::object shown = py::cast(list, py::return_value_policy::take_ownership);
  list->set_owner(py::weakref(owner));
  for (std::size_t i = newest_first.size(); i-- > 0;) {
    Node* n = newest_first[i];
    if (is_member(n)) continue;
    for_each_held(n, [&](Node* operand) {
      if (is_leaf(operand) && !is_variable(operand) && !is_member(operand)) list->add_exported(operand);
    });
    list->add_exported(n);
  }
  py::setattr(owner, "_nodes", shown);
}

// (arrays, external Values, Values that carry something) of the listed nodes as they are now.
py::tuple export_nodes(const NodeList& list) {
  std::unordered_map<Node*, std::int64_t> index;
  index.reserve(list.size());
  std::vector<std::uint8_t> codes, dialects;
  std::vector<double> data, grad, numbers;
  std::vector<std::uint16_t> flags;
  std::vector<std::int64_t> operands;
  std::vector<std::uint32_t> counts;
  py::list labels, externals, heavy, types, array_nodes;
  int type_codes[kMaxDialects];
  std::fill(std::begin(type_codes), std::end(type_codes), -1);

  for (std::size_t i = 0; i < list.size(); ++i) {
    Node* n = list[i];
    for_each_held(n, [&](Node* operand) {
      const auto known = index.find(operand);
      if (known != index.end()) {
        operands.push_back(known->second);
      } else {
        const auto place = -1 - static_cast<std::int64_t>(externals.size());
        externals.append(steal(handle_of(operand)));
        index.emplace(operand, place);
        operands.push_back(place);
      }
    });
    index[n] = static_cast<std::int64_t>(i);
    const int dialect = (n->flags & kDialectMask) >> kDialectShift;
    if (type_codes[dialect] < 0) {
      type_codes[dialect] = static_cast<int>(types.size());
      types.append(py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(dialect_types[dialect])));
    }
    codes.push_back(static_cast<std::uint8_t>(n->op));
    dialects.push_back(static_cast<std::uint8_t>(type_codes[dialect]));
    data.push_back(n->data);
    grad.push_back(n->grad);
    flags.push_back(n->flags & kSavedFlags);
    if (n->op == Op::array) array_nodes.append(describe(*n->array));
    if (n->op == Op::powc) numbers.push_back(n->exponent);
    if (n->op == Op::custom) {
      Operands* own = n->operands;
      counts.push_back(own->count);
      counts.push_back(own->has_local_grads);
      labels.append(py::reinterpret_borrow<py::object>(label_text(own->label)));
      if (own->has_local_grads) numbers.insert(numbers.end(), own->local_grads(), own->local_grads() + own->count);
    }
    if (n->handle && (n->flags & kPinned)) {
      auto* h = static_cast<PyObject*>(n->handle);
      if (as_value(h)->dict || as_value(h)->rule || !is_plain(h)) heavy.append(py::reinterpret_borrow<py::object>(h));
    }
  }
  py::list names;
  for (int op = 0; op < static_cast<int>(Op::count); ++op) names.append(info(static_cast<Op>(op)).name);
  py::tuple arrays = py::make_tuple(1, py::tuple(names), py::tuple(types), as_bytes(codes), as_bytes(dialects),
                                    as_bytes(data), as_bytes(grad), as_bytes(flags), as_bytes(operands),
                                    as_bytes(counts), as_bytes(numbers), py::tuple(labels), py::tuple(array_nodes));
  return py::make_tuple(arrays, py::tuple(externals), py::tuple(heavy));
}

// (owner of the exported list that holds the value's node, the node's place in it), or None.
py::object find_exported(py::handle value) {
  require_value(value, "find_exported");
  const auto found = members().find(node_of(value.ptr()));
  if (found == members().end()) return py::none();
  py::object owner = found->second.list->owner();
  if (owner.is_none()) return py::none();
  return py::make_tuple(owner, found->second.index);
}

}  // namespace tapegrad::python
