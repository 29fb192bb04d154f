// words.hpp: steps as words over registers, from which ScalarCode and ColumnCode are made.
//
// Register i is value i of the program, register size + i its gradient; temporaries come after. Gradients are gathered
// instead of scattered: what flows into one gradient becomes sums of products, their terms in the order in which an
// eager sweep adds them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/graph/scratch.hpp"
#include "core/replay/kinds.hpp"

namespace tapegrad {

struct Draft;
struct Lowered;
struct Lowering;
struct Needs;

// Words with this bit are slots already; kNoSlot stands for what is not there.
inline constexpr Word kSettled = Word{1} << 31;

// Of each step its kind, then what it works on: encode.hpp has the order.
struct Stream {
  Scratch<Word> words;
  Scratch<Word> steps;  // where each step begins, in the order in which they run
};

// How many words follow a kind; the first of them are written. `adds`: what is written is read too. Of fused steps the
// first word after the kind says how many there are, as a number with kSettled.
struct Layout {
  std::uint8_t words, writes;
  bool adds;
};
inline std::size_t words_of(const Layout& layout, const Word* after_kind) {
  return layout.words ? layout.words : *after_kind & ~kSettled;
}
const Layout* layouts(bool backward);  // by kind

// Adds the streams to `out`. Returns how many registers there are.
std::uint32_t emit_words(const Draft& draft, const Lowering& how, const Needs& needs, Lowered& out);

}  // namespace tapegrad
