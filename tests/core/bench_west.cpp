// bench_west.cpp: the workload west of `tapegrad bench` as straight-line code, without steps that are read or chosen:
// what a replay could come to on this machine if it cost nothing. Not a test: `ninja bench_west &&
// tests/core/bench_west`.
//
// The best of many runs of 10,000 operations, in nanoseconds an operation, with the exponentials of the C library or
// with those of the fused steps, which here may round otherwise than eager code.
#define TAPEGRAD_ISA_AVX2
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "core/replay/fused_exp.hpp"

namespace {

constexpr int kInputs = 100, kGroups = 2500, kValues = 7 * kGroups;  // a group: softplus, sum, product, softmax of four
double values[kInputs + kValues], gradients[kInputs + kValues];
double terms[4 * kGroups], sums[kGroups], shifted[kGroups];  // of each softmax e^x and their sum; e^x + 1

struct Library {
  static double exp(double x) { return std::exp(x); }
};
struct OwnExp {
  static double exp(double x) {
    bool open = false;
    return tapegrad::simd::avx2::scalar::exp<false>(x, &open);
  }
};

template <typename Functions>
void forward() {
  double* v = values + kInputs;
  double* e = terms;
  for (int k = 0; k < kGroups; ++k, v += 7, e += 4) {
    const double power = Functions::exp(v[-10]);
    shifted[k] = power + 1.0;
    v[0] = std::log(shifted[k]);
    v[1] = v[1 - 30] + v[1 - 25] + v[1 - 20] + v[1 - 15];
    v[2] = v[2 - 20] * v[2 - 10];
    for (int i = 3; i >= 0; --i) e[i] = Functions::exp(v[i - 1]);  // what is known last comes last
    const double sum = sums[k] = e[0] + e[1] + e[2] + e[3], inverse = 1 / sum;
    for (int i = 0; i < 4; ++i) v[3 + i] = e[i] * inverse;
  }
}

void seed() {
  std::fill(std::begin(gradients), std::end(gradients), 0.0);
  gradients[kInputs + kValues - 1] = 1.0;
  for (int i = kInputs; i < kInputs + kValues - 1; i += 50) gradients[i] = 1.0;
}

void backward() {
  double *v = values + kInputs + kValues, *g = gradients + kInputs + kValues;
  const double* e = terms + 4 * kGroups;
  for (int k = kGroups; k--;) {
    v -= 7, g -= 7, e -= 4;
    const double inverse = 1 / sums[k];
    double dot = 0;
    for (int i = 3; i >= 0; --i) dot += e[i] * g[3 + i];
    const double all = -(inverse * inverse) * dot;
    for (int i = 3; i >= 0; --i) g[i - 1] += e[i] * (inverse * g[3 + i] + all);
    g[2 - 20] += g[2] * v[2 - 10];
    g[2 - 10] += g[2] * v[2 - 20];
    for (int offset : {-30, -25, -20, -15}) g[1 + offset] += g[1];
    g[-10] += g[0] / shifted[k] * (shifted[k] - 1.0);
  }
}

template <typename Prepare, typename Run>
double best(Prepare prepare, Run run) {
  using Clock = std::chrono::steady_clock;
  double least = 1e30;
  for (int i = 0; i < 1000; ++i) {
    prepare();
    const auto start = Clock::now();
    run();
    const std::chrono::duration<double, std::nano> took = Clock::now() - start;
    least = std::min(least, took.count());
  }
  return least / (4 * kGroups);
}

template <typename Functions>
void report(const char* name) {
  for (int i = 0; i < kInputs; ++i) values[i] = 0.02 * i - 1.0;
  const double ahead = best([] {}, forward<Functions>), back = best(seed, backward);
  double total = values[kInputs + kValues - 1];
  for (int i = kInputs; i < kInputs + kValues - 1; i += 50) total += values[i];
  std::printf("%-28s forward %5.2f  backward %5.2f  both %5.2f ns an op; result %.15g, gradient %.15g\n", name, ahead,
              back, ahead + back, total, gradients[kInputs - 1]);
}

}  // namespace

int main() {
  report<Library>("C library");
  report<OwnExp>("own exp, library's log");
}
