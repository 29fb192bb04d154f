// lower.cpp: derives the backward steps, then lets values and gradients share slots by lifetime.
#include "core/replay/lower.hpp"

#include <array>
#include <atomic>
#include <cmath>
#include <initializer_list>

#include "core/ops/ops.hpp"
#include "core/replay/fuse.hpp"
#include "core/replay/schedule.hpp"

namespace tapegrad {

namespace {

double derivative(Code code, int k, double x, double y, double z) {
  switch (code) {
    case Code::powc:
      return fn::pow_dx(x, y);
#define TAPEGRAD_UNARY(id, ...) \
  case Code::id:                \
    return Rule<Op::id>::dx(x, z);
#define TAPEGRAD_BINARY(id, ...) \
  case Code::id:                 \
    return k == 0 ? Rule<Op::id>::dx(x, y, z) : Rule<Op::id>::dy(x, y, z);
#include "core/ops/ops.def"
    default:
      return 0.0;
  }
}

// Found out by trial, so that the table need not say it: a derivative reads what changes it.
Reads find_reads(Code code, int k) {
  constexpr double kTrials[] = {-2.75, -1.5, -0.625, 0.0, 0.375, 0.8125, 1.25, 3.5};
  Reads reads{false, false, false};
  const auto differ = [](double p, double q) { return !(p == q) && !(std::isnan(p) && std::isnan(q)); };
  for (double x : kTrials)
    for (double y : kTrials)
      for (double z : kTrials)
        for (double other : kTrials) {
          const double base = derivative(code, k, x, y, z);
          reads.x = reads.x || differ(base, derivative(code, k, other, y, z));
          reads.y = reads.y || differ(base, derivative(code, k, x, other, z));
          reads.z = reads.z || differ(base, derivative(code, k, x, y, other));
        }
  return reads;
}

// Derives steps over registers: register i is value i, register size + i its gradient. Slots replace registers
// afterwards.
class Lowerer {
 public:
  Lowerer(const Draft& draft, const Lowering& how)
      : p_(draft.program), same_(draft.same), how_(how), size_(p_.code.size()) {}

  Lowered run() {
    find_gradients();
    find_values();
    fixed_slots();
    forward();
    if (!how_.forward_only) backward();
    out_.exact = how_.exact;
    registers_ = static_cast<U32>(2 * size_);
    if (gathers()) registers_ = gather(out_, registers_);
    if (how_.schedule && how_.fuse_functions) registers_ = fuse(out_, registers_, slot_);
    if (how_.schedule) schedule(out_, registers_);
    slot_.resize(registers_, kNoSlot);
    for (std::uint32_t o : p_.outputs) out_.outputs.push_back(value(o));
    for (const Guard& g : p_.guards) out_.guards.push_back({value(g.value), g});
    assign_slots();
    return std::move(out_);
  }

 private:
  using U32 = std::uint32_t;

  U32 value(U32 i) const { return same_[i]; }
  U32 gradient(U32 i) const { return gradient_[i]; }
  bool wanted_leaf(const Instruction& i) const {
    if (i.code == Code::param) return how_.param_gradients;
    return i.code == Code::input && i.a < how_.input_gradients.size() && how_.input_gradients[i.a];
  }

  template <typename F>  // the operands that a gradient goes to
  void for_each_differentiable(const Instruction& i, F f) const {
    switch (i.code) {
      case Code::detach:
        return;
      case Code::select:
        f(i.b);
        return f(i.c);
      case Code::linear:
        for (U32 k = 0; k < i.b; ++k) f(p_.pool[i.a + k]);
        return;
      case Code::less:
      case Code::less_equal:
      case Code::equal:
        return;
      default:
        p_.for_each_operand(i, f);
    }
  }

  // Values that lead from something wanted to the output, and how many parts their gradients have.
  void find_gradients() {
    live_.assign(size_, false);
    parts_.assign(size_, 0);
    gradient_.assign(size_, kNoSlot);
    if (how_.forward_only) return;
    std::vector<bool> varied(size_, false);
    for (std::size_t n = 0; n < size_; ++n) {
      const Instruction& i = p_.code[n];
      bool any = wanted_leaf(i);
      for_each_differentiable(i, [&](U32 operand) { any = any || varied[operand]; });
      varied[n] = any;
    }
    const U32 root = p_.outputs[0];
    live_[root] = varied[root];
    for (std::size_t n = size_; n-- > 0;) {
      if (!live_[n]) continue;
      for_each_differentiable(p_.code[n], [&](U32 operand) {
        if (!varied[operand]) return;
        live_[operand] = true;
        ++parts_[operand];
      });
    }
    for (std::size_t n = 0; n < size_; ++n) gradient_[n] = static_cast<U32>(size_ + n);
    // A gradient whose only part is a copy of another is that other one.
    if (!how_.first_writer_stores) return;
    for (std::size_t n = size_; n-- > 0;) {
      const Instruction& i = p_.code[n];
      if (!live_[n] || (i.code != Code::add && i.code != Code::sum)) continue;
      p_.for_each_operand(i, [&](U32 operand) {
        if (live_[operand] && parts_[operand] == 1 && !is_leaf(p_.code[operand].code))
          gradient_[operand] = gradient_[n];
      });
    }
  }

