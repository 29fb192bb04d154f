// test_schedule.cpp: large random programs give the bits of an eager sweep, in whatever order their steps are put; runs
// get longer; steps of a run that is computed at once do not wait for each other.
#include "core/replay/schedule.hpp"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/replay.hpp"
#include "eager.hpp"

using namespace tapegrad;

namespace {

constexpr std::uint32_t kParams = 40;

// Values stay within -1 ... 1, and no operation's derivatives sum to more than 1, so that no difference hides behind
// infinities.
Program random_program(std::mt19937& random, int size, std::uint32_t near, bool functions) {
  Program p;
  p.params = kParams;
  std::vector<std::uint32_t> v;
  for (std::uint32_t k = 0; k < kParams; ++k) v.push_back(p.add({Code::param, k}));
  const std::uint32_t half = p.add({Code::constant, 0, 0, 0, 0.5}), minus = p.add({Code::constant, 0, 0, 0, -1.0});
  const std::uint32_t third = p.add({Code::constant, 0, 0, 0, 0.3});
  const auto pick = [&] {
    if (random() % 8 == 0) return v[random() % kParams];
    return v[v.size() - 1 - random() % std::min<std::size_t>(near, v.size())];
  };
  const auto sum = [&](std::uint32_t count) {
    const Instruction i{Code::sum, static_cast<std::uint32_t>(p.pool.size()), count};
    for (std::uint32_t k = 0; k < count; ++k) p.pool.push_back(pick());
    return p.add(i);
  };
  while (static_cast<int>(p.code.size()) < size) {
    const std::uint32_t a = pick(), b = pick();
    switch (random() % (functions ? 14 : 5)) {
      case 0:
        v.push_back(p.add({Code::mul, p.add({Code::add, a, b}), half}));
        break;
      case 1:
        v.push_back(p.add({Code::mul, p.add({Code::mul, a, b}), half}));
        break;
      case 2:
        v.push_back(p.add({Code::mul, p.add({Code::add, a, p.add({Code::mul, b, minus})}), half}));
        break;
      case 3: {
        const std::uint32_t count = 2 + random() % 29;
        const std::uint32_t scale = p.add({Code::constant, 0, 0, 0, 1.0 / count});
        v.push_back(p.add({Code::mul, sum(count), scale}));
        break;
      }
      case 4:
        v.push_back(p.add({Code::mul, half, p.add({Code::mul, a, a})}));
        break;
      case 5:
        v.push_back(p.add({Code::tanh, a}));
        break;
      case 6:
        v.push_back(p.add({Code::mul, p.add({Code::exp, p.add({Code::mul, a, minus})}), third}));
        break;
      case 7:
        v.push_back(p.add({Code::sin, p.add({Code::softplus, a})}));
        break;
      case 8:
        v.push_back(p.add({Code::select, p.add({Code::less, a, b}), a, random() % 4 ? b : a}));
        break;
      case 9: {
        const std::uint32_t two = p.add({Code::constant, 0, 0, 0, 2.0}), top = p.add({Code::add, two, b});
        v.push_back(p.add({Code::mul, p.add({Code::div, random() % 3 ? a : top, top}), half}));
        v.push_back(p.add({Code::mul, top, third}));
        break;
      }
      case 12: {  // softmax
        const std::uint32_t x = p.add({Code::exp, a}), y = p.add({Code::exp, b}), s = p.add({Code::add, x, y});
        const std::uint32_t r = p.add({Code::powc, s, 0, 0, -1.0});
        v.push_back(p.add({Code::mul, x, r}));
        v.push_back(p.add({Code::mul, y, r}));
        break;
      }
      case 13:
        v.push_back(p.add({Code::mul, p.add({Code::softplus, a}), half}));
        break;
      case 10:
        v.push_back(p.add({Code::mul, p.add({Code::powc, a, 0, 0, 3.0}), third}));
        break;
      default:
        v.push_back(p.add({Code::detach, p.add({Code::maximum, a, b})}));
    }
  }
  const Instruction all{Code::sum, static_cast<std::uint32_t>(p.pool.size()), 60};
  for (int k = 0; k < 60; ++k) p.pool.push_back(pick());
  p.outputs.push_back(p.add(all));
  return p;
}

double parameter(std::uint32_t k) {
  return std::sin(k + 1.0);
}
double gradient_before(std::uint32_t k) {
  return 0.125 * k;
}

// The value, then the gradients of the parameters, which start from numbers that are not zero.
std::vector<double> run(const Program& p, bool schedule, bool exact, bool fuse = true) {
  Lowering how;
  how.forward_only = false;
  how.param_gradients = true;
  how.schedule = schedule;
  how.exact = exact;
  how.fuse_products = fuse;
  const Lowered lowered = lower(simplify(p, true, {}, nullptr), how);
  const ScalarCode code(lowered);
  std::vector<double> m(code.slots());
  code.prepare(m.data());
  for (std::uint32_t k = 0; k < p.params; ++k) {
    m[lowered.param_base + k] = parameter(k);
    m[lowered.param_gradients + k] = gradient_before(k);
  }
  code.forward(m.data());
  std::vector<double> out{m[lowered.outputs[0]]};
  if (lowered.seed != kNoSlot) {
    m[lowered.seed] = 1.0;
    code.backward(m.data());
  }
  for (std::uint32_t k = 0; k < p.params; ++k) out.push_back(m[lowered.param_gradients + k]);
  return out;
}

// The same as eager code computes it.
std::vector<double> sweep(const Program& p) {
  std::vector<double> params, before;
  for (std::uint32_t k = 0; k < p.params; ++k) {
    params.push_back(parameter(k));
    before.push_back(gradient_before(k));
  }
  return test::sweep(p, params, before);
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(double));
}

