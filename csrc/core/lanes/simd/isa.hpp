// isa.hpp: names the instruction set that a translation unit is compiled for. A unit that uses the vector headers says
// which one by defining TAPEGRAD_ISA_AVX2 or TAPEGRAD_ISA_AVX512 (nothing: the baseline) before the first include, and
// is compiled with the matching options. Everything vectorised lives in a namespace of that name, so that no two units
// share a symbol: an inline function compiled with AVX must never be the copy that the linker keeps for everyone.
#pragma once

#if defined(TAPEGRAD_ISA_AVX512)
#define TAPEGRAD_ISA avx512
#define TAPEGRAD_VECTOR_BYTES 64
#elif defined(TAPEGRAD_ISA_AVX2)
#define TAPEGRAD_ISA avx2
#define TAPEGRAD_VECTOR_BYTES 32
#else
#define TAPEGRAD_ISA baseline
#define TAPEGRAD_VECTOR_BYTES 16
#endif

// For every function of these headers; a lambda takes the attribute alone.
#define TAPEGRAD_ALWAYS_INLINE __attribute__((always_inline))
#define TAPEGRAD_INLINE inline TAPEGRAD_ALWAYS_INLINE
