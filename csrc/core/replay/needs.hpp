// needs.hpp: which values and gradients a run has to compute.
#pragma once

#include <cstdint>
#include <vector>

#include "core/graph/scratch.hpp"
#include "core/program/passes/passes.hpp"

namespace tapegrad {

struct Lowering;

struct Needs {
  // What is known of each value.
  enum : std::uint8_t {
    kVaried = 1,      // depends on something whose gradient is wanted
    kLive = 2,        // has a gradient: varied, and the output depends on it
    kAsked = 4,       // an output, a guard or a derivative reads it
    kNeeded = 8,      // has to be computed
    kFused = 16,      // a product that only one sum reads: it is computed there
    kUsed = 32,       // some computed value reads it
    kUsedAgain = 64,  // several do
    kBySum = 128,     // the newest that does is a sum
  };
  Scratch<std::uint8_t> flags;
  Scratch<std::uint32_t> parts;       // how many parts the gradient of each has
  std::vector<std::uint32_t> leaves;  // inputs, parameters and constants, and powers, whose exponent is one
  std::size_t part_count = 0;         // of all gradients together
  std::size_t steps = 0;              // values that have a step of their own
  std::size_t derivatives = 0;        // live values that are no sums or products

  bool is(std::uint32_t n, std::uint8_t flag) const { return flags[n] & flag; }
};

Needs find_needs(const Draft& draft, const Lowering& how);

// Which of x, y and z the partial derivative by operand k of a table operation reads.
struct Reads {
  bool x, y, z;
};
Reads derivative_reads(Code code, int k);  // found by trial
Reads known_reads(Code code, int k);       // the same, found once

// The operands that a gradient goes to.
template <typename F>
void for_each_differentiable(const Program& p, const Instruction& i, F f) {
  switch (i.code) {
    case Code::input:
    case Code::param:
    case Code::constant:
    case Code::detach:
    case Code::less:
    case Code::less_equal:
    case Code::equal:
      return;
    case Code::select:
      f(i.b);
      return f(i.c);
    case Code::linear:
      for (std::uint32_t k = 0; k < i.b; ++k) f(p.pool[i.a + k]);
      return;
    default:
      p.for_each_operand(i, f);
  }
}

bool is_wanted_leaf(const Instruction& i, const Lowering& how);

}  // namespace tapegrad
