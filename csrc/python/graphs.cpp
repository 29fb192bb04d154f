// graphs.cpp: export and import of graphs. The flat form names operations by name, so that it can outlive this version's op codes, and
// is checked in full before a node is made of it: a damaged one gives ValueError.
#include "python/graphs.hpp"

#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/sweep.hpp"
#include "python/arrays.hpp"
#include "python/value.hpp"

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
      if (exported_) members().erase(n);
      arena().let_go(n);
    }
  }

  void add(Node* n) {
    nodes_.push_back(n);
    arena().hold(n);
  }

  // Like add, for lists whose members are to be found by find().
  void add_exported(Node* n) {
    exported_ = true;
    members()[n] = {this, nodes_.size()};
    add(n);
  }

  std::size_t size() const { return nodes_.size(); }
  Node* operator[](std::size_t i) const { return nodes_[i]; }

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
  bool exported_ = false;
};

template <typename T>
py::bytes as_bytes(const std::vector<T>& v) {
  return py::bytes(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T));
}

template <typename T>
std::vector<T> from_bytes(py::handle h) {
  if (!PyBytes_Check(h.ptr()) || static_cast<std::size_t>(PyBytes_GET_SIZE(h.ptr())) % sizeof(T))
    throw py::value_error("damaged graph: an array is missing or cut short");
  std::vector<T> v(static_cast<std::size_t>(PyBytes_GET_SIZE(h.ptr())) / sizeof(T));
  if (!v.empty()) std::memcpy(v.data(), PyBytes_AS_STRING(h.ptr()), v.size() * sizeof(T));
  return v;
}

py::object steal(PyObject* o) {
  if (!o) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(o);
}

// ---- array nodes -------------------------------------------------------------------------------------------------------------------

py::bytes buffer_bytes(Buffer* buffer, std::size_t size) {
  return py::bytes(reinterpret_cast<const char*>(buffer->values()), size * sizeof(double));
}

// What an array node has besides its operands and its number, as a tuple.
py::tuple describe(const Array& array) {
  const std::vector<std::int64_t> params(array.param(), array.param() + array.params);
  const std::vector<std::uint64_t> dims(array.dims(), array.dims() + array.ndim);
  py::object label = py::none();
  if (array.op == ArrayOp::custom) label = py::reinterpret_borrow<py::object>(label_text(array.label));
  py::object data = py::none(), grad = py::none();
  if (array.data) data = buffer_bytes(array.data, array.size);
  if (array.data && array.grad) grad = buffer_bytes(array.grad, array.size);
  return py::make_tuple(array_name(array.op), info(array.table).name, array.keeps_axes, array.has_local_grads, array.count, array.axes,
                        array.number, label, as_bytes(dims), as_bytes(params), data, grad);
}

// A buffer with saved numbers; null for None.
Buffer* restore_buffer(py::handle saved, std::size_t size) {
  if (saved.is_none()) return nullptr;
  const std::vector<double> numbers = from_bytes<double>(saved);
  if (numbers.size() != size) throw py::value_error("damaged graph: an array has another number of lanes than its shape says");
  Buffer* buffer = make_buffer(size);
  if (!buffer) throw std::bad_alloc();
  if (size) std::memcpy(buffer->values(), numbers.data(), size * sizeof(double));
  return buffer;
}

