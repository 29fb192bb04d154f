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

// a > b ? yes : no without a branch: what is compared is often neither long the same nor early known.
TAPEGRAD_INLINE double if_above(double a, double b, double yes, double no) {
  using Doubles = double __attribute__((vector_size(16)));
  using Bits = std::uint64_t __attribute__((vector_size(16)));
  const Bits mask = reinterpret_cast<Bits>(Doubles{a, a} > Doubles{b, b});
  const Bits picked =
      (mask & reinterpret_cast<Bits>(Doubles{yes, yes})) | (~mask & reinterpret_cast<Bits>(Doubles{no, no}));
  return reinterpret_cast<Doubles>(picked)[0];
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

// Any exp() whose error is below 0.53 ulp gives the nearest double wherever the exact power is not about halfway
// between two of them. (The C libraries of GNU, musl and Apple are within 0.527; those of GNU before 2.28 round
// correctly.) So where what is missing in a power is less than this many ulp, the power is what exp() gives.
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

// log(1 + y) for y in 0 ... 1, within 2 ulp: y - s (y - z Q(z)) with s = y / (2 + y) and z = s^2; Q is a minimax fit,
// relative error 2^-57. For want of a branch over the whole range at once.
TAPEGRAD_INLINE double log1p_of_unit(double y) {
  const double s = y / (2.0 + y), z = s * s, zz = z * z;
  double q = mul_add(z, 0x1.4b0a27f89e5b8p-3, 0x1.687a6d5b6907fp-4);
  q = mul_add(zz, q, mul_add(z, 0x1.eb905ebe0e5e9p-4, 0x1.10ac75d966ac4p-3));
  q = mul_add(zz, q, mul_add(z, 0x1.3b18b294ed2d4p-3, 0x1.745cf0b0de947p-3));
  q = mul_add(zz, q, mul_add(z, 0x1.c71c72714339ep-3, 0x1.24924923d44c5p-2));
  q = mul_add(zz, q, mul_add(z, 0x1.999999999a3ddp-2, 0x1.5555555555555p-1));
  return y - s * (y - z * q);
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA::scalar
