// programs.cpp: runs programs on the numbers that Values and callers hold, and brings the gradients back.
#include "python/compiled/programs.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "python/tools/modes.hpp"
#include "python/value/numbers.hpp"

namespace tapegrad::python {

namespace {

// Looks for Ctrl-C now and then during a run that has let go of the interpreter.
struct Interrupts {
  PyThreadState*& state;
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();

  // Whether a signal's handler has raised; the exception is set.
  bool now() {
    const auto time = std::chrono::steady_clock::now();
    if (time - last < std::chrono::milliseconds(50)) return false;
    last = time;
    PyEval_RestoreThread(state);
    const bool raised = PyErr_CheckSignals() < 0;
    state = PyEval_SaveThread();
    return raised;
  }

  template <typename AnyRun>
  void give_to(AnyRun* run) {
    run->interrupt = [](void* context) { return static_cast<Interrupts*>(context)->now(); };
    run->interrupt_context = this;
  }
};

constexpr std::size_t kLetGoSteps = 20000;  // from this size on, a run lets other threads work

bool is_off(const std::vector<std::string>& off, const char* name) {
  return std::find(off.begin(), off.end(), name) != off.end();
}

}  // namespace

// Memory for one run, given back at the end; lets go of the interpreter while a large program runs.
struct RunnableProgram::Run {
  Variant& variant;
  std::unique_ptr<double[]> memory;
  double* m;
  PyThreadState* state = nullptr;
  bool large;

  explicit Run(Variant& v) : variant(v) {
    if (v.spare.empty()) {
      memory.reset(new double[v.code.slots()]);
      v.code.prepare(memory.get());
    } else {
      memory = std::move(v.spare.back());
      v.spare.pop_back();
    }
    m = memory.get();
    large = v.forward_steps + v.backward_steps > kLetGoSteps;
  }
  ~Run() {
    hold();
    if (variant.spare.size() < 8) variant.spare.push_back(std::move(memory));
  }
  void let_go() {
    if (large) state = PyEval_SaveThread();
  }
  void hold() {
    if (state) PyEval_RestoreThread(state);
    state = nullptr;
  }

  void load(const std::vector<Node*>& params, const double* inputs) {
    const Lowered& l = variant.lowered;
    double* p = m + l.param_base;
    for (const Node* n : params) *p++ = n->data;
    std::memcpy(m + l.input_base, inputs, l.inputs * sizeof(double));
  }

  // Forward and the guards; -1 when all hold.
  long forward(bool check) {
    if (check) {
      const Failure failure = variant.code.checked_forward(m);
      if (failure.code != Code::count) {
        hold();
        raise(failure);
        return -2;
      }
    } else {
      variant.code.forward(m);
    }
    const auto& guards = variant.lowered.guards;
    for (std::size_t i = 0; i < guards.size(); ++i)
      if (!guards[i].guard.holds(m[guards[i].slot])) return static_cast<long>(i);
    return -1;
  }

