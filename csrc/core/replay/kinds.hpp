// kinds.hpp: the numbers by which interpreters know what a step does: its code, the modes of its operands, and for sums
// of products their length.
#pragma once

#include <cstdint>

#include "core/program/program.hpp"

namespace tapegrad {

inline constexpr std::uint32_t kNoSlot = ~0u;

// What a backward step does to the gradient of an operand.
enum class Mode : std::uint8_t { none, add, store };

// Codes of steps beyond those of Code.
inline constexpr std::uint16_t kScale = static_cast<std::uint16_t>(Code::count);     // backward: dx += y * g
inline constexpr std::uint16_t kZero = static_cast<std::uint16_t>(Code::count) + 1;  // backward: g = 0
inline constexpr std::uint16_t kDot = static_cast<std::uint16_t>(Code::count) + 2;  // z = or += the terms; schedule.hpp
inline constexpr std::uint16_t kReciprocal = static_cast<std::uint16_t>(Code::count) + 3;  // backward: dx = -z * z * g
// Compositions of functions; fuse.hpp.
inline constexpr std::uint16_t kSoftmax = static_cast<std::uint16_t>(Code::count) + 4;
inline constexpr std::uint16_t kLogExp = static_cast<std::uint16_t>(Code::count) + 5;
inline constexpr std::uint16_t kSoftplus = static_cast<std::uint16_t>(Code::count) + 6;
inline constexpr std::uint16_t kStepCodes = static_cast<std::uint16_t>(Code::count) + 7;

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
// Fused steps: softmax by its number of terms, then the others.
inline constexpr std::uint32_t kFusedKinds = kMaxTerms + 3;
inline constexpr std::uint32_t kFirstFused = dot_kind(kMaxTerms, true, true) + 1;
constexpr std::uint32_t fused_kind(std::uint16_t code, std::uint32_t terms) {
  return kFirstFused + (code == kSoftmax ? terms : kMaxTerms + 1 + (code == kSoftplus));
}
inline constexpr std::uint32_t kKinds = kFirstFused + kFusedKinds;

constexpr std::uint32_t forward_kind(Code code) {
  return kind_of(static_cast<std::uint16_t>(code), Mode::none, Mode::none);
}
constexpr std::uint32_t backward_kind(Code code, Mode x, Mode y) {
  return kind_of(static_cast<std::uint16_t>(code), x, y);
}
inline constexpr std::uint32_t kReciprocalKind = kind_of(kReciprocal, Mode::store, Mode::none);

// What interpreters read: a kind, how many steps of it there are, and for each the slots it works on. encode.hpp has
// the order of the slots.
using Word = std::uint32_t;
inline constexpr Word kEnd = kKinds;
// Added to the kind of a run whose steps do not need each other.
inline constexpr Word kAtOnce = kKinds + 1;

}  // namespace tapegrad
