// fusion.hpp: what the matchers of fused steps share: who writes and who reads each register, and what is replaced.
#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "core/replay/fuse.hpp"
#include "core/replay/lower.hpp"

namespace tapegrad {

// Steps stay where they are, with their numbers, until replace(). A match is checked in full before anything is marked.
class Fusion {
 public:
  using U32 = std::uint32_t;
  static constexpr U32 kNone = ~0u;

  // What replaces the steps of one direction, by their numbers.
  struct Changes {
    std::vector<bool> gone;
    std::vector<std::pair<U32, Step>> made;  // and the steps that they follow
  };
  // Who uses a register. Steps that write it twice count as none.
  struct Uses {
    U32 writer = kNone, first_reader = kNone, readers = 0;
  };

  // The steps of a direction, read from its words. Of a fused step the registers that it reads are `x` of its terms,
  // those that it writes `y`; kNoSlot for none, or for a factor of 1. What is for each i starts with a term whose mode
  // is store. In order:
  //   softmax forward    -> s; -> 1 / s; for each i: x_i -> a_i, or a_i for what is no exponential; -> a_i / s
  //   softmax backward   s -> ds; 1 / s; for each i: a_i -> dx_i; then pairs, the sum of whose products is the gradient
  //                      of a_i / s (those without one come last)
  //   log_exp forward    x -> e^x; -> e^x + 1; -> log(e^x + 1)
  //   log_exp backward   e^x -> dx; e^x + 1; g
  //   softplus forward   x -> e^-|x|; -> softplus(x)
  //   softplus backward  e^-|x| -> dx; x; g
  struct Steps {
    std::vector<Step> forward, backward;
    std::vector<Term> terms;
    bool exact = true;
  };

  Fusion(const Program& program, const Lowered& l, U32 first_free);
  void replace(Lowered& l);

  static U32 size(const std::vector<Step>& steps) { return static_cast<U32>(steps.size()); }
  static bool is(const Step& s, Code code) { return s.code == static_cast<std::uint16_t>(code); }

  // The number in a register that is a constant, or NaN.
  double constant(U32 r) const;
  // The step that computes a value, if it is the only one and does `code`.
  U32 writer_of(U32 r, Code code) const;
  // Whether a is an exponential that nothing reads before step n.
  bool starts_here(U32 a, U32 n) const { return writer_of(a, Code::exp) != kNone && values[a].first_reader == n; }
  // Whether a step is r + 1.
  bool adds_one(const Step& s, U32 r) const;
  // Puts a step behind step number `place`.
  void put(Changes& to, U32 place, std::uint16_t code, std::initializer_list<Term> head,
           const std::vector<Term>& tail = {});

  Steps lowered;
  U32 registers;        // the next free one
  const U32 first_new;  // those before have uses
  Changes forward, backward;
  std::vector<Uses> values, gradients;          // in forward and in backward steps
  std::vector<U32> exp_backward, log_backward;  // the step, by e^x and by what the logarithm is taken of

 private:
  void find_uses(const std::vector<Step>& steps, bool is_backward, std::vector<Uses>& uses) const;
  void find_derivatives();
  void read(const Stream& stream, bool is_backward, std::vector<Step>& steps);
  void write(const Step& s, bool is_backward, std::vector<Word>& words);

  const Program& program_;
  const std::vector<double>& constants_;
};

void fuse_softmaxes(Fusion& fusion);
void fuse_softplus(Fusion& fusion);  // and log(e^x + 1); after the softmaxes, whose exponentials may not be elsewhere

}  // namespace tapegrad
