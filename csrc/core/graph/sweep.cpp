// sweep.cpp: walks marked nodes from newest to oldest. Since operands lie before their consumers, every consumer of a
// node has been met when the walk comes to it; no sorting, no visited set, no recursion.
#include "core/graph/sweep.hpp"

#include <cstdlib>
#include <new>

#include "core/arrays/arrays.hpp"
#include "core/ops/ops.hpp"

namespace tapegrad {

namespace {

// Counts the marked nodes ahead of the walk, so that it can stop at the last one.
class Frontier {
 public:
  void mark(Node* node) noexcept {
    if (node->mark == kUnmarked) {
      node->mark = kMarked;
      page_of(node)->marked = true;
      ++ahead_;
    }
  }

  // Calls visit(node) for the marked nodes, newest first, until none is left. The visitor marks operands.
  template <typename Visit>
  void walk(Node* root, Visit visit) noexcept(noexcept(visit(root))) {
    mark(root);
    rest(page_of(root), root, visit, [] { return false; });
  }

  // The same from here on, until `stop()` says so after a page: then returns the page to go on with, else null.
  template <typename Visit, typename Stop>
  Page* rest(Page* page, Node* n, Visit visit, Stop stop) noexcept(noexcept(visit(n))) {
    while (ahead_) {
      if (page->marked) {
        for (Node* begin = page->begin(); n >= begin; --n) {
          if (n->mark == kMarked) {
            n->mark = kUnmarked;
            --ahead_;
            visit(n);
            if (!ahead_) break;
          }
        }
        page->marked = false;
      }
      page = page->older;
      if (page) n = page->begin() + (kPageNodes - 1);
      if (stop() && ahead_) return page;
    }
    return nullptr;
  }
  static Node* last_of(Page* page) noexcept { return page->begin() + (kPageNodes - 1); }

 private:
  std::size_t ahead_ = 0;
};

inline void add(Node* operand, double amount, Flags keep) noexcept {
  operand->grad += amount;
  operand->flags &= keep;
}

// Whether an operand's gradient stays an int when node's rule adds to it.
Flags keep_int(const Node* node, int i) noexcept {
  const bool is_int = (node->flags & kGradInt) && !(node->flags & kFloatGrad) && partial_is_int(*node, i);
  return is_int ? Flags(~0) : Flags(~kGradInt);
}

// The rule of one node; `mark` is called for each operand. Array nodes are handed to `array`.
template <typename Mark, typename ArrayStep>
inline void step(Node* n, Mark mark, ArrayStep array) noexcept {
  constexpr Flags kFloat = static_cast<Flags>(~kGradInt);
  const double g = n->grad;
  const bool int_grad = n->flags & kGradInt;
  switch (n->op) {
    case Op::free:
    case Op::leaf:
    case Op::count:
      break;
    [[unlikely]] case Op::array:
      array(n);
      break;
    case Op::custom: {
      Operands* operands = n->operands;
      Node** nodes = operands->nodes();
      if (operands->has_local_grads) {
        const double* local_grads = operands->local_grads();
        for (std::uint32_t i = 0; i < operands->count; ++i) add(nodes[i], local_grads[i] * g, kFloat);
      }
      for (std::uint32_t i = 0; i < operands->count; ++i) mark(nodes[i]);
      break;
    }
    case Op::powc: {
      const Flags keep = int_grad ? keep_int(n, 0) : kFloat;
      add(n->a, fn::pow_dx(n->a->data, n->exponent) * g, keep);
      mark(n->a);
      break;
    }
#define TAPEGRAD_UNARY(id, ...)                                 \
  case Op::id: {                                                \
    const Flags keep = int_grad ? keep_int(n, 0) : kFloat;      \
    add(n->a, Rule<Op::id>::dx(n->a->data, n->data) * g, keep); \
    mark(n->a);                                                 \
    break;                                                      \
  }
#define TAPEGRAD_BINARY(id, ...)                             \
  case Op::id: {                                             \
    Node* a = n->a;                                          \
    Node* b = n->b;                                          \
    const double x = a->data, y = b->data;                   \
    const Flags keep_a = int_grad ? keep_int(n, 0) : kFloat; \
    const Flags keep_b = int_grad ? keep_int(n, 1) : kFloat; \
    add(a, Rule<Op::id>::dx(x, y, n->data) * g, keep_a);     \
    add(b, Rule<Op::id>::dy(x, y, n->data) * g, keep_b);     \
    mark(a);                                                 \
    mark(b);                                                 \
    break;                                                   \
  }
#include "core/ops/ops.def"
  }
}

constexpr std::size_t kPagesBetweenLooks = 256, kRulesBetweenLooks = 1024;  // at Ctrl-C

bool gives_up() noexcept {
  return pause_hooks().interrupted && pause_hooks().interrupted();
}

bool wants_pause_of_array(const Node* node) noexcept {
  return node->op == Op::array && wants_pause(node);
}

// The rest of a sweep from an array node on that lets other threads run: first all marks are taken back, so that they
// may sweep too, then the rules are applied, while everything is held.
class PausedSweep {
 public:
  explicit PausedSweep(Arena& arena) : arena_(arena) {}
  PausedSweep(const PausedSweep&) = delete;
  PausedSweep& operator=(const PausedSweep&) = delete;
  ~PausedSweep() { std::free(nodes_); }

