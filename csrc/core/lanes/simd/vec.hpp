// vec.hpp: a vector of doubles as wide as the instruction set has, with the arithmetic of a double. Sums, differences,
// products and quotients are rounded one by one, as scalar code rounds them; only mul_add may round once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/lanes/simd/isa.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tapegrad::simd::TAPEGRAD_ISA {

using Doubles = double __attribute__((vector_size(TAPEGRAD_VECTOR_BYTES)));
using Bits = std::uint64_t __attribute__((vector_size(TAPEGRAD_VECTOR_BYTES)));
using SignedBits = std::int64_t __attribute__((vector_size(TAPEGRAD_VECTOR_BYTES)));

inline constexpr std::size_t kWidth = TAPEGRAD_VECTOR_BYTES / sizeof(double);

#if defined(TAPEGRAD_ISA_AVX512)
// Intrinsics are used in their masked form where GCC 12 warns of the undefined vector that the plain form starts from.
inline constexpr __mmask8 kAllLanes = 0xff;
#endif

// One truth value a lane.
struct Mask {
#if defined(TAPEGRAD_ISA_AVX512)
  using Native = __mmask8;
#else
  using Native = SignedBits;  // all ones or zero
#endif
  Native m;
  TAPEGRAD_INLINE friend Mask operator&(Mask a, Mask b) { return {static_cast<Native>(a.m & b.m)}; }
  TAPEGRAD_INLINE friend Mask operator|(Mask a, Mask b) { return {static_cast<Native>(a.m | b.m)}; }
  TAPEGRAD_INLINE friend Mask operator!(Mask a) { return {static_cast<Native>(~a.m)}; }
};

struct Vec {
  Doubles v;

  Vec() = default;
  TAPEGRAD_INLINE Vec(Doubles native) : v(native) {}
#if TAPEGRAD_VECTOR_BYTES == 64
  TAPEGRAD_INLINE Vec(double x) : v{x, x, x, x, x, x, x, x} {}
#elif TAPEGRAD_VECTOR_BYTES == 32
  TAPEGRAD_INLINE Vec(double x) : v{x, x, x, x} {}
#else
  TAPEGRAD_INLINE Vec(double x) : v{x, x} {}
#endif
  TAPEGRAD_INLINE explicit Vec(Bits bits) : v(reinterpret_cast<Doubles>(bits)) {}
  TAPEGRAD_INLINE Bits bits() const { return reinterpret_cast<Bits>(v); }
  TAPEGRAD_INLINE double operator[](std::size_t i) const { return v[i]; }

  TAPEGRAD_INLINE friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  TAPEGRAD_INLINE friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  TAPEGRAD_INLINE friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  TAPEGRAD_INLINE friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  TAPEGRAD_INLINE friend Vec operator-(Vec a) { return -a.v; }

#if defined(TAPEGRAD_ISA_AVX512)
  TAPEGRAD_INLINE friend Mask operator<(Vec a, Vec b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ)}; }
  TAPEGRAD_INLINE friend Mask operator<=(Vec a, Vec b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LE_OQ)}; }
  TAPEGRAD_INLINE friend Mask operator==(Vec a, Vec b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ)}; }
  TAPEGRAD_INLINE friend Mask operator!=(Vec a, Vec b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_NEQ_UQ)}; }
#else
  TAPEGRAD_INLINE friend Mask operator<(Vec a, Vec b) { return {reinterpret_cast<Mask::Native>(a.v < b.v)}; }
  TAPEGRAD_INLINE friend Mask operator<=(Vec a, Vec b) { return {reinterpret_cast<Mask::Native>(a.v <= b.v)}; }
  TAPEGRAD_INLINE friend Mask operator==(Vec a, Vec b) { return {reinterpret_cast<Mask::Native>(a.v == b.v)}; }
  TAPEGRAD_INLINE friend Mask operator!=(Vec a, Vec b) { return {reinterpret_cast<Mask::Native>(a.v != b.v)}; }
