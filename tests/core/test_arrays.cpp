// test_arrays.cpp: array nodes: every operation's gradients against central differences over many shapes, lanes against
// scalars, memory down to the last byte, failing allocations, and sweeps that let other threads run.
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/arrays/arrays.hpp"
#include "core/graph/sweep.hpp"
#include "core/ops/ops.hpp"

using namespace tapegrad;
using namespace tapegrad::test;

// Aligned allocations fail from a given one on, to see what is left behind then.
long allocations_left = -1;
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  if (allocations_left == 0 || bytes >> 40) return nullptr;
  if (allocations_left > 0) --allocations_left;
  const auto unit = static_cast<std::size_t>(alignment);
  return std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}

namespace {

std::mt19937 generator(11);

double random_number(double low = -2, double high = 2) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}

Shape shape(std::initializer_list<std::size_t> dims) {
  Shape s;
  for (const std::size_t n : dims) CHECK(s.append(n));
  return s;
}

Held leaf(Arena& arena, const Shape& s, double low = -2, double high = 2) {
  if (!s.ndim) return {arena, arena.make_leaf(random_number(low, high), 0)};
  ArrayDraft draft;
  draft.shape = s;
  CHECK(!draft.settle());
  Buffer* buffer = make_buffer(s.size);
  for (std::size_t i = 0; i < s.size; ++i) buffer->values()[i] = random_number(low, high);
  return {arena, make_array_node(arena, draft, 0, buffer)};
}

double& lane(Node* n, std::size_t i) {
  return n->flags & kArray ? n->array->data->values()[i] : n->data;
}
std::size_t size(const Node* n) {
  return shape_of(n).size;
}

double grad(Node* n, std::size_t i) {
  if (!(n->flags & kArray)) return n->grad;
  return n->array->grad ? n->array->grad->values()[i] : 0.0;
}

void set_seed(Node* n, std::size_t i, double g) {
  if (n->flags & kArray) {
    own_grad(*n->array)->values()[i] = g;
  } else {
    n->grad = g;
  }
}

using Operands = std::vector<Node*>;
using Build = std::function<Node*(Arena&, const Operands&)>;

Node* make(Arena& arena, ArrayDraft draft, const Operands& operands) {
  draft.operands = operands.data();
  draft.count = operands.size();
  if (const char* why = draft.settle()) {
    std::fprintf(stderr, "%s: the shapes %s\n", array_name(draft.op), why);
    std::exit(1);
  }
  Node* n = make_array_node(arena, draft, 0);
  CHECK(n);
  return n;
}

// d(seed . result)/d(every lane of every operand), by the rule and by central differences of the value.
void check_gradients(const char* what, const Build& build, std::initializer_list<Shape> shapes, double low = -2,
                     double high = 2, bool first_gradient = true) {
  Arena arena(hooks());
  std::vector<Held> leaves;
  Operands operands;
  for (const Shape& s : shapes) {
    leaves.push_back(leaf(arena, s, low, high));
    operands.push_back(leaves.back().get());
  }
  std::vector<double> seed;
  const auto value = [&] {
    Held out(arena, build(arena, operands));
    double total = 0;
    for (std::size_t i = 0; i < size(out.get()); ++i) {
      if (seed.size() <= i) seed.push_back(random_number());
      total += seed[i] * lane(out.get(), i);
    }
    return total;
  };
  value();
  {
    Held out(arena, build(arena, operands));
    // Twice: a gradient that is there already is added to.
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < size(out.get()); ++i) set_seed(out.get(), i, seed[i]);
      CHECK(apply_rule(out.get()));
    }
  }
  for (std::size_t k = first_gradient ? 0 : 1; k < operands.size(); ++k) {
    for (std::size_t i = 0; i < size(operands[k]); ++i) {
      double& x = lane(operands[k], i);
      const double at = x, h = 1e-5;
      x = at + h;
      const double above = value();
      x = at - h;
      const double below = value();
      x = at;
      const double expected = 2 * (above - below) / (2 * h);
      if (!(std::fabs(grad(operands[k], i) - expected) <= 1e-5 * (1 + std::fabs(expected)))) {
        std::fprintf(stderr, "%s: operand %zu, lane %zu: gradient %.10g, difference %.10g\n", what, k, i,
                     grad(operands[k], i), expected);
        std::exit(1);
      }
    }
  }
}

Build table(Op op, double exponent = 0) {
  return [=](Arena& arena, const Operands& operands) {
    ArrayDraft draft;
    draft.op = ArrayOp::table;
    draft.table = op;
    draft.number = exponent;
    return make(arena, draft, operands);
  };
}

