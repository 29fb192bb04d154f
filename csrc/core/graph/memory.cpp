// memory.cpp: chunks of memory from the system, aligned to their size, and the pages cut from them.
#include "core/graph/memory.hpp"

#include <cstdlib>
#include <initializer_list>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tapegrad {

namespace {

constexpr std::size_t kChunkBytes = kPageBytes * 64 > (std::size_t{1} << 21) ? kPageBytes * 64 : std::size_t{1} << 21;
constexpr std::size_t kPagesPerChunk = kChunkBytes / kPageBytes;
constexpr std::size_t kEmptyChunksKept = (std::size_t{256} << 20) / kChunkBytes;

// On Linux a chunk is one huge page where the system has them: far fewer page faults while a graph grows.
void* system_allocate() noexcept {
#if defined(__linux__)
  void* raw = mmap(nullptr, 2 * kChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<std::uintptr_t>(raw);
  const std::uintptr_t aligned = (start + kChunkBytes - 1) & ~(std::uintptr_t{kChunkBytes} - 1);
  if (aligned > start) munmap(raw, aligned - start);
  const std::uintptr_t end = aligned + kChunkBytes;
  if (start + 2 * kChunkBytes > end) munmap(reinterpret_cast<void*>(end), start + 2 * kChunkBytes - end);
  void* memory = reinterpret_cast<void*>(aligned);
  madvise(memory, kChunkBytes, MADV_HUGEPAGE);
  return memory;
#else
  return ::operator new(kChunkBytes, std::align_val_t{kChunkBytes}, std::nothrow);
#endif
}

void system_free(void* memory) noexcept {
#if defined(__linux__)
  munmap(memory, kChunkBytes);
#else
  ::operator delete(memory, std::align_val_t{kChunkBytes});
#endif
}

}  // namespace

struct Chunk {
  Chunk* previous;
  Chunk* next;
  char* memory;
  Page* free_page;      // pages given back, linked through Page::older
  std::uint32_t fresh;  // pages never handed out start here
  std::uint32_t in_use;
};

std::size_t PagePool::chunk_bytes() noexcept {
  return kChunkBytes;
}

namespace {

void link(Chunk*& list, Chunk* chunk) noexcept {
  chunk->previous = nullptr;
  chunk->next = list;
  if (list) list->previous = chunk;
  list = chunk;
}

void unlink(Chunk*& list, Chunk* chunk) noexcept {
  (chunk->previous ? chunk->previous->next : list) = chunk->next;
  if (chunk->next) chunk->next->previous = chunk->previous;
}

}  // namespace

PagePool::~PagePool() {
  for (Chunk* list : {with_room_, full_}) {
    while (list) {
      Chunk* chunk = list;
      list = chunk->next;
      system_free(chunk->memory);
      delete chunk;
    }
  }
}

Chunk* PagePool::add_chunk() noexcept {
  auto* chunk = new (std::nothrow) Chunk{};
  if (!chunk) return nullptr;
  chunk->memory = static_cast<char*>(system_allocate());
  if (!chunk->memory) {
    delete chunk;
    return nullptr;
  }
  link(with_room_, chunk);
  ++chunks_;
  ++empty_chunks_;
  return chunk;
}

void PagePool::remove_chunk(Chunk* chunk) noexcept {
  unlink(with_room_, chunk);
  system_free(chunk->memory);
  delete chunk;
  --chunks_;
  --empty_chunks_;
}

Page* PagePool::take() noexcept {
  Chunk* chunk = with_room_ ? with_room_ : add_chunk();
  if (!chunk) return nullptr;
  Page* page = chunk->free_page;
  if (page) {
    chunk->free_page = page->older;
  } else {
    page = reinterpret_cast<Page*>(chunk->memory + std::size_t{chunk->fresh++} * kPageBytes);
  }
  if (chunk->in_use++ == 0) --empty_chunks_;
  if (chunk->in_use == kPagesPerChunk) {
    unlink(with_room_, chunk);
    link(full_, chunk);
  }
  page->chunk = chunk;
  return page;
}

void PagePool::give_back(Page* page) noexcept {
  Chunk* chunk = page->chunk;
  if (chunk->in_use == kPagesPerChunk) {
    unlink(full_, chunk);
    link(with_room_, chunk);
  }
  page->older = chunk->free_page;
  chunk->free_page = page;
  if (--chunk->in_use == 0 && ++empty_chunks_ > kEmptyChunksKept) remove_chunk(chunk);
}

}  // namespace tapegrad
