// chains.hpp: the words of a lowered program for the interpreter of chunks, with products and sums that each need the
// one before them put together to chains: what goes from one to the next stays in registers, and is stored only if
// something else needs it.
//
// A chain is a run of kind kChain: its number of links, the slot that it starts from, and for each link kLinkWords
// words: what to do, and the slots y, p, q and z. A link makes of the number so far  number * y + p * q, or multiplies
// it by the derivative of an operation of one operand, y, with the value p.
#pragma once

#include <vector>

#include "core/replay/encode.hpp"
#include "core/replay/lower.hpp"

namespace tapegrad {

inline constexpr Word kChain = kind_of(kDot, Mode::none, Mode::none);  // no sum of products has this number
inline constexpr Word kLinkWords = 5;
// What a link does not do it has no slots for.
inline constexpr Word kTimesY = 1, kPlusP = 2, kTimesQ = 4, kStoresZ = 8;
// The derivative of an operation, added to its code; where kNoStore is added, too, it is not stored.
inline constexpr Word kDerivative = 16, kNoStore = 256;

// Whether chains may have the derivative of an operation of one operand: if it is a few instructions, which leave what
// the chain holds in registers. Others are steps of their own.
constexpr bool fits_chain(Code code) {
  switch (code) {
    case Code::relu:
    case Code::tanh:
    case Code::sigmoid:
    case Code::exp:
    case Code::expm1:
    case Code::exp2:
    case Code::log:
    case Code::sqrt:
      return true;
    default:
      return false;
  }
}

struct Chained {
  std::vector<Word> words;
  std::size_t runs = 0;
};

// encode() with chains. Expects slots, not registers.
Chained encode_chains(const Lowered& lowered, Direction direction, Word one);

}  // namespace tapegrad
