// fused_exp4.hpp: e^x of four numbers at once for AVX-512, by fused_exp.hpp's method with steps of 1/8: a table of
// eight fits in registers.
#pragma once

#include <immintrin.h>

#include "core/replay/fused_exp.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

inline constexpr __mmask8 kFourLanes = 0xf;

TAPEGRAD_INLINE __m256d four(double x) {
  return _mm256_set1_pd(x);
}

// Lane k of 2^(k / 8), k taken modulo 8.
TAPEGRAD_INLINE __m256d eighth_power(__m256i k) {
  const __m256d low = _mm256_setr_pd(0x1p+0, 0x1.172b83c7d517bp+0, 0x1.306fe0a31b715p+0, 0x1.4bfdad5362a27p+0);
  const __m256d high =
      _mm256_setr_pd(0x1.6a09e667f3bcdp+0, 0x1.8ace5422aa0dbp+0, 0x1.ae89f995ad3adp+0, 0x1.d5818dcfba487p+0);
  return _mm256_permutex2var_pd(low, k, high);
}

// What is missing in eighth_power, as a part of it.
TAPEGRAD_INLINE __m256d eighth_missing(__m256i k) {
  const __m256d low = _mm256_setr_pd(0.0, -0x1.01b15eaa59348p-55, 0x1.34d754db0abb6p-55, 0x1.690cebb7aafb0p-56);
  const __m256d high =
      _mm256_setr_pd(-0x1.3b3efbf5e2228p-54, 0x1.db72fc1f0eab4p-55, 0x1.c1a7792cb3387p-55, 0x1.4a385a63d07a7p-56);
  return _mm256_permutex2var_pd(low, k, high);
}

// Exact: what the library gives; else within 2 ulp. `open` tells the lanes that must be left to the library.
template <bool exact>
TAPEGRAD_INLINE __m256d exp4(__m256d x, unsigned* open) {
  constexpr double kRound = 0x1.8p52, kPerStep = 0x1.71547652b82fep+3;
  constexpr double kStepHigh = 0x1.62e42fefa2000p-4, kStepLow = 0x1.9ef35793c7673p-44;  // k kStepHigh is exact
  const __m256d magnitude = _mm256_andnot_pd(four(-0.0), x);
  const __mmask8 moderate = _mm256_cmp_pd_mask(magnitude, four(scalar::kMostExp), _CMP_LT_OQ);
  const __m256d shifted = _mm256_fmadd_pd(x, four(kPerStep), four(kRound));
  const __m256d k = _mm256_sub_pd(shifted, four(kRound));
  const __m256i index = _mm256_castpd_si256(shifted);
  const __m256d reduced = _mm256_fnmadd_pd(k, four(kStepHigh), x);
  const __m256d r = _mm256_fnmadd_pd(k, four(kStepLow), reduced);
  const __m256d scale = _mm256_maskz_scalef_pd(kFourLanes, eighth_power(index), _mm256_mul_pd(k, four(0.125)));
  // (e^r - 1 - r) / r^2, minimax, relative error of e^r 2^-65.
  const __m256d square = _mm256_mul_pd(r, r);
  __m256d high = _mm256_fmadd_pd(r, four(0x1.a01eddd492b8ep-13), four(0x1.6c16c1685a1c8p-10));
  high = _mm256_fmadd_pd(square, four(0x1.a01de4fc5f772p-16), high);
  const __m256d middle = _mm256_fmadd_pd(r, four(0x1.1111110c65418p-7), four(0x1.5555555555572p-5));
  __m256d tail = _mm256_fmadd_pd(r, four(0x1.555555555559dp-3), four(0.5));
  tail = _mm256_fmadd_pd(_mm256_mul_pd(square, square), high, _mm256_fmadd_pd(square, middle, tail));
  if constexpr (!exact) {
    *open = static_cast<unsigned>(~moderate) & kFourLanes;
    return _mm256_fmadd_pd(_mm256_mul_pd(scale, square), tail, _mm256_fmadd_pd(scale, r, scale));
  } else {
    const __m256d scale_low = eighth_missing(index);
    const __m256d r_low = _mm256_fnmadd_pd(k, four(kStepLow), _mm256_sub_pd(reduced, r));
    const __m256d low = _mm256_add_pd(r_low, _mm256_fmadd_pd(scale_low, r, scale_low));
    const __m256d more = _mm256_fmadd_pd(square, tail, low);
    const __m256d rest = _mm256_add_pd(r, more), rest_low = _mm256_sub_pd(more, _mm256_sub_pd(rest, r));
    const __m256d y = _mm256_fmadd_pd(scale, rest, scale);
    const __m256d missing = _mm256_fmadd_pd(scale, rest_low, _mm256_fmadd_pd(scale, rest, _mm256_sub_pd(scale, y)));
    // As scalar::is_nearest.
    const __m256i below = _mm256_sub_epi64(_mm256_castpd_si256(y), _mm256_set1_epi64x(1));
    const __m256d power = _mm256_castsi256_pd(_mm256_and_si256(below, _mm256_set1_epi64x(scalar::kExponentBits)));
    const __mmask8 settled = _mm256_mask_cmp_pd_mask(moderate, _mm256_andnot_pd(four(-0.0), missing),
                                                     _mm256_mul_pd(power, four(scalar::kNearest)), _CMP_LT_OQ);
    *open = static_cast<unsigned>(~settled) & kFourLanes;
    return y;
  }
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
