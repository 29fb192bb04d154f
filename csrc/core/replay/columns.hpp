// columns.hpp: runs a lowered program for many lanes, a chunk of lanes at a time through all its steps. For programs of
// little more than elementwise work; LaneCode is for those with many parameters.
//
// Steps read and write arrays in place where they lie suitably: an input whose lanes are next to each other and start
// at a cache line, an output or a gradient whose lanes are next to each other. Everything else is copied.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/replay/chains.hpp"
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

  // As LaneCode::run(). No array that is written may overlap another. Sums over the lanes are formed in an order that
  // depends on their number only, the same for every number of threads.
  void run(const LaneRun& run, LaneGuards* guards) const;

  std::size_t chunk_lanes() const { return chunk_; }

 private:
  struct Worker;
  std::unique_ptr<Worker> take() const;
  void give_back(std::unique_ptr<Worker> worker) const;
  bool is_param_gradient(Word slot) const;
  void prepare(const LaneRun& run, std::size_t first, bool sums, Worker& worker) const;
  void run_chunk(const LaneRun& run, Worker& worker, std::size_t at, std::size_t count, LaneGuards* guards) const;

  Chained forward_, backward_;
  std::vector<double> constants_;
  std::vector<Word> outputs_;
  std::vector<bool> written_forward_, written_backward_;  // which slots steps write to
  std::vector<CheckedSlot> guards_;
  Word slots_, params_, inputs_, param_base_, input_base_, param_gradients_, input_gradients_, seed_;
  std::size_t chunk_;
  mutable std::mutex mutex_;  // guards the memory that no run uses just now
  mutable std::vector<std::unique_ptr<Worker>> spare_;
};

}  // namespace tapegrad
