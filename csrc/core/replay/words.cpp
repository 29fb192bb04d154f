// words.cpp: derives the streams of a program, forward oldest first, backward newest first.
#include "core/replay/words.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "core/replay/lower.hpp"
#include "core/replay/needs.hpp"

namespace tapegrad {

namespace {

using U32 = std::uint32_t;

// Writes steps one behind the other; the stream has room for all.
class StreamWriter {
 public:
  StreamWriter(std::size_t words, std::size_t steps) : stream_{Scratch<Word>(words), Scratch<Word>(steps)} {
    word_ = stream_.words.begin();
    step_ = stream_.steps.begin();
  }

  void begin(Word kind) {
    *step_++ = static_cast<Word>(word_ - stream_.words.begin());
    *word_++ = kind;
  }
  template <typename... Words>
  void put(Words... words) {
    ((*word_++ = words), ...);
  }
  Stream take() {
    stream_.words.shrink(static_cast<std::size_t>(word_ - stream_.words.begin()));
    stream_.steps.shrink(static_cast<std::size_t>(step_ - stream_.steps.begin()));
    return std::move(stream_);
  }

 private:
  Stream stream_;
  Word *word_, *step_;
};

struct Product {
  Word x, y;  // y is kNoSlot where there is no factor
};

// A sum of at most kMaxTerms products.
void put_dot(StreamWriter& to, Word z, bool adds, const Product* terms, U32 count) {
  bool factors = false;
  for (U32 k = 0; k < count; ++k) factors |= terms[k].y != kNoSlot;
  to.begin(dot_kind(count, adds, factors));
  to.put(z);
  for (U32 k = 0; k < count; ++k) {
    to.put(terms[k].x);
    if (factors) to.put(terms[k].y);
  }
}

class Emitter {
 public:
  Emitter(const Draft& draft, const Lowering& how, const Needs& needs, Lowered& out)
      : p_(draft.program),
        same_(draft.same),
        how_(how),
        needs_(needs),
        out_(out),
        size_(static_cast<U32>(p_.code.size())),
        registers_(2 * size_) {}

  U32 run() {
    out_.streams[0] = forward();
    if (how_.forward_only || !needs_.is(p_.outputs[0], Needs::kLive)) return registers_;
    out_.seed = size_ + p_.outputs[0];
    out_.streams[1] = backward();
    return registers_;
  }

 private:
  Word value(U32 i) const { return same_[i]; }
  Product term(U32 operand) const {
    const Word v = value(operand);
    if (!needs_.is(v, Needs::kFused)) return {v, kNoSlot};
    return {value(p_.code[v].a), value(p_.code[v].b)};
  }
  Word exponent(U32 n) const { return kSettled + out_.exponents[n]; }

  // ---- forward
  // -------------------------------------------------------------------------------------------------------------------

  Stream forward() {
    // An addition of two products is the longest step of those with operands of their own.
    StreamWriter to(6 * needs_.steps + 3 * p_.pool.size(), needs_.steps + p_.pool.size() / kMaxTerms);
    for (U32 n = 0; n < size_; ++n) {
      if ((needs_.flags[n] & (Needs::kNeeded | Needs::kFused)) != Needs::kNeeded) continue;
      const Instruction& i = p_.code[n];
      switch (i.code) {
        case Code::input:
        case Code::param:
        case Code::constant:
          break;
        case Code::detach:
        case Code::linear:
          to.begin(dot_kind(1, false, false));
          to.put(n, value(i.code == Code::linear ? i.c : i.a));
          break;
        case Code::select:
          to.begin(forward_kind(i.code));
          to.put(n, value(i.a), value(i.b), value(i.c));
          break;
        case Code::add: {
          const Product terms[2] = {term(i.a), term(i.b)};
          put_dot(to, n, false, terms, 2);
          break;
        }
        case Code::sum: {
          Product terms[kMaxTerms];
          for (U32 k = 0; k < i.b; k += kMaxTerms) {
            const U32 count = std::min(kMaxTerms, i.b - k);
            for (U32 t = 0; t < count; ++t) terms[t] = term(p_.pool[i.a + k + t]);
            put_dot(to, n, k > 0, terms, count);
          }
          break;
        }
        case Code::mul:
          to.begin(dot_kind(1, false, true));
          to.put(n, value(i.a), value(i.b));
          break;
        case Code::powc:
          to.begin(forward_kind(i.code));
          to.put(n, value(i.a), exponent(n));
          break;
        default:
          to.begin(forward_kind(i.code));
          to.put(n, value(i.a));
          if (kArity[static_cast<int>(i.code)] == 2) to.put(value(i.b));
      }
    }
    return to.take();
  }

