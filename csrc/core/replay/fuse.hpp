// fuse.hpp: finds the commonest compositions of functions among the steps of a scalar program, and makes each one step
// forward and one backward: what is between then stays in registers, where a step of its own would wait for memory.
//
// Found are softmax (a_i / sum of a_j, some or all a_i exponentials; written with a reciprocal), log(e^x + 1), and
// softplus, whose exponential serves the derivative too. No result changes in any bit when the program is exact.
#pragma once

#include <cstdint>

#include "core/replay/lower.hpp"

namespace tapegrad {

// Works on words over registers, before they are scheduled. Registers from `registers` on may be used for what is
// between, and the next free one is returned. Time and memory are linear in the words.
std::uint32_t fuse(const Program& program, Lowered& lowered, std::uint32_t registers);

}  // namespace tapegrad
