// lane_steps.cpp: derives the steps of a program for lanes, then lets values and gradients share slots by lifetime.
#include <initializer_list>

#include "core/replay/lower.hpp"
#include "core/replay/needs.hpp"
#include "core/replay/slots.hpp"

namespace tapegrad {

namespace {

// Derives steps over registers: register i is value i, register size + i its gradient. Slots replace registers
// afterwards.
class StepLowerer {
 public:
  StepLowerer(const Draft& draft, const Lowering& how)
      : draft_(draft),
        p_(draft.program),
        same_(draft.same),
        how_(how),
        needs_(find_needs(draft, how)),
        size_(static_cast<U32>(p_.code.size())) {}

  Lowered run() {
    place_fixed(draft_, how_, needs_, &out_);
    alias_gradients();
    forward();
    if (!how_.forward_only) backward();
    for (U32 o : p_.outputs) out_.outputs.push_back(value(o));
    for (const Guard& g : p_.guards) out_.guards.push_back({value(g.value), g});
    assign_slots();
    out_.exponents = {};
    return std::move(out_);
  }

 private:
  using U32 = std::uint32_t;

  U32 value(U32 i) const { return same_[i]; }
  U32 gradient(U32 i) const { return gradient_[i]; }
  bool is_fused(U32 v) const { return needs_.is(v, Needs::kFused); }

  // A gradient whose only part is a copy of another is that other one.
  void alias_gradients() {
    if (how_.forward_only) return;
    gradient_ = Scratch<U32>(size_);
    for (U32 n = 0; n < size_; ++n) gradient_[n] = size_ + n;
    if (!how_.first_writer_stores) return;
    for (U32 n = size_; n-- > 0;) {
      const Instruction& i = p_.code[n];
      if (!needs_.is(n, Needs::kLive) || (i.code != Code::add && i.code != Code::sum)) continue;
      p_.for_each_operand(i, [&](U32 operand) {
        if (needs_.is(operand, Needs::kLive) && needs_.parts[operand] == 1 && !is_leaf(p_.code[operand].code))
          gradient_[operand] = gradient_[n];
      });
    }
  }

  void add_term(U32 operand) {
    const U32 v = value(operand);
    if (is_fused(v))
      out_.terms.push_back({value(p_.code[v].a), value(p_.code[v].b), Mode::none});
    else
      out_.terms.push_back({v, kNoSlot, Mode::none});
  }

  void forward() {
    for (U32 n = 0; n < size_; ++n) {
      const Instruction& i = p_.code[n];
      if (!needs_.is(n, Needs::kNeeded) || is_fused(n) || is_leaf(i.code)) continue;
      Step s;
      s.code = static_cast<std::uint16_t>(i.code);
      s.z = n;
      switch (i.code) {
        case Code::detach:
          s.x = value(i.a);
          break;
        case Code::linear:
          s.code = static_cast<std::uint16_t>(Code::detach);
          s.x = value(i.c);
          break;
        case Code::select:
          s.x = value(i.a);
          s.y = value(i.b);
          s.g = value(i.c);
          break;
        case Code::add:
          if (!is_fused(value(i.a)) && !is_fused(value(i.b))) {
            s.x = value(i.a);
            s.y = value(i.b);
            break;
          }
          [[fallthrough]];
        case Code::sum:
          s.code = static_cast<std::uint16_t>(Code::sum);
          s.first = static_cast<U32>(out_.terms.size());
          p_.for_each_operand(i, [&](U32 operand) { add_term(operand); });
          s.count = static_cast<U32>(out_.terms.size()) - s.first;
          break;
        case Code::powc:
          s.x = value(i.a);
          s.y = kSettled + out_.exponents[n];
          break;
        default:
          s.x = value(i.a);
          if (kArity[static_cast<int>(i.code)] == 2) s.y = value(i.b);
      }
      out_.forward.push_back(s);
    }
  }

  // How the next part of the operand's gradient is written.
  Mode mode(U32 operand) {
    if (!needs_.is(operand, Needs::kLive) || gradient_[operand] == current_) return Mode::none;
    const Code code = p_.code[operand].code;
    if ((is_leaf(code) && !(how_.fresh_inputs && code == Code::input)) || written_[operand] ||
        !how_.first_writer_stores)
      return Mode::add;
    written_[operand] = true;
    return Mode::store;
  }

