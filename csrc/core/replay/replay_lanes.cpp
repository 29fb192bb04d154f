// replay_lanes.cpp: the lane interpreter. A step is one call of a kernel for a block of lanes.
#include "core/replay/replay_lanes.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/lanes/lanes.hpp"

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

namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;  // of a block's values, within a core's second-level cache
constexpr std::size_t kMaxBlock = 1024, kMinBlock = 32;
constexpr std::size_t kSpareWorkers = 8;
constexpr std::uint16_t kLayer = kStepCodes + 1, kActivations = kStepCodes + 2;
constexpr std::size_t kPadding = 8;  // lanes: arrays are filled up to a multiple of it with copies of the last lane
constexpr std::size_t kGroups = 64;  // partial sums of the gradients, whatever the number of threads

std::size_t padded(std::size_t lanes) {
  return (lanes + kPadding - 1) / kPadding * kPadding;
}

std::uint32_t uniform_limit(const Lowered& l) {
  return l.param_base + l.params;
}

}  // namespace

// The memory of one thread.
struct LaneCode::Worker {
  std::vector<double> room, uniform, packed;
  double* lanes = nullptr;  // within room, aligned to 64 bytes: no vector lies across two cache lines
  std::size_t size = 0;
  BlockMemory m{};
  LaneStop* stop = nullptr;  // of the run that it works for
  bool asks = false;         // the thread that called

  void reserve(std::size_t count) {
    if (count <= size) return;
    room.assign(count + 8, 0.0);
    size = count;
    void* start = room.data();
    std::size_t bytes = (count + 8) * sizeof(double);
    lanes = static_cast<double*>(std::align(64, count * sizeof(double), start, bytes));
  }
};

LaneCode::~LaneCode() = default;

Place LaneCode::place(std::uint32_t slot) const {
  if (slot == kNoSlot) return {0, 1};
  const std::uint32_t lane = lane_of_slot_[slot];
  return lane == kNoSlot ? Place{slot, 1} : Place{lane, 0};
}

LaneCode::LaneCode(const Lowered& l, bool layers)
    : constants_(l.constants),
      guards_(l.guards),
      uniform_slots_(l.slots),
      params_(l.params),
      inputs_(l.inputs),
      param_base_(l.param_base),
      input_base_(l.input_base),
      param_gradients_(l.param_gradients),
      input_gradients_(l.input_gradients) {
  lane_of_slot_.assign(l.slots, kNoSlot);
  std::vector<bool> is_uniform(l.slots);
  const bool grads = l.param_gradients != kNoSlot;
  for (std::uint32_t s = 0; s < l.slots; ++s) {
    is_uniform[s] = s < uniform_limit(l) || (grads && s >= l.param_gradients && s < l.param_gradients + l.params);
    if (!is_uniform[s]) lane_of_slot_[s] = lane_slots_++;
  }
  const LayerSteps found = layers ? find_layers(l, is_uniform) : LayerSteps{};
  // Beyond the slots: the number 1, and a place that nobody reads.
  layers_ = std::make_unique<LayerCode>(found, lane_of_slot_, uniform_slots_ + 1);
  add_steps(l, found);
  for (std::uint32_t o : l.outputs) outputs_.push_back(place(o));
  for (const CheckedSlot& g : guards_) guard_places_.push_back(place(g.slot));
  has_seed_ = l.seed != kNoSlot;
  if (has_seed_) seed_ = place(l.seed);
  block_ = kBlockBytes / sizeof(double) / std::max<std::size_t>(lane_slots_, 1);
  block_ = std::clamp(block_ / 16 * 16, kMinBlock, kMaxBlock);
}

// Layers and runs of activations stand in place of the steps that they were found in.
void LaneCode::add_steps(const Lowered& l, const LayerSteps& found) {
  const auto add_numbered = [](std::vector<LaneStep>& steps, std::uint16_t code, std::size_t number) {
    LaneStep step{};
    step.code = code;
    step.first = static_cast<std::uint32_t>(number);
    steps.push_back(step);
  };
  std::size_t layer = 0, run = 0;
  for (std::size_t t = 0; t < l.forward.size();) {
    if (layer < found.forward.size() && found.forward[layer].begin == t) {
      t = found.forward[layer].end;
      add_numbered(forward_, kLayer, layer++);
    } else {
      add_forward(l, l.forward[t++]);
    }
  }
  layer = 0;
  for (std::size_t t = 0; t < l.backward.size();) {
    if (layer < found.backward.size() && found.backward[layer].begin == t) {
      for (const Term& carried : found.backward[layer].carried) {
        LaneStep step{};
        step.code = static_cast<std::uint16_t>(Code::sum);
        step.g = place(carried.y);
        step.first = static_cast<std::uint32_t>(terms_.size());
        step.count = 1;
        terms_.push_back({place(carried.x), {}, {}, 0, false, carried.mode == Mode::store, false});
        backward_.push_back(step);
      }
      t = found.backward[layer].end;
      add_numbered(backward_, kLayer, layer++);
    } else if (run < found.activations.size() && found.activations[run].begin == t) {
      Activations a{static_cast<Op>(l.backward[t].code), {}, {}, {}};
      for (; t < found.activations[run].end; ++t) {
        a.y.push_back(place(l.backward[t].z).index);
        a.from.push_back(place(l.backward[t].g).index);
        a.to.push_back(place(l.backward[t].dx).index);
      }
      activations_.push_back(std::move(a));
      add_numbered(backward_, kActivations, run++);
    } else {
      add_backward(l, l.backward[t++]);
    }
  }
}