void lane_by_lane() {
  const Shape number, long_vector = shape({37}), matrix = shape({3, 5});
  for (int i = static_cast<int>(Op::powc) + 1; i < static_cast<int>(Op::count); ++i) {
    const Op op = static_cast<Op>(i);
    if (kArity[i] == 1) {
      const bool above_one = op == Op::arccosh;
      check_gradients(info(op).name, table(op), {matrix}, above_one ? 1.1 : 0.1, above_one ? 2.0 : 0.9);
      continue;
    }
    const double low = op == Op::pow ? 0.3 : -2;
    for (const auto& shapes : {std::pair{matrix, matrix},
                               {matrix, number},
                               {number, matrix},
                               {matrix, shape({5})},
                               {shape({5}), matrix},
                               {shape({3, 1}), matrix},
                               {shape({3, 1}), shape({1, 5})},
                               {shape({2, 1, 3}), shape({4, 1})},
                               {shape({1}), shape({1})},
                               {long_vector, shape({2, 37})},
                               {shape({9, 2}), shape({2})},
                               {shape({2, 40}), shape({2, 1})},
                               {shape({40}), shape({2, 1})},
                               {shape({0}), shape({1})},
                               {shape({0, 3}), shape({3})}})
      check_gradients(info(op).name, table(op), {shapes.first, shapes.second}, low);
    // One array as both operands.
    check_gradients(
        info(op).name, [=](Arena& arena, const Operands& o) { return table(op)(arena, {o[0], o[0]}); }, {matrix}, 0.3);
  }
  for (const double exponent : {2.0, -1.0, 0.5, 3.0, 1.0, 0.0})
    check_gradients("powc", table(Op::powc, exponent), {matrix}, 0.3);
  const Build where = [](Arena& arena, const Operands& operands) {
    ArrayDraft draft;
    draft.op = ArrayOp::where;
    Held condition = leaf(arena, shape({3, 1}));
    lane(condition.get(), 0) = 0;
    return make(arena, draft, {condition.get(), operands[0], operands[1]});
  };
  check_gradients("where", where, {matrix, number});
  check_gradients("where", where, {shape({5}), matrix});
}

void reductions() {
  for (const ArrayOp op : {ArrayOp::sum, ArrayOp::mean, ArrayOp::max, ArrayOp::min}) {
    for (std::uint32_t axes = 0; axes < 8; ++axes) {
      for (const bool keeps : {false, true}) {
        const Build build = [=](Arena& arena, const Operands& operands) {
          ArrayDraft draft;
          draft.op = op;
          draft.axes = axes;
          draft.keeps_axes = keeps;
          return make(arena, draft, operands);
        };
        check_gradients(array_name(op), build, {shape({3, 2, 4})});
        check_gradients(array_name(op), build, {shape({1, 20, 1})});
        if (op == ArrayOp::sum) check_gradients(array_name(op), build, {shape({2, 0, 4})});
      }
    }
  }
  {
    Arena arena(hooks());
    Held x = leaf(arena, shape({2, 3}));
    for (const std::size_t i : {0, 1, 2, 3, 4, 5}) lane(x.get(), i) = static_cast<double>(i * i);
    ArrayDraft draft;
    draft.op = ArrayOp::mean;
    draft.axes = 2;
    Held mean(arena, make(arena, draft, {x.get()}));
    CHECK(lane(mean.get(), 0) == 5.0 / 3 && lane(mean.get(), 1) == 50.0 / 3);
  }
  // Lanes that tie share the gradient.
  Arena arena(hooks());
  Held x = leaf(arena, shape({4}));
  for (const std::size_t i : {0, 1, 2, 3}) lane(x.get(), i) = i == 1 ? -1.0 : 5.0;
  ArrayDraft draft;
  draft.op = ArrayOp::max;
  draft.axes = 1;
  Held top(arena, make(arena, draft, {x.get()}));
  CHECK(!(top->flags & kArray) && top->data == 5.0);
  top->grad = 3.0;
  CHECK(sweep(top.get()));
  for (const std::size_t i : {0, 1, 2, 3}) CHECK(grad(x.get(), i) == (i == 1 ? 0.0 : 1.0));
}

