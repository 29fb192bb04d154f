// functions.hpp: the scalar functions that the op table is written with; each gives the bits that Python's math module
// gives.
#pragma once

#include <cmath>
#include <limits>

namespace tapegrad::fn {

inline constexpr double ln2 = 0.693147180559945309417;
inline constexpr double ln10 = 2.302585092994045684018;

using std::acos;
using std::acosh;
using std::asin;
using std::asinh;
using std::atan;
using std::atanh;
using std::cos;
using std::cosh;
using std::exp;
using std::exp2;
using std::expm1;
using std::log;
using std::log10;
using std::log1p;
using std::log2;
using std::pow;
using std::sin;
using std::sinh;
using std::sqrt;
using std::tan;

inline double one(double) {
  return 1.0;
}
inline double zero(double) {
  return 0.0;
}
inline double less(double x, double y) {
  return x < y ? 1.0 : 0.0;
}
inline double less_equal(double x, double y) {
  return x <= y ? 1.0 : 0.0;
}
inline double equal(double x, double y) {
  return x == y ? 1.0 : 0.0;
}
inline double abs(double x) {
  return std::fabs(x);
}
inline double positive(double x) {
  return x > 0 ? 1.0 : 0.0;
}
inline double sign(double x) {
  return x > 0 ? 1.0 : (x < 0 ? -1.0 : x);
}
inline double relu(double x) {
  return x < 0 ? 0.0 : x;
}
// The larger and the smaller of two numbers; NaN wins, as in NumPy. Where both are equal each has half of the
// derivative.
inline double maximum(double x, double y) {
  return x >= y ? x : (y > x ? y : x + y);
}
inline double minimum(double x, double y) {
  return x <= y ? x : (y < x ? y : x + y);
}
inline double above(double x, double y) {
  return x > y ? 1.0 : (x == y ? 0.5 : 0.0);
}
inline double hypot1(double x) {
  return std::hypot(1.0, x);
}

// micrograd's own formula, bit for bit, wherever it is sound. It loses digits to cancellation near zero and overflows
// for large x, so there the library's tanh takes over.
inline double tanh(double x) {
  if (std::fabs(x) < 1e-5 || !(std::fabs(x) < 354.5)) return std::tanh(x);
  const double e = std::exp(2 * x);
  return (e - 1) / (e + 1);
}

// 1 / (1 + e^-x), written so that exp never overflows.
inline double sigmoid(double x) {
  if (x >= 0) return 1 / (1 + std::exp(-x));
  const double e = std::exp(x);
  return e / (1 + e);
}

// log(1 + e^x), written so that exp never overflows.
inline double softplus(double x) {
  return (x > 0 ? x : (x <= 0 ? 0.0 : x)) + std::log1p(std::exp(-std::fabs(x)));
}

// The power rule; a zero exponent has a zero derivative at every base, zero included.
inline double pow_dx(double x, double y) {
  return y == 0 ? 0.0 : y * std::pow(x, y - 1);
}

// Derivative by the exponent, x^y log x; there is none for a base that is not positive.
inline double pow_dy(double x, double z) {
  return x > 0 ? z * std::log(x) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace tapegrad::fn
