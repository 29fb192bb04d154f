// places.hpp: the same lanes in other places: indexing, reshaping, transposing.
#pragma once

#include "core/arrays/rules/rule.hpp"

namespace tapegrad::rules {

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
  static const char* settle(ArrayDraft& d) {
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
  static const char* settle(ArrayDraft& d) {
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
  // Of an array, or of one number into an array with one lane.
  static const char* settle(ArrayDraft& d) {
    const bool fits =
        d.count == 1 && shape_of(d.operands[0]).size == d.shape.size && (d.shape.ndim || array_of(d.operands[0]));
    return fits ? nullptr : kDamaged;
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
  static const char* settle(ArrayDraft& d) {
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

}  // namespace tapegrad::rules
