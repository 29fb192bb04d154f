// sum_chains.cpp: ((a + b) + c) + d becomes one sum of many operands. The order of additions stays; where gradients
// have to keep every bit, a chain is cut before an operand whose gradient would get its parts in another order.
#include <algorithm>

#include "core/graph/scratch.hpp"
#include "core/program/passes/passes.hpp"

namespace tapegrad {

std::size_t merge_sum_chains(Draft& draft, bool exact) {
  Program& p = draft.program;
  const auto size = static_cast<std::uint32_t>(p.code.size());
  const auto adds = [&](std::uint32_t n) { return p.code[n].code == Code::add; };
  bool any = false;
  for (std::uint32_t n = 0; n < size && !any; ++n) any = adds(n) && (adds(p.code[n].a) || adds(p.code[n].b));
  if (!any) return 0;
  constexpr std::uint32_t kNever = ~0u;
  Scratch<std::uint32_t> uses(size, 0);
  Scratch<std::uint32_t> next(size, kNever);          // the nearest use after the instruction at hand
  Scratch<std::uint32_t> next_a(size), next_b(size);  // of each addition's operands
  for (std::uint32_t o : p.outputs) ++uses[o];
  for (const Guard& g : p.guards) ++uses[g.value];
  for (std::uint32_t n = size; n-- > 0;) {
    const Instruction& i = p.code[n];
    if (i.code == Code::add) {
      next_a[n] = next[i.a];
      next_b[n] = next[i.b];
    }
    p.for_each_operand(i, [&](std::uint32_t operand) {
      ++uses[operand];
      next[operand] = n;
    });
    if (draft.same[n] != n) uses[draft.same[n]] += 2;  // its value is asked for by itself
  }
  const auto is_link = [&](std::uint32_t n) { return adds(n) && uses[n] == 1 && draft.same[n] == n; };

  std::size_t count = 0;
  Scratch<std::uint8_t> merged(size, 0);
  std::vector<std::uint32_t> terms;
  for (std::uint32_t n = size; n-- > 0;) {
    if (!adds(n) || merged[n] || draft.same[n] != n) continue;
    terms.clear();
    std::uint32_t link = n;
    for (;;) {
      const Instruction& i = p.code[link];
      const bool by_a = is_link(i.a), by_b = !by_a && is_link(i.b);
      if (!by_a && !by_b) break;
      const std::uint32_t inner = by_a ? i.a : i.b, term = by_a ? i.b : i.a;
      // Both operands of the inner addition would now get their gradient when n is passed, before any use that lies in
      // between.
      if (exact && (next_a[inner] < n || next_b[inner] < n)) break;
      terms.push_back(term);
      merged[inner] = 1;
      link = inner;
    }
    if (link == n) continue;
    const Instruction& last = p.code[link];
    terms.push_back(last.b);
    terms.push_back(last.a);
    std::reverse(terms.begin(), terms.end());
    count += terms.size() - 2;
    p.code[n] = {Code::sum, static_cast<std::uint32_t>(p.pool.size()), static_cast<std::uint32_t>(terms.size())};
    p.pool.insert(p.pool.end(), terms.begin(), terms.end());
  }
  return count;
}

}  // namespace tapegrad
