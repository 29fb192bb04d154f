// test_failures.cpp: memory that runs out. Each of the first 500 allocations fails, alone and with all that follow; the
// work stops or goes on, but nothing leaks, and the same engine then does the work as if nothing had been.
#include <sys/mman.h>

#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "check.hpp"
#include "core/arrays/arrays.hpp"
#include "core/graph/sweep.hpp"
#include "core/ops/ops.hpp"
#include "core/program/passes/passes.hpp"
#include "core/program/record.hpp"
#include "core/replay/lower.hpp"
#include "core/replay/replay.hpp"
#include "core/replay/replay_lanes.hpp"

using namespace tapegrad;

// ---- allocations, all of them: operator new, and what the core calls by name (wrapped by the linker)

namespace {

long allocations = 0;  // since the count began
long fail_at = -1;     // which one fails; -1: none
bool fail_on = false;  // ... and all after it
long outstanding = 0;  // memory not given back

bool fails() {
  const long n = allocations++;
  return fail_at >= 0 && (fail_on ? n >= fail_at : n == fail_at);
}

}  // namespace

extern "C" {
void* __real_malloc(std::size_t);
void* __real_realloc(void*, std::size_t);
void __real_free(void*);
void* __real_mmap(void*, std::size_t, int, int, int, off_t);
void* __real_aligned_alloc(std::size_t, std::size_t);

void* __wrap_malloc(std::size_t size) {
  if (fails()) return nullptr;
  void* memory = __real_malloc(size);
  if (memory) ++outstanding;
  return memory;
}
void* __wrap_realloc(void* old, std::size_t size) {
  if (fails()) return nullptr;
  void* memory = __real_realloc(old, size);
  if (memory && !old) ++outstanding;
  return memory;
}
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
  if (fails()) return nullptr;
  void* memory = __real_aligned_alloc(alignment, size);
  if (memory) ++outstanding;
  return memory;
}
void __wrap_free(void* memory) {
  if (memory) --outstanding;
  __real_free(memory);
}
void* __wrap_mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) {
  return fails() ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);
}
}

namespace {

void* allocate(std::size_t size) {
  if (fails()) return nullptr;
  void* memory = __real_malloc(size ? size : 1);
  if (memory) ++outstanding;
  return memory;
}
void* allocate_aligned(std::size_t size, std::align_val_t alignment) {
  if (fails()) return nullptr;
  const auto a = static_cast<std::size_t>(alignment);
  void* memory = __real_aligned_alloc(a, (size + a - 1) / a * a);
  if (memory) ++outstanding;
  return memory;
}
void give_back(void* memory) {
  if (!memory) return;
  --outstanding;
  __real_free(memory);
}

}  // namespace

