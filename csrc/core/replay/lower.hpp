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

namespace tapegrad {

inline constexpr std::uint32_t kNoSlot = ~0u;

// Registers from here on stand for slots that are settled from the start.
inline constexpr std::uint32_t kSettled = 1u << 31;

struct Step {
  std::uint16_t code = 0;
  Mode mode_x = Mode::none, mode_y = Mode::none;
  std::uint32_t z = kNoSlot, x = kNoSlot, y = kNoSlot;    // values; of select z, condition x and choices y, w
  std::uint32_t g = kNoSlot, dx = kNoSlot, dy = kNoSlot;  // gradients: of the result, of the operands
  std::uint32_t first = 0, count = 0;                     // of a sum: its terms
};

// One term of a sum: forward and in kDot the value x, or the product x * y; backward the gradient x and its mode. Of a
// fused step what it reads and writes, see fuse.hpp.
struct Term {
  std::uint32_t x, y;
  Mode mode;
};

struct CheckedSlot {
  std::uint32_t slot;
  Guard guard;
};

struct Lowered {
  std::vector<Step> forward, backward;
  std::vector<Term> terms;
  std::vector<double> constants;
  std::uint32_t inputs = 0, params = 0;
  std::uint32_t input_base = 0, param_base = 0;
  std::uint32_t input_gradients = kNoSlot, param_gradients = kNoSlot;  // first slot of each, where wanted
  std::uint32_t slots = 0;
  std::uint32_t seed = kNoSlot;  // gradient of the output; kNoSlot where nothing wanted depends on it
  std::vector<std::uint32_t> outputs;
  std::vector<CheckedSlot> guards;
  bool spelled_out = false;  // in the form that schedule.hpp tells of
  bool exact = true;         // as in Lowering
};

struct Lowering {
  bool forward_only = true;
  bool param_gradients = false;
  std::vector<bool> input_gradients;  // which inputs; empty for none
  bool first_writer_stores = true;
  bool share_slots = true;
  bool fuse_products = true;
  // What follows is for ScalarCode and ColumnCode; LaneCode takes steps as they are.
  bool gather = false;         // gradients as sums of products, see schedule.hpp
  bool schedule = false;       // gather, and put the steps in an order with long runs of one kind
  bool fuse_functions = true;  // where steps are scheduled: see fuse.hpp
  bool fresh_inputs = false;   // what is in the gradients of inputs is written over, not added to
  bool exact = true;           // with the bits of eager code
};

// With gradients the program must have one output. Time and memory linear in its instructions.
Lowered lower(const Draft& draft, const Lowering& how);

// Which of x, y and z the partial derivative by operand k of a table operation reads.
struct Reads {
  bool x, y, z;
};
Reads derivative_reads(Code code, int k);

}  // namespace tapegrad
