// lanes_avx2.cpp: the lane kernels for x86-64 processors with AVX2 and FMA.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX2
#define TAPEGRAD_KERNELS kAvx2
#include "core/lanes/lanes_kernels.inc"
#endif