// The node that describe() told of. next() gives its operands one by one.
template <typename Next>
Node* restore_array(const py::tuple& saved, double value, Flags flags, Next next) {
  if (saved.size() != 12) throw py::value_error("damaged graph: an array node is not described in full");
  const auto op_name = py::cast<std::string>(saved[0]), table_name = py::cast<std::string>(saved[1]);
  Draft draft;
  draft.op = ArrayOp::count;
  for (int i = 0; i < static_cast<int>(ArrayOp::count); ++i)
    if (op_name == array_name(static_cast<ArrayOp>(i))) draft.op = static_cast<ArrayOp>(i);
  for (int i = 0; i < static_cast<int>(Op::count); ++i)
    if (table_name == info(static_cast<Op>(i)).name) draft.table = static_cast<Op>(i);
  if (draft.op == ArrayOp::count) throw py::value_error("damaged graph: unknown operation on arrays");
  draft.keeps_axes = py::cast<bool>(saved[2]);
  draft.has_local_grads = py::cast<bool>(saved[3]) && draft.op == ArrayOp::custom;
  draft.count = py::cast<std::uint32_t>(saved[4]);
  draft.axes = py::cast<std::uint32_t>(saved[5]);
  draft.number = draft.op == ArrayOp::custom ? value : py::cast<double>(saved[6]);
  if (draft.op == ArrayOp::custom) {
    if (!PyUnicode_Check(py::object(saved[7]).ptr())) throw py::value_error("damaged graph: a label is missing");
    const long label = intern_label(py::object(saved[7]).ptr());
    if (label < 0) throw py::error_already_set();
    draft.label = static_cast<std::uint32_t>(label);
  }
  Shape shape;
  for (const std::uint64_t n : from_bytes<std::uint64_t>(saved[8]))
    if (!shape.append(n)) throw py::value_error("damaged graph: a shape is too large");
  draft.shape = shape;
  const std::vector<std::int64_t> params = from_bytes<std::int64_t>(saved[9]);
  draft.params = params.data();
  draft.param_count = params.size();
  std::vector<Node*> operands;
  for (std::uint64_t k = 0; k < std::uint64_t{draft.count} * (draft.has_local_grads ? 2 : 1); ++k) operands.push_back(next());
  draft.operands = operands.data();
  const bool needs_data = shape.ndim || draft.op == ArrayOp::leaf;
  if (draft.settle() || !(draft.shape == shape) || needs_data != !py::object(saved[10]).is_none())
    throw py::value_error("damaged graph: an operation on arrays does not fit its operands");
  Buffer* grad = restore_buffer(saved[11], shape.size);
  Buffer* data = nullptr;
  try {
    data = restore_buffer(saved[10], shape.size);
  } catch (...) {
    release(grad);
    throw;
  }
  Node* node = make_array_node(arena(), draft, flags, data);
  if (!node) {
    release(data);
    release(grad);
    throw std::bad_alloc();
  }
  if (shape.ndim) {
    node->array->grad = grad;
  } else {
    release(grad);
    node->data = value;
  }
  return node;
}

// A node over the same operands with the same lanes.
Node* clone_array(const Node* n, Flags flags) {
  const Array& array = *n->array;
  Draft draft;
  draft.op = array.op;
  draft.table = array.table;
  draft.keeps_axes = array.keeps_axes;
  draft.has_local_grads = array.has_local_grads;
  draft.count = array.count;
  draft.axes = array.axes;
  draft.label = array.label;
  draft.number = array.number;
  draft.operands = array.operands();
  draft.params = array.param();
  draft.param_count = array.params;
  draft.shape = shape_of(&array);
  draft.shape.ndim = static_cast<int>(array.ndim);
  Buffer *data = nullptr, *grad = nullptr;
  const auto copy = [&](Buffer* from) {
    Buffer* to = make_buffer(array.size);
    if (to && array.size) std::memcpy(to->values(), from->values(), array.size * sizeof(double));
    return to;
  };
  Node* node = nullptr;
  if ((!array.data || (data = copy(array.data))) && (!array.data || !array.grad || (grad = copy(array.grad))))
    node = make_array_node(arena(), draft, flags, data);
  if (!node) {
    release(data);
    release(grad);
    return nullptr;
  }
  node->array->grad = grad;
  if (!array.data) node->data = n->data;
  return node;
}

