// test_lane_math.cpp: the functions over lanes against long double, every instruction set: within 2 ulp over the whole
// range, and special values as the C library has them. `test_lane_math POINTS` takes another number of points a range
// and prints the errors.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;

namespace {

using Real = long double;

// Where long double is a double, the oracle is the C library, itself up to 1 ulp off.
constexpr double kBound = LDBL_MANT_DIG > 53 ? 2.0 : 3.0;

// The error in units of the last place of a double at the exact value.
double ulps(double got, Real want) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : INFINITY;
  const double nearest = static_cast<double>(want);
  if (std::isinf(nearest) || std::isinf(got)) return got == nearest ? 0 : INFINITY;
  const int exponent = want == 0 ? -1022 : std::max(static_cast<int>(std::ilogb(want)), -1022);
  return static_cast<double>(std::fabs(static_cast<Real>(got) - want) / std::ldexp(Real(1), exponent - 52));
}

bool same(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

Real sigmoid(Real x) {
  return 1 / (1 + std::exp(-x));
}
Real softplus(Real x) {
  return std::fmax(x, Real(0)) + std::log1p(std::exp(-std::fabs(x)));
}

struct Range {
  double low, high;
};

struct Function {
  Op op;
  Real (*exact)(Real);
  double (*special)(double);  // what special values give
  std::vector<Range> ranges;  // where most of the points lie; others are taken from all doubles
};

#define BOTH(f) [](Real x) { return Real(std::f(x)); }, [](double x) { return double(std::f(x)); }

const std::vector<Function>& functions() {
  static const std::vector<Function> all = {
      {Op::exp, BOTH(exp), {{-750, 715}, {-1, 1}, {-745.2, -708}}},
      {Op::exp2, BOTH(exp2), {{-1080, 1030}, {-1, 1}, {-1075, -1021}}},
      {Op::expm1, BOTH(expm1), {{-50, 715}, {-1, 1}, {-1e-3, 1e-3}, {30, 60}}},
      {Op::log, BOTH(log), {{0, 1e300}, {0, 3}, {0.95, 1.05}, {0, 1e-307}}},
      {Op::log1p, BOTH(log1p), {{-1, 3}, {-0.05, 0.05}, {1, 1e17}, {0, 1e300}}},
      {Op::log2, BOTH(log2), {{0, 1e300}, {0, 3}, {0.95, 1.05}, {0, 1e-307}}},
      {Op::log10, BOTH(log10), {{0, 1e300}, {0, 3}, {0.95, 1.05}, {0, 1e-307}}},
      {Op::tanh, BOTH(tanh), {{-25, 25}, {-1, 1}, {-1e-3, 1e-3}, {17, 20}}},
      {Op::sigmoid, sigmoid, fn::sigmoid, {{-750, 750}, {-3, 3}, {-40, 40}, {-745, -707}}},
      {Op::softplus, softplus, fn::softplus, {{-750, 750}, {-3, 3}, {-40, 40}, {-745, -707}}},
      {Op::sinh, BOTH(sinh), {{-711, 711}, {-1, 1}, {-30, 30}, {-1e-3, 1e-3}, {709, 711}}},
      {Op::cosh, BOTH(cosh), {{-711, 711}, {-1, 1}, {-30, 30}, {709, 711}}},
      {Op::sin, BOTH(sin), {{-1, 1}, {-10, 10}, {-1e6, 1e6}, {-1e18, 1e18}}},
      {Op::cos, BOTH(cos), {{-1, 1}, {-10, 10}, {-1e6, 1e6}, {-1e18, 1e18}}},
      {Op::sqrt, BOTH(sqrt), {{0, 10}, {0, 1e-307}}},
  };
  return all;
}

std::vector<double> points(const Function& f, std::size_t count) {
  std::mt19937_64 random(static_cast<unsigned>(f.op));
  std::vector<double> x;
  for (const Range& range : f.ranges) {
    for (std::size_t i = 0; i < count; ++i) {
      x.push_back(range.low + (range.high - range.low) * (static_cast<double>(random() >> 11) * 0x1p-53));
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = random();
    double any;
    std::memcpy(&any, &bits, sizeof any);
    x.push_back(any);
  }
  // As near to multiples of ln 2 and of pi/2 as doubles come; the latter for every multiple that is reduced here.
  for (int i = 1; i < 1100; ++i) {
    const double multiple = i * 0.69314718055994530942;
    x.insert(x.end(), {multiple, -multiple, std::nextafter(multiple, 0), std::nextafter(multiple, INFINITY)});
  }
  if (f.op == Op::sin || f.op == Op::cos) {
    for (int i = 1; i < 340000; ++i) x.push_back(static_cast<double>(i * Real(1.57079632679489661923132169163975144L)));
  }
  return x;
}

const std::vector<double>& special_points() {
  static const std::vector<double> all = {0.0,
                                          0x1p-1074,
                                          0x1.8p-1060,
                                          0x1p-1022,
                                          0x1.fffffffffffffp-1023,
                                          0x1p-60,
                                          1.0,
                                          2.0,
                                          8.0,
                                          1024.0,
                                          1000.0,
                                          709.782712893384,
                                          709.7827128933841,
                                          710.4758600739439,
                                          710.475860073944,
                                          745.1332191019411,
                                          745.1332191019412,
                                          708.3964185322641,
                                          1024.0,
                                          1023.9999999999999,
                                          1074.0,
                                          1075.0,
                                          1074.9999999999998,
                                          1e5,
                                          0x1p19,
                                          1e22,
                                          1e300,
                                          DBL_MAX,
                                          INFINITY,
                                          NAN};
  return all;
}

const char* const kSets[] = {"baseline", "avx2", "avx512"};

void accuracy(std::size_t count, bool report) {
  for (const Function& f : functions()) {
    const std::vector<double> x = points(f, count);
    std::vector<Real> want;
    for (const double lane : x) want.push_back(f.exact(lane));
    std::vector<double> z(x.size());
    for (const char* set : kSets) {
      if (!lanes::use_instruction_set(set)) continue;
      lanes::forward(f.op, x.size(), x.data(), z.data());
      double worst = 0, at = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double error = ulps(z[i], want[i]);
        if (error > worst) worst = error, at = x[i];
      }
      if (report) std::printf("%-9s %-9s %.3f ulp at %.17g (%zu points)\n", info(f.op).name, set, worst, at, x.size());
      if (!(worst <= kBound)) {
        std::fprintf(stderr, "%s, %s: %g ulp at %.17g\n", info(f.op).name, set, worst, at);
        std::exit(1);
      }
    }
  }
}

// Zeros with their sign, infinities and NaN must be exact; other values at the boundaries within the bound.
void special_values() {
  for (const Function& f : functions()) {
    for (const char* set : kSets) {
      if (!lanes::use_instruction_set(set)) continue;
      for (const double magnitude : special_points()) {
        for (const double x : {magnitude, -magnitude}) {
          // Alone, and in company that takes the common path.
          std::vector<double> in(19, 1.5), out(19);
          in[5] = in[18] = x;
          lanes::forward(f.op, in.size(), in.data(), out.data());
          double alone;
          lanes::forward(f.op, 1, &x, &alone);
          const double want = f.special(x);
          for (const double got : {out[5], out[18], alone}) {
            const bool exact = want == 0 || !std::isfinite(want);
            if (exact ? !same(got, want) : !(ulps(got, f.exact(x)) <= kBound)) {
              std::fprintf(stderr, "%s, %s: at %.17g got %.17g, want %.17g\n", info(f.op).name, set, x, got, want);
              std::exit(1);
            }
          }
        }
      }
    }
  }
}

// Logarithms of exact powers are whole numbers, and powers of two are exact.
void exact_values() {
  for (const char* set : kSets) {
    if (!lanes::use_instruction_set(set)) continue;
    std::vector<double> x, log2, back(2098);
    for (int i = -1074; i < 1024; ++i) x.push_back(std::ldexp(1.0, i)), log2.push_back(i);
    std::vector<double> z(x.size());
    lanes::forward(Op::log2, x.size(), x.data(), z.data());
    CHECK(z == log2);
    lanes::forward(Op::exp2, x.size(), log2.data(), back.data());
    CHECK(back == x);
    double ten = 1;
    for (int i = 0; i <= 22; ++i, ten *= 10) {
      double got;
      lanes::forward(Op::log10, 1, &ten, &got);
      CHECK(got == i);
    }
  }
}

// x ** constant against the C library, where the kernels have short cuts and where not.
void powers() {
  for (const char* set : kSets) {
    if (!lanes::use_instruction_set(set)) continue;
    for (const double exponent : {0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, -0.5, -1.5, 1.5, 7.0, -3.0}) {
      std::vector<double> x;
      for (const double magnitude : special_points()) x.insert(x.end(), {magnitude, -magnitude, magnitude * 1.3});
      std::vector<double> z(x.size());
      lanes::forward(Op::powc, x.size(), x.data(), lanes::Operand(&exponent, 0), z.data());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double want = std::pow(x[i], exponent);
        const bool exact = want == 0 || !std::isfinite(want);
        // An inverse square root cubed has some roundings more.
        const double bound = exponent == -1.5 ? 3 : kBound;
        if (exact ? !same(z[i], want) : !(ulps(z[i], std::pow(Real(x[i]), Real(exponent))) <= bound)) {
          std::fprintf(stderr, "%s: %.17g ** %g is %.17g, want %.17g\n", set, x[i], exponent, z[i], want);
          std::exit(1);
        }
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20000;
  special_values();
  exact_values();
  powers();
  accuracy(count, argc > 1);
}
