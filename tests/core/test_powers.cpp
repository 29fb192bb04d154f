// test_powers.cpp: small whole powers have the bits of pow(), at random numbers, near the ends of the quick range, and
// where the power lies nearly halfway between two doubles.
#include "core/replay/powers.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "check.hpp"

using namespace tapegrad;

namespace {

__extension__ using Wide = __int128;

bool same_bits(double a, double b) {
  return !std::memcmp(&a, &b, sizeof a) || (std::isnan(a) && std::isnan(b));
}

std::size_t close_calls = 0;

void compare(double x) {
  for (volatile double y : {-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0}) {
    CHECK(same_bits(powers::power(x, y), std::pow(x, y)));
    CHECK(same_bits(powers::power_dx(x, y), fn::pow_dx(x, y)));
  }
  const powers::Double2 square = powers::product(x, x);
  if (powers::is_moderate(x) && !powers::settled(square)) ++close_calls;
}

}  // namespace

int main() {
  std::mt19937_64 random(4);
  for (int n = 0; n < 300000; ++n) {
    const double mantissa = 1 + static_cast<double>(random() >> 12) * 0x1p-52;
    const double x = std::ldexp(mantissa, static_cast<int>(random() % 460) - 230);
    compare(random() % 2 ? x : -x);
    // Few bits: powers that are exact, or exactly halfway.
    compare(std::ldexp(static_cast<double>(random() % (1u << 28)), static_cast<int>(random() % 60) - 30));
    // Nearly powers of two, where doubles lie closer on one side.
    compare(std::ldexp(1 + (static_cast<double>(random() % 64) - 32) * 0x1p-53, static_cast<int>(random() % 20) - 10));
  }
  CHECK(close_calls > 10000);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double x : {0.0, -0.0, infinity, -infinity, std::nan(""), 0x1p-1074, 0x1.fffffffffffffp1023, -0x1p-1022,
                         0x1p-200, 0x1p200, 0x1p-201, 0x1p201})
    compare(x);
  // The product of two doubles and what is left of it, against long double arithmetic with whole numbers.
  for (int n = 0; n < 1000; ++n) {
    const auto a = static_cast<std::int64_t>(random() >> 11), b = static_cast<std::int64_t>(random() >> 11);
    const powers::Double2 p = powers::product(static_cast<double>(a), static_cast<double>(b));
    CHECK(static_cast<Wide>(p.high) + static_cast<Wide>(p.low) == static_cast<Wide>(a) * b);
  }
}