  // ---- backward
  // ------------------------------------------------------------------------------------------------------------------

  // What is known of a gradient while its parts come in. Terms wait until there are enough or no more will come.
  struct Target {
    U32 missing;  // parts
    U32 register_;
    U32 room;  // where the terms wait
    std::uint8_t filled, capacity;
    bool written;  // something is there already
  };

  Stream backward() {
    targets_ = Scratch<Target>(size_);
    for (U32 n = 0; n < size_; ++n) targets_[n] = {needs_.parts[n], size_ + n, 0, 0, 0, false};
    for (U32 n : needs_.leaves) {
      const Code code = p_.code[n].code;
      targets_[n].written = is_leaf(code) && !(how_.fresh_inputs && code == Code::input);
    }
    StreamWriter to(7 * needs_.derivatives + 4 * needs_.part_count, needs_.derivatives + needs_.part_count);
    to_ = &to;
    for (U32 n = size_; n-- > 0;) {
      const Instruction& i = p_.code[n];
      if (!needs_.is(n, Needs::kLive) || is_leaf(i.code)) continue;
      const Word g = targets_[n].register_;
      switch (i.code) {
        case Code::add:
          copy(i.a, g);
          copy(i.b, g);
          break;
        case Code::mul:
          product(i.a, value(i.b), g);
          product(i.b, value(i.a), g);
          break;
        case Code::sum:
          for (U32 k = i.b; k-- > 0;) copy(p_.pool[i.a + k], g);
          break;
        case Code::linear:
          for (U32 k = 0; k < i.b; ++k) product(p_.pool[i.a + k], value(p_.pool[i.a + i.b + k]), g);
          break;
        case Code::select: {
          const Settled b = settle(i.b), c = settle(i.c);
          to.begin(backward_kind(i.code, b.mode, c.mode));
          to.put(b.to, c.to, g, value(i.a));
          gather(i.b, b);
          gather(i.c, c);
          break;
        }
        default:
          derivative(n, i, g);
      }
    }
    return to.take();
  }

  bool is_one(U32 i) const { return p_.code[i].code == Code::constant && p_.code[i].number == 1; }

  // A gradient whose only part is a copy of another is that other one.
  void copy(U32 operand, Word g) {
    if (!needs_.is(operand, Needs::kLive)) return;
    Target& t = targets_[operand];
    if (t.missing == 1 && !t.filled && !t.written && !is_leaf(p_.code[operand].code)) {
      t.missing = 0;
      t.register_ = g;
    } else {
      put(t, {g, kNoSlot});
    }
  }

  void product(U32 operand, Word x, Word g) {
    if (needs_.is(operand, Needs::kLive)) put(targets_[operand], {x, g});
  }

  void put(Target& t, Product term) {
    --t.missing;
    if (!t.filled) {
      if (!t.missing) return put_dot(*to_, t.register_, t.written, &term, 1);
      t.capacity = static_cast<std::uint8_t>(std::min(kMaxTerms, t.missing + 1));
      t.room = take_room(t.capacity);
    }
    terms_[t.room + t.filled++] = term;
    if (t.filled < t.capacity) return;
    put_dot(*to_, t.register_, t.written, &terms_[t.room], t.filled);
    free_[t.capacity].push_back(t.room);
    t.filled = 0;
    t.written = true;
  }

  U32 take_room(std::uint8_t capacity) {
    std::vector<U32>& free = free_[capacity];
    if (free.empty()) {
      terms_.resize(terms_.size() + capacity);
      return static_cast<U32>(terms_.size() - capacity);
    }
    const U32 room = free.back();
    free.pop_back();
    return room;
  }

