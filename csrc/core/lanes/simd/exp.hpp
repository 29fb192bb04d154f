// exp.hpp: the exponential and what is built on it, within 2 ulp over the whole range. Cody & Waite, Software Manual
// for the Elementary Functions (1980), ch. 6: x = k ln 2 + r with |r| <= ln(2) / 2, e^x = 2^k e^r. The polynomials are
// minimax (Remez) fits.
#pragma once

#include "core/lanes/simd/vec.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

// Adding it rounds to a whole number, which then stands in the low bits.
inline constexpr double kRound = 0x1.8p52;
inline constexpr double kLog2E = 0x1.71547652b82fep+0;
inline constexpr double kLn2High = 0x1.62e42fefa2000p-1;  // 40 bits: k times it is exact
inline constexpr double kLn2Low = 0x1.9ef35793c7673p-41;
inline constexpr double kLn2 = 0x1.62e42fefa39efp-1;
inline constexpr double kInfinity = __builtin_inf();

// 2^k for whole k in -1022 ... 1023; something, but no trap, for NaN.
TAPEGRAD_INLINE Vec power_of_two(Vec k) {
  return Vec((k + (kRound + 1023)).bits() << 52);
}

// top / bottom, each the sum of a number and a low part that is below its last bit or so.
TAPEGRAD_INLINE Vec divide(Vec top, Vec top_low, Vec bottom, Vec bottom_low) {
  if constexpr (kFused) {
    const Vec inverse = 1.0 / bottom;
    const Vec q = top * inverse;
    const Vec rest = mul_add(-q, bottom, top) + mul_add(-q, bottom_low, top_low);
    return mul_add(rest, inverse, q);
  } else {
    const Vec q = top / bottom;
    return q + (top_low - q * bottom_low) / bottom;
  }
}

// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, fitted to a relative error of e^r of 4e-18.
TAPEGRAD_INLINE Vec exp_tail(Vec r) {
  return polynomial(r, 0x1.000000000000ap-1, 0x1.55555555554fap-3, 0x1.555555555087cp-5, 0x1.1111111127beap-7,
                    0x1.6c16c1842a18fp-10, 0x1.a01a012a559b1p-13, 0x1.a0199a0c5affdp-16, 0x1.71df255761396p-19,
                    0x1.28ad72d3fa16fp-22, 0x1.ad7f6655530e7p-26);
}

// 2^k e^r for |r| <= ln(2) / 2 and k in -1100 ... 1100.
TAPEGRAD_INLINE Vec exp_scaled(Vec r, Vec k) {
  const Vec y = 1.0 + mul_add(r * r, exp_tail(r), r);
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_maskz_scalef_pd(kAllLanes, y.v, k.v));
#else
  if (!any(abs(k) > 1021.0)) [[likely]]
    return y * power_of_two(k);
  // In two steps, of which only the last can round.
  const Vec half = (k * 0.5 + kRound) - kRound;
  return y * power_of_two(half) * power_of_two(k - half);
#endif
}

// e^x 2^shift for shift -1 or 0.
TAPEGRAD_INLINE Vec exp_shifted(Vec x, double shift) {
  // Past these the result is infinity or zero; NaN stays.
  const Vec c = min(Vec(715.0), max(Vec(-750.0), x));
  const Vec k = mul_add(c, kLog2E, kRound) - kRound;
  return exp_scaled(mul_add(k, -kLn2Low, mul_add(k, -kLn2High, c)), k + shift);
}

TAPEGRAD_INLINE Vec exp2(Vec x) {
  const Vec c = min(Vec(1030.0), max(Vec(-1080.0), x));
  const Vec k = (c + kRound) - kRound;
  return exp_scaled((c - k) * kLn2, k);
}

TAPEGRAD_INLINE Vec exp(Vec x) {
  return exp_shifted(x, 0);
}

// e^x as scale (1 + p + p_low), scale a power of two: |p| < 0.42, p_low below p's last bit, p to a relative error of
// 1e-18 for small x.
struct ExpParts {
  Vec k, scale, p, p_low;
};

// For x in -708 ... 709.
TAPEGRAD_INLINE ExpParts exp_parts(Vec x) {
  const Vec k = mul_add(x, kLog2E, kRound) - kRound;
  const Vec t = mul_add(k, -kLn2High, x);
  const Vec r = mul_add(k, -kLn2Low, t);
  const Vec r_low = mul_add(k, -kLn2Low, t - r);
  const Vec q = polynomial(r, 0x1.0000000000000p-1, 0x1.5555555555559p-3, 0x1.555555555555ap-5, 0x1.111111110f6aep-7,
                           0x1.6c16c16c1445bp-10, 0x1.a01a01afe53d8p-13, 0x1.a01a01b0b407fp-16, 0x1.71ddf8536b1e9p-19,
                           0x1.27e4c5a709c08p-22, 0x1.af5ebf5a0daa0p-26, 0x1.1f9559e133ae3p-29);
  const Vec s = mul_add(r * r, q, r_low);
  const Vec p = r + s;
  return {k, power_of_two(k), p, (r - p) + s};
}

