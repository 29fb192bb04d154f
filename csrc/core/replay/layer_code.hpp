// layer_code.hpp: the layers of lane code: where their arrays lie, and their weights packed for the kernels once a run.
#pragma once

#include <cstdint>
#include <vector>

#include "core/replay/lane_layers.hpp"
#include "core/replay/layer_steps.hpp"

namespace tapegrad {

class LayerCode {
 public:
  // `lane_of_slot` numbers the lane arrays, kNoSlot for uniform numbers; `unused` is a place in the uniform memory that
  // nobody reads. Layers are numbered in the order of `steps`.
  LayerCode(const LayerSteps& steps, const std::vector<std::uint32_t>& lane_of_slot, std::uint32_t unused);

  // Doubles that the packed weights take.
  std::size_t packed() const { return packed_.size(); }
  void pack(const double* uniform, double* packed) const;

  // m.packed must hold what pack() made of m.uniform's parameters.
  void forward(std::size_t layer, const BlockMemory& m, std::size_t n) const;
  // n lanes count; arrays are written up to a whole vector.
  void backward(std::size_t layer, const BlockMemory& m, std::size_t n) const;

 private:
  using U32 = std::uint32_t;
  struct Forward {
    std::vector<U32> x, y, start, biases, bias_end;
    bool relu;
    std::size_t panels, bias;  // in the packed memory
  };
  struct Backward {
    std::vector<U32> g, x, dx, start, dweights;  // dx: those wanted
    std::vector<U32> dbias;                      // of the first in each row
    std::vector<U32> more_bias;                  // row and target of all others
    bool any_dweights, any_dbias;
    std::size_t panels;
  };
  void add_panels(std::size_t rows, std::size_t columns, const std::vector<U32>& weights);

  std::vector<Forward> forward_;
  std::vector<Backward> backward_;
  std::vector<U32> packed_;  // places in the uniform memory; biases are summed afterwards
  U32 unused_;
};

}  // namespace tapegrad
