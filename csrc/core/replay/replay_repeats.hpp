// replay_repeats.hpp: runs a program whose repeats were found: scalar stages, and between them bodies over lanes; then
// the gradients, back the same way.
//
// Sums over lanes are formed in an order that depends on the number of lanes only (values) and on the instruction set
// (gradients of what all lanes share), never on threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/program/passes/repeats.hpp"
#include "core/replay/replay.hpp"
#include "core/replay/replay_lanes.hpp"

namespace tapegrad {

// Which gradients a compiled plan gives, and how it is compiled.
struct RepeatWants {
  bool params = false;
  std::vector<bool> inputs;  // which; empty for none
  bool exact = true;         // of the scalar stages
  std::vector<std::string> off;
};

class RepeatCode {
 public:
  RepeatCode(const RepeatPlan& plan, const RepeatWants& wants);
  ~RepeatCode();

  // Values of the program's outputs, and with gradients wanted, those of the first output: all that are not null are
  // written. Guards are the caller's: `guarded` receives the value of each. Throws std::bad_alloc only.
  struct Run {
    const double* params = nullptr;
    const double* inputs = nullptr;
    double* outputs = nullptr;
    double* guarded = nullptr;
    double* param_gradients = nullptr;
    double* input_gradients = nullptr;
    bool (*interrupt)(void*) = nullptr;  // asked now and then: whether to give up
    void* interrupt_context = nullptr;
  };
  // False if given up: then what `run` names is of no use.
  bool run(const Run& run) const;

  std::size_t steps() const { return steps_; }  // operations of a run, lanes counted
  const std::vector<PassCount>& counts() const { return counts_; }
  const LayerCounts& layers() const { return layers_; }  // in all bodies and stages, each counted once

 private:
  struct StageCode;
  struct BodyCode;
  struct Memory;
  std::unique_ptr<Memory> take_memory() const;
  enum class Part {
    values,
    other_values,
    gradients
  };  // of all bodies; of those without gradients; both, of the others
  bool run_in(Memory& m, const Run& run) const;
  bool run_bodies(Memory& m, std::uint32_t level, Part part, const Run& run) const;

  const RepeatPlan& plan_;  // kept by the caller
  bool gradients_ = false;
  bool early_ = false;      // gradients of the last bodies' sums do not depend on their values
  std::vector<bool> made_;  // places that the last bodies write
  std::uint32_t last_level_ = 0;
  std::size_t steps_ = 0;
  std::vector<StageCode> stages_;
  std::vector<BodyCode> bodies_;
  std::vector<PassCount> counts_;
  LayerCounts layers_;
  mutable std::mutex mutex_;  // guards the memory that no run uses just now
  mutable std::vector<std::unique_ptr<Memory>> spare_;
};

}  // namespace tapegrad
