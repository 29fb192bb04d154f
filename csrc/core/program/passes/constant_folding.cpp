// constant_folding.cpp: what depends on constants only is computed now.
#include "core/graph/scratch.hpp"
#include "core/program/passes/passes.hpp"

namespace tapegrad {

std::size_t fold_constants(Draft& draft, bool) {
  Program& p = draft.program;
  Scratch<double> values(p.code.size());  // of constants only
  std::size_t count = 0;
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    Instruction& i = p.code[n];
    if (i.code == Code::input || i.code == Code::param) continue;
    bool constant = true;
    p.for_each_operand(i,
                       [&](std::uint32_t operand) { constant = constant && p.code[operand].code == Code::constant; });
    if (!constant) continue;
    values[n] = evaluate(p, i, values.begin());
    if (i.code == Code::constant) continue;
    i = {Code::constant, 0, 0, 0, values[n]};
    ++count;
  }
  return count;
}

}  // namespace tapegrad
