// buffers.cpp: free blocks wait in lists by size; when too much is waiting all of it goes back to the system.
#include "core/arrays/buffers.hpp"

#include <bit>
#include <cstdint>
#include <limits>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tapegrad {

namespace {

constexpr std::size_t kStep = 64;      // small sizes are multiples of this,
constexpr std::size_t kSmall = 16384;  // up to here; then there are eight sizes between powers of two
constexpr std::size_t kHuge = std::size_t{1} << 21;
constexpr std::size_t kBytesKept = std::size_t{64} << 20;
constexpr std::size_t kSmallClasses = kSmall / kStep + 1;
constexpr std::size_t kClasses = kSmallClasses + 8 * 64;

struct Free {
  Free* next;
};

struct SizeClass {
  std::size_t index;
  std::size_t bytes;  // of every block in the class
  std::size_t alignment() const { return bytes >= kHuge ? kHuge : kStep; }
};

Free* free_lists[kClasses];
std::size_t bytes_kept = 0;
std::size_t bytes_live = 0;  // in buffers

SizeClass class_of(std::size_t bytes) {
  if (bytes <= kSmall) {
    const std::size_t steps = (bytes + kStep - 1) / kStep;
    return {steps, steps * kStep};
  }
  const int top = std::bit_width(bytes - 1) - 1;  // 2^top < bytes <= 2^(top + 1)
  const int shift = top - 3;
  const std::size_t eighths = (bytes + (std::size_t{1} << shift) - 1) >> shift;  // 9 to 16
  return {kSmallClasses + 8 * static_cast<std::size_t>(top) + eighths - 9, eighths << shift};
}

SizeClass class_at(std::size_t index) {
  if (index < kSmallClasses) return {index, index * kStep};
  const std::size_t top = (index - kSmallClasses) / 8, eighths = (index - kSmallClasses) % 8 + 9;
  return {index, eighths << (top - 3)};
}

// On Linux large blocks lie on huge pages where the system has them, as NumPy's do.
void* system_take(const SizeClass& size) {
  void* block = ::operator new(size.bytes, std::align_val_t{size.alignment()}, std::nothrow);
#if defined(__linux__)
  if (block && size.bytes >= kHuge) madvise(block, size.bytes, MADV_HUGEPAGE);
#endif
  return block;
}

void system_give(void* block, const SizeClass& size) {
  ::operator delete(block, std::align_val_t{size.alignment()});
}

void give_all_back() {
  for (std::size_t i = 0; i < kClasses; ++i) {
    while (Free* block = free_lists[i]) {
      free_lists[i] = block->next;
      system_give(block, class_at(i));
    }
  }
  bytes_kept = 0;
}

}  // namespace

void* take_block(std::size_t bytes) noexcept {
  const SizeClass size = class_of(bytes);
  Free*& list = free_lists[size.index];
  if (Free* block = list) {
    list = block->next;
    bytes_kept -= size.bytes;
    return block;
  }
  void* block = system_take(size);
  if (!block && bytes_kept) {
    give_all_back();
    block = system_take(size);
  }
  return block;
}

void give_block(void* block, std::size_t bytes) noexcept {
  const SizeClass size = class_of(bytes);
  if (bytes_kept + size.bytes > kBytesKept) {
    give_all_back();
    if (size.bytes > kBytesKept) return system_give(block, size);
  }
  Free*& list = free_lists[size.index];
  list = new (block) Free{list};
  bytes_kept += size.bytes;
}

Buffer* make_buffer(std::size_t count) noexcept {
  if (count > (std::numeric_limits<std::size_t>::max() / 4 - sizeof(Buffer)) / sizeof(double)) return nullptr;
  const std::size_t bytes = sizeof(Buffer) + count * sizeof(double);
  void* block = take_block(bytes);
  if (!block) return nullptr;
  bytes_live += bytes;
  auto* buffer = new (block) Buffer;
  buffer->refs = 1;
  buffer->owners = 1;
  buffer->bytes = bytes;
  buffer->busy = false;
  return buffer;
}

void free_buffer(Buffer* buffer) noexcept {
  bytes_live -= buffer->bytes;
  give_block(buffer, buffer->bytes);
}

std::size_t buffer_bytes() noexcept {
  return bytes_live;
}

}  // namespace tapegrad
