// buffers.hpp: memory for the lanes of arrays: counted, aligned for vectors, and used again when it comes back.
//
// Like the arena's, these functions are called by one thread at a time; what a buffer holds may be read and written by any.
#pragma once

#include <cstddef>

namespace tapegrad {

struct alignas(64) Buffer {
  std::size_t refs;
  std::size_t bytes;  // of the whole allocation
  Buffer* next;       // in a list of free buffers
  bool busy;          // a rule computes on these numbers while other threads run

  double* values() { return reinterpret_cast<double*>(this + 1); }
};
static_assert(sizeof(Buffer) == 64);

// A buffer for `count` numbers, not initialised, with one reference; null when there is no memory.
Buffer* make_buffer(std::size_t count) noexcept;

void free_buffer(Buffer* buffer) noexcept;
inline void retain(Buffer* buffer) noexcept { ++buffer->refs; }
inline void release(Buffer* buffer) noexcept {
  if (buffer && --buffer->refs == 0) free_buffer(buffer);
}

// Bytes in buffers that somebody holds.
std::size_t buffer_bytes() noexcept;

}  // namespace tapegrad
