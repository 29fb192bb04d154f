// cheap_powers.cpp: powers with the commonest exponents become divisions, products and roots. Not where bits have to be
// those of pow().
#include "core/program/passes/passes.hpp"

namespace tapegrad {

std::size_t replace_powers(Draft& draft, bool exact) {
  if (exact) return 0;
  Program& p = draft.program;
  std::size_t count = 0;
  std::uint32_t one = ~0u;
  Program out;
  std::vector<std::uint32_t> place(p.code.size());
  out.pool = p.pool;
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    Instruction i = p.code[n];
    out.map_operands(i, [&](std::uint32_t operand) { return place[operand]; });
    if (i.code != Code::powc || !(i.number == -1 || i.number == 2 || i.number == 0.5)) {
      place[n] = out.add(i);
      continue;
    }
    ++count;
    if (i.number == 2) {
      place[n] = out.add({Code::mul, i.a, i.a});
    } else if (i.number == 0.5) {
      place[n] = out.add({Code::sqrt, i.a});
    } else {
      if (one == ~0u) one = out.add({Code::constant, 0, 0, 0, 1.0});
      place[n] = out.add({Code::div, one, i.a});
    }
  }
  if (!count) return 0;
  draft.rewrite(std::move(out), place);
  return count;
}

}  // namespace tapegrad
