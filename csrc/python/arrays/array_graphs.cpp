// array_graphs.cpp: the part of pickling and copying graphs that knows array nodes. What was saved is checked as if it
// were made anew.
#include <cstring>
#include <new>
#include <string>

#include "python/arrays/arrays.hpp"
#include "python/value/graphs.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

py::bytes numbers_of(Buffer* buffer, std::size_t size) {
  return py::bytes(reinterpret_cast<const char*>(buffer->values()), size * sizeof(double));
}

// A buffer with saved numbers; null for None.
Buffer* restore_buffer(py::handle saved, std::size_t size) {
  if (saved.is_none()) return nullptr;
  const std::vector<double> numbers = from_bytes<double>(saved);
  if (numbers.size() != size)
    throw py::value_error("damaged graph: an array has another number of lanes than its shape says");
  Buffer* buffer = make_buffer(size);
  if (!buffer) throw std::bad_alloc();
  if (size) std::memcpy(buffer->values(), numbers.data(), size * sizeof(double));
  return buffer;
}

Node* restore_checked(const py::tuple& saved, double value, Flags flags, const std::function<Node*()>& next) {
  const auto op_name = py::cast<std::string>(saved[0]), table_name = py::cast<std::string>(saved[1]);
  ArrayDraft draft;
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
  for (std::uint64_t k = 0; k < std::uint64_t{draft.count} * (draft.has_local_grads ? 2 : 1); ++k)
    operands.push_back(next());
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

}  // namespace

py::tuple describe(const Array& array) {
  const std::vector<std::int64_t> params(array.param(), array.param() + array.params);
  const std::vector<std::uint64_t> dims(array.dims(), array.dims() + array.ndim);
  py::object label = py::none();
  if (array.op == ArrayOp::custom) label = py::reinterpret_borrow<py::object>(label_text(array.label));
  py::object data = py::none(), grad = py::none();
  if (array.data) data = numbers_of(array.data, array.size);
  if (array.data && array.grad) grad = numbers_of(array.grad, array.size);
  return py::make_tuple(array_name(array.op), info(array.table).name, array.keeps_axes, array.has_local_grads,
                        array.count, array.axes, array.number, label, as_bytes(dims), as_bytes(params), data, grad);
}

Node* restore_array(py::handle saved, double value, Flags flags, const std::function<Node*()>& next) {
  if (!PyTuple_Check(saved.ptr()) || PyTuple_GET_SIZE(saved.ptr()) != 12)
    throw py::value_error("damaged graph: an array node is not described in full");
  try {
    return restore_checked(py::reinterpret_borrow<py::tuple>(saved), value, flags, next);
  } catch (const py::cast_error&) {
    throw py::value_error("damaged graph: a part of an array node is of another kind");
  }
}

Node* clone_array(const Node* n, Flags flags) {
  const Array& array = *n->array;
  ArrayDraft draft;
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
  ArrayDraft draft;
  Buffer* buffer = copy_array(data.ptr(), &draft.shape);
  if (!buffer) throw py::error_already_set();
  if (!become_array(arena(), node, draft, buffer, nullptr)) {
    release(buffer);
    throw std::bad_alloc();
  }
}

}  // namespace tapegrad::python
