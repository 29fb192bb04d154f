// test_repeats.cpp: programs with planted loops, near misses and carried values; the oracle is evaluation instruction
// by instruct and a plain reverse sweep over the program, written out here from the op table's partials.
#include "core/program/passes/repeats.hpp"

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/ops/ops.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/replay_repeats.hpp"

using namespace tapegrad;

namespace {

using U32 = std::uint32_t;

// ---- oracle

std::vector<double> values_of(const Program& p, const std::vector<double>& inputs, const std::vector<double>& params) {
  std::vector<double> v(p.code.size());
  for (std::size_t n = 0; n < v.size(); ++n) {
    const Instruction& i = p.code[n];
    v[n] = i.code == Code::input ? inputs[i.a] : i.code == Code::param ? params[i.a] : evaluate(p, i, v.data());
  }
  return v;
}

std::vector<double> adjoints_of(const Program& p, const std::vector<double>& v) {
  std::vector<double> g(p.code.size(), 0.0);
  g[p.outputs[0]] = 1.0;
  for (std::size_t n = p.code.size(); n-- > 0;) {
    const Instruction& i = p.code[n];
    switch (i.code) {
      case Code::input:
      case Code::param:
      case Code::constant:
      case Code::detach:
        break;
      case Code::select:
        g[v[i.a] != 0 ? i.b : i.c] += g[n];
        break;
      case Code::sum:
        for (U32 k = 0; k < i.b; ++k) g[p.pool[i.a + k]] += g[n];
        break;
      case Code::linear:
        for (U32 k = 0; k < i.b; ++k) g[p.pool[i.a + k]] += v[p.pool[i.a + i.b + k]] * g[n];
        break;
      case Code::powc:
        g[i.a] += fn::pow_dx(v[i.a], i.number) * g[n];
        break;
#define TAPEGRAD_UNARY(id, ...)                      \
  case Code::id:                                     \
    g[i.a] += Rule<Op::id>::dx(v[i.a], v[n]) * g[n]; \
    break;
#define TAPEGRAD_BINARY(id, ...)                                     \
  case Code::id: {                                                   \
    const double dx = Rule<Op::id>::dx(v[i.a], v[i.b], v[n]) * g[n]; \
    const double dy = Rule<Op::id>::dy(v[i.a], v[i.b], v[n]) * g[n]; \
    g[i.a] += dx;                                                    \
    g[i.b] += dy;                                                    \
    break;                                                           \
  }
#include "core/ops/ops.def"
      default:
        CHECK(false);
    }
  }
  return g;
}

// Runs the plan in the three ways and compares with the oracle.
void compare(const Program& p, const RepeatPlan& plan, const std::vector<double>& inputs,
             const std::vector<double>& params, std::vector<std::string> off = {}) {
  const std::vector<double> v = values_of(p, inputs, params), g = adjoints_of(p, v);
  std::vector<double> input_gradients(inputs.size(), 0.0), param_gradients(params.size(), 0.0);
  double largest = 0.0;
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    if (p.code[n].code == Code::input) input_gradients[p.code[n].a] += g[n];
    if (p.code[n].code == Code::param) param_gradients[p.code[n].a] += g[n];
    largest = std::max(largest, std::fabs(g[n]));
  }
  for (int way = 0; way < 4; ++way) {
    RepeatWants wants;
    wants.off = off;
    wants.params = way & 1;
    if (way & 2) wants.inputs.assign(inputs.size(), true);
    const RepeatCode code(plan, wants);
    for (int again = 0; again < 2; ++again) {  // memory is used again
      std::vector<double> outputs(p.outputs.size(), 99), guarded(p.guards.size(), 99), by_param(params.size(), 99),
          by_input(inputs.size(), 99);
      RepeatCode::Run run;
      run.params = params.data();
      run.inputs = inputs.data();
      run.outputs = outputs.data();
      run.guarded = guarded.data();
      if (way & 1) run.param_gradients = by_param.data();
      if (way & 2) run.input_gradients = by_input.data();
      // Given up at each of the places where it asks, it goes on with the same memory as if nothing had been.
      struct Asks {
        int left;
      };
      run.interrupt = [](void* context) { return static_cast<Asks*>(context)->left-- == 0; };
      for (int asks = 0;; ++asks) {
        Asks context{asks};
        run.interrupt_context = &context;
        if (code.run(run)) break;
        CHECK(context.left == -1 && asks < 10000);  // at once: it was not asked again
      }
      CHECK([&] {
        Asks context{0};
        run.interrupt_context = &context;
        return !code.run(run);
      }());
      run.interrupt = nullptr;
      CHECK(code.run(run));
      for (std::size_t k = 0; k < outputs.size(); ++k) CHECK_NEAR(outputs[k], v[p.outputs[k]], 1e-12);
      for (std::size_t k = 0; k < guarded.size(); ++k) CHECK_NEAR(guarded[k], v[p.guards[k].value], 1e-12);
      for (std::size_t k = 0; k < params.size() && (way & 1); ++k)
        CHECK(std::fabs(by_param[k] - param_gradients[k]) <= 1e-11 * (1 + largest));
      for (std::size_t k = 0; k < inputs.size() && (way & 2); ++k)
        CHECK(std::fabs(by_input[k] - input_gradients[k]) <= 1e-11 * (1 + largest));
    }
  }
}

