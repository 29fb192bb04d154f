// repeat_finder.hpp: what the parts of the repeat analysis share: chains, the places of values within blocks, and the
// steps from blocks to bodies and stages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/graph/scratch.hpp"
#include "core/program/passes/repeats.hpp"

namespace tapegrad::repeats {

using U32 = std::uint32_t;

inline constexpr U32 kNone = ~0u;
inline constexpr U32 kMinLanes = 4;  // terms from which a chain is looked at

// A run of one operation, ((t0 + t1) + t2) + ...; only terms that are no leaves are counted as repeats.
struct ChainInfo {
  U32 end;      // its last link
  U32 repeats;  // how many
  U32 first;    // the smallest of these terms: from here to the end it spans
  U32 reach;    // where what leads to that term began: terms may be summed long after they were made
};
struct Chains {
  std::vector<ChainInfo> found;
  Scratch<U32> before;  // of a link, the one that it extends, or kNone
};
Chains find_chains(const Program& p, const Scratch<U32>& uses);

// A chain in detail; as `end` kNone, the list of results.
struct Chain {
  U32 end = kNone;
  bool reduces = false;    // additions, so that lanes may be summed
  std::vector<U32> links;  // the other links
  std::vector<U32> terms;  // in order
  std::vector<U32> repeats;
  std::vector<bool> taken;                  // terms that are summed over lanes
  std::vector<std::pair<U32, U32>> summed;  // (repeat, output) of the sums that replace them
};
Chain chain_of(const Program& p, const Scratch<U32>& before, U32 end);

// Where a value lies: the lane it belongs to and its place in that lane's block. lane is kNone outside.
struct Spot {
  U32 lane, position;
};

// The blocks of some lanes: the values of lanes[k] are nodes[starts[k]] ... nodes[starts[k] + size - 1], in order.
struct Blocks {
  const Scratch<U32>* nodes;
  std::vector<U32> lanes, starts;
  U32 size;
  U32 at(std::size_t k, U32 position) const { return (*nodes)[starts[k] + position]; }
};

// The body of the blocks by a walk in lockstep: each operand becomes a value of the body, a uniform, a constant or a
// column. An output is the sum of the values at some positions of a block. Uniforms and columns name values of the
// program. Nothing where an operand differs in more ways than it is worth; `miss` then tells which.
std::optional<Repeat> build_body(const Program& p, const Blocks& blocks, const Scratch<Spot>& spots,
                                 const std::vector<std::vector<U32>>& outputs, Miss* miss);

// repeat_misses.cpp. How a repeat differs from a model: in an operation, or in how many it has.
Miss difference(const Program& p, const Blocks& blocks, U32 model_size, U32 size);

// The first operand that the blocks take from different values outside, in the first two that differ.
Miss gathered_operand(const Program& p, const Blocks& blocks, const Scratch<Spot>& spots);

// A chain of equal steps, each from what the one before made, that spans most of the program.
std::optional<Miss> find_recurrence(const Program& p);

// What the search found, in values of the program.
struct Findings {
  std::vector<Repeat> repeats;  // sums are numbered by plan_stages; outs, uniforms and columns name values
  Scratch<U32> owner;           // of each value, the repeat that computes it, or kNone
  std::vector<bool> dropped;    // links of chains that were replaced
  std::vector<Chain> chains;    // those with a sum over lanes
};

// Gives places to what stages and repeats hand on, and writes the stages. False where parts would wait for each other.
bool plan_stages(const Program& p, Findings found, RepeatPlan* plan);

// Operands of an instruction: how many, and each.
inline U32 operand_count(const Instruction& i) {
  switch (i.code) {
    case Code::input:
    case Code::param:
    case Code::constant:
      return 0;
    case Code::detach:
      return 1;
    case Code::select:
      return 3;
    case Code::sum:
      return i.b;
    case Code::linear:
      return 1 + 2 * i.b;
    default:
      return kArity[static_cast<int>(i.code)];
  }
}
inline U32 operand_of(const Program& p, const Instruction& i, U32 slot) {
  switch (i.code) {
    case Code::sum:
      return p.pool[i.a + slot];
    case Code::linear:
      return slot ? p.pool[i.a + slot - 1] : i.c;
    default:
      return slot == 0 ? i.a : slot == 1 ? i.b : i.c;
  }
}
// Operations that are the same whatever their operands are.
inline bool same_operation(const Instruction& i, const Instruction& j) {
  return i.code == j.code && (i.code != Code::powc || i.number == j.number) &&
         ((i.code != Code::sum && i.code != Code::linear) || i.b == j.b);
}

}  // namespace tapegrad::repeats