  // Takes a node in. False when there is no memory.
  bool add(Node* node) noexcept {
    if (count_ == room_) {
      const std::size_t room = room_ ? 2 * room_ : 256;
      void* memory = std::realloc(nodes_, room * sizeof(Node*));
      if (!memory) return false;
      nodes_ = static_cast<Node**>(memory);
      room_ = room;
    }
    nodes_[count_++] = node;
    return true;
  }

  // Applies the rules of the nodes taken in, in that order. False without memory, or if it is to be given up.
  bool apply() noexcept {
    bool fine = true;
    for (std::size_t i = 0; i < count_; ++i) arena_.hold(nodes_[i]);
    for (std::size_t i = 0; fine && i < count_; ++i) {
      const bool asks = i % kRulesBetweenLooks == 0 || wants_pause_of_array(nodes_[i]);
      fine = !(asks && gives_up()) && apply_rule(nodes_[i], &arena_);
    }
    for (std::size_t i = 0; i < count_; ++i) arena_.let_go(nodes_[i]);
    return fine;
  }

 private:
  Arena& arena_;
  Node** nodes_ = nullptr;
  std::size_t count_ = 0, room_ = 0;
};

// One array node in a sweep that has marks ahead. Returns whether all went well.
[[gnu::noinline]] bool array_step(Frontier& frontier, Node* n, Arena* pausing) noexcept {
  if (!pausing || !wants_pause(n)) {
    if (!apply_array_rule(n, nullptr)) return false;
    for_each_operand(n, [&](Node* operand) { frontier.mark(operand); });
    return true;
  }
  PausedSweep rest(*pausing);
  bool memory = true;
  frontier.walk(n, [&](Node* ahead) noexcept {
    memory = memory && rest.add(ahead);
    for_each_operand(ahead, [&](Node* operand) { frontier.mark(operand); });
  });
  return memory && rest.apply();
}

// The rest of a sweep in which Ctrl-C was seen, from a page on: whoever is to hear of it may run other code.
[[gnu::noinline]] bool sweep_aside(Frontier frontier, Page* page, Arena* pausing) noexcept {
  PausedSweep rest(*pausing);
  bool memory = true;
  frontier.rest(
      page, Frontier::last_of(page),
      [&](Node* ahead) noexcept {
        memory = memory && rest.add(ahead);
        for_each_operand(ahead, [&](Node* operand) { frontier.mark(operand); });
      },
      [] { return false; });
  return memory && rest.apply();
}

}  // namespace

bool apply_rule(Node* node, Arena* pausing) noexcept {
  bool fine = true;
  step(node, [](Node*) {}, [&](Node* array) { fine = apply_array_rule(array, pausing); });
  return fine;
}

bool sweep(Node* root, Arena* pausing) noexcept {
  if (root->mark == kLeafMark) return true;
  Frontier frontier;
  bool fine = true;
  std::size_t pages = 0;
  const auto visit = [&](Node* n) noexcept {
    step(
        n, [&](Node* operand) { frontier.mark(operand); },
        [&](Node* array) {
          Frontier copy = frontier;  // the frontier itself, whose address nobody has, stays in a register
          fine = fine && array_step(copy, array, pausing);
          frontier = copy;
        });
  };
  frontier.mark(root);
  Page* page = frontier.rest(page_of(root), root, visit, [&] {
    return ++pages % kPagesBetweenLooks == 0 && pausing && pause_hooks().interrupt_pending &&
           pause_hooks().interrupt_pending();
  });
  return page ? sweep_aside(frontier, page, pausing) && fine : fine;
}

namespace {

void zero_gradient(Node* node) noexcept {
  node->grad = 0.0;
  node->flags = static_cast<Flags>((node->flags & ~kGradInt) | ((node->flags & kFloatGrad) ? 0 : kGradInt));
  Array* array = array_of(node);
  if (!array) return;
  release(array->grad);
  array->grad = nullptr;
}

}  // namespace

void zero_gradients(Node* root) noexcept {
  zero_gradient(root);
  if (root->mark == kLeafMark) return;
  Frontier frontier;
  frontier.walk(root, [&](Node* n) noexcept {
    for_each_operand(n, [&](Node* operand) {
      zero_gradient(operand);
      frontier.mark(operand);
    });
  });
}

namespace {

constexpr std::size_t kFirstNodes = 512;  // room at first

template <typename List>
bool grow(List* list) noexcept {
  try {
    list->reserve(list->empty() ? kFirstNodes : 2 * list->size());
  } catch (...) {
    return false;
  }
  return true;
}

// Lists the interior nodes and returns how many edges they have. Without memory the walk still goes to its end, so that
// no mark is left standing.
template <typename List>
std::size_t list_interior(Node* root, List* order) {
  bool memory = true;
  std::size_t edges = 0;
  Frontier frontier;
  frontier.walk(root, [&](Node* n) noexcept {
    if (memory && order->size() == order->capacity()) memory = grow(order);
    if (memory) order->push_back(n);
    for_each_operand(n, [&](Node* operand) {
      ++edges;
      frontier.mark(operand);
    });
  });
  if (!memory) throw std::bad_alloc();
  return edges;
}

}  // namespace

std::vector<Node*> collect(Node* root, bool with_leaves) {
  std::vector<Node*> order;
  if (root->mark == kLeafMark) {
    if (with_leaves) order.push_back(root);
    return order;
  }
  const std::size_t edges = list_interior(root, &order);
  if (!with_leaves) return order;
  const std::size_t interior = order.size();
  order.reserve(interior + edges);  // before any mark is made
  for (std::size_t i = 0; i < interior; ++i) {
    for_each_operand(order[i], [&](Node* operand) {
      if (operand->mark == kLeafMark) {
        operand->mark = kMarked;
        order.push_back(operand);
      }
    });
  }
  for (std::size_t i = interior; i < order.size(); ++i) order[i]->mark = kLeafMark;
  return order;
}

LargeVector<Node*> collect_interior(Node* root) {
  LargeVector<Node*> order;
  if (root->mark != kLeafMark) list_interior(root, &order);
  return order;
}

bool sweep_with_rules(Arena& arena, Node* root, bool (*call)(void*, Node*), void* context) {
  const std::vector<Node*> order = collect(root, true);
  for (Node* n : order) arena.hold(n);
  bool going = true, memory = true;
  std::size_t looks = 0;
  for (Node* n : order) {
    if (++looks % kRulesBetweenLooks == 0 && gives_up()) {
      going = false;
      break;
    }
    if (n->flags & kHasRule) {
      if (!call(context, n)) {
        going = false;
        break;
      }
    } else if (!apply_rule(n, &arena)) {
      memory = false;
      break;
    }
  }
  for (Node* n : order) arena.let_go(n);
  if (!memory) throw std::bad_alloc();
  return going;
}

}  // namespace tapegrad
