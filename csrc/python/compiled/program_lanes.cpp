// program_lanes.cpp: runs programs over lanes: what is the same for all lanes once, then the lanes, and back.
#include <algorithm>

#include "python/compiled/programs.hpp"
#include "python/compiled/runs.hpp"

namespace tapegrad::python {

class LaneVariant::Taken {
 public:
  explicit Taken(LaneVariant& from) : variant_(from) {
    if (from.spare.empty()) {
      scratch_ = std::make_unique<Scratch>();
      return;
    }
    scratch_ = std::move(from.spare.back());
    from.spare.pop_back();
  }
  ~Taken() {
    if (variant_.spare.size() < 8) variant_.spare.push_back(std::move(scratch_));
  }
  Scratch& operator*() const { return *scratch_; }
  Scratch* operator->() const { return scratch_.get(); }

 private:
  LaneVariant& variant_;
  std::unique_ptr<Scratch> scratch_;
};

// Uniform part, lanes, and back; lets go of the interpreter where that is worth it. Nothing outside `scratch` and what
// `run` names is changed; the parameters' gradients, where wanted, are left there.
LaneOutcome RunnableProgram::run_split(LaneVariant& v, LaneVariant::Scratch& scratch, LaneRun& run,
                                       const std::vector<LaneInput>& inputs, bool param_gradients) {
  const Split& split = v.split;
  std::vector<double>&params = scratch.params, &memory = scratch.memory;
  params.resize(params_.size());
  scratch.interior = false;
  for (std::size_t i = 0; i < params_.size(); ++i) {
    params[i] = params_[i]->data;
    scratch.interior |= params_[i]->op != Op::leaf;
  }
  PyThreadState* state = run.lanes * v.steps > 50 * kLetGoSteps ? PyEval_SaveThread() : nullptr;
  struct Hold {
    PyThreadState*& state;
    ~Hold() {
      if (state) PyEval_RestoreThread(state);
    }
  } hold{state};

  const auto unbatched = static_cast<std::uint32_t>(split.uniform_inputs.size());
  if (split.shared) {
    if (memory.empty()) {
      memory.resize(v.uniform_code.slots());
      v.uniform_code.prepare(memory.data());
    }
    std::copy(params.begin(), params.end(), memory.begin() + v.uniform.param_base);
    for (std::uint32_t k = 0; k < unbatched; ++k)
      memory[v.uniform.input_base + k] = *inputs[split.uniform_inputs[k]].data;
    v.uniform_code.forward(memory.data());
  }
  for (std::uint32_t k : split.uniform_inputs) params.push_back(*inputs[k].data);
  for (std::uint32_t k = 0; k < split.shared; ++k) params.push_back(memory[v.uniform.outputs[k + 1]]);

  std::vector<const double*>& data = scratch.data;
  std::vector<std::size_t>& strides = scratch.strides;
  data.clear();
  strides.clear();
  for (std::uint32_t k : split.lane_inputs) {
    data.push_back(inputs[k].data);
    strides.push_back(inputs[k].stride);
  }
  std::vector<double>& gradients = scratch.gradients;
  if (param_gradients) gradients.resize(params.size());
  run.params = params.data();
  run.inputs = data.data();
  run.input_strides = strides.data();
  run.param_gradients = param_gradients ? gradients.data() : nullptr;
  scratch.param_gradients = gradients.data();
  LaneGuards guards;
  Interrupts interrupts{state};
  if (state) interrupts.give_to(&run);
  v.columns ? v.columns->run(run, &guards) : v.lanes->run(run, &guards);
  if (guards.interrupted) return {-2, 0, 0};
  for (std::size_t k = 0; k < guards.failures.size(); ++k)
    if (guards.failures[k]) return {static_cast<long>(k), guards.failures[k], guards.first[k]};
  if (!param_gradients) return {};
  if (split.shared && v.uniform.seed != kNoSlot) {
    double* m = memory.data();
    for (std::uint32_t k = 0; k < split.shared; ++k)
      m[v.uniform.input_base + unbatched + k] = gradients[params_.size() + unbatched + k];
    std::copy(gradients.begin(), gradients.begin() + static_cast<std::ptrdiff_t>(params_.size()),
              m + v.uniform.param_gradients);
    m[v.uniform.seed] = 1.0;
    v.uniform_code.backward(m);
    scratch.param_gradients = m + v.uniform.param_gradients;
  }
  return {};
}

LaneOutcome RunnableProgram::run_lanes(std::size_t lanes, const std::vector<LaneInput>& inputs, int threads,
                                       double* const* outputs) {
  LaneRun run;
  run.lanes = lanes;
  run.threads = threads;
  run.outputs = outputs;
  LaneVariant& v = find_lanes(Want::value, inputs, {});
  const LaneVariant::Taken scratch(v);
  return run_split(v, *scratch, run, inputs, false);
}

LaneOutcome RunnableProgram::run_lanes_gradients(std::size_t lanes, const std::vector<LaneInput>& inputs, int threads,
                                                 double* output, double* const* gradients, const std::size_t* strides) {
  std::vector<bool> wanted;
  for (std::size_t k = 0; k < inputs.size(); ++k) wanted.push_back(gradients[k] != nullptr);
  LaneVariant& v = find_lanes(Want::input_gradients, inputs, wanted);
  std::vector<double*> to;
  std::vector<std::size_t> apart;
  for (std::uint32_t k : v.split.lane_inputs) {
    to.push_back(gradients[k]);
    apart.push_back(strides[k]);
  }
  LaneRun run;
  run.lanes = lanes;
  run.threads = threads;
  run.outputs = &output;
  run.input_gradients = to.data();
  run.gradient_strides = apart.data();
  const LaneVariant::Taken scratch(v);
  return run_split(v, *scratch, run, inputs, false);
}

LaneOutcome RunnableProgram::run_lanes_backward(std::size_t lanes, const std::vector<LaneInput>& inputs, int threads,
                                                double* output, double seed, bool* failed) {
  LaneRun run;
  run.lanes = lanes;
  run.threads = threads;
  run.outputs = &output;
  run.seed = seed;
  LaneVariant& v = find_lanes(Want::param_gradients, inputs, {});
  const LaneVariant::Taken scratch(v);
  const LaneOutcome outcome = run_split(v, *scratch, run, inputs, true);
  *failed = outcome.guard == -1 && !add_to_params(scratch->param_gradients, scratch->interior);
  return outcome;
}

}  // namespace tapegrad::python
