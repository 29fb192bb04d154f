// test_sweep.cpp: gradients of random graphs against a plain recursive-definition oracle, depth, width, and rules from
// outside.
#include "core/graph/sweep.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/arrays/arrays.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;
using namespace tapegrad::test;

namespace {

// What the graph is made of, kept apart from it, so that the oracle shares nothing with the sweep.
struct Record {
  Op op;
  int a, b;
  double exponent;
};

double value(const Record& r, double x, double y) {
  switch (r.op) {
    case Op::add:
      return x + y;
    case Op::mul:
      return x * y;
    case Op::tanh:
      return fn::tanh(x);
    case Op::exp:
      return std::exp(x);
    case Op::powc:
      return std::pow(x, r.exponent);
    default:
      return 0;
  }
}

// Forward-mode derivative of the last record by input `wrt`.
double forward(const std::vector<Record>& records, const std::vector<double>& inputs, std::size_t wrt) {
  std::vector<double> v, d;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Record& r = records[i];
    if (r.op == Op::leaf) {
      v.push_back(inputs[i]);
      d.push_back(i == wrt);
      continue;
    }
    const double x = v[r.a], dx = d[r.a], y = r.b >= 0 ? v[r.b] : 0, dy = r.b >= 0 ? d[r.b] : 0;
    const double z = value(r, x, y);
    v.push_back(z);
    switch (r.op) {
      case Op::add:
        d.push_back(dx + dy);
        break;
      case Op::mul:
        d.push_back(dx * y + x * dy);
        break;
      case Op::tanh:
        d.push_back(dx * (1 - z * z));
        break;
      case Op::exp:
        d.push_back(dx * z);
        break;
      default:
        d.push_back(dx * r.exponent * std::pow(x, r.exponent - 1));
    }
  }
  return d.back();
}

void random_graphs() {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform(-0.9, 0.9);
  Arena arena(hooks());
  for (int round = 0; round < 200; ++round) {
    std::vector<Record> records;
    std::vector<double> inputs;
    std::vector<Held> nodes;
    for (int i = 0; i < 4; ++i) {
      records.push_back({Op::leaf, -1, -1, 0});
      inputs.push_back(uniform(random));
      nodes.emplace_back(arena, i % 2 ? arena.make_leaf(inputs.back(), 0) : arena.make_constant(inputs.back(), 0));
    }
    for (int i = 0; i < 60; ++i) {
      Record r{};
      r.a = static_cast<int>(random() % records.size());
      r.b = static_cast<int>(random() % records.size());
      const Op choices[] = {Op::add, Op::mul, Op::tanh, Op::exp, Op::powc};
      r.op = choices[random() % 5];
      if (r.op != Op::add && r.op != Op::mul) r.b = -1;
      r.exponent = static_cast<double>(random() % 4);
      Node* a = nodes[r.a].get();
      Node* b = r.b >= 0 ? nodes[r.b].get() : nullptr;
      const double z = value(r, a->data, b ? b->data : 0);
      if (!(std::fabs(z) < 3)) continue;
      Node* n = r.op == Op::powc ? arena.make_powc(a, r.exponent, z, 0)
                : b              ? arena.make_binary(r.op, a, b, z, 0)
                                 : arena.make_unary(r.op, a, z, 0);
      nodes.emplace_back(arena, n);
      records.push_back(r);
    }
    Node* root = nodes.back().get();
    root->grad = 1;
    sweep(root);
    for (std::size_t i = 0; i < 4; ++i)
      if (nodes[i].get() != root) CHECK_NEAR(nodes[i]->grad, forward(records, inputs, i), 1e-10);
    for (Held& n : nodes) CHECK(n->mark != kMarked);
  }
  CHECK(arena.live_nodes() == 0);
}

void second_sweep_accumulates_through_intermediates() {
  Arena arena(hooks());
  Held x(arena, arena.make_leaf(3, 0));
  Held y(arena, arena.make_binary(Op::mul, x.get(), x.get(), 9, 0));
  Held z(arena, arena.make_binary(Op::add, y.get(), y.get(), 18, 0));
  z->grad = 1;
  sweep(z.get());
  CHECK(y->grad == 2 && x->grad == 12);
  z->grad = 1;
  sweep(z.get());
  CHECK(y->grad == 4 && x->grad == 12 + 24);
}

void only_reachable_nodes_change() {
  Arena arena(hooks());
  Held x(arena, arena.make_leaf(2, 0));
  Held used(arena, arena.make_binary(Op::mul, x.get(), x.get(), 4, 0));
  std::vector<Held> others;
  for (std::uint32_t i = 0; i < 3 * kPageNodes; ++i) {
    others.emplace_back(arena, arena.make_binary(Op::mul, used.get(), x.get(), 8, 0));
    others.back()->grad = 1;
  }
  Held root(arena, arena.make_unary(Op::tanh, used.get(), fn::tanh(4), 0));
  root->grad = 1;
  sweep(root.get());
  for (Held& n : others) CHECK(n->grad == 1);
  CHECK_NEAR(x->grad, (1 - fn::tanh(4) * fn::tanh(4)) * 4, 1e-15);
}

void deep_and_wide() {
  Arena arena(hooks());
  Held b(arena, arena.make_leaf(1, 0));
  Held s(arena, arena.make_leaf(0, 0));
  const int n = 300000;
  for (int i = 0; i < n; ++i) s = Held(arena, arena.make_binary(Op::add, s.get(), b.get(), s->data + 1, 0));
  s->grad = 1;
  sweep(s.get());
  CHECK(b->grad == n && s->data == n);
  CHECK(collect(s.get(), false).size() == n);
  CHECK(collect(s.get(), true).size() == n + 2);
}