void* operator new(std::size_t size) {
  if (void* memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return allocate(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  if (void* memory = allocate_aligned(size, alignment)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate_aligned(size, alignment);
}
void operator delete(void* memory) noexcept {
  give_back(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  give_back(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  give_back(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  give_back(memory);
}

namespace {

HandleHooks no_handles() {
  return {[](void*) {}, [](void*) {}};
}

// A node counted as a variable counts it; null stands for one that could not be made.
class Variable {
 public:
  Variable(Arena& arena, Node* node) : arena_(&arena), node_(node) {
    if (!node) throw std::bad_alloc();
    ++node->refs;
  }
  Variable(Variable&& other) noexcept : arena_(other.arena_), node_(other.node_) { other.node_ = nullptr; }
  Variable& operator=(Variable&& other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~Variable() {
    if (node_) arena_->drop(node_);
  }
  Node* get() const { return node_; }
  Node* operator->() const { return node_; }

 private:
  Arena* arena_;
  Node* node_;
};

double graphs(Arena& arena) {
  Variable x(arena, arena.make_leaf(0.5, 0));
  Variable s(arena, arena.make_constant(1.0, 0));
  std::vector<Variable> kept;
  kept.reserve(20);  // a node that no variable counts yet would be lost
  for (int i = 0; i < 120; ++i) {
    s = Variable(arena, arena.make_binary(Op::mul, s.get(), x.get(), s->data * x->data, 0));
    s = Variable(arena, arena.make_unary(Op::tanh, s.get(), fn::tanh(s->data), 0));
    Node* operands[] = {s.get(), x.get()};
    const double grads[] = {1.0, 0.25};
    s = Variable(arena, arena.make_custom(operands, 2, grads, 1, s->data + 0.25 * x->data, 0));
    if (i % 10 == 0) {
      kept.emplace_back(arena, arena.make_powc(s.get(), 2.0, s->data * s->data, 0));
      if (!arena.set_operands(kept.back().get(), operands, 1, nullptr, 2)) throw std::bad_alloc();
    }
  }
  s->grad = 1.0;
  if (!sweep(s.get())) throw std::bad_alloc();
  const double by_sweep = x->grad;
  zero_gradients(s.get());
  s->flags |= kHasRule;
  s->grad = 1.0;
  sweep_with_rules(arena, s.get(), [](void*, Node* n) { return apply_rule(n); }, nullptr);
  CHECK(x->grad == by_sweep);
  return by_sweep;
}

Node* array_leaf(Arena& arena, std::size_t size) {
  ArrayDraft draft;
  CHECK(draft.shape.append(size) && !draft.settle());
  Buffer* data = make_buffer(size);
  if (!data) return nullptr;
  for (std::size_t i = 0; i < size; ++i) data->values()[i] = 0.1 * static_cast<double>(i % 10);
  Node* node = make_array_node(arena, draft, 0, data);
  if (!node) release(data);
  return node;
}

Node* array_table(Arena& arena, Op op, std::initializer_list<Node*> operands) {
  ArrayDraft draft;
  draft.op = ArrayOp::table;
  draft.table = op;
  draft.operands = operands.begin();
  draft.count = static_cast<std::uint32_t>(operands.size());
  return draft.settle() ? nullptr : make_array_node(arena, draft, 0);
}

double arrays(Arena& arena) {
  Variable a(arena, array_leaf(arena, 100)), b(arena, array_leaf(arena, 100));
  Variable s(arena, array_table(arena, Op::mul, {a.get(), b.get()}));
  for (int i = 0; i < 10; ++i) {
    s = Variable(arena, array_table(arena, Op::tanh, {s.get()}));
    s = Variable(arena, array_table(arena, Op::add, {s.get(), a.get()}));
  }
  Buffer* ones = renew(s->array->grad, 100);
  if (!ones) throw std::bad_alloc();
  for (int i = 0; i < 100; ++i) ones->values()[i] = 1.0;
  if (!sweep(s.get(), &arena)) throw std::bad_alloc();
  double total = 0;
  for (int i = 0; i < 100; ++i) total += a->array->grad->values()[i];
  return total;
}

double programs(Arena& arena) {
  Variable x(arena, arena.make_leaf(0.5, 0)), w(arena, arena.make_leaf(-0.25, 0));
  int marker = 0;
  struct Show {  // a leaf that somebody holds is a parameter
    Node* node;
    Show(Node* n, void* handle) : node(n) { n->handle = handle; }
    ~Show() { node->handle = nullptr; }
  } show_x(x.get(), &marker), show_w(w.get(), &marker);
  Variable since(arena, arena.make_constant(0.0, 0));
  Variable s(arena, arena.make_binary(Op::mul, x.get(), w.get(), x->data * w->data, 0));
  for (int i = 0; i < 20; ++i) {
    s = Variable(arena, arena.make_unary(Op::tanh, s.get(), fn::tanh(s->data), 0));
    s = Variable(arena, arena.make_binary(Op::add, s.get(), w.get(), s->data + w->data, 0));
  }
  const std::vector<Look> looks = {{GuardKind::truth, s.get(), 1.0, "a line of the program"}};
  const Recorded recorded = record(arena, {s.get()}, {x.get()}, looks, Arena::id(since.get()), {90, 91, 92});
  const Program program = read_program(recorded.program.text());
  Lowering how;
  how.forward_only = false;
  how.param_gradients = true;
  how.input_gradients.assign(1, true);
  const Lowered lowered = lower(simplify(program, true, {}, nullptr), how);
  const ScalarCode code(lowered);
  std::vector<double> m(code.slots());
  code.prepare(m.data());
  m[lowered.input_base] = 0.5;
  m[lowered.param_base] = -0.25;
  code.forward(m.data());
  CHECK(m[lowered.outputs[0]] == s->data);
  CHECK(recorded.params.size() == 1 && program.inputs == 1);
  m[lowered.seed] = 1.0;
  code.backward(m.data());

  const LaneCode lanes(lower_steps(simplify(program, false, {}, nullptr), how));
  std::vector<double> xs(100, 0.5), out(100), by_x(100);
  const double *input = xs.data(), param = -0.25;
  double *output = out.data(), *gradient = by_x.data(), by_w = 0;
  const std::size_t stride = 1;
  LaneRun run;
  run.lanes = 100;
  run.threads = 3;
  run.params = &param;
  run.inputs = &input;
  run.input_strides = &stride;
  run.outputs = &output;
  run.input_gradients = &gradient;
  run.gradient_strides = &stride;
  run.param_gradients = &by_w;
  LaneGuards guards;
  lanes.run(run, &guards);
  CHECK_NEAR(out[99], s->data, 1e-13);
  CHECK(m[lowered.input_gradients] != 0);
  return m[lowered.input_gradients];
}

double work(Arena& arena) {
  const double first = programs(arena) + arrays(arena);
  return first + graphs(arena) + programs(arena);
}

}  // namespace

int main() {
  constexpr long kFirst = 500;
  double expected;
  {
    Arena arena(no_handles());
    expected = work(arena);
    allocations = 0;
    CHECK(work(arena) == expected);
    std::printf("test_failures: one run allocates %ld times\n", allocations);
    CHECK(allocations > kFirst);
  }
  long survived = 0;
  for (bool on : {false, true}) {
    for (long n = 0; n < kFirst; ++n) {
      Arena arena(no_handles());
      fail_on = on;
      allocations = 0;
      fail_at = n;
      bool finished = false;
      double result = 0;
      try {
        result = work(arena);
        finished = true;
      } catch (const std::bad_alloc&) {
      } catch (const std::system_error&) {  // a thread that could not be started
      }
      CHECK(allocations > n);
      fail_at = -1;
      CHECK(!finished || (result == expected && !on));
      CHECK(arena.live_nodes() == 0);
      const long before = outstanding;
      CHECK(work(arena) == expected);
      CHECK(work(arena) == expected);
      CHECK(arena.live_nodes() == 0);
      CHECK(outstanding <= before + 200);  // pools for the next graph, no more
      ++survived;
    }
  }
  // What the pools keep does not grow from one round to the next.
  const long level = outstanding;
  for (long n = 0; n < kFirst; ++n) {
    Arena arena(no_handles());
    allocations = 0;
    fail_on = false;
    fail_at = n;
    try {
      work(arena);
    } catch (const std::exception&) {
    }
    fail_at = -1;
  }
  CHECK(outstanding <= level + 20);
  std::printf("test_failures: passed, %ld failures survived\n", survived);
}
