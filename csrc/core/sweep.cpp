// sweep.cpp: walks marked nodes from newest to oldest. Since operands lie before their consumers, every consumer of a
// node has been met when the walk comes to it; no sorting, no visited set, no recursion.
#include "core/sweep.hpp"

#include "core/ops.hpp"

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
    Page* page = page_of(root);
    Node* n = root;
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
    }
  }

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

// The rule of one node; `mark` is called for each operand.
template <typename Mark>
inline void step(Node* n, Mark mark) noexcept {
  constexpr Flags kFloat = static_cast<Flags>(~kGradInt);
  const double g = n->grad;
  const bool int_grad = n->flags & kGradInt;
  switch (n->op) {
    case Op::free:
    case Op::leaf:
    case Op::count:
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
#include "core/ops.def"
  }
}

template <typename Each>
void for_each_operand(Node* n, Each each) {
  if (n->op == Op::custom) {
    for (std::uint32_t i = 0; i < n->operands->count; ++i) each(n->operands->nodes()[i]);
  } else {
    const int arity = kArity[static_cast<int>(n->op)];
    if (arity > 0) each(n->a);
    if (arity > 1) each(n->b);
  }
}

}  // namespace

void apply_rule(Node* node) noexcept {
  step(node, [](Node*) {});
}

void sweep(Node* root) noexcept {
  if (root->op == Op::leaf) return;
  Frontier frontier;
  frontier.walk(root, [&](Node* n) noexcept { step(n, [&](Node* operand) { frontier.mark(operand); }); });
}

std::vector<Node*> collect(Node* root, bool with_leaves) {
  std::vector<Node*> order;
  if (root->op == Op::leaf) {
    if (with_leaves) order.push_back(root);
    return order;
  }
  // First count, so that the one allocation comes before any mark is left standing.
  std::size_t interior = 0, edges = 0;
  {
    Frontier frontier;
    frontier.walk(root, [&](Node* n) noexcept {
      ++interior;
      for_each_operand(n, [&](Node* operand) {
        ++edges;
        frontier.mark(operand);
      });
    });
  }
  order.reserve(interior + (with_leaves ? edges : 0));
  Frontier frontier;
  frontier.walk(root, [&](Node* n) noexcept {
    order.push_back(n);
    for_each_operand(n, [&](Node* operand) { frontier.mark(operand); });
  });
  if (with_leaves) {
    for (std::size_t i = 0; i < interior; ++i) {
      for_each_operand(order[i], [&](Node* operand) {
        if (operand->mark == kLeafMark) {
          operand->mark = kMarked;
          order.push_back(operand);
        }
      });
    }
    for (std::size_t i = interior; i < order.size(); ++i) order[i]->mark = kLeafMark;
  }
  return order;
}

bool sweep_with_rules(Arena& arena, Node* root, bool (*call)(void*, Node*), void* context) {
  const std::vector<Node*> order = collect(root, true);
  for (Node* n : order) arena.hold(n);
  bool going = true;
  for (Node* n : order) {
    if (n->flags & kHasRule) {
      if (!call(context, n)) {
        going = false;
        break;
      }
    } else {
      apply_rule(n);
    }
  }
  for (Node* n : order) arena.let_go(n);
  return going;
}

}  // namespace tapegrad
