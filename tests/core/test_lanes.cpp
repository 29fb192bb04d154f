// test_lanes.cpp: the lane kernels of every operation against its scalar rule: all sizes around the width of a vector,
// broadcast and unaligned operands, gradients, reductions, and equal results from every instruction set where they are
// promised.
#include "core/lanes/lanes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;
using lanes::Operand;
using lanes::Write;

namespace {

const char* const kSets[] = {"baseline", "avx2", "avx512"};
constexpr double kGuard = -12345.678;

bool same(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

// Equal to a few units of the last place of numbers of that size.
bool close(double a, double b, double size) {
  return same(a, b) || a == b || std::fabs(a - b) <= 4e-15 * size + 1e-300;
}

std::vector<Op> operations() {
  std::vector<Op> all = {Op::powc};
#define TAPEGRAD_BINARY(id, ...) all.push_back(Op::id);
#define TAPEGRAD_UNARY(id, ...) all.push_back(Op::id);
#include "core/ops/ops.def"
  return all;
}

bool is_binary(Op op) {
  return kArity[static_cast<int>(op)] == 2;
}

// The scalar core's answers.
double value(Op op, double x, double y) {
  switch (op) {
#define TAPEGRAD_UNARY(id, ...) \
  case Op::id:                  \
    return Rule<Op::id>::value(x);
#define TAPEGRAD_BINARY(id, ...) \
  case Op::id:                   \
    return Rule<Op::id>::value(x, y);
#include "core/ops/ops.def"
    default:
      return std::pow(x, y);
  }
}

double partial(Op op, int k, double x, double y, double z) {
  switch (op) {
#define TAPEGRAD_UNARY(id, ...) \
  case Op::id:                  \
    return Rule<Op::id>::dx(x, z);
#define TAPEGRAD_BINARY(id, ...) \
  case Op::id:                   \
    return k == 0 ? Rule<Op::id>::dx(x, y, z) : Rule<Op::id>::dy(x, y, z);
#include "core/ops/ops.def"
    default:
      return fn::pow_dx(x, y);
  }
}

// Numbers in the domain of every operation but arccosh, with NaN and zeros of both signs among them.
std::vector<double> numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0.05, 0.95);
  std::vector<double> x(n);
  for (double& lane : x) {
    lane = uniform(random);
    if (random() % 16 == 0) lane = -lane;
    if (random() % 64 == 0) lane = random() % 2 ? 0.0 : -0.0;
    if (random() % 64 == 0) lane = NAN;
    if (random() % 8 == 0) lane *= 3;
  }
  return x;
}

// An array that starts `offset` doubles past an aligned place, between guards.
class Guarded {
 public:
  Guarded(std::size_t n, std::size_t offset, double fill) : n_(n), offset_(offset), all_(n + offset + 16, kGuard) {
    std::fill_n(data(), n, fill);
  }
  double* data() { return all_.data() + offset_; }
  double operator[](std::size_t i) { return data()[i]; }
  void check() {
    for (std::size_t i = 0; i < offset_; ++i) CHECK(all_[i] == kGuard);
    for (std::size_t i = offset_ + n_; i < all_.size(); ++i) CHECK(all_[i] == kGuard);
  }

 private:
  std::size_t n_, offset_;
  std::vector<double> all_;
};

