// buffers.cpp: free buffers wait in lists by size; when too much is waiting all of it goes back to the system.
#include "core/buffers.hpp"

#include <bit>
#include <cstdint>
#include <limits>
#include <new>

namespace tapegrad {

namespace {

constexpr std::size_t kStep = 64;               // small sizes are multiples of this,
constexpr std::size_t kSmall = 16384;           // up to here; then there are eight sizes between powers of two
constexpr std::size_t kBytesKept = std::size_t{64} << 20;
constexpr std::size_t kSmallClasses = kSmall / kStep + 1;
constexpr std::size_t kClasses = kSmallClasses + 8 * 64;

Buffer* free_lists[kClasses];
std::size_t bytes_kept = 0;
std::size_t bytes_live = 0;

// The list for buffers of at least `bytes`, and the size that they have.
std::size_t size_class(std::size_t bytes, std::size_t* size) {
  if (bytes <= kSmall) {
    *size = (bytes + kStep - 1) / kStep * kStep;
    return *size / kStep;
  }
  const int top = std::bit_width(bytes - 1) - 1;  // 2^top < bytes <= 2^(top + 1)
  const std::size_t step = std::size_t{1} << (top - 3);
  *size = (bytes + step - 1) / step * step;
  return kSmallClasses + 8 * static_cast<std::size_t>(top) + (*size >> (top - 3)) - 9;
}

void give_back(Buffer* buffer) { ::operator delete(buffer, std::align_val_t{alignof(Buffer)}); }

void give_all_back() {
  for (Buffer*& list : free_lists) {
    while (list) {
      Buffer* buffer = list;
      list = buffer->next;
      give_back(buffer);
    }
  }
  bytes_kept = 0;
}

}  // namespace

Buffer* make_buffer(std::size_t count) noexcept {
  if (count > (std::numeric_limits<std::size_t>::max() / 4 - sizeof(Buffer)) / sizeof(double)) return nullptr;
  std::size_t size;
  Buffer*& list = free_lists[size_class(sizeof(Buffer) + count * sizeof(double), &size)];
  Buffer* buffer = list;
  if (buffer) {
    list = buffer->next;
    bytes_kept -= size;
  } else {
    void* memory = ::operator new(size, std::align_val_t{alignof(Buffer)}, std::nothrow);
    if (!memory) {
      give_all_back();
      memory = ::operator new(size, std::align_val_t{alignof(Buffer)}, std::nothrow);
    }
    if (!memory) return nullptr;
    buffer = static_cast<Buffer*>(memory);
    buffer->bytes = size;
  }
  buffer->refs = 1;
  buffer->next = nullptr;
  buffer->busy = false;
  bytes_live += size;
  return buffer;
}

void free_buffer(Buffer* buffer) noexcept {
  const std::size_t size = buffer->bytes;
  bytes_live -= size;
  if (bytes_kept + size > kBytesKept) {
    give_all_back();
    if (size > kBytesKept) return give_back(buffer);
  }
  std::size_t same;
  Buffer*& list = free_lists[size_class(size, &same)];
  buffer->next = list;
  list = buffer;
  bytes_kept += size;
}

std::size_t buffer_bytes() noexcept { return bytes_live; }

}  // namespace tapegrad
