// array_rules.cpp: shape, value and gradients of each operation on arrays. The shape is found from the operands, or checked; a rule then
// runs over a frame and asks for nothing but scratch memory, before it writes anything.
#include "core/array_rules.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "core/ops.hpp"

namespace tapegrad {

namespace {

constexpr char kNoBroadcast[] = "do not broadcast";
constexpr char kDamaged[] = "operands or parameters do not fit the operation";

struct Free {
  void operator()(double* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<double[], Free>;
Scratch scratch(std::size_t count) { return Scratch(static_cast<double*>(std::malloc((count ? count : 1) * sizeof(double)))); }

const double kOne = 1.0;

// Zeros the gradient of an operand whose lanes are not all written at first.
void prepare(Term& term) {
  if (!term.fresh) return;
  lanes::fill(term.size, 0.0, term.g);
  term.fresh = false;
}

// Says once that the lanes of a fresh gradient are written rather than added to.
lanes::Write writing(Term& term) {
  const bool fresh = term.fresh;
  term.fresh = false;
  return fresh ? lanes::Write::set : lanes::Write::add;
}

const char* broadcast_all(Draft& d) {
  const Array* first = array_of(d.operands[0]);
  const auto like_first = [&](const Array* other) {  // or a number
    return !other || (other->ndim == first->ndim && std::equal(first->dims(), first->dims() + first->ndim, other->dims()));
  };
  if (first && d.count <= 2 && like_first(array_of(d.operands[d.count - 1]))) {
    d.shape.ndim = static_cast<int>(first->ndim);
    d.shape.size = first->size;
    std::copy(first->dims(), first->dims() + first->ndim, d.shape.dims);
    return nullptr;
  }
  Shape shape = shape_of(d.operands[0]);
  for (std::uint32_t i = 1; i < d.count; ++i)
    if (!broadcast(shape, shape_of(d.operands[i]), &shape)) return kNoBroadcast;
  d.shape = shape;
  return shape.ndim ? nullptr : kDamaged;
}

template <ArrayOp op>
struct ArrayRule;

// ---- given from outside ------------------------------------------------------------------------------------------------------------

template <>
struct ArrayRule<ArrayOp::leaf> {
  static const char* settle(Draft& d) { return d.count || d.has_local_grads || !d.shape.ndim ? kDamaged : nullptr; }
  static bool forward(Frame&) { return true; }
  static bool backward(Frame&) { return true; }
};

// With local gradients: operand k gets local gradient k times the node's gradient, all broadcast, summed to its shape.
template <>
struct ArrayRule<ArrayOp::custom> {
  static bool loop_shape(const Shape& z, const Term& x, const Term& local, Shape* shape) {
    return broadcast(z, shape_of(x.array), shape) && broadcast(*shape, shape_of(local.array), shape);
  }
  static const char* settle(Draft& d) {
    for (std::uint32_t k = 0; d.has_local_grads && k < d.count; ++k) {
      Shape shape;
      if (!broadcast(d.shape, shape_of(d.operands[k]), &shape) || !broadcast(shape, shape_of(d.operands[d.count + k]), &shape))
        return kNoBroadcast;
    }
    return nullptr;
  }
  static bool forward(Frame&) { return true; }
  static bool backward(Frame& f) {
    if (!f.array->has_local_grads) {
      for (std::uint32_t k = 0; k < f.count; ++k) prepare(f.terms[k]);
      return true;
    }
    const std::uint32_t count = f.array->count;
    for (std::uint32_t k = 0; k < f.count; ++k) prepare(f.terms[k]);
    for (std::uint32_t k = 0; k < count; ++k) {
      Term &x = f.terms[k], &local = f.terms[count + k];
      Shape shape;
      loop_shape(f.shape, x, local, &shape);
      Loop<3> loop(shape);
      loop.broadcast(0, f.shape);
      loop.broadcast(1, shape_of(x.array));
      loop.broadcast(2, shape_of(local.array));
      loop.join();
      loop.each_lane([&](const std::ptrdiff_t* at) { x.g[at[1]] += local.x[at[2]] * f.gz[at[0]]; });
    }
    return true;
  }
};

// ---- lane by lane ------------------------------------------------------------------------------------------------------------------

// An operand with all the lanes of the result, or one number for all of them.
bool even(const Frame& f, const Term& t) { return !t.step || t.size == f.size; }

// Whether runs are so short that it is better to spread broadcast operands out in memory first.
template <int K>
bool choppy(const Loop<K>& loop) {
  return loop.run() < 16 && loop.runs() > 4;
}

// The operand with its lanes spread out to those of the result.
class Spread {
 public:
  bool make(const Frame& f, const Term& t) {
    lanes_ = t.lanes();
    if (even(f, t)) return true;
    memory_ = scratch(f.size);
    if (!memory_) return false;
    Loop<2> loop(f.shape);
    loop.broadcast(0, f.shape);
    loop.broadcast(1, shape_of(t.array));
    loop.join();
    loop.each_lane([&](const std::ptrdiff_t* at) { memory_[static_cast<std::size_t>(at[0])] = t.x[at[1]]; });
    lanes_ = memory_.get();
    return true;
  }
  lanes::Operand lanes() const { return lanes_; }

 private:
  Scratch memory_;
  lanes::Operand lanes_ = nullptr;
};

// Adds lanes shaped like the result to the gradient of an operand that was broadcast.
void fold(const Frame& f, const double* lanes, Term& t) {
  Loop<2> loop(f.shape);
  loop.broadcast(0, f.shape);
  loop.broadcast(1, shape_of(t.array));
  loop.join();
  loop.each_lane([&](const std::ptrdiff_t* at) { t.g[at[1]] += lanes[at[0]]; });
}

template <>
struct ArrayRule<ArrayOp::table> {
  static bool is_binary(Op op) { return kArity[static_cast<int>(op)] == 2; }

  static const char* settle(Draft& d) {
    if (d.table < Op::powc || d.table >= Op::count || d.count != kArity[static_cast<int>(d.table)]) return kDamaged;
    return broadcast_all(d);
  }

  // The second operand: of powc the exponent, of other unary operations anything that can be read.
  static lanes::Operand second(const Frame& f) {
    const Op op = f.array->table;
    if (op == Op::powc) return {&f.array->number, 0};
    return f.terms[is_binary(op) ? 1 : 0].lanes();
  }

  static Loop<3> loop_over(const Frame& f) {
    Loop<3> loop(f.shape);
    loop.broadcast(0, f.shape);
    loop.broadcast(1, shape_of(f.terms[0].array));
    loop.broadcast(2, shape_of(f.terms[1].array));
    loop.join();
    return loop;
  }
  template <int K>
  static lanes::Operand part(const Loop<K>& loop, const std::ptrdiff_t* at, int k, const double* first) {
    return {first + at[k], static_cast<std::size_t>(loop.step(k))};
  }

  static bool forward(Frame& f) {
    const Op op = f.array->table;
    const Term &x = f.terms[0], &y = f.terms[f.count - 1];
    if (even(f, x) && even(f, y)) {
      lanes::forward(op, f.size, x.lanes(), second(f), f.z);
      return true;
    }
    const Loop<3> loop = loop_over(f);
    if (choppy(loop)) {
      Spread sx, sy;
      if (!sx.make(f, x) || !sy.make(f, y)) return false;
      lanes::forward(op, f.size, sx.lanes(), sy.lanes(), f.z);
      return true;
    }
    loop.each_run([&](const std::ptrdiff_t* at) {
      lanes::forward(op, loop.run(), part(loop, at, 1, x.x), part(loop, at, 2, y.x), f.z + at[0]);
    });
    return true;
  }

  // The gradient of operand k where every operand has all lanes or is one number.
  static void flow(Frame& f, int k, lanes::Operand x, lanes::Operand y) {
    Term& t = f.terms[k];
    if (t.step) {
      lanes::backward(f.array->table, k, f.size, x, y, f.z, f.gz, t.g, writing(t));
    } else {
      t.gradient += lanes::backward_sum(f.array->table, k, f.size, x, y, f.z, f.gz);
    }
  }

  static bool backward(Frame& f) {
    const Op op = f.array->table;
    Term& x = f.terms[0];
    if (!is_binary(op)) {
      flow(f, 0, x.lanes(), second(f));
      return true;
    }
    Term& y = f.terms[1];
    if (even(f, x) && even(f, y)) {
      if (x.step && y.step) {
        const lanes::Write write_x = writing(x);
        lanes::backward_both(op, f.size, x.lanes(), y.lanes(), f.z, f.gz, x.g, y.g, write_x, writing(y));
      } else {
        flow(f, 0, x.lanes(), y.lanes());
        flow(f, 1, x.lanes(), y.lanes());
      }
      return true;
    }
    const Loop<3> loop = loop_over(f);
    if (choppy(loop)) return backward_spread(f);
    for (int k : {0, 1}) {
      Term& t = f.terms[k];
      // An operand that is met in every run is written there once; others are added to.
      const lanes::Write write = t.step && t.size == f.size ? writing(t) : lanes::Write::add;
      prepare(t);
      loop.each_run([&](const std::ptrdiff_t* at) {
        const lanes::Operand px = part(loop, at, 1, x.x), py = part(loop, at, 2, y.x);
        double* g = t.g + at[1 + k];
        if (loop.step(1 + k)) {
          lanes::backward(op, k, loop.run(), px, py, f.z + at[0], f.gz + at[0], g, write);
        } else {
          *g += lanes::backward_sum(op, k, loop.run(), px, py, f.z + at[0], f.gz + at[0]);
        }
      });
    }
    return true;
  }

  static bool backward_spread(Frame& f) {
    Spread spread[2];
    const Scratch flat = scratch(f.size);
    if (!flat || !spread[0].make(f, f.terms[0]) || !spread[1].make(f, f.terms[1])) return false;
    for (int k : {0, 1}) {
      Term& t = f.terms[k];
      if (even(f, t)) {
        flow(f, k, spread[0].lanes(), spread[1].lanes());
        continue;
      }
      lanes::backward(f.array->table, k, f.size, spread[0].lanes(), spread[1].lanes(), f.z, f.gz, flat.get(), lanes::Write::set);
      prepare(t);
      fold(f, flat.get(), t);
    }
    return true;
  }
};

template <>
struct ArrayRule<ArrayOp::where> {
  static const char* settle(Draft& d) { return d.count == 3 ? broadcast_all(d) : kDamaged; }

  static Loop<4> loop_over(const Frame& f) {
    Loop<4> loop(f.shape);
    loop.broadcast(0, f.shape);
    for (int k = 0; k < 3; ++k) loop.broadcast(1 + k, shape_of(f.terms[k].array));
    loop.join();
    return loop;
  }
  static bool forward(Frame& f) {
    const Loop<4> loop = loop_over(f);
    const double *c = f.terms[0].x, *a = f.terms[1].x, *b = f.terms[2].x;
    loop.each_lane([&](const std::ptrdiff_t* at) { f.z[at[0]] = c[at[1]] != 0 ? a[at[2]] : b[at[3]]; });
    return true;
  }
  static bool backward(Frame& f) {
    const Loop<4> loop = loop_over(f);
    for (int k = 0; k < 3; ++k) prepare(f.terms[k]);
    const double* c = f.terms[0].x;
    double *ga = f.terms[1].g, *gb = f.terms[2].g;
    loop.each_lane([&](const std::ptrdiff_t* at) {
      if (c[at[1]] != 0) {
        ga[at[2]] += f.gz[at[0]];
      } else {
        gb[at[3]] += f.gz[at[0]];
      }
    });
    return true;
  }
};

// ---- reductions --------------------------------------------------------------------------------------------------------------------

struct Reduction {
  static const char* settle(Draft& d) {
    const Array* x = d.count == 1 ? array_of(d.operands[0]) : nullptr;
    if (!x || (x->ndim < 32 && d.axes >> x->ndim)) return kDamaged;
    d.shape = Shape();
    for (std::uint32_t i = 0; i < x->ndim; ++i) {
      const bool reduced = d.axes >> i & 1;
      if ((!reduced || d.keeps_axes) && !d.shape.append(reduced ? 1 : x->dims()[i])) return kDamaged;
    }
    return nullptr;
  }

  // Over the operand's lanes: 0 the operand, 1 the result.
  static Loop<2> loop_over(const Frame& f) {
    const Shape shape = shape_of(f.terms[0].array);
    Loop<2> loop(shape);
    loop.broadcast(0, shape);
    loop.reduce(1, f.array->axes);
    loop.join();
    return loop;
  }
  static void add_up(Frame& f) {
    const Loop<2> loop = loop_over(f);
    lanes::fill(f.size, 0.0, f.z);
    loop.each_run([&](const std::ptrdiff_t* at) {
      if (loop.step(1)) {
        lanes::axpy(loop.run(), 1.0, f.terms[0].x + at[0], f.z + at[1]);
      } else {
        f.z[at[1]] += lanes::sum(loop.run(), f.terms[0].x + at[0]);
      }
    });
  }
  static void spread_out(Frame& f, double scale) {
    const Loop<2> loop = loop_over(f);
    Term& x = f.terms[0];
    const lanes::Write write = writing(x);
    loop.each_run([&](const std::ptrdiff_t* at) {
      const lanes::Operand gz(f.gz + at[1], static_cast<std::size_t>(loop.step(1)));
      if (write == lanes::Write::set) {
        lanes::forward(Op::mul, loop.run(), gz, {&scale, 0}, x.g + at[0]);
      } else {
        lanes::axpy(loop.run(), scale, gz, x.g + at[0]);
      }
    });
  }
  // How many lanes of the operand make one of the result.
  static double share(const Frame& f) {
    return f.size ? static_cast<double>(f.terms[0].size) / static_cast<double>(f.size) : 1.0;
  }
};

template <>
struct ArrayRule<ArrayOp::sum> : Reduction {
  static bool forward(Frame& f) {
    add_up(f);
    return true;
  }
  static bool backward(Frame& f) {
    spread_out(f, 1.0);
    return true;
  }
};

template <>
struct ArrayRule<ArrayOp::mean> : Reduction {
  static bool forward(Frame& f) {
    add_up(f);
    const double n = share(f);
    for (std::size_t i = 0; i < f.size; ++i) f.z[i] /= n;
    return true;
  }
  static bool backward(Frame& f) {
    spread_out(f, 1.0 / share(f));
    return true;
  }
};

template <Op pick>
struct Extreme : Reduction {
  static const char* settle(Draft& d) {
    if (const char* wrong = Reduction::settle(d)) return wrong;
    return d.shape.size && !d.operands[0]->array->size ? "of no lanes at all" : nullptr;
  }
  static bool forward(Frame& f) {
    const Loop<2> loop = loop_over(f);
    lanes::fill(f.size, pick == Op::maximum ? -HUGE_VAL : HUGE_VAL, f.z);
    loop.each_run([&](const std::ptrdiff_t* at) {
      const double* x = f.terms[0].x + at[0];
      double* z = f.z + at[1];
      if (loop.step(1)) {
        lanes::forward(pick, loop.run(), z, x, z);
      } else {
        *z = Rule<pick>::value(*z, pick == Op::maximum ? lanes::max(loop.run(), x) : lanes::min(loop.run(), x));
      }
    });
    return true;
  }
  static bool backward(Frame& f) {
    const Scratch ties = scratch(f.size);
    if (!ties) return false;
    const Loop<2> loop = loop_over(f);
    Term& t = f.terms[0];
    const auto hit = [&](const std::ptrdiff_t* at) {
      const double x = t.x[at[0]], z = f.z[at[1]];
      return x == z || (std::isnan(x) && std::isnan(z));
    };
    lanes::fill(f.size, 0.0, ties.get());
    loop.each_lane([&](const std::ptrdiff_t* at) { ties[static_cast<std::size_t>(at[1])] += hit(at); });
    prepare(t);
    loop.each_lane([&](const std::ptrdiff_t* at) {
      if (hit(at)) t.g[at[0]] += f.gz[at[1]] / ties[static_cast<std::size_t>(at[1])];
    });
    return true;
  }
};
template <>
struct ArrayRule<ArrayOp::max> : Extreme<Op::maximum> {};
template <>
struct ArrayRule<ArrayOp::min> : Extreme<Op::minimum> {};

// ---- products ----------------------------------------------------------------------------------------------------------------------

// Vectors count as one row on the left and one column on the right.
template <>
struct ArrayRule<ArrayOp::dot> {
  static const char* settle(Draft& d) {
    const Array* a = d.count == 2 ? array_of(d.operands[0]) : nullptr;
    const Array* b = a ? array_of(d.operands[1]) : nullptr;
    if (!b) return kDamaged;
    if (a->ndim > 2 || b->ndim > 2) return "are not those of vectors or matrices";
    if (a->dims()[a->ndim - 1] != b->dims()[0]) return "do not fit: the last axis of the left must be as long as the first of the right";
    d.shape = Shape();
    const bool fits = (a->ndim == 1 || d.shape.append(a->dims()[0])) && (b->ndim == 1 || d.shape.append(b->dims()[1]));
    return fits ? nullptr : kDamaged;
  }

  struct Sizes {
    std::size_t rows, inner, columns;
    explicit Sizes(const Frame& f) {
      const Array *a = f.terms[0].array, *b = f.terms[1].array;
      rows = a->ndim == 2 ? a->dims()[0] : 1;
      inner = b->dims()[0];
      columns = b->ndim == 2 ? b->dims()[1] : 1;
    }
  };
  static bool forward(Frame& f) {
    const Sizes n(f);
    const double *a = f.terms[0].x, *b = f.terms[1].x;
    if (n.columns == 1) {
      for (std::size_t i = 0; i < n.rows; ++i) f.z[i] = lanes::dot(n.inner, a + i * n.inner, b);
      return true;
    }
    lanes::fill(f.size, 0.0, f.z);
    for (std::size_t i = 0; i < n.rows; ++i)
      for (std::size_t k = 0; k < n.inner; ++k) lanes::axpy(n.columns, a[i * n.inner + k], b + k * n.columns, f.z + i * n.columns);
    return true;
  }
  static bool backward(Frame& f) {
    const Sizes n(f);
    Term &ta = f.terms[0], &tb = f.terms[1];
    prepare(ta);
    prepare(tb);
    const double *a = ta.x, *b = tb.x, *gz = f.gz;
    for (std::size_t i = 0; i < n.rows; ++i) {
      if (n.columns == 1) {
        lanes::axpy(n.inner, gz[i], b, ta.g + i * n.inner);
        lanes::axpy(n.inner, gz[i], a + i * n.inner, tb.g);
        continue;
      }
      for (std::size_t k = 0; k < n.inner; ++k) {
        ta.g[i * n.inner + k] += lanes::dot(n.columns, gz + i * n.columns, b + k * n.columns);
        lanes::axpy(n.columns, a[i * n.inner + k], gz + i * n.columns, tb.g + k * n.columns);
      }
    }
    return true;
  }
};

// b + w0*x0 + w1*x1 + ...: b and the w numbers, the x numbers or arrays of one shape.
template <>
struct ArrayRule<ArrayOp::affine> {
  static const char* settle(Draft& d) {
    if (d.count % 2 == 0) return kDamaged;
    d.shape = Shape();
    for (std::uint32_t i = 0; i < d.count; ++i) {
      if (!array_of(d.operands[i])) continue;
      const Shape shape = shape_of(d.operands[i]);
      if (i == 0 || i % 2 || (d.shape.ndim && !(d.shape == shape))) return kDamaged;
      d.shape = shape;
    }
    return d.shape.ndim ? nullptr : kDamaged;
  }
  static bool forward(Frame& f) {
    lanes::fill(f.size, f.terms[0].number, f.z);
    for (std::uint32_t i = 1; i < f.count; i += 2) lanes::axpy(f.size, f.terms[i].number, f.terms[i + 1].lanes(), f.z);
    return true;
  }
  static bool backward(Frame& f) {
    const double total = lanes::sum(f.size, f.gz);
    f.terms[0].gradient += total;
    for (std::uint32_t i = 1; i < f.count; i += 2) {
      Term &w = f.terms[i], &x = f.terms[i + 1];
      if (!x.step) {
        w.gradient += x.number * total;
        x.gradient += w.number * total;
        continue;
      }
      w.gradient += lanes::dot(f.size, f.gz, x.x);
      if (writing(x) == lanes::Write::set) {
        lanes::forward(Op::mul, f.size, f.gz, {&w.number, 0}, x.g);
      } else {
        lanes::axpy(f.size, w.number, f.gz, x.g);
      }
    }
    return true;
  }
};

// ---- other places for the same lanes ---------------------------------------------------------------------------------------------------

// A loop over the result's lanes, 0, and the lanes they come from, 1.
struct Rearrangement {
  template <typename Rule>
  static void copy(Frame& f, const double* x) {
    const Loop<2> loop = Rule::loop_over(f);
    loop.each_lane([&](const std::ptrdiff_t* at) { f.z[at[0]] = x[at[1]]; });
  }
  template <typename Rule>
  static void add_back(Frame& f, double* g) {
    prepare(f.terms[0]);
    const Loop<2> loop = Rule::loop_over(f);
    loop.each_lane([&](const std::ptrdiff_t* at) { g[at[1]] += f.gz[at[0]]; });
  }
};

template <>
struct ArrayRule<ArrayOp::view> : Rearrangement {
  static const char* settle(Draft& d) {
    const Array* x = d.count == 1 ? array_of(d.operands[0]) : nullptr;
    if (!x || d.param_count != 1 + static_cast<std::size_t>(d.shape.ndim)) return kDamaged;
    if (!d.shape.size) return nullptr;
    const auto size = static_cast<std::int64_t>(x->size);
    std::int64_t low = d.params[0], high = d.params[0];
    if (low < 0 || low >= size) return kDamaged;
    for (int i = 0; i < d.shape.ndim; ++i) {
      const std::int64_t stride = d.params[1 + i];
      const auto steps = static_cast<std::int64_t>(d.shape.dims[i] - 1);
      if (!steps) continue;
      if (stride >= size || stride <= -size || steps >= size) return kDamaged;
      if (stride && steps > size / (stride < 0 ? -stride : stride)) return kDamaged;
      (stride < 0 ? low : high) += stride * steps;
      if (low < 0 || high >= size) return kDamaged;
    }
    return nullptr;
  }
  static Loop<2> loop_over(const Frame& f) {
    Loop<2> loop(f.shape);
    loop.broadcast(0, f.shape);
    loop.stride(1, f.array->param() + 1);
    loop.join();
    return loop;
  }
  static bool forward(Frame& f) {
    copy<ArrayRule>(f, f.terms[0].x + f.array->param()[0]);
    return true;
  }
  static bool backward(Frame& f) {
    add_back<ArrayRule>(f, f.terms[0].g + f.array->param()[0]);
    return true;
  }
};

template <>
struct ArrayRule<ArrayOp::gather> {
  static const char* settle(Draft& d) {
    const Array* x = d.count == 1 ? array_of(d.operands[0]) : nullptr;
    if (!x || d.param_count != d.shape.size) return kDamaged;
    for (std::size_t i = 0; i < d.param_count; ++i)
      if (d.params[i] < 0 || d.params[i] >= static_cast<std::int64_t>(x->size)) return kDamaged;
    return nullptr;
  }
  static bool forward(Frame& f) {
    const std::int64_t* from = f.array->param();
    for (std::size_t i = 0; i < f.size; ++i) f.z[i] = f.terms[0].x[from[i]];
    return true;
  }
  static bool backward(Frame& f) {
    prepare(f.terms[0]);
    const std::int64_t* from = f.array->param();
    for (std::size_t i = 0; i < f.size; ++i) f.terms[0].g[from[i]] += f.gz[i];
    return true;
  }
};

template <>
struct ArrayRule<ArrayOp::reshape> {
  static const char* settle(Draft& d) {
    return d.count == 1 && array_of(d.operands[0]) && d.operands[0]->array->size == d.shape.size ? nullptr : kDamaged;
  }
  static bool forward(Frame& f) {
    for (std::size_t i = 0; i < f.size; ++i) f.z[i] = f.terms[0].x[i];
    return true;
  }
  static bool backward(Frame& f) {
    prepare(f.terms[0]);
    lanes::axpy(f.size, 1.0, {f.gz, 1}, f.terms[0].g);
    return true;
  }
};

template <>
struct ArrayRule<ArrayOp::transpose> : Rearrangement {
  static const char* settle(Draft& d) {
    const Array* x = d.count == 1 ? array_of(d.operands[0]) : nullptr;
    if (!x || d.param_count != x->ndim) return kDamaged;
    std::uint64_t seen = 0;
    d.shape = Shape();
    for (std::size_t i = 0; i < d.param_count; ++i) {
      const std::int64_t axis = d.params[i];
      if (axis < 0 || axis >= static_cast<std::int64_t>(x->ndim) || (seen >> axis & 1)) return kDamaged;
      seen |= std::uint64_t{1} << axis;
      if (!d.shape.append(x->dims()[axis])) return kDamaged;
    }
    return nullptr;
  }
  static Loop<2> loop_over(const Frame& f) {
    std::int64_t own[kMaxDims], strides[kMaxDims];
    const Array& x = *f.terms[0].array;
    std::int64_t step = 1;
    for (std::uint32_t d = x.ndim; d-- > 0;) {
      own[d] = step;
      step *= static_cast<std::int64_t>(x.dims()[d]);
    }
    for (std::uint32_t d = 0; d < x.ndim; ++d) strides[d] = own[f.array->param()[d]];
    Loop<2> loop(f.shape);
    loop.broadcast(0, f.shape);
    loop.stride(1, strides);
    loop.join();
    return loop;
  }
  static bool forward(Frame& f) {
    copy<ArrayRule>(f, f.terms[0].x);
    return true;
  }
  static bool backward(Frame& f) {
    add_back<ArrayRule>(f, f.terms[0].g);
    return true;
  }
};

struct Row {
  const char* (*settle)(Draft&);
  bool (*forward)(Frame&);
  bool (*backward)(Frame&);
};

constexpr Row kRows[] = {
#define TAPEGRAD_ARRAY(id, label) \
  {ArrayRule<ArrayOp::id>::settle, ArrayRule<ArrayOp::id>::forward, ArrayRule<ArrayOp::id>::backward},
#include "core/arrays.def"
};

}  // namespace

const char* Draft::settle() noexcept { return kRows[static_cast<int>(op)].settle(*this); }
bool forward_array(Frame& frame) noexcept { return kRows[static_cast<int>(frame.array->op)].forward(frame); }
bool backward_array(Frame& frame) noexcept { return kRows[static_cast<int>(frame.array->op)].backward(frame); }

}  // namespace tapegrad
