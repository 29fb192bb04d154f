// passes.hpp: the simplifications of a program. Each is one function that may be left out; none changes what a program
// computes.
//
// With `exact` set a pass keeps every bit of values and gradients, in particular the order in which gradients are
// added; without it sums may be formed in another order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/program/program.hpp"

namespace tapegrad {

// What was found of sums of products: how many, and over how many different vectors of inputs.
struct LayerCounts {
  std::size_t dots = 0, layers = 0;
};

// A program while it is being simplified. `same[i]` is the first value known to equal value i bit for bit (i itself if
// there is none): it need not be computed again, but keeps gradients of its own.
struct Draft {
  Program program;
  std::vector<std::uint32_t> same;
  LayerCounts layers;

  explicit Draft(Program p);

  // Takes code and pool of `written`, in which place[n] is where the value of instruction n is now; none is its like.
  void rewrite(Program written, const std::vector<std::uint32_t>& place);
};

// Each returns how many instructions it removed or replaced.
std::size_t replace_powers(Draft& draft, bool exact);  // must run first
std::size_t cancel_logarithms(Draft& draft, bool exact);
std::size_t fold_constants(Draft& draft, bool exact);
std::size_t merge_common_subexpressions(Draft& draft, bool exact);
std::size_t merge_sum_chains(Draft& draft, bool exact);
std::size_t remove_dead_code(Draft& draft, bool exact);
std::size_t group_layers(Draft& draft, bool exact);  // last: counts the sums of products, and moves them when not exact

// A program in two: what is the same for all lanes is computed once a call, the rest in each lane.
struct Split {
  Program uniform;  // params as before; inputs: uniform_inputs, then one gradient for each shared value. outputs[0]
                    // carries those gradients backward, outputs[1 ...] are the shared values
  Program lanes;  // params: those of before, then uniform_inputs, then the shared values; inputs: lane_inputs; outputs
                  // as before
  std::vector<std::uint32_t> uniform_inputs, lane_inputs;  // numbers that the inputs had before
  std::uint32_t shared = 0;
};
// With `hoist` off, only inputs and parameters are shared.
Split split_uniform(const Program& program, const std::vector<bool>& batched, bool hoist);

struct Pass {
  const char* name;
  std::size_t (*run)(Draft& draft, bool exact);
};
extern const Pass kPasses[7];  // in the order they run

struct PassCount {
  std::string name;
  std::size_t count;
};

// Runs the passes that are not named in `off`.
Draft simplify(Program program, bool exact, const std::vector<std::string>& off, std::vector<PassCount>* counts);

}  // namespace tapegrad