struct Rules {
  Arena* arena;
  std::vector<Node*> called;
  Node* stop = nullptr;
};

bool call(void* context, Node* node) {
  auto* rules = static_cast<Rules*>(context);
  rules->called.push_back(node);
  if (node == rules->stop) return false;
  // A rule may build, sweep and free a graph of its own, over the same nodes.
  Held inner(*rules->arena, rules->arena->make_binary(Op::mul, node->a, node->a, 0, 0));
  const double before = node->a->grad;
  inner->grad = 0;
  sweep(inner.get());
  CHECK(node->a->grad == before);
  node->a->grad += 10 * node->grad;
  return true;
}

void rules_from_outside() {
  Arena arena(hooks());
  Held x(arena, arena.make_leaf(2, 0));
  Held y(arena, arena.make_unary(Op::exp, x.get(), std::exp(2), 0));
  Held z(arena, arena.make_unary(Op::exp, y.get(), std::exp(y->data), 0));
  Held w(arena, arena.make_binary(Op::add, z.get(), y.get(), z->data + y->data, 0));
  y->flags |= kHasRule;
  Rules rules{&arena, {}};
  w->grad = 1;
  CHECK(sweep_with_rules(arena, w.get(), call, &rules));
  CHECK(rules.called.size() == 1 && rules.called[0] == y.get());
  CHECK_NEAR(y->grad, 1 + z->data, 1e-15);
  CHECK_NEAR(x->grad, 10 * y->grad, 1e-15);
  rules.stop = y.get();
  const double before = x->grad;
  CHECK(!sweep_with_rules(arena, w.get(), call, &rules));
  CHECK(x->grad == before && w->refs == 1 && y->refs == 3);
  y->flags = 0;
  sweep(w.get());  // as usable as before
}

void int_gradients() {
  Arena arena(hooks());
  const Flags whole = kDataInt | kGradInt;
  Held x(arena, arena.make_leaf(2, whole)), h(arena, arena.make_leaf(0.5, kGradInt));
  Held y(arena, arena.make_binary(Op::mul, x.get(), x.get(), 4, whole));
  Held z(arena, arena.make_binary(Op::add, y.get(), h.get(), 4.5, kGradInt));
  z->grad = 1;
  sweep(z.get());
  CHECK((x->flags & kGradInt) && (h->flags & kGradInt) && x->grad == 4 && h->grad == 1);
  Held w(arena, arena.make_binary(Op::mul, z.get(), h.get(), 2.25, kGradInt));
  w->grad = 1;
  sweep(w.get());
  CHECK(!(x->flags & kGradInt) && !(h->flags & kGradInt));
}

}  // namespace

int looks, pending_from, gives_up_at;  // at Ctrl-C, as the hooks below pretend

// A long chain over two leaves, Ctrl-C at different times, and then a handler that lets the sweep go on or does not.
void interrupts() {
  // Asked after 256 pages and after 512, and then every 1024 nodes, at least twice.
  constexpr std::size_t kNodes = std::size_t{512 + 2048 / kPageNodes + 10} * kPageNodes;
  Arena arena(hooks());
  const Held x(arena, arena.make_leaf(1, 0)), w(arena, arena.make_leaf(0.5, 0));
  Held s(arena, arena.make_binary(Op::mul, x.get(), w.get(), 0.5, 0));
  for (std::size_t i = 1; i < kNodes; ++i) s = Held(arena, arena.make_binary(Op::add, s.get(), w.get(), 1, 0));
  const auto gradients = [&](bool* finished) {
    zero_gradients(s.get());
    s->grad = 1;
    looks = 0;
    *finished = sweep(s.get(), &arena);
    return std::make_pair(x->grad, w->grad);
  };
  bool finished;
  const auto expected = gradients(&finished);
  CHECK(finished && expected == std::make_pair(0.5, 1.0 + static_cast<double>(kNodes - 1)));
  set_pause_hooks({nullptr, nullptr, [] { return ++looks >= pending_from; }, [] { return --gives_up_at == 0; }});
  for (pending_from = 1; pending_from <= 3; ++pending_from) {
    gives_up_at = -1;  // the handler does not raise
    CHECK(gradients(&finished) == expected && finished);
    CHECK(looks == std::min(pending_from, 2));
    for (gives_up_at = 1; gives_up_at <= 2; ++gives_up_at) {
      const int at = gives_up_at;
      const auto partial = gradients(&finished);
      CHECK(finished == (pending_from == 3));
      if (!finished) CHECK(partial.first == 0 && partial.second > 0 && partial.second < expected.second);
      gives_up_at = at;
    }
  }
  set_pause_hooks({});
  CHECK(gradients(&finished) == expected && finished);  // no mark was left
  CHECK(collect(s.get(), true).size() == kNodes + 2 && x->refs == 2 && w->refs == 1 + kNodes);

  // The same in a sweep with rules from outside, between rules.
  x->flags |= kHasRule;  // a leaf with a rule: called, and does nothing
  set_pause_hooks({nullptr, nullptr, nullptr, [] { return --gives_up_at == 0; }});
  zero_gradients(s.get());
  s->grad = 1;
  gives_up_at = 3;
  CHECK(!sweep_with_rules(arena, s.get(), [](void*, Node*) { return true; }, nullptr));
  CHECK(gives_up_at == 0 && x->grad == 0 && w->grad > 0 && w->refs == 1 + kNodes);
  set_pause_hooks({});
}

int main() {
  random_graphs();
  second_sweep_accumulates_through_intermediates();
  only_reachable_nodes_change();
  deep_and_wide();
  rules_from_outside();
  int_gradients();
  interrupts();
  std::puts("test_sweep: passed");
}
