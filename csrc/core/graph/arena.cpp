// arena.cpp: pages as they fill and empty, and the freeing of nodes.
#include "core/graph/arena.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tapegrad {

namespace {

Operands* copy_operands(Node* const* nodes, std::size_t count, const double* local_grads,
                        std::uint32_t label) noexcept {
  const std::size_t bytes = sizeof(Operands) + count * (sizeof(Node*) + (local_grads ? sizeof(double) : 0));
  auto* operands = static_cast<Operands*>(std::malloc(bytes));
  if (!operands) return nullptr;
  operands->count = static_cast<Count>(count);
  operands->label = label;
  operands->has_local_grads = local_grads != nullptr;
  if (count) std::memcpy(operands->nodes(), nodes, count * sizeof(Node*));
  if (count && local_grads) std::memcpy(operands->local_grads(), local_grads, count * sizeof(double));
  return operands;
}

}  // namespace

// Pages and chunks go with the pool; only operand lists and arrays of nodes that are still alive are apart from them.
// Those of leaves are not looked for: an arena should not end before the leaves that somebody made in it.
Arena::~Arena() {
  for_each_interior([](Node* n) {
    if (n->op == Op::custom) std::free(n->operands);
    if (n->op == Op::array) free_array(n->array);
  });
  for (Page* page = oldest_; page;) {
    Page* newer = page->newer;
    pool_.give_back(page);
    page = newer;
  }
}

inline void Arena::unlink(Node* operand) noexcept {
  if (operand->flags & kPinned) [[unlikely]] {
    void* handle = operand->handle;
    --operand->refs;  // the handle's own reference is still there
    hooks_.release(handle);
  } else if (--operand->refs == 0) {
    operand->handle = pending_;
    pending_ = operand;
  }
}

inline void Arena::free_slot(Node* n) noexcept {
  Page* page = page_of(n);
  n->op = Op::free;
  n->mark = kUnmarked;
  if (!page->leaf_page) [[likely]] {
    if (++page->freed == page->used) close_page(page);
    return;
  }
  --leaves_;
  n->handle = page->free_slot;
  page->free_slot = n;
  if (page->freed-- == kPageNodes) {
    page->older = nullptr;
    page->newer = leaf_room_;
    if (leaf_room_) leaf_room_->older = page;
    leaf_room_ = page;
  } else if (page->freed == 0 && (page->older || page->newer)) {  // empty, and not the only page with room
    (page->older ? page->older->newer : leaf_room_) = page->newer;
    if (page->newer) page->newer->older = page->older;
    pool_.give_back(page);
  }
}

inline void Arena::free_one(Node* n) noexcept {
  const Op op = n->op;
  Node* a = n->a;
  Node* b = n->b;
  Operands* operands = n->operands;
  free_slot(n);
  if (op == Op::leaf) return;
  if (op <= Op::custom) {
    static_assert(Op::array < Op::custom);
    if (op == Op::array) {
      Array* array = reinterpret_cast<Array*>(operands);
      for (std::uint32_t i = 0; i < array->held(); ++i) unlink(array->operands()[i]);
      room_ += array->held();
      free_array(array);
      return;
    }
    for (std::uint32_t i = 0; i < operands->count; ++i) unlink(operands->nodes()[i]);
    room_ += operands->count;
    std::free(operands);
    return;
  }
  unlink(a);
  if (kArity[static_cast<int>(op)] == 2) unlink(b);
}

bool Arena::open_page() noexcept {
  if (current_) {
    if (current_->freed == kPageNodes) {  // everything in it is dead already: use it again in place
      current_->freed = 0;
      next_ = current_->begin();
      return true;
    }
  }
  if (!take_room(2 * kPageNodes)) return false;
  Page* page = pool_.take();
  if (!page) {
    room_ += 2 * kPageNodes;
    return false;
  }
  page->older = current_;
  page->newer = nullptr;
  page->free_slot = nullptr;
  page->sequence = ++sequence_;
  page->freed = 0;
  page->used = 0;
  page->leaf_page = false;
  page->marked = false;
  if (current_) {
    current_->used = kPageNodes;
    current_->newer = page;
  } else {
    oldest_ = page;
  }
  current_ = page;
  next_ = page->begin();
  end_ = next_ + kPageNodes;
  return true;
}

// Takes an empty page that is not the current one out of the list.
void Arena::close_page(Page* page) noexcept {
  (page->older ? page->older->newer : oldest_) = page->newer;
  page->newer->older = page->older;
  room_ += 2 * kPageNodes;
  pool_.give_back(page);
}

bool Arena::open_leaf_page() noexcept {
  Page* page = pool_.take();
  full_ = false;
  if (!page) return false;
  page->older = page->newer = nullptr;
  page->free_slot = nullptr;
  page->sequence = ++sequence_;
  page->freed = 0;
  page->used = 0;
  page->leaf_page = true;
  page->marked = false;
  leaf_room_ = page;
  return true;
}

Node* Arena::make_leaf(double data, Flags flags) noexcept {
  if (!leaf_room_ && !open_leaf_page()) return nullptr;
  Page* page = leaf_room_;
  Node* n = page->free_slot;
  if (n) {
    page->free_slot = static_cast<Node*>(n->handle);
  } else {
    n = page->begin() + page->used++;
  }
  ++leaves_;
  if (++page->freed == kPageNodes) {  // full: it leaves the list until a slot is given back
    leaf_room_ = page->newer;
    if (leaf_room_) leaf_room_->older = nullptr;
    page->newer = nullptr;
  }
  fill(n, data, Op::leaf, kLeafMark, flags);
  n->a = n->b = nullptr;
  return n;
}

