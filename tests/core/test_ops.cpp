// test_ops.cpp: every row of the op table: its derivative against central differences in long double steps, its status
// at the edges.
#include "core/ops/ops.hpp"

#include <initializer_list>
#include <limits>

#include "check.hpp"

using namespace tapegrad;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double unary(Op op, double x) {
  double z;
  bool is_int;
  CHECK(evaluate_unary(op, x, false, &z, &is_int) == Status::ok);
  return z;
}

Status status(Op op, double x) {
  double z;
  bool is_int;
  return evaluate_unary(op, x, false, &z, &is_int);
}

// Richardson-extrapolated central difference: error of the order of h^4.
template <typename F>
double difference(F f, double x) {
  const double h = 1e-3 * (1 + std::fabs(x));
  const double wide = (f(x + h) - f(x - h)) / (2 * h), narrow = (f(x + h / 2) - f(x - h / 2)) / h;
  return (4 * narrow - wide) / 3;
}

void unary_derivatives() {
  for (int i = 0; i < static_cast<int>(Op::count); ++i) {
    const Op op = static_cast<Op>(i);
    if (find_unary(info(op).name) != op) continue;
    for (double x : {0.21, 0.45, 0.7, 1.3, 1.9, 2.6, -0.3, -0.6, -1.7, 40.0, -40.0}) {
      double z;
      bool is_int;
      if (evaluate_unary(op, x - 0.05 * std::fabs(x), false, &z, &is_int) != Status::ok) continue;
      if (evaluate_unary(op, x + 0.05 * std::fabs(x), false, &z, &is_int) != Status::ok) continue;
      Node a{}, n{};
      a.data = x;
      n.op = op;
      n.a = &a;
      n.data = unary(op, x);
      const double expected = difference([&](double t) { return unary(op, t); }, x);
      // Differences lose what the values' size takes from their digits.
      const double noise = 1e-10 * std::fabs(n.data) + (op == Op::tan || op == Op::arctanh ? 1e-4 : 2e-7);
      if (!(std::fabs(partial(n, 0) - expected) <= noise * (1 + std::fabs(expected)))) {
        std::fprintf(stderr, "%s at %g: derivative %.12g, difference %.12g\n", info(op).name, x, partial(n, 0),
                     expected);
        std::exit(1);
      }
    }
  }
}

double binary(Op op, double x, double y) {
  switch (op) {
#define TAPEGRAD_BINARY(id, ...) \
  case Op::id:                   \
    return Rule<Op::id>::value(x, y);
#include "core/ops/ops.def"
    default:
      CHECK(false);
      return 0;
  }
}

double binary_partial(Op op, double x, double y, int k) {
  Node a{}, b{}, n{};
  a.data = x;
  b.data = y;
  n.op = op;
  n.a = &a;
  n.b = &b;
  n.data = binary(op, x, y);
  return partial(n, k);
}

// Every row with two operands, at points where it is smooth.
void binary_derivatives() {
  int rows = 0;
  for (int i = static_cast<int>(Op::powc) + 1; i < static_cast<int>(Op::count); ++i) {
    const Op op = static_cast<Op>(i);
    if (info(op).arity != 2) continue;
    ++rows;
    for (double x : {0.3, 1.0, 2.5}) {
      for (double y : {-1.5, 0.25, 0.7, 2.0}) {
        const auto by_x = [&](double t) { return binary(op, t, y); };
        const auto by_y = [&](double t) { return binary(op, x, t); };
        CHECK_NEAR(binary_partial(op, x, y, 0), difference(by_x, x), 1e-7);
        CHECK_NEAR(binary_partial(op, x, y, 1), difference(by_y, y), 1e-7);
      }
    }
  }
  CHECK(rows >= 3);
  for (Op op : {Op::maximum, Op::minimum})
    for (int k : {0, 1}) CHECK(binary_partial(op, 1.5, 1.5, k) == 0.5);
  CHECK(binary_partial(Op::pow, 2.0, 0.0, 0) == 0.0);
  CHECK(binary_partial(Op::pow, 0.0, 1.0, 0) == 1.0);
  CHECK(binary_partial(Op::pow, 0.5, 1e5, 1) == 0.0);  // the power underflows
}

