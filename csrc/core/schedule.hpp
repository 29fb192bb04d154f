// schedule.hpp: puts the steps of a scalar program in an order in which many steps of one kind follow each other, so
// that the interpreter decides once for all of them what to do.
//
// Gradients are gathered instead of scattered: what flows into one gradient becomes sums of products, their terms in
// the order in which the steps were given. No result changes in any bit, whatever order the steps are put in.
#pragma once

#include <cstdint>

#include "core/lower.hpp"

namespace tapegrad {

// A sum of products has at most so many terms; a longer one is several, each adding to what the one before left.
inline constexpr std::uint32_t kMaxTerms = 8;

// Steps of one kind may run together: their code and modes are the same, and for a sum of products (kDot) the number of
// terms, whether it adds to what is there, and whether every product has a factor.
constexpr std::uint32_t kind_of(std::uint16_t code, Mode x, Mode y) {
  return static_cast<std::uint32_t>(code) * 9 + static_cast<std::uint32_t>(x) * 3 + static_cast<std::uint32_t>(y);
}
constexpr std::uint32_t dot_kind(std::uint32_t terms, bool adds, bool factors) {
  return static_cast<std::uint32_t>(kStepCodes) * 9 + terms * 4 + adds * 2 + factors;
}
inline constexpr std::uint32_t kKinds = dot_kind(kMaxTerms, true, true) + 1;
std::uint32_t kind_of(const Lowered& lowered, const Step& step);

// Turns sums, products, copies and what flows back through them into sums of products, in the order given. Works on
// registers and on slots alike.
void spell_out(Lowered& lowered);

// spell_out(), then gathers gradients and puts the steps in order. Works on registers; those from `registers` on may be
// used for what is between, and the next free one is returned. Time and memory are linear in the steps and terms.
std::uint32_t schedule(Lowered& lowered, std::uint32_t registers);

}  // namespace tapegrad
