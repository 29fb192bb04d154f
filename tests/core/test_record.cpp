// test_record.cpp: programs recorded from random graphs: every instruction gives the number that its node holds, what
// the results do not depend on is left out, and constants, inputs and parameters are told apart.
#include "core/program/record.hpp"

#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;
using namespace tapegrad::test;

namespace {

constexpr RecordLabels kLabels{90, 91, 92};

bool same(double x, double y) {
  return !std::memcmp(&x, &y, sizeof x);
}

enum class Around { nothing, unused_nodes, other_roots, many_dead };

// A random graph over parameters, inputs and constants, kept as pairs so that what is reachable is known apart from the
// arena.
struct Graph {
  Arena arena{hooks()};
  std::mt19937_64 random;
  std::vector<Held> old, kept;  // made before the marker, and after
  std::vector<Node*> inputs, made;
  std::vector<std::vector<int>> operands;  // of made[k], as indices into it; leaves of the arena have none
  std::uint64_t since = 0;

  explicit Graph(std::uint64_t seed) : random(seed) {}

  int pick(int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); }
  double number() { return std::uniform_real_distribution<double>(0.5, 2.0)(random); }
  int add(Node* node, std::vector<int> from) {
    kept.emplace_back(arena, node);
    made.push_back(node);
    operands.push_back(std::move(from));
    return static_cast<int>(made.size() - 1);
  }

