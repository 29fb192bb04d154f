// reductions.hpp: sums, means and extremes over some axes.
#pragma once

#include <cmath>

#include "core/arrays/rules/rule.hpp"
#include "core/ops/ops.hpp"

namespace tapegrad::rules {

struct Reduction {
  static const char* settle(ArrayDraft& d) {
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
    ArrayTerm& x = f.terms[0];
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
  static const char* settle(ArrayDraft& d) {
    if (const char* wrong = Reduction::settle(d)) return wrong;
    return d.shape.size && !d.operands[0]->array->size ? "has no lanes to choose from along the axes reduced" : nullptr;
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
    ArrayTerm& t = f.terms[0];
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

}  // namespace tapegrad::rules
