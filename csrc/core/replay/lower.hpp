// lower.hpp: from a program to steps over slots of memory, with the backward steps derived from the table's partial
// derivatives.
//
// Slots: constants, then parameters, inputs, the gradients of both where wanted, then temporaries, which share slots
// when their lifetimes allow. The first contribution to a temporary gradient is a store, so that nothing has to be
// zeroed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/program/passes/passes.hpp"
#include "core/replay/kinds.hpp"
#include "core/replay/needs.hpp"
#include "core/replay/words.hpp"

namespace tapegrad {

struct Step {
  std::uint16_t code = 0;
  Mode mode_x = Mode::none, mode_y = Mode::none;
  std::uint32_t z = kNoSlot, x = kNoSlot, y = kNoSlot;    // values; of select z, condition x and choices y, w
  std::uint32_t g = kNoSlot, dx = kNoSlot, dy = kNoSlot;  // gradients: of the result, of the operands
  std::uint32_t first = 0, count = 0;                     // of a sum: its terms
};

// One term of a sum: forward the value x, or the product x * y; backward the gradient x and its mode.
struct Term {
  std::uint32_t x, y;
  Mode mode;
};

struct CheckedSlot {
  std::uint32_t slot;
  Guard guard;
};

struct Lowered {
  Stream streams[2];                    // forward and backward, of lower()
  std::vector<Step> forward, backward;  // of lower_steps()
  std::vector<Term> terms;              // of these
  std::vector<double> constants;
  std::uint32_t inputs = 0, params = 0;
  std::uint32_t input_base = 0, param_base = 0;
  std::uint32_t input_gradients = kNoSlot, param_gradients = kNoSlot;  // first slot of each, where wanted
  std::uint32_t slots = 0;
  std::uint32_t seed = kNoSlot;  // gradient of the output; kNoSlot where nothing wanted depends on it
  std::vector<std::uint32_t> outputs;
  std::vector<CheckedSlot> guards;
  Scratch<std::uint32_t> exponents;  // slot of the exponent of each power, while it is being lowered
  bool exact = true;                 // as in Lowering
};

struct Lowering {
  bool forward_only = true;
  bool param_gradients = false;
  std::vector<bool> input_gradients;  // which inputs; empty for none
  bool first_writer_stores = true;    // otherwise, in steps, gradients are zeroed first
  bool share_slots = true;
  bool fuse_products = true;
  // What follows is for words; LaneCode takes steps as they are.
  bool schedule = false;       // puts them in an order with long runs of one kind
  bool fuse_functions = true;  // where they are scheduled: see fuse.hpp
  bool fresh_inputs = false;   // what is in the gradients of inputs is written over, not added to
  bool exact = true;           // with the bits of eager code
};

// For ScalarCode and ColumnCode: words over slots. With gradients the program must have one output, or the first is
// meant. Time and memory are linear in its instructions.
Lowered lower(const Draft& draft, const Lowering& how);

// The same for LaneCode, as steps, their gradients scattered.
Lowered lower_steps(const Draft& draft, const Lowering& how);

}  // namespace tapegrad
