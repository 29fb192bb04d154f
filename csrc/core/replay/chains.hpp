// chains.hpp: the words of a lowered program for the interpreter of chunks, with products and sums that each need the
// one before them put together to chains: what goes from one to the next stays in registers, and is stored only if
// something else needs it.
//
// A chain is a run of kind kChain: its number of links, the slot that it starts from, and for each link kLinkWords
// words: what to do, and the slots y, p, q and z. A link makes of the number so far  number * y + p * q.
#pragma once

#include <vector>

#include "core/replay/encode.hpp"
#include "core/replay/lower.hpp"

namespace tapegrad {

inline constexpr Word kChain = kind_of(kDot, Mode::none, Mode::none);  // no sum of products has this number
inline constexpr Word kLinkWords = 5;
// What a link does not do it has no slots for.
inline constexpr Word kTimesY = 1, kPlusP = 2, kTimesQ = 4, kStoresZ = 8, kLinkKinds = 16;

struct Chained {
  std::vector<Word> words;
  std::size_t runs = 0;
};

// encode() with chains. Expects slots, not registers.
Chained encode_chains(const Lowered& lowered, Direction direction, Word one);

}  // namespace tapegrad
