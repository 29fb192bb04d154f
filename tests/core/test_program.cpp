// test_program.cpp: text and back, each pass alone on random programs, lowering with each switch, lanes against single
// runs; the oracle is evaluation instruction by instruction, with gradients by forward mode.
#include "core/program/program.hpp"

#include <random>
#include <set>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/ops/ops.hpp"
#include "core/program/interrupts.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/columns.hpp"
#include "core/replay/lower.hpp"
#include "core/replay/replay.hpp"
#include "core/replay/replay_lanes.hpp"

using namespace tapegrad;

namespace {

constexpr Code kCodes[] = {Code::add,    Code::add,  Code::add, Code::mul,  Code::mul,    Code::tanh,
                           Code::sin,    Code::exp,  Code::div, Code::less, Code::select, Code::maximum,
                           Code::detach, Code::powc, Code::sum, Code::relu, Code::linear, Code::pow};

Program random_program(std::mt19937& random, std::uint32_t inputs, std::uint32_t params, int size) {
  Program p;
  p.inputs = inputs;
  p.params = params;
  for (std::uint32_t k = 0; k < inputs; ++k) p.add({Code::input, k});
  for (std::uint32_t k = 0; k < params; ++k) p.add({Code::param, k});
  for (double x : {0.5, -1.0, 2.0, 1.0}) p.add({Code::constant, 0, 0, 0, x});
  const auto pick = [&] {
    const auto count = static_cast<std::uint32_t>(p.code.size());
    const std::uint32_t window = random() % 3 ? std::min(count, 12u) : count;
    return count - 1 - static_cast<std::uint32_t>(random() % window);
  };
  for (int n = 0; n < size; ++n) {
    Instruction i{kCodes[random() % std::size(kCodes)], pick(), pick(), pick(), 0.0};
    if (i.code == Code::powc) i.number = random() % 2 ? 2.0 : 3.0;
    if (i.code == Code::sum || i.code == Code::linear) {
      const std::uint32_t count = i.code == Code::sum ? 1 + random() % 4 : 2;
      i.c = i.a;
      i.a = static_cast<std::uint32_t>(p.pool.size());
      i.b = i.code == Code::sum ? count : 1;
      for (std::uint32_t k = 0; k < count; ++k) p.pool.push_back(pick());
    }
    if (i.code == Code::pow) {  // of a positive base
      i.a = p.add({Code::exp, p.add({Code::sin, i.a})});
      i.b = p.add({Code::tanh, i.b});
    }
    if (i.code == Code::exp || i.code == Code::powc || i.code == Code::div) {  // keep numbers tame
      const bool reciprocal = i.code == Code::div && random() % 2;
      std::uint32_t tame = reciprocal ? inputs + params + 3 : p.add({Code::tanh, i.a});
      if (i.code == Code::exp && random() % 3 == 0) tame = p.add({Code::softplus, tame});
      if (i.code == Code::exp && random() % 3 == 0) tame = p.add({Code::log, p.add({Code::exp, tame})});
      if (i.code == Code::div) {
        const std::uint32_t positive = p.add({Code::exp, p.add({Code::sin, i.b})});
        i.b = positive;
      }
      i.a = tame;
    }
    if (i.code == Code::mul) i.b = p.add({Code::sin, i.b});
    p.add(i);
  }
  const std::uint32_t last = static_cast<std::uint32_t>(p.code.size() - 1);
  p.outputs.push_back(p.add({Code::tanh, last}));
  p.notes.push_back("here");
  p.guards.push_back({GuardKind::truth, last / 2, 1.0, 0});
  return p;
}

// Value and directional derivative of one instruction, from the op table's partials alone.
struct Dual {
  double x, d;
};

std::vector<double> values_of(const Program& p, const std::vector<double>& inputs, const std::vector<double>& params) {
  std::vector<double> v(p.code.size());
  for (std::size_t n = 0; n < v.size(); ++n) {
    const Instruction& i = p.code[n];
    v[n] = i.code == Code::input ? inputs[i.a] : i.code == Code::param ? params[i.a] : evaluate(p, i, v.data());
  }
  return v;
}

double derivative(const Program& p, const std::vector<double>& v, bool by_param, std::uint32_t which) {
  std::vector<double> d(p.code.size());
  for (std::size_t n = 0; n < d.size(); ++n) {
    const Instruction& i = p.code[n];
    const double x = v[i.a < n ? i.a : 0], y = v[i.b < n ? i.b : 0];
    switch (i.code) {
      case Code::input:
        d[n] = !by_param && i.a == which;
        break;
      case Code::param:
        d[n] = by_param && i.a == which;
        break;
      case Code::constant:
      case Code::detach:
        d[n] = 0;
        break;
      case Code::select:
        d[n] = x != 0 ? d[i.b] : d[i.c];
        break;
      case Code::sum:
        for (std::uint32_t k = 0; k < i.b; ++k) d[n] += d[p.pool[i.a + k]];
        break;
      case Code::linear:
        for (std::uint32_t k = 0; k < i.b; ++k) d[n] += v[p.pool[i.a + i.b + k]] * d[p.pool[i.a + k]];
        break;
      case Code::powc:
        d[n] = fn::pow_dx(x, i.number) * d[i.a];
        break;
#define TAPEGRAD_UNARY(id, ...)                \
  case Code::id:                               \
    d[n] = Rule<Op::id>::dx(x, v[n]) * d[i.a]; \
    break;
#define TAPEGRAD_BINARY(id, ...)                                                          \
  case Code::id:                                                                          \
    d[n] = Rule<Op::id>::dx(x, y, v[n]) * d[i.a] + Rule<Op::id>::dy(x, y, v[n]) * d[i.b]; \
    break;
#include "core/ops/ops.def"
      default:
        CHECK(false);
    }
  }
  return d[p.outputs[0]];
}

struct Result {
  double value;
  std::vector<double> input_gradients, param_gradients;
};

Result run(const Draft& draft, Lowering how, const std::vector<double>& inputs, const std::vector<double>& params) {
  how.forward_only = false;
  how.param_gradients = true;
  how.input_gradients.assign(inputs.size(), true);
  const Lowered lowered = lower(draft, how);
  const ScalarCode code(lowered);
  std::vector<double> m(code.slots());
  code.prepare(m.data());
  std::copy(inputs.begin(), inputs.end(), m.begin() + lowered.input_base);
  std::copy(params.begin(), params.end(), m.begin() + lowered.param_base);
  code.forward(m.data());
  Result r{m[lowered.outputs[0]], {}, {}};
  if (lowered.seed != kNoSlot) {
    m[lowered.seed] = 1.0;
    code.backward(m.data());
  }
  for (std::size_t k = 0; k < inputs.size(); ++k) r.input_gradients.push_back(m[lowered.input_gradients + k]);
  for (std::size_t k = 0; k < params.size(); ++k) r.param_gradients.push_back(m[lowered.param_gradients + k]);
  return r;
}

bool same(double x, double y) {
  return x == y || (std::isnan(x) && std::isnan(y));
}

bool same(const Result& a, const Result& b) {
  bool equal = same(a.value, b.value);
  for (std::size_t k = 0; k < a.input_gradients.size(); ++k)
    equal = equal && same(a.input_gradients[k], b.input_gradients[k]);
  for (std::size_t k = 0; k < a.param_gradients.size(); ++k)
    equal = equal && same(a.param_gradients[k], b.param_gradients[k]);
  return equal;
}

const std::vector<double> kInputs = {0.3, -0.8, 1.2}, kParams = {0.7, -0.4};
const Lowering kPlain = [] {
  Lowering how;
  how.first_writer_stores = how.share_slots = how.fuse_products = false;
  return how;
}();

void test_random_programs() {
  std::mt19937 random(5);
  std::size_t counted[6] = {};
  for (int trial = 0; trial < 300; ++trial) {
    const Program p = random_program(random, 3, 2, 40);
    CHECK(read_program(p.text()).text() == p.text());
    const std::vector<double> v = values_of(p, kInputs, kParams);
    const Result plain = run(Draft(p), kPlain, kInputs, kParams);
    CHECK(same(plain.value, v[p.outputs[0]]));
    for (std::uint32_t k = 0; k < 3; ++k) CHECK_NEAR(plain.input_gradients[k], derivative(p, v, false, k), 1e-9);
    for (std::uint32_t k = 0; k < 2; ++k) CHECK_NEAR(plain.param_gradients[k], derivative(p, v, true, k), 1e-9);

    for (int pass = 0; pass < 6; ++pass) {
      for (const bool exact : {true, false}) {
        Draft draft(p);
        counted[pass] += kPasses[pass].run(draft, exact);
        CHECK(read_program(draft.program.text()).text() == draft.program.text());
        const Result r = run(draft, kPlain, kInputs, kParams);
        if (exact) {
          CHECK(same(r, plain));
        } else {
          CHECK_NEAR(r.value, plain.value, 1e-12);
          for (std::uint32_t k = 0; k < 3; ++k) CHECK_NEAR(r.input_gradients[k], plain.input_gradients[k], 1e-9);
        }
      }
    }
    for (int bits = 0; bits < 16; ++bits) {
      Lowering how;
      how.first_writer_stores = bits & 1;
      how.share_slots = bits & 2;
      how.fuse_products = bits & 4;
      how.schedule = bits & 8;
      CHECK(same(run(simplify(p, true, {}, nullptr), how, kInputs, kParams), plain));
      CHECK(same(run(Draft(p), how, kInputs, kParams), plain));
    }
  }
  for (std::size_t count : counted) CHECK(count > 100);  // every pass found something to do
}

// exp undoes log only where nothing can be lost: above zero.
void test_inverse_functions() {
  Program p;
  p.params = 2;
  const std::uint32_t x = p.add({Code::param, 0}), y = p.add({Code::param, 1});
  const std::uint32_t half = p.add({Code::constant, 0, 0, 0, 0.5});
  const std::uint32_t positive = p.add({Code::add, p.add({Code::exp, x}), half});
  const std::uint32_t undone = p.add({Code::exp, p.add({Code::log, positive})});
  const std::uint32_t kept = p.add({Code::exp, p.add({Code::log, y})});  // NaN below zero
  const std::uint32_t power = p.add({Code::exp, p.add({Code::softplus, y})});
  p.outputs = {undone, kept, power};
  Draft exact(p), loose(p);
  CHECK(cancel_logarithms(exact, true) == 0 && exact.program.text() == p.text());
  CHECK(cancel_logarithms(loose, false) == 2);
  const auto& code = loose.program.code;
  const std::vector<std::uint32_t>& out = loose.program.outputs;
  CHECK(out[0] == positive);
  CHECK(code[out[1]].code == Code::exp && code[code[out[1]].a].code == Code::log);
  CHECK(code[out[2]].code == Code::add && code[code[out[2]].a].code == Code::exp && code[code[out[2]].b].number == 1);
}

template <typename Code>
Lowered lower_for(const Draft& draft, const Lowering& how) {
  return std::is_same_v<Code, LaneCode> ? lower_steps(draft, how) : lower(draft, how);
}

// Code is LaneCode or ColumnCode, lowered in its own way.
template <typename Code>
void test_lanes(Lowering how) {
  std::mt19937 random(6);
  for (int trial = 0; trial < 60; ++trial) {
    const Program p = random_program(random, 3, 2, 40);
    const std::size_t lanes = 1 + random() % 300;
    std::vector<std::vector<double>> columns(3, std::vector<double>(lanes));
    std::uniform_real_distribution<double> uniform(-1.5, 1.5);
    for (auto& column : columns)
      for (double& x : column) x = uniform(random);
    how.forward_only = false;
    how.param_gradients = true;
    how.input_gradients.assign(3, true);
    how.share_slots = trial % 4;
    const Code code(lower_for<Code>(simplify(p, false, {}, nullptr), how));
    std::vector<double> out(lanes), sums(2);
    std::vector<std::vector<double>> gradients(3, std::vector<double>(lanes));
    const double* in[] = {columns[0].data(), columns[1].data(), columns[2].data()};
    double* to[] = {gradients[0].data(), gradients[1].data(), gradients[2].data()};
    double* outs[] = {out.data()};
    const std::size_t strides[] = {1, 1, 1};
    LaneRun lane_run;
    lane_run.lanes = lanes;
    lane_run.params = kParams.data();
    lane_run.inputs = in;
    lane_run.input_strides = strides;
    lane_run.outputs = outs;
    lane_run.input_gradients = to;
    lane_run.gradient_strides = strides;
    lane_run.param_gradients = sums.data();
    LaneGuards guards;
    lane_run.threads = 3;
    code.run(lane_run, &guards);
    const auto first_out = out, first_sums = sums, first_gradient = gradients[2];
    lane_run.threads = 1;
    code.run(lane_run, &guards);
    for (std::size_t k = 0; k < 2; ++k) CHECK(same(sums[k], first_sums[k]));
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      CHECK(same(out[lane], first_out[lane]));
      CHECK(same(gradients[2][lane], first_gradient[lane]));
    }
    std::vector<double> expected(2);
    std::size_t failures = 0;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const std::vector<double> inputs = {columns[0][lane], columns[1][lane], columns[2][lane]};
      const Result r = run(Draft(p), kPlain, inputs, kParams);
      CHECK_NEAR(out[lane], r.value, 1e-11);
      for (int k = 0; k < 3; ++k)
        CHECK_NEAR(gradients[static_cast<std::size_t>(k)][lane], r.input_gradients[static_cast<std::size_t>(k)], 1e-8);
      for (std::size_t k = 0; k < 2; ++k) expected[k] += r.param_gradients[k];
      failures += !p.guards[0].holds(values_of(p, inputs, kParams)[p.guards[0].value]);
    }
    for (std::size_t k = 0; k < 2; ++k) CHECK_NEAR(sums[k], expected[k], 1e-8);
    CHECK(guards.failures[0] == failures);
  }
}

