// repeat_chains.cpp: finds runs of one operation, such as the additions of sum(), whose links nothing else uses.
#include <algorithm>

#include "core/program/passes/repeat_finder.hpp"

namespace tapegrad::repeats {

namespace {

bool chains(Code code) {
  return code == Code::add || code == Code::mul || code == Code::maximum || code == Code::minimum;
}

}  // namespace

Chains find_chains(const Program& p, const Scratch<U32>& uses) {
  const auto size = static_cast<U32>(p.code.size());
  constexpr U32 kInner = U32{1} << 31;
  Chains out;
  out.before = Scratch<U32>(size, kNone);
  Scratch<U32> lengths(size, 0);  // links up to this one, and whether there is a next
  Scratch<U32> reach(size);       // back along the newest operands, which are those of a block's own
  for (U32 n = 0; n < size; ++n) {
    const Instruction& i = p.code[n];
    reach[n] = n;
    U32 newest = 0;
    p.for_each_operand(i, [&](U32 o) {
      if (o >= newest && !is_leaf(p.code[o].code)) newest = o, reach[n] = reach[o];
    });
    if (!chains(i.code)) continue;
    // Where both operands could be links the longer side is the chain.
    const auto length = [&](U32 operand) {
      return (p.code[operand].code == i.code) & (uses[operand] == 1) ? lengths[operand] : 0;
    };
    const U32 by_a = length(i.a), by_b = length(i.b);
    lengths[n] = 1 + std::max(by_a, by_b);
    if (!(by_a | by_b)) continue;
    const U32 before = by_a >= by_b ? i.a : i.b;
    out.before[n] = before;
    lengths[before] |= kInner;
  }
  for (U32 n = 0; n < size; ++n) {
    const Instruction& i = p.code[n];
    const bool sum = i.code == Code::sum;
    if (!(sum ? i.b >= kMinLanes : lengths[n] + 1 >= kMinLanes && !(lengths[n] & kInner))) continue;
    ChainInfo c{n, 0, kNone, 0};
    const auto take = [&](U32 term) {
      if (is_leaf(p.code[term].code)) return;
      ++c.repeats;
      c.first = std::min(c.first, term);
    };
    if (sum) {
      for (U32 k = 0; k < i.b; ++k) take(p.pool[i.a + k]);
    } else {
      U32 link = n;
      for (; out.before[link] != kNone; link = out.before[link])
        take(out.before[link] == p.code[link].a ? p.code[link].b : p.code[link].a);
      take(p.code[link].a);
      take(p.code[link].b);
    }
    if (c.repeats < kMinLanes) continue;
    c.reach = reach[c.first];
    out.found.push_back(c);
  }
  return out;
}

Chain chain_of(const Program& p, const Scratch<U32>& before, U32 end) {
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
