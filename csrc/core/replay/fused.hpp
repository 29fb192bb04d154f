// fused.hpp: the fused steps of scalar code (fuse.hpp) as functions, compiled for each instruction set: exact ones,
// with the bits that the single steps give, and loose ones, whose functions are within 2 ulp.
//
// The words of a step are slots, but for those in capitals; WORDS is how many there are.
//   softmax forward    WORDS, s, 1 / s, a and a / s of each term, x of each, GIVEN; where a bit of GIVEN is set, x is
//                      what a has to be, not what it is the exponential of
//   softmax backward   WORDS, ds, dx of each term, s, 1 / s; for each term a, COUNT, then the x and y of COUNT products
//                      whose sum is the gradient of a / s; terms without one come last
//   log_exp forward    WORDS, e^x, e^x + 1, log(e^x + 1), x
//   log_exp backward   WORDS, dx, e^x, e^x + 1, g
//   softplus forward   WORDS, e^-|x|, softplus(x), x
//   softplus backward  WORDS, dx, e^-|x|, x, g
//
// The count in front of a run of fused steps is that of its words.
#pragma once

#include "core/lanes/lanes.hpp"
#include "core/replay/kinds.hpp"

namespace tapegrad {

// Does steps up to `end`, or up to one that needs the C library, and returns how far it came.
using FusedStep = const Word* (*)(double* m, const Word* w, const Word* end);

struct FusedKernels {
  const char* name;
  // All by [exact][kind - kFirstFused]. Those by the library do one step, whatever its numbers.
  FusedStep forward[2][kFusedKinds], forward_by_library[2][kFusedKinds], backward[2][kFusedKinds];
  // Whether the C library's exp() is as near as exact steps take it to be. Looked into when first asked.
  bool (*library_fits)();
};

extern const FusedKernels kFusedBaseline;
#if defined(__x86_64__)
extern const FusedKernels kFusedAvx2, kFusedAvx512;
#endif

inline const FusedKernels& fused_kernels() {
#if defined(__x86_64__)
  // Short programs feel the time that comparing names takes.
  const char* const name = lanes::instruction_set();
  if (name[0] == 'a') return name[3] == '5' ? kFusedAvx512 : kFusedAvx2;
#endif
  return kFusedBaseline;
}

}  // namespace tapegrad
