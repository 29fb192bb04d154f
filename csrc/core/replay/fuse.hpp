// fuse.hpp: finds the commonest compositions of functions among the steps of a scalar program, and makes each one step
// forward and one backward: what is between then stays in registers, where a step of its own would wait for memory.
//
// Found are softmax (a_i / sum of a_j, some or all a_i exponentials; written with a reciprocal), log(e^x + 1), and
// softplus, whose exponential serves the derivative too. No result changes in any bit when the program is exact.
#pragma once

#include <cstdint>
#include <vector>

#include "core/replay/lower.hpp"

namespace tapegrad {

// Works on registers, on what gather() left; those from `registers` on may be used for what is between, and the next
// free one is returned. `slots` are those of registers that have one already. Time and memory are linear in the steps.
std::uint32_t fuse(Lowered& lowered, std::uint32_t registers, const std::vector<std::uint32_t>& slots);

// The registers that a fused step reads are `x` of its terms, those that it writes `y`; kNoSlot for none, or for a factor
// of 1. What is for each i starts with a term whose mode is store. In order:
//   softmax forward    -> s; -> 1 / s; for each i: x_i -> a_i, or a_i for what is no exponential; -> a_i / s
//   softmax backward   s -> ds; 1 / s; for each i: a_i -> dx_i; then pairs, the sum of whose products is the gradient of
//                      a_i / s (those without one come last)
//   log_exp forward    x -> e^x; -> e^x + 1; -> log(e^x + 1)
//   log_exp backward   e^x -> dx; e^x + 1; g
//   softplus forward   x -> e^-|x|; -> softplus(x)
//   softplus backward  e^-|x| -> dx; x; g
constexpr bool is_fused(const Step& s) {
  return s.code >= kSoftmax && s.code <= kSoftplus;
}

}  // namespace tapegrad
