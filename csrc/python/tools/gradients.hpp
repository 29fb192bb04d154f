// gradients.hpp: what can be done with gradients besides adding them up: zeroing a graph, gradients that leave .grad
// alone, and sweeps that are looked at step by step.
#pragma once

#include <pybind11/pybind11.h>

#include "python/value/value.hpp"

namespace tapegrad::python {

// Calls the backward rule that a program assigned to the node. False with an error set.
bool call_rule(Node* node);

// A sweep from `root`, whose gradient is set, that raises AnomalyError at the first rule which makes a gradient NaN or
// infinite out of better ones. False with an error set.
bool checked_sweep(Node* root);

void register_gradients(pybind11::module_& m);

}  // namespace tapegrad::python