void products() {
  const Build dot = [](Arena& arena, const Operands& operands) {
    ArrayDraft draft;
    draft.op = ArrayOp::dot;
    return make(arena, draft, operands);
  };
  for (const auto& shapes : {std::pair{shape({5}), shape({5})},
                             {shape({3, 5}), shape({5})},
                             {shape({3}), shape({3, 4})},
                             {shape({3, 5}), shape({5, 4})},
                             {shape({1, 1}), shape({1, 1})},
                             {shape({0}), shape({0})},
                             {shape({2, 0}), shape({0, 3})},
                             {shape({0, 2}), shape({2, 3})}})
    check_gradients("dot", dot, {shapes.first, shapes.second});
  const Build affine = [](Arena& arena, const Operands& operands) {
    ArrayDraft draft;
    draft.op = ArrayOp::affine;
    return make(arena, draft, operands);
  };
  check_gradients("affine", affine, {{}, {}, shape({7})});
  check_gradients("affine", affine, {{}, {}, shape({2, 3}), {}, {}, {}, shape({2, 3})});
  check_gradients("affine",
                  [&](Arena& arena, const Operands& o) { return affine(arena, {o[0], o[1], o[2], o[1], o[2]}); },
                  {{}, {}, shape({4})});
}

void places() {
  const auto with = [](ArrayOp op, const Shape& s, std::vector<std::int64_t> params) -> Build {
    return [=](Arena& arena, const Operands& operands) {
      ArrayDraft draft;
      draft.op = op;
      draft.shape = s;
      draft.params = params.data();
      draft.param_count = params.size();
      return make(arena, draft, operands);
    };
  };
  check_gradients("a lane", with(ArrayOp::view, {}, {4}), {shape({6})});
  check_gradients("a row", with(ArrayOp::view, shape({3}), {3, 1}), {shape({2, 3})});
  check_gradients("a column", with(ArrayOp::view, shape({2}), {1, 3}), {shape({2, 3})});
  check_gradients("backwards", with(ArrayOp::view, shape({3}), {5, -2}), {shape({6})});
  check_gradients("nothing", with(ArrayOp::view, shape({0}), {0, 1}), {shape({6})});
  check_gradients("gather", with(ArrayOp::gather, shape({2, 2}), {3, 0, 3, 1}), {shape({4})});
  check_gradients("reshape", with(ArrayOp::reshape, shape({3, 2}), {}), {shape({6})});
  check_gradients("reshape a number", with(ArrayOp::reshape, shape({1, 1}), {}), {Shape()});
  check_gradients("transpose", with(ArrayOp::transpose, {}, {1, 0}), {shape({2, 3})});
  check_gradients("transpose", with(ArrayOp::transpose, {}, {2, 0, 1}), {shape({2, 3, 4})});
}

void local_gradients() {
  // z = (given), dz/dx = l: as x * l has it.
  for (const auto& shapes :
       {std::pair{shape({3}), shape({3})}, {Shape(), shape({3})}, {shape({2, 3}), shape({3})}, {shape({3}), Shape()}}) {
    Arena arena(hooks());
    Held x = leaf(arena, shapes.first), local = leaf(arena, shapes.second);
    Node* operands[] = {x.get(), local.get()};
    ArrayDraft draft;
    draft.op = ArrayOp::custom;
    draft.operands = operands;
    draft.count = 1;
    draft.has_local_grads = true;
    draft.shape = shape({2, 3});
    CHECK(!draft.settle());
    Buffer* data = make_buffer(6);
    std::memset(data->values(), 0, 6 * sizeof(double));
    Held z(arena, make_array_node(arena, draft, 0, data));
    std::vector<double> expected(size(x.get()));
    for (std::size_t i = 0; i < 6; ++i) {
      set_seed(z.get(), i, static_cast<double>(i + 1));
      expected[i % size(x.get())] += static_cast<double>(i + 1) * lane(local.get(), i % size(local.get()));
    }
    CHECK(sweep(z.get()));
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK_NEAR(grad(x.get(), i), expected[i], 1e-14);
  }
  // Each of two operands has its own.
  Arena arena(hooks());
  const Held x = leaf(arena, shape({2})), y = leaf(arena, shape({2})), by_x = leaf(arena, shape({2})),
             by_y = leaf(arena, shape({2}));
  Node* operands[] = {x.get(), y.get(), by_x.get(), by_y.get()};
  ArrayDraft draft;
  draft.op = ArrayOp::custom;
  draft.operands = operands;
  draft.count = 2;
  draft.has_local_grads = true;
  draft.shape = shape({2});
  CHECK(!draft.settle());
  const Held z(arena, make_array_node(arena, draft, 0, make_buffer(2)));
  for (const std::size_t i : {0, 1}) set_seed(z.get(), i, 3);
  CHECK(sweep(z.get()));
  for (const std::size_t i : {0, 1}) {
    CHECK(grad(x.get(), i) == 3 * lane(by_x.get(), i) && grad(y.get(), i) == 3 * lane(by_y.get(), i));
    CHECK(grad(by_x.get(), i) == 0 && grad(by_y.get(), i) == 0);
  }
}

