// check.hpp: the few lines that the C++ tests need: a check that says where it failed, and an arena that must end up
// empty.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/graph/arena.hpp"

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                      \
    }                                                                                    \
  } while (0)

#define CHECK_NEAR(x, y, tolerance)                                                                         \
  do {                                                                                                      \
    const double x_ = (x), y_ = (y);                                                                        \
    if (!(std::fabs(x_ - y_) <= (tolerance) * (1 + std::fabs(y_)))) {                                       \
      std::fprintf(stderr, "%s:%d: %s is %.17g, not near %s, %.17g\n", __FILE__, __LINE__, #x, x_, #y, y_); \
      std::exit(1);                                                                                         \
    }                                                                                                       \
  } while (0)

namespace tapegrad::test {

// Handles as the core sees them: a reference count, and what happens when it comes to zero.
struct Handle {
  Arena* arena;
  Node* node;
  long references;
};

inline void retain(void* handle) {
  ++static_cast<Handle*>(handle)->references;
}
inline void release(void* handle) {
  auto* h = static_cast<Handle*>(handle);
  if (--h->references == 0) {
    h->node->handle = nullptr;
    h->node->flags &= static_cast<Flags>(~kPinned);
    h->arena->drop(h->node);
    delete h;
  }
}
inline HandleHooks hooks() {
  return {retain, release};
}

// Counts the node as a variable would, until it goes out of scope.
class Held {
 public:
  Held(Arena& arena, Node* node) : arena_(&arena), node_(node) {
    CHECK(node);
    ++node->refs;
  }
  Held(Held&& other) noexcept : arena_(other.arena_), node_(other.node_) { other.node_ = nullptr; }
  Held& operator=(Held&& other) noexcept {
    Node* old = node_;
    node_ = other.node_;
    other.node_ = nullptr;
    if (old) arena_->drop(old);
    return *this;
  }
  ~Held() {
    if (node_) arena_->drop(node_);
  }
  Node* operator->() const { return node_; }
  Node* get() const { return node_; }

 private:
  Arena* arena_;
  Node* node_;
};

}  // namespace tapegrad::test
