// bench_lanes.cpp: nanoseconds a lane of the lane kernels, for every instruction set of this machine. Not a test:
// `ninja bench_lanes && tests/core/bench_lanes [LANES...]`. The best of many runs, arrays aligned to 64 bytes.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "core/lanes/lanes.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;

namespace {

struct Free {
  void operator()(double* p) const { std::free(p); }
};
using Array = std::unique_ptr<double[], Free>;

Array make(std::size_t n, double low, double high) {
  Array a(static_cast<double*>(std::aligned_alloc(64, (n * sizeof(double) + 127) / 64 * 64)));
  std::mt19937_64 random(n);
  std::uniform_real_distribution<double> uniform(low, high);
  for (std::size_t i = 0; i < n; ++i) a[i] = uniform(random);
  return a;
}

template <typename F>
double nanoseconds_a_lane(std::size_t n, F work) {
  using Clock = std::chrono::steady_clock;
  const std::size_t repeats = std::max<std::size_t>(1, 200000 / n);
  double best = 1e30;
  for (int run = 0; run < 40; ++run) {
    const auto start = Clock::now();
    for (std::size_t i = 0; i < repeats; ++i) work();
    const std::chrono::duration<double, std::nano> took = Clock::now() - start;
    best = std::min(best, took.count() / static_cast<double>(repeats * n));
  }
  return best;
}

void measure(std::size_t n) {
  const Array x = make(n, 0.1, 5), y = make(n, 0.1, 5), z = make(n, 0, 1), gz = make(n, 0, 1e-9);
  const Array gx = make(n, 0, 1), gy = make(n, 0, 1);
  std::printf("%zu lanes, %s, ns a lane:\n ", n, lanes::instruction_set());
#define TAPEGRAD_UNARY(id, ...)                                                                          \
  std::printf(                                                                                           \
      " %s %.2f/%.2f", #id, nanoseconds_a_lane(n, [&] { lanes::forward(Op::id, n, x.get(), z.get()); }), \
      nanoseconds_a_lane(n, [&] { lanes::backward(Op::id, 0, n, x.get(), x.get(), z.get(), gz.get(), gx.get()); }));
#define TAPEGRAD_BINARY(id, ...)                                                                                  \
  std::printf(                                                                                                    \
      " %s %.2f/%.2f", #id, nanoseconds_a_lane(n, [&] { lanes::forward(Op::id, n, x.get(), y.get(), z.get()); }), \
      nanoseconds_a_lane(                                                                                         \
          n, [&] { lanes::backward_both(Op::id, n, x.get(), y.get(), z.get(), gz.get(), gx.get(), gy.get()); }));
#include "core/ops/ops.def"
  double sink = 0;
  std::printf(" sum %.2f dot %.2f max %.2f axpy %.2f\n", nanoseconds_a_lane(n, [&] { sink += lanes::sum(n, x.get()); }),
              nanoseconds_a_lane(n, [&] { sink += lanes::dot(n, x.get(), y.get()); }),
              nanoseconds_a_lane(n, [&] { sink += lanes::max(n, x.get()); }),
              nanoseconds_a_lane(n, [&] { lanes::axpy(n, 1e-9, x.get(), gy.get()); }));
  if (sink == 0.5) std::puts("");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::size_t> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::strtoull(argv[i], nullptr, 10));
  if (sizes.empty()) sizes = {100, 1000, 1000000};
  for (const char* set : {"avx512", "avx2", "baseline"}) {
    if (!lanes::use_instruction_set(set)) continue;
    for (const std::size_t n : sizes) {
      if (n) measure(n);
    }
  }
}