// Arrays so large that other threads get a turn, with a number as the other operand: whole numbers, which add up
// exactly.
void large_arrays_with_numbers() {
  constexpr std::size_t kLanes = 200'000;
  static int pauses;
  Arena arena(hooks());
  const Held x = leaf(arena, shape({kLanes})), y(arena, arena.make_leaf(3, 0));
  double total = 0;
  for (std::size_t i = 0; i < kLanes; ++i) total += lane(x.get(), i) = static_cast<double>(i % 7);
  set_pause_hooks({[]() -> void* { return ++pauses, nullptr; }, [](void*) {}});
  for (const bool first : {false, true}) {
    const Held z(arena, table(Op::mul)(arena, first ? Operands{y.get(), x.get()} : Operands{x.get(), y.get()}));
    for (std::size_t i = 0; i < kLanes; ++i) set_seed(z.get(), i, 2);
    CHECK(sweep(z.get(), &arena));
  }
  set_pause_hooks({});
  CHECK(pauses >= 4 && y->grad == 2 * 2 * total);
  for (std::size_t i = 0; i < kLanes; ++i) CHECK(grad(x.get(), i) == 2 * 2 * 3);
}

void what_does_not_fit_is_refused() {
  Arena arena(hooks());
  Held a = leaf(arena, shape({3})), b = leaf(arena, shape({2})), number = leaf(arena, {}),
       cube = leaf(arena, shape({2, 2, 2}));
  const auto wrong = [&](ArrayOp op, Operands operands, Op row = Op::add, std::vector<std::int64_t> params = {},
                         const Shape& s = {}, std::uint32_t axes = 0) {
    ArrayDraft draft;
    draft.op = op;
    draft.table = row;
    draft.operands = operands.data();
    draft.count = operands.size();
    draft.params = params.data();
    draft.param_count = params.size();
    draft.shape = s;
    draft.axes = axes;
    return draft.settle() != nullptr;
  };
  CHECK(wrong(ArrayOp::leaf, {}));
  CHECK(wrong(ArrayOp::table, {a.get(), b.get()}));
  CHECK(wrong(ArrayOp::table, {a.get()}));
  CHECK(wrong(ArrayOp::table, {a.get(), a.get()}, Op::leaf));
  CHECK(wrong(ArrayOp::table, {a.get(), a.get()}, Op::count));
  CHECK(wrong(ArrayOp::table, {number.get(), number.get()}));
  CHECK(wrong(ArrayOp::where, {a.get(), a.get()}));
  CHECK(wrong(ArrayOp::where, {a.get(), b.get(), a.get()}));
  CHECK(wrong(ArrayOp::sum, {number.get()}));
  CHECK(wrong(ArrayOp::sum, {a.get()}, Op::add, {}, {}, 2));
  CHECK(wrong(ArrayOp::dot, {a.get(), b.get()}));
  CHECK(wrong(ArrayOp::dot, {a.get(), number.get()}));
  CHECK(wrong(ArrayOp::dot, {cube.get(), a.get()}));
  CHECK(wrong(ArrayOp::affine, {number.get(), a.get(), a.get()}));
  CHECK(wrong(ArrayOp::affine, {number.get(), number.get()}));
  CHECK(wrong(ArrayOp::affine, {number.get(), number.get(), a.get(), number.get(), b.get()}));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {3}));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {-1}));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {0, 2}, shape({3})));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {0, -1}, shape({2})));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {0}, shape({2})));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {0, INT64_MAX}, shape({2})));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {0, INT64_MIN}, shape({2})));
  CHECK(wrong(ArrayOp::view, {a.get()}, Op::add, {0, 1}, shape({SIZE_MAX / 32})));
  CHECK(wrong(ArrayOp::gather, {a.get()}, Op::add, {0, 3}, shape({2})));
  CHECK(wrong(ArrayOp::gather, {a.get()}, Op::add, {0}, shape({2})));
  CHECK(wrong(ArrayOp::reshape, {a.get()}, Op::add, {}, shape({2})));
  CHECK(wrong(ArrayOp::transpose, {cube.get()}, Op::add, {0, 1}));
  CHECK(wrong(ArrayOp::transpose, {cube.get()}, Op::add, {0, 1, 1}));
  CHECK(wrong(ArrayOp::transpose, {cube.get()}, Op::add, {0, 1, 3}));
  Shape s = shape({SIZE_MAX / 32});
  CHECK(!s.append(3));
  Shape empty = shape({0, SIZE_MAX / 32});
  CHECK(!empty.append(3));
  for (int i = 0; i < kMaxDims - 1; ++i) CHECK(s.append(1));
  CHECK(!s.append(1));
}

