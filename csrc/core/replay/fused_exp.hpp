// fused_exp.hpp: e^x of one number, short enough to be computed several at a time. x = k ln(2) / 128 + r with |r| <=
// ln(2) / 256; e^x = 2^(k / 128) e^r, the power from a table, e^r by a short polynomial (P. T. P. Tang, "Table-driven
// implementation of the exponential function in IEEE floating-point arithmetic", 1989).
#pragma once

#include <bit>

#include "core/replay/powers.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA::scalar {

// a * b + c, for what no program multiplies and adds.
TAPEGRAD_INLINE double mul_add(double a, double b, double c) {
#if defined(TAPEGRAD_ISA_AVX2) || defined(TAPEGRAD_ISA_AVX512) || defined(__aarch64__)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

inline constexpr int kSteps = 128;

// 2^(i / 128): the bits of the nearest double less i in the place of 1/128 of the exponent, and how much of itself is
// missing there.
struct PowerOfTwo {
  double missing;
  std::uint64_t bits;
};

struct PowerTable {
  PowerOfTwo row[kSteps];

  constexpr PowerTable() : row{} {
    constexpr powers::Double2 step{0x1.0163da9fb3335p+0, 0x1.b61299ab8cdb7p-54};
    powers::Double2 power{1.0, 0.0};
    for (std::uint64_t i = 0; i < kSteps; ++i) {
      row[i] = {power.low / power.high, std::bit_cast<std::uint64_t>(power.high) - (i << 45)};
      const powers::Double2 p = powers::product(power.high, step.high);
      const double low = p.low + (power.high * step.low + power.low * step.high);
      power.high = p.high + low;
      power.low = (p.high - power.high) + low;
    }
  }
};
static constexpr PowerTable kPowers;

inline constexpr double kMostExp = 708.0;

// e^x is scale + scale * rest, to a relative error of 2^-60, for |x| < kMostExp.
struct ExpParts {
  double scale, rest;
};

TAPEGRAD_INLINE ExpParts exp_parts(double x) {
  constexpr double kRound = 0x1.8p52, kPerStep = 0x1.71547652b82fep+7;
  constexpr double kStepHigh = 0x1.62e42fefa0000p-8, kStepLow = 0x1.cf79abc9e3b3ap-47;  // k kStepHigh is exact
  const double shifted = mul_add(x, kPerStep, kRound);
  const auto bits = std::bit_cast<std::uint64_t>(shifted);
  const double k = shifted - kRound;
  const double r = mul_add(-k, kStepLow, mul_add(-k, kStepHigh, x));
  const PowerOfTwo& power = kPowers.row[bits % kSteps];
  const double scale = std::bit_cast<double>(power.bits + (bits << 45));
  // Minimax, relative error 2^-63.
  const double square = r * r;
  const double tail = mul_add(square, mul_add(r, 0x1.111114318920ap-7, 0x1.55555ace2772ep-5),
                              mul_add(r, 0x1.5555555555525p-3, 0x1.fffffffffff58p-2));
  return {scale, mul_add(square, tail, r + power.missing)};
}

// Any exp() whose error is below 0.53 ulp gives the nearest double wherever the exact power is not about halfway between
// two of them. (The C libraries of GNU, musl and Apple are within 0.527; those of GNU before 2.28 round correctly.) So
// where what is missing in a power is less than this many ulp, the power is what exp() gives.
inline constexpr double kNearest = 0.465 * 0x1p-52;
inline constexpr std::int64_t kExponentBits = 0x7ff0000000000000;
#if (defined(TAPEGRAD_ISA_AVX2) || defined(TAPEGRAD_ISA_AVX512)) && (defined(__linux__) || defined(__APPLE__))
inline constexpr bool kKnowsLibrary = true;
#else
inline constexpr bool kKnowsLibrary = false;
#endif

// A power of two counts as the end of the numbers below it, where halfway is nearer.
TAPEGRAD_INLINE bool is_nearest(double y, double missing) {
  const auto below = std::bit_cast<std::int64_t>(y) - 1;
  return __builtin_fabs(missing) < std::bit_cast<double>(below & kExponentBits) * kNearest;
}

// Exact: what exp() gives; else within 1 ulp. Sets *open, and gives nothing of use, where that is the library's to do.
template <bool exact>
TAPEGRAD_INLINE double exp(double x, bool* open) {
  if (exact && !kKnowsLibrary) return __builtin_exp(x);
  *open |= !(__builtin_fabs(x) < kMostExp);
  const ExpParts e = exp_parts(x);
  const double y = mul_add(e.scale, e.rest, e.scale);
  if (exact) *open |= !is_nearest(y, mul_add(e.scale, e.rest, e.scale - y));
  return y;
}

// log(1 + y) for y in 0 ... 1, within 2 ulp; see lanes/simd/log.hpp.
TAPEGRAD_INLINE double log1p_of_unit(double y) {
  constexpr double kLn2High = 0x1.62e42fefa2000p-1, kLn2Low = 0x1.9ef35793c7673p-41;
  const bool upper = y > 0.5;
  const double f = upper ? 0.5 * (y - 1.0) : y;
  const double half_square = 0.5 * f * f, s = f / (2.0 + f), z = s * s, zz = z * z;
  const double a = mul_add(z, 0x1.99999998f0afcp-2, 0x1.5555555555776p-1);
  const double b = mul_add(z, 0x1.c71c015d19946p-3, 0x1.249249b22e8c1p-2);
  const double c = mul_add(z, 0x1.3852c2a6a3955p-3, 0x1.7474e3d0de2dap-3);
  const double p = z * mul_add(zz, mul_add(zz, mul_add(zz, 0x1.3abebceac1fbap-3, c), b), a);
  const double tail = s * (half_square + p);
  return (upper ? kLn2High : 0.0) - ((half_square - (tail + (upper ? kLn2Low : 0.0))) - f);
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA::scalar
