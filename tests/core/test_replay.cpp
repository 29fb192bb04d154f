// test_replay.cpp: backward steps that only some programs have: derivatives that a rule of the user gave (linear), and
// the reciprocal where bits need not be those of eager code. The oracle is the derivative worked out by hand.
#include "core/replay/replay.hpp"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/columns.hpp"
#include "core/replay/replay_lanes.hpp"

using namespace tapegrad;

namespace {

const std::string kHead =
    "tapegrad program 1\ninputs 2\nparams 2\n%0 = input 0\n%1 = input 1\n%2 = param 0\n%3 = param 1\n";
// r = x y with the derivatives that are told: y p by x, 3 by y, x by p and p by q. The result is x r + q.
const std::string kLinear = kHead +
                            "%4 = mul %0 %1\n%5 = mul %1 %2\n%6 = constant 3\n"
                            "%7 = linear %4 %0 %1 %2 %3 %5 %6 %0 %2\n%8 = mul %0 %7\n%9 = add %8 %3\nreturn %9\n";
// q = 1 / x, t = 1 / (x + y): q is x's only reader by itself, x + y has another. The result is p q + t (x + y) y.
const std::string kReciprocals = kHead +
                                 "%4 = constant 1\n%5 = div %4 %0\n%6 = add %0 %1\n%7 = div %4 %6\n%8 = mul %7 %6\n"
                                 "%9 = mul %8 %1\n%10 = mul %2 %5\n%11 = add %9 %10\nreturn %11\n";
// Three that run together: 1 / x^2 + 1 / (x y) + 1 / (x + p).
const std::string kThreeReciprocals =
    kHead +
    "%4 = constant 1\n%5 = mul %0 %0\n%6 = mul %0 %1\n%7 = add %0 %2\n%8 = div %4 %5\n"
    "%9 = div %4 %6\n%10 = div %4 %7\n%11 = add %8 %9\n%12 = add %11 %10\nreturn %12\n";

struct Numbers {
  double value, dx, dy, dp, dq;
};

Numbers linear_by_hand(double x, double y, double p, double q) {
  const double r = x * y, dr = x;  // dr: the result's derivative by r
  return {x * r + q, r + dr * y * p, dr * 3, dr * x, 1 + dr * p};
}

// The quotient t (x + y) is 1, whatever x and y are.
Numbers reciprocals_by_hand(double x, double y, double p, double) {
  return {y + p / x, -p / (x * x), 1, 1 / x, 0};
}

Numbers three_by_hand(double x, double y, double p, double) {
  const double s = 1 / (x * x), t = 1 / (x * y), u = 1 / (x + p);
  return {s + t + u, -2 * s / x - t / x - u * u, -t / y, -u * u, 0};
}

bool near(double a, double b) {
  return std::fabs(a - b) <= 1e-14 * (1 + std::fabs(b));
}

Lowering how(bool exact) {
  Lowering h;
  h.forward_only = false;
  h.param_gradients = true;
  h.input_gradients = {true, true};
  h.exact = exact;
  return h;
}

double number(std::size_t k) {
  return 0.5 + std::fmod(0.618 * static_cast<double>(k), 1.0);
}

void check_scalar(const std::string& text, Numbers (*by_hand)(double, double, double, double)) {
  for (const bool exact : {true, false}) {
    for (const bool schedule : {true, false}) {
      Lowering h = how(exact);
      h.schedule = schedule;
      const Lowered lowered = lower(Draft(read_program(text)), h);
      const ScalarCode code(lowered);
      std::vector<double> m(code.slots());
      code.prepare(m.data());
      for (std::size_t k = 0; k < 50; ++k) {
        const double x = number(k), y = -number(k + 3), p = number(k + 7), q = number(k + 9);
        double *const in = &m[lowered.input_base], *const params = &m[lowered.param_base];
        double *const by_in = &m[lowered.input_gradients], *const by_params = &m[lowered.param_gradients];
        in[0] = x, in[1] = y, params[0] = p, params[1] = q;
        by_in[0] = by_in[1] = by_params[0] = by_params[1] = 0.25;
        code.forward(m.data());
        m[lowered.seed] = 1;
        code.backward(m.data());
        const Numbers expected = by_hand(x, y, p, q);
        CHECK(near(m[lowered.outputs[0]], expected.value));
        CHECK(near(by_in[0] - 0.25, expected.dx) && near(by_in[1] - 0.25, expected.dy));
        CHECK(near(by_params[0] - 0.25, expected.dp) && near(by_params[1] - 0.25, expected.dq));
      }
    }
  }
}

template <typename Code>
void check_lanes(const Lowered& lowered, Numbers (*by_hand)(double, double, double, double)) {
  const Code code(lowered);
  for (const std::size_t lanes : {1, 9, 64, 1500}) {
    std::vector<double> x(lanes), y(lanes), out(lanes), dx(lanes), dy(lanes);
    for (std::size_t i = 0; i < lanes; ++i) x[i] = number(i), y[i] = -number(i + 3);
    const double params[] = {0.75, -1.25};
    double sums[2];
    const double* in[] = {x.data(), y.data()};
    double *to[] = {dx.data(), dy.data()}, *outs[] = {out.data()};
    const std::size_t strides[] = {1, 1};
    LaneRun run;
    run.lanes = lanes;
    run.params = params;
    run.inputs = in;
    run.input_strides = run.gradient_strides = strides;
    run.outputs = outs;
    run.input_gradients = to;
    run.param_gradients = sums;
    LaneGuards guards;
    code.run(run, &guards);
    double dp = 0, dq = 0;
    for (std::size_t i = 0; i < lanes; ++i) {
      const Numbers expected = by_hand(x[i], y[i], params[0], params[1]);
      CHECK(near(out[i], expected.value) && near(dx[i], expected.dx) && near(dy[i], expected.dy));
      dp += expected.dp;
      dq += expected.dq;
    }
    CHECK_NEAR(sums[0], dp, 1e-13);
    CHECK_NEAR(sums[1], dq, 1e-13);
  }
}

}  // namespace

int main() {
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (!lanes::use_instruction_set(name)) continue;
    const std::pair<std::string, Numbers (*)(double, double, double, double)> programs[] = {
        {kLinear, linear_by_hand}, {kReciprocals, reciprocals_by_hand}, {kThreeReciprocals, three_by_hand}};
    for (const auto& [text, by_hand] : programs) {
      check_scalar(text, by_hand);
      const Draft draft(read_program(text));
      for (const bool first_writer_stores : {true, false}) {
        Lowering h = how(false);
        h.first_writer_stores = first_writer_stores;
        check_lanes<LaneCode>(lower_steps(draft, h), by_hand);
      }
      Lowering h = how(false);
      h.fresh_inputs = true;
      check_lanes<ColumnCode>(lower(draft, h), by_hand);
    }
  }
}
