// core_driver.cpp: what the core does for a node of each kind, N times and 2N times; run under callgrind by guard.py.
//
// The difference of the two counts, divided by N, is what one node takes; whatever happens once cancels.
#include <valgrind/callgrind.h>

#include <string>
#include <vector>

#include "core/graph/arena.hpp"
#include "core/graph/sweep.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;

namespace {

constexpr int kNodes = 4000;

template <typename Part>
void count(const char* name, int times, Part part) {
  const std::string label = std::string(name) + "|" + std::to_string(times);
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  part();
  CALLGRIND_DUMP_STATS_AT(label.c_str());
  CALLGRIND_STOP_INSTRUMENTATION;
}

// A variable that moves on to the result: the old node is left to its consumer.
void move_on(Arena& arena, Node*& variable, Node* result) {
  ++result->refs;
  arena.drop(variable);
  variable = result;
}

Node* chain_binary(Arena& arena, Node* start, Node* other, int n) {
  Node* s = start;
  ++s->refs;
  for (int i = 0; i < n; ++i) {
    const double z = Rule<Op::mul>::value(s->data, other->data);
    move_on(arena, s, arena.make_binary(Op::mul, s, other, z, 0));
  }
  return s;
}

Node* chain_unary(Arena& arena, Node* start, int n) {
  Node* s = start;
  ++s->refs;
  for (int i = 0; i < n; ++i) {
    const double z = Rule<Op::relu>::value(s->data);
    move_on(arena, s, arena.make_unary(Op::relu, s, z, 0));
  }
  return s;
}

// Create, sweep and free a chain, each counted apart.
template <typename Make>
void count_chain(Arena& arena, const std::string& kind, int n, Make make) {
  Node* root = nullptr;
  count(("create a node, " + kind).c_str(), n, [&] { root = make(n); });
  root->grad = 1.0;
  count(("sweep a node, " + kind).c_str(), n, [&] { sweep(root); });
  count(("free a node, " + kind).c_str(), n, [&] { arena.drop(root); });
}

}  // namespace

int main() {
  Arena arena({[](void*) {}, [](void*) {}});
  Node* a = arena.make_leaf(1.000001, 0);
  Node* b = arena.make_leaf(0.999999, 0);
  ++a->refs;
  ++b->refs;
  arena.drop(chain_binary(arena, a, b, 2 * kNodes));  // so that pages are at hand

  std::vector<Node*> leaves(2 * kNodes);
  for (int n : {kNodes, 2 * kNodes}) {
    count_chain(arena, "multiply", n, [&](int k) { return chain_binary(arena, a, b, k); });
    count_chain(arena, "relu", n, [&](int k) { return chain_unary(arena, a, k); });
    count("create a leaf", n, [&] {
      for (int i = 0; i < n; ++i) ++(leaves[i] = arena.make_leaf(1.0, 0))->refs;
    });
    count("free a leaf", n, [&] {
      for (int i = 0; i < n; ++i) arena.drop(leaves[i]);
    });
  }
  arena.drop(a);
  arena.drop(b);
  return arena.live_nodes() == 0 ? 0 : 1;
}
