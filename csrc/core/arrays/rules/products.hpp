// products.hpp: products of vectors and matrices, and the weighted sums of neurons.
#pragma once

#include "core/arrays/rules/rule.hpp"

namespace tapegrad::rules {

// Vectors count as one row on the left and one column on the right.
template <>
struct ArrayRule<ArrayOp::dot> {
  static const char* settle(ArrayDraft& d) {
    const Array* a = d.count == 2 ? array_of(d.operands[0]) : nullptr;
    const Array* b = a ? array_of(d.operands[1]) : nullptr;
    if (!b) return kDamaged;
    if (a->ndim > 2 || b->ndim > 2) return "are not those of vectors or matrices";
    if (a->dims()[a->ndim - 1] != b->dims()[0])
      return "do not fit: the last axis of the left must be as long as the first of the right";
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
      for (std::size_t k = 0; k < n.inner; ++k)
        lanes::axpy(n.columns, a[i * n.inner + k], b + k * n.columns, f.z + i * n.columns);
    return true;
  }
  static bool backward(Frame& f) {
    const Sizes n(f);
    ArrayTerm &ta = f.terms[0], &tb = f.terms[1];
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
  static const char* settle(ArrayDraft& d) {
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
      ArrayTerm &w = f.terms[i], &x = f.terms[i + 1];
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

}  // namespace tapegrad::rules
