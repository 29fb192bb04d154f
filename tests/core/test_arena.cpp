// test_arena.cpp: nodes live exactly as long as something needs them, in order, at any size and in any order of death.
#include <algorithm>
#include <random>
#include <vector>

#include "check.hpp"

using namespace tapegrad;
using namespace tapegrad::test;

namespace {

Held leaf(Arena& arena, double x) {
  return {arena, arena.make_leaf(x, 0)};
}
Held add(Arena& arena, const Held& a, const Held& b) {
  return {arena, arena.make_binary(Op::add, a.get(), b.get(), a->data + b->data, 0)};
}

void counts_follow_scopes() {
  Arena arena(hooks());
  CHECK(arena.live_nodes() == 0);
  {
    Held a = leaf(arena, 1), b = leaf(arena, 2);
    CHECK(arena.live_nodes() == 2);
    {
      Held c = add(arena, a, b);
      Held d = add(arena, c, c);
      CHECK(arena.live_nodes() == 4 && c->refs == 3 && a->refs == 2);
      c = leaf(arena, 5);
      CHECK(arena.live_nodes() == 5);  // d still needs the old c
    }
    CHECK(arena.live_nodes() == 2 && a->refs == 1 && b->refs == 1);
  }
  CHECK(arena.live_nodes() == 0);
}

void deep_chain_frees_without_recursion() {
  Arena arena(hooks());
  Held b = leaf(arena, 1);
  Held s = leaf(arena, 0);
  const int n = 200000;
  for (int i = 0; i < n; ++i) s = add(arena, s, b);
  CHECK(arena.live_nodes() == std::size_t(n) + 2);
  s = leaf(arena, 0);
  CHECK(arena.live_nodes() == 2 && b->refs == 1);
}

void order_holds_when_memory_is_used_again() {
  Arena arena(hooks());
  std::mt19937 random(7);
  std::vector<Held> kept;
  for (int round = 0; round < 60; ++round) {
    for (std::uint32_t i = 0; i < kPageNodes; ++i) {
      if (kept.size() < 2 || random() % 8 == 0) {
        kept.push_back(random() % 2 ? leaf(arena, i) : Held(arena, arena.make_constant(i, 0)));
      } else {
        Held& a = kept[random() % kept.size()];
        Held& b = kept[random() % kept.size()];
        Held c = add(arena, a, b);
        CHECK(Arena::precedes(a.get(), c.get()) && Arena::precedes(b.get(), c.get()));
        CHECK(!Arena::precedes(c.get(), c.get()));
        if (page_of(a.get())->leaf_page == false) CHECK(Arena::id(a.get()) < Arena::id(c.get()));
        kept.push_back(std::move(c));
      }
    }
    std::shuffle(kept.begin(), kept.end(), random);
    while (kept.size() > 40) kept.pop_back();
  }
  CHECK(arena.live_nodes() >= kept.size());
  kept.clear();
  CHECK(arena.live_nodes() == 0);
}

void ids_differ_while_alive() {
  Arena arena(hooks());
  std::vector<Held> nodes;
  std::vector<std::uint64_t> ids;
  for (std::uint32_t i = 0; i < 3 * kPageNodes; ++i) {
    nodes.push_back(i % 3 ? leaf(arena, i) : Held(arena, arena.make_constant(i, 0)));
    ids.push_back(Arena::id(nodes.back().get()));
  }
  std::sort(ids.begin(), ids.end());
  CHECK(std::unique(ids.begin(), ids.end()) == ids.end());
}

void steady_work_needs_no_more_memory() {
  Arena arena(hooks());
  Held parameter = leaf(arena, 1);
  std::size_t reserved = 0;
  for (int step = 0; step < 300; ++step) {
    Held s = leaf(arena, 0);
    for (std::uint32_t i = 0; i < 5 * kPageNodes; ++i) s = add(arena, s, parameter);
    if (step == 2) reserved = arena.reserved_bytes();
  }
  CHECK(arena.reserved_bytes() == reserved);
}

void leaf_slots_are_used_again() {
  Arena arena(hooks());
  Held keep = leaf(arena, 1);
  for (std::uint32_t i = 0; i < 100 * kPageNodes; ++i) leaf(arena, i);
  CHECK(arena.reserved_bytes() == PagePool::chunk_bytes());
  std::vector<Held> many;
  for (std::uint32_t i = 0; i < 10 * kPageNodes; ++i) many.push_back(leaf(arena, i));
  for (std::uint32_t i = 0; i < 10 * kPageNodes; ++i) CHECK(many[i]->data == i);
  CHECK(arena.live_nodes() == 10 * kPageNodes + 1);
}

void custom_nodes_own_their_operands() {
  Arena arena(hooks());
  Held a = leaf(arena, 1), b = leaf(arena, 2);
  {
    Node* operands[] = {a.get(), b.get(), a.get()};
    const double grads[] = {1, 2, 3};
    Held c(arena, arena.make_custom(operands, 3, grads, 7, 9.0, 0));
    CHECK(a->refs == 3 && b->refs == 2 && c->operands->label == 7 && c->operands->local_grads()[2] == 3);
    Held none(arena, arena.make_custom(nullptr, 0, nullptr, 1, 0.0, 0));
    CHECK(none->operands->count == 0);
    // New operands let go of the old ones.
    CHECK(arena.set_operands(c.get(), operands, 1, nullptr, 0));
    CHECK(a->refs == 2 && b->refs == 1);
    CHECK(arena.set_operands(c.get(), nullptr, 0, nullptr, 0));
    CHECK(a->refs == 1 && c->op == Op::leaf);
  }
  CHECK(arena.live_nodes() == 2);
}

void set_operands_frees_what_nobody_else_needs() {
  Arena arena(hooks());
  Held a = leaf(arena, 1);
  Held c = [&] {
    Held inner = add(arena, a, a);
    return add(arena, inner, a);
  }();
  CHECK(arena.live_nodes() == 3);
  CHECK(arena.set_operands(c.get(), nullptr, 0, nullptr, 0));
  CHECK(arena.live_nodes() == 2 && a->refs == 1);
}

void pinned_handles_live_as_their_nodes_do() {
  Arena arena(hooks());
  Held a = leaf(arena, 1);
  Node* n = arena.make_binary(Op::add, a.get(), a.get(), 2, 0);
  auto* handle = new Handle{&arena, n, 1};
  n->handle = handle;
  ++n->refs;
  n->flags |= kPinned;
  {
    Held c(arena, arena.make_binary(Op::mul, n, n, 4, 0));
    CHECK(handle->references == 3);
    release(handle);  // the variable lets go; the consumer's edges keep both handle and node
    CHECK(handle->references == 2 && n->refs == 3 && arena.live_nodes() == 3);
    arena.hold(n);
    CHECK(handle->references == 3);
    arena.let_go(n);
  }
  CHECK(arena.live_nodes() == 1 && a->refs == 1);
}

void pinned_chains_free_without_recursion() {
  Arena arena(hooks());
  Held a = leaf(arena, 1);
  Node* s = a.get();
  for (int i = 0; i < 100000; ++i) {
    Node* n = arena.make_binary(Op::add, s, a.get(), 0, 0);
    auto* handle = new Handle{&arena, n, 1};
    n->handle = handle;
    ++n->refs;
    n->flags |= kPinned;
    if (s != a.get()) release(s->handle);
    s = n;
  }
  release(s->handle);
  CHECK(arena.live_nodes() == 1 && a->refs == 1);
}

void arena_dies_with_nodes_in_it() {
  Arena arena(hooks());
  Node* operand = arena.make_leaf(1, 0);
  Node* custom = arena.make_custom(&operand, 1, nullptr, 0, 0, 0);
  CHECK(custom);
  ++custom->refs;
}

}  // namespace

int main() {
  counts_follow_scopes();
  deep_chain_frees_without_recursion();
  order_holds_when_memory_is_used_again();
  ids_differ_while_alive();
  steady_work_needs_no_more_memory();
  leaf_slots_are_used_again();
  custom_nodes_own_their_operands();
  set_operands_frees_what_nobody_else_needs();
  pinned_handles_live_as_their_nodes_do();
  pinned_chains_free_without_recursion();
  arena_dies_with_nodes_in_it();
  std::puts("test_arena: passed");
}
