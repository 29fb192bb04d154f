// scratch.hpp: arrays that live for one step of a compilation. Large ones come from a few blocks that are used again,
// in huge pages where the system has them: fresh pages would cost more than what is done with them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace tapegrad {

struct ScratchBlock {
  void* memory = nullptr;
  std::size_t bytes = 0;
};

// Throws std::bad_alloc. Blocks may be taken and given back by any thread. A block may be larger than what is asked
// for, unless `exact`: then its size is always the same for the same number.
ScratchBlock take_scratch(std::size_t bytes, bool exact = false);
std::size_t scratch_bytes(std::size_t bytes);  // the size of such a block
void give_back_scratch(ScratchBlock block) noexcept;

// Returns to the system what is kept beyond a few megabytes. Called when a compilation is done.
void trim_scratch() noexcept;

// `size` numbers, not set to anything unless a `fill` is given.
template <typename T>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Scratch() = default;
  explicit Scratch(std::size_t size) : block_(take_scratch(size * sizeof(T))), size_(size) {}
  Scratch(std::size_t size, T fill) : Scratch(size) { std::fill(begin(), end(), fill); }
  Scratch(Scratch&& other) noexcept { swap(other); }
  Scratch& operator=(Scratch&& other) noexcept {
    Scratch(std::move(other)).swap(*this);
    return *this;
  }
  ~Scratch() { give_back_scratch(block_); }

  T& operator[](std::size_t i) { return begin()[i]; }
  const T& operator[](std::size_t i) const { return begin()[i]; }
  T* begin() { return static_cast<T*>(block_.memory); }
  T* end() { return begin() + size_; }
  const T* begin() const { return static_cast<const T*>(block_.memory); }
  const T* end() const { return begin() + size_; }
  std::size_t size() const { return size_; }
  void shrink(std::size_t size) { size_ = size; }  // the rest is given back with the whole

  void swap(Scratch& other) noexcept {
    std::swap(block_, other.block_);
    std::swap(size_, other.size_);
  }

 private:
  ScratchBlock block_;
  std::size_t size_ = 0;
};

// For vectors of what is as large as a program and stays. Numbers that are added by resize() are not set to anything.
template <typename T>
struct LargeAllocator {
  using value_type = T;
  LargeAllocator() = default;
  template <typename U>
  LargeAllocator(const LargeAllocator<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(take_scratch(count * sizeof(T), true).memory); }
  void deallocate(T* p, std::size_t count) noexcept { give_back_scratch({p, scratch_bytes(count * sizeof(T))}); }
  template <typename U>
  void construct(U* p) {
    ::new (static_cast<void*>(p)) U;
  }
  template <typename U, typename... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
  bool operator==(const LargeAllocator&) const = default;
};
template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace tapegrad
