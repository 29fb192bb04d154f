// array_rules.cpp: the table of rules for arrays.def. A rule has three parts: settle() finds the shape of the result
// from the operands, or checks it; forward() and backward() run over a frame and ask for nothing but scratch memory,
// before they write anything.
#include "core/arrays/array_rules.hpp"

#include "core/arrays/rules/elementwise.hpp"
#include "core/arrays/rules/given.hpp"
#include "core/arrays/rules/places.hpp"
#include "core/arrays/rules/products.hpp"
#include "core/arrays/rules/reductions.hpp"

namespace tapegrad {

namespace {

struct Row {
  const char* (*settle)(ArrayDraft&);
  bool (*forward)(Frame&);
  bool (*backward)(Frame&);
};

template <ArrayOp op>
constexpr Row row() {
  using Rule = rules::ArrayRule<op>;
  return {Rule::settle, Rule::forward, Rule::backward};
}

constexpr Row kRows[] = {
#define TAPEGRAD_ARRAY(id, label) row<ArrayOp::id>(),
#include "core/ops/arrays.def"
};

const Row& row_of(ArrayOp op) {
  return kRows[static_cast<int>(op)];
}

}  // namespace

const char* ArrayDraft::settle() noexcept {
  if (count > kMaxEdges / 2) return "has more operands than can be counted";
  return row_of(op).settle(*this);
}
bool forward_array(Frame& frame) noexcept {
  return row_of(frame.array->op).forward(frame);
}
bool backward_array(Frame& frame) noexcept {
  return row_of(frame.array->op).backward(frame);
}

}  // namespace tapegrad
