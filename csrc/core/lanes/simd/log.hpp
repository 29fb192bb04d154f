// log.hpp: the logarithms, within 2 ulp over the whole range. x = 2^k (1 + f) with 1 + f in sqrt(1/2) ... sqrt(2); with
// s = f / (2 + f), log(1 + f) = 2 artanh(s) = f - f^2/2 + s (f^2/2 + z P(z)), z = s^2. P is a minimax (Remez) fit for f
// in -1/4 ... 1/2, relative error 1.5e-17.
#pragma once

#include "core/lanes/simd/exp.hpp"
#include "core/lanes/simd/vec.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

inline constexpr double kSmallestNormal = 0x1p-1022;

// x as 2^k (1 + f) with 1 + f in sqrt(1/2) ... sqrt(2), for normal positive x.
struct LogParts {
  Vec k, f;
};

TAPEGRAD_INLINE LogParts log_parts(Vec x) {
  constexpr std::uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd, kMantissa = (std::uint64_t(1) << 52) - 1;
  constexpr std::uint64_t kBias = std::uint64_t(2048)
                                  << 52;  // keeps the exponent positive, for want of an arithmetic shift
  const Bits from = x.bits() - kSqrtHalf;
  const Bits exponent = (from + kBias) >> 52;
  // The exponent goes into the low bits of 2^52.
  const Vec k = Vec(exponent | 0x4330000000000000) - (0x1p52 + 2048);
  return {k, Vec((from & kMantissa) + kSqrtHalf) - 1.0};
}

// log(1 + f) - f + f^2/2
TAPEGRAD_INLINE Vec log_tail(Vec f, Vec half_square) {
  const Vec s = f / (2.0 + f);
  const Vec z = s * s;
  const Vec p = z * polynomial(z, 0x1.5555555555776p-1, 0x1.99999998f0afcp-2, 0x1.249249b22e8c1p-2,
                               0x1.c71c015d19946p-3, 0x1.7474e3d0de2dap-3, 0x1.3852c2a6a3955p-3, 0x1.3abebceac1fbap-3);
  return s * (half_square + p);
}

// Runs f(x, shift) with x brought into the normal range, log x = f(x, shift) + log 2^shift, then sets what lies outside
// the domain.
template <typename F>
TAPEGRAD_INLINE Vec over_log_domain(Vec x, F f) {
  const Mask ordinary = (x >= kSmallestNormal) & (x < kInfinity);
  if (!any(!ordinary)) [[likely]]
    return f(x, Vec(0.0));
  const Mask tiny = x < kSmallestNormal;
  Vec z = f(select(tiny, x * 0x1p54, x), select(tiny, -54.0, 0.0));
  z = select(x == 0.0, -kInfinity, z);
  z = select(x < 0.0, __builtin_nan(""), z);
  z = select(x == kInfinity, kInfinity, z);
  return select(is_nan(x), x, z);
}

TAPEGRAD_INLINE Vec log(Vec x) {
  return over_log_domain(x, [](Vec y, Vec shift) TAPEGRAD_ALWAYS_INLINE {
    const auto [exponent, f] = log_parts(y);
    const Vec k = exponent + shift;
    const Vec h = 0.5 * f * f;
    return k * kLn2High - ((h - (log_tail(f, h) + k * kLn2Low)) - f);
  });
}

// log2 or log10: k * one + log(1 + f) * factor, where `one` (high + low) is the logarithm of two and `factor` (high +
// low) that of e.
struct LogBase {
  double one_high, one_low, factor_high, factor_low;
};

TAPEGRAD_INLINE Vec log_to_base(Vec x, LogBase base) {
  return over_log_domain(x, [base](Vec y, Vec shift) TAPEGRAD_ALWAYS_INLINE {
    const auto [exponent, f] = log_parts(y);
    const Vec k = exponent + shift;
    const Vec h = 0.5 * f * f;
    // The upper half of the digits of f - h, so that its product with factor_high is exact.
    const Vec high((f - h).bits() & ~((std::uint64_t(1) << 32) - 1));
    const Vec low = ((f - high) - h) + log_tail(f, h);
    const Vec main = high * base.factor_high, whole = k * base.one_high;
    const Vec rest = (low + high) * base.factor_low + low * base.factor_high + k * base.one_low;
    const Vec sum = whole + main;
    return sum + ((whole - sum) + main + rest);
  });
}

TAPEGRAD_INLINE Vec log2(Vec x) {
  return log_to_base(x, {1.0, 0.0, 0x1.7154765000000p+0, 0x1.5c17f0bbbe880p-31});
}

TAPEGRAD_INLINE Vec log10(Vec x) {
  return log_to_base(x, {0x1.34413509f6000p-2, 0x1.9fef311f12b36p-42, 0x1.bcb7b15000000p-2, 0x1.37287195355bbp-33});
}

// log(1 + x) for x > -1, finite: the digits lost in rounding 1 + x come back as a correction.
TAPEGRAD_INLINE Vec log1p_core(Vec x) {
  const Vec u = 1.0 + x;
  const auto [k, f_rounded] = log_parts(u);
  // What rounding lost, exactly, scaled as the mantissa is.
  const Vec lost = select(x < 1.0, x - (u - 1.0), 1.0 - (u - x));
  const Mask near = k == 0.0;
  const Vec f = select(near, x, f_rounded);
  const Vec correction = select(near, 0.0, lost / u);
  const Vec h = 0.5 * f * f;
  return k * kLn2High - ((h - (log_tail(f, h) + (k * kLn2Low + correction))) - f);
}

TAPEGRAD_INLINE Vec log1p(Vec x) {
  const Mask ordinary = (x > -1.0) & (x < kInfinity);
  const Vec z = select(x == 0.0, x, log1p_core(select(ordinary, x, 1.0)));
  if (!any(!ordinary)) [[likely]]
    return z;
  const Vec outside = select(x == -1.0, -kInfinity, select(x == kInfinity, x, __builtin_nan("")));
  return select(ordinary, z, select(is_nan(x), x, outside));
}

// log(1 + e^x) = max(x, 0) + log1p(E) with E = e^-|x|. 1 + E is 1 + f for E up to 1/2, and 2 (1 + f) with f = (E - 1) /
// 2 above.
TAPEGRAD_INLINE Vec softplus(Vec x) {
  const Vec e = exp(-abs(x));
  const Mask upper = e > 0.5;
  const Vec f = select(upper, 0.5 * (e - 1.0), e);
  const Vec h = 0.5 * f * f;
  const Vec small = select(upper, kLn2High, 0.0) - ((h - (log_tail(f, h) + select(upper, kLn2Low, 0.0))) - f);
  return max(Vec(0.0), x) + select(e < 0x1p-54, e, small);
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
