// scratch.cpp: the blocks that compilations use in turn.
#include "core/graph/scratch.hpp"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tapegrad {

namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21, kSmall = std::size_t{1} << 16;
constexpr std::size_t kMostKept = std::size_t{256} << 20;  // bytes, while a compilation goes on
constexpr std::size_t kKeptAfterwards = std::size_t{16} << 20;
constexpr std::size_t kMostBlocks = 64;

void* allocate(std::size_t bytes) {
#if defined(__linux__)
  if (bytes >= kHugePage) {
    void* raw = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) throw std::bad_alloc();
    const auto start = reinterpret_cast<std::uintptr_t>(raw);
    const std::uintptr_t aligned = (start + kHugePage - 1) & ~(kHugePage - 1);
    if (aligned > start) munmap(raw, aligned - start);
    if (start + kHugePage > aligned) munmap(reinterpret_cast<void*>(aligned + bytes), start + kHugePage - aligned);
    void* memory = reinterpret_cast<void*>(aligned);
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
  }
#endif
  return ::operator new(bytes);
}

void release(ScratchBlock block) noexcept {
#if defined(__linux__)
  if (block.bytes >= kHugePage) {
    munmap(block.memory, block.bytes);
    return;
  }
#endif
  ::operator delete(block.memory);
}

// The blocks that nobody uses, the one given back last at the end. Never destroyed.
struct Kept {
  std::mutex mutex;
  std::vector<ScratchBlock> blocks;
  std::size_t bytes = 0;

  Kept() { blocks.reserve(kMostBlocks + 1); }
  void drop_to(std::size_t most) noexcept {
    std::size_t gone = 0;
    for (; gone < blocks.size() && (bytes > most || blocks.size() - gone > kMostBlocks); ++gone) {
      bytes -= blocks[gone].bytes;
      release(blocks[gone]);
    }
    blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(gone));
  }
};

Kept& kept() {
  static auto* all = new Kept();
  return *all;
}

}  // namespace

std::size_t scratch_bytes(std::size_t bytes) {
  if (bytes < kSmall) return bytes;
  const std::size_t unit = bytes < kHugePage ? kSmall : kHugePage;
  return (bytes + unit - 1) / unit * unit;
}

ScratchBlock take_scratch(std::size_t bytes, bool exact) {
  if (!bytes) return {};
  if (bytes < kSmall) return {::operator new(bytes), bytes};
  const std::size_t wanted = scratch_bytes(bytes), most = exact ? wanted : 4 * wanted;
  {
    Kept& all = kept();
    const std::lock_guard<std::mutex> lock(all.mutex);
    std::size_t best = all.blocks.size();
    for (std::size_t i = all.blocks.size(); i-- > 0;) {
      const std::size_t size = all.blocks[i].bytes;
      if (size >= wanted && size <= most && (best == all.blocks.size() || size < all.blocks[best].bytes)) best = i;
    }
    if (best < all.blocks.size()) {
      const ScratchBlock block = all.blocks[best];
      all.blocks.erase(all.blocks.begin() + static_cast<std::ptrdiff_t>(best));
      all.bytes -= block.bytes;
      return block;
    }
  }
  return {allocate(wanted), wanted};
}

void give_back_scratch(ScratchBlock block) noexcept {
  if (!block.memory) return;
  if (block.bytes < kSmall) return release(block);
  Kept& all = kept();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.blocks.push_back(block);
  all.bytes += block.bytes;
  all.drop_to(kMostKept);
}

void trim_scratch() noexcept {
  Kept& all = kept();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.drop_to(kKeptAfterwards);
}

}  // namespace tapegrad
