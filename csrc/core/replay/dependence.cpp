// dependence.cpp: walks over a program, oldest first, that carry on what each value depends on.
#include "core/replay/dependence.hpp"

#include <cstdint>

namespace tapegrad {

std::vector<bool> varied_values(const Program& p, const std::vector<bool>& inputs, const std::vector<bool>& params) {
  std::vector<bool> varied(p.code.size(), false);
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    switch (i.code) {
      case Code::input:
        varied[n] = inputs[i.a];
        break;
      case Code::param:
        varied[n] = params[i.a];
        break;
      case Code::select:
        varied[n] = varied[i.b] || varied[i.c];
        break;
      case Code::linear:
        for (std::uint32_t k = 0; k < i.b; ++k) varied[n] = varied[n] || varied[p.pool[i.a + k]];
        break;
      case Code::constant:
      case Code::detach:
      case Code::less:
      case Code::less_equal:
      case Code::equal:
        break;
      default:
        p.for_each_operand(i, [&](std::uint32_t operand) { varied[n] = varied[n] || varied[operand]; });
    }
  }
  return varied;
}

bool is_affine(const Program& p, const std::vector<bool>& inputs) {
  std::vector<bool> depends(p.code.size(), false);
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    if (i.code == Code::input) depends[n] = inputs[i.a];
    p.for_each_operand(i, [&](std::uint32_t operand) { depends[n] = depends[n] || depends[operand]; });
    if (!depends[n]) continue;
    switch (i.code) {
      case Code::input:
      case Code::add:
      case Code::sum:
      case Code::detach:
      case Code::less:
      case Code::less_equal:
      case Code::equal:
        break;
      case Code::mul:
        if (depends[i.a] && depends[i.b]) return false;
        break;
      case Code::div:
        if (depends[i.b]) return false;
        break;
      case Code::select:
        if (depends[i.a]) return false;
        break;
      case Code::linear:
        for (std::uint32_t k = 0; k < i.b; ++k)
          if (depends[p.pool[i.a + i.b + k]]) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

}  // namespace tapegrad