// ---- planted loops

enum class Mutation { none, operation, operand, constant, missing, exponent };

// Builds programs; leaves become instructions when they are first asked for, as the recorder has it.
struct Writer {
  Program p;
  std::vector<U32> params, inputs;
  Writer(U32 param_count, U32 input_count) : params(param_count, ~0u) {
    p.params = param_count;
    p.inputs = input_count;
    for (U32 k = 0; k < input_count; ++k) inputs.push_back(p.add({Code::input, k}));
  }
  U32 param(U32 k) {
    if (params[k] == ~0u) params[k] = p.add({Code::param, k});
    return params[k];
  }
  U32 constant(double x) { return p.add({Code::constant, 0, 0, 0, x}); }
  U32 op(Code code, U32 a, U32 b = 0) { return p.add({code, a, b}); }
};

// A random block: each step an operation with operands that are described, not fixed.
struct Operand {
  enum Kind { local, param, any_param, input, constant, own_constant, outside, carried } kind;
  U32 index;
  double number;
};
struct BlockStep {
  Code code;
  Operand a, b, c;
};

struct Block {
  std::vector<BlockStep> steps;
};

constexpr U32 kParams = 6, kInputsEach = 3;

Block random_block(std::mt19937& random, int size, bool carried) {
  constexpr Code kCodes[] = {Code::add,  Code::mul,    Code::mul,  Code::tanh, Code::sin, Code::maximum,
                             Code::less, Code::select, Code::relu, Code::powc, Code::sum, Code::detach,
                             Code::add,  Code::linear, Code::exp,  Code::div};
  Block block;
  const auto operand = [&](U32 at) {
    const U32 r = random() % 16;
    if (at && r < 8) return Operand{Operand::local, at - 1 - static_cast<U32>(random() % std::min(at, 6u)), 0};
    if (r < 9) return Operand{Operand::param, static_cast<U32>(random() % kParams), 0};
    if (r < 10) return Operand{Operand::any_param, static_cast<U32>(random() % 1000), 0};
    if (r < 12) return Operand{Operand::input, static_cast<U32>(random() % kInputsEach), 0};
    if (r < 13) return Operand{Operand::constant, 0, 0.25 + random() % 4};
    if (r < 14) return Operand{Operand::own_constant, static_cast<U32>(random() % 5), 0};
    if (r < 15 && carried) return Operand{Operand::carried, static_cast<U32>(random() % std::max(at, 1u)), 0};
    return Operand{Operand::outside, static_cast<U32>(random() % 3), 0};
  };
  for (int k = 0; k < size; ++k) {
    const auto at = static_cast<U32>(k);
    BlockStep s{kCodes[random() % std::size(kCodes)], operand(at), operand(at), operand(at)};
    if (k && random() % 4) (random() % 2 ? s.a : s.b) = {Operand::local, at - 1, 0};  // most of the block is alive
    block.steps.push_back(s);
  }
  return block;
}

struct Loop {
  Writer* w;
  std::vector<U32> outside, previous;
  std::mt19937* random;

