// arrays.cpp: how array nodes come to be and go; what they compute is in rules/.
#include "core/arrays/arrays.hpp"

#include <cstring>
#include <limits>

#include "core/arrays/array_rules.hpp"
#include "core/graph/arena.hpp"

namespace tapegrad {

namespace {

Array* allocate(const ArrayDraft& draft, Buffer* data, Buffer* grad) noexcept {
  Array head{};
  head.data = data;
  head.grad = grad;
  head.size = draft.shape.size;
  head.op = draft.op;
  head.table = draft.table;
  head.keeps_axes = draft.keeps_axes;
  head.has_local_grads = draft.has_local_grads;
  head.ndim = static_cast<std::uint32_t>(draft.shape.ndim);
  head.count = static_cast<Count>(draft.count);
  head.axes = draft.axes;
  head.label = draft.label;
  head.number = draft.number;
  head.params = draft.param_count;
  static_assert(sizeof(std::size_t) == 8 && sizeof(Node*) == 8 && sizeof(Array) % 8 == 0);
  if (draft.param_count > SIZE_MAX / 32) return nullptr;
  void* memory = take_block(head.bytes());
  if (!memory) return nullptr;
  auto* array = static_cast<Array*>(memory);
  *array = head;
  if (head.ndim) std::memcpy(array->dims(), draft.shape.dims, 8 * head.ndim);
  if (head.held()) std::memcpy(array->operands(), draft.operands, 8 * std::size_t{head.held()});
  if (draft.param_count) std::memcpy(array->param(), draft.params, 8 * draft.param_count);
  return array;
}

// Node::data where the node holds an array, and the flags that go with that.
constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();
Flags array_flags(Flags flags, const ArrayDraft& draft) {
  return draft.shape.ndim ? static_cast<Flags>((flags | kArray) & ~(kDataInt | kGradInt)) : flags;
}

}  // namespace

Shape shape_of(const Array* array) noexcept {
  Shape shape;
  if (array) {
    shape.ndim = static_cast<int>(array->ndim);
    shape.size = array->size;
    std::memcpy(shape.dims, array->dims(), 8 * array->ndim);
  }
  return shape;
}

Node* make_array_node(Arena& arena, const ArrayDraft& draft, Flags flags, Buffer* data) noexcept {
  Buffer* own = data;
  if (!own && draft.shape.ndim) {
    own = make_buffer(draft.shape.size);
    if (!own) return nullptr;
  }
  Array* array = allocate(draft, own, nullptr);
  double number = draft.number;
  const bool fine = array && (data || compute_array(arena, *array, &number));
  if (draft.shape.ndim) number = kNoNumber;
  Node* node = fine ? arena.make_array(array, number, array_flags(flags, draft)) : nullptr;
  if (!node) {
    if (array) give_block(array, array->bytes());
    if (!data) release(own);
  }
  return node;
}

bool become_array(Arena& arena, Node* node, const ArrayDraft& draft, Buffer* data, Buffer* grad) noexcept {
  Array* array = allocate(draft, data, grad);
  if (!array) return false;
  const double number = node->data;
  const Flags flags = node->flags;
  node->data = draft.shape.ndim ? kNoNumber : number;
  node->flags = array_flags(flags, draft);
  if (arena.set_array(node, array)) return true;
  node->data = number;
  node->flags = flags;
  give_block(array, array->bytes());
  return false;
}

void free_array(Array* array) noexcept {
  if (array->at_work) {
    array->orphaned = true;
    return;
  }
  disown(array->data);
  disown(array->grad);
  give_block(array, array->bytes());
}

Buffer* grad_buffer(Array& array) noexcept {
  if (!array.grad) {
    array.grad = make_buffer(array.size);
    if (array.grad) std::memset(array.grad->values(), 0, array.size * sizeof(double));
  }
  return array.grad;
}

Buffer* renew(Buffer*& buffer, std::size_t size) noexcept {
  if (buffer && buffer->refs == 1) return buffer;
  Buffer* fresh = make_buffer(size);
  if (!fresh) return nullptr;
  disown(buffer);
  return buffer = fresh;
}

Buffer* own_grad(Array& array) noexcept {
  Buffer* grad = array.grad;
  if (!grad) return grad_buffer(array);
  if (grad->owners == 1) return grad;
  Buffer* copy = make_buffer(array.size);
  if (!copy) return nullptr;
  std::memcpy(copy->values(), grad->values(), array.size * sizeof(double));
  disown(grad);
  return array.grad = copy;
}

const char* array_label(ArrayOp op) noexcept {
  static constexpr const char* labels[] = {
#define TAPEGRAD_ARRAY(id, label) label,
#include "core/ops/arrays.def"
  };
  return labels[static_cast<int>(op)];
}

const char* array_name(ArrayOp op) noexcept {
  static constexpr const char* names[] = {
#define TAPEGRAD_ARRAY(id, label) #id,
#include "core/ops/arrays.def"
  };
  return names[static_cast<int>(op)];
}

}  // namespace tapegrad
