// layer_steps.hpp: finds the layers among lowered steps: neighbouring sums of products of the same inputs with uniform
// weights, forward and backward, and the activations next to them.
//
// What is found may be computed in place of the steps it stands for: it reads nothing that it writes but gradients that
// it adds to. Bias and weights may be any uniform numbers; a sum that fits nowhere stays a step.
#pragma once

#include <cstdint>
#include <vector>

#include "core/replay/lower.hpp"

namespace tapegrad {

// Slots throughout. z[r] = start[r] + biases of r + sum of weights[r * columns + c] * x[c].
struct ForwardLayer {
  std::size_t begin, end;  // the steps it stands for
  std::vector<std::uint32_t> x, z, start, weights;
  std::vector<std::uint32_t> biases, bias_end;  // those of row r end at bias_end[r]
  bool relu = false;

  std::size_t rows() const { return z.size(); }
};

// dx[c] (+)= sum of weights * g, dweights += g * x, and g itself into the biases' gradients.
struct BackwardLayer {
  std::size_t begin, end;
  std::vector<std::uint32_t> g, x, weights;
  std::vector<std::uint32_t> dx;        // kNoSlot: not wanted
  std::vector<bool> store;              // whether the gradient is the first part of dx[c]
  std::vector<std::uint32_t> dweights;  // kNoSlot: not wanted
  std::vector<std::uint32_t> dbias, bias_end;
  std::vector<Term> carried;  // before all that, the gradient y also goes to the lane gradient x

  std::size_t rows() const { return g.size(); }
};

// Backward steps of one activation in a row: they are done one after the other.
struct ActivationRun {
  std::size_t begin, end;
};

struct LayerSteps {  // each in order, not overlapping
  std::vector<ForwardLayer> forward;
  std::vector<BackwardLayer> backward;
  std::vector<ActivationRun> activations;
};

// `uniform` tells of each slot whether it holds one number for all lanes. Linear in the steps.
LayerSteps find_layers(const Lowered& lowered, const std::vector<bool>& uniform);

}  // namespace tapegrad