  // Found out when first asked for: 12,000 trials a derivative. Threads that ask at once find the same.
  static Reads reads(Code code, int k) {
    static std::array<std::atomic<std::uint8_t>, 2 * static_cast<std::size_t>(Code::table_end)> known{};
    constexpr unsigned kFound = 8;
    std::atomic<std::uint8_t>& kept = known[static_cast<std::size_t>(2 * static_cast<int>(code) + k)];
    unsigned bits = kept.load(std::memory_order_relaxed);
    if (!bits) {
      const Reads found = find_reads(code, k);
      bits = kFound | (found.x ? 1u : 0u) | (found.y ? 2u : 0u) | (found.z ? 4u : 0u);
      kept.store(static_cast<std::uint8_t>(bits), std::memory_order_relaxed);
    }
    return {(bits & 1u) != 0, (bits & 2u) != 0, (bits & 4u) != 0};
  }
  friend Reads tapegrad::derivative_reads(Code, int);

  // Which values have to be computed: asked for by an output, a guard, a computed value or a derivative.
  void find_values() {
    needed_.assign(size_, false);
    fused_.assign(size_, false);
    std::vector<bool> by_backward(size_, false);
    std::vector<U32> uses(size_, 0);
    const auto need = [&](U32 i) { by_backward[value(i)] = true; };
    for (std::size_t n = 0; n < size_; ++n) {
      const Instruction& i = p_.code[n];
      if (!live_[n]) continue;
      if (i.code == Code::select) need(i.a);
      if (i.code == Code::linear)
        for (U32 k = 0; k < i.b; ++k) need(p_.pool[i.a + i.b + k]);
      if (i.code >= Code::table_end || i.code == Code::add) continue;
      const int arity = kArity[static_cast<int>(i.code)];
      for (int k = 0; k < arity; ++k) {
        if (!live_[k ? i.b : i.a]) continue;
        const Reads r = reads(i.code, k);
        if (r.x) need(i.a);
        if (r.y && arity == 2) need(i.b);
        if (r.z) need(static_cast<U32>(n));
      }
    }
    for (U32 o : p_.outputs) by_backward[value(o)] = true;
    for (const Guard& g : p_.guards) by_backward[value(g.value)] = true;
    for (std::size_t n = size_; n-- > 0;) {
      if (!by_backward[n] && !uses[n]) continue;
      if (same_[n] != n) continue;
      needed_[n] = true;
      for_each_value_operand(p_.code[n], [&](U32 operand) { ++uses[value(operand)]; });
    }
    if (!how_.fuse_products) return;
    // A product that only one sum reads is computed there.
    for (std::size_t n = 0; n < size_; ++n) {
      const Instruction& i = p_.code[n];
      if (!needed_[n] || (i.code != Code::sum && i.code != Code::add)) continue;
      p_.for_each_operand(i, [&](U32 operand) {
        const U32 v = value(operand);
        if (p_.code[v].code == Code::mul && uses[v] == 1 && !by_backward[v]) fused_[v] = true;
      });
    }
  }

  template <typename F>  // the operands whose values the forward step reads
  void for_each_value_operand(const Instruction& i, F f) const {
    if (i.code == Code::linear) return f(i.c);
    p_.for_each_operand(i, f);
  }

  // Constants, parameters and inputs have slots of their own, in that order; then the gradients wanted.
  void fixed_slots() {
    slot_.assign(2 * size_, kNoSlot);
    for (std::size_t n = 0; n < size_; ++n) {
      if (p_.code[n].code != Code::constant || same_[n] != n) continue;
      slot_[n] = static_cast<U32>(out_.constants.size());
      out_.constants.push_back(p_.code[n].number);
    }
    for (std::size_t n = 0; n < size_; ++n) {  // exponents are constants too
      if (p_.code[n].code != Code::powc || !(needed_[n] || live_[n])) continue;
      exponents_.push_back(static_cast<U32>(out_.constants.size()));
      out_.constants.push_back(p_.code[n].number);
    }
    out_.params = p_.params;
    out_.inputs = p_.inputs;
    out_.param_base = static_cast<U32>(out_.constants.size());
    out_.input_base = out_.param_base + out_.params;
    U32 top = out_.input_base + out_.inputs;
    if (how_.param_gradients) {
      out_.param_gradients = top;
      top += out_.params;
    }
    if (!how_.input_gradients.empty()) {
      out_.input_gradients = top;
      top += out_.inputs;
    }
    for (std::size_t n = 0; n < size_; ++n) {
      const Instruction& i = p_.code[n];
      if (i.code == Code::param) {
        slot_[n] = out_.param_base + i.a;
        if (how_.param_gradients) slot_[size_ + n] = out_.param_gradients + i.a;
      } else if (i.code == Code::input) {
        slot_[n] = out_.input_base + i.a;
        if (wanted_leaf(i)) slot_[size_ + n] = out_.input_gradients + i.a;
      }
    }
    fixed_ = out_.slots = top;
  }

