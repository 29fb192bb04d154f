// test_limits.cpp: counts and indices at their ends, with types so narrow that the ends are near. What would go past is
// refused, nothing wraps, nothing changes, and the engine goes on once there is room again.
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/arrays/arrays.hpp"
#include "core/graph/sweep.hpp"
#include "core/program/record.hpp"

using namespace tapegrad;
using namespace tapegrad::test;

namespace {

static_assert(kIndexBits < 32, "built with -DTAPEGRAD_INDEX_BITS=8 or 16");

constexpr std::size_t kMaxNodes =
    kMaxEdges / (2 * kPageNodes) * kPageNodes;  // interior nodes that there are counts for

// Makes nodes of two operands from `a` until there are no more counts, and says how many there were.
std::vector<Held> fill_up(Arena& arena, Node* a) {
  std::vector<Held> nodes;
  for (Node* n; (n = arena.make_binary(Op::add, a, a, 2 * a->data, 0));) nodes.emplace_back(arena, n);
  CHECK(arena.full());
  CHECK(std::strstr(NoNodes(arena).what(), "as many operands as can be counted"));
  return nodes;
}

void one_leaf_with_all_consumers() {
  Arena arena(hooks());
  const Held a(arena, arena.make_leaf(3, 0));
  for (int again = 0; again < 3; ++again) {
    std::vector<Held> nodes = fill_up(arena, a.get());
    CHECK(nodes.size() == kMaxNodes && a->refs == 1 + 2 * nodes.size() && arena.live_nodes() == 1 + nodes.size());
    CHECK(!arena.make_unary(Op::exp, a.get(), 1, 0) && !arena.make_powc(a.get(), 2, 9, 0) &&
          !arena.make_constant(1, 0));
    CHECK(a->refs == 1 + 2 * nodes.size() && arena.live_nodes() == 1 + nodes.size());
    for (Held& n : nodes) {
      n->grad = 1;
      CHECK(sweep(n.get()));
    }
    CHECK(a->grad == 2.0 * static_cast<double>(nodes.size()) * (again + 1));
    for (std::size_t i = 0; i < kPageNodes; ++i) nodes.pop_back();  // the page that is still current is used again
    for (std::size_t i = 0; i < kPageNodes; ++i) {
      Node* n = arena.make_binary(Op::mul, a.get(), a.get(), 9, 0);
      CHECK(n);
      nodes.emplace_back(arena, n);
    }
    nodes.erase(nodes.begin(), nodes.begin() + kPageNodes);  // a page that was closed comes back as another
    std::vector<Held> more = fill_up(arena, a.get());
    CHECK(more.size() == kPageNodes);
  }
  CHECK(a->refs == 1 && arena.live_nodes() == 1);
}

void leaves_need_no_counts() {
  Arena arena(hooks());
  std::vector<Held> leaves;
  for (std::size_t i = 0; i < 3 * kMaxCount; ++i) leaves.emplace_back(arena, arena.make_leaf(1, 0));
  CHECK(arena.live_nodes() == 3 * kMaxCount);
  std::vector<Held> nodes = fill_up(arena, leaves[0].get());
  leaves.emplace_back(arena, arena.make_leaf(1, 0));
}

void a_chain_to_the_end() {
  Arena arena(hooks());
  const Held a(arena, arena.make_leaf(1, 0));
  Held s(arena, arena.make_binary(Op::add, a.get(), a.get(), 2, 0));
  std::size_t made = 1;
  for (Node* n; (n = arena.make_binary(Op::add, s.get(), a.get(), s->data + 1, 0)); ++made) s = Held(arena, n);
  CHECK(made == kMaxNodes && s->data == static_cast<double>(made) + 1);
  s->grad = 1;
  CHECK(sweep(s.get()) && a->grad == s->data);
  CHECK(collect(s.get(), true).size() == made + 1);
  s = Held(arena, arena.make_leaf(0, 0));
  CHECK(arena.live_nodes() == 2 && a->refs == 1);
}

void lists_of_operands() {
  Arena arena(hooks());
  const Held a(arena, arena.make_leaf(3, 0));
  const std::size_t all = kMaxEdges - 2 * kPageNodes;  // a page for the node itself counts too
  const std::vector<Node*> operands(4 * kMaxCount, a.get());
  const std::vector<double> grads(operands.size(), 0.5);
  for (std::size_t count :
       {all + 1, kMaxEdges, kMaxEdges + 1, kMaxCount, kMaxCount + 1, kMaxCount + 4, operands.size()}) {
    CHECK(!arena.make_custom(operands.data(), count, grads.data(), 0, 1, 0) && arena.full());
    CHECK(a->refs == 1 && arena.live_nodes() == 1);
  }
  {
    Held n(arena, arena.make_custom(operands.data(), all, grads.data(), 0, 1, 0));
    CHECK(a->refs == 1 + all && n->operands->count == all);
    CHECK(!arena.make_custom(operands.data(), 1, nullptr, 0, 1, 0) && arena.full());
    Held none(arena, arena.make_custom(operands.data(), 0, nullptr, 1, 1, 0));  // nothing to count
    n->grad = 2;
    a->grad = 0;
    CHECK(sweep(n.get()) && a->grad == static_cast<double>(all));

    // Other operands are counted before those there are let go.
    CHECK(!arena.set_operands(n.get(), operands.data(), 1, nullptr, 0) && arena.full());
    CHECK(a->refs == 1 + all && n->operands->count == all && n->op == Op::custom);
    CHECK(arena.set_operands(n.get(), nullptr, 0, nullptr, 0) && n->op == Op::leaf && a->refs == 1);
    CHECK(arena.set_operands(n.get(), operands.data(), all, nullptr, 0) && a->refs == 1 + all);
  }
  CHECK(arena.live_nodes() == 1 && a->refs == 1);
  CHECK(fill_up(arena, a.get()).size() > kMaxNodes - kPageNodes);  // but for slots of the current page that are used up
}

void arrays() {
  Arena arena(hooks());
  const double ones[] = {1, 1};
  const auto make_leaf = [&] {
    ArrayDraft draft;
    CHECK(draft.shape.append(2) && !draft.settle());
    Buffer* buffer = make_buffer(2);
    CHECK(buffer);
    std::memcpy(buffer->values(), ones, sizeof ones);
    Node* n = make_array_node(arena, draft, 0, buffer);
    CHECK(n);
    return n;
  };
  const Held x(arena, make_leaf());
  const Held w(arena, arena.make_leaf(2, 0));
  std::vector<Node*> operands;
  const auto affine = [&](std::size_t count) {
    operands.assign(1, w.get());
    while (operands.size() < count) operands.push_back(operands.size() % 2 ? w.get() : x.get());
    ArrayDraft draft;
    draft.op = ArrayOp::affine;
    draft.count = count;
    draft.operands = operands.data();
    return draft;
  };
  for (std::size_t count : {kMaxEdges / 2 + 1, kMaxEdges, kMaxCount, kMaxCount + 4}) {
    ArrayDraft draft = affine(count | 1);
    const char* why = draft.settle();
    CHECK(why && std::strstr(why, "more operands than can be counted"));
  }
  std::vector<Held> nodes;
  const std::size_t count = (kMaxEdges / 4) | 1;
  Node* last = nullptr;
  do {
    ArrayDraft draft = affine(count);
    CHECK(!draft.settle());
    last = make_array_node(arena, draft, 0);
    if (last) nodes.emplace_back(arena, last);
  } while (last);
  CHECK(arena.full() && nodes.size() >= 2 && w->refs == 1 + nodes.size() * (count / 2 + 1));
  ArrayDraft draft = affine(count);
  CHECK(!draft.settle());
  Buffer* data = make_buffer(2);
  CHECK(data && !become_array(arena, nodes[0].get(), draft, data, nullptr) && arena.full());
  release(data);
  CHECK(nodes[0]->array->data->values()[0] == 2.0 + 2.0 * static_cast<double>(count / 2));
  nodes.pop_back();
  draft = affine(count);
  CHECK(!draft.settle());
  nodes.emplace_back(arena, make_array_node(arena, draft, 0));
  nodes.clear();
  CHECK(arena.live_nodes() == 2 && w->refs == 1 && x->refs == 1);
}

void holders() {
  Arena arena(hooks());
  const Held a(arena, arena.make_leaf(3, 0));
  std::size_t held = 0;
  for (; Arena::may_hold(a.get()); ++held) arena.hold(a.get());
  CHECK(held > kMaxCount / 4 && held + kMaxEdges < kMaxCount);
  {
    const std::vector<Held> nodes = fill_up(arena, a.get());
    CHECK(a->refs == 1 + held + 2 * nodes.size());  // all of both, and it has not wrapped
  }
  for (; held; --held) arena.let_go(a.get());
  CHECK(a->refs == 1);
}

void pinned_nodes() {
  Arena arena(hooks());
  Node* a = arena.make_leaf(3, kPinned);
  ++a->refs;
  auto* handle = new Handle{&arena, a, 1};
  a->handle = handle;
  {
    const std::vector<Held> nodes = fill_up(arena, a);
    CHECK(nodes.size() == kMaxNodes && handle->references == 1 + 2 * static_cast<long>(nodes.size()));
  }
  CHECK(handle->references == 1 && a->refs == 1);
  release(handle);
  CHECK(arena.live_nodes() == 0);
}

template <typename F>
bool too_long(F f) {
  try {
    f();
  } catch (const std::length_error& error) {
    CHECK(std::string(error.what()).find("a program can have at most " + std::to_string(kMaxProgram)) == 0);
    return true;
  }
  return false;
}

void programs_recorded() {
  Arena arena(hooks());
  const Held x(arena, arena.make_leaf(1, 0));
  x->handle = x.get();  // somebody shows it: it is no constant
  const auto chain = [&](std::size_t count) {
    const Held marker(arena, arena.make_constant(0, 0));  // whose page is not used again, so that ids rise
    const std::uint64_t since = Arena::id(marker.get());
    Held s(arena, arena.make_unary(Op::sin, x.get(), 0.5, 0));
    for (std::size_t i = 1; i < count; ++i) s = Held(arena, arena.make_unary(Op::sin, s.get(), 0.5, 0));
    const Recorded recorded = record(arena, {s.get()}, {x.get()}, {}, since, {90, 91, 92});
    return recorded.program.code.size();
  };
  CHECK(chain(kMaxProgram - 1) == kMaxProgram);
  CHECK(too_long([&] { chain(kMaxProgram); }));
  CHECK(too_long([&] { chain(kMaxProgram + 1); }));
  CHECK(chain(3) == 4);

  // Operands of `linear`: its derivatives are constants, so that instructions run out too; operands first.
  const auto listed = [&](std::size_t count) {
    const std::vector<Node*> operands(count, x.get());
    const std::vector<double> grads(count, 0.5);
    const Held marker(arena, arena.make_constant(0, 0));  // whose page is not used again, so that ids rise
    const std::uint64_t since = Arena::id(marker.get());
    const Held n(arena, arena.make_custom(operands.data(), count, grads.data(), 0, 1, 0));
    return record(arena, {n.get()}, {x.get()}, {}, since, {90, 91, 92}).program.pool.size();
  };
  CHECK(listed(kMaxProgram / 2 - 3) == 2 * (kMaxProgram / 2 - 3));
  CHECK(too_long([&] { listed(kMaxProgram / 2 + 1); }));
  CHECK(too_long([&] { listed(2 * kMaxProgram); }));

  const std::vector<Node*> inputs(kMaxProgram + 1, x.get());
  CHECK(too_long([&] { record(arena, {x.get()}, inputs, {}, 0, {90, 91, 92}); }));
  std::vector<Look> looks;
  for (std::size_t i = 0; i <= kMaxProgram; ++i) looks.push_back({GuardKind::truth, x.get(), 1, "here"});
  CHECK(too_long([&] { record(arena, {x.get()}, {x.get()}, looks, 0, {90, 91, 92}); }));
  CHECK(arena.live_nodes() == 1 && x->refs == 1 && x->grad == 0);
}

void no_edges_left_to_record_with() {
  Arena arena(hooks());
  const Held a(arena, arena.make_leaf(3, 0));
  const std::vector<Held> nodes = fill_up(arena, a.get());
  bool refused = false;
  try {
    record(arena, {nodes[0].get()}, {a.get()}, {}, 0, {90, 91, 92});
  } catch (const NoNodes& error) {
    refused = std::strstr(error.what(), "can be counted");
  }
  CHECK(refused);
}

void programs_read() {
  const auto text = [](std::size_t inputs, std::size_t instructions, std::size_t terms) {
    std::string out = "tapegrad program 1\ninputs " + std::to_string(inputs) + "\nparams 0\n%0 = input 0\n";
    for (std::size_t i = 1; i < instructions; ++i) out.append(1, '%').append(std::to_string(i)).append(" = sin %0\n");
    if (terms) out.append(1, '%').append(std::to_string(instructions)).append(" = sum");
    for (std::size_t i = 0; i < terms; ++i) out += " %0";
    return out + (terms ? "\n" : "") + "return %0\n";
  };
  CHECK(read_program(text(kMaxProgram, kMaxProgram, 0)).code.size() == kMaxProgram);
  CHECK(read_program(text(1, 1, kMaxProgram)).pool.size() == kMaxProgram);
  CHECK(too_long([&] { read_program(text(kMaxProgram + 1, 1, 0)); }));
  CHECK(too_long([&] { read_program(text(1, kMaxProgram + 1, 0)); }));
  CHECK(too_long([&] { read_program(text(1, 1, kMaxProgram + 1)); }));
  CHECK(too_long([&] { read_program("tapegrad program 1\nparams 999999999\nreturn\n"); }));
  Program p;  // what passes make of a program may be longer, but not without end
  for (std::size_t i = 0; i < 2 * kMaxProgram; ++i) CHECK(p.add({Code::constant}) == i);
  CHECK(too_long([&] { p.add({Code::constant}); }) && p.code.size() == 2 * kMaxProgram);
}

}  // namespace

int main() {
  one_leaf_with_all_consumers();
  leaves_need_no_counts();
  a_chain_to_the_end();
  lists_of_operands();
  arrays();
  holders();
  pinned_nodes();
  programs_recorded();
  no_edges_left_to_record_with();
  programs_read();
  return 0;
}
