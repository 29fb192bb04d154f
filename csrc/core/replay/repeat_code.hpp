// repeat_code.hpp: what RepeatCode consists of: compiled stages and bodies, and the memory of a run. Compiled in
// compile_repeats.cpp, run by replay_bodies.cpp and replay_repeats.cpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/replay/lower.hpp"
#include "core/replay/replay_repeats.hpp"

namespace tapegrad {

using U32 = std::uint32_t;

// How many of the first places lie next to each other: parameters do, mostly, and are then copied as one.
inline std::size_t first_run(const std::vector<U32>& places) {
  std::size_t run = std::min<std::size_t>(places.size(), 1);
  while (run < places.size() && places[run] == places[run - 1] + 1) ++run;
  return run;
}

// A stage with its gradients; `wanted` are positions in inputs.
struct RepeatCode::StageCode {
  const Stage* stage;
  Lowered lowered;
  ScalarCode code;
  U32 first_output = 0;     // of the lowered program: 1 after the carrier
  std::vector<U32> seeds;   // places whose gradients the stage takes, in the order of its last inputs
  std::vector<U32> wanted;  // positions in stage->inputs whose gradients it gives
  std::size_t run;          // of the inputs
  StageCode(const Stage* s, Lowered l) : stage(s), lowered(std::move(l)), code(lowered), run(first_run(s->inputs)) {}
};

struct RepeatCode::BodyCode {
  // How a column is read: in place, or gathered.
  struct ColumnRead {
    const double* fixed = nullptr;
    U32 input = kNoPlace;  // the input of the first lane, with its stride
    std::size_t stride = 1;
    bool gradient = false;
  };
  // One way to run the body: what lanes share is computed once, then the lanes.
  struct Way {
    Split split;
    Lowered uniform;
    ScalarCode uniform_code;
    LaneCode lanes;
    Way(Split s, Lowered u, const Lowered& l, bool layers)
        : split(std::move(s)), uniform(std::move(u)), uniform_code(uniform), lanes(l, layers) {}
  };
  const Repeat* repeat = nullptr;
  std::unique_ptr<Way> forward, both;  // both is null where nothing wanted depends on the body
  std::vector<ColumnRead> columns;
  // Of `both`: outputs of the lanes by output of the body, and where seeds come from.
  bool direct = false;  // the only gradient is that of the first output: a number for all lanes
  U32 direct_output = 0;
  std::vector<U32> sum_seeds;  // sums whose gradients are params after the uniforms
  std::vector<U32> out_seeds;  // outs whose gradients are columns after the columns
  std::vector<U32> outputs;    // output of the lanes for each output of the body
  U32 lane_outputs = 0;
  bool uniform_gradients = false;
  std::size_t run = 0;  // of the uniforms
};

struct RepeatCode::Memory {
  std::vector<double> places, gradients;
  std::vector<std::vector<double>> stages;
  struct Body {
    std::vector<double> params, param_gradients, uniform, columns, column_gradients, outputs;
  };
  std::vector<Body> bodies;
  std::vector<const double*> data;
  std::vector<std::size_t> strides, ones;
  std::vector<double*> outputs, column_gradients;
};

}  // namespace tapegrad