// The power rule with the exponent in the node.
void constant_exponents() {
  for (double x : {0.3, 1.0, 2.5}) {
    for (double y : {-1.5, 0.0, 0.7, 2.0, 3.0}) {
      Node a{}, n{};
      a.data = x;
      n.op = Op::powc;
      n.a = &a;
      n.exponent = y;
      n.data = std::pow(x, y);
      CHECK_NEAR(partial(n, 0), difference([&](double t) { return std::pow(t, y); }, x), 1e-7);
    }
  }
}

// Where a derivative jumps.
void kinks() {
  const auto at = [](Op op, double x) {
    Node a{}, n{};
    a.data = x;
    n.op = op;
    n.a = &a;
    n.data = unary(op, x);
    return partial(n, 0);
  };
  CHECK(at(Op::relu, 0.0) == 0 && at(Op::relu, -0.0) == 0);
  CHECK(at(Op::abs, 0.0) == 0 && at(Op::abs, -0.0) == 0);
}

void edges() {
  CHECK(status(Op::exp, 1000) == Status::range && status(Op::exp, kInf) == Status::ok);
  CHECK(status(Op::log, -1) == Status::domain && status(Op::log, 0) == Status::domain &&
        status(Op::log, kInf) == Status::ok);
  CHECK(status(Op::sqrt, -1) == Status::domain && status(Op::sin, kInf) == Status::domain);
  CHECK(status(Op::arctanh, 1) == Status::domain && status(Op::log1p, -1) == Status::domain);
  for (Op op : {Op::exp, Op::log, Op::tanh, Op::relu, Op::softplus, Op::sigmoid, Op::sqrt, Op::sin})
    CHECK(std::isnan(unary(op, kNan)));
  CHECK(unary(Op::tanh, 1000) == 1 && unary(Op::tanh, -1000) == -1 && unary(Op::tanh, kInf) == 1);
  CHECK(unary(Op::tanh, 1e-10) == 1e-10 && std::signbit(unary(Op::tanh, -0.0)));
  CHECK(unary(Op::sigmoid, -1000) == 0 && unary(Op::sigmoid, 1000) == 1 && unary(Op::softplus, 1000) == 1000);
  double z = 0;
  CHECK(power(0.0, -1, &z) == Status::zero_power && power(-0.0, -3, &z) == Status::zero_power);
  CHECK(power(-8, 1.0 / 3, &z) == Status::domain && power(10, 400, &z) == Status::range);
  CHECK(power(-8, 3, &z) == Status::ok && z == -512);
  CHECK(power(0.0, -kInf, &z) == Status::ok && z == kInf);
  CHECK(power(-1, kInf, &z) == Status::ok && z == 1);
  CHECK(fn::pow_dx(0, 0) == 0 && std::isnan(fn::pow_dy(-1, 1)) && std::isnan(fn::pow_dy(0, 0)));
}

void ints() {
  double z;
  bool is_int;
  CHECK(evaluate_unary(Op::relu, -2.5, false, &z, &is_int) == Status::ok && is_int && z == 0);
  CHECK(evaluate_unary(Op::relu, 2.5, false, &z, &is_int) == Status::ok && !is_int);
  CHECK(evaluate_unary(Op::exp, 0, true, &z, &is_int) == Status::ok && !is_int);
  CHECK(Rule<Op::pow>::int_value(true, true, 2, 3) && !Rule<Op::pow>::int_value(true, true, 2, -1));
}

}  // namespace

int main() {
  unary_derivatives();
  binary_derivatives();
  constant_exponents();
  kinks();
  edges();
  ints();
  std::puts("test_ops: passed");
}
