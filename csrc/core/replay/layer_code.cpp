// layer_code.cpp: turns slots into places, packs weights and calls the kernels.
#include "core/replay/layer_code.hpp"

#include <algorithm>

namespace tapegrad {

namespace {

using U32 = std::uint32_t;

const U32* data_of(const std::vector<U32>& v) {
  return v.empty() ? nullptr : v.data();
}

}  // namespace

LayerCode::LayerCode(const LayerSteps& steps, const std::vector<U32>& lane_of_slot, U32 unused) : unused_(unused) {
  const auto arrays = [&](const std::vector<U32>& slots) {
    std::vector<U32> out;
    out.reserve(slots.size());
    for (U32 slot : slots) out.push_back(slot == kNoSlot ? kNoArray : lane_of_slot[slot]);
    return out;
  };
  for (const ForwardLayer& l : steps.forward) {
    Forward f{arrays(l.x), arrays(l.z), arrays(l.start), l.biases, l.bias_end, l.relu, packed_.size(), 0};
    if (std::count(f.start.begin(), f.start.end(), kNoArray) == static_cast<std::ptrdiff_t>(f.start.size()))
      f.start.clear();
    add_panels(f.y.size(), f.x.size(), l.weights);
    f.bias = packed_.size();
    packed_.resize(packed_.size() + f.y.size(), unused_);
    forward_.push_back(std::move(f));
  }
  for (const BackwardLayer& l : steps.backward) {
    Backward b{arrays(l.g), arrays(l.x), {}, {}, l.dweights, {}, {}, false, false, packed_.size()};
    const std::size_t rows = l.rows(), columns = l.x.size();
    bool any_start = false;
    std::vector<U32> weights;
    for (std::size_t c = 0; c < columns; ++c) {
      if (l.dx[c] == kNoSlot) continue;
      b.dx.push_back(lane_of_slot[l.dx[c]]);
      b.start.push_back(l.store[c] ? kNoArray : b.dx.back());
      any_start = any_start || !l.store[c];
      for (std::size_t r = 0; r < rows; ++r) weights.push_back(l.weights[r * columns + c]);
    }
    if (!any_start) b.start.clear();
    for (U32& target : b.dweights) {
      b.any_dweights = b.any_dweights || target != kNoSlot;
      if (target == kNoSlot) target = unused;
    }
    b.dbias.assign(rows, unused);
    for (U32 r = 0, k = 0; r < rows; ++r)
      for (; k < l.bias_end[r]; ++k) {
        b.any_dbias = true;
        if (b.dbias[r] == unused)
          b.dbias[r] = l.dbias[k];
        else
          b.more_bias.insert(b.more_bias.end(), {r, l.dbias[k]});
      }
    add_panels(b.dx.size(), rows, weights);
    backward_.push_back(std::move(b));
  }
}

void LayerCode::add_panels(std::size_t rows, std::size_t columns, const std::vector<U32>& weights) {
  const std::size_t begin = packed_.size();
  packed_.resize(begin + rows * columns);
  pack_panels(rows, columns, packed_.data() + begin,
              [&](std::size_t r, std::size_t c) { return weights[r * columns + c]; });
}

void LayerCode::pack(const double* uniform, double* packed) const {
  for (std::size_t k = 0; k < packed_.size(); ++k) packed[k] = uniform[packed_[k]];
  for (const Forward& f : forward_) {
    double* bias = packed + f.bias;
    for (std::size_t r = 0, k = 0; r < f.y.size(); ++r) {
      bias[r] = k < f.bias_end[r] ? uniform[f.biases[k++]] : 0.0;
      for (; k < f.bias_end[r]; ++k) bias[r] += uniform[f.biases[k]];
    }
  }
}

void LayerCode::forward(std::size_t layer, const BlockMemory& m, std::size_t n) const {
  const Forward& f = forward_[layer];
  layer_kernels().product(m,
                          {f.y.size(), f.x.size(), f.x.data(), f.y.data(), data_of(f.start), m.packed + f.panels,
                           m.packed + f.bias, f.relu},
                          n);
}

void LayerCode::backward(std::size_t layer, const BlockMemory& m, std::size_t n) const {
  const Backward& b = backward_[layer];
  const LayerKernels& kernels = layer_kernels();
  const std::size_t rows = b.g.size();
  if (!b.dx.empty())
    kernels.product(
        m, {b.dx.size(), rows, b.g.data(), b.dx.data(), data_of(b.start), m.packed + b.panels, nullptr, false}, n);
  if (b.any_dweights || b.any_dbias)
    kernels.gradient(m,
                     {rows, b.x.size(), b.g.data(), b.x.data(), b.any_dweights ? b.dweights.data() : nullptr,
                      b.any_dbias ? b.dbias.data() : nullptr},
                     n);
  for (std::size_t k = 0; k < b.more_bias.size(); k += 2) {
    const LayerGradient one{1, 0, &b.g[b.more_bias[k]], nullptr, nullptr, &b.more_bias[k + 1]};
    kernels.gradient(m, one, n);
  }
}

}  // namespace tapegrad