  U32 value(const Operand& o, U32 iteration, const std::vector<U32>& own) {
    switch (o.kind) {
      case Operand::local:
        return own[o.index];
      case Operand::param:
        return w->param(o.index);
      case Operand::any_param:
        return w->param((o.index + iteration * 7) % kParams);
      case Operand::input:
        return w->inputs[iteration * kInputsEach + o.index];
      case Operand::constant:
        return w->constant(o.number);
      case Operand::own_constant:
        return w->constant(0.125 * ((iteration * 37 + o.index * 11) % 19) - 1);
      case Operand::carried:
        return previous.empty() ? outside[0] : previous[o.index % previous.size()];
      default:
        return outside[o.index % outside.size()];
    }
  }

  // One repeat; the value is its last. `mutate` < steps changes that step.
  U32 run(const Block& block, U32 iteration, Mutation mutation, std::size_t mutate) {
    std::vector<U32> own;
    Program& p = w->p;
    for (std::size_t k = 0; k < block.steps.size(); ++k) {
      BlockStep s = block.steps[k];
      const bool here = k == mutate && mutation != Mutation::none;
      if (here && mutation == Mutation::missing && k) {
        own.push_back(own.back());
        continue;
      }
      if (here && mutation == Mutation::operation) s.code = s.code == Code::sin ? Code::tanh : Code::sin;
      if (here && mutation == Mutation::operand && k) s.a = {Operand::local, static_cast<U32>((*random)() % k), 0};
      if (here && mutation == Mutation::constant) s.a = {Operand::constant, 0, -0.625};
      const U32 a = value(s.a, iteration, own), b = value(s.b, iteration, own), c = value(s.c, iteration, own);
      switch (s.code) {  // keep numbers tame
        case Code::powc:
          own.push_back(
              p.add({Code::powc, w->op(Code::sin, a), 0, 0, here && mutation == Mutation::exponent ? 3.0 : 2.0}));
          break;
        case Code::exp:
          own.push_back(w->op(Code::exp, w->op(Code::sin, a)));
          break;
        case Code::div:
          own.push_back(w->op(Code::div, w->op(Code::sin, a), w->op(Code::exp, w->op(Code::tanh, b))));
          break;
        case Code::mul:
          own.push_back(w->op(Code::mul, w->op(Code::sin, a), b));
          break;
        case Code::select:
          own.push_back(p.add({Code::select, w->op(Code::less, a, b), b, c}));
          break;
        case Code::sum:
          own.push_back(p.add({Code::sum, static_cast<U32>(p.pool.size()), 3}));
          p.pool.insert(p.pool.end(), {a, b, c});
          break;
        case Code::linear: {
          const U32 slopes[] = {w->op(Code::detach, c), w->constant(0.5)};
          own.push_back(p.add({Code::linear, static_cast<U32>(p.pool.size()), 2, b}));
          p.pool.insert(p.pool.end(), {a, c, slopes[0], slopes[1]});
          break;
        }
        case Code::add:
        case Code::maximum:
        case Code::less:
          own.push_back(w->op(s.code, a, b));
          break;
        default:
          own.push_back(w->op(s.code, a));
      }
    }
    previous = own;
    return w->op(Code::tanh, own.back());
  }
};

std::vector<double> numbers(std::mt19937& random, std::size_t count) {
  std::uniform_real_distribution<double> uniform(-1.5, 1.5);
  std::vector<double> out(count);
  for (double& x : out) x = uniform(random);
  return out;
}

struct Planted {
  bool carried = false, interleaved = false, leaks = false, guards = false, nonlinear = false, results = false;
  Mutation mutation = Mutation::none;
  U32 lanes = 48;
  int size = 14;
};

