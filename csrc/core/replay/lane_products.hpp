// lane_products.hpp: sums of products over a block of lanes in one pass, forward and backward: what neurons are made
// of.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tapegrad {

// Where an operand of a lane step lies: an array of the block's lanes, or one number for all lanes.
struct Place {
  std::uint32_t index : 31;
  std::uint32_t uniform : 1;
};

// The memory of one block: lanes[index * stride + lane], uniform[index].
struct BlockMemory {
  double* lanes;
  double* uniform;
  std::size_t stride;        // a multiple of 8
  double* packed = nullptr;  // the layers' weights, see layer_code.hpp
};

struct ProductTerm {
  Place x,
      y;     // forward x * y, one of them an array; backward x an array, y one number: dx += y * g, dy += sum of x * g
  Place dx;  // an array, backward only
  std::uint32_t dy;  // uniform index
  bool has_dx, store_dx, has_dy;
};

struct ProductKernels {
  const char* name;
  // z = the sum of the terms, added from left to right, each product rounded as scalar code rounds it.
  void (*forward)(const BlockMemory& m, const ProductTerm* terms, std::size_t count, std::uint32_t z, std::size_t n);
  // All terms with the gradient g. The sums over lanes are formed in an order that depends on n and the instruction set
  // only.
  void (*backward)(const BlockMemory& m, const ProductTerm* terms, std::size_t count, std::uint32_t g, std::size_t n);
};

// The kernels for the instruction set that lanes.hpp uses.
const ProductKernels& product_kernels();

}  // namespace tapegrad