void every_operation(Op op, std::size_t n, std::size_t offset, bool broadcast_x, bool broadcast_y) {
  const std::vector<double> xs = numbers(n + 8, 1), ys = numbers(n + 8, 2), gs = numbers(n + 8, 3);
  const double exponent = op == Op::powc ? std::vector<double>{2, 3, -1, 0.5, 0, 2.5}[n % 6] : 0;
  const Operand x(xs.data() + offset, !broadcast_x);
  const Operand y = op == Op::powc ? Operand(&exponent, 0) : Operand(ys.data() + offset, !broadcast_y);
  const Operand g(gs.data() + offset);
  const auto at = [](Operand o, std::size_t i) { return o.data[i * o.stride]; };

  Guarded z(n, offset, 0);
  lanes::forward(op, n, x, y, z.data());
  z.check();
  for (std::size_t i = 0; i < n; ++i) {
    const double want = value(op, at(x, i), at(y, i));
    CHECK(close(z[i], want, std::fabs(want)));
    // The place of a lane does not matter.
    const double xi = at(x, i), yi = at(y, i);
    double alone;
    lanes::forward(op, 1, Operand(&xi), Operand(&yi, op != Op::powc), &alone);
    CHECK(same(alone, z[i]));
  }

  for (int k = 0; k < (is_binary(op) ? 2 : 1); ++k) {
    for (const Write write : {Write::add, Write::set}) {
      Guarded grad(n, offset, 0.5);
      lanes::backward(op, k, n, x, y, z.data(), g, grad.data(), write);
      grad.check();
      const double before = write == Write::add ? 0.5 : 0.0;
      long double total = 0, size = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double amount = partial(op, k, at(x, i), at(y, i), z[i]) * gs[offset + i];
        CHECK(close(grad[i], before + amount, before + std::fabs(amount)));
        total += amount;
        size += std::fabs(amount);
      }
      const double sum = lanes::backward_sum(op, k, n, x, y, z.data(), g);
      CHECK(std::isnan(total) ? std::isnan(sum) : sum == total || std::fabs(sum - total) <= 1e-14 * size);
    }
  }
  if (is_binary(op)) {
    Guarded gx(n, offset, 0.25), gy(n, offset, 0.75), both(n, offset, 0.25), one(n, offset, 0.25), two(n, offset, 0.75);
    lanes::backward(op, 0, n, x, y, z.data(), g, one.data());
    lanes::backward(op, 1, n, x, y, z.data(), g, two.data(), Write::set);
    lanes::backward_both(op, n, x, y, z.data(), g, gx.data(), gy.data(), Write::add, Write::set);
    lanes::backward_both(op, n, x, y, z.data(), g, both.data(), both.data(), Write::set, Write::add);
    gx.check(), gy.check(), both.check();
    Guarded in_turn(n, offset, 0.25);
    lanes::backward(op, 0, n, x, y, z.data(), g, in_turn.data(), Write::set);
    lanes::backward(op, 1, n, x, y, z.data(), g, in_turn.data());
    for (std::size_t i = 0; i < n; ++i) CHECK(same(gx[i], one[i]) && same(gy[i], two[i]) && same(both[i], in_turn[i]));
  }
}

void all_operations() {
  for (const Op op : operations()) {
    for (const std::size_t n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 100, 1025}) {
      every_operation(op, n, n % 5, false, false);
      every_operation(op, n, n % 3, true, false);
      if (is_binary(op)) {
        every_operation(op, n, n % 2, false, true);
        every_operation(op, n, n % 4, true, true);
      }
    }
  }
}

// Sums and products are those of scalar code bit for bit, also in long arrays, in place, and from a broadcast gradient.
void exact_operations() {
  for (const std::size_t n : {100, 5003, 70001}) {
    const std::vector<double> x = numbers(n, 4), y = numbers(n, 5);
    for (const Op op : {Op::add, Op::mul, Op::relu, Op::sqrt, Op::abs}) {
      std::vector<double> z = x;
      lanes::forward(op, n, z.data(), y.data(), z.data());
      for (std::size_t i = 0; i < n; ++i) CHECK(same(z[i], value(op, x[i], y[i])));
    }
    const double seed = 0.3;
    std::vector<double> gx(n, 0.1), gy(n, 0.2), z(n);
    lanes::forward(Op::mul, n, x.data(), y.data(), z.data());
    lanes::backward_both(Op::mul, n, x.data(), y.data(), z.data(), Operand(&seed, 0), gx.data(), gy.data());
    for (std::size_t i = 0; i < n; ++i) CHECK(same(gx[i], 0.1 + y[i] * seed) && same(gy[i], 0.2 + x[i] * seed));
    lanes::axpy(n, -0.7, x.data(), gx.data());
    for (std::size_t i = 0; i < n; ++i) CHECK(same(gx[i], (0.1 + y[i] * seed) + -0.7 * x[i]));
    lanes::axpy(n, 2.0, Operand(&seed, 0), gy.data());
    for (std::size_t i = 0; i < n; ++i) CHECK(same(gy[i], (0.2 + x[i] * seed) + 2.0 * seed));
    Guarded filled(n, 3, 0);
    lanes::fill(n, -0.0, filled.data());
    filled.check();
    for (std::size_t i = 0; i < n; ++i) CHECK(same(filled[i], -0.0));
  }
}

