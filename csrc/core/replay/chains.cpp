// chains.cpp: finds chains in the order in which steps are, and which of their numbers are read later.
#include "core/replay/chains.hpp"

#include <algorithm>
#include <initializer_list>

#include "core/replay/words.hpp"

namespace tapegrad {

namespace {

constexpr Word kDots = dot_kind(0, false, false);

// What a chain sees of a step.
struct Seen {
  Word kind;
  const Word* words;  // after the kind
  bool is_sum() const { return kind >= kDots; }
  Word terms() const { return (kind - kDots) / 4; }
  bool adds() const { return (kind - kDots) % 4 >= 2; }
  Word step() const { return kind % 2 == kDots % 2 ? 1 : 2; }  // words a term
  Word x(Word term) const { return words[1 + term * step()]; }
  Word y(Word term) const { return step() == 2 ? words[2 + term * step()] : kNoSlot; }
  Word code() const { return kind / 9; }
};

class Chainer {
 public:
  Chainer(const Lowered& lowered, Direction direction, Word one)
      : l_(lowered),
        backward_(direction == Direction::backward),
        stream_(lowered.streams[backward_]),
        size_(stream_.steps.size()),
        one_(one),
        layouts_(layouts(backward_)) {
    find_lives();
  }

  Chained run() {
    for (std::size_t n = 0; n < size_;) {
      const std::size_t end = chain_from(n);
      if (end > n + 1) {
        put_chain(n, end);
        n = end;
      } else {
        n = put_run(n);
      }
    }
    out_.words.insert(out_.words.end(), {kEnd, 0});
    return std::move(out_);
  }

 private:
  Seen at(std::size_t n) const {
    const Word* const w = &stream_.words[stream_.steps[n]];
    return {w[0], w + 1};
  }

  template <typename F>
  static void for_each_read(const Seen& s, const Layout& layout, F f) {
    for (Word k = layout.adds ? 0 : layout.writes; k < layout.words; ++k)
      if (s.words[k] != kNoSlot) f(s.words[k]);
  }

  // Whether what each step writes first is read after the step that follows it.
  void find_lives() {
    std::vector<bool> live(one_ + 1, false);
    const auto go_before = [&](const Seen& s, const Layout& layout) {
      for (Word k = 0; k < layout.writes; ++k)
        if (s.words[k] != kNoSlot) live[s.words[k]] = false;
      for_each_read(s, layout, [&](Word slot) { live[slot] = true; });
    };
    const auto keep = [&](Word first, Word count) {
      for (Word slot = first; first != kNoSlot && slot < first + count; ++slot) live[slot] = true;
    };
    keep(l_.input_gradients, l_.inputs);
    keep(l_.param_gradients, l_.params);
    if (!backward_) {
      const Layout* const layouts = tapegrad::layouts(true);
      const Stream& after = l_.streams[1];
      for (std::size_t n = after.steps.size(); n-- > 0;) {
        const Word* const w = &after.words[after.steps[n]];
        go_before({w[0], w + 1}, layouts[w[0]]);
      }
      for (const Word slot : l_.outputs) live[slot] = true;
      for (const CheckedSlot& g : l_.guards) live[g.slot] = true;
    }
    needed_.assign(size_, true);
    for (std::size_t n = size_; n-- > 0;) {
      // Here `live` is as it is after step n.
      const Seen s = at(n);
      const Layout layout = layouts_[s.kind];
      if (n && is_link(at(n - 1))) {
        const Word slot = at(n - 1).words[0];
        needed_[n - 1] = live[slot] && std::find(s.words, s.words + layout.writes, slot) == s.words + layout.writes;
      }
      go_before(s, layout);
    }
  }

  bool is_derivative(const Seen& s) const {
    return backward_ && s.code() < static_cast<Word>(Code::table_end) && fits_chain(static_cast<Code>(s.code())) &&
           s.kind == backward_kind(static_cast<Code>(s.code()), Mode::store, Mode::none);
  }

