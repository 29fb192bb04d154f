// columns.hpp: runs a lowered program for many lanes, a chunk of lanes at a time through all its steps. For programs of
// little more than elementwise work; LaneCode is for those with many parameters.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/replay/chunks.hpp"
#include "core/replay/lower.hpp"
#include "core/replay/replay_lanes.hpp"

namespace tapegrad {

class ColumnCode {
 public:
  // Expects steps with gathered gradients and fresh inputs.
  explicit ColumnCode(const Lowered& lowered);
  ~ColumnCode();

  static constexpr std::uint32_t kMostParams = 32;
  // Whether a chunk's memory stays in the first-level cache, with every parameter spread over the lanes.
  static bool suits(const Lowered& lowered);

  // As LaneCode::run(). Sums over the lanes are formed in an order that depends on their number only, the same for
  // every number of threads.
  void run(const LaneRun& run, LaneGuards* guards) const;

 private:
  struct Worker;
  std::unique_ptr<Worker> take() const;
  void give_back(std::unique_ptr<Worker> worker) const;
  void run_lanes(const LaneRun& run, Worker& worker, std::size_t begin, std::size_t end, LaneGuards* guards) const;

  LargeVector<Word> forward_, backward_;
  std::vector<double> constants_;
  std::vector<Word> outputs_;
  std::vector<CheckedSlot> guards_;
  Word slots_, params_, inputs_, param_base_, input_base_, param_gradients_, input_gradients_, seed_;
  mutable std::mutex mutex_;  // guards the memory that no run uses just now
  mutable std::vector<std::unique_ptr<Worker>> spare_;
};

}  // namespace tapegrad