LaneCode::LaneStep LaneCode::convert(const Step& s) const {
  return {s.code, s.mode_x, s.mode_y, place(s.z), place(s.x), place(s.y), place(s.g), place(s.dx), place(s.dy), 0, 0};
}

void LaneCode::add_forward(const Lowered& l, const Step& s) {
  LaneStep step = convert(s);
  if (s.code == static_cast<std::uint16_t>(Code::sum)) {
    step.first = static_cast<std::uint32_t>(terms_.size());
    step.count = s.count;
    for (std::uint32_t k = s.first; k < s.first + s.count; ++k) {
      const Term& t = l.terms[k];
      // A term that is not a product is one with the number 1, in the place after the last slot.
      terms_.push_back(
          {place(t.x), t.y == kNoSlot ? Place{uniform_slots_, 1} : place(t.y), {}, 0, false, false, false});
    }
  }
  forward_.push_back(step);
}

void LaneCode::add_backward(const Lowered& l, const Step& s) {
  LaneStep step = convert(s);
  if (s.code == static_cast<std::uint16_t>(Code::sum)) {
    step.first = static_cast<std::uint32_t>(terms_.size());
    step.count = s.count;
    for (std::uint32_t k = s.first; k < s.first + s.count; ++k)
      terms_.push_back({place(l.terms[k].x), {}, {}, 0, false, l.terms[k].mode == Mode::store, false});
    backward_.push_back(step);
    return;
  }
  if (s.code != static_cast<std::uint16_t>(Code::mul)) {
    backward_.push_back(step);
    return;
  }
  const auto fits_products = [](const LaneStep& m) {
    return !m.g.uniform && (m.mode_x == Mode::none || !m.dx.uniform) && (m.mode_y == Mode::none || m.dy.uniform) &&
           (m.mode_x == Mode::none || m.y.uniform) && (m.mode_y == Mode::none || !m.x.uniform);
  };
  if (!fits_products(step)) {  // the parameter may be the left factor
    LaneStep swapped = step;
    std::swap(swapped.x, swapped.y);
    std::swap(swapped.dx, swapped.dy);
    std::swap(swapped.mode_x, swapped.mode_y);
    if (!fits_products(swapped)) {
      backward_.push_back(step);
      return;
    }
    step = swapped;
  }
  const bool continues = !backward_.empty() && backward_.back().code == kStepCodes &&
                         backward_.back().g.index == step.g.index &&
                         backward_.back().first + backward_.back().count == terms_.size();
  if (!continues) {
    LaneStep group = step;
    group.code = kStepCodes;
    group.first = static_cast<std::uint32_t>(terms_.size());
    group.count = 0;
    backward_.push_back(group);
  }
  ++backward_.back().count;
  terms_.push_back({step.x, step.y, step.dx, step.dy.index, step.mode_x != Mode::none, step.mode_x == Mode::store,
                    step.mode_y != Mode::none});
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

void LaneCode::run_blocks(const LaneRun& run, Worker& w, std::size_t begin, std::size_t end, LaneGuards* guards) const {
  BlockMemory& m = w.m;
  for (std::size_t at = begin; at < end; at += m.stride) {
    if (w.stop->now(w.asks)) return;
    const std::size_t n = std::min(m.stride, end - at), full = padded(n);
    for (std::uint32_t k = 0; k < inputs_; ++k) {
      const double* from = run.inputs[k] + at * run.input_strides[k];
      const std::size_t stride = run.input_strides[k];
      double* to = m.lanes + lane_of_slot_[input_base_ + k] * m.stride;
      for (std::size_t i = 0; i < n; ++i) to[i] = from[i * stride];
      for (std::size_t i = n; i < full; ++i) to[i] = to[n - 1];
    }
    forward(m, full);
    for (std::size_t k = 0; k < guard_places_.size(); ++k) {
      const Place p = guard_places_[k];
      for (std::size_t i = 0; i < n; ++i) {
        const double value = p.uniform ? m.uniform[p.index] : m.lanes[p.index * m.stride + i];
        if (guards_[k].guard.holds(value)) continue;
        if (!guards->failures[k]++) guards->first[k] = at + i;
      }
    }
    for (std::size_t k = 0; run.outputs && k < outputs_.size(); ++k) {
      const Place p = outputs_[k];
      double* to = run.outputs[k] + at;
      if (p.uniform)
        std::fill(to, to + n, m.uniform[p.index]);
      else
        std::copy(m.lanes + p.index * m.stride, m.lanes + p.index * m.stride + n, to);
    }
    if (!run.param_gradients && !run.input_gradients) continue;
    if (input_gradients_ != kNoSlot) {
      for (std::uint32_t k = 0; k < inputs_; ++k) {
        double* g = m.lanes + lane_of_slot_[input_gradients_ + k] * m.stride;
        std::fill(g, g + full, 0.0);
      }
    }
    if (has_seed_) {
      if (seed_.uniform) {
        m.uniform[seed_.index] += run.seed * static_cast<double>(n);
      } else {
        double* g = m.lanes + seed_.index * m.stride;
        std::fill(g, g + full, run.seed);
      }
      backward(m, n);
    }
    for (std::uint32_t k = 0; run.input_gradients && k < inputs_; ++k) {
      if (!run.input_gradients[k]) continue;
      const double* g = m.lanes + lane_of_slot_[input_gradients_ + k] * m.stride;
      double* to = run.input_gradients[k] + at * run.gradient_strides[k];
      for (std::size_t i = 0; i < n; ++i) to[i * run.gradient_strides[k]] = g[i];
    }
  }
}

// Memory for a thread, the parameters and packed weights of this run in it.
std::unique_ptr<LaneCode::Worker> LaneCode::take_worker(const LaneRun& run, std::size_t stride) const {
  std::unique_ptr<Worker> w;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!spare_.empty()) {
      w = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  if (!w) {
    w = std::make_unique<Worker>();
    w->uniform.assign(std::size_t{uniform_slots_} + 2, 0.0);
    std::copy(constants_.begin(), constants_.end(), w->uniform.begin());
    w->uniform[uniform_slots_] = 1.0;
    w->packed.resize(layers_->packed());
  }
  w->reserve(std::size_t{lane_slots_} * stride + kPadding);
  if (params_) std::copy(run.params, run.params + params_, w->uniform.begin() + param_base_);
  layers_->pack(w->uniform.data(), w->packed.data());
  w->m = {w->lanes, w->uniform.data(), stride, w->packed.data()};
  return w;
}

void LaneCode::give_back(std::unique_ptr<Worker> worker) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.size() < kSpareWorkers) spare_.push_back(std::move(worker));
}

