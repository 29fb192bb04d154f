// replay_repeats.cpp: runs stages and bodies in order, and then the gradients, back the same way.
#include "core/replay/replay_repeats.hpp"

#include <algorithm>

#include "core/replay/repeat_code.hpp"

namespace tapegrad {

RepeatCode::~RepeatCode() = default;

std::unique_ptr<RepeatCode::Memory> RepeatCode::take_memory() const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!spare_.empty()) {
      std::unique_ptr<Memory> m = std::move(spare_.back());
      spare_.pop_back();
      return m;
    }
  }
  auto m = std::make_unique<Memory>();
  m->places.assign(plan_.places, 0.0);
  m->gradients.assign(plan_.places, 0.0);
  for (const auto& [at, number] : plan_.constants) m->places[at] = number;
  for (const StageCode& s : stages_) {
    m->stages.emplace_back(s.code.slots());
    s.code.prepare(m->stages.back().data());
  }
  std::size_t most = 1;
  for (const BodyCode& b : bodies_) {
    Memory::Body body;
    const std::size_t lanes = b.repeat->lanes;
    body.columns.assign((b.columns.size() + b.out_seeds.size()) * lanes, 0.0);
    body.column_gradients.assign(b.columns.size() * lanes, 0.0);
    body.outputs.assign(b.lane_outputs * lanes, 0.0);
    most = std::max({most, b.columns.size() + b.out_seeds.size()});
    m->bodies.push_back(std::move(body));
  }
  m->ones.assign(most, 1);
  return m;
}

bool RepeatCode::run(const Run& run) const {
  std::unique_ptr<Memory> memory = take_memory();
  const bool finished = run_in(*memory, run);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.size() < 8) spare_.push_back(std::move(memory));
  return finished;
}

// A run in memory of which it needs nothing but the constants.
bool RepeatCode::run_in(Memory& m, const Run& run) const {
  std::copy_n(run.params, plan_.params, m.places.begin());
  std::copy_n(run.inputs, plan_.inputs, m.places.begin() + plan_.params);
  const auto gives_up = [&] { return run.interrupt && run.interrupt(run.interrupt_context); };

  const auto forward = [&](const StageCode& s, std::vector<double>& slots) {
    double* in = slots.data() + s.lowered.input_base;
    const std::vector<U32>& from = s.stage->inputs;
    if (s.run) std::copy_n(m.places.data() + from[0], s.run, in);
    for (std::size_t k = s.run; k < from.size(); ++k) in[k] = m.places[from[k]];
    s.code.forward(slots.data());
    for (std::size_t k = 0; k < s.stage->outputs.size(); ++k)
      m.places[s.stage->outputs[k]] = slots[s.lowered.outputs[k + s.first_output]];
  };
  // The gradients of the stage's inputs that `take` accepts are added to those of their places.
  const auto backward = [&](const StageCode& s, std::vector<double>& slots, auto take) {
    if (s.lowered.seed == kNoSlot) return;
    double* seeds = slots.data() + s.lowered.input_base + s.stage->inputs.size();
    for (U32 at : s.seeds) *seeds++ = m.gradients[at];
    double* g = slots.data() + s.lowered.input_gradients;
    std::fill(g, g + s.lowered.inputs, 0.0);
    slots[s.lowered.seed] = 1.0;
    s.code.backward(slots.data());
    for (U32 k : s.wanted)
      if (take(s.stage->inputs[k])) m.gradients[s.stage->inputs[k]] += g[k];
  };

  const bool wanted = gradients_ && (run.param_gradients || run.input_gradients);
  const bool early = wanted && early_;
  if (wanted) {
    std::fill(m.gradients.begin(), m.gradients.end(), 0.0);
    m.gradients[plan_.outputs[0]] = 1.0;
  }
  for (U32 level = 0; level < stages_.size(); ++level) {
    if (gives_up()) return false;
    forward(stages_[level], m.stages[level]);
    if (level > last_level_) continue;
    if (level == last_level_ && early) {
      // The last stage once with whatever values: it gives the seeds, which do not depend on them.
      forward(stages_[level + 1], m.stages[level + 1]);
      backward(stages_[level + 1], m.stages[level + 1], [&](U32 at) { return made_[at]; });
      if (!run_bodies(m, level, Part::other_values, run) || !run_bodies(m, level, Part::gradients, run)) return false;
    } else if (!run_bodies(m, level, Part::values, run)) {
      return false;
    }
  }
  for (std::size_t k = 0; run.outputs && k < plan_.outputs.size(); ++k) run.outputs[k] = m.places[plan_.outputs[k]];
  for (std::size_t k = 0; run.guarded && k < plan_.guards.size(); ++k) run.guarded[k] = m.places[plan_.guards[k]];
  if (wanted) {
    for (U32 level = static_cast<U32>(stages_.size()); level-- > 0;) {
      if (gives_up()) return false;
      if (level <= last_level_ && !(early && level == last_level_) && !run_bodies(m, level, Part::gradients, run))
        return false;
      if (early && level == last_level_ + 1)
        backward(stages_[level], m.stages[level], [&](U32 at) { return !made_[at]; });
      else
        backward(stages_[level], m.stages[level], [](U32) { return true; });
    }
  }
  if (run.param_gradients) std::copy_n(m.gradients.begin(), plan_.params, run.param_gradients);
  if (run.input_gradients) std::copy_n(m.gradients.begin() + plan_.params, plan_.inputs, run.input_gradients);
  return true;
}

}  // namespace tapegrad
