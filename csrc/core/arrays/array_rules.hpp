// array_rules.hpp: the frame in which the rule of an array node runs: what it reads and writes, taken down before it
// starts, so that it needs nothing else while other threads run.
#pragma once

#include <cstddef>

#include "core/arrays/arrays.hpp"
#include "core/lanes/lanes.hpp"

namespace tapegrad {

// One operand.
struct ArrayTerm {
  Node* node = nullptr;
  Array* array = nullptr;  // null: one number
  Buffer* data = nullptr;
  Buffer* grad = nullptr;
  const double* x = nullptr;  // the lanes, or `number`
  double* g = nullptr;        // where the gradient is added: the lanes, or `gradient`
  double number = 0.0;
  double gradient = 0.0;
  std::size_t size = 1;
  std::size_t step = 0;  // from lane to lane: 1, or 0 for one number
  bool fresh = false;    // the gradient's lanes are not initialised: they count as zeros

  lanes::Operand lanes() const { return {x, step}; }
};

class Frame {
 public:
  Frame() noexcept {}
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame();

  // Takes down an array's operands; its node, if there is one yet, tells its gradient: then the operands' are taken
  // down too. False, and nothing changed, when there is no memory.
  bool open(Array& array, const Node* node) noexcept;
  // After a rule that did its work: adds the gradients of operands that are one number to their nodes.
  void close() noexcept;
  // After a rule that had no memory to begin with: as if the frame had not been opened.
  void abandon() noexcept;

  // Keeps all that the rule works on alive and in place while other threads run.
  void hold(Arena& arena) noexcept;
  void let_go(Arena& arena) noexcept;

  Array* array = nullptr;
  Shape shape;
  std::size_t size = 1;        // lanes of the result
  double* z = nullptr;         // the result's lanes
  const double* gz = nullptr;  // its gradient's
  std::size_t step = 0;        // of both: 1, or 0 where the result is one number
  ArrayTerm* terms = nullptr;
  std::uint32_t count = 0;

 private:
  static constexpr std::uint32_t kFew = 40;
  Buffer* data_ = nullptr;
  Buffer* grad_ = nullptr;
  double number_ = 0.0;
  double gradient_ = 0.0;
  bool many_ = false;
  alignas(ArrayTerm) std::byte few_[kFew * sizeof(ArrayTerm)];
};

// The rules themselves: of a frame opened without a node, and of one opened with it. False when there is no memory:
// then nothing has changed.
bool forward_array(Frame& frame) noexcept;
bool backward_array(Frame& frame) noexcept;

// The short way for rows of the op table whose operands have all the lanes of the result, or are one number, and that
// do not pause (array_quick.cpp). Declined: nothing has changed, and it is not for this node.
enum class Quick { declined, done, no_memory };
bool compute_quickly(Array& array) noexcept;
Quick apply_quickly(Node* node) noexcept;

// Computes the value of an array over operands that nobody may count yet; one number goes to *number. False when there
// is no memory.
bool compute_array(Arena& arena, Array& array, double* number) noexcept;

}  // namespace tapegrad
