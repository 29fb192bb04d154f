// power.hpp: vectors raised to a constant power.
#pragma once

#include "core/lanes/simd/functions.hpp"

namespace tapegrad::simd::TAPEGRAD_ISA {

TAPEGRAD_INLINE Vec square(Vec x) {
  return x * x;
}
// x^0.5, which is not quite the square root: +0 for -0, infinity for minus infinity.
TAPEGRAD_INLINE Vec root(Vec x) {
  return sqrt(select(x == -kInfinity, kInfinity, x + 0.0));
}

// Calls f with a function that raises a vector to a constant power. Common exponents are a few operations; the others
// are the library's.
template <typename F>
TAPEGRAD_INLINE void with_power(double exponent, F f) {
  if (exponent == 0) return f([](Vec) TAPEGRAD_ALWAYS_INLINE { return Vec(1.0); });
  if (exponent == 1) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return x; });
  if (exponent == 2) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return x * x; });
  if (exponent == 3) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return x * x * x; });
  if (exponent == -1) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return 1.0 / x; });
  if (exponent == -2) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return square(1.0 / x); });
  if (exponent == 0.5) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return root(x); });
  if (exponent == -0.5) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return 1.0 / root(x); });
  if (exponent == -1.5) return f([](Vec x) TAPEGRAD_ALWAYS_INLINE { return 1.0 / root(x) / abs(x); });
  f([exponent](Vec x) TAPEGRAD_ALWAYS_INLINE { return fn::pow(x, exponent); });
}

}  // namespace tapegrad::simd::TAPEGRAD_ISA
