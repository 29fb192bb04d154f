// arrays.hpp: nodes that hold arrays, and nodes that hold a number computed from such nodes. Both are of Op::array and
// keep what a number would have in the node itself (operands, rule, data, gradient) in an Array of their own.
//
// Ownership: an Array belongs to its node and is freed with it; its buffers are counted, since a view from outside may
// live longer. Threads: as the arena, these functions are called by one thread at a time; only the kernels inside run
// aside of that, see PauseHooks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/arrays/buffers.hpp"
#include "core/arrays/shapes.hpp"
#include "core/graph/node.hpp"

namespace tapegrad {

class Arena;

enum class ArrayOp : std::uint8_t {
#define TAPEGRAD_ARRAY(id, ...) id,
#include "core/ops/arrays.def"
  count
};

struct Array {
  Buffer* data;  // null where the node holds one number
  Buffer* grad;  // null stands for zeros; other arrays may have the same one
  std::size_t size;
  std::size_t params;  // whole numbers of view (first lane, strides), gather (lanes) and transpose (order of the axes)
  ArrayOp op;
  Op table;              // of table: the operation; powc has its exponent in `number`
  bool keeps_axes;       // of reductions: the axes are there still, with length 1
  bool orphaned;         // its node is gone, but a rule is still at work on it
  bool has_local_grads;  // of custom: there are as many operands again, not shown, that hold the local gradients
  std::uint32_t ndim;
  Count count;            // operands
  std::uint32_t axes;     // of reductions: bit mask
  std::uint32_t label;    // of custom, into a table of the caller's
  std::uint32_t at_work;  // rules that use this while other threads run
  double number;

  std::size_t* dims() { return reinterpret_cast<std::size_t*>(this + 1); }
  const std::size_t* dims() const { return reinterpret_cast<const std::size_t*>(this + 1); }
  Node** operands() { return reinterpret_cast<Node**>(dims() + ndim); }
  Node* const* operands() const { return reinterpret_cast<Node* const*>(dims() + ndim); }
  std::size_t bytes() const { return sizeof(Array) + 8 * (std::size_t{ndim} + held() + params); }
  std::uint32_t held() const { return has_local_grads ? 2u * count : count; }
  std::int64_t* param() { return reinterpret_cast<std::int64_t*>(operands() + held()); }
  const std::int64_t* param() const { return reinterpret_cast<const std::int64_t*>(operands() + held()); }
};

inline Array* array_of(const Node* node) {
  return node->flags & kArray ? node->array : nullptr;
}
Shape shape_of(const Array* array) noexcept;  // no axes where there is none
inline Shape shape_of(const Node* node) noexcept {
  return shape_of(array_of(node));
}

// What a new Array is to be. `shape` is given for leaf, custom, view, gather and reshape, and found out for the others.
struct ArrayDraft {
  ArrayOp op = ArrayOp::leaf;
  Op table = Op::free;
  bool keeps_axes = false;
  bool has_local_grads = false;  // then there are 2 * count operands
  std::size_t count = 0;
  std::uint32_t axes = 0;
  std::uint32_t label = 0;
  double number = 0.0;
  Node* const* operands = nullptr;
  const std::int64_t* params = nullptr;
  std::size_t param_count = 0;
  Shape shape;

  // Checks operands and parameters and fills in the shape. Says what is wrong, or null: then a node can be made of it.
  const char* settle() noexcept;
};

// A node of a draft that is settled, with its value computed. `data`, if given, is that value; the node takes it over.
// Leaves and custom nodes need one if they have axes. Null, and the buffer still the caller's, when there is no memory.
Node* make_array_node(Arena& arena, const ArrayDraft& draft, Flags flags, Buffer* data = nullptr) noexcept;

// Makes a node that is there already a leaf or a custom node of this draft, over operands that precede it; takes the
// buffers over. False, and nothing changed, when there is no memory.
bool become_array(Arena& arena, Node* node, const ArrayDraft& draft, Buffer* data, Buffer* grad) noexcept;

// Frees an Array whose operands it no longer counts.
void free_array(Array* array) noexcept;

// The buffer of an array's gradient, zeros if there was none, to be read; null without memory.
Buffer* grad_buffer(Array& array) noexcept;
// The same to be written, or to be shown outside: no other array has it.
Buffer* own_grad(Array& array) noexcept;

// Makes `buffer` one that nobody else holds, for new numbers: its content is undefined. Null, and nothing changed,
// without memory.
Buffer* renew(Buffer*& buffer, std::size_t size) noexcept;

// The label of an array operation; null for custom and for rows of the op table.
const char* array_label(ArrayOp op) noexcept;
const char* array_name(ArrayOp op) noexcept;

// How other threads get to run while a kernel works on many lanes: begin() lets them, end(what begin gave) waits for
// the turn. Without hooks nothing is paused. What is read or written meanwhile is held and, if it is a gradient, marked
// busy, so that no second rule touches it.
//
// Long sweeps hear of Ctrl-C by interrupt_pending(), which runs nothing, and then, with no marks set and all nodes
// held, by interrupted(), which may run other code and says whether to give up.
struct PauseHooks {
  void* (*begin)() = nullptr;
  void (*end)(void* state) = nullptr;
  bool (*interrupt_pending)() = nullptr;
  bool (*interrupted)() = nullptr;
};
void set_pause_hooks(PauseHooks hooks) noexcept;
const PauseHooks& pause_hooks() noexcept;

// Whether the rule of this node (Op::array) takes a pause: because of its size, or because a gradient it needs is busy.
bool wants_pause(const Node* node) noexcept;

// Applies the rule of a node of Op::array. False when there is no memory for a gradient: then nothing has changed.
// Pauses only if given the arena; then there may be no marks in it, and somebody must hold the node.
bool apply_array_rule(Node* node, Arena* pausing) noexcept;

}  // namespace tapegrad