// An output that is an input, a parameter or a constant, and an input that nothing depends on; more lanes than a chunk
// has, and fewer.
void test_column_ends() {
  for (const char* text : {"input 1", "param 1", "constant 3", "mul %0 %1"}) {
    const Program p =
        read_program(std::string("tapegrad program 1\ninputs 2\nparams 2\n%0 = input 0\n%1 = param 1\n%2 = ") + text +
                     "\nreturn %2\n");
    Lowering how;
    how.forward_only = false;
    how.fresh_inputs = how.param_gradients = true;
    how.exact = false;
    how.input_gradients.assign(2, true);
    const ColumnCode code(lower(Draft(p), how));
    const bool is_input = text[0] == 'i', is_param = text[0] == 'p', is_product = text[0] == 'm';
    for (const std::size_t lanes : {1, 31, 32, 33, 5000, 40000}) {
      std::vector<double> x(2 * lanes), out(lanes, 7.0), gradients(2 * lanes, 7.0), sums(2, 7.0);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
      const double* in[] = {x.data(), x.data() + 1};  // rows of two
      double* to[] = {gradients.data(), gradients.data() + 1};
      double* outs[] = {out.data()};
      const std::size_t strides[] = {2, 2};
      LaneRun lane_run;
      lane_run.lanes = lanes;
      lane_run.params = kParams.data();
      lane_run.inputs = in;
      lane_run.input_strides = strides;
      lane_run.outputs = outs;
      lane_run.input_gradients = to;
      lane_run.gradient_strides = strides;
      lane_run.param_gradients = sums.data();
      lane_run.seed = 0.5;
      LaneGuards guards;
      code.run(lane_run, &guards);
      double total = 0;
      for (std::size_t i = 0; i < lanes; ++i) {
        const double u = x[2 * i], v = x[2 * i + 1];
        CHECK(out[i] == (is_input ? v : is_param ? kParams[1] : is_product ? u * kParams[1] : 3.0));
        CHECK(gradients[2 * i] == (is_product ? 0.5 * kParams[1] : 0.0));
        CHECK(gradients[2 * i + 1] == (is_input ? 0.5 : 0.0));
        total += is_param ? 0.5 : is_product ? 0.5 * u : 0.0;
      }
      CHECK(sums[0] == 0.0);
      CHECK_NEAR(sums[1], total, 1e-12);
    }
  }
}

