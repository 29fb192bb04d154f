// replay_lanes.hpp: runs a lowered program for many lanes at once, block by block, so that a block's values stay in
// cache.
//
// Parameters are one number for all lanes; their gradients are summed over the lanes in an order that depends on the
// number of lanes and the instruction set, never on the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/replay/lane_groups.hpp"
#include "core/replay/lane_products.hpp"
#include "core/replay/layer_code.hpp"
#include "core/replay/lower.hpp"

namespace tapegrad {

class LaneCode {
 public:
  explicit LaneCode(const Lowered& lowered, bool layers = true);
  ~LaneCode();

  // Follows IEEE, nothing raises. Throws std::bad_alloc only, before anything is written.
  void run(const LaneRun& run, LaneGuards* guards) const;

  std::size_t block_lanes() const { return block_; }

 private:
  struct LaneStep {
    std::uint16_t code;
    Mode mode_x, mode_y;
    Place z, x, y, g, dx, dy;
    std::uint32_t first, count;  // terms; or the number of a layer or of a run of activations
  };
  struct Worker;
  std::unique_ptr<Worker> take_worker(const LaneRun& run, std::size_t stride) const;
  void give_back(std::unique_ptr<Worker> worker) const;
  LaneStep convert(const Step& s) const;
  void add_forward(const Lowered& lowered, const Step& s);
  void add_backward(const Lowered& lowered, const Step& s);
  void add_steps(const Lowered& lowered, const LayerSteps& layers);
  void forward(const BlockMemory& m, std::size_t n) const;
  void backward(const BlockMemory& m, std::size_t n) const;
  Place place(std::uint32_t slot) const;
  void run_blocks(const LaneRun& run, Worker& worker, std::size_t begin, std::size_t end, LaneGuards* guards) const;

  std::vector<LaneStep> forward_, backward_;
  std::vector<ProductTerm> terms_;
  struct Activations {  // derivatives of one activation in a row
    Op op;
    std::vector<std::uint32_t> y, from, to;
  };
  std::vector<Activations> activations_;
  std::unique_ptr<LayerCode> layers_;
  std::vector<double> constants_;
  std::vector<Place> outputs_;
  std::vector<CheckedSlot> guards_;
  std::vector<Place> guard_places_;
  std::vector<std::uint32_t> lane_of_slot_;
  std::uint32_t uniform_slots_, lane_slots_ = 0, params_, inputs_;
  std::uint32_t param_base_, input_base_, param_gradients_, input_gradients_;
  Place seed_{};
  bool has_seed_ = false;
  std::size_t block_ = 0;
  mutable std::mutex mutex_;  // guards the memory that no run uses just now
  mutable std::vector<std::unique_ptr<Worker>> spare_;
};

}  // namespace tapegrad