Program plant(std::mt19937& random, const Planted& how) {
  Writer w(kParams, how.lanes * kInputsEach);
  const auto shared = w.op(Code::mul, w.param(0), w.param(1));
  Loop loop{&w, {shared, w.op(Code::sin, shared), w.inputs[0]}, {}, &random};
  const Block block = random_block(random, how.size, how.carried);
  const U32 odd = random() % how.lanes;
  const std::size_t where = random() % static_cast<std::size_t>(how.size);
  std::vector<U32> terms, kept;
  U32 total = w.constant(0.0);
  for (U32 k = 0; k < how.lanes; ++k) {
    const U32 term = loop.run(block, k, k == odd ? how.mutation : Mutation::none, where);
    terms.push_back(term);
    kept.push_back(loop.previous[loop.previous.size() / 2]);
    if (how.interleaved) total = w.op(Code::add, total, term);
    if (how.guards && k % 3 == 0) w.p.guards.push_back({GuardKind::truth, term, 1.0, 0});
  }
  w.p.notes.push_back("here");
  if (!how.interleaved)
    for (U32 term : terms) total = w.op(Code::add, total, term);
  U32 out = w.op(Code::mul, total, w.constant(1.0 / how.lanes));
  if (how.nonlinear) out = w.op(Code::mul, w.op(Code::tanh, out), w.op(Code::sin, w.op(Code::mul, out, w.param(2))));
  if (how.leaks) {
    out = w.op(Code::add, out, w.op(Code::mul, terms[1], terms[how.lanes - 1]));
    U32 best = kept[0];
    for (U32 v : kept) best = w.op(Code::maximum, best, v);
    out = w.op(Code::add, out, w.op(Code::mul, best, w.param(3)));
  }
  for (U32 k = 0; k < kParams; ++k) out = w.op(Code::add, out, w.op(Code::mul, w.param(k), w.constant(0.125)));
  w.p.outputs.push_back(out);
  if (how.results) w.p.outputs.insert(w.p.outputs.end(), kept.begin(), kept.end());
  Draft draft(std::move(w.p));  // a recording holds only what a result or a guard needs
  remove_dead_code(draft, true);
  return std::move(draft.program);
}

void test_planted_loops() {
  std::mt19937 random(11);
  std::size_t rolled = 0, trials = 0, whole = 0;
  for (int trial = 0; trial < 240; ++trial) {
    Planted how;
    how.interleaved = trial & 1;
    how.nonlinear = trial & 2;
    how.leaks = trial & 4;
    how.guards = trial & 8;
    how.results = trial & 16;
    how.lanes = 30 + static_cast<U32>(random() % 60);
    how.size = 8 + static_cast<int>(random() % 40);
    const Program p = plant(random, how);
    RepeatReport report;
    const RepeatPlan plan = find_repeats(p, &report, true);
    const std::vector<double> params = numbers(random, kParams), inputs = numbers(random, p.inputs);
    CHECK(report.found.size() == plan.repeats.size());
    ++trials;
    for (const Repeat& r : plan.repeats) {
      whole += r.lanes == how.lanes;
      CHECK(r.lanes <= how.lanes);
    }
    if (plan.repeats.empty()) continue;
    ++rolled;
    compare(p, plan, inputs, params);
  }
  CHECK(rolled == trials);
  CHECK(whole > trials * 8 / 10);
}

void test_near_misses() {
  std::mt19937 random(12);
  for (const Mutation mutation :
       {Mutation::operation, Mutation::operand, Mutation::constant, Mutation::missing, Mutation::exponent}) {
    std::size_t rolled = 0;
    for (int trial = 0; trial < 40; ++trial) {
      Planted how;
      how.mutation = mutation;
      how.interleaved = trial & 1;
      how.leaks = trial & 2;
      how.lanes = 60;
      const Program p = plant(random, how);
      RepeatReport report;
      const RepeatPlan plan = find_repeats(p, &report, true);
      if (plan.repeats.empty()) continue;
      ++rolled;
      compare(p, plan, numbers(random, p.inputs), numbers(random, kParams));
    }
    CHECK(rolled == 40);
  }
}

void test_carried_values() {
  std::mt19937 random(13);
  for (int trial = 0; trial < 100; ++trial) {
    Planted how;
    how.carried = true;
    how.interleaved = trial & 1;
    how.leaks = trial & 2;
    how.nonlinear = trial & 4;
    how.size = 20;
    const Program p = plant(random, how);
    RepeatReport report;
    const RepeatPlan plan = find_repeats(p, &report, true);
    if (!plan.repeats.empty()) compare(p, plan, numbers(random, p.inputs), numbers(random, kParams));
  }
}

