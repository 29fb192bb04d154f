// fused_avx512.cpp: the fused steps for x86-64 processors with AVX-512 (F, DQ and VL).
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX512
#define TAPEGRAD_FUSED kFusedAvx512
#include "core/replay/fused.inc"
#endif