// A program over lanes gives in each lane what the program over numbers gives.
void lanes_are_scalars() {
  Arena arena(hooks());
  constexpr std::size_t n = 23;
  Held w(arena, arena.make_leaf(0.7, 0)), x = leaf(arena, shape({n}), 0.2, 2.0);
  const auto program = [&](Node* input) {
    const auto step = [&](Op op, Node* a, Node* b) -> Node* {
      const Operands operands = b ? Operands{a, b} : Operands{a};
      bool array = false;
      for (const Node* o : operands) array |= (o->flags & kArray) != 0;
      if (array) return table(op)(arena, operands);
      bool is_int;
      double z = 0;
      if (!b) CHECK(evaluate_unary(op, a->data, false, &z, &is_int) == Status::ok);
      if (op == Op::add) z = a->data + b->data;
      if (op == Op::mul) z = a->data * b->data;
      return b ? arena.make_binary(op, a, b, z, 0) : arena.make_unary(op, a, z, 0);
    };
    Node* product = step(Op::mul, w.get(), input);
    return step(Op::tanh, step(Op::add, step(Op::mul, product, product), input), nullptr);
  };
  std::vector<double> data, grads;
  double w_grad = 0;
  for (std::size_t i = 0; i < n; ++i) {
    Held one(arena, arena.make_leaf(lane(x.get(), i), 0));
    w->grad = 0;
    Held out(arena, program(one.get()));
    out->grad = 1;
    CHECK(sweep(out.get()));
    data.push_back(out->data);
    grads.push_back(one->grad);
    w_grad += w->grad;
  }
  w->grad = 0;
  Held out(arena, program(x.get()));
  for (std::size_t i = 0; i < n; ++i) set_seed(out.get(), i, 1.0);
  CHECK(sweep(out.get()));
  for (std::size_t i = 0; i < n; ++i) {
    CHECK_NEAR(lane(out.get(), i), data[i], 1e-15);
    CHECK_NEAR(grad(x.get(), i), grads[i], 1e-14);
  }
  CHECK_NEAR(w->grad, w_grad, 1e-13);
}

// Random graphs over arrays of one shape and numbers, swept several times, against the same graph over each lane:
// however gradients are shared between nodes, each node has its own.
void random_graphs() {
  constexpr Op kOps[] = {Op::add, Op::add, Op::add, Op::mul, Op::mul, Op::sin, Op::powc};
  for (int round = 0; round < 60; ++round) {
    const std::size_t n = round % 3 ? 5 : 40;
    Arena arena(hooks());
    std::vector<Held> lanes_of;                 // the graph over arrays and numbers
    std::vector<std::vector<Held>> scalars(n);  // the same over lane i
    const auto pick = [&] { return std::uniform_int_distribution<std::size_t>(0, lanes_of.size() - 1)(generator); };
    for (int k = 0; k < 4; ++k) {
      lanes_of.push_back(leaf(arena, k < 2 ? shape({n}) : shape({})));
      for (std::size_t i = 0; i < n; ++i)
        scalars[i].emplace_back(arena, arena.make_leaf(lane(lanes_of.back().get(), k < 2 ? i : 0), 0));
    }
    for (int k = 0; k < 12; ++k) {
      const Op op = kOps[std::uniform_int_distribution<std::size_t>(0, std::size(kOps) - 1)(generator)];
      const bool binary = kArity[static_cast<int>(op)] == 2;
      const std::size_t a = binary ? pick() : pick() % 2, b = pick();
      if (!((lanes_of[a]->flags | lanes_of[b]->flags) & kArray)) continue;
      const Operands operands = binary ? Operands{lanes_of[a].get(), lanes_of[b].get()} : Operands{lanes_of[a].get()};
      lanes_of.emplace_back(arena, table(op, 2.0)(arena, operands));
      for (std::size_t i = 0; i < n; ++i) {
        Node *x = scalars[i][a].get(), *y = scalars[i][b].get();
        const double z = lane(lanes_of.back().get(), i);
        Node* node = binary           ? arena.make_binary(op, x, y, z, 0)
                     : op == Op::powc ? arena.make_powc(x, 2.0, z, 0)
                                      : arena.make_unary(op, x, z, 0);
        scalars[i].emplace_back(arena, node);
      }
    }
    // Two roots, so that gradients from one sweep are there in the next, in any state.
    for (std::size_t turn = 0; turn < 4; ++turn) {
      const std::size_t root = lanes_of.size() - 1 - turn % 2;
      if (!(lanes_of[root]->flags & kArray)) continue;
      for (std::size_t i = 0; i < n; ++i) {
        const double seed = random_number();
        set_seed(lanes_of[root].get(), i, seed);
        scalars[i][root]->grad = seed;
        CHECK(sweep(scalars[i][root].get()));
      }
      CHECK(sweep(lanes_of[root].get()));
    }
    for (std::size_t k = 0; k < lanes_of.size(); ++k) {
      double total = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double expected = scalars[i][k]->grad;
        total += expected;
        if (lanes_of[k]->flags & kArray) CHECK_NEAR(grad(lanes_of[k].get(), i), expected, 1e-12);
      }
      if (!(lanes_of[k]->flags & kArray)) CHECK_NEAR(lanes_of[k]->grad, total, 1e-12);
    }
  }
  CHECK(buffer_bytes() == 0);
}

