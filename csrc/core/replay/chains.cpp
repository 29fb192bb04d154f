// chains.cpp: finds chains in the order in which steps are, and which of their numbers are read later.
#include "core/replay/chains.hpp"

#include <algorithm>
#include <initializer_list>

#include "core/replay/schedule.hpp"

namespace tapegrad {

namespace {

template <typename F>
void for_each_read(const Lowered& l, const Step& s, bool backward, F f) {
  const auto read = [&](Word slot) {
    if (slot != kNoSlot) f(slot);
  };
  if (s.code == kDot) {
    if (s.mode_x == Mode::add) f(s.z);
    for (Word k = s.first; k < s.first + s.count; ++k) {
      read(l.terms[k].x);
      read(l.terms[k].y);
    }
    return;
  }
  read(s.x);
  read(s.y);
  read(s.g);
  if (!backward) return;
  read(s.z);
  if (s.mode_x == Mode::add) f(s.dx);
  if (s.mode_y == Mode::add) f(s.dy);
}

template <typename F>
void for_each_write(const Step& s, bool backward, F f) {
  if (s.code == kDot || !backward) return f(s.z);
  if (s.mode_x != Mode::none) f(s.dx);
  if (s.mode_y != Mode::none) f(s.dy);
}

class Chainer {
 public:
  Chainer(const Lowered& lowered, Direction direction, Word one)
      : l_(lowered),
        direction_(direction),
        one_(one),
        steps_(direction == Direction::backward ? lowered.backward : lowered.forward),
        part_(lowered) {
    find_lives();
  }

  Chained run() {
    std::vector<Step> alone;
    for (std::size_t n = 0; n < steps_.size();) {
      const std::size_t end = chain_from(n);
      if (end == n + 1) {
        alone.push_back(steps_[n++]);
        continue;
      }
      put_alone(alone);
      put_chain(n, end);
      n = end;
    }
    put_alone(alone);
    out_.words.insert(out_.words.end(), {kEnd, 0});
    return std::move(out_);
  }

 private:
  // Whether what each step writes is read after the step that follows it.
  void find_lives() {
    std::vector<bool> live(one_ + 1, false);
    const auto go_before = [&](const Step& s, bool is_backward) {
      for_each_write(s, is_backward, [&](Word slot) { live[slot] = false; });
      for_each_read(l_, s, is_backward, [&](Word slot) { live[slot] = true; });
    };
    const auto keep = [&](Word first, Word count) {
      for (Word slot = first; first != kNoSlot && slot < first + count; ++slot) live[slot] = true;
    };
    keep(l_.input_gradients, l_.inputs);
    keep(l_.param_gradients, l_.params);
    if (!backward()) {
      for (std::size_t n = l_.backward.size(); n-- > 0;) go_before(l_.backward[n], true);
      for (const Word slot : l_.outputs) live[slot] = true;
      for (const CheckedSlot& g : l_.guards) live[g.slot] = true;
    }
    needed_.assign(steps_.size(), true);
    for (std::size_t n = steps_.size(); n-- > 0;) {
      // Here `live` is as it is after step n.
      if (n && is_link(steps_[n - 1])) {
        const Word slot = result_of(steps_[n - 1]);
        bool written = false;
        for_each_write(steps_[n], backward(), [&](Word to) { written = written || to == slot; });
        needed_[n - 1] = live[slot] && !written;
      }
      go_before(steps_[n], backward());
    }
  }

  bool backward() const { return direction_ == Direction::backward; }

  bool is_derivative(const Step& s) const {
    return backward() && s.code < static_cast<std::uint16_t>(Code::table_end) && s.mode_x == Mode::store &&
           fits_chain(static_cast<Code>(s.code));
  }
  static Word result_of(const Step& s) { return s.code == kDot ? s.z : s.dx; }

  // Whether a step is one that a chain may have: anything but a mere copy.
  bool is_link(const Step& s) const {
    if (s.code != kDot) return is_derivative(s);
    return s.mode_x == Mode::store && (s.count > 1 || (s.count == 1 && l_.terms[s.first].y != kNoSlot));
  }

