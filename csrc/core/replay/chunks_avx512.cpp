// chunks_avx512.cpp: the interpreter of chunks for x86-64 processors with AVX-512 (F, DQ and VL).
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX512
#define TAPEGRAD_CHUNKS kChunksAvx512
#include "core/replay/chunks.inc"
#endif
