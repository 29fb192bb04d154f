// arena.hpp: the graph's memory. It makes nodes, counts who needs them and frees them, exactly and without recursion.
//
// Ownership: a node lives while it has a handle or a consumer. Each consumer edge counts one in Node::refs; the handle
// counts one. Order: interior nodes are made after their operands and lie after them in the ordered pages, so walking
// back is a topological walk. Failure: what makes nodes returns null when there is no memory, or no count for more
// edges (limits.hpp), and then has changed nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include "core/arrays/arrays.hpp"
#include "core/graph/memory.hpp"
#include "core/graph/node.hpp"

namespace tapegrad {

// How the core speaks to the owner of a pinned node's handle; both count references to the handle.
struct HandleHooks {
  void (*retain)(void* handle);
  void (*release)(void* handle);
};

// Thrown in place of std::bad_alloc where an arena may have refused for want of counts: says which of the two it was.
class NoNodes : public std::bad_alloc {
 public:
  explicit NoNodes(const class Arena& arena) noexcept;
  const char* what() const noexcept override { return what_; }

 private:
  const char* what_;
};

class Arena {
 public:
  explicit Arena(HandleHooks hooks) noexcept : hooks_(hooks) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // A leaf that stands on its own: a parameter, an input. Leaves made together lie together.
  Node* make_leaf(double data, Flags flags) noexcept;

  // A leaf in creation order: a constant made for the operation that follows, or a node that is to get operands later.
  Node* make_constant(double data, Flags flags) noexcept {
    Node* n = allocate();
    if (!n) [[unlikely]]
      return nullptr;
    fill(n, data, Op::leaf, kLeafMark, flags);
    n->a = n->b = nullptr;
    return n;
  }

  Node* make_unary(Op op, Node* a, double data, Flags flags) noexcept {
    Node* n = allocate();
    if (!n) [[unlikely]]
      return nullptr;
    fill(n, data, op, kUnmarked, flags);
    n->a = a;
    link(a);
    return n;
  }

  Node* make_powc(Node* a, double exponent, double data, Flags flags) noexcept {
    Node* n = make_unary(Op::powc, a, data, flags);
    if (n) n->exponent = exponent;
    return n;
  }

  Node* make_binary(Op op, Node* a, Node* b, double data, Flags flags) noexcept {
    Node* n = allocate();
    if (!n) [[unlikely]]
      return nullptr;
    fill(n, data, op, kUnmarked, flags);
    n->a = a;
    n->b = b;
    link(a);
    link(b);
    return n;
  }

  // A node with `count` operands; local_grads may be null.
  Node* make_custom(Node* const* nodes, std::size_t count, const double* local_grads, std::uint32_t label, double data,
                    Flags flags) noexcept;

  // A node over the operands in `array`, which it takes over. Leaves lie with the other leaves.
  Node* make_array(Array* array, double data, Flags flags) noexcept;

  // Makes `node`, which then holds a number, a custom node over other operands, or a leaf when count is 0, dropping
  // what it had. False, and nothing changed, if there is no memory. Every operand must precede the node: see
  // precedes().
  bool set_operands(Node* node, Node* const* nodes, std::size_t count, const double* local_grads,
                    std::uint32_t label) noexcept;

  // Makes `node` one of Op::array with the operands in `array`, dropping what it had. The operands must precede it.
  // False, and nothing changed, if there are too many.
  bool set_array(Node* node, Array* array) noexcept;

  // Whether `node` may have `operand`: it was made later, in an ordered page.
  static bool precedes(const Node* operand, const Node* node) noexcept;

  // Gives up the handle's count; the last one frees the node, and all that only it held.
  void drop(Node* node) noexcept {
    if (--node->refs == 0) release(node);
  }

  // Keeps a node alive as a consumer would, and lets go of it again. Whoever can hold one node any number of times asks
  // first whether that can be counted.
  static bool may_hold(const Node* node) noexcept { return node->refs < kMaxHeld; }
  void hold(Node* node) noexcept { link(node); }
  void let_go(Node* node) noexcept;

  // A number that tells nodes apart while they live, rises in order of creation, and is the same in every run of a
  // program.
  static std::uint64_t id(const Node* node) noexcept {
    Page* page = page_of(node);
    return page->sequence * kPageNodes + static_cast<std::uint64_t>(node - page->begin());
  }