// Sequences of steps: the sequences are the lanes, though every step adds to one total.
void test_sequences() {
  const U32 sequences = 24, steps = 6;
  Writer w(3, sequences * steps);
  U32 total = w.constant(0.0);
  for (U32 s = 0; s < sequences; ++s) {
    U32 h = w.constant(0.0);
    for (U32 t = 0; t < steps; ++t) {
      const U32 x = w.inputs[s * steps + t];
      h = w.op(Code::tanh, w.op(Code::add, w.op(Code::mul, w.param(0), h), w.op(Code::mul, w.param(1), x)));
      const U32 d = w.op(Code::add, w.op(Code::mul, h, w.param(2)), w.constant(-0.5));
      total = w.op(Code::add, total, w.op(Code::mul, d, d));
    }
  }
  w.p.outputs.push_back(total);
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 1);
  CHECK(plan.repeats[0].lanes == sequences);
  CHECK(plan.repeats[0].body.inputs == steps);  // one column a step, read in place
  std::mt19937 random(14);
  compare(w.p, plan, numbers(random, w.p.inputs), numbers(random, 3));
}

// A mean, what differs from it, and a mean of that: the second loop depends on the sum of the first.
void test_stages() {
  const U32 lanes = 80;
  Writer w(3, lanes * 2);
  std::vector<U32> z;
  for (U32 k = 0; k < lanes; ++k)
    z.push_back(w.op(Code::tanh, w.op(Code::add, w.op(Code::mul, w.param(0), w.inputs[2 * k]),
                                      w.op(Code::mul, w.param(1), w.inputs[2 * k + 1]))));
  const auto mean = [&](const std::vector<U32>& terms) {
    U32 total = terms[0];
    for (U32 k = 1; k < lanes; ++k) total = w.op(Code::add, total, terms[k]);
    return w.op(Code::mul, total, w.constant(1.0 / lanes));
  };
  const U32 m = mean(z);
  std::vector<U32> squares, out;
  for (U32 v : z)
    squares.push_back(w.p.add({Code::powc, w.op(Code::add, v, w.op(Code::mul, m, w.constant(-1))), 0, 0, 2}));
  const U32 deviation = w.op(Code::sqrt, w.op(Code::add, mean(squares), w.constant(1e-5)));
  for (U32 v : z)
    out.push_back(
        w.op(Code::sigmoid, w.op(Code::mul, w.param(2),
                                 w.op(Code::div, w.op(Code::add, v, w.op(Code::mul, m, w.constant(-1))), deviation))));
  w.p.outputs.push_back(w.op(Code::log, mean(out)));
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 3);
  CHECK(plan.stages.size() >= 3);
  std::mt19937 random(15);
  compare(w.p, plan, numbers(random, w.p.inputs), numbers(random, 3));
}

// Labels choose which value of the block is used; two kinds of blocks in any order.
void test_labels_and_branches() {
  std::mt19937 random(16);
  const U32 lanes = 90;
  Writer w(6, lanes);
  U32 total = w.constant(0.0);
  for (U32 k = 0; k < lanes; ++k) {
    std::vector<U32> e;
    U32 sum = w.constant(0.0);
    for (U32 c = 0; c < 3; ++c) {
      e.push_back(w.op(Code::exp, w.op(Code::mul, w.param(c), w.inputs[k])));
      sum = w.op(Code::add, sum, e.back());
    }
    U32 loss = w.op(Code::log, w.op(Code::div, e[random() % 3], sum));
    if (random() % 2) loss = w.op(Code::sin, w.op(Code::mul, loss, w.param(4)));
    total = w.op(Code::add, total, loss);
  }
  w.p.outputs.push_back(total);
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 2);
  CHECK(plan.repeats[0].lanes + plan.repeats[1].lanes == lanes);
  compare(w.p, plan, numbers(random, w.p.inputs), numbers(random, 6));
}

