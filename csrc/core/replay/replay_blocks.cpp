// replay_blocks.cpp: a run over lanes, block by block and by several threads, each with memory of its own.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/replay/lane_code.hpp"

namespace tapegrad {

namespace {

constexpr std::size_t kSpareWorkers = 8;
constexpr std::size_t kGroups = 64;  // partial sums of the gradients, whatever the number of threads

}  // namespace

LaneCode::~LaneCode() = default;

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