// Makes a Value fresh from __new__ a leaf that holds an array.
void hold_array(py::handle value, py::handle data) {
  if (!is_value(value.ptr()) || !is_numeric_array(data.ptr()) || py::cast<int>(data.attr("ndim")) == 0)
    throw py::type_error("hold_array() takes a Value and an array of numbers with at least one axis");
  Node* node = node_of(value.ptr());
  if (node->refs != 1 || node->op != Op::leaf || page_of(node)->leaf_page)
    throw py::value_error("cannot restore a Value that is in use already");
  Draft draft;
  Buffer* buffer = copy_array(data.ptr(), &draft.shape);
  if (!buffer) throw py::error_already_set();
  if (!become_array(arena(), node, draft, buffer, nullptr)) {
    release(buffer);
    throw std::bad_alloc();
  }
}

// ---- export ----------------------------------------------------------------------------------------------------------------------

// (list of nodes, arrays, external Values, Values that carry something) of the graph below root. External are leaves that have a
// handle, and nodes of graphs already exported.
py::tuple export_graph(py::handle root) {
  if (!is_value(root.ptr())) throw py::type_error("export_graph() takes a Value");
  const std::vector<Node*> newest_first = collect(node_of(root.ptr()), false);
  auto list = std::make_unique<NodeList>();
  std::unordered_map<Node*, std::int64_t> index;
  index.reserve(newest_first.size());
  std::vector<std::uint8_t> codes, dialects;
  std::vector<double> data, grad, numbers;
  std::vector<std::uint16_t> flags;
  std::vector<std::int64_t> operands;
  std::vector<std::uint32_t> counts;
  py::list labels, externals, heavy, array_nodes;

  const auto emit = [&](Node* n) {
    index.emplace(n, static_cast<std::int64_t>(list->size()));
    list->add_exported(n);
    codes.push_back(static_cast<std::uint8_t>(n->op));
    dialects.push_back(static_cast<std::uint8_t>((n->flags & kDialectMask) >> kDialectShift));
    data.push_back(n->data);
    grad.push_back(n->grad);
    flags.push_back(n->flags & kSavedFlags);
    if (n->op == Op::array) array_nodes.append(describe(*n->array));
  };
  const auto reference = [&](Node* operand) {
    const auto known = index.find(operand);
    if (known != index.end()) return known->second;
    if (members().count(operand) || (is_leaf(operand) && operand->handle)) {
      const auto place = -1 - static_cast<std::int64_t>(externals.size());
      externals.append(steal(handle_of(operand)));
      index.emplace(operand, place);
      return place;
    }
    emit(operand);  // a leaf without a handle: a constant
    return index.at(operand);
  };

  for (std::size_t i = newest_first.size(); i-- > 0;) {
    Node* n = newest_first[i];
    if (members().count(n)) continue;
    std::vector<std::int64_t> places;
    for_each_operand(n, [&](Node* operand) { places.push_back(reference(operand)); });
    if (n->op == Op::array && n->array->has_local_grads)
      for (std::uint32_t k = n->array->count; k < n->array->held(); ++k) places.push_back(reference(n->array->operands()[k]));
    emit(n);
    operands.insert(operands.end(), places.begin(), places.end());
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
  py::list names, types;
  for (int op = 0; op < static_cast<int>(Op::count); ++op) names.append(info(static_cast<Op>(op)).name);
  for (PyTypeObject* type : dialect_types)
    if (type) types.append(py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(type)));
  py::tuple arrays = py::make_tuple(1, py::tuple(names), py::tuple(types), as_bytes(codes), as_bytes(dialects), as_bytes(data),
                                    as_bytes(grad), as_bytes(flags), as_bytes(operands), as_bytes(counts), as_bytes(numbers),
                                    py::tuple(labels), py::tuple(array_nodes));
  return py::make_tuple(py::cast(list.release(), py::return_value_policy::take_ownership), arrays, py::tuple(externals),
                        py::tuple(heavy));
}

// The exported list that holds the value's node, and its place there, or None.
py::object find(py::handle value) {
  const auto found = members().find(node_of(value.ptr()));
  if (found == members().end()) return py::none();
  return py::make_tuple(py::cast(found->second.list, py::return_value_policy::reference), found->second.index);
}

