// program_runs.cpp: runs programs on the numbers that Values and callers hold, and brings the gradients back.
#include <algorithm>
#include <cstring>

#include "python/compiled/programs.hpp"
#include "python/compiled/runs.hpp"
#include "python/tools/modes.hpp"
#include "python/value/numbers.hpp"

namespace tapegrad::python {

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

}  // namespace tapegrad::python
