// dead_code.cpp: drops what no output and no guard needs, and numbers the rest anew.
#include "core/graph/scratch.hpp"
#include "core/program/passes/passes.hpp"

namespace tapegrad {

std::size_t remove_dead_code(Draft& draft, bool) {
  Program& p = draft.program;
  const std::size_t before = p.code.size();
  Scratch<std::uint8_t> needed(before, 0);
  for (std::uint32_t o : p.outputs) needed[o] = 1;
  for (const Guard& g : p.guards) needed[g.value] = 1;
  std::size_t dead = 0;
  for (std::size_t n = before; n-- > 0;) {
    if (!needed[n]) {
      ++dead;
      continue;
    }
    needed[draft.same[n]] = 1;
    p.for_each_operand(p.code[n], [&](std::uint32_t operand) { needed[operand] = 1; });
  }
  if (!dead) return 0;
  Scratch<std::uint32_t> place(before);
  std::uint32_t kept = 0;
  std::vector<std::uint32_t> pool;
  for (std::size_t n = 0; n < before; ++n) {
    if (!needed[n]) continue;
    Instruction i = p.code[n];
    p.map_operands(i, [&](std::uint32_t operand) { return place[operand]; });
    if (i.code == Code::sum || i.code == Code::linear) {
      const std::uint32_t length = i.code == Code::sum ? i.b : 2 * i.b;
      const auto start = static_cast<std::uint32_t>(pool.size());
      pool.insert(pool.end(), p.pool.begin() + i.a, p.pool.begin() + i.a + length);
      i.a = start;
    }
    p.code[kept] = i;
    draft.same[kept] = draft.same[n] == n ? kept : place[draft.same[n]];
    place[n] = kept++;
  }
  p.code.resize(kept);
  draft.same.resize(kept);
  p.pool = std::move(pool);
  for (std::uint32_t& o : p.outputs) o = place[o];
  for (Guard& g : p.guards) g.value = place[g.value];
  return dead;
}

}  // namespace tapegrad
