// programs.cpp: runs programs on the numbers that Values and callers hold, and brings the gradients back.
#include "python/programs.hpp"

#include <algorithm>
#include <cstring>

#include "python/numbers.hpp"

namespace tapegrad::python {

namespace {

constexpr std::size_t kLetGoSteps = 20000;  // from this size on, a run lets other threads work

bool is_off(const std::vector<std::string>& off, const char* name) { return std::find(off.begin(), off.end(), name) != off.end(); }

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
    large = v.lowered.forward.size() + v.lowered.backward.size() > kLetGoSteps;
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

RunnableProgram::RunnableProgram(Program program, std::vector<Node*> params, bool exact, std::vector<std::string> off, bool check)
    : program_(std::move(program)),
      draft_(simplify(program_, exact, off, &counts_)),
      params_(std::move(params)),
      exact_(exact),
      check_(check),
      off_(std::move(off)) {}

RunnableProgram::~RunnableProgram() {
  for (Node* n : params_) arena().let_go(n);
}

Variant& RunnableProgram::find(Want want, const std::vector<bool>& wanted) {
  Variant*& last = last_[static_cast<int>(want)];
  if (last && wanted.empty()) return *last;
  const auto found = variants_.find({want, wanted});
  if (found != variants_.end()) return found->second;
  Lowering how;
  how.forward_only = want == Want::value;
  how.param_gradients = want == Want::param_gradients;
  if (want == Want::input_gradients) how.input_gradients = wanted.empty() ? std::vector<bool>(program_.inputs, true) : wanted;
  how.first_writer_stores = !is_off(off_, "first-writer stores");
  how.share_slots = !is_off(off_, "slot sharing");
  how.fuse_products = !is_off(off_, "fused products");
  Variant& made = variants_.emplace(std::make_pair(want, wanted), Variant(lower(draft_, how))).first->second;
  if (wanted.empty()) last = &made;
  return made;
}

const Variant& RunnableProgram::variant(Want want, const std::vector<bool>& wanted) { return find(want, wanted); }

long RunnableProgram::run(const double* inputs, double* outputs) {
  Run run(find(Want::value, {}));
  run.load(params_, inputs);
  run.let_go();
  const long guard = run.forward(check_);
  if (guard != -1) return guard;
  for (std::uint32_t slot : run.variant.lowered.outputs) *outputs++ = run.m[slot];
  return -1;
}

long RunnableProgram::run_gradients(const double* inputs, const std::vector<bool>& wanted, double* output, double* gradients) {
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
  // A parameter with operands of its own passes its gradient on to them: an ordinary sweep from above the parameters does it.
  PyObject* top = show(arena().make_custom(params_.data(), static_cast<std::uint32_t>(params_.size()), g, 0, 0.0, 0), value_type(), kTracked);
  PyObject* done = top ? value_backward(top, nullptr, 0, nullptr) : nullptr;
  Py_XDECREF(top);
  Py_XDECREF(done);
  return done ? -1 : -2;
}

}  // namespace tapegrad::python
