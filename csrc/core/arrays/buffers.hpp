// buffers.hpp: memory for arrays: aligned for vectors, used again when it comes back, and for their lanes counted.
//
// Like the arena's, these functions are called by one thread at a time; what a buffer holds may be read and written by
// any.
#pragma once

#include <cstddef>

namespace tapegrad {

// A block of memory, aligned to 64 bytes; null when there is none. It is given back with the same size.
void* take_block(std::size_t bytes) noexcept;
void give_block(void* block, std::size_t bytes) noexcept;

struct alignas(64) Buffer {
  std::size_t refs;    // owners, views from outside, and rules at work
  std::size_t owners;  // arrays that have it: several may have equal gradients, and whoever writes takes a copy first
  std::size_t bytes;   // of the block
  bool busy;           // a rule computes on these numbers while other threads run

  double* values() { return reinterpret_cast<double*>(this + 1); }
};
static_assert(sizeof(Buffer) == 64);

// A buffer for `count` numbers, not initialised, with one owner; null when there is no memory.
Buffer* make_buffer(std::size_t count) noexcept;

void free_buffer(Buffer* buffer) noexcept;
inline void retain(Buffer* buffer) noexcept {
  ++buffer->refs;
}
inline void release(Buffer* buffer) noexcept {
  if (buffer && --buffer->refs == 0) free_buffer(buffer);
}

// For owners: the same, and counted as such. No buffer with several owners has a view from outside.
inline void own(Buffer* buffer) noexcept {
  ++buffer->refs;
  ++buffer->owners;
}
inline void disown(Buffer* buffer) noexcept {
  if (!buffer) return;
  --buffer->owners;
  release(buffer);
}

// Bytes in buffers that somebody holds.
std::size_t buffer_bytes() noexcept;

}  // namespace tapegrad
