// dependence.hpp: what a stage or a body depends on: which of its values have a gradient, and whether its derivatives
// are known before its inputs are.
#pragma once

#include <vector>

#include "core/program/program.hpp"

namespace tapegrad {

// Which values have a gradient, given which inputs and params have one.
std::vector<bool> varied_values(const Program& p, const std::vector<bool>& inputs, const std::vector<bool>& params);

// Whether the derivatives by the marked inputs are the same whatever these are: no means that they may not be.
bool is_affine(const Program& p, const std::vector<bool>& inputs);

}  // namespace tapegrad
