// slots.hpp: where in memory each register of a lowered program lies.
//
// Constants (exponents among them), parameters and inputs have slots of their own, in that order; then the gradients
// wanted, then what the caller reads after a run; then all else, which shares slots by lifetime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/replay/lower.hpp"
#include "core/replay/needs.hpp"

namespace tapegrad {

// Sets constants, exponents, bases, and slots to the first that is free.
void place_fixed(const Draft& draft, const Lowering& how, const Needs& needs, Lowered* out);

// The slot of each of so many registers; kNoSlot where it is not fixed.
Scratch<std::uint32_t> fixed_slots(const Draft& draft, const Lowering& how, const Needs& needs, const Lowered& out,
                                   std::size_t registers);

// Replaces the registers of the streams by slots, those of outputs, guards and the seed too.
void share_slots(const Lowering& how, Scratch<std::uint32_t> slot, Lowered* out);

}  // namespace tapegrad
