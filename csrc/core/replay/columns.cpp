// columns.cpp: lanes in groups for threads, groups in chunks.
#include "core/replay/columns.hpp"

#include <algorithm>
#include <cstring>

#include "core/lanes/lanes.hpp"
#include "core/replay/encode.hpp"

namespace tapegrad {

namespace {

constexpr std::size_t kMostSlots = 160;  // 40 KiB; what is in use at one time is less
constexpr std::size_t kMostGroups = 64;  // partial sums of the gradients, whatever the number of threads
constexpr std::size_t kSpareWorkers = 8;
constexpr std::size_t kAskEvery = 1024 * kChunk;  // lanes between two looks at LaneRun::interrupt

const ChunkKernels& chunk_kernels() {
#if defined(__x86_64__)
  for (const ChunkKernels* k : {&kChunksAvx512, &kChunksAvx2})
    if (!std::strcmp(k->name, lanes::instruction_set())) return *k;
#endif
  return kChunksBaseline;
}

// The sum over a chunk, by halves.
double sum_of(double* lanes) {
  for (std::size_t half = kChunk / 2; half; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

}  // namespace

// The memory of one thread.
struct ColumnCode::Worker {
  std::vector<double> room;
  double* m;  // within room, aligned to 64 bytes
  std::vector<double> kept;
  std::vector<InColumn> in;
  std::vector<OutColumn> out, gradients;
  LaneStop* stop = nullptr;  // of the run that it works for
  bool asks = false;         // the thread that called

  explicit Worker(std::size_t slots) : room((slots + 1) * kChunk, 0.0) {
    void* start = room.data();
    std::size_t bytes = room.size() * sizeof(double);
    m = static_cast<double*>(std::align(64, slots * kChunk * sizeof(double), start, bytes));
  }
  void spread(std::size_t slot, double x) { std::fill_n(m + slot * kChunk, kChunk, x); }
};

ColumnCode::~ColumnCode() = default;

bool ColumnCode::suits(const Lowered& l) {
  return l.params <= kMostParams && l.slots <= kMostSlots;
}

ColumnCode::ColumnCode(const Lowered& l)
    : forward_(encode(l, Direction::forward, l.slots, nullptr)),
      backward_(encode(l, Direction::backward, l.slots, nullptr)),
      constants_(l.constants),
      outputs_(l.outputs),
      guards_(l.guards),
      slots_(l.slots + 1),
      params_(l.params),
      inputs_(l.inputs),
      param_base_(l.param_base),
      input_base_(l.input_base),
      param_gradients_(l.param_gradients),
      input_gradients_(l.input_gradients),
      seed_(l.seed) {}

std::unique_ptr<ColumnCode::Worker> ColumnCode::take() const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!spare_.empty()) {
      std::unique_ptr<Worker> worker = std::move(spare_.back());
      spare_.pop_back();
      return worker;
    }
  }
  auto worker = std::make_unique<Worker>(slots_);
  for (std::size_t k = 0; k < constants_.size(); ++k) worker->spread(k, constants_[k]);
  worker->spread(slots_ - 1, 1.0);
  return worker;
}

void ColumnCode::give_back(std::unique_ptr<Worker> worker) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.size() < kSpareWorkers) spare_.push_back(std::move(worker));
}

void ColumnCode::run_lanes(const LaneRun& run, Worker& w, std::size_t begin, std::size_t end,
                           LaneGuards* guards) const {
  const ChunkKernels& kernels = chunk_kernels();
  const bool sums = run.param_gradients && param_gradients_ != kNoSlot;
  const bool gradients = run.param_gradients || run.input_gradients;
  const bool seed_sums = sums && seed_ >= param_gradients_ && seed_ < param_gradients_ + params_;
  double* const m = w.m;
  for (std::size_t at = begin; at < end; at += kChunk) {
    if ((at - begin) % kAskEvery == 0 && w.stop->now(w.asks)) return;
    const std::size_t count = std::min(kChunk, end - at);
    kernels.read(w.in.data(), w.in.size(), at, count, m);
    kernels.forward(forward_.data(), m);
    for (std::size_t k = 0; k < guards_.size(); ++k) {
      for (std::size_t i = 0; i < count; ++i) {
        if (guards_[k].guard.holds(m[guards_[k].slot * kChunk + i])) continue;
        if (!guards->failures[k]++) guards->first[k] = at + i;
      }
    }
    kernels.write(w.out.data(), w.out.size(), at, count, m);
    if (gradients && seed_ != kNoSlot) {
      double* const total = m + (sums ? param_gradients_ * kChunk : 0);
      if (sums && count < kChunk) w.kept.assign(total, total + params_ * kChunk);
      double* const seed = m + seed_ * kChunk;
      for (std::size_t i = 0; i < kChunk; ++i) seed[i] = seed_sums ? seed[i] + run.seed : run.seed;
      kernels.backward(backward_.data(), m);
      for (std::size_t k = 0; sums && count < kChunk && k < params_; ++k)  // the lanes past the end do not count
        std::copy(&w.kept[k * kChunk + count], &w.kept[k * kChunk] + kChunk, total + k * kChunk + count);
    }
    kernels.write(w.gradients.data(), w.gradients.size(), at, count, m);
  }
}

void ColumnCode::run(const LaneRun& run, LaneGuards* guards) const {
  guards->clear(guards_.size());
  const bool sums = run.param_gradients && param_gradients_ != kNoSlot;
  if (sums) std::fill(run.param_gradients, run.param_gradients + params_, 0.0);
  if (!run.lanes) return;
  const std::size_t chunks = (run.lanes + kChunk - 1) / kChunk;
  const std::size_t groups = std::min(chunks, kMostGroups);
  const std::size_t lanes_a_group = (chunks + groups - 1) / groups * kChunk;
  const std::size_t threads = run.threads_for(groups);

  LaneStop stop(run);
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::size_t t = 0; t < threads; ++t) {
    std::unique_ptr<Worker> w = take();
    w->in.clear();
    w->out.clear();
    w->gradients.clear();
    for (Word k = 0; k < params_; ++k) w->spread(param_base_ + k, run.params[k]);
    for (Word k = 0; k < inputs_; ++k) w->in.push_back({run.inputs[k], run.input_strides[k], input_base_ + k});
    for (std::size_t k = 0; run.outputs && k < outputs_.size(); ++k) w->out.push_back({run.outputs[k], 1, outputs_[k]});
    for (Word k = 0; run.input_gradients && k < inputs_; ++k)
      if (run.input_gradients[k])
        w->gradients.push_back({run.input_gradients[k], run.gradient_strides[k], input_gradients_ + k});
    if (sums) w->kept.reserve(params_ * kChunk);
    w->stop = &stop;
    w->asks = t == 0;
    workers.push_back(std::move(w));
  }
  run_groups(run, groups, threads, sums ? params_ : 0, guards,
             [&](std::size_t thread, std::size_t group, double* sum, LaneGuards* found) {
               Worker& w = *workers[thread];
               const std::size_t begin = std::min(run.lanes, group * lanes_a_group);
               const std::size_t end = std::min(run.lanes, begin + lanes_a_group);
               double* const total = w.m + (sums ? param_gradients_ * kChunk : 0);
               if (sums) std::fill(total, total + params_ * kChunk, 0.0);
               run_lanes(run, w, begin, end, found);
               for (std::size_t k = 0; sums && k < params_; ++k) sum[k] = sum_of(total + k * kChunk);
             });
  for (std::unique_ptr<Worker>& w : workers) give_back(std::move(w));
  guards->interrupted = stop.said();
}

}  // namespace tapegrad