void test_damage() {
  const char* const bad[] = {"",
                             "tapegrad program 1\n%0 = input 0\nreturn %0\n",
                             "tapegrad program 1\ninputs 1\n%0 = mul %0 %0\nreturn %0\n",
                             "tapegrad program 1\n%0 = constant x\nreturn %0\n",
                             "tapegrad program 1\n%0 = linear %0\nreturn %0\n",
                             "tapegrad program 1\n%0 = constant 1\nguard truth %0 1\nreturn %0\n"};
  for (const char* text : bad) {
    bool refused = false;
    try {
      read_program(text);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
}

void test_reads() {
  const Reads mul = derivative_reads(Code::mul, 0), tanh = derivative_reads(Code::tanh, 0),
              add = derivative_reads(Code::add, 1);
  CHECK(!mul.x && mul.y && !mul.z);
  CHECK(!tanh.x && tanh.z);
  CHECK(!add.x && !add.y && !add.z);
}

}  // namespace

// Work on a program is given up at every place where it hears of Ctrl-C: nothing is lost, and it can be done again.
int hears;
void test_interrupts() {
  std::mt19937 random(11);
  const Program p = random_program(random, 3, 2, 200);
  Lowering how;
  how.forward_only = false;
  how.param_gradients = how.schedule = true;
  const auto work = [&] { return lower(simplify(p, true, {}, nullptr), how); };
  const Lowered expected = work();
  struct GivenUp {};
  interrupt_hook = [] {
    if (hears-- == 0) throw GivenUp();
  };
  int places = 0;
  for (bool given_up = true; given_up; ++places) {
    hears = places;
    given_up = false;
    try {
      const Lowered again = work();
      CHECK(again.slots == expected.slots);
      for (const int k : {0, 1}) CHECK(again.streams[k].words.size() == expected.streams[k].words.size());
    } catch (const GivenUp&) {
      given_up = true;
    }
  }
  interrupt_hook = nullptr;
  CHECK(places > static_cast<int>(std::size(kPasses)) + 3);
}

int main() {
  test_inverse_functions();
  test_random_programs();
  for (const char* set : {"baseline", "avx2", "avx512"}) {
    if (!lanes::use_instruction_set(set)) continue;
    test_lanes<LaneCode>({});
    Lowering gathered;
    gathered.fresh_inputs = true;
    gathered.exact = false;
    test_lanes<ColumnCode>(gathered);
    test_column_ends();
  }
  test_damage();
  test_reads();
  test_interrupts();
}
