// repeats.hpp: finds the blocks that a program repeats (a loop that Python unrolled while recording) and turns each
// into a body that runs over lanes, one lane a repeat.
//
// Terms of a long chain of additions, or a long list of results, are the ends of repeats. What leads to one of them
// only is its block; what several share stays outside and is computed once. Blocks with the same operations in the same
// order become the lanes of one body, in which an operand is the same value of the block, a value shared by all lanes,
// or a column with a number for each lane. Everything else stays scalar, in stages that run before and after the
// bodies.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/program/program.hpp"

namespace tapegrad {

inline constexpr std::uint32_t kNoPlace = ~0u;

// A number for each lane: constants, or the values in these places.
struct Column {
  std::vector<double> numbers;
  std::vector<std::uint32_t> places;
  bool operator==(const Column&) const = default;
};

// A body and its lanes. Params of the body are read from `uniforms`, its inputs from `columns`.
struct Repeat {
  Program body;
  std::uint32_t lanes = 0;
  std::uint32_t level = 0;
  std::vector<std::uint32_t> uniforms;
  std::vector<Column> columns;
  std::vector<std::uint32_t> sums;               // where the first outputs go, summed over the lanes
  std::vector<std::vector<std::uint32_t>> outs;  // where the other outputs go, a place or kNoPlace for each lane
};

// A scalar part: inputs of the program are read from `inputs`, outputs go to `outputs`.
struct Stage {
  Program program;
  std::vector<std::uint32_t> inputs, outputs;
};

// A program taken apart. Stage k runs before the repeats of level k. Places hold the numbers that stages and repeats
// hand on: first the parameters, then the inputs, then the rest.
struct RepeatPlan {
  std::vector<Repeat> repeats;
  std::vector<Stage> stages;
  std::uint32_t params = 0, inputs = 0, places = 0;
  std::vector<std::pair<std::uint32_t, double>> constants;  // places that never change
  std::vector<std::uint32_t> outputs;                       // of the program
  std::vector<std::uint32_t> guards;                        // place of each guarded value
  std::size_t rolled = 0;                                   // operations of the program that the repeats replace
};

// Why a near miss did not qualify: the first operation or operand that breaks the pattern, in values of the program
// (kNoPlace: none). Repeats, operations and operands are counted from 0.
struct Miss {
  enum class Kind : std::uint8_t {
    operation,   // `value` in this repeat, `expected` in the others
    length,      // likewise, where one of the two has no such operation any more
    operand,     // this operand of `value` is ever another value of the block
    gathered,    // running them costs more than it saves: `count` operands differ, such as this one of `value`
    carried,     // `value` is used by its own repeat and by later ones
    small,       // all alike, but too few operations to gain anything
    recurrence,  // `repeats` steps of `size` operations, each from what the one before made, last in `value`
  };
  Kind kind;
  std::uint32_t repeats = 0, size = 0;  // how many repeats, of how many operations
  std::uint32_t repeat = 0, operation = 0, operand = 0;
  std::uint32_t count = 0;                              // of gathered; else how many kinds of repeats, if none will do
  std::uint32_t value = kNoPlace, expected = kNoPlace;  // of the repeat that differs, and of the first
  std::uint32_t taken = kNoPlace, pattern = kNoPlace;   // the operand's values there
};

struct RepeatReport {
  std::vector<std::string> found;  // one sentence a repeat
  std::vector<Miss> missed;
};

// A plan without repeats where none is worth while; with `always`, for tests, all that can be run as lanes. Time and
// memory linear in the program.
RepeatPlan find_repeats(const Program& program, RepeatReport* report, bool always = false);

}  // namespace tapegrad
