// slots.cpp: fixed slots, and those of the streams in one walk from the last step to the first: where a register is met
// first it gets a slot, where it is written first the slot is free for what comes before.
#include "core/replay/slots.hpp"

#include "core/replay/words.hpp"

namespace tapegrad {

using U32 = std::uint32_t;

void place_fixed(const Draft& draft, const Lowering& how, const Needs& needs, Lowered* out) {
  const Program& p = draft.program;
  for (U32 n : needs.leaves)
    if (p.code[n].code == Code::constant && draft.same[n] == n) out->constants.push_back(p.code[n].number);
  for (U32 n : needs.leaves) {
    if (p.code[n].code != Code::powc || !(needs.flags[n] & (Needs::kNeeded | Needs::kLive))) continue;
    if (!out->exponents.size()) out->exponents = Scratch<U32>(p.code.size());
    out->exponents[n] = static_cast<U32>(out->constants.size());
    out->constants.push_back(p.code[n].number);
  }
  out->exact = how.exact;
  out->params = p.params;
  out->inputs = p.inputs;
  out->param_base = static_cast<U32>(out->constants.size());
  out->input_base = out->param_base + out->params;
  U32 top = out->input_base + out->inputs;
  if (how.param_gradients) {
    out->param_gradients = top;
    top += out->params;
  }
  if (!how.input_gradients.empty()) {
    out->input_gradients = top;
    top += out->inputs;
  }
  out->slots = top;
}

Scratch<U32> fixed_slots(const Draft& draft, const Lowering& how, const Needs& needs, const Lowered& out,
                         std::size_t registers) {
  const Program& p = draft.program;
  const std::size_t size = p.code.size();
  Scratch<U32> slot(registers, kNoSlot);
  U32 constant = 0;
  for (U32 n : needs.leaves) {
    const Instruction& i = p.code[n];
    if (i.code == Code::constant) {
      if (draft.same[n] == n) slot[n] = constant++;
    } else if (i.code == Code::param) {
      slot[n] = out.param_base + i.a;
      if (how.param_gradients) slot[size + n] = out.param_gradients + i.a;
    } else if (i.code == Code::input) {
      slot[n] = out.input_base + i.a;
      if (is_wanted_leaf(i, how)) slot[size + n] = out.input_gradients + i.a;
    }
  }
  return slot;
}

void share_slots(const Lowering& how, Scratch<U32> slot, Lowered* out) {
  const auto keep = [&](U32& r) {
    if (slot[r] == kNoSlot) slot[r] = out->slots++;
    r = slot[r];
  };
  for (U32& o : out->outputs) keep(o);
  for (CheckedSlot& g : out->guards) keep(g.slot);
  if (out->seed != kNoSlot) keep(out->seed);
  const U32 kept = out->slots;
  std::vector<U32> spare;
  for (int direction = 1; direction >= 0; --direction) {
    const Layout* const layout_of = layouts(direction == 1);
    Stream& stream = out->streams[direction];
    for (std::size_t k = stream.steps.size(); k-- > 0;) {
      Word* w = &stream.words[stream.steps[k]];
      const bool fused = *w >= kFirstFused;
      const Layout layout = layout_of[*w++];
      for (Word *at = w, *const end = w + words_of(layout, w); at < end; ++at) {
        if (*at & kSettled) {
          if (*at != kNoSlot) *at -= kSettled;
          continue;
        }
        U32& own = slot[*at];
        if (own == kNoSlot) {
          if (spare.empty()) {
            own = out->slots++;
          } else {
            own = spare.back();
            spare.pop_back();
          }
        }
        *at = own;
      }
      if (layout.adds || !how.share_slots) continue;
      for (Word* at = w; at < w + layout.writes; ++at)
        if (*at != kNoSlot && *at >= kept && !(fused && at == w)) spare.push_back(*at);
    }
  }
}

}  // namespace tapegrad
