// given.hpp: arrays given from outside: leaves, and nodes with operands whose rule or local gradients are the
// program's.
#pragma once

#include "core/arrays/rules/rule.hpp"

namespace tapegrad::rules {

template <>
struct ArrayRule<ArrayOp::leaf> {
  static const char* settle(ArrayDraft& d) {
    return d.count || d.has_local_grads || !d.shape.ndim ? kDamaged : nullptr;
  }
  static bool forward(Frame&) { return true; }
  static bool backward(Frame&) { return true; }
};

// With local gradients: operand k gets local gradient k times the node's gradient, all broadcast, summed to its shape.
template <>
struct ArrayRule<ArrayOp::custom> {
  static bool loop_shape(const Shape& z, const ArrayTerm& x, const ArrayTerm& local, Shape* shape) {
    return broadcast(z, shape_of(x.array), shape) && broadcast(*shape, shape_of(local.array), shape);
  }
  static const char* settle(ArrayDraft& d) {
    for (std::uint32_t k = 0; d.has_local_grads && k < d.count; ++k) {
      Shape shape;
      if (!broadcast(d.shape, shape_of(d.operands[k]), &shape) ||
          !broadcast(shape, shape_of(d.operands[d.count + k]), &shape))
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
      ArrayTerm &x = f.terms[k], &local = f.terms[count + k];
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

}  // namespace tapegrad::rules
