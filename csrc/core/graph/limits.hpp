// limits.hpp: how far the counts and indices of graphs and programs go. None may wrap: what makes nodes and
// instructions refuses before that.
//
// A node's references are consumer edges, its handle, and whoever holds it. All edges that are alive together are at
// most half of what a count can say, and the other half is for those that hold: so links need not look at the count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

// Narrow ones are for tests, which reach the limits with them.
#ifndef TAPEGRAD_INDEX_BITS
#define TAPEGRAD_INDEX_BITS 32
#endif

namespace tapegrad {

inline constexpr int kIndexBits = TAPEGRAD_INDEX_BITS;
static_assert(kIndexBits == 8 || kIndexBits == 16 || kIndexBits == 32, "counts have 8, 16 or 32 bits");

using Count = std::conditional_t<kIndexBits == 8, std::uint8_t,
                                 std::conditional_t<kIndexBits == 16, std::uint16_t, std::uint32_t>>;
inline constexpr std::size_t kMaxCount = (std::size_t{1} << kIndexBits) - 1;

// Operands of all nodes alive, where a page counts as many as its nodes could have.
inline constexpr std::size_t kMaxEdges = kMaxCount / 2;

// References from which on a node is held no more by those who can hold it any number of times. What is left is for
// those who hold a node for the time of a call.
inline constexpr std::size_t kMaxHeld = kMaxCount - kMaxEdges - kMaxCount / 8;

// Instructions of a program as it is recorded or read, operands of its sums, inputs and parameters: each. What is made
// of a program (passes, gradients, slots, terms) is a few times as large, and its numbers have to fit as well.
inline constexpr std::size_t kMaxProgram = std::size_t{1} << (kIndexBits - 4);

}  // namespace tapegrad
