// repeat_chains.cpp: finds runs of one operation, such as the additions of sum(), whose links nothing else uses.
#include <algorithm>

#include "core/passes/repeat_finder.hpp"

namespace tapegrad::repeats {

namespace {

bool chains(Code code) {
  return code == Code::add || code == Code::mul || code == Code::maximum || code == Code::minimum;
}

}  // namespace

Chains find_chains(const Program& p, const std::vector<U32>& uses) {
  struct Link {
    U32 length = 0, repeats = 0, first = kNone;
    bool inner = false;
  };
  std::vector<Link> links(p.code.size());
  Chains out;
  out.before.assign(p.code.size(), kNone);
  std::vector<U32> ends;
  const auto take = [&](Link& link, U32 term) {
    if (is_leaf(p.code[term].code)) return;
    ++link.repeats;
    link.first = std::min(link.first, term);
  };
  for (U32 n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    Link& link = links[n];
    if (i.code == Code::sum) {
      for (U32 k = 0; k < i.b; ++k) take(link, p.pool[i.a + k]);
    } else if (chains(i.code)) {
      // Where both operands could be links the longer side is the chain.
      const auto length = [&](U32 operand) {
        return p.code[operand].code == i.code && uses[operand] == 1 ? links[operand].length : 0;
      };
      const U32 by_a = length(i.a), by_b = length(i.b);
      link.length = 1 + std::max(by_a, by_b);
      if (by_a || by_b) {
        const U32 before = by_a >= by_b ? i.a : i.b;
        out.before[n] = before;
        link.repeats = links[before].repeats;
        link.first = links[before].first;
        links[before].inner = true;
        take(link, before == i.a ? i.b : i.a);
      } else {
        take(link, i.a);
        take(link, i.b);
      }
    } else {
      continue;
    }
    if (link.repeats >= kMinLanes) ends.push_back(n);
  }
  for (U32 n : ends)
    if (!links[n].inner) out.found.push_back({n, links[n].repeats, links[n].first});
  return out;
}

Chain chain_of(const Program& p, const std::vector<U32>& before, U32 end) {
  Chain c;
  c.end = end;
  const Instruction& last = p.code[end];
  c.reduces = last.code == Code::add || last.code == Code::sum;
  if (last.code == Code::sum) {
    c.terms.assign(p.pool.begin() + last.a, p.pool.begin() + last.a + last.b);
  } else {
    U32 n = end;
    for (; before[n] != kNone; n = before[n]) {
      const Instruction& i = p.code[n];
      c.terms.push_back(before[n] == i.a ? i.b : i.a);
      c.links.push_back(before[n]);
    }
    c.terms.push_back(p.code[n].b);
    c.terms.push_back(p.code[n].a);
    std::reverse(c.terms.begin(), c.terms.end());
  }
  for (U32 k = 0; k < c.terms.size(); ++k)
    if (!is_leaf(p.code[c.terms[k]].code)) c.repeats.push_back(k);
  c.taken.assign(c.terms.size(), false);
  return c;
}

}  // namespace tapegrad::repeats
