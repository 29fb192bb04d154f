// result_memory.cpp: memory of dead results is kept, up to a bound, for results of the same size.
#include "python/compiled/result_memory.hpp"

#include <cstdint>
#include <memory>
#include <new>
#include <utility>

namespace py = pybind11;

namespace tapegrad::python {

namespace {

constexpr std::size_t kSmall = 4096, kKept = std::size_t{16} << 20;  // numbers, not bytes
constexpr std::size_t kLine = 64;

struct Free {
  void operator()(double* p) const { ::operator delete[](p, std::align_val_t{kLine}); }
};
struct Block {
  std::unique_ptr<double[], Free> memory;  // from a cache line on, with a line more than `count` numbers take
  std::size_t count;
};

std::size_t kept_numbers = 0;

std::vector<Block>& spare() {  // guarded by the interpreter lock; never destroyed
  static auto* blocks = new std::vector<Block>();
  return *blocks;
}

Block take(std::size_t count) {
  std::vector<Block>& blocks = spare();
  for (std::size_t i = blocks.size(); i-- > 0;) {
    if (blocks[i].count != count) continue;
    Block block = std::move(blocks[i]);
    blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(i));
    kept_numbers -= count;
    return block;
  }
  auto* const memory = new (std::align_val_t{kLine}) double[count + kLine / sizeof(double)];
  return {std::unique_ptr<double[], Free>(memory), count};
}

void give_back(Block block) {
  std::vector<Block>& blocks = spare();
  if (block.count > kKept) return;
  while (kept_numbers + block.count > kKept) {  // the oldest go first
    kept_numbers -= blocks.front().count;
    blocks.erase(blocks.begin());
  }
  kept_numbers += block.count;
  blocks.push_back(std::move(block));
}

}  // namespace

Array result_array(const std::vector<std::size_t>& shape, const double* like) {
  std::size_t count = 1;
  for (const std::size_t extent : shape) count *= extent;
  if (count < kSmall) return Array(shape);
  auto* const block = new Block(take(count));
  const py::capsule owner(block, [](void* p) {
    auto* dead = static_cast<Block*>(p);
    give_back(std::move(*dead));
    delete dead;
  });
  return Array(shape, block->memory.get() + reinterpret_cast<std::uintptr_t>(like) % kLine / sizeof(double), owner);
}

}  // namespace tapegrad::python