// Blocks that begin with a power of their own each: what follows is one body, and reads the powers as a column.
void test_tails() {
  std::mt19937 random(19);
  const U32 lanes = 40;
  Writer w(2, lanes);
  U32 total = w.constant(0.0);
  for (U32 k = 0; k < lanes; ++k) {
    const U32 power = w.p.add({Code::powc, w.op(Code::exp, w.inputs[k]), 0, 0, 1.0 + 0.0625 * k});
    total = w.op(Code::add, total, w.op(Code::sin, w.op(Code::mul, w.op(Code::mul, power, w.param(0)), w.param(1))));
  }
  w.p.outputs.push_back(total);
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 1);
  CHECK(plan.repeats[0].lanes == lanes);
  CHECK(plan.repeats[0].columns.size() == 1);
  CHECK(plan.rolled == 3 * lanes + lanes - 1);  // two products and a sine each, and all links but the last
  compare(w.p, plan, numbers(random, lanes), numbers(random, 2));
}

// Blocks alike, but the total takes another value of each second block: those cannot be summed over the lanes.
void test_terms_at_different_positions() {
  std::mt19937 random(20);
  const U32 lanes = 40;
  Writer w(2, lanes);
  std::vector<U32> a, b;
  for (U32 k = 0; k < lanes; ++k) {
    a.push_back(w.op(Code::sin, w.op(Code::mul, w.inputs[k], w.param(0))));
    b.push_back(w.op(Code::tanh, w.op(Code::mul, a.back(), w.param(1))));
  }
  U32 total = w.constant(0.0), other = w.constant(0.0);
  for (U32 k = 0; k < lanes; ++k) {
    total = w.op(Code::add, total, k % 2 ? a[k] : b[k]);
    other = w.op(Code::add, other, k % 2 ? b[k] : a[k]);
  }
  w.p.outputs.push_back(w.op(Code::mul, total, w.op(Code::sin, other)));  // an addition would be one more link
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 1);
  CHECK(plan.repeats[0].lanes == lanes);
  compare(w.p, plan, numbers(random, lanes), numbers(random, 2));
}

// A running total of which a part is used again, and the total of another loop that reads one repeat of the first.
void test_parts_that_are_used_again() {
  std::mt19937 random(22);
  const U32 lanes = 60;
  Writer w(3, lanes);
  std::vector<U32> v;
  for (U32 k = 0; k < lanes; ++k) v.push_back(w.op(Code::sin, w.op(Code::mul, w.inputs[k], w.param(0))));
  U32 total = w.constant(0.0), part = 0;
  for (U32 k = 0; k < lanes; ++k) {
    total = w.op(Code::add, total, v[k]);
    if (k == lanes / 2) part = total;
  }
  U32 product = w.constant(1.0);
  for (U32 k = 0; k < 2 * lanes; ++k) {
    const U32 own = w.op(Code::exp, w.op(Code::mul, w.inputs[k / 2], w.constant(0.01 * k)));
    const U32 near_one = w.op(Code::mul, w.op(Code::sin, w.op(Code::add, own, v[7])), w.constant(0.01));
    product = w.op(Code::mul, product, w.op(Code::exp, near_one));
  }
  w.p.outputs.push_back(w.op(Code::add, w.op(Code::mul, total, w.op(Code::sin, part)), product));
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() >= 2);
  compare(w.p, plan, numbers(random, lanes), numbers(random, 3));
}

// Two sums over the same repeats, of which only the one that is found second has a gradient.
void test_a_sum_without_gradient() {
  std::mt19937 random(24);
  const U32 lanes = 50;
  Writer w(2, lanes);
  std::vector<U32> v;
  for (U32 k = 0; k < lanes; ++k) v.push_back(w.op(Code::sin, w.op(Code::mul, w.inputs[k], w.param(0))));
  U32 total = w.constant(0.0), weight = w.constant(0.0);
  for (U32 k = 0; k < lanes; ++k) {
    total = w.op(Code::add, total, v[k]);
    weight = w.op(Code::add, weight, w.op(Code::detach, w.op(Code::exp, v[k])));
  }
  w.p.outputs.push_back(w.op(Code::add, w.op(Code::mul, total, w.param(1)), w.op(Code::mul, weight, w.constant(2.0))));
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 1);
  CHECK(plan.repeats[0].sums.size() == 2);
  compare(w.p, plan, numbers(random, lanes), numbers(random, 2));
}