// ---- import ----------------------------------------------------------------------------------------------------------------------

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
  if (arrays.size() != 13 || py::cast<int>(arrays[0]) != 1)
    throw py::value_error("this graph was saved in a form that this version of tapegrad does not read");
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
    Node* n = i >= 0 ? (*list)[static_cast<std::size_t>(i)] : node_of(externals[static_cast<std::size_t>(-1 - i)].ptr());
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
      if (next_array >= array_nodes.size() || !PyTuple_Check(py::object(array_nodes[next_array]).ptr()))
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
      n = arena().make_custom(own.data(), count, has_local_grads ? local_grads.data() : nullptr, static_cast<std::uint32_t>(label),
                              value, base);
    } else {
      Node* a = operand();
      if (kArity[static_cast<int>(op)] == 2)
        n = arena().make_binary(op, a, operand(), value, base);
      else if (op == Op::powc)
        n = arena().make_powc(a, numbers.next(), value, base);
      else
        n = arena().make_unary(op, a, value, base);
    }
    if (!n) throw std::bad_alloc();
    n->grad = grad.next();
    list->add(n);
  }
  if (next_array != array_nodes.size() || operands.left() || counts.left() || numbers.left() || data.left() || grad.left() || flags.left())
    throw py::value_error("damaged graph: an array is too long");
  return list;
}

// A new node over the same operands, with the same data and grad, alone in a list.
std::unique_ptr<NodeList> clone(py::handle value) {
  if (!is_value(value.ptr())) throw py::type_error("clone() takes a Value");
  Node* n = node_of(value.ptr());
  const Flags base = n->flags & (kSavedFlags | kDialectMask | kFloatGrad);
  Node* copy = nullptr;
  if (n->op == Op::leaf)
    copy = arena().make_leaf(n->data, base);
  else if (n->op == Op::array)
    copy = clone_array(n, base);
  else if (n->op == Op::custom)
    copy = arena().make_custom(n->operands->nodes(), n->operands->count,
                               n->operands->has_local_grads ? n->operands->local_grads() : nullptr, n->operands->label, n->data, base);
  else if (n->op == Op::powc)
    copy = arena().make_powc(n->a, n->exponent, n->data, base);
  else if (kArity[static_cast<int>(n->op)] == 2)
    copy = arena().make_binary(n->op, n->a, n->b, n->data, base);
  else
    copy = arena().make_unary(n->op, n->a, n->data, base);
  if (!copy) throw std::bad_alloc();
  copy->grad = n->grad;
  auto list = std::make_unique<NodeList>();
  list->add(copy);
  return list;
}

// What `_op` says unless the program has assigned it; and the backward rule that it has assigned, or None.
py::object native_op(py::handle value) { return steal(op_label(node_of(value.ptr()))); }

py::object assigned_rule(py::handle value) {
  PyObject* rule = as_value(value.ptr())->rule;
  return py::reinterpret_borrow<py::object>(rule ? rule : Py_None);
}

}  // namespace

void register_graphs(py::module_& m) {
  py::class_<NodeList>(m, "NodeList", "Nodes of an exported or imported graph, kept alive together.")
      .def("__len__", &NodeList::size)
      .def("adopt", &NodeList::adopt, py::arg("value"), py::arg("index"), "Makes a fresh Value the handle of the node at index.");
  m.def("export_graph", &export_graph, py::arg("root"), "(NodeList, arrays, external Values, Values with attributes) of a graph.");
  m.def("find_exported", &find, py::arg("value"), "(NodeList, index) of a node being exported, or None.");
  m.def("import_graph", &import_graph, py::arg("arrays"), py::arg("externals"), "Builds the nodes of an exported graph.");
  m.def("clone", &clone, py::arg("value"), "A node with the same data, grad, operation and operands, alone in a NodeList.");
  m.def("hold_array", &hold_array, py::arg("value"), py::arg("data"), "Makes a fresh Value a leaf that holds the array.");
  m.def("native_op", &native_op, py::arg("value"), "The label of the operation that made the node.");
  m.def("assigned_rule", &assigned_rule, py::arg("value"), "The _backward that the program assigned, or None.");
}

}  // namespace tapegrad::python
