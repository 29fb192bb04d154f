// memory.hpp: pages for the arena. Pages are cut from large aligned chunks, so that the page of a node is found by
// masking its address.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/graph/node.hpp"

#ifndef TAPEGRAD_PAGE_BYTES
#define TAPEGRAD_PAGE_BYTES 32768
#endif

namespace tapegrad {

inline constexpr std::size_t kPageBytes = TAPEGRAD_PAGE_BYTES;
static_assert((kPageBytes & (kPageBytes - 1)) == 0, "the page size must be a power of two");

struct Chunk;

// A page holds nodes of one kind. Ordered pages are filled front to back and stand in a list by age, so that every
// operand of a node lies before it; leaf pages hand their slots out in any order and take no part in a sweep.
struct alignas(64) Page {
  Page* older;  // neighbours in the ordered list, or in the list of leaf pages with room
  Page* newer;
  Chunk* chunk;
  Node* free_slot;         // leaf pages: dead slots, linked through Node::handle
  std::uint64_t sequence;  // age: larger is newer
  std::uint32_t freed;     // ordered pages: slots given back; leaf pages: slots in use
  std::uint32_t used;  // ordered pages: slots ever handed out, once the page is full; leaf pages: slots ever handed out
  bool leaf_page;
  bool marked;  // a sweep has marked a node in here

  Node* begin() { return reinterpret_cast<Node*>(this + 1); }
};

inline constexpr std::uint32_t kPageNodes = static_cast<std::uint32_t>((kPageBytes - sizeof(Page)) / sizeof(Node));
static_assert(kPageNodes >= 4, "a page must hold a few nodes");

inline Page* page_of(const Node* node) {
  return reinterpret_cast<Page*>(reinterpret_cast<std::uintptr_t>(node) & ~(std::uintptr_t{kPageBytes} - 1));
}

// Hands out pages and takes them back. A bounded number of empty chunks is kept for the next graph; the rest goes back
// to the system.
class PagePool {
 public:
  PagePool() = default;
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();

  // An uninitialised page, or null when there is no memory.
  Page* take() noexcept;
  void give_back(Page* page) noexcept;

  std::size_t reserved_bytes() const noexcept { return chunks_ * chunk_bytes(); }
  static std::size_t chunk_bytes() noexcept;

 private:
  Chunk* add_chunk() noexcept;
  void remove_chunk(Chunk* chunk) noexcept;

  Chunk* with_room_ = nullptr;  // chunks with a free page
  Chunk* full_ = nullptr;
  std::size_t chunks_ = 0;
  std::size_t empty_chunks_ = 0;
};

}  // namespace tapegrad