  // Whether the step reads the result of the one before it, in one place from which a chain can go on. Sums of a
  // program keep their order; gradients may be formed in any.
  bool follows(const Step& s, Word before) const {
    if (!is_link(s)) return false;
    int places = 0;
    for_each_read(l_, s, backward(), [&](Word slot) { places += slot == before; });
    if (places != 1) return false;
    if (s.code != kDot) return s.g == before;
    const Word last = backward() ? s.count : std::min<Word>(s.count, 2);
    return term_with(s, before) < last;
  }

  // Which term has the slot.
  Word term_with(const Step& s, Word slot) const {
    Word k = 0;
    while (k < s.count && l_.terms[s.first + k].x != slot && l_.terms[s.first + k].y != slot) ++k;
    return k;
  }

  std::size_t chain_from(std::size_t n) const {
    std::size_t end = n + 1;
    if (!is_link(steps_[n])) return end;
    while (end < steps_.size() && follows(steps_[end], result_of(steps_[end - 1]))) ++end;
    return end;
  }

  void put_alone(std::vector<Step>& alone) {
    if (alone.empty()) return;
    for (std::size_t n = 0; n < alone.size(); ++n)
      if (!n || kind_of(l_, alone[n]) != kind_of(l_, alone[n - 1])) ++out_.runs;
    std::vector<Step>& steps = direction_ == Direction::backward ? part_.backward : part_.forward;
    steps.swap(alone);
    const std::vector<Word> words = encode(part_, direction_, one_, nullptr);
    out_.words.insert(out_.words.end(), words.begin(), words.end() - 2);  // without the end
    alone.clear();
  }

  void put_chain(std::size_t n, std::size_t end) {
    ++out_.runs;
    out_.words.insert(out_.words.end(), {kChain, 0, start_of(steps_[n])});
    const std::size_t count_at = out_.words.size() - 2;
    for (std::size_t k = n; k < end; ++k) {
      const Step& s = steps_[k];
      const bool stores = k + 1 == end || needed_[k];
      if (s.code == kDot)
        put_sum(s, k == n ? l_.terms[s.first].x : result_of(steps_[k - 1]), stores);
      else
        put_link(s.code + kDerivative + (stores ? 0 : kNoStore), {s.x, s.z, kNoSlot, s.dx});
    }
    out_.words[count_at] = static_cast<Word>((out_.words.size() - count_at - 2) / kLinkWords);
  }

  Word start_of(const Step& s) const { return s.code == kDot ? l_.terms[s.first].x : s.g; }

  // The term with what there is so far and one more, then the others.
  void put_sum(const Step& s, Word before, bool stores) {
    const Term* const terms = &l_.terms[s.first];
    const Word own = term_with(s, before);
    const Word factor = terms[own].x == before ? terms[own].y : terms[own].x;
    Word k = own == 0 ? 1 : 0;
    const auto put = [&](Word y) {
      const Term none{kNoSlot, kNoSlot, Mode::none};
      const Term& other = k < s.count ? terms[k] : none;
      k += k + 1 == own ? 2 : 1;
      Word what = k >= s.count && stores ? kStoresZ : 0;
      if (y != kNoSlot) what |= kTimesY;
      if (other.x != kNoSlot) what |= kPlusP;
      if (other.y != kNoSlot) what |= kTimesQ;
      put_link(what, {y, other.x, other.y, s.z});
    };
    put(factor);
    while (k < s.count) put(kNoSlot);
  }

  void put_link(Word what, std::initializer_list<Word> slots) {
    out_.words.push_back(what);
    for (const Word slot : slots) out_.words.push_back(slot == kNoSlot ? one_ : slot);
  }

  const Lowered& l_;
  const Direction direction_;
  const Word one_;
  const std::vector<Step>& steps_;
  Lowered part_;  // for encode(): its steps are those between two chains
  std::vector<bool> needed_;
  Chained out_;
};

}  // namespace

Chained encode_chains(const Lowered& lowered, Direction direction, Word one) {
  return Chainer(lowered, direction, one).run();
}

}  // namespace tapegrad
