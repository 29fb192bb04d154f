// fused_avx2.cpp: the fused steps for x86-64 processors with AVX2 and FMA.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX2
#define TAPEGRAD_FUSED kFusedAvx2
#include "core/replay/fused.inc"
#endif
