// fused.hpp: the fused steps of scalar code (fuse.hpp) as functions, compiled for each instruction set: exact ones,
// with the bits that the single steps give, and loose ones, whose functions are within 2 ulp.
//
// The words of a step are slots, but for those in capitals:
//   softmax forward    s, 1 / s, GIVEN; for each term: x, a, a / s; where a bit of GIVEN is set, x is a itself
//   softmax backward   s, ds, 1 / s; for each term: a, dx, COUNT, then the x and y of COUNT products whose sum is the
//                      gradient of a / s; terms without one come last
//   log_exp forward    x, e^x, e^x + 1, log(e^x + 1)
//   log_exp backward   e^x, dx, e^x + 1, g
//   softplus forward   x, e^-|x|, softplus(x)
//   softplus backward  e^-|x|, dx, x, g
//
// The count in front of a run of fused steps is that of its words.
#pragma once

#include "core/replay/kinds.hpp"

namespace tapegrad {

// Does steps up to `end`, or up to one that needs the C library, and returns how far it came.
using FusedStep = const Word* (*)(double* m, const Word* w, const Word* end);

struct FusedKernels {
  const char* name;
  // All by [exact][kind - kFirstFused]. Those by the library do one step, whatever its numbers.
  FusedStep forward[2][kFusedKinds], forward_by_library[2][kFusedKinds], backward[2][kFusedKinds];
};

extern const FusedKernels kFusedBaseline;
#if defined(__x86_64__)
extern const FusedKernels kFusedAvx2, kFusedAvx512;
#endif

}  // namespace tapegrad
