// chunks_avx2.cpp: the interpreter of chunks for x86-64 processors with AVX2 and FMA.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX2
#define TAPEGRAD_CHUNKS kChunksAvx2
#include "core/replay/chunks.inc"
#endif
