// import_graph.cpp: nodes from the flat arrays of an exported graph, which are checked in full before a node is made of
// them: damaged ones give ValueError.
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "python/arrays/arrays.hpp"
#include "python/value/graphs.hpp"
#include "python/value/node_list.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// Hands out the items of an array one by one and refuses to run past its end.
template <typename T>
class Reader {
 public:
  explicit Reader(py::handle h) : items_(from_bytes<T>(h)) {}
  T next() {
    if (at_ == items_.size()) throw py::value_error("damaged graph: an array is too short");
    return items_[at_++];
  }
  std::size_t size() const { return items_.size(); }
  std::size_t left() const { return items_.size() - at_; }

 private:
  std::vector<T> items_;
  std::size_t at_ = 0;
};

std::vector<Op> read_ops(const py::tuple& names) {
  std::vector<Op> ops;
  for (py::handle name : names) {
    Op op = Op::free;
    const auto text = py::cast<std::string>(name);
    for (int i = 1; i < static_cast<int>(Op::count); ++i)
      if (text == info(static_cast<Op>(i)).name) op = static_cast<Op>(i);
    ops.push_back(op);
  }
  return ops;
}

std::vector<Flags> read_dialects(const py::tuple& types) {
  std::vector<Flags> dialects;
  for (py::handle type : types) {
    int i = 0;
    while (i < kMaxDialects && reinterpret_cast<PyObject*>(dialect_types[i]) != type.ptr()) ++i;
    if (i == kMaxDialects) throw py::value_error("damaged graph: unknown kind of Value");
    dialects.push_back(fresh_flags(dialect_types[i]));
  }
  return dialects;
}

}  // namespace

std::unique_ptr<NodeList> import_graph(const py::tuple& arrays, const py::tuple& externals) {
  if (arrays.size() != 13 || !PyLong_Check(arrays[0].ptr()) || PyLong_AsLong(arrays[0].ptr()) != 1) {
    PyErr_Clear();
    throw py::value_error("this graph was saved in a form that this version of tapegrad does not read");
  }
  for (int i : {1, 2, 11, 12})
    if (!PyTuple_Check(arrays[static_cast<std::size_t>(i)].ptr()))
      throw py::value_error("damaged graph: a table is missing");
  for (py::handle name : arrays[1])
    if (!PyUnicode_Check(name.ptr())) throw py::value_error("damaged graph: an operation has no name");
  const std::vector<Op> ops = read_ops(arrays[1]);
  const std::vector<Flags> dialects = read_dialects(arrays[2]);
  Reader<std::uint8_t> codes(arrays[3]), dialect_codes(arrays[4]);
  Reader<double> data(arrays[5]), grad(arrays[6]), numbers(arrays[10]);
  Reader<std::uint16_t> flags(arrays[7]);
  Reader<std::int64_t> operands(arrays[8]);
  Reader<std::uint32_t> counts(arrays[9]);
  const auto labels = py::cast<py::tuple>(arrays[11]);
  const auto array_nodes = py::cast<py::tuple>(arrays[12]);
  std::size_t next_label = 0, next_array = 0;
  for (py::handle external : externals)
    if (!is_value(external.ptr())) throw py::value_error("damaged graph: an operand is not a Value");

  auto list = std::make_unique<NodeList>();
  std::vector<Node*> own;
  std::vector<double> local_grads;
  const auto operand = [&] {
    const std::int64_t i = operands.next();
    const auto count = static_cast<std::int64_t>(i >= 0 ? list->size() : externals.size());
    if ((i >= 0 ? i : -1 - i) >= count) throw py::value_error("damaged graph: an operand is out of range");
    Node* n =
        i >= 0 ? (*list)[static_cast<std::size_t>(i)] : node_of(externals[static_cast<std::size_t>(-1 - i)].ptr());
    tracking_unsettled |= (n->flags & kTracked) != 0;
    return n;
  };
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint8_t code = codes.next(), dialect = dialect_codes.next();
    if (code >= ops.size() || ops[code] == Op::free || dialect >= dialects.size())
      throw py::value_error("damaged graph: unknown operation or kind of Value at node " + std::to_string(i));
    const Op op = ops[code];
    const double value = data.next();
    const Flags base = (dialects[dialect] & ~kGradInt) | (flags.next() & kSavedFlags);
    Node* n = nullptr;
    if (op == Op::leaf) {
      n = arena().make_constant(value, base);
    } else if (op == Op::array) {
      if (next_array >= array_nodes.size())
        throw py::value_error("damaged graph: an array node is missing at node " + std::to_string(i));
      n = restore_array(array_nodes[next_array++], value, base, operand);
    } else if (op == Op::custom) {
      const std::uint32_t count = counts.next();
      const bool has_local_grads = counts.next() != 0;
      if (count > operands.left() || (has_local_grads && count > numbers.left()) || next_label >= labels.size() ||
          !PyUnicode_Check(labels[next_label].ptr()))
        throw py::value_error("damaged graph: operands or labels are missing at node " + std::to_string(i));
      own.clear();
      local_grads.clear();
      for (std::uint32_t k = 0; k < count; ++k) own.push_back(operand());
      for (std::uint32_t k = 0; has_local_grads && k < count; ++k) local_grads.push_back(numbers.next());
      const long label = intern_label(labels[next_label++].ptr());
      if (label < 0) throw py::error_already_set();
      n = arena().make_custom(own.data(), count, has_local_grads ? local_grads.data() : nullptr,
                              static_cast<std::uint32_t>(label), value, base);
    } else {
      Node* a = operand();
      if (kArity[static_cast<int>(op)] == 2)
        n = arena().make_binary(op, a, operand(), value, base);
      else if (op == Op::powc)
        n = arena().make_powc(a, numbers.next(), value, base);
      else
        n = arena().make_unary(op, a, value, base);
    }
    if (!n) throw NoNodes(arena());
    n->grad = grad.next();
    list->add(n);
  }
  if (next_array != array_nodes.size() || operands.left() || counts.left() || numbers.left() || data.left() ||
      grad.left() || flags.left())
    throw py::value_error("damaged graph: an array is too long");
  return list;
}

}  // namespace tapegrad::python
