// sweep.hpp: the reverse sweep (reverse-mode accumulation; Griewank & Walther, Evaluating Derivatives, ch. 3) over the
// arena.
#pragma once

#include <vector>

#include "core/arena.hpp"
#include "core/node.hpp"

namespace tapegrad {

// Applies one node's rule: adds its gradient, times the partial derivatives, to the gradients of its operands.
void apply_rule(Node* node) noexcept;

// Adds into the gradient of every node that `root` depends on, newest first; root->grad is the seed. For graphs without
// rules from outside the core: it allocates nothing and cannot fail.
void sweep(Node* root) noexcept;

// The interior nodes that `root` depends on, itself included, newest first; then, if asked for, the leaves in order of
// discovery.
std::vector<Node*> collect(Node* root, bool with_leaves);

// The sweep for graphs in which a node may have a rule from outside the core (kHasRule): call(context, node) runs it
// and says whether to go on. Rules may build, sweep and free graphs of their own. Returns false if a rule said stop;
// the engine is as usable as before. Throws std::bad_alloc only before anything has changed.
bool sweep_with_rules(Arena& arena, Node* root, bool (*call)(void* context, Node* node), void* context);

}  // namespace tapegrad