  void add_term(U32 operand) {
    const U32 v = value(operand);
    if (fused_[v])
      out_.terms.push_back({value(p_.code[v].a), value(p_.code[v].b), Mode::none});
    else
      out_.terms.push_back({v, kNoSlot, Mode::none});
  }

  void forward() {
    std::size_t exponent = 0;
    exponent_of_.assign(size_, kNoSlot);
    for (std::size_t n = 0; n < size_; ++n) {
      const Instruction& i = p_.code[n];
      if (i.code == Code::powc && (needed_[n] || live_[n])) exponent_of_[n] = exponents_[exponent++];
      if (!needed_[n] || fused_[n] || is_leaf(i.code)) continue;
      Step s;
      s.code = static_cast<std::uint16_t>(i.code);
      s.z = static_cast<U32>(n);
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
          if (!fused_[value(i.a)] && !fused_[value(i.b)]) {
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
          s.y = exponent_register(n);
          break;
        default:
          s.x = value(i.a);
          if (kArity[static_cast<int>(i.code)] == 2) s.y = value(i.b);
      }
      out_.forward.push_back(s);
    }
  }

  U32 exponent_register(std::size_t n) const { return kSettled + exponent_of_[n]; }

  bool gathers() const { return how_.gather || how_.schedule; }

  // How the next part of the operand's gradient is written.
  Mode mode(U32 operand) {
    if (!live_[operand] || gradient_[operand] == current_) return Mode::none;
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
    if (!live_[root]) return;
    out_.seed = gradient(root);
    written_[root] = true;
    if (!how_.first_writer_stores)
      for (std::size_t n = 0; n < size_; ++n)
        if (live_[n] && n != root && !is_leaf(p_.code[n].code)) {
          Step s;
          s.code = kZero;
          s.g = gradient(static_cast<U32>(n));
          out_.backward.push_back(s);
        }
    for (std::size_t n = size_; n-- > 0;) {
      const Instruction& i = p_.code[n];
      if (!live_[n] || is_leaf(i.code)) continue;
      current_ = gradient(static_cast<U32>(n));
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
          s.y = exponent_register(n);
          emit(s, n, i.a, kNoSlot);
          break;
        case Code::div:
          if (gathers() && !how_.exact && is_one(i.a)) {
            s.code = kReciprocal;
            s.mode_x = mode(i.b);
            s.dx = gradient(i.b);
            s.z = value(static_cast<U32>(n));
            if (s.mode_x != Mode::none) out_.backward.push_back(s);
            break;
          }
          emit(s, n, i.a, i.b);
          break;
        default:
          emit(s, n, i.a, kArity[static_cast<int>(i.code)] == 2 ? i.b : kNoSlot);
      }
    }
  }

  bool is_one(U32 i) const { return p_.code[i].code == Code::constant && p_.code[i].number == 1; }

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
  void emit(Step s, std::size_t n, U32 a, U32 b) {
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
      const Reads r = reads(code, k);
      if (r.x) s.x = value(a);
      if (r.y && b != kNoSlot) s.y = value(b);
      if (r.z) s.z = value(static_cast<U32>(n));
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
      if (out_.terms[k].x != kNoSlot) f(out_.terms[k].x);
      if (out_.terms[k].y != kNoSlot) f(out_.terms[k].y);
    }
  }

  void assign_slots() {
    constexpr U32 kForever = ~0u;
    const std::size_t steps = out_.forward.size() + out_.backward.size();
    const auto step = [&](std::size_t t) -> Step& {
      return t < out_.forward.size() ? out_.forward[t] : out_.backward[t - out_.forward.size()];
    };
    std::vector<U32> last(registers_, 0);
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
        if (last[r] == t && slot_[r] >= fixed_) {
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

  const Program& p_;
  const std::vector<U32>& same_;
  const Lowering& how_;
  const std::size_t size_;
  Lowered out_;
  std::vector<bool> live_, needed_, fused_, written_;
  std::vector<U32> parts_, gradient_, slot_, exponents_, exponent_of_;
  U32 fixed_ = 0, registers_ = 0;
  U32 current_ = kNoSlot;
};

}  // namespace

Reads derivative_reads(Code code, int k) {
  return find_reads(code, k);
}

Lowered lower(const Draft& draft, const Lowering& how) {
  return Lowerer(draft, how).run();
}

}  // namespace tapegrad