Node* Arena::make_custom(Node* const* nodes, std::size_t count, const double* local_grads, std::uint32_t label,
                         double data, Flags flags) noexcept {
  if (!take_room(count)) return nullptr;
  Operands* operands = copy_operands(nodes, count, local_grads, label);
  Node* n = operands ? allocate() : nullptr;
  if (!n) {
    room_ += count;
    std::free(operands);
    return nullptr;
  }
  fill(n, data, Op::custom, kUnmarked, flags);
  n->a = nullptr;
  n->operands = operands;
  for (std::size_t i = 0; i < count; ++i) link(nodes[i]);
  return n;
}

Node* Arena::make_array(Array* array, double data, Flags flags) noexcept {
  if (!take_room(array->held())) return nullptr;
  Node* n = array->op == ArrayOp::leaf ? make_leaf(data, flags) : allocate();
  if (!n) {
    room_ += array->held();
    return nullptr;
  }
  fill(n, data, Op::array, array->op == ArrayOp::leaf ? kLeafMark : kUnmarked, flags);
  n->a = nullptr;
  n->array = array;
  for (std::uint32_t i = 0; i < array->held(); ++i) link(array->operands()[i]);
  return n;
}

bool Arena::set_operands(Node* node, Node* const* nodes, std::size_t count, const double* local_grads,
                         std::uint32_t label) noexcept {
  if (!take_room(count)) return false;
  Operands* operands = nullptr;
  if (count || label) {
    operands = copy_operands(nodes, count, local_grads, label);
    if (!operands) {
      room_ += count;
      return false;
    }
  }
  for (std::size_t i = 0; i < count; ++i) link(nodes[i]);
  const Node old = *node;
  node->a = nullptr;
  node->operands = operands;
  node->op = operands ? Op::custom : Op::leaf;
  node->flags &= static_cast<Flags>(~kArray);
  node->mark = operands ? kUnmarked : kLeafMark;
  hold(node);  // while handles let go, which may run code outside the core
  let_go_of_operands(old);
  let_go(node);
  return true;
}

bool Arena::set_array(Node* node, Array* array) noexcept {
  if (!take_room(array->held())) return false;
  for (std::uint32_t i = 0; i < array->held(); ++i) link(array->operands()[i]);
  const Node old = *node;
  node->a = nullptr;
  node->array = array;
  node->op = Op::array;
  node->mark = array->op == ArrayOp::leaf ? kLeafMark : kUnmarked;
  hold(node);
  let_go_of_operands(old);
  let_go(node);
  return true;
}

// What a node had before it got other operands.
void Arena::let_go_of_operands(const Node& old) noexcept {
  if (old.op == Op::array) {
    for (std::uint32_t i = 0; i < old.array->held(); ++i) let_go(old.array->operands()[i]);
    room_ += old.array->held();
    free_array(old.array);
  } else if (old.op == Op::custom) {
    for (std::uint32_t i = 0; i < old.operands->count; ++i) let_go(old.operands->nodes()[i]);
    room_ += old.operands->count;
    std::free(old.operands);
  } else if (old.op > Op::custom) {
    let_go(old.a);
    if (kArity[static_cast<int>(old.op)] == 2) let_go(old.b);
  }
}

bool Arena::precedes(const Node* operand, const Node* node) noexcept {
  const Page* page = page_of(node);
  if (page->leaf_page) return false;
  const Page* before = page_of(operand);
  return before->leaf_page || (before == page ? operand < node : before->sequence < page->sequence);
}

// Frees `node` and whatever it was the last to need. Handles that are let go on the way may run code outside the core,
// which may come back here: then the node is left to the loop that is already running.
void Arena::release(Node* node) noexcept {
  if (releasing_) {
    node->handle = pending_;
    pending_ = node;
    return;
  }
  releasing_ = true;
  free_one(node);
  while (pending_) {
    Node* n = pending_;
    pending_ = static_cast<Node*>(n->handle);
    free_one(n);
  }
  releasing_ = false;
}

void Arena::let_go(Node* node) noexcept {
  if (node->flags & kPinned) {
    --node->refs;  // the handle's own reference is still there
    hooks_.release(node->handle);
  } else {
    drop(node);
  }
}

const char* Arena::full_text() noexcept {
  static char text[200];
  if (!text[0])
    std::snprintf(text, sizeof text,
                  "the Values alive have as many operands as can be counted, about %zu in all: free graphs that are no "
                  "longer needed, or hold many numbers in one Value, as an array",
                  kMaxEdges);
  return text;
}

NoNodes::NoNodes(const Arena& arena) noexcept
    : what_(arena.full() ? Arena::full_text() : "there is no memory for more Values") {}

std::size_t Arena::live_nodes() const noexcept {
  std::size_t live = leaves_;
  for (const Page* page = oldest_; page; page = page->newer) {
    const std::size_t used =
        page == current_ ? static_cast<std::size_t>(next_ - const_cast<Page*>(page)->begin()) : page->used;
    live += used - page->freed;
  }
  return live;
}

}  // namespace tapegrad
