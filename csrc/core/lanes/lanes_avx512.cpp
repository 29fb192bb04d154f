// lanes_avx512.cpp: the lane kernels for x86-64 processors with AVX-512 (F, DQ and VL).
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX512
#define TAPEGRAD_KERNELS kAvx512
#include "core/lanes/lanes_kernels.inc"
#endif
