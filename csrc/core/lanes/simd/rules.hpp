// rules.hpp: the op table as code for vectors: the value and the partial derivatives of each operation, generated from
// ops.def.
#pragma once

#include "core/graph/node.hpp"
#include "core/lanes/simd/functions.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

// value(x, y), and partial<k>(x, y, z) by operand k = 0 or 1 with z the value. An unary operation looks at y no more
// than at 7.
template <Op op>
struct LaneRule;

#define TAPEGRAD_LANE_RULE(id, value_, dx_, dy_)                                                                 \
  template <>                                                                                                    \
  struct LaneRule<Op::id> {                                                                                      \
    TAPEGRAD_INLINE static Vec value([[maybe_unused]] Vec x, [[maybe_unused]] Vec y) {                           \
      return value_;                                                                                             \
    }                                                                                                            \
    template <int k>                                                                                             \
    TAPEGRAD_INLINE static Vec partial([[maybe_unused]] Vec x, [[maybe_unused]] Vec y, [[maybe_unused]] Vec z) { \
      if constexpr (k == 0) {                                                                                    \
        return dx_;                                                                                              \
      } else {                                                                                                   \
        return dy_;                                                                                              \
      }                                                                                                          \
    }                                                                                                            \
  };
#define TAPEGRAD_BINARY(id, label, value, dx, dy, ...) TAPEGRAD_LANE_RULE(id, value, dx, dy)
#define TAPEGRAD_UNARY(id, label, value, dx, ...) TAPEGRAD_LANE_RULE(id, value, dx, 0.0)
#include "core/ops/ops.def"
#undef TAPEGRAD_LANE_RULE

}  // namespace tapegrad::simd::TAPEGRAD_ISA
