// eager.hpp: what eager code computes for a program: instruction by instruction, then back, each operand's gradient
// added to at once.
#pragma once

#include <vector>

#include "check.hpp"
#include "core/ops/ops.hpp"
#include "core/program/program.hpp"

namespace tapegrad::test {

// The value, then the gradients of the parameters, which start from `before`. Of parameters only, each met once.
inline std::vector<double> sweep(const Program& p, const std::vector<double>& params,
                                 const std::vector<double>& before) {
  std::vector<double> v(p.code.size()), g(p.code.size(), 0.0);
  for (std::size_t n = 0; n < v.size(); ++n) {
    const Instruction& i = p.code[n];
    v[n] = i.code == Code::param ? params[i.a] : evaluate(p, i, v.data());
    if (i.code == Code::param) g[n] = before[i.a];
  }
  g[p.outputs[0]] = 1.0;
  for (std::size_t n = v.size(); n-- > 0;) {
    const Instruction& i = p.code[n];
    if (is_leaf(i.code) || i.code == Code::detach) continue;
    switch (i.code) {
      case Code::select:
        g[i.b] += v[i.a] != 0 ? g[n] : 0.0;
        g[i.c] += v[i.a] != 0 ? 0.0 : g[n];
        break;
      case Code::sum:
        for (std::uint32_t k = i.b; k-- > 0;) g[p.pool[i.a + k]] += g[n];
        break;
      case Code::powc:
        g[i.a] += fn::pow_dx(v[i.a], i.number) * g[n];
        break;
#define TAPEGRAD_UNARY(id, ...)                      \
  case Code::id:                                     \
    g[i.a] += Rule<Op::id>::dx(v[i.a], v[n]) * g[n]; \
    break;
#define TAPEGRAD_BINARY(id, ...)                   \
  case Code::id: {                                 \
    const double x = v[i.a], y = v[i.b];           \
    g[i.a] += Rule<Op::id>::dx(x, y, v[n]) * g[n]; \
    g[i.b] += Rule<Op::id>::dy(x, y, v[n]) * g[n]; \
    break;                                         \
  }
#include "core/ops/ops.def"
      default:
        CHECK(false);
    }
  }
  std::vector<double> out{v[p.outputs[0]]};
  for (std::uint32_t k = 0; k < p.params; ++k) out.push_back(g[k]);  // parameters come first
  return out;
}

}  // namespace tapegrad::test
