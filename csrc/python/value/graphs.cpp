// graphs.cpp: export and import of graphs. The flat form names operations by name, so that it can outlive this
// version's op codes, and is checked in full before a node is made of it: a damaged one gives ValueError.
#include "python/value/graphs.hpp"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/graph/sweep.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"
#include "python/value/value.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

constexpr Flags kSavedFlags = kDataInt | kGradInt | kExponentInt;

class NodeList;
struct Member {
  NodeList* list;
  std::size_t index;
};
// Which exported list a node is in, so that several Values of one pickle share their graph.
std::unordered_map<Node*, Member>& members() {
  static auto* map = new std::unordered_map<Node*, Member>();
  return *map;
}

// Nodes kept alive together: those of an exported graph, for as long as it is being written, or of an imported one.
class NodeList {
 public:
  NodeList() = default;
  NodeList(const NodeList&) = delete;
  NodeList& operator=(const NodeList&) = delete;
  ~NodeList() {
    for (Node* n : nodes_) {
      const auto found = members().find(n);
      if (found != members().end() && found->second.list == this) members().erase(found);
    }
    for (Node* n : nodes_) arena().let_go(n);
  }

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
  void set_owner(py::weakref owner) { owner_ = std::move(owner); }
  py::object owner() const { return owner_ ? owner_() : py::none(); }

  // Makes `value`, fresh from __new__, the handle of node i.
  void adopt(py::handle value, std::size_t i) {
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

 private:
  std::vector<Node*> nodes_;
  py::object owner_;
};

py::object steal(PyObject* o) {
  if (!o) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(o);
}

// ---- export

// The operands, and of a custom array node the local gradients, which are nodes too.
template <typename Each>
void for_each_held(Node* n, Each each) {
  for_each_operand(n, each);
  if (n->op != Op::array) return;
  for (std::uint32_t k = n->array->count; k < n->array->held(); ++k) each(n->array->operands()[k]);
}

void require_value(py::handle value, const char* function) {
  if (!is_value(value.ptr()))
    throw py::type_error(std::string(function) + "() takes a Value, not " + Py_TYPE(value.ptr())->tp_name);
}

bool is_member(Node* n) {
  const auto found = members().find(n);
  return found != members().end() && !found->second.list->owner().is_none();
}

// A leaf that a variable holds is written as a Value of its own; others are constants of the graph.
bool is_variable(const Node* n) {
  return is_leaf(n) && n->handle;
}

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

// ---- import

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