#endif
  TAPEGRAD_INLINE friend Mask operator>(Vec a, Vec b) { return b < a; }
  TAPEGRAD_INLINE friend Mask operator>=(Vec a, Vec b) { return b <= a; }
};

TAPEGRAD_INLINE Vec load(const double* p) {
  Doubles v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// load as two accesses of half the width: from beyond the first-level cache these are some 10 % faster on Zen 4.
TAPEGRAD_INLINE Vec load_halves(const double* p) {
#if defined(TAPEGRAD_ISA_AVX512)
  const __m512d low = _mm512_castpd256_pd512(_mm256_loadu_pd(p));
  return Doubles(_mm512_maskz_insertf64x4(kAllLanes, low, _mm256_loadu_pd(p + 4), 1));
#else
  return load(p);
#endif
}

TAPEGRAD_INLINE void store(double* p, Vec x) {
  __builtin_memcpy(p, &x.v, sizeof x.v);
}

// a where the mask holds, else b.
TAPEGRAD_INLINE Vec select(Mask mask, Vec a, Vec b) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_mask_blend_pd(mask.m, b.v, a.v));
#elif defined(TAPEGRAD_ISA_AVX2)
  return Doubles(_mm256_blendv_pd(b.v, a.v, reinterpret_cast<Doubles>(mask.m)));
#else
  const Bits m = reinterpret_cast<Bits>(mask.m);
  return Vec((m & a.bits()) | (~m & b.bits()));
#endif
}

TAPEGRAD_INLINE bool any(Mask mask) {
#if defined(TAPEGRAD_ISA_AVX512)
  return mask.m != 0;
#elif defined(TAPEGRAD_ISA_AVX2)
  return _mm256_movemask_pd(reinterpret_cast<Doubles>(mask.m)) != 0;
#elif defined(__x86_64__)
  return _mm_movemask_pd(reinterpret_cast<Doubles>(mask.m)) != 0;
#else
  return (mask.m[0] | mask.m[1]) != 0;
#endif
}

// a * b + c, rounded once where the instruction set has it. For polynomials and the like, never for what a program
// multiplies and adds.
TAPEGRAD_INLINE Vec mul_add(Vec a, Vec b, Vec c) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_fmadd_pd(a.v, b.v, c.v));
#elif defined(TAPEGRAD_ISA_AVX2)
  return Doubles(_mm256_fmadd_pd(a.v, b.v, c.v));
#elif defined(__aarch64__)
  return Doubles(vfmaq_f64(float64x2_t(c.v), float64x2_t(a.v), float64x2_t(b.v)));
#else
  return a * b + c;
#endif
}

// Whether mul_add rounds once, so that it can give the error of a product or a quotient.
#if defined(TAPEGRAD_ISA_AVX512) || defined(TAPEGRAD_ISA_AVX2) || defined(__aarch64__)
inline constexpr bool kFused = true;
#else
inline constexpr bool kFused = false;
#endif

// The smaller and the larger; b if either is NaN.
TAPEGRAD_INLINE Vec min(Vec a, Vec b) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_maskz_min_pd(kAllLanes, a.v, b.v));
#elif defined(TAPEGRAD_ISA_AVX2)
  return Doubles(_mm256_min_pd(a.v, b.v));
#elif defined(__x86_64__)
  return Doubles(_mm_min_pd(a.v, b.v));
#else
  return select(a < b, a, b);
#endif
}
TAPEGRAD_INLINE Vec max(Vec a, Vec b) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_maskz_max_pd(kAllLanes, a.v, b.v));
#elif defined(TAPEGRAD_ISA_AVX2)
  return Doubles(_mm256_max_pd(a.v, b.v));
#elif defined(__x86_64__)
  return Doubles(_mm_max_pd(a.v, b.v));
#else
  return select(a > b, a, b);
#endif
}

