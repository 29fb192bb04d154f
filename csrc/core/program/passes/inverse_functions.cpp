// inverse_functions.cpp: the exponential of a logarithm is what the logarithm was taken of, and that of softplus(x) is
// e^x + 1. Not where every bit has to stay.
#include <vector>

#include "core/program/passes/passes.hpp"

namespace tapegrad {

namespace {

// Whether a value is above zero, or zero or infinity where it leaves the range; NaN also counts.
bool is_positive(const Program& p, const Instruction& i, const std::vector<bool>& positive) {
  switch (i.code) {
    case Code::constant:
      return i.number > 0;
    case Code::exp:
    case Code::sigmoid:
    case Code::softplus:
      return true;
    case Code::powc:
    case Code::sqrt:
      return positive[i.a];
    case Code::add:
    case Code::mul:
    case Code::div:
    case Code::sum: {
      bool all = true;
      p.for_each_operand(i, [&](std::uint32_t operand) { all = all && positive[operand]; });
      return all;
    }
    default:
      return false;
  }
}

}  // namespace

std::size_t cancel_logarithms(Draft& draft, bool exact) {
  if (exact) return 0;
  Program& p = draft.program;
  const auto is_exp_of = [&p](const Instruction& i, Code code) {
    return i.code == Code::exp && p.code[i.a].code == code;
  };
  std::vector<bool> positive(p.code.size());
  std::size_t count = 0;
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    positive[n] = is_positive(p, i, positive);
    count += is_exp_of(i, Code::softplus) || (is_exp_of(i, Code::log) && positive[p.code[i.a].a]);
  }
  if (!count) return 0;
  Program out;
  out.pool = p.pool;
  std::vector<std::uint32_t> place(p.code.size());
  std::uint32_t one = ~0u;
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    Instruction i = p.code[n];
    if (is_exp_of(i, Code::log) && positive[p.code[i.a].a]) {
      place[n] = place[p.code[i.a].a];
    } else if (is_exp_of(i, Code::softplus)) {
      if (one == ~0u) one = out.add({Code::constant, 0, 0, 0, 1.0});
      const std::uint32_t power = out.add({Code::exp, place[p.code[i.a].a]});
      place[n] = out.add({Code::add, power, one});
    } else {
      out.map_operands(i, [&](std::uint32_t operand) { return place[operand]; });
      place[n] = out.add(i);
    }
  }
  draft.rewrite(std::move(out), place);
  return count;
}

}  // namespace tapegrad