  // Where an operation's own derivative goes: to the gradient if it is all of it, else to a register from which it is
  // gathered.
  struct Settled {
    Mode mode;
    Word to;
    bool gathered;
  };
  Settled settle(U32 operand) {
    if (!needs_.is(operand, Needs::kLive)) return {Mode::none, kNoSlot, false};
    Target& t = targets_[operand];
    if (t.missing != 1 || t.filled || t.written) return {Mode::store, registers_++, true};
    t.missing = 0;
    return {Mode::store, t.register_, false};
  }
  void gather(U32 operand, Settled s) {
    if (s.gathered) put(targets_[operand], {s.to, kNoSlot});
  }

  // A table operation; only the values that its derivatives read are kept for it.
  void derivative(U32 n, const Instruction& i, Word g) {
    if (i.code == Code::div && !how_.exact && is_one(i.a)) {
      const Settled b = settle(i.b);
      to_->begin(kReciprocalKind);
      to_->put(b.to, g, kNoSlot, value(n));
      return gather(i.b, b);
    }
    const bool binary = kArity[static_cast<int>(i.code)] == 2;
    const Settled a = settle(i.a), b = binary ? settle(i.b) : Settled{Mode::none, kNoSlot, false};
    Word x = kNoSlot, y = kNoSlot, z = kNoSlot;
    for (int k = 0; k < 2; ++k) {
      if ((k ? b : a).mode == Mode::none) continue;
      const Reads r = known_reads(i.code, k);
      if (r.x) x = value(i.a);
      if (r.y && binary) y = value(i.b);
      if (r.z) z = value(n);
    }
    to_->begin(backward_kind(i.code, a.mode, b.mode));
    if (binary)
      to_->put(a.to, b.to, g, x, y, z);
    else
      to_->put(a.to, g, x, i.code == Code::powc ? exponent(n) : z);
    gather(i.a, a);
    if (binary) gather(i.b, b);
  }

  const Program& p_;
  const std::vector<U32>& same_;
  const Lowering& how_;
  const Needs& needs_;
  Lowered& out_;
  const U32 size_;
  U32 registers_;
  Scratch<Target> targets_;
  std::vector<Product> terms_;
  std::vector<U32> free_[kMaxTerms + 1];  // rooms of so many terms that nobody uses
  StreamWriter* to_ = nullptr;
};

std::array<Layout, kKinds> make_layouts(bool backward) {
  std::array<Layout, kKinds> of{};
  for (Word terms = 2; terms <= kMaxTerms; ++terms)
    of[fused_kind(kSoftmax, terms)] = {0, static_cast<std::uint8_t>(backward ? 2 + terms : 3 + 2 * terms), false};
  of[fused_kind(kLogExp, 0)] = {0, static_cast<std::uint8_t>(backward ? 2 : 4), false};
  of[fused_kind(kSoftplus, 0)] = {0, static_cast<std::uint8_t>(backward ? 2 : 3), false};
  for (Word kind = 0; kind < kFirstFused; ++kind) {
    const Word dots = dot_kind(0, false, false);
    if (kind >= dots) {
      const Word terms = (kind - dots) / 4, parts = (kind - dots) % 2 ? 2 : 1;
      of[kind] = {static_cast<std::uint8_t>(1 + parts * terms), 1, (kind - dots) % 4 >= 2};
      continue;
    }
    const auto code = static_cast<std::uint16_t>(kind / 9);
    const bool table = code < static_cast<std::uint16_t>(Code::table_end);
    const bool select = code == static_cast<std::uint16_t>(Code::select);
    const bool unary = code == kReciprocal || (table && kArity[code] == 1);
    const bool power = code == static_cast<std::uint16_t>(Code::powc);
    if (backward)
      of[kind] = unary ? Layout{4, 1, false} : Layout{static_cast<std::uint8_t>(select ? 4 : 6), 2, false};
    else
      of[kind] = {static_cast<std::uint8_t>(select ? 4 : unary && !power ? 2 : 3), 1, false};
  }
  return of;
}

}  // namespace

const Layout* layouts(bool backward) {
  static const std::array<Layout, kKinds> all[2] = {make_layouts(false), make_layouts(true)};
  return all[backward].data();
}

U32 emit_words(const Draft& draft, const Lowering& how, const Needs& needs, Lowered& out) {
  return Emitter(draft, how, needs, out).run();
}

}  // namespace tapegrad