TAPEGRAD_INLINE Vec sqrt(Vec x) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_maskz_sqrt_pd(kAllLanes, x.v));
#elif defined(TAPEGRAD_ISA_AVX2)
  return Doubles(_mm256_sqrt_pd(x.v));
#elif defined(__x86_64__)
  return Doubles(_mm_sqrt_pd(x.v));
#elif defined(__aarch64__)
  return Doubles(vsqrtq_f64(float64x2_t(x.v)));
#else
  return Doubles{__builtin_sqrt(x[0]), __builtin_sqrt(x[1])};
#endif
}

inline constexpr std::uint64_t kSignBit = std::uint64_t(1) << 63;

TAPEGRAD_INLINE Vec abs(Vec x) {
  return Vec(x.bits() & ~kSignBit);
}
TAPEGRAD_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return Vec((magnitude.bits() & ~kSignBit) | (sign.bits() & kSignBit));
}
TAPEGRAD_INLINE Mask is_nan(Vec x) {
  return x != x;
}

// Holds in the first `count` lanes.
TAPEGRAD_INLINE Mask first_lanes(std::size_t count) {
#if defined(TAPEGRAD_ISA_AVX512)
  return {static_cast<__mmask8>((1u << count) - 1)};
#else
  SignedBits m{};
  for (std::size_t i = 0; i < kWidth; ++i) m[i] = i < count ? -1 : 0;
  return {m};
#endif
}

// The first `count` lanes from memory, 1.0 in the others: a number that every function can work on.
TAPEGRAD_INLINE Vec load_part(const double* p, std::size_t count) {
#if defined(TAPEGRAD_ISA_AVX512)
  return Doubles(_mm512_mask_loadu_pd(Vec(1.0).v, first_lanes(count).m, p));
#else
  Vec x = 1.0;
  for (std::size_t i = 0; i + 1 < kWidth && i < count; ++i) x.v[i] = p[i];
  return x;
#endif
}

// The first `count` lanes to memory; no other byte is touched.
TAPEGRAD_INLINE void store_part(double* p, Vec x, std::size_t count) {
#if defined(TAPEGRAD_ISA_AVX512)
  _mm512_mask_storeu_pd(p, first_lanes(count).m, x.v);
#else
  for (std::size_t i = 0; i + 1 < kWidth && i < count; ++i) p[i] = x.v[i];
#endif
}

// c0 + c1 x + c2 x^2 + ..., as a polynomial in x^2 of pairs c + c' x: half as long a chain of operations as one by one.
TAPEGRAD_INLINE Vec polynomial_of_pairs(Vec, Vec, double c) {
  return c;
}
TAPEGRAD_INLINE Vec polynomial_of_pairs(Vec x, Vec, double c0, double c1) {
  return mul_add(x, c1, c0);
}
template <typename... More>
TAPEGRAD_INLINE Vec polynomial_of_pairs(Vec x, Vec square, double c0, double c1, More... more) {
  return mul_add(polynomial_of_pairs(x, square, more...), square, mul_add(x, c1, c0));
}
template <typename... C>
TAPEGRAD_INLINE Vec polynomial(Vec x, C... c) {
  return polynomial_of_pairs(x, x * x, c...);
}

// f lane by lane, for functions that have no vector form.
template <typename F>
TAPEGRAD_INLINE Vec by_lane(F f, Vec x) {
  alignas(TAPEGRAD_VECTOR_BYTES) double lanes[kWidth];
  store(lanes, x);
  for (std::size_t i = 0; i < kWidth; ++i) lanes[i] = f(lanes[i]);
  return load(lanes);
}
template <typename F>
TAPEGRAD_INLINE Vec by_lane(F f, Vec x, Vec y) {
  alignas(TAPEGRAD_VECTOR_BYTES) double lanes[kWidth], others[kWidth];
  store(lanes, x);
  store(others, y);
  for (std::size_t i = 0; i < kWidth; ++i) lanes[i] = f(lanes[i], others[i]);
  return load(lanes);
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
