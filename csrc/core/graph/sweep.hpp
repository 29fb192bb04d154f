// sweep.hpp: the reverse sweep (reverse-mode accumulation; Griewank & Walther, Evaluating Derivatives, ch. 3) over the
// arena.
#pragma once

#include <vector>

#include "core/graph/arena.hpp"
#include "core/graph/node.hpp"
#include "core/graph/scratch.hpp"

namespace tapegrad {

// Applies one node's rule: adds its gradient, times the partial derivatives, to the gradients of its operands. False
// when there is no memory for a gradient that is an array; then nothing has changed. Somebody must hold the node if it
// may pause: see apply_array_rule.
bool apply_rule(Node* node, Arena* pausing = nullptr) noexcept;

// Adds into the gradient of every node that `root` depends on, newest first; root->grad is the seed. For graphs without
// rules from outside the core. Allocates nothing for numbers; false when there is no memory for the gradients of
// arrays, or if it was given up (see PauseHooks), and then some gradients are added and others not. Given the arena, it
// lets other threads run during the rules of large arrays, and hears of Ctrl-C.
bool sweep(Node* root, Arena* pausing = nullptr) noexcept;

// Sets the gradient of `root` and of every node that it depends on to zero.
void zero_gradients(Node* root) noexcept;

// The interior nodes that `root` depends on, itself included, newest first; then, if asked for, the leaves in order of
// discovery.
std::vector<Node*> collect(Node* root, bool with_leaves);

// Those without the leaves, for a step of a compilation.
LargeVector<Node*> collect_interior(Node* root);

// The sweep for graphs in which a node may have a rule from outside the core (kHasRule): call(context, node) runs it
// and says whether to go on. Rules may build, sweep and free graphs of their own. Returns false if a rule said stop, or
// Ctrl-C did; the engine is as usable as before. Throws std::bad_alloc before anything has changed, or for want of
// memory for the gradient of an array.
bool sweep_with_rules(Arena& arena, Node* root, bool (*call)(void* context, Node* node), void* context);

}  // namespace tapegrad