  void backward() {
    written_.assign(size_, false);
    const U32 root = p_.outputs[0];
    if (!needs_.is(root, Needs::kLive)) return;
    out_.seed = gradient(root);
    written_[root] = true;
    if (!how_.first_writer_stores)
      for (U32 n = 0; n < size_; ++n)
        if (needs_.is(n, Needs::kLive) && n != root && !is_leaf(p_.code[n].code)) {
          Step s;
          s.code = kZero;
          s.g = gradient(n);
          out_.backward.push_back(s);
        }
    for (U32 n = size_; n-- > 0;) {
      const Instruction& i = p_.code[n];
      if (!needs_.is(n, Needs::kLive) || is_leaf(i.code)) continue;
      current_ = gradient(n);
      Step s;
      s.code = static_cast<std::uint16_t>(i.code);
      s.g = current_;
      switch (i.code) {
        case Code::sum: {
          s.first = static_cast<U32>(out_.terms.size());
          for (U32 k = i.b; k-- > 0;) {
            const U32 operand = p_.pool[i.a + k];
            const Mode m = mode(operand);
            if (m != Mode::none) out_.terms.push_back({gradient(operand), kNoSlot, m});
          }
          s.count = static_cast<U32>(out_.terms.size()) - s.first;
          if (s.count) out_.backward.push_back(s);
          break;
        }
        case Code::linear:
          for (U32 k = 0; k < i.b; ++k) {
            const U32 operand = p_.pool[i.a + k];
            Step t;
            t.code = kScale;
            t.g = s.g;
            t.mode_x = mode(operand);
            t.dx = gradient(operand);
            t.y = value(p_.pool[i.a + i.b + k]);
            if (t.mode_x != Mode::none) out_.backward.push_back(t);
          }
          break;
        case Code::select:
          s.x = value(i.a);
          emit_binary(s, i.b, i.c);
          break;
        case Code::powc:
          s.y = kSettled + out_.exponents[n];
          emit(s, n, i.a, kNoSlot);
          break;
        default:
          emit(s, n, i.a, kArity[static_cast<int>(i.code)] == 2 ? i.b : kNoSlot);
      }
    }
  }

  void emit_binary(Step s, U32 a, U32 b) {
    s.mode_x = mode(a);
    s.dx = gradient(a);
    s.mode_y = mode(b);
    s.dy = gradient(b);
    if (s.mode_x == Mode::none) s.dx = kNoSlot;
    if (s.mode_y == Mode::none) s.dy = kNoSlot;
    if (s.dx != kNoSlot || s.dy != kNoSlot) out_.backward.push_back(s);
  }

  // A table operation; only the values that its derivatives read are kept for it.
  void emit(Step s, U32 n, U32 a, U32 b) {
    const Code code = p_.code[n].code;
    s.mode_x = mode(a);
    s.dx = s.mode_x == Mode::none ? kNoSlot : gradient(a);
    if (b != kNoSlot) {
      s.mode_y = mode(b);
      s.dy = s.mode_y == Mode::none ? kNoSlot : gradient(b);
    }
    if (s.dx == kNoSlot && s.dy == kNoSlot) return;
    for (int k = 0; k < 2; ++k) {
      if ((k ? s.dy : s.dx) == kNoSlot) continue;
      const Reads r = known_reads(code, k);
      if (r.x) s.x = value(a);
      if (r.y && b != kNoSlot) s.y = value(b);
      if (r.z) s.z = value(n);
    }
    out_.backward.push_back(s);
  }

  // ---- slots
  // ---------------------------------------------------------------------------------------------------------------------

  template <typename F>
  void for_each_register(Step& s, F f) {
    for (U32* r : {&s.z, &s.x, &s.y, &s.g, &s.dx, &s.dy})
      if (*r != kNoSlot) f(*r);
    for (U32 k = s.first; k < s.first + s.count; ++k) {
      f(out_.terms[k].x);
      if (out_.terms[k].y != kNoSlot) f(out_.terms[k].y);
    }
  }

  void assign_slots() {
    const U32 fixed = out_.slots;
    slot_ = fixed_slots(draft_, how_, needs_, out_, 2 * std::size_t{size_});
    constexpr U32 kForever = ~0u;
    const std::size_t steps = out_.forward.size() + out_.backward.size();
    const auto step = [&](std::size_t t) -> Step& {
      return t < out_.forward.size() ? out_.forward[t] : out_.backward[t - out_.forward.size()];
    };
    std::vector<U32> last(2 * std::size_t{size_}, 0);
    for (std::size_t t = 0; t < steps; ++t)
      for_each_register(step(t), [&](U32& r) {
        if (r < kSettled) last[r] = static_cast<U32>(t);
      });
    for (U32 o : out_.outputs) last[o] = kForever;
    for (const CheckedSlot& g : out_.guards) last[g.slot] = kForever;
    if (out_.seed != kNoSlot && slot_[out_.seed] == kNoSlot)
      slot_[out_.seed] = out_.slots++;  // set before the first step

    std::vector<U32> spare, dying;
    for (std::size_t t = 0; t < steps; ++t) {
      dying.clear();
      for_each_register(step(t), [&](U32& r) {
        if (r >= kSettled) {
          r -= kSettled;
          return;
        }
        if (slot_[r] == kNoSlot) {
          if (!spare.empty()) {
            slot_[r] = spare.back();
            spare.pop_back();
          } else {
            slot_[r] = out_.slots++;
          }
        }
        if (last[r] == t && slot_[r] >= fixed) {
          last[r] = kForever;
          dying.push_back(slot_[r]);
        }
        r = slot_[r];
      });
      if (how_.share_slots) spare.insert(spare.end(), dying.begin(), dying.end());
    }
    for (U32& o : out_.outputs) o = slot_[o];
    for (CheckedSlot& g : out_.guards) g.slot = slot_[g.slot];
    if (out_.seed != kNoSlot) out_.seed = slot_[out_.seed];
  }

  const Draft& draft_;
  const Program& p_;
  const std::vector<U32>& same_;
  const Lowering& how_;
  const Needs needs_;
  const U32 size_;
  Lowered out_;
  std::vector<bool> written_;
  Scratch<U32> gradient_, slot_;
  U32 current_ = kNoSlot;
};

}  // namespace

Lowered lower_steps(const Draft& draft, const Lowering& how) {
  return StepLowerer(draft, how).run();
}

}  // namespace tapegrad
