// schedule.hpp: puts the steps of a scalar program in an order in which many steps of one kind follow each other, so
// that the interpreter decides once for all of them what to do.
//
// Gradients are gathered instead of scattered: what flows into one gradient becomes sums of products, their terms in
// the order in which the steps were given. No result changes in any bit, whatever order the steps are put in.
#pragma once

#include <cstdint>

#include "core/replay/lower.hpp"

namespace tapegrad {

std::uint32_t kind_of(const Lowered& lowered, const Step& step);

// Turns sums, products, copies and what flows back through them into sums of products, in the order given. Works on
// registers and on slots alike.
void spell_out(Lowered& lowered);

// spell_out(), then gathers the gradients. Works on registers; those from `registers` on may be used for what is
// between, and the next free one is returned. Time and memory are linear in the steps and terms.
std::uint32_t gather(Lowered& lowered, std::uint32_t registers);

// Puts the steps of what gather() left in an order with long runs of one kind. As above.
void schedule(Lowered& lowered, std::uint32_t registers);

}  // namespace tapegrad