void LaneCode::run(const LaneRun& run, LaneGuards* guards) const {
  guards->clear(guards_.size());
  const bool sums = param_gradients_ != kNoSlot && run.param_gradients;
  const auto clear = [&] {
    if (sums) std::fill(run.param_gradients, run.param_gradients + params_, 0.0);
  };
  if (!run.lanes) return clear();
  // Blocks of equal size, as few as the cache allows; groups of whole blocks.
  const std::size_t blocks = (run.lanes + block_ - 1) / block_;
  const std::size_t stride = padded((run.lanes + blocks - 1) / blocks);
  const std::size_t groups = std::min(blocks, kGroups);
  const std::size_t group_lanes = (blocks + groups - 1) / groups * stride;
  const auto run_group = [&](Worker& w, std::size_t group, double* sum, LaneGuards* failures) {
    const std::size_t begin = std::min(run.lanes, group * group_lanes);
    const std::size_t end = std::min(run.lanes, begin + group_lanes);
    double* gradients = sums ? w.uniform.data() + param_gradients_ : nullptr;
    if (sums) std::fill(gradients, gradients + params_, 0.0);
    run_blocks(run, w, begin, end, failures);
    if (sums) std::copy(gradients, gradients + params_, sum);
  };
  LaneStop stop(run);
  if (groups == 1) {
    std::unique_ptr<Worker> worker = take_worker(run, stride);
    worker->stop = &stop;
    worker->asks = true;
    run_group(*worker, 0, run.param_gradients, guards);
    give_back(std::move(worker));
    guards->interrupted = stop.said();
    return;
  }

  clear();
  const std::size_t threads = run.threads_for(groups);
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::size_t t = 0; t < threads; ++t) {
    workers.push_back(take_worker(run, stride));
    workers[t]->stop = &stop;
    workers[t]->asks = t == 0;
  }
  run_groups(run, groups, threads, sums ? params_ : 0, guards,
             [&](std::size_t thread, std::size_t group, double* sum, LaneGuards* found) {
               run_group(*workers[thread], group, sum, found);
             });
  for (std::unique_ptr<Worker>& w : workers) give_back(std::move(w));
  guards->interrupted = stop.said();
}

}  // namespace tapegrad
