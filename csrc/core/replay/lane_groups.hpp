// lane_groups.hpp: a run over many lanes in groups that threads take one by one; what the groups found is put together
// in their order, so that results do not depend on the threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace tapegrad {

// How often each guard failed, and where first.
struct LaneGuards {
  std::vector<std::size_t> failures, first;
  bool interrupted = false;  // LaneRun::interrupt said so; the results are of no use

  void clear(std::size_t count) {
    failures.assign(count, 0);
    first.assign(count, 0);
    interrupted = false;
  }
  // Of lanes after those counted so far.
  void add(const LaneGuards& later) {
    for (std::size_t k = 0; k < failures.size(); ++k) {
      if (later.failures[k] && !failures[k]) first[k] = later.first[k];
      failures[k] += later.failures[k];
    }
  }
};

// What one run reads and writes; arrays that are not wanted are null.
struct LaneRun {
  std::size_t lanes = 0;
  int threads = 1;
  const double* params = nullptr;
  const double* const* inputs = nullptr;       // an array of lanes for each input ...
  const std::size_t* input_strides = nullptr;  // ... and how far apart its lanes lie
  double* const* outputs = nullptr;            // an array of lanes for each output
  double* const* input_gradients = nullptr;    // an array of lanes for each input
  const std::size_t* gradient_strides = nullptr;
  double* param_gradients = nullptr;   // summed over the lanes; written, not added to
  double seed = 1.0;                   // gradient of the output in each lane
  bool (*interrupt)(void*) = nullptr;  // asked between blocks by the thread that called: whether to give up
  void* interrupt_context = nullptr;

  std::size_t threads_for(std::size_t groups) const {
    return std::clamp<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), 1, groups);
  }
};

// Whether a run is to be given up: the thread that called asks, the others hear of it.
class LaneStop {
 public:
  explicit LaneStop(const LaneRun& run) : run_(run) {}
  bool now(bool may_ask) {
    if (may_ask && !said() && run_.interrupt && run_.interrupt(run_.interrupt_context))
      stop_.store(true, std::memory_order_relaxed);
    return said();
  }
  bool said() const { return stop_.load(std::memory_order_relaxed); }

 private:
  const LaneRun& run_;
  std::atomic<bool> stop_{false};
};

// Calls work(thread, group, sums, guards) for every group, thread 0 being the one that called; sums has room for
// `params` numbers. Adds sums and guards up, group by group, into run.param_gradients and *guards, which hold none yet.
// `work` may not throw.
template <typename Work>
void run_groups(const LaneRun& run, std::size_t groups, std::size_t threads, std::size_t params, LaneGuards* guards,
                const Work& work) {
  const std::size_t guard_count = guards->failures.size();
  std::vector<double> sums(groups * params);
  std::vector<LaneGuards> found(guard_count ? groups : 1);
  for (LaneGuards& g : found) g.clear(guard_count);
  std::atomic<std::size_t> next{0};
  const auto take_groups = [&](std::size_t thread) noexcept {
    for (std::size_t group; (group = next++) < groups;)
      work(thread, group, sums.data() + group * params, &found[guard_count ? group : 0]);
  };
  std::vector<std::thread> others;
  others.reserve(threads - 1);
  try {
    for (std::size_t t = 1; t < threads; ++t) others.emplace_back(take_groups, t);
  } catch (const std::exception&) {
    // The system gives no more threads: those there are do the work.
  }
  take_groups(0);
  for (std::thread& t : others) t.join();
  for (std::size_t group = 0; group < groups; ++group)
    for (std::size_t k = 0; k < params; ++k) run.param_gradients[k] += sums[group * params + k];
  for (const LaneGuards& g : found) guards->add(g);
}

}  // namespace tapegrad
