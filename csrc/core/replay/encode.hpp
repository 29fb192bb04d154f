// encode.hpp: steps as the words that interpreters read, in runs of one kind.
//
// A run is its kind, the number of steps, and for each step its slots:
//   sum of products  z, then x and y of each term (only x where the kind has no factors)
//   forward          z, x, then the second operand of operations that have one (powc: the exponent); select: z, x, y, g
//   backward, unary  dx, g, x, z (powc: the exponent for z)
//   backward, binary dx, dy, g, x, y, z
//   backward, select dx, dy, g, x
//   fused            see fused.hpp; in place of the number of steps that of their words
//   fused            see fused.hpp; in place of the number of steps that of their words
#pragma once

#include "core/replay/lower.hpp"

namespace tapegrad {

enum class Direction { forward, backward };

// Which operations of one operand may be computed all at once; none where it is null.
using AtOnce = bool (*)(Code code);
inline constexpr Word kFewestAtOnce = 3, kMostAtOnce = 64;  // steps in such a run

// `one` is a slot that holds 1: it stands for factors that are not there, and for slots that are not read.
LargeVector<Word> encode(const Lowered& lowered, Direction direction, Word one, AtOnce at_once);

}  // namespace tapegrad
