// replay.hpp: runs a lowered program for one set of numbers, forward and backward, with the bits of eager code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/replay/lower.hpp"

namespace tapegrad {

// An operation that eager code would have refused, and its operands.
struct Failure {
  Code code = Code::count;
  double x = 0.0, y = 0.0;
};

// A lowered program as a stream of words: an operation followed by the slots it works on. Immutable once made; several
// threads may run it, each with memory of its own.
class ScalarCode {
 public:
  explicit ScalarCode(const Lowered& lowered);

  // Doubles that a run works on; prepare() sets the constants in them once.
  std::size_t slots() const { return slots_; }
  void prepare(double* memory) const;

  // Expects parameters and inputs in their slots. Follows IEEE, nothing raises.
  void forward(double* memory) const;

  // The same, but stops at the first operation that eager code would refuse, and says which; code is Code::count if
  // there was none.
  Failure checked_forward(double* memory) const;

  // Expects the values of forward(), the seed and the gradients of the leaves to add to.
  void backward(double* memory) const;

 private:
  LargeVector<Word> forward_, backward_;
  std::vector<double> constants_;
  std::size_t slots_;
  bool exact_;
};

}  // namespace tapegrad
