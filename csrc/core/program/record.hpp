// record.hpp: copies a part of the arena out as a program, from roots back to inputs and parameters.
//
// Nothing is stored while a function runs: the nodes it made are the recording. Nodes made before it ran, and leaves
// that somebody still holds, are parameters: their data is read when the program runs. Leaves that nobody holds are
// constants.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/graph/arena.hpp"
#include "core/program/program.hpp"

namespace tapegrad {

// A value that the function looked at, and what it saw.
struct Look {
  GuardKind kind;
  Node* node;
  double expected;
  std::string note;
};

// Labels of the custom nodes that stand for the instructions detach, select and linear.
struct RecordLabels {
  std::uint32_t detach, select, linear;
};

struct Recorded {
  Program program;
  std::vector<Node*> params;        // in the order of Program::params; not held
  std::vector<bool> whole_outputs;  // which outputs Python shows as ints, whatever inputs and parameters are
  LargeVector<Node*> nodes;         // those of the instructions that are no leaves, in their order
};

// The nodes of some values of the program, given in rising order, while the recorded nodes live; null for leaves.
std::vector<Node*> nodes_of_values(const Recorded& recorded, const Program& program,
                                   const std::vector<std::uint32_t>& values);

// Nodes with an id below `since` were there before. Throws std::invalid_argument where a node has a backward rule from
// outside the core, std::length_error past kMaxProgram instructions.
Recorded record(Arena& arena, const std::vector<Node*>& roots, const std::vector<Node*>& inputs,
                const std::vector<Look>& looks, std::uint64_t since, const RecordLabels& labels);

}  // namespace tapegrad
