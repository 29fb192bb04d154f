// statistics.cpp: what a graph is made of: nodes by operation, depth, bytes. Without recursion, in time linear in its
// edges.
#include "python/tools/statistics.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>

#include "core/graph/sweep.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// How deep each node of a graph lies below its root, page by page.
class Depths {
 public:
  std::uint32_t& of(const Node* node) {
    Page* page = page_of(node);
    if (page != last_) {
      auto& found = pages_[page];
      if (!found) found = std::make_unique<std::uint32_t[]>(kPageNodes);
      last_ = page;
      depths_ = found.get();
    }
    return depths_[node - page->begin()];
  }

 private:
  std::unordered_map<Page*, std::unique_ptr<std::uint32_t[]>> pages_;
  Page* last_ = nullptr;
  std::uint32_t* depths_ = nullptr;
};

// What tells labels apart without making their text: the operation, and what else the label says.
std::tuple<int, int, std::uint64_t> label_key(const Node* node) {
  std::uint64_t rest = 0;
  int inner = 0;
  if (node->op == Op::powc) std::memcpy(&rest, &node->exponent, sizeof rest);
  if (node->op == Op::powc) inner = (node->flags & kExponentInt) != 0;
  if (node->op == Op::custom) rest = node->operands->label;
  if (node->op == Op::array) {
    const Array* array = node->array;
    inner = static_cast<int>(array->op) * 256 + static_cast<int>(array->table);
    rest = array->label;
    if (array->table == Op::powc) std::memcpy(&rest, &array->number, sizeof rest);
  }
  return {static_cast<int>(node->op), inner, rest};
}

std::size_t bytes_of(const Node* node) {
  std::size_t bytes = sizeof(Node);
  if (node->op == Op::custom) {
    const Operands* o = node->operands;
    bytes += sizeof(Operands) + o->count * (sizeof(Node*) + (o->has_local_grads ? sizeof(double) : 0));
  }
  if (node->op == Op::array) {
    bytes += node->array->bytes();
    if (node->array->data) bytes += node->array->data->bytes;
    if (node->array->grad) bytes += node->array->grad->bytes;
  }
  return bytes;
}

// (nodes by label, leaves, depth, bytes).
py::tuple graph_stats(py::handle root) {
  if (!is_value(root.ptr()))
    throw py::type_error("graph_stats() takes a Value, not " + py::cast<std::string>(py::repr(root)));
  if (refuse_while_recording("graph_stats()")) throw py::error_already_set();
  const std::vector<Node*> newest_first = collect(node_of(root.ptr()), true);
  Depths depths;
  std::uint32_t deepest = 0;
  std::size_t leaves = 0, bytes = 0;
  std::map<std::tuple<int, int, std::uint64_t>, std::pair<Node*, std::size_t>> counts;
  for (Node* n : newest_first) {
    bytes += bytes_of(n);
    if (is_leaf(n)) {
      ++leaves;
      continue;
    }
    auto& count = counts.try_emplace(label_key(n), n, 0).first->second;
    ++count.second;
    const std::uint32_t below = depths.of(n) + 1;
    deepest = std::max(deepest, below);
    for_each_operand(n, [&](Node* operand) {
      std::uint32_t& depth = depths.of(operand);
      depth = std::max(depth, below);
    });
  }
  py::dict by_label;
  for (const auto& [key, count] : counts) {
    PyObject* text = op_label(count.first);
    if (!text) throw py::error_already_set();
    const auto label = py::reinterpret_steal<py::object>(text);
    const std::size_t more = by_label.contains(label) ? py::cast<std::size_t>(by_label[label]) : 0;
    by_label[label] = more + count.second;
  }
  return py::make_tuple(by_label, leaves, deepest, bytes);
}

}  // namespace

void register_statistics(py::module_& m) {
  m.def("graph_stats", &graph_stats, py::arg("root"), "(nodes by label, leaves, depth, bytes) of a graph.");
}

}  // namespace tapegrad::python
