// chunks.hpp: an interpreter whose numbers are chunks of lanes, compiled for each instruction set: what ScalarCode does
// for one number it does for a chunk.
#pragma once

#include <cstddef>

#include "core/replay/kinds.hpp"

namespace tapegrad {

inline constexpr std::size_t kChunk = 32;  // lanes; slot s of the memory is its lanes from kChunk * s on

// An array of lanes, `stride` numbers apart, and the slot that goes with it.
template <typename Number>
struct ColumnOf {
  Number* data;
  std::size_t stride;
  Word slot;
};
using InColumn = ColumnOf<const double>;
using OutColumn = ColumnOf<double>;

// Memory is aligned to 64 bytes. Values are rounded one by one, so that guards and choices are those of scalar code;
// gradients may be formed with fused products, and the derivatives of a quotient with one
// division. Functions are within 2 ulp. Code has gathered gradients: backward steps store what they give.
struct ChunkKernels {
  const char* name;
  void (*forward)(const Word* words, double* m);
  void (*backward)(const Word* words, double* m);
  // Lanes `at` ... `at + count` of the columns into the memory; the lanes past them repeat the last.
  void (*read)(const InColumn* columns, std::size_t columns_count, std::size_t at, std::size_t count, double* m);
  void (*write)(const OutColumn* columns, std::size_t columns_count, std::size_t at, std::size_t count,
                const double* m);
};

extern const ChunkKernels kChunksBaseline;
#if defined(__x86_64__)
extern const ChunkKernels kChunksAvx2, kChunksAvx512;
#endif

}  // namespace tapegrad