struct Reduced {
  double sum, dot, add_sum, mul_sum, max, min;
};

void reductions() {
  std::mt19937_64 random(6);
  for (const std::size_t n : {1, 2, 7, 8, 9, 31, 32, 33, 1000, 1023, 1024, 1025, 2048, 5000, 100003}) {
    std::vector<double> x(n), y(n);
    for (std::size_t i = 0; i < n; ++i) {
      x[i] =
          std::ldexp(static_cast<double>(static_cast<std::int64_t>(random())), -60 - static_cast<int>(random() % 20));
      y[i] = std::ldexp(static_cast<double>(static_cast<std::int64_t>(random())), -63);
    }
    long double sum = 0, dot = 0, size = 0;
    for (std::size_t i = 0; i < n; ++i)
      sum += x[i], dot += static_cast<long double>(x[i]) * y[i], size += std::fabs(x[i]);
    std::vector<Reduced> seen;
    for (const char* set : kSets) {
      if (!lanes::use_instruction_set(set)) continue;
      const double* const z = x.data();
      const Reduced r = {lanes::sum(n, x.data()),
                         lanes::dot(n, x.data(), y.data()),
                         lanes::backward_sum(Op::add, 0, n, x.data(), y.data(), z, x.data()),
                         lanes::backward_sum(Op::mul, 1, n, x.data(), y.data(), z, y.data()),
                         lanes::max(n, x.data()),
                         lanes::min(n, x.data())};
      CHECK(std::fabs(r.sum - sum) <= 2e-15 * size && std::fabs(r.dot - dot) <= 2e-15 * size);
      CHECK(same(r.sum, r.add_sum) && same(r.dot, r.mul_sum));
      CHECK(r.max == *std::max_element(x.begin(), x.end()) && r.min == *std::min_element(x.begin(), x.end()));
      seen.push_back(r);
      CHECK(same(seen[0].sum, r.sum) && same(seen[0].dot, r.dot));
      for (const std::size_t place : {std::size_t(0), n / 2, n - 1}) {
        const double kept = std::exchange(x[place], NAN);
        CHECK(std::isnan(lanes::max(n, x.data())) && std::isnan(lanes::min(n, x.data())) &&
              std::isnan(lanes::sum(n, x.data())));
        x[place] = kept;
      }
    }
  }
  const double third = 1.0 / 3;
  CHECK(lanes::sum(0, nullptr) == 0 && lanes::dot(0, nullptr, nullptr) == 0);
  CHECK_NEAR(lanes::sum(3000, Operand(&third, 0)), 1000, 1e-15);
  const std::vector<double> low(5, -INFINITY), high(5, INFINITY);
  CHECK(lanes::max(5, low.data()) == -INFINITY && lanes::min(5, high.data()) == INFINITY);
}

void choice() {
  const char* wanted = std::getenv("TAPEGRAD_SIMD");
  const std::string at_start = lanes::instruction_set();
  CHECK(std::find(std::begin(kSets), std::end(kSets), at_start) != std::end(kSets));
  if (wanted && lanes::use_instruction_set(wanted)) CHECK(at_start == wanted);
  CHECK(!lanes::use_instruction_set("sse9") && !lanes::use_instruction_set(""));
  CHECK(lanes::use_instruction_set("baseline") && !std::strcmp(lanes::instruction_set(), "baseline"));
}

}  // namespace

int main() {
  choice();
  for (const char* set : kSets) {
    if (!lanes::use_instruction_set(set)) continue;
    all_operations();
    exact_operations();
  }
  reductions();
}
