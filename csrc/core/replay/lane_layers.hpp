// lane_layers.hpp: layers over a block of lanes: a matrix of uniform weights times a vector of lane arrays, with
// several outputs and several vectors of lanes in registers at a time; forward, and backward by the inputs and by the
// weights.
//
// Lane arrays have room up to a whole vector past the last lane and hold sound numbers there; those never reach a sum
// over lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/graph/node.hpp"
#include "core/replay/lane_products.hpp"

namespace tapegrad {

// Weights are packed in panels of this many rows, the last panel of fewer: panel by panel, column by column, row by
// row.
inline constexpr std::size_t kPanelRows = 4;
inline constexpr std::uint32_t kNoArray = ~0u;

// y[r] = act(start[r] + bias[r] + sum over columns of weight[r][c] * x[c]), added in this order; numbers of x, y and
// start are those of lane arrays. No y is an x; a row's start may be its own y, or that of a row after it.
struct LayerProduct {
  std::size_t rows, columns;
  const std::uint32_t* x;
  const std::uint32_t* y;
  const std::uint32_t* start;  // kNoArray: none; null: none in any row
  const double* panels;
  const double* bias;  // null: none
  bool relu;
};

// dweight[r][c] += sum over lanes of g[r] * x[c]; dbias[r] += sum over lanes of g[r]. Targets are numbers in
// BlockMemory::uniform, row by row.
struct LayerGradient {
  std::size_t rows, columns;
  const std::uint32_t* g;
  const std::uint32_t* x;
  const std::uint32_t* dweights;  // null: none wanted
  const std::uint32_t* dbias;     // null: none wanted
};

// to[r] = derivative of the activation, told by its value y[r], times from[r].
struct LayerActivation {
  Op op;  // relu, tanh or sigmoid
  std::size_t rows;
  const std::uint32_t *y, *from, *to;
};

struct LayerKernels {
  const char* name;
  void (*product)(const BlockMemory& m, const LayerProduct& layer, std::size_t n);
  // Sums over lanes are formed in an order that depends on n and the instruction set only.
  void (*gradient)(const BlockMemory& m, const LayerGradient& layer, std::size_t n);
  void (*activation)(const BlockMemory& m, const LayerActivation& layer, std::size_t n);
};

// The kernels for the instruction set that lanes.hpp uses.
const LayerKernels& layer_kernels();

// Writes weight(row, column) in the order of LayerProduct::panels; returns the end of the panels.
template <typename T, typename Weight>
T* pack_panels(std::size_t rows, std::size_t columns, T* to, Weight weight) {
  for (std::size_t first = 0; first < rows; first += kPanelRows) {
    const std::size_t end = first + kPanelRows < rows ? first + kPanelRows : rows;
    for (std::size_t c = 0; c < columns; ++c)
      for (std::size_t r = first; r < end; ++r) *to++ = weight(r, c);
  }
  return to;
}

}  // namespace tapegrad
