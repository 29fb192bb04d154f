// exp.hpp: the exponential and what is built on it, within 2 ulp over the whole range. Cody & Waite, Software Manual for the Elementary
// Functions (1980), ch. 6: x = k ln 2 + r, e^x = 2^k e^r. The polynomial is a minimax (Remez) fit of (e^r - 1 - r) / r^2 over
// |r| <= ln(2) / 2, relative error of e^r 4e-18.
#pragma once

#include "core/simd/vec.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

// Adding it rounds to a whole number, which then stands in the low bits.
inline constexpr double kRound = 0x1.8p52;
inline constexpr double kLog2E = 0x1.71547652b82fep+0;
inline constexpr double kLn2High = 0x1.62e42fefa2000p-1;  // 40 bits: k times it is exact
inline constexpr double kLn2Low = 0x1.9ef35793c7673p-41;
inline constexpr double kInfinity = __builtin_inf();

// 2^k for whole k in -1022 ... 1023.
TAPEGRAD_INLINE Vec power_of_two(Vec k) { return Vec((k + (kRound + 1023)).bits() << 52); }

// x * 2^k for whole k in -2044 ... 2046, rounded once.
TAPEGRAD_INLINE Vec scale(Vec x, Vec k) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_maskz_scalef_pd(kAllLanes, x.v, k.v));
#else
  const Vec half = (k * 0.5 + kRound) - kRound;
  return x * power_of_two(half) * power_of_two(k - half);
#endif
}

// (e^r - 1 - r) / r^2
TAPEGRAD_INLINE Vec exp_tail(Vec r) {
  return polynomial(r, 0x1.000000000000ap-1, 0x1.55555555554fap-3, 0x1.555555555087cp-5, 0x1.1111111127beap-7,
                    0x1.6c16c1842a18fp-10, 0x1.a01a012a559b1p-13, 0x1.a0199a0c5affdp-16, 0x1.71df255761396p-19,
                    0x1.28ad72d3fa16fp-22, 0x1.ad7f6655530e7p-26);
}

// e^x as 2^k (1 + p + p_low), |p| < 0.42 and p_low below p's last bit.
struct ExpParts {
  Vec k, p, p_low;
};

TAPEGRAD_INLINE ExpParts exp_parts(Vec x) {
  const Vec k = mul_add(x, kLog2E, kRound) - kRound;
  const Vec t = mul_add(k, -kLn2High, x);
  const Vec r = mul_add(k, -kLn2Low, t);
  const Vec r_low = mul_add(k, -kLn2Low, t - r);
  const Vec s = mul_add(r * r, exp_tail(r), r_low);
  const Vec p = r + s;
  return {k, p, (r - p) + s};
}

// Keeps x where neither 2^k nor its inverse leaves what scale takes; NaN stays.
TAPEGRAD_INLINE Vec clamp_exp(Vec x) { return min(Vec(715.0), max(Vec(-750.0), x)); }

// e^x * 2^shift
TAPEGRAD_INLINE Vec exp_shifted(Vec x, double shift) {
  const Vec c = clamp_exp(x);
  const Vec k = mul_add(c, kLog2E, kRound) - kRound;
  const Vec r = mul_add(k, -kLn2Low, mul_add(k, -kLn2High, c));
  const Vec p = mul_add(r * r, exp_tail(r), r);
  return scale(1.0 + p, k + shift);
}

TAPEGRAD_INLINE Vec exp(Vec x) { return exp_shifted(x, 0); }

// e^x - 1 from parts, for k in -60 ... 1023.
TAPEGRAD_INLINE Vec expm1(const ExpParts& e) {
  const Vec c = power_of_two(e.k);
  const Vec a = c - 1, b = c * e.p;
  const Vec sum = a + b;
  return sum + ((select(abs(a) < abs(b), (b - sum) + a, (a - sum) + b)) + c * e.p_low);
}

TAPEGRAD_INLINE Vec expm1(Vec x) {
  const Vec c = min(Vec(709.0), max(Vec(-41.0), x));
  const Vec near = expm1(exp_parts(c));
  const Mask large = x > 709.0;
  Vec z = select(abs(x) < 0x1p-54, x, near);
  if (any(large)) z = select(large, exp(x), z);
  return z;
}

// (E - 1) / (E + 1) with E = e^2|x|, numerator and denominator kept to twice the digits.
TAPEGRAD_INLINE Vec tanh(Vec x) {
  const ExpParts e = exp_parts(min(Vec(40.0), abs(x) * 2.0));
  const Vec d = power_of_two(-e.k);
  const Vec a = 1.0 - d, b = 1.0 + d;
  const Vec top = a + e.p, bottom = b + e.p;
  const Vec top_low = ((a - top) + e.p) + e.p_low, bottom_low = ((b - bottom) + e.p) + e.p_low;
  Vec z;
  if constexpr (kFused) {
    const Vec inverse = 1.0 / bottom;
    const Vec q = top * inverse;
    const Vec rest = mul_add(-q, bottom, top) + mul_add(-q, bottom_low, top_low);
    z = mul_add(rest, inverse, q);
  } else {
    const Vec q = top / bottom;
    z = q + (top_low - q * bottom_low) / bottom;
  }
  return copy_sign(z, x);
}

// 1 / (1 + e^-x), as e^x / (1 + e^x) for negative x.
TAPEGRAD_INLINE Vec sigmoid(Vec x) {
  const Vec e = exp(-abs(x));
  return select(x < 0.0, e, 1.0) / (1.0 + e);
}

TAPEGRAD_INLINE Vec cosh(Vec x) {
  const Vec half = exp_shifted(abs(x), -1);
  return half + 0.25 / half;
}

TAPEGRAD_INLINE Vec sinh(Vec x) {
  const Vec magnitude = abs(x);
  const Vec t = expm1(min(Vec(22.0), magnitude));
  const Vec small = 0.5 * (t + t / (t + 1.0));
  Vec z = small;
  const Mask large = magnitude > 22.0;
  if (any(large)) z = select(large, exp_shifted(magnitude, -1), small);
  return copy_sign(z, x);
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