  // Whether a step is one that a chain may have: anything but a mere copy.
  bool is_link(const Seen& s) const {
    if (!s.is_sum()) return is_derivative(s);
    return !s.adds() && (s.terms() > 1 || (s.terms() == 1 && s.y(0) != kNoSlot));
  }

  // Whether the step reads the result of the one before it, in one place from which a chain can go on. Sums of a
  // program keep their order; gradients may be formed in any.
  bool follows(const Seen& s, Word before) const {
    if (!is_link(s)) return false;
    int places = 0;
    for_each_read(s, layouts_[s.kind], [&](Word slot) { places += slot == before; });
    if (places != 1) return false;
    if (!s.is_sum()) return s.words[1] == before;
    return term_with(s, before) < (backward_ ? s.terms() : std::min<Word>(s.terms(), 2));
  }

  // Which term has the slot.
  static Word term_with(const Seen& s, Word slot) {
    Word k = 0;
    while (k < s.terms() && s.x(k) != slot && s.y(k) != slot) ++k;
    return k;
  }

  std::size_t chain_from(std::size_t n) const {
    std::size_t end = n + 1;
    if (!is_link(at(n))) return end;
    while (end < size_ && follows(at(end), at(end - 1).words[0])) ++end;
    return end;
  }

  // Steps of one kind that are in no chain. Returns the next step.
  std::size_t put_run(std::size_t n) {
    const Word kind = at(n).kind;
    std::size_t end = n + 1;
    while (end < size_ && at(end).kind == kind && chain_from(end) == end + 1) ++end;
    ++out_.runs;
    out_.words.insert(out_.words.end(), {kind, static_cast<Word>(end - n)});
    for (; n < end; ++n)
      for (Word k = 0; k < layouts_[kind].words; ++k) put_slot(at(n).words[k]);
    return end;
  }

  void put_chain(std::size_t n, std::size_t end) {
    ++out_.runs;
    const Seen start = at(n);
    Word before = start.is_sum() ? start.x(0) : start.words[1];
    const std::size_t count_at = out_.words.size() + 1;
    out_.words.insert(out_.words.end(), {kChain, 0, before});
    for (; n < end; ++n) {
      const Seen s = at(n);
      const bool stores = n + 1 == end || needed_[n];
      if (s.is_sum())
        put_sum(s, before, stores);
      else
        put_link(s.code() + kDerivative + (stores ? 0 : kNoStore), {s.words[2], s.words[3], kNoSlot, s.words[0]});
      before = s.words[0];
    }
    out_.words[count_at] = static_cast<Word>((out_.words.size() - count_at - 2) / kLinkWords);
  }

  // The term with what there is so far and one more, then the others.
  void put_sum(const Seen& s, Word before, bool stores) {
    const Word own = term_with(s, before);
    Word k = own == 0 ? 1 : 0;
    const auto put = [&](Word y) {
      const Word p = k < s.terms() ? s.x(k) : kNoSlot, q = k < s.terms() ? s.y(k) : kNoSlot;
      k += k + 1 == own ? 2 : 1;
      Word what = k >= s.terms() && stores ? kStoresZ : 0;
      if (y != kNoSlot) what |= kTimesY;
      if (p != kNoSlot) what |= kPlusP;
      if (q != kNoSlot) what |= kTimesQ;
      put_link(what, {y, p, q, s.words[0]});
    };
    put(s.x(own) == before ? s.y(own) : s.x(own));
    while (k < s.terms()) put(kNoSlot);
  }

  void put_link(Word what, std::initializer_list<Word> slots) {
    out_.words.push_back(what);
    for (const Word slot : slots) put_slot(slot);
  }
  void put_slot(Word slot) { out_.words.push_back(slot == kNoSlot ? one_ : slot); }

  const Lowered& l_;
  const bool backward_;
  const Stream& stream_;
  const std::size_t size_;
  const Word one_;
  const Layout* const layouts_;
  std::vector<bool> needed_;
  Chained out_;
};

}  // namespace

Chained encode_chains(const Lowered& lowered, Direction direction, Word one) {
  return Chainer(lowered, direction, one).run();
}

}  // namespace tapegrad