// e^x - 1 for x in -41 ... 709; the part below the last bit goes to `low`.
TAPEGRAD_INLINE Vec expm1_parts(Vec x, Vec* low) {
  const ExpParts e = exp_parts(x);
  const Vec a = e.scale - 1.0, b = e.scale * e.p;
  const Vec a_low = (e.scale - a) - 1.0;
  const Vec sum = a + b;
  const Vec rest = select(abs(a) < abs(b), (b - sum) + a, (a - sum) + b) + (a_low + e.scale * e.p_low);
  const Vec z = sum + rest;
  *low = (sum - z) + rest;
  return z;
}

TAPEGRAD_INLINE Vec expm1(Vec x) {
  Vec low;
  Vec z = expm1_parts(min(Vec(709.0), max(Vec(-41.0), x)), &low);
  z = select(abs(x) < 0x1p-54, x, z);
  const Mask large = x > 709.0;
  if (any(large)) [[unlikely]]
    z = select(large, exp(x), z);
  return z;
}

// With E = e^2|x| and t = E - 1: t / (t + 2), corrected for the rounding below. Without fused products:
// (E - 1) / (E + 1), above and below divided by the power of two in E, with low parts.
TAPEGRAD_INLINE Vec tanh(Vec x) {
  const Vec y = min(Vec(40.0), abs(x) * 2.0);
  if constexpr (kFused) {
    const Vec k = mul_add(y, kLog2E, kRound) - kRound;
    const Vec reduced = mul_add(k, -kLn2High, y), low = k * kLn2Low;
    const Vec r = reduced - low;
    const Vec scale = power_of_two(k);
    const Vec t = mul_add(scale, reduced + mul_add(r * r, exp_tail(r), -low), scale - 1.0), bottom = t + 2.0;
    const Vec inverse = 1.0 / bottom;
    const Vec z = t * inverse;
    return copy_sign(mul_add(mul_add(-z, (2.0 - bottom) + t, mul_add(-z, bottom, t)), inverse, z), x);
  }
  const ExpParts e = exp_parts(y);
  const Vec d = power_of_two(-e.k);
  const Vec a = 1.0 - d, b = 1.0 + d;
  const Vec a_low = (1.0 - a) - d, b_low = (1.0 - b) + d;
  const Vec top = a + e.p, bottom = b + e.p;
  const Vec top_low = ((a - top) + e.p) + (a_low + e.p_low);
  const Vec bottom_low = ((b - bottom) + e.p) + (b_low + e.p_low);
  return copy_sign(divide(top, top_low, bottom, bottom_low), x);
}

// 1 / (1 + e^-x), as E / (1 + E) with E = e^-|x| for negative x.
TAPEGRAD_INLINE Vec sigmoid(Vec x) {
  const Vec magnitude = abs(x);
  const ExpParts e = exp_parts(-min(Vec(708.0), magnitude));
  const Vec one = 1.0 + e.p;
  const Vec energy = e.scale * one, energy_low = e.scale * (((1.0 - one) + e.p) + e.p_low);
  const Vec bottom = 1.0 + energy;
  const Vec bottom_low = ((1.0 - bottom) + energy) + energy_low;
  const Mask negative = x < 0.0;
  Vec z = divide(select(negative, energy, 1.0), select(negative, energy_low, 0.0), bottom, bottom_low);
  const Mask tiny = x < -708.0;
  if (any(tiny)) [[unlikely]]
    z = select(tiny, exp(x), z);
  return z;
}

TAPEGRAD_INLINE Vec cosh(Vec x) {
  const Vec half = exp_shifted(abs(x), -1);
  return half + 0.25 / half;
}

// (t + t / (t + 1)) / 2 with t = e^|x| - 1
TAPEGRAD_INLINE Vec sinh(Vec x) {
  const Vec magnitude = abs(x);
  Vec low;
  const Vec t = expm1_parts(min(Vec(22.0), magnitude), &low);
  Vec z = 0.5 * (t + (t / (t + 1.0) + low));
  const Mask large = magnitude > 22.0;
  if (any(large)) [[unlikely]]
    z = select(large, exp_shifted(magnitude, -1), z);
  return copy_sign(z, x);
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
