// powers.hpp: small whole powers with the bits that pow() gives, at the price of a few multiplications.
//
// Any pow() whose error is below 0.55 ulp gives the nearest double wherever the exact power is not about halfway
// between two of them (the C libraries of GNU, musl and Apple are within 0.54). The power is formed as an unevaluated
// sum of two doubles (T. J. Dekker, "A floating-point technique for extending the available precision", 1971), whose
// low part says how near to halfway it is; where it is too near, and outside a range in which nothing overflows, pow()
// is called.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/lanes/simd/isa.hpp"
#include "core/ops/functions.hpp"

namespace tapegrad::powers {

struct Double2 {
  double high, low;
};

// a * b exactly.
TAPEGRAD_INLINE constexpr Double2 product(double a, double b) {
#if defined(TAPEGRAD_ISA_AVX2) || defined(TAPEGRAD_ISA_AVX512)
  if (!std::is_constant_evaluated()) return {a * b, __builtin_fma(a, b, -(a * b))};
#endif
  constexpr double kSplit = 134217729.0;  // 2^27 + 1
  const double ta = kSplit * a, tb = kSplit * b;
  const double ah = ta - (ta - a), al = a - ah, bh = tb - (tb - b), bl = b - bh;
  const double p = a * b;
  return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
}

TAPEGRAD_INLINE std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Whether high is what pow() gives for a power of high + low. A power of two counts as the end of the numbers below it,
// where halfway is nearer.
TAPEGRAD_INLINE bool settled(Double2 power) {
  const std::uint64_t exponent = (bits_of(power.high) - 1) & 0x7ff0000000000000u;
  double scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return std::fabs(power.low) < scale * (0.45 * 0x1p-52);
}

// Within 2^-200 ... 2^200.
TAPEGRAD_INLINE bool is_moderate(double x) {
  return ((bits_of(x) >> 52) & 0x7ff) - (1023u - 200u) < 400u;
}

// 1 / x - q, for the double q nearest to 1 / x.
TAPEGRAD_INLINE double missing_in_reciprocal(double q, double x) {
#if defined(TAPEGRAD_ISA_AVX2) || defined(TAPEGRAD_ISA_AVX512)
  return __builtin_fma(-q, x, 1.0) * q;
#else
  const Double2 back = product(q, x);
  return ((1 - back.high) - back.low) * q;
#endif
}

// Whether q, which is 1 / x, is also what pow(x, -1) gives.
TAPEGRAD_INLINE bool is_reciprocal(double q, double x) {
  return is_moderate(x) && settled({q, missing_in_reciprocal(q, x)});
}

// pow(x, y).
TAPEGRAD_INLINE double power(double x, double y) {
  if (is_moderate(x)) {
    if (y == -1) {
      const double q = 1 / x;
      if (is_reciprocal(q, x)) return q;
    } else if (y == -2) {
      const double q = 1 / x;
      const Double2 square = product(q, q);
      const double low = square.low + 2 * q * missing_in_reciprocal(q, x);
      const double high = square.high + low;
      if (settled({high, (square.high - high) + low})) return high;
    } else if (y == 2) {
      const Double2 square = product(x, x);
      if (settled(square)) return square.high;
    } else if (y == 1) {
      return x;
    }
  }
  // Where the compiler sees that y is -1 it would take the call for 1 / x, whose last bit may be another.
  __asm__("" : "+m"(y));
  return fn::pow(x, y);
}

// fn::pow_dx with the same bits.
TAPEGRAD_INLINE double power_dx(double x, double y) {
  return y == 0 ? 0.0 : y * power(x, y - 1);
}

}  // namespace tapegrad::powers
