// rule.hpp: what the rules of array operations have in common.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "core/arrays/array_rules.hpp"
#include "core/lanes/lanes.hpp"

namespace tapegrad::rules {

inline constexpr char kNoBroadcast[] = "do not broadcast";
inline constexpr char kDamaged[] = "operands or parameters do not fit the operation";

struct Free {
  void operator()(double* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<double[], Free>;
inline Scratch scratch(std::size_t count) {
  return Scratch(static_cast<double*>(std::malloc((count ? count : 1) * sizeof(double))));
}

// Zeros the gradient of an operand whose lanes are not all written at first.
inline void prepare(ArrayTerm& term) {
  if (!term.fresh) return;
  lanes::fill(term.size, 0.0, term.g);
  term.fresh = false;
}

// Says once that the lanes of a fresh gradient are written rather than added to.
inline lanes::Write writing(ArrayTerm& term) {
  const bool fresh = term.fresh;
  term.fresh = false;
  return fresh ? lanes::Write::set : lanes::Write::add;
}

inline const char* broadcast_all(ArrayDraft& d) {
  const Array* first = array_of(d.operands[0]);
  const auto like_first = [&](const Array* other) {  // or a number
    return !other ||
           (other->ndim == first->ndim && std::equal(first->dims(), first->dims() + first->ndim, other->dims()));
  };
  if (first && d.count <= 2 && like_first(array_of(d.operands[d.count - 1]))) {
    d.shape.ndim = static_cast<int>(first->ndim);
    d.shape.size = first->size;
    std::copy(first->dims(), first->dims() + first->ndim, d.shape.dims);
    return nullptr;
  }
  Shape shape = shape_of(d.operands[0]);
  for (std::uint32_t i = 1; i < d.count; ++i)
    if (!broadcast(shape, shape_of(d.operands[i]), &shape)) return kNoBroadcast;
  d.shape = shape;
  return shape.ndim ? nullptr : kDamaged;
}

template <ArrayOp op>
struct ArrayRule;

}  // namespace tapegrad::rules