  static void raise(const Failure& f) {
    switch (f.code) {
      case Code::pow:
      case Code::powc: {
        double z;
        raise_power(power(f.x, f.y, &z), f.x, f.y);
        return;
      }
      case Code::div:
        PyErr_SetString(PyExc_ZeroDivisionError, "float division by zero");
        return;
      default: {
        double z;
        bool is_int;
        const auto op = static_cast<Op>(f.code);
        raise_status(evaluate_unary(op, f.x, false, &z, &is_int), info(op).name, f.x);
      }
    }
  }
};

RunnableProgram::RunnableProgram(Program program, std::vector<Node*> params, bool exact, std::vector<std::string> off,
                                 bool check)
    : program_(std::move(program)), params_(std::move(params)), exact_(exact), check_(check), off_(std::move(off)) {
  if (!check_ && !is_off(off_, "repeats")) plan_ = find_repeats(program_, &report_);
}

RunnableProgram::~RunnableProgram() {
  for (Node* n : params_) arena().let_go(n);
  Py_XDECREF(origins);
}

const Draft& RunnableProgram::draft() {
  if (!draft_) {
    counts_.clear();
    std::vector<std::string> off = off_;
    if (exact_) off.push_back("layers");  // which only counts, and nobody may ask
    draft_ = simplify(program_, exact_, off, &counts_);
  }
  return *draft_;
}

void RunnableProgram::count_layers() {
  draft();
  if (!exact_ || is_off(off_, "layers") || layers_counted_) return;
  layers_counted_ = true;
  counts_.push_back({"layers", group_layers(*draft_, exact_)});
}

LayerCounts RunnableProgram::layers() {
  if (!plan_.repeats.empty()) return find_repeat_code(Want::value, {}).layers();
  count_layers();
  return draft_->layers;
}

const std::vector<PassCount>& RunnableProgram::counts() {
  if (plan_.repeats.empty()) {
    count_layers();
    return counts_;
  }
  if (counts_.empty() || counts_[0].name != "repeats") {
    counts_ = find_repeat_code(Want::value, {}).counts();
    counts_.insert(counts_.begin(), {"repeats", plan_.rolled});
  }
  return counts_;
}

Variant& RunnableProgram::find(Want want, const std::vector<bool>& wanted) {
  Variant*& last = last_[static_cast<int>(want)];
  if (last && wanted.empty()) return *last;
  const auto found = variants_.find({want, wanted});
  if (found != variants_.end()) return found->second;
  Lowering how;
  how.forward_only = want == Want::value;
  how.param_gradients = want == Want::param_gradients;
  if (want == Want::input_gradients)
    how.input_gradients = wanted.empty() ? std::vector<bool>(program_.inputs, true) : wanted;
  how.first_writer_stores = !is_off(off_, "first-writer stores");
  how.share_slots = !is_off(off_, "slot sharing");
  how.fuse_products = !is_off(off_, "fused products");
  how.schedule = !check_ && !is_off(off_, "scheduling");  // what is refused first is refused first in eager code too
  how.exact = exact_;
  Variant& made = variants_.emplace(std::make_pair(want, wanted), Variant(lower(draft(), how))).first->second;
  trim_scratch();
  if (wanted.empty()) last = &made;
  return made;
}

const Variant& RunnableProgram::variant(Want want, const std::vector<bool>& wanted) {
  return find(want, wanted);
}

const RepeatCode& RunnableProgram::find_repeat_code(Want want, const std::vector<bool>& wanted) {
  const auto found = repeat_codes_.find({want, wanted});
  if (found != repeat_codes_.end()) return found->second;
  RepeatWants wants;
  wants.params = want == Want::param_gradients;
  if (want == Want::input_gradients) wants.inputs = wanted.empty() ? std::vector<bool>(program_.inputs, true) : wanted;
  wants.exact = exact_;
  wants.off = off_;
  return repeat_codes_
      .emplace(std::piecewise_construct, std::forward_as_tuple(want, wanted), std::forward_as_tuple(plan_, wants))
      .first->second;
}

// Runs stages and bodies; the outcome is that of run(). Nothing outside `run` is changed.
long RunnableProgram::run_repeats(Want want, const std::vector<bool>& wanted, const RepeatCode::Run& run) {
  const RepeatCode& code = find_repeat_code(want, wanted);
  std::vector<double> params, guarded(program_.guards.size());
  params.reserve(params_.size());
  for (const Node* n : params_) params.push_back(n->data);
  RepeatCode::Run own = run;
  own.params = params.data();
  own.guarded = guarded.data();
  {
    PyThreadState* state = code.steps() > 10 * kLetGoSteps ? PyEval_SaveThread() : nullptr;
    struct Hold {
      PyThreadState*& state;
      ~Hold() {
        if (state) PyEval_RestoreThread(state);
      }
    } hold{state};
    Interrupts interrupts{state};
    if (state) interrupts.give_to(&own);
    if (!code.run(own)) return -2;
  }
  for (std::size_t i = 0; i < guarded.size(); ++i)
    if (!program_.guards[i].holds(guarded[i])) return static_cast<long>(i);
  return -1;
}

long RunnableProgram::run(const double* inputs, double* outputs) {
  if (!plan_.repeats.empty()) {
    RepeatCode::Run run;
    run.inputs = inputs;
    run.outputs = outputs;
    return run_repeats(Want::value, {}, run);
  }
  Run run(find(Want::value, {}));
  run.load(params_, inputs);
  run.let_go();
  const long guard = run.forward(check_);
  if (guard != -1) return guard;
  for (std::uint32_t slot : run.variant.lowered.outputs) *outputs++ = run.m[slot];
  return -1;
}

long RunnableProgram::run_gradients(const double* inputs, const std::vector<bool>& wanted, double* output,
                                    double* gradients) {
  if (!plan_.repeats.empty()) {
    RepeatCode::Run run;
    run.inputs = inputs;
    run.outputs = output;
    run.input_gradients = gradients;
    return run_repeats(Want::input_gradients, wanted, run);
  }
  Run run(find(Want::input_gradients, wanted));
  const Lowered& l = run.variant.lowered;
  run.load(params_, inputs);
  run.let_go();
  const long guard = run.forward(check_);
  if (guard != -1) return guard;
  *output = run.m[l.outputs[0]];
  double* g = run.m + l.input_gradients;
  if (l.inputs) std::fill(g, g + l.inputs, 0.0);
  if (l.seed != kNoSlot) {
    run.m[l.seed] = 1.0;
    run.variant.code.backward(run.m);
  }
  if (l.inputs) std::memcpy(gradients, g, l.inputs * sizeof(double));
  return -1;
}

long RunnableProgram::run_backward(const double* inputs, double* output) {
  if (!plan_.repeats.empty()) {
    std::vector<double> gradients(params_.size());
    RepeatCode::Run run;
    run.inputs = inputs;
    run.outputs = output;
    run.param_gradients = gradients.data();
    const long guard = run_repeats(Want::param_gradients, {}, run);
    return guard != -1 ? guard : add_to_params(gradients.data(), any_interior()) ? -1 : -2;
  }
  Run run(find(Want::param_gradients, {}));
  const Lowered& l = run.variant.lowered;
  run.load(params_, inputs);
  double* g = run.m + l.param_gradients;
  bool interior = false;
  for (const Node* n : params_) interior |= n->op != Op::leaf;
  std::vector<double> before;  // to see whether another thread changed a gradient meanwhile
  if (interior) {
    std::fill(g, g + params_.size(), 0.0);
  } else {
    // The parts are added to what is there one by one, in the order in which an eager sweep adds them.
    for (std::size_t i = 0; i < params_.size(); ++i) g[i] = params_[i]->grad;
    if (run.large) before.assign(g, g + params_.size());
  }
  run.let_go();
  const long guard = run.forward(check_);
  if (guard != -1) return guard;
  *output = run.m[l.outputs[0]];
  if (l.seed == kNoSlot) return -1;
  run.m[l.seed] = 1.0;
  run.variant.code.backward(run.m);
  run.hold();
  if (!interior) {
    for (std::size_t i = 0; i < params_.size(); ++i) {
      Node* n = params_[i];
      n->grad = before.empty() || n->grad == before[i] ? g[i] : n->grad + (g[i] - before[i]);
      n->flags &= static_cast<Flags>(~kGradInt);
    }
    return -1;
  }
  return add_gradients(g) ? -1 : -2;
}

// A parameter with operands of its own passes its gradient on to them: an ordinary sweep from above the parameters does
// it.
bool RunnableProgram::add_gradients(const double* gradients) {
  if (params_.empty()) return true;
  const auto above = [&] {
    const ModesAside plain;  // under no_grad, too, it needs its operands
    return show(arena().make_custom(params_.data(), params_.size(), gradients, 0, 0.0, 0), value_type(), kTracked);
  };
  PyObject* top = above();
  PyObject* done = top ? value_backward(top, nullptr, 0, nullptr) : nullptr;
  Py_XDECREF(top);
  Py_XDECREF(done);
  return done != nullptr;
}

bool RunnableProgram::any_interior() const {
  return std::any_of(params_.begin(), params_.end(), [](const Node* n) { return n->op != Op::leaf; });
}

// Gradients that start from zero, added to what the parameters have.
bool RunnableProgram::add_to_params(const double* gradients, bool interior) {
  if (interior) return add_gradients(gradients);
  for (std::size_t i = 0; i < params_.size(); ++i) {
    params_[i]->grad += gradients[i];
    params_[i]->flags &= static_cast<Flags>(~kGradInt);
  }
  return true;
}

// ---- lanes

LaneVariant::LaneVariant(Split s, const Lowering& how, const std::vector<std::string>& off)
    : split(std::move(s)),
      uniform_draft(simplify(split.uniform, false, off, nullptr)),
      lanes_draft(simplify(split.lanes, false, off, nullptr)),
      uniform(lower(uniform_draft,
                    [&] {
                      Lowering own = how;
                      own.input_gradients.clear();
                      own.forward_only = !how.param_gradients;
                      own.schedule = !is_off(off, "scheduling");
                      return own;
                    }())),
      uniform_code(uniform),
      steps(split.lanes.code.size()) {
  if (!is_off(off, "column kernels") && split.lanes.params <= ColumnCode::kMostParams) {
    Lowering own = how;
    own.fresh_inputs = true;
    own.exact = false;
    const Lowered lowered = lower(lanes_draft, own);
    if (ColumnCode::suits(lowered)) columns = std::make_unique<ColumnCode>(lowered);
  }
  if (!columns) lanes = std::make_unique<LaneCode>(lower_steps(lanes_draft, how), !is_off(off, "layers"));
}

LaneVariant& RunnableProgram::find_lanes(Want want, const std::vector<LaneInput>& inputs,
                                         const std::vector<bool>& wanted) {
  const auto has_lanes = [&](std::size_t k) { return inputs[k].stride || (k < wanted.size() && wanted[k]); };
  LastLanes& last = last_lanes_[static_cast<int>(want)];
  if (last.variant && last.batched.size() == inputs.size() && last.wanted == wanted) {
    std::size_t k = 0;
    while (k < inputs.size() && last.batched[k] == has_lanes(k)) ++k;
    if (k == inputs.size()) return *last.variant;
  }
  std::vector<bool> batched;
  for (std::size_t k = 0; k < inputs.size(); ++k) batched.push_back(has_lanes(k));
  const auto key = std::make_tuple(want, batched, wanted);
  const auto keep = [&](LaneVariant& v) -> LaneVariant& {
    last = {batched, wanted, &v};
    return v;
  };
  const auto found = lane_variants_.find(key);
  if (found != lane_variants_.end()) return keep(found->second);
  Split split = split_uniform(program_, batched, !is_off(off_, "uniform subexpressions"));
  Lowering how;
  how.forward_only = want == Want::value;
  how.param_gradients = want == Want::param_gradients;
  for (std::uint32_t k : split.lane_inputs)
    if (want == Want::input_gradients) how.input_gradients.push_back(wanted[k]);
  how.first_writer_stores = !is_off(off_, "first-writer stores");
  how.share_slots = !is_off(off_, "slot sharing");
  how.fuse_products = !is_off(off_, "fused products");
  const auto made = lane_variants_.emplace(std::piecewise_construct, std::forward_as_tuple(key),
                                           std::forward_as_tuple(std::move(split), how, off_));
  return keep(made.first->second);
}

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
