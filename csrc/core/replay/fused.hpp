// fused.hpp: the fused steps of scalar code (fuse.hpp) as functions, compiled for each instruction set: exact ones,
// with the bits that the single steps give, and loose ones, whose functions are within 2 ulp.
//
// The words of a step are slots, but for those in capitals:
//   softmax forward    s, 1 / s, GIVEN; for each term: x, a, a / s; where a bit of GIVEN is set, x is a itself
//   softmax backward   s, ds, 1 / s, COUNT; for each term: a, g, dx; the first COUNT of them have a gradient
//   log_exp forward    x, e^x, e^x + 1, log(e^x + 1)
//   log_exp backward   e^x, dx, e^x + 1, g
//   softplus forward   x, e^-|x|, softplus(x)
//   softplus backward  e^-|x|, dx, x, g
#pragma once

#include "core/replay/kinds.hpp"

namespace tapegrad {

// Does n steps and returns where the words after them are.
using FusedStep = const Word* (*)(double* m, const Word* w, Word n);

struct FusedKernels {
  const char* name;
  FusedStep forward[2][kFusedKinds], backward[2][kFusedKinds];  // [exact][kind - kFirstFused]
};

extern const FusedKernels kFusedBaseline;
#if defined(__x86_64__)
extern const FusedKernels kFusedAvx2, kFusedAvx512;
#endif

}  // namespace tapegrad
