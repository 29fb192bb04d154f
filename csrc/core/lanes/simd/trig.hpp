// trig.hpp: sine and cosine within 2 ulp over the whole range. Angles up to 2^19 are reduced by multiples of pi/2 in
// three parts (Cody & Waite, ch. 8), which the tests try at the double next to each; larger ones are left to the C
// library. The polynomials are minimax (Remez) fits over |r| <= pi/4, relative error 4e-18.
#pragma once

#include "core/lanes/simd/exp.hpp"
#include "core/lanes/simd/vec.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

inline constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
inline constexpr double kHalfPi[] = {0x1.921fb54400000p+0, 0x1.0b4611a600000p-34, 0x1.3198a2e037073p-69};
inline constexpr double kLargestAngle = 0x1p19;

// x = k pi/2 + r + r_low; the quadrant k stands in the low bits of `quadrant`. Lanes in `large` are not reduced.
struct Angle {
  Vec r, r_low;
  Bits quadrant;
  Mask large;
};

TAPEGRAD_INLINE Angle reduce_angle(Vec x) {
  const Vec rounded = mul_add(x, kTwoOverPi, kRound);
  const Vec k = rounded - kRound;
  const Vec t = x - k * kHalfPi[0];
  const Vec w = k * kHalfPi[1];
  const Vec u = t - w;
  const Vec u_low = (t - u) - w;
  const Vec v = k * kHalfPi[2];
  const Vec r = u - v;
  return {r, ((u - r) - v) + u_low, rounded.bits(), !(abs(x) <= kLargestAngle)};
}

TAPEGRAD_INLINE Vec sin_reduced(const Angle& a) {
  const Vec z = a.r * a.r;
  const Vec s = polynomial(z, -0x1.5555555555549p-3, 0x1.111111110f861p-7, -0x1.a01a019c0e4f7p-13,
                           0x1.71de3574bc9d1p-19, -0x1.ae5e63cef5530p-26, 0x1.5d924726a49dbp-33);
  return a.r + mul_add(a.r * z, s, a.r_low);
}

TAPEGRAD_INLINE Vec cos_reduced(const Angle& a) {
  const Vec z = a.r * a.r;
  const Vec c = polynomial(z, 0x1.555555555554cp-5, -0x1.6c16c16c15162p-10, 0x1.a01a019caef3fp-16,
                           -0x1.27e4f807d5b48p-22, 0x1.1ee9ea6c0d9e4p-29, -0x1.8fadcfe826cc3p-37);
  const Vec h = 0.5 * z;
  const Vec w = 1.0 - h;
  return w + (((1.0 - w) - h) + (z * z * c - a.r * a.r_low));
}

// Sine in the quadrants counted from a.quadrant.
TAPEGRAD_INLINE Vec sin_from(const Angle& a, Bits quadrant) {
  const Mask odd = Vec((quadrant & 1) * 0x3ff0000000000000) != 0.0;
  const Vec z = select(odd, cos_reduced(a), sin_reduced(a));
  return Vec(z.bits() ^ ((quadrant & 2) << 62));
}

TAPEGRAD_INLINE Vec sin(Vec x) {
  const Angle a = reduce_angle(x);
  Vec z = sin_from(a, a.quadrant);
  z = select(x == 0.0, x, z);
  if (any(a.large)) [[unlikely]]
    z = select(a.large, by_lane([](double lane) { return __builtin_sin(lane); }, select(a.large, x, 0.0)), z);
  return z;
}

TAPEGRAD_INLINE Vec cos(Vec x) {
  const Angle a = reduce_angle(x);
  Vec z = sin_from(a, a.quadrant + 1);
  if (any(a.large)) [[unlikely]]
    z = select(a.large, by_lane([](double lane) { return __builtin_cos(lane); }, select(a.large, x, 0.0)), z);
  return z;
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
