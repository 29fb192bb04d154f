// chunks.hpp: an interpreter whose numbers are chunks of lanes, compiled for each instruction set: what ScalarCode does
// for one number it does for a chunk.
#pragma once

#include <cstddef>

#include "core/replay/kinds.hpp"

namespace tapegrad {

inline constexpr std::size_t kGrain = 32;      // lanes: a chunk is a multiple of it
inline constexpr std::size_t kAheadOfRun = 2;  // addresses that are fetched with each run of steps

struct Chunk {
  double* const* slots;  // the lanes of each slot, in the chunk's memory or in place in an array
  std::size_t lanes;
};

// An array of lanes, `stride` numbers apart, and the slot that goes with it.
template <typename Number>
struct ColumnOf {
  Number* data;
  std::size_t stride;
  Word slot;
};
using InColumn = ColumnOf<const double>;
using OutColumn = ColumnOf<double>;

// Values are rounded one by one, so that guards and choices are those of scalar code; gradients may be formed with
// fused products, and the derivatives of a quotient with one division. Functions are within 2 ulp. Code has gathered
// gradients: backward steps store what they give. Slots at multiples of 64 bytes are the fastest.
struct ChunkKernels {
  const char* name;
  // `ahead` has kAheadOfRun addresses for each run of steps, which are `at` numbers before what the next chunk will
  // need.
  void (*forward)(const Word* words, Chunk m, const double* const* ahead, std::size_t at);
  void (*backward)(const Word* words, Chunk m, const double* const* ahead, std::size_t at);
  // Lanes `at` ... `at + count` of the columns into the slots; the lanes past them repeat the last.
  void (*read)(const InColumn* columns, std::size_t columns_count, std::size_t at, std::size_t count, Chunk m);
  void (*write)(const OutColumn* columns, std::size_t columns_count, std::size_t at, std::size_t count, Chunk m);
};

extern const ChunkKernels kChunksBaseline;
#if defined(__x86_64__)
extern const ChunkKernels kChunksAvx2, kChunksAvx512;
#endif

}  // namespace tapegrad
