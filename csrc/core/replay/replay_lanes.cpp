// replay_lanes.cpp: the lane interpreter. A step is one call of a kernel for a block of lanes.
#include "core/replay/replay_lanes.hpp"

#include <algorithm>
#include <cstring>

#include "core/lanes/lanes.hpp"
#include "core/replay/lane_code.hpp"

namespace tapegrad {

extern const ProductKernels kProductsBaseline;
extern const LayerKernels kLayersBaseline;
#if defined(__x86_64__)
extern const ProductKernels kProductsAvx2, kProductsAvx512;
extern const LayerKernels kLayersAvx2, kLayersAvx512;
#endif

const ProductKernels& product_kernels() {
#if defined(__x86_64__)
  for (const ProductKernels* k : {&kProductsAvx512, &kProductsAvx2})
    if (!std::strcmp(k->name, lanes::instruction_set())) return *k;
#endif
  return kProductsBaseline;
}

const LayerKernels& layer_kernels() {
#if defined(__x86_64__)
  for (const LayerKernels* k : {&kLayersAvx512, &kLayersAvx2})
    if (!std::strcmp(k->name, lanes::instruction_set())) return *k;
#endif
  return kLayersBaseline;
}

void LaneCode::forward(const BlockMemory& m, std::size_t n) const {
  const auto operand = [&](Place p) {
    return p.uniform ? lanes::Operand(m.uniform + p.index, 0) : lanes::Operand(m.lanes + p.index * m.stride);
  };
  const ProductKernels& products = product_kernels();
  for (const LaneStep& s : forward_) {
    if (s.code == kLayer) {
      layers_->forward(s.first, m, n);
      continue;
    }
    double* z = m.lanes + s.z.index * m.stride;
    switch (static_cast<Code>(s.code)) {
      case Code::sum:
        products.forward(m, terms_.data() + s.first, s.count, s.z.index, n);
        break;
      case Code::select: {
        const lanes::Operand c = operand(s.x), a = operand(s.y), b = operand(s.g);
        for (std::size_t i = 0; i < n; ++i)
          z[i] = c.data[i * c.stride] != 0 ? a.data[i * a.stride] : b.data[i * b.stride];
        break;
      }
      case Code::detach: {
        const lanes::Operand a = operand(s.x);
        for (std::size_t i = 0; i < n; ++i) z[i] = a.data[i * a.stride];
        break;
      }
      default:
        lanes::forward(static_cast<Op>(s.code), n, operand(s.x), operand(s.y), z);
    }
  }
}

void LaneCode::backward(const BlockMemory& m, std::size_t n) const {
  const auto operand = [&](Place p) {
    return p.uniform ? lanes::Operand(m.uniform + p.index, 0) : lanes::Operand(m.lanes + p.index * m.stride);
  };
  const ProductKernels& products = product_kernels();
  const auto write = [](Mode mode) { return mode == Mode::store ? lanes::Write::set : lanes::Write::add; };
  const std::size_t full = padded(n);
  const auto put = [&](Place to, Mode mode, const double* amounts) {
    if (mode == Mode::none) return;
    if (to.uniform) {
      m.uniform[to.index] += lanes::sum(n, amounts);
      return;
    }
    double* d = m.lanes + to.index * m.stride;
    if (mode == Mode::store) {
      std::copy(amounts, amounts + full, d);
    } else {
      for (std::size_t i = 0; i < full; ++i) d[i] += amounts[i];
    }
  };
  double amounts[kMaxBlock];
  for (const LaneStep& s : backward_) {
    if (s.code == kLayer) {
      layers_->backward(s.first, m, n);
      continue;
    }
    if (s.code == kActivations) {
      const Activations& a = activations_[s.first];
      layer_kernels().activation(m, {a.op, a.y.size(), a.y.data(), a.from.data(), a.to.data()}, full);
      continue;
    }
    if (s.code == kStepCodes) {
      products.backward(m, terms_.data() + s.first, s.count, s.g.index, n);
      continue;
    }
    if (s.code == kZero) {
      if (s.g.uniform) continue;  // sums over all blocks: they are cleared once
      double* g = m.lanes + s.g.index * m.stride;
      std::fill(g, g + full, 0.0);
      continue;
    }
    const lanes::Operand g = operand(s.g);
    if (s.code == kScale) {
      const lanes::Operand y = operand(s.y);
      for (std::size_t i = 0; i < full; ++i) amounts[i] = y.data[i * y.stride] * g.data[i * g.stride];
      put(s.dx, s.mode_x, amounts);
      continue;
    }
    const auto code = static_cast<Code>(s.code);
    if (code == Code::sum) {
      for (std::uint32_t k = s.first; k < s.first + s.count; ++k)
        put(terms_[k].x, terms_[k].store_dx ? Mode::store : Mode::add, g.data);
      continue;
    }
    if (code == Code::select) {
      const lanes::Operand c = operand(s.x);
      for (std::size_t i = 0; i < full; ++i) amounts[i] = c.data[i * c.stride] != 0 ? g.data[i] : 0.0;
      put(s.dx, s.mode_x, amounts);
      for (std::size_t i = 0; i < full; ++i) amounts[i] = c.data[i * c.stride] != 0 ? 0.0 : g.data[i];
      put(s.dy, s.mode_y, amounts);
      continue;
    }
    const auto op = static_cast<Op>(s.code);
    const lanes::Operand x = operand(s.x), y = operand(s.y), z = operand(s.z);
    const bool by_x = s.mode_x != Mode::none, by_y = s.mode_y != Mode::none;
    if (by_x && by_y && !s.dx.uniform && !s.dy.uniform) {
      lanes::backward_both(op, full, x, y, z, g, m.lanes + s.dx.index * m.stride, m.lanes + s.dy.index * m.stride,
                           write(s.mode_x), write(s.mode_y));
      continue;
    }
    for (int k = 0; k < 2; ++k) {
      if (!(k ? by_y : by_x)) continue;
      const Place to = k ? s.dy : s.dx;
      if (to.uniform)
        m.uniform[to.index] += lanes::backward_sum(op, k, n, x, y, z, g);
      else
        lanes::backward(op, k, full, x, y, z, g, m.lanes + to.index * m.stride, write(k ? s.mode_y : s.mode_x));
    }
  }
}

}  // namespace tapegrad
