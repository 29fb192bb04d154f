// elementwise.hpp: operations lane by lane: the rows of the op table, and where.
#pragma once

#include "core/arrays/rules/rule.hpp"

namespace tapegrad::rules {

// An operand with all the lanes of the result, or one number for all of them.
inline bool even(const Frame& f, const ArrayTerm& t) {
  return !t.step || t.size == f.size;
}

// Whether runs are so short that it is better to spread broadcast operands out in memory first.
template <int K>
bool choppy(const Loop<K>& loop) {
  return loop.run() < 16 && loop.runs() > 4;
}

// The operand with its lanes spread out to those of the result.
class Spread {
 public:
  bool make(const Frame& f, const ArrayTerm& t) {
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
inline void fold(const Frame& f, const double* lanes, ArrayTerm& t) {
  Loop<2> loop(f.shape);
  loop.broadcast(0, f.shape);
  loop.broadcast(1, shape_of(t.array));
  loop.join();
  loop.each_lane([&](const std::ptrdiff_t* at) { t.g[at[1]] += lanes[at[0]]; });
}

template <>
struct ArrayRule<ArrayOp::table> {
  static bool is_binary(Op op) { return kArity[static_cast<int>(op)] == 2; }

  static const char* settle(ArrayDraft& d) {
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
    const ArrayTerm &x = f.terms[0], &y = f.terms[f.count - 1];
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
    ArrayTerm& t = f.terms[k];
    if (t.step) {
      lanes::backward(f.array->table, k, f.size, x, y, f.z, f.gz, t.g, writing(t));
    } else {
      t.gradient += lanes::backward_sum(f.array->table, k, f.size, x, y, f.z, f.gz);
    }
  }

  static bool backward(Frame& f) {
    const Op op = f.array->table;
    ArrayTerm& x = f.terms[0];
    if (!is_binary(op)) {
      flow(f, 0, x.lanes(), second(f));
      return true;
    }
    ArrayTerm& y = f.terms[1];
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
      ArrayTerm& t = f.terms[k];
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
      ArrayTerm& t = f.terms[k];
      if (even(f, t)) {
        flow(f, k, spread[0].lanes(), spread[1].lanes());
        continue;
      }
      lanes::backward(f.array->table, k, f.size, spread[0].lanes(), spread[1].lanes(), f.z, f.gz, flat.get(),
                      lanes::Write::set);
      prepare(t);
      fold(f, flat.get(), t);
    }
    return true;
  }
};

template <>
struct ArrayRule<ArrayOp::where> {
  static const char* settle(ArrayDraft& d) { return d.count == 3 ? broadcast_all(d) : kDamaged; }

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

}  // namespace tapegrad::rules