std::size_t count_runs(const Stream& s) {
  std::size_t runs = 0;
  for (std::size_t n = 0; n < s.steps.size(); ++n) runs += !n || s.words[s.steps[n]] != s.words[s.steps[n - 1]];
  return runs;
}

void test_same_bits() {
  std::mt19937 random(11);
  for (int trial = 0; trial < 60; ++trial) {
    const int size = trial % 10 == 9 ? 12000 : 50 + static_cast<int>(random() % 1500);
    const std::uint32_t near = trial % 3 ? 5u + random() % 400 : 3u;
    const Program p = random_program(random, size, near, trial % 2);
    const std::vector<double> plain = sweep(p);
    for (const double x : plain) CHECK(std::isfinite(x));
    CHECK(same_bits(run(p, false, true), plain));
    CHECK(same_bits(run(p, true, true), plain));
    CHECK(same_bits(run(p, true, true, false), plain));
    const std::vector<double> loose = run(p, true, false);
    for (std::size_t k = 0; k < plain.size(); ++k)
      CHECK_NEAR(loose[k], plain[k], 1e-9 * std::max(1.0, std::fabs(plain[k])));
  }
}

void test_longer_runs() {
  std::mt19937 random(12);
  const Program p = random_program(random, 8000, 300, true);
  Lowering how;
  how.forward_only = false;
  how.param_gradients = true;
  const Draft draft = simplify(p, true, {}, nullptr);
  const Lowered plain = lower(draft, how);
  how.schedule = true;
  how.fuse_functions = false;
  const Lowered ordered = lower(draft, how);
  for (int direction = 0; direction < 2; ++direction) {
    const Stream &before = plain.streams[direction], &after = ordered.streams[direction];
    CHECK(after.steps.size() == before.steps.size());
    CHECK(4 * count_runs(after) < count_runs(before));
  }
}

// A chain of one operation is a run of steps each of which needs the one before.
void test_chain() {
  for (const Code code : {Code::sin, Code::tanh, Code::softplus}) {
    Program p;
    p.params = 1;
    std::uint32_t last = p.add({Code::param, 0});
    for (int n = 0; n < 50; ++n) last = p.add({code, last});
    p.outputs.push_back(last);
    const std::vector<double> plain = sweep(p);
    CHECK(same_bits(run(p, false, true), plain));
    CHECK(same_bits(run(p, true, true), plain));
    const std::vector<double> loose = run(p, true, false);
    for (std::size_t k = 0; k < plain.size(); ++k) CHECK_NEAR(loose[k], plain[k], 1e-13 * std::fabs(plain[k]));
  }
}

}  // namespace

int main() {
  test_same_bits();
  test_longer_runs();
  test_chain();
}