// A sum hands its gradient on without a copy; whoever changes or shows one has its own.
void gradients_are_shared_until_written() {
  {
    Arena arena(hooks());
    Held x = leaf(arena, shape({100})), y = leaf(arena, shape({100})), w = leaf(arena, {});
    const std::size_t one = buffer_bytes() / 2;
    Held s(arena, table(Op::add)(arena, {x.get(), y.get()})), t(arena, table(Op::add)(arena, {s.get(), w.get()}));
    for (std::size_t i = 0; i < 100; ++i) set_seed(t.get(), i, 2.0);
    CHECK(buffer_bytes() == 5 * one);
    CHECK(sweep(t.get()));
    CHECK(buffer_bytes() == 5 * one && x->array->grad == t->array->grad && y->array->grad == s->array->grad);
    CHECK(w->grad == 200.0);
    own_grad(*x->array)->values()[3] = 7.0;
    CHECK(buffer_bytes() == 6 * one && grad(y.get(), 3) == 2.0 && grad(t.get(), 3) == 2.0 && grad(x.get(), 4) == 2.0);
    CHECK(apply_rule(s.get()));
    CHECK(grad(x.get(), 3) == 9.0 && grad(y.get(), 3) == 4.0 && grad(t.get(), 3) == 2.0 && grad(s.get(), 3) == 2.0);
    // What somebody outside looks at is not handed on.
    Held u(arena, table(Op::add)(arena, {leaf(arena, shape({100})).get(), w.get()}));
    for (std::size_t i = 0; i < 100; ++i) set_seed(u.get(), i, 1.0);
    Buffer* view = u->array->grad;
    retain(view);
    CHECK(apply_rule(u.get()));
    Node* operand = u->array->operands()[0];
    CHECK(operand->array->grad != view && grad(operand, 99) == 1.0);
    release(view);
    // Both operands at once, or twice the same.
    Held v(arena, table(Op::add)(arena, {operand, operand}));
    for (std::size_t i = 0; i < 100; ++i) set_seed(v.get(), i, 3.0);
    CHECK(apply_rule(v.get()));
    CHECK(grad(operand, 50) == 7.0);
  }
  CHECK(buffer_bytes() == 0);
}

// As below, for arrays that take the short way.
void failing_allocations_of_short_rules() {
  for (const Op op : {Op::add, Op::mul}) {
    for (long after = 0; after < 3; ++after) {
      Arena arena(hooks());
      Held x = leaf(arena, shape({700})), y = leaf(arena, shape({700}));
      Held s(arena, table(op)(arena, {x.get(), y.get()}));
      for (std::size_t i = 0; i < 700; ++i) set_seed(s.get(), i, 1.0);
      Buffer* view = s->array->grad;
      retain(view);  // so that nothing is shared
      Buffer* hoard[4096];
      std::size_t hoarded = 0;
      allocations_left = 0;
      while (hoarded < 4096 && (hoard[hoarded] = make_buffer(700))) ++hoarded;
      CHECK(hoarded < 4096);
      allocations_left = after;
      CHECK(apply_rule(s.get()) == (after >= 2));
      allocations_left = -1;
      for (std::size_t i = 0; i < hoarded; ++i) release(hoard[i]);
      release(view);
      if (after >= 2) {
        CHECK(grad(x.get(), 6) == (op == Op::add ? 1.0 : lane(y.get(), 6)));
      } else if (op == Op::mul) {
        CHECK(!x->array->grad && !y->array->grad);
      }
      CHECK(apply_rule(s.get()));
    }
  }
  CHECK(buffer_bytes() == 0);
}

