// programs.hpp: a recorded program together with the Values that are its parameters, ready to run: compiled in
// programs.cpp, run in program_runs.cpp and, over lanes, in program_lanes.cpp.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/replay/columns.hpp"
#include "core/replay/replay.hpp"
#include "core/replay/replay_lanes.hpp"
#include "core/replay/replay_repeats.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

enum class Want { value, input_gradients, param_gradients };

// One way to run a program, compiled on first use.
struct Variant {
  Lowered lowered;  // without its streams, which `code` has
  ScalarCode code;
  std::size_t forward_steps, backward_steps;
  std::vector<std::unique_ptr<double[]>> spare;  // prepared memory that no run uses just now

  explicit Variant(Lowered l)
      : lowered(std::move(l)),
        code(lowered),
        forward_steps(lowered.streams[0].steps.size()),
        backward_steps(lowered.streams[1].steps.size()) {
    for (Stream& stream : lowered.streams) stream = {};
  }
};

// One way to run a program for many lanes: what is the same for all, then the lanes.
struct LaneVariant {
  Split split;
  Draft uniform_draft, lanes_draft;
  Lowered uniform;
  ScalarCode uniform_code;
  std::unique_ptr<ColumnCode> columns;  // one of the two
  std::unique_ptr<LaneCode> lanes;
  std::size_t steps;
  struct Scratch {
    std::vector<double> params, memory, gradients;
    std::vector<const double*> data;
    std::vector<std::size_t> strides;
    const double* param_gradients = nullptr;  // of the last run, within this memory
    bool interior = false;                    // whether a parameter has operands of its own
  };
  class Taken;                                  // Scratch of a run, given back at the end
  std::vector<std::unique_ptr<Scratch>> spare;  // memory that no run uses just now

  LaneVariant(Split s, const Lowering& how, const std::vector<std::string>& off);
};

// A flat input of a run over lanes: its first number, and how far apart the lanes lie (0 where all lanes share it).
struct LaneInput {
  const double* data;
  std::size_t stride;
};

struct LaneOutcome {
  long guard = -1;  // the first guard that does not hold in some lane; -1: all hold; -2: an exception is set
  std::size_t failures = 0, first = 0;
};

// Used under the interpreter lock; runs of large programs let go of it, each on memory of its own.
class RunnableProgram {
 public:
  // Takes over the parameters' counts: the caller holds each node once for the program.
  RunnableProgram(Program program, std::vector<Node*> params, bool exact, std::vector<std::string> off, bool check);
  ~RunnableProgram();
  RunnableProgram(const RunnableProgram&) = delete;
  RunnableProgram& operator=(const RunnableProgram&) = delete;

  // The three ways to run. Each returns -1, or the index of the first guard that does not hold, and then has changed
  // nothing. With an error set (check=True only) it returns -2. `wanted` names the inputs whose gradients are wanted,
  // all of them when empty.
  long run(const double* inputs, double* outputs);
  long run_gradients(const double* inputs, const std::vector<bool>& wanted, double* output, double* gradients);
  long run_backward(const double* inputs, double* output);

  // The same for many lanes. `outputs` has an array of lanes for each output of the program. Gradients by the inputs:
  // an array of lanes each, null where not wanted. run_lanes_backward() adds the gradients, summed over the lanes and
  // times `seed`, into the parameters.
  LaneOutcome run_lanes(std::size_t lanes, const std::vector<LaneInput>& inputs, int threads, double* const* outputs);
  LaneOutcome run_lanes_gradients(std::size_t lanes, const std::vector<LaneInput>& inputs, int threads, double* output,
                                  double* const* gradients, const std::size_t* strides);
  LaneOutcome run_lanes_backward(std::size_t lanes, const std::vector<LaneInput>& inputs, int threads, double* output,
                                 double seed, bool* failed);

  const Program& program() const { return program_; }
  const Draft& draft();
  const std::vector<PassCount>& counts();
  LayerCounts layers();
  // What was found of repeated blocks, and what was not; both lists are empty where there is nothing to tell.
  const RepeatReport& repeats() const { return report_; }
  const std::vector<Node*>& params() const { return params_; }
  unsigned long long direct_calls = 0;  // that function_calls.cpp or lane_calls.cpp served
  std::vector<bool> whole_outputs;      // of a recorded program: which outputs are ints
  PyObject* origins = nullptr;          // a dict, owned: where the values that near misses name were made
  const Variant& variant(Want want, const std::vector<bool>& wanted);
  bool exact() const { return exact_; }
  const std::vector<std::string>& off() const { return off_; }

 private:
  struct Run;
  LaneVariant& find_lanes(Want want, const std::vector<LaneInput>& inputs, const std::vector<bool>& wanted);
  LaneOutcome run_split(LaneVariant& v, LaneVariant::Scratch& scratch, LaneRun& run,
                        const std::vector<LaneInput>& inputs, bool param_gradients);
  bool add_gradients(const double* gradients);
  bool add_to_params(const double* gradients, bool interior);
  bool any_interior() const;
  void count_layers();
  Variant& find(Want want, const std::vector<bool>& wanted);
  const RepeatCode& find_repeat_code(Want want, const std::vector<bool>& wanted);
  long run_repeats(Want want, const std::vector<bool>& wanted, const RepeatCode::Run& run);

  Program program_;
  RepeatReport report_;
  RepeatPlan plan_;                // without repeats, the whole program runs as one
  std::vector<PassCount> counts_;  // filled while draft_ is made
  std::optional<Draft> draft_;     // made when first asked for
  bool layers_counted_ = false;
  std::vector<Node*> params_;
  bool exact_, check_;
  std::vector<std::string> off_;
  std::map<std::pair<Want, std::vector<bool>>, Variant> variants_;
  std::map<std::tuple<Want, std::vector<bool>, std::vector<bool>>, LaneVariant> lane_variants_;
  struct LastLanes {
    std::vector<bool> batched, wanted;  // inputs with lanes of their own, and with gradients
    LaneVariant* variant = nullptr;
  };
  LastLanes last_lanes_[3];                         // of each Want
  Variant* last_[3] = {nullptr, nullptr, nullptr};  // of each Want, for all inputs
  std::map<std::pair<Want, std::vector<bool>>, RepeatCode> repeat_codes_;
};

}  // namespace tapegrad::python