  void build(Around around, int size) {
    for (int i = 0; i < 5; ++i) {
      old.emplace_back(arena, arena.make_leaf(number(), 0));
      old.back()->handle = old.back().get();
    }
    old.emplace_back(arena, arena.make_binary(Op::add, old[0].get(), old[1].get(), old[0]->data + old[1]->data, 0));
    if (around == Around::many_dead) {  // whole pages of them, so that ids rise
      Held s(arena, arena.make_unary(Op::tanh, old[0].get(), 0, 0));
      since = Arena::id(s.get());
      for (int i = 0; i < 100'000; ++i) s = Held(arena, arena.make_unary(Op::tanh, s.get(), 0, 0));
      old.emplace_back(arena, arena.make_constant(0, 0));
    } else {
      old.emplace_back(arena, arena.make_constant(0, 0));
      since = Arena::id(old.back().get());
    }
    for (int i = 0; i < 3; ++i) {
      const int k = add(arena.make_leaf(number(), 0), {});
      made[static_cast<std::size_t>(k)]->handle = made[static_cast<std::size_t>(k)];
      inputs.push_back(made.back());
    }
    for (std::size_t i = 0; i < 6; ++i) {  // nodes from before, among them one that is no leaf
      made.push_back(old[i].get());
      operands.emplace_back();
    }
    for (int i = 0; i < size; ++i) {
      const int n = static_cast<int>(made.size());
      const int a = pick(n), b = n - 1 - pick(std::min(n, 6));
      Node *x = made[static_cast<std::size_t>(a)], *y = made[static_cast<std::size_t>(b)];
      switch (pick(7)) {
        case 0:
          add(arena.make_binary(Op::add, x, y, x->data + y->data, 0), {a, b});
          break;
        case 1:
          add(arena.make_binary(Op::mul, x, y, x->data * y->data, 0), {a, b});
          break;
        case 2:
          add(arena.make_unary(Op::tanh, y, fn::tanh(y->data), 0), {b});
          break;
        case 3:
          add(arena.make_powc(x, 2.0, x->data * x->data, 0), {a});
          break;
        case 4:
          add(arena.make_binary(Op::div, x, y, x->data / y->data, 0), {a, b});
          break;
        case 5:  // a constant in the order of creation, as an operator makes it
          add(arena.make_constant(number(), 0), {});
          break;
        default:  // and one that was a Value for a while
          add(arena.make_leaf(number(), 0), {});
      }
    }
  }

  bool is_interior(std::size_t k) const { return !operands[k].empty(); }

  std::set<std::size_t> below(const std::vector<std::size_t>& roots) const {
    std::set<std::size_t> seen;
    std::vector<std::size_t> open = roots;
    while (!open.empty()) {
      const std::size_t k = open.back();
      open.pop_back();
      if (!seen.insert(k).second) continue;
      for (int o : operands[k]) open.push_back(static_cast<std::size_t>(o));
    }
    return seen;
  }

  // Gives up what only the test holds and no root needs.
  void let_go(const std::set<std::size_t>& needed) {
    std::set<Node*> nodes;
    for (std::size_t k : needed) nodes.insert(made[k]);
    std::erase_if(kept, [&](const Held& h) { return !nodes.count(h.get()) && h->op > Op::leaf; });
  }
};

void one(Around around, std::uint64_t seed) {
  Graph g(seed);
  g.build(around, 40 + g.pick(400));
  std::vector<std::size_t> roots{g.made.size() - 1};
  while (!g.is_interior(roots[0])) --roots[0];
  if (around == Around::other_roots) {
    roots.push_back(static_cast<std::size_t>(g.pick(static_cast<int>(g.made.size()))));
    roots.push_back(3);  // a parameter itself
  }
  const std::set<std::size_t> needed = g.below(roots);
  if (around != Around::unused_nodes) g.let_go(needed);

  std::vector<Node*> root_nodes;
  for (std::size_t k : roots) root_nodes.push_back(g.made[k]);
  std::vector<Look> looks{{GuardKind::truth, g.made[roots[0]], 1.0, "here"}};
  const std::size_t before = g.arena.live_nodes();
  const Recorded recorded = record(g.arena, root_nodes, g.inputs, looks, g.since, kLabels);
  CHECK(g.arena.live_nodes() == before);
  const Program& p = recorded.program;

  std::size_t interior = 0, leaves = 0;
  for (std::size_t k : needed) interior += g.is_interior(k);
  for (const Instruction& i : p.code) leaves += is_leaf(i.code);
  CHECK(p.code.size() - leaves == interior && recorded.nodes.size() == interior);
  CHECK(p.inputs == 3 && p.outputs.size() == roots.size() && p.guards.size() == 1 &&
        p.params == recorded.params.size());
  std::set<Node*> params(recorded.params.begin(), recorded.params.end()), expected;
  for (std::size_t k = 3; k < 9; ++k)
    if (needed.count(k)) expected.insert(g.made[k]);
  CHECK(params == expected && params.size() == recorded.params.size());

  std::vector<double> values(p.code.size());
  std::vector<std::uint32_t> all;
  for (std::uint32_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    p.for_each_operand(i, [&](std::uint32_t o) { CHECK(o < n); });
    values[n] = i.code == Code::input   ? g.inputs[i.a]->data
                : i.code == Code::param ? recorded.params[i.a]->data
                                        : evaluate(p, i, values.data());
    all.push_back(n);
  }
  for (std::size_t k = 0; k < roots.size(); ++k) CHECK(same(values[p.outputs[k]], root_nodes[k]->data));
  CHECK(same(values[p.guards[0].value], root_nodes[0]->data));
  const std::vector<Node*> nodes = nodes_of_values(recorded, p, all);
  for (std::size_t n = 0; n < all.size(); ++n) {
    CHECK(!nodes[n] == is_leaf(p.code[n].code));
    if (nodes[n]) CHECK(same(values[n], nodes[n]->data) && nodes[n]->grad == 0.0);
  }
  for (Node* n : g.inputs) n->handle = nullptr;
  for (std::size_t i = 0; i < 5; ++i) g.old[i]->handle = nullptr;
}

}  // namespace

int main() {
  for (std::uint64_t seed = 1; seed <= 60; ++seed)
    for (Around around : {Around::nothing, Around::unused_nodes, Around::other_roots}) one(around, seed);
  for (std::uint64_t seed = 1; seed <= 4; ++seed) one(Around::many_dead, seed);
  std::puts("recorded programs: passed");
}