  // What id() says of the next node in an ordered page, and so more than it says of all that are there.
  std::uint64_t next_id() const noexcept {
    return current_ ? current_->sequence * kPageNodes + static_cast<std::uint64_t>(next_ - current_->begin()) : 0;
  }

  std::size_t live_nodes() const noexcept;

  // Of the last request that was refused: whether its edges could not be counted, rather than memory be found; and what
  // to tell the user then.
  bool full() const noexcept { return full_; }
  static const char* full_text() noexcept;
  std::size_t reserved_bytes() const noexcept { return pool_.reserved_bytes(); }

  // Calls visit(node) for every live interior node, oldest first. The visitor may not make or free nodes.
  template <typename Visit>
  void for_each_interior(Visit visit) {
    for (Page* page = oldest_; page; page = page->newer) {
      Node* end = page == current_ ? next_ : page->begin() + page->used;
      for (Node* n = page->begin(); n < end; ++n)
        if (n->op > Op::leaf) visit(n);
    }
  }

  // The same for those with an id from `since` on, until the visitor says false: then returns that.
  template <typename Visit>
  bool for_each_interior_since(std::uint64_t since, Visit visit) {
    Page* page = current_;
    while (page && page->older && page->sequence * kPageNodes > since) page = page->older;
    for (; page; page = page->newer) {
      const std::uint64_t first = page->sequence * kPageNodes;
      Node* n = page->begin() + (since > first ? std::min<std::uint64_t>(since - first, kPageNodes) : 0);
      Node* end = page == current_ ? next_ : page->begin() + page->used;
      for (; n < end; ++n)
        if (n->op > Op::leaf && !visit(n)) return false;
    }
    return true;
  }

  const HandleHooks& hooks() const noexcept { return hooks_; }

 private:
  Node* allocate() noexcept {
    if (next_ == end_) [[unlikely]]
      if (!open_page()) return nullptr;
    return next_++;
  }

  static void fill(Node* n, double data, Op op, std::uint8_t mark, Flags flags) noexcept {
    n->data = data;
    n->grad = 0.0;
    n->handle = nullptr;
    n->refs = 0;
    n->op = op;
    n->mark = mark;
    n->flags = flags;
  }

  void link(Node* operand) noexcept {
    ++operand->refs;
    if (operand->flags & kPinned) [[unlikely]]
      hooks_.retain(operand->handle);
  }

  bool take_room(std::size_t edges) noexcept {
    full_ = edges > room_;
    if (full_) return false;
    room_ -= edges;
    return true;
  }

  void let_go_of_operands(const Node& old) noexcept;
  void unlink(Node* operand) noexcept;
  void release(Node* node) noexcept;
  void free_one(Node* node) noexcept;
  void free_slot(Node* node) noexcept;
  bool open_page() noexcept;
  bool open_leaf_page() noexcept;
  void close_page(Page* page) noexcept;

  Node* next_ = nullptr;  // bump pointer in the current page
  Node* end_ = nullptr;
  Page* current_ = nullptr;
  Page* oldest_ = nullptr;
  Page* leaf_room_ = nullptr;  // leaf pages with a free slot
  Node* pending_ = nullptr;    // dead nodes still to be freed, linked through Node::handle
  bool releasing_ = false;
  bool full_ = false;
  std::size_t room_ = kMaxEdges;  // for edges: of ordered pages, two a node, and of lists of operands
  std::uint64_t sequence_ = 0;
  std::size_t leaves_ = 0;  // nodes in leaf pages
  HandleHooks hooks_;
  PagePool pool_;
};

// Calls each(operand) for the operands of a node, in order, repeats included.
template <typename Each>
inline void for_each_operand(Node* n, Each each) {
  if (n->op == Op::array) {
    for (std::uint32_t i = 0; i < n->array->count; ++i) each(n->array->operands()[i]);
  } else if (n->op == Op::custom) {
    for (std::uint32_t i = 0; i < n->operands->count; ++i) each(n->operands->nodes()[i]);
  } else {
    const int arity = kArity[static_cast<int>(n->op)];
    if (arity > 0) each(n->a);
    if (arity > 1) each(n->b);
  }
}

inline bool is_leaf(const Node* n) {
  return n->op == Op::leaf || (n->op == Op::array && n->array->op == ArrayOp::leaf);
}

}  // namespace tapegrad
