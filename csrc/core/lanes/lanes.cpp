// lanes.cpp: picks the instruction set and hands each call to its kernel.
#include "core/lanes/lanes.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/lanes/lanes_kernels.hpp"

namespace tapegrad::lanes {

namespace {

const Kernels* find(const char* name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!std::strcmp(name, kAvx512.name)) {
    const bool has =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has ? &kAvx512 : nullptr;
  }
  if (!std::strcmp(name, kAvx2.name)) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kAvx2 : nullptr;
  }
#endif
  return std::strcmp(name, kBaseline.name) ? nullptr : &kBaseline;
}

// Best first.
constexpr const char* kNames[] = {"avx512", "avx2", "baseline"};

const Kernels* choose() {
  const Kernels* best = nullptr;
  for (const char* name : kNames) {
    if (!best) best = find(name);
  }
  const char* wanted = std::getenv("TAPEGRAD_SIMD");
  if (!wanted || !*wanted) return best;
  if (const Kernels* found = find(wanted)) return found;
  std::fprintf(stderr, "tapegrad: TAPEGRAD_SIMD=%s is not available here; using %s (choices: baseline, avx2, avx512)\n",
               wanted, best->name);
  return best;
}

const Kernels* active = choose();

constexpr double kZero = 0.0;

Kernels::Target target(double* g, Write write) {
  return write == Write::add ? Kernels::Target{g, g, 1} : Kernels::Target{g, &kZero, 0};
}

Kernels::Target target(double* g, const double* old) {
  return old ? Kernels::Target{g, old, 1} : Kernels::Target{g, &kZero, 0};
}

Kernels::Gradient gradient(Operand x, Operand y, Operand z, Operand gz) {
  return {x.data, y.data, z.data, gz.data, x.stride, y.stride, z.stride, gz.stride};
}

std::size_t index(Op op) {
  return static_cast<std::size_t>(op);
}

}  // namespace

void forward(Op op, std::size_t n, Operand x, Operand y, double* z) {
  active->forward[index(op)](n, x.data, x.stride, y.data, y.stride, z);
}

void backward(Op op, int k, std::size_t n, Operand x, Operand y, Operand z, Operand gz, double* g, Write write) {
  active->backward[k][index(op)](n, gradient(x, y, z, gz), target(g, write));
}

void backward_both(Op op, std::size_t n, Operand x, Operand y, Operand z, Operand gz, double* gx, double* gy,
                   Write write_x, Write write_y) {
  active->backward_both[index(op)](n, gradient(x, y, z, gz), target(gx, write_x), target(gy, write_y));
}

void backward_onto(Op op, int k, std::size_t n, Operand x, Operand y, Operand z, Operand gz, const double* old,
                   double* g) {
  active->backward[k][index(op)](n, gradient(x, y, z, gz), target(g, old));
}

void backward_both_onto(Op op, std::size_t n, Operand x, Operand y, Operand z, Operand gz, const double* old_x,
                        double* gx, const double* old_y, double* gy) {
  active->backward_both[index(op)](n, gradient(x, y, z, gz), target(gx, old_x), target(gy, old_y));
}

double backward_sum(Op op, int k, std::size_t n, Operand x, Operand y, Operand z, Operand gz) {
  return active->backward_sum(active->backward[k][index(op)], n, gradient(x, y, z, gz));
}

double sum(std::size_t n, Operand x) {
  return active->sum(n, x.data, x.stride);
}
double dot(std::size_t n, Operand x, Operand y) {
  return active->dot(n, x.data, x.stride, y.data, y.stride);
}
double max(std::size_t n, Operand x) {
  return active->max(n, x.data, x.stride);
}
double min(std::size_t n, Operand x) {
  return active->min(n, x.data, x.stride);
}
void fill(std::size_t n, double value, double* z) {
  active->fill(n, value, z);
}
void axpy(std::size_t n, double a, Operand x, double* y) {
  active->axpy(n, a, x.data, x.stride, y);
}

const char* instruction_set() {
  return active->name;
}

bool use_instruction_set(const char* name) {
  const Kernels* found = find(name);
  if (found) active = found;
  return found != nullptr;
}

}  // namespace tapegrad::lanes