void memory_goes_with_the_nodes() {
  CHECK(buffer_bytes() == 0);
  {
    Arena arena(hooks());
    Held x = leaf(arena, shape({1000}));
    const std::size_t one = buffer_bytes();
    {
      Held s(arena, table(Op::exp)(arena, {x.get()}));
      for (int i = 0; i < 50; ++i) s = Held(arena, table(Op::mul)(arena, {s.get(), x.get()}));
      CHECK(buffer_bytes() == 52 * one && arena.live_nodes() == 52);
      set_seed(s.get(), 0, 1.0);
      CHECK(sweep(s.get()));
      CHECK(buffer_bytes() == 104 * one);
    }
    CHECK(buffer_bytes() == 2 * one && arena.live_nodes() == 1);  // x and its gradient
    Buffer* view = x->array->data;
    retain(view);
    x = leaf(arena, {});
    CHECK(buffer_bytes() == one && view->values()[0] == view->values()[0]);
    release(view);
    CHECK(buffer_bytes() == 0 && arena.live_nodes() == 1);
  }
  // Sizes of every class, given back and taken again.
  std::vector<Buffer*> buffers;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t n = 0; n < 5'000'000; n = n * 5 / 4 + 1) {
      buffers.push_back(make_buffer(n));
      if (n) buffers.back()->values()[0] = buffers.back()->values()[n - 1] = 1.0;
    }
    for (Buffer* buffer : buffers) release(buffer);
    buffers.clear();
    CHECK(buffer_bytes() == 0);
  }
  CHECK(!make_buffer(SIZE_MAX / 8) && !make_buffer(SIZE_MAX / 64));
}

void an_array_becomes_another() {
  Arena arena(hooks());
  Held x = leaf(arena, shape({3}));
  Held n(arena, arena.make_constant(1.5, 0));
  ArrayDraft draft;
  draft.shape = shape({2});
  CHECK(become_array(arena, n.get(), draft, make_buffer(2), nullptr));
  CHECK((n->flags & kArray) && std::isnan(n->data) && is_leaf(n.get()) && n->mark == kLeafMark);
  Node* operands[] = {x.get()};
  draft.op = ArrayOp::custom;
  draft.operands = operands;
  draft.count = 1;
  CHECK(Arena::precedes(x.get(), n.get()));
  CHECK(become_array(arena, n.get(), draft, make_buffer(2), make_buffer(2)));
  CHECK(!is_leaf(n.get()) && x->refs == 2 && collect(n.get(), true).size() == 2);
  CHECK(arena.set_operands(n.get(), nullptr, 0, nullptr, 0));
  CHECK(!(n->flags & kArray) && is_leaf(n.get()) && x->refs == 1);
}

