// lanes_kernels.hpp: the table of lane kernels that each instruction set fills in (lanes_kernels.inc) and lanes.cpp
// picks from.
#pragma once

#include <cstddef>

#include "core/graph/node.hpp"

namespace tapegrad::lanes {

inline constexpr std::size_t kOps = static_cast<std::size_t>(Op::count);

// Arrays come as pointer and stride, 0 or 1; see lanes.hpp for what each kernel does.
struct Kernels {
  using Forward = void (*)(std::size_t n, const double* x, std::size_t sx, const double* y, std::size_t sy, double* z);
  struct Gradient {
    const double *x, *y, *z, *gz;
    std::size_t sx, sy, sz, sgz;
  };
  // g = old + partial * gz; `old` is g itself with stride 1, or a zero with stride 0.
  struct Target {
    double* g;
    const double* old;
    std::size_t stride;
  };
  using Backward = void (*)(std::size_t n, const Gradient& in, const Target& out);
  using BackwardBoth = void (*)(std::size_t n, const Gradient& in, const Target& out_x, const Target& out_y);

  const char* name;
  Forward forward[kOps];
  Backward backward[2][kOps];
  BackwardBoth backward_both[kOps];
  double (*backward_sum)(Backward kernel, std::size_t n, const Gradient& in);  // kernel: of this table
  double (*sum)(std::size_t n, const double* x, std::size_t sx);
  double (*dot)(std::size_t n, const double* x, std::size_t sx, const double* y, std::size_t sy);
  double (*max)(std::size_t n, const double* x, std::size_t sx);
  double (*min)(std::size_t n, const double* x, std::size_t sx);
  void (*fill)(std::size_t n, double value, double* z);
  void (*axpy)(std::size_t n, double a, const double* x, std::size_t sx, double* y);
};

extern const Kernels kBaseline;
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512;
#endif

}  // namespace tapegrad::lanes