// Sequences whose steps are each added to the total twice: a block has its value at one place for both.
void test_terms_that_are_summed_twice() {
  std::mt19937 random(23);
  const U32 sequences = 24, steps = 4;
  Writer w(2, sequences * steps);
  U32 total = w.constant(0.0);
  for (U32 s = 0; s < sequences; ++s) {
    U32 h = w.constant(0.0);
    for (U32 t = 0; t < steps; ++t) {
      h = w.op(Code::tanh, w.op(Code::mul, w.op(Code::add, w.inputs[s * steps + t], h), w.param(t % 2)));
      total = w.op(Code::add, w.op(Code::add, total, h), h);
    }
  }
  w.p.outputs.push_back(w.op(Code::sin, total));
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  CHECK(plan.repeats.size() == 1);
  CHECK(plan.repeats[0].lanes == sequences);
  compare(w.p, plan, numbers(random, w.p.inputs), numbers(random, 2));
}

// What is done with the sums decides whether their gradients are known beforehand.
void test_ends() {
  std::mt19937 random(21);
  for (int kind = 0; kind < 6; ++kind) {
    const U32 lanes = 40;
    Writer w(2, lanes);
    U32 total = w.constant(0.0), squares = w.constant(0.0);
    for (U32 k = 0; k < lanes; ++k) {
      const U32 v = w.op(Code::sin, w.op(Code::mul, w.inputs[k], w.param(0)));
      total = w.op(Code::add, total, v);
      squares = w.op(Code::add, squares, w.op(Code::mul, v, v));
    }
    const U32 ends[] = {w.op(Code::add, total, squares),
                        w.op(Code::mul, total, squares),
                        w.op(Code::div, total, squares),
                        w.op(Code::mul, total, w.param(1)),
                        w.p.add({Code::select, w.op(Code::less, total, squares), total, w.param(1)}),
                        w.p.add({Code::select, w.op(Code::less, w.param(0), w.param(1)), total, squares})};
    w.p.outputs.push_back(ends[kind]);
    Draft draft(std::move(w.p));
    remove_dead_code(draft, true);
    RepeatReport report;
    const RepeatPlan plan = find_repeats(draft.program, &report, true);
    CHECK(plan.repeats.size() == 1);
    for (int k = 0; k < 4; ++k) compare(draft.program, plan, numbers(random, lanes), numbers(random, 2));
  }
}

void test_nothing_repeats() {
  std::mt19937 random(17);
  Writer w(4, 0);
  std::vector<U32> values;
  for (U32 k = 0; k < 4; ++k) values.push_back(w.param(k));
  for (int k = 0; k < 2000; ++k) {
    const auto pick = [&] { return values[values.size() - 1 - random() % std::min<std::size_t>(values.size(), 9)]; };
    const Code codes[] = {Code::add, Code::sin, Code::mul, Code::tanh};
    values.push_back(w.op(codes[random() % 4], w.op(Code::tanh, pick()), pick()));
  }
  w.p.outputs.push_back(values.back());
  RepeatReport report;
  const RepeatPlan plan = find_repeats(w.p, &report, true);
  if (!plan.repeats.empty()) compare(w.p, plan, {}, numbers(random, 4));
  CHECK(find_repeats(Program{}, &report).repeats.empty());
}

void test_switches() {
  std::mt19937 random(18);
  Planted how;
  how.leaks = how.nonlinear = true;
  const Program p = plant(random, how);
  RepeatReport report;
  const RepeatPlan plan = find_repeats(p, &report, true);
  CHECK(!plan.repeats.empty());
  for (const char* off :
       {"uniform subexpressions", "first-writer stores", "slot sharing", "fused products", "scheduling",
        "common subexpressions", "sum chains", "dead code", "constant folding", "cheap powers"})
    compare(p, plan, numbers(random, p.inputs), numbers(random, kParams), {off});
}

}  // namespace

int main() {
  test_planted_loops();
  test_near_misses();
  test_carried_values();
  test_sequences();
  test_stages();
  test_labels_and_branches();
  test_tails();
  test_terms_at_different_positions();
  test_parts_that_are_used_again();
  test_a_sum_without_gradient();
  test_terms_that_are_summed_twice();
  test_ends();
  test_nothing_repeats();
  test_switches();
}