// Without memory for a gradient nothing is marked, nothing leaks, and the next sweep is right.
void failing_allocations() {
  for (long after = 0; after < 8; ++after) {
    Arena arena(hooks());
    Held x = leaf(arena, shape({100'000})), y = leaf(arena, shape({100'000}));
    Held s(arena, table(Op::mul)(arena, {x.get(), y.get()}));
    for (int i = 0; i < 3; ++i) s = Held(arena, table(Op::add)(arena, {s.get(), x.get()}));
    for (std::size_t i = 0; i < 100'000; ++i) set_seed(s.get(), i, 1.0);
    Buffer* hoard[64];  // so that no free block is left
    std::size_t hoarded = 0;
    allocations_left = 0;
    while (hoarded < 64 && (hoard[hoarded] = make_buffer(100'000))) ++hoarded;
    CHECK(hoarded < 64);
    allocations_left = after;
    const bool fine = sweep(s.get());
    CHECK(fine == (after >= 5));
    Node* failed = nullptr;
    allocations_left = 0;
    ArrayDraft draft;
    draft.op = ArrayOp::table;
    draft.table = Op::exp;
    Node* operand = x.get();
    draft.operands = &operand;
    draft.count = 1;
    CHECK(!draft.settle());
    if (after <= 5) failed = make_array_node(arena, draft, 0);
    CHECK(!failed);
    allocations_left = -1;
    for (std::size_t i = 0; i < hoarded; ++i) release(hoard[i]);
    const auto order = collect(s.get(), true);
    CHECK(order.size() == 6);
    for (Node* n : order) {
      CHECK(n->mark != kMarked);
      disown(n->array->grad);
      n->array->grad = nullptr;
    }
    for (std::size_t i = 0; i < 100'000; ++i) set_seed(s.get(), i, 1.0);
    CHECK(sweep(s.get()));
    CHECK(grad(x.get(), 7) == lane(y.get(), 7) + 3 && grad(y.get(), 7) == lane(x.get(), 7));
  }
  CHECK(buffer_bytes() == 0);
}

// ---- threads: a mutex plays the interpreter's lock

std::mutex turn;
int pauses = 0;

void* begin_pause() {
  ++pauses;
  turn.unlock();
  return nullptr;
}
void end_pause(void*) {
  turn.lock();
}

void threads_share_leaves() {
  turn.lock();
  set_pause_hooks({begin_pause, end_pause});
  {
    Arena arena(hooks());
    constexpr std::size_t n = 60'000;
    Held x = leaf(arena, shape({n})), row = leaf(arena, shape({1, 6})), w(arena, arena.make_leaf(0.5, 0));
    constexpr int kThreads = 4, kRounds = 12;
    const auto work = [&](int which) {
      const std::lock_guard mine(turn);
      for (int round = 0; round < kRounds; ++round) {
        ArrayDraft draft;
        draft.op = ArrayOp::affine;
        Held sum(arena, make(arena, draft, {w.get(), w.get(), x.get(), w.get(), x.get()}));
        ArrayDraft reshaped;
        reshaped.op = ArrayOp::reshape;
        reshaped.shape = shape({n / 6, 6});
        Held matrix(arena, make(arena, reshaped, {sum.get()}));
        Held scaled(arena, table(Op::mul)(arena, {matrix.get(), row.get()}));
        Held small(arena,
                   table(Op::mul)(arena, {row.get(), w.get()}));  // quick rules on leaves that slow ones are at work on
        for (std::size_t i = 0; i < n; ++i) set_seed(scaled.get(), i, 1.0);
        for (std::size_t i = 0; i < 6; ++i) set_seed(small.get(), i, which % 2 ? 1.0 : 0.0);
        CHECK(sweep(small.get(), &arena));
        CHECK(sweep(scaled.get(), &arena));
      }
    };
    turn.unlock();
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
    turn.lock();
    CHECK(pauses > kThreads * kRounds * 4);
    double row_sum = 0;
    for (std::size_t i = 0; i < 6; ++i) row_sum += lane(row.get(), i);
    for (const std::size_t i : {std::size_t{0}, std::size_t{7}, n - 1})
      CHECK_NEAR(grad(x.get(), i), kThreads * kRounds * lane(row.get(), i % 6), 1e-10);
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) expected += (1 + 2 * lane(x.get(), i)) * lane(row.get(), i % 6);
    CHECK_NEAR(w->grad, kThreads * kRounds * expected + kThreads / 2 * kRounds * row_sum, 1e-9);
    for (std::size_t i = 0; i < 6; ++i) {
      double column = 0;
      for (std::size_t k = i; k < n; k += 6) column += w->data + 2 * w->data * lane(x.get(), k);
      CHECK_NEAR(grad(row.get(), i), kThreads * kRounds * column + kThreads / 2 * kRounds * w->data, 1e-9);
    }
  }
  set_pause_hooks({});
  turn.unlock();
  CHECK(buffer_bytes() == 0);
}

// While a rule is at work, its node gets other operands and its operands die with all else that held them.
Node* victim;
Arena* victims;
void* disturb(void) {
  CHECK(victims->set_operands(victim, nullptr, 0, nullptr, 0));
  return nullptr;
}

void nodes_change_during_a_rule() {
  {
    Arena arena(hooks());
    Held root(arena, table(Op::exp)(arena, {leaf(arena, shape({100'000}), 0, 1).get()}));
    for (std::size_t i = 0; i < 100'000; ++i) set_seed(root.get(), i, 1.0);
    victim = root.get();
    victims = &arena;
    set_pause_hooks({disturb, [](void*) {}});
    CHECK(sweep(root.get(), &arena));
    set_pause_hooks({});
    CHECK(arena.live_nodes() == 1 && is_leaf(root.get()));
  }
  CHECK(buffer_bytes() == 0);
}

}  // namespace

int main() {
  lane_by_lane();
  reductions();
  products();
  places();
  local_gradients();
  large_arrays_with_numbers();
  what_does_not_fit_is_refused();
  lanes_are_scalars();
  random_graphs();
  gradients_are_shared_until_written();
  failing_allocations_of_short_rules();
  memory_goes_with_the_nodes();
  an_array_becomes_another();
  failing_allocations();
  threads_share_leaves();
  nodes_change_during_a_rule();
  return 0;
}
