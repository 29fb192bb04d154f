// fuse.cpp: matches compositions by who writes and who reads each register; every match is checked in full before
// anything is replaced.
#include "core/replay/fuse.hpp"

#include <algorithm>
#include <limits>

namespace tapegrad {

namespace {

using U32 = std::uint32_t;
constexpr U32 kNone = ~0u;

bool is(const Step& s, Code code) {
  return s.code == static_cast<std::uint16_t>(code);
}

class Fuser {
 public:
  Fuser(Lowered& lowered, U32 registers, const std::vector<U32>& slots)
      : l_(lowered), registers_(registers), first_new_(registers), slots_(slots) {}

  U32 run() {
    const auto starts = [](const Step& s) { return is(s, Code::exp) || is(s, Code::softplus); };
    if (std::none_of(l_.forward.begin(), l_.forward.end(), starts)) return registers_;
    find_uses();
    if (!l_.exact) find_depths();
    groups_.assign(first_new_, kNone);
    for (U32 n = 0; n < size(l_.forward); ++n)
      if (l_.forward[n].code == kDot) match_softmax(n);
    for (U32 n = 0; n < size(l_.backward); ++n) match_softmax_backward(n);
    for (U32 n = 0; n < size(l_.forward); ++n)
      if (l_.forward[n].code == kDot) match_log_exp(n);
    find_softplus();
    for (U32 n = 0; n < size(l_.backward); ++n) match_softplus_backward(n);
    replace(l_.forward, forward_);
    replace(l_.backward, backward_);
    return registers_;
  }

 private:
  // What replaces the steps of one direction, by their numbers.
  struct Changes {
    std::vector<bool> gone;
    std::vector<std::pair<U32, Step>> made;  // and where they go, in any order
  };
  // Who uses a register. Steps that write it twice count as none.
  struct Uses {
    U32 writer = kNone, first_reader = kNone, readers = 0;
  };
  struct Softmax {
    std::vector<U32> a, z;
    U32 sum = kNone, inverse = kNone;
  };
  struct Entry {
    U32 a = kNone, g = kNone, dx = kNone;
  };

  static U32 size(const std::vector<Step>& steps) { return static_cast<U32>(steps.size()); }

  double constant(U32 r) const {
    const U32 slot = r >= kSettled ? r - kSettled : r < slots_.size() ? slots_[r] : kNone;
    return slot < l_.constants.size() ? l_.constants[slot] : std::numeric_limits<double>::quiet_NaN();
  }

  void find_uses() {
    const auto find = [this](const std::vector<Step>& steps, bool backward, std::vector<Uses>& uses) {
      uses.assign(first_new_, {});
      const auto read = [&](U32 r, U32 n) {
        if (r >= first_new_) return;
        if (!uses[r].readers++) uses[r].first_reader = n;
      };
      std::vector<bool> written(first_new_, false);
      const auto write = [&](U32 r, U32 n) {
        uses[r].writer = written[r] ? kNone : n;
        written[r] = true;
      };
      for (U32 n = 0; n < size(steps); ++n) {
        const Step& s = steps[n];
        if (s.code == kDot) {
          for (U32 k = s.first; k < s.first + s.count; ++k) {
            read(l_.terms[k].x, n);
            read(l_.terms[k].y, n);
          }
          write(s.z, n);
          if (s.mode_x == Mode::add) write(s.z, n);
          continue;
        }
        for (const U32 r : {s.x, s.y, s.g}) read(r, n);
        if (!backward) {
          write(s.z, n);
          continue;
        }
        read(s.z, n);
        if (s.mode_x != Mode::none) write(s.dx, n);
        if (s.mode_y != Mode::none) write(s.dy, n);
        if (s.mode_x == Mode::add) write(s.dx, n);
        if (s.mode_y == Mode::add) write(s.dy, n);
      }
    };
    find(l_.forward, false, values_);
    find(l_.backward, true, gradients_);
    forward_.gone.assign(l_.forward.size(), false);
    backward_.gone.assign(l_.backward.size(), false);
    exp_backward_.assign(first_new_, kNone);
    log_backward_.assign(first_new_, kNone);
    std::vector<bool> seen(first_new_, false);
    for (U32 n = 0; n < size(l_.backward); ++n) {
      const Step& s = l_.backward[n];
      if (s.mode_x != Mode::store) continue;
      // Equal values may have gradients of their own; those are left as they are.
      const auto only = [&](U32& step, U32 r) {
        step = seen[r] ? kNone : n;
        seen[r] = true;
      };
      if (is(s, Code::exp)) only(exp_backward_[s.z], s.z);
      if (is(s, Code::log)) only(log_backward_[s.x], s.x);
    }
  }

  // About how many cycles it takes until a value is there.
  void find_depths() {
    depths_.assign(first_new_, 0);
    for (const Step& s : l_.forward) {
      U32 ready = 0;
      const auto read = [&](U32 r) {
        if (r < first_new_) ready = std::max(ready, depths_[r]);
      };
      for (const U32 r : {s.x, s.y, s.g}) read(r);
      for (U32 k = s.first; k < s.first + s.count; ++k) {
        read(l_.terms[k].x);
        read(l_.terms[k].y);
      }
      depths_[s.z] = ready + (s.code == kDot ? 12 : 40);
    }
  }

  // The step that computes a value, if it is the only one and does `code`.
  U32 writer_of(U32 r, Code code) const {
    const U32 n = r < first_new_ ? values_[r].writer : kNone;
    return n != kNone && is(l_.forward[n], code) && !forward_.gone[n] ? n : kNone;
  }

  void put(Changes& to, U32 place, std::uint16_t code, std::initializer_list<Term> head,
           const std::vector<Term>& tail = {}) {
    Step s;
    s.code = code;
    s.first = static_cast<U32>(l_.terms.size());
    l_.terms.insert(l_.terms.end(), head.begin(), head.end());
    l_.terms.insert(l_.terms.end(), tail.begin(), tail.end());
    s.count = static_cast<U32>(l_.terms.size()) - s.first;
    to.made.push_back({place, s});
  }

  // ---- softmax: s = a_0 + a_1 + ..., r = 1 / s, z_i = a_i r

  void match_softmax(U32 n) {
    const Step& sum = l_.forward[n];
    if (sum.mode_x != Mode::store || sum.count < 2 || sum.count > kMaxTerms) return;
    Softmax found;
    U32 exponentials = 0;
    for (U32 k = sum.first; k < sum.first + sum.count; ++k) {
      const Term& t = l_.terms[k];
      if (t.y != kNoSlot) return;
      if (constant(t.x) == 0) continue;  // exponentials are not -0
      if (std::find(found.a.begin(), found.a.end(), t.x) != found.a.end()) return;
      found.a.push_back(t.x);
      exponentials += starts_here(t.x, n);
    }
    if (!exponentials || found.a.size() < 2 || (l_.exact && found.a.size() < sum.count && exponentials < found.a.size())) return;
    const U32 r = reciprocal_of(sum.z);
    if (r == kNone) return;
    // What is there last is added last.
    if (!l_.exact)
      std::stable_sort(found.a.begin(), found.a.end(), [this](U32 a, U32 b) { return depths_[a] < depths_[b]; });
    found.sum = sum.z;
    found.inverse = l_.forward[r].z;
    find_quotients(found);
    forward_.gone[n] = forward_.gone[r] = true;
    std::vector<Term> terms;
    for (std::size_t k = 0; k < found.a.size(); ++k) {
      const U32 a = found.a[k];
      if (starts_here(a, n)) {
        terms.push_back({l_.forward[values_[a].writer].x, a, Mode::none});
        forward_.gone[values_[a].writer] = true;
      } else {
        terms.push_back({a, kNoSlot, Mode::none});
      }
      terms.push_back({kNoSlot, found.z[k] == kNone ? registers_++ : found.z[k], Mode::none});
    }
    put(forward_, n, kSoftmax, {{kNoSlot, found.sum, Mode::none}, {kNoSlot, found.inverse, Mode::none}}, terms);
    groups_[found.sum] = groups_[found.inverse] = static_cast<U32>(softmaxes_.size());
    softmaxes_.push_back(std::move(found));
  }

  // Whether a is an exponential that nothing reads before step n.
  bool starts_here(U32 a, U32 n) const { return writer_of(a, Code::exp) != kNone && values_[a].first_reader == n; }

  U32 reciprocal_of(U32 sum) const {
    const U32 n = values_[sum].first_reader;
    if (n == kNone || forward_.gone[n]) return kNone;
    const Step& s = l_.forward[n];
    const bool power = is(s, Code::powc) && s.x == sum && constant(s.y) == -1;
    const bool quotient = !l_.exact && is(s, Code::div) && s.y == sum && constant(s.x) == 1;
    return power || quotient ? n : kNone;
  }

  // Products of one a_i and the reciprocal follow it closely; where they do not, they stay steps of their own.
  void find_quotients(Softmax& found) {
    found.z.assign(found.a.size(), kNone);
    const U32 first = values_[found.inverse].first_reader;
    if (first == kNone) return;
    const U32 end = std::min(size(l_.forward), first + 4 * kMaxTerms);
    for (U32 n = first; n < end; ++n) {
      const Step& s = l_.forward[n];
      if (s.code != kDot || s.mode_x != Mode::store || s.count != 1 || forward_.gone[n]) continue;
      const Term& t = l_.terms[s.first];
      if (t.y == kNoSlot || (t.x == found.inverse) == (t.y == found.inverse)) continue;
      const auto at = std::find(found.a.begin(), found.a.end(), t.x == found.inverse ? t.y : t.x);
      if (at == found.a.end() || found.z[at - found.a.begin()] != kNone || values_[s.z].writer != n) continue;
      found.z[at - found.a.begin()] = s.z;
      forward_.gone[n] = true;
    }
  }

  // dr = sum of a_i gz_i, ds = -r^2 dr, da_i = r gz_i + ds, and dx_i = a_i da_i where a_i = e^x_i.
  void match_softmax_backward(U32 n) {
    const Step& s = l_.backward[n];
    if (s.mode_x != Mode::store) return;
    U32 group = kNone;
    if (is(s, Code::powc) && constant(s.y) == -1) group = groups_[s.x];
    if (s.code == kReciprocal) group = groups_[s.z];
    if (group == kNone) return;
    const Softmax& found = softmaxes_[group];
    if (s.code != kReciprocal && s.x != found.sum) return;
    const U32 d = s.g < first_new_ ? gradients_[s.g].writer : kNone;
    if (d == kNone || gradients_[s.g].readers != 1) return;
    const Step& dot = l_.backward[d];
    if (dot.code != kDot || dot.mode_x != Mode::store || backward_.gone[d]) return;
    std::vector<Entry> entries;
    for (U32 k = dot.first; k < dot.first + dot.count; ++k) {
      const Term& t = l_.terms[k];
      const bool by_x = is_one_of(found.a, t.x), by_y = t.y != kNoSlot && is_one_of(found.a, t.y);
      if (by_x == by_y || t.y == kNoSlot) return;
      entries.push_back({by_x ? t.x : t.y, by_x ? t.y : t.x, kNone});
    }
    for (std::size_t k = 0; k < entries.size(); ++k)
      for (std::size_t j = 0; j < k; ++j)
        if (entries[j].a == entries[k].a) return;
    for (const U32 a : found.a)
      if (std::none_of(entries.begin(), entries.end(), [a](const Entry& e) { return e.a == a; }))
        entries.push_back({a, kNone, kNone});
    std::vector<Term> terms;
    for (Entry& e : entries) {
      match_entry(found, s.dx, e);
      terms.push_back({e.a, e.dx == kNone ? registers_++ : e.dx, Mode::none});
      terms.push_back({e.g, kNoSlot, Mode::none});
    }
    backward_.gone[n] = backward_.gone[d] = true;
    put(backward_, n, kSoftmax, {{found.sum, s.dx, Mode::none}, {found.inverse, kNoSlot, Mode::none}}, terms);
  }

  static bool is_one_of(const std::vector<U32>& registers, U32 r) {
    return std::find(registers.begin(), registers.end(), r) != registers.end();
  }

  void match_entry(const Softmax& found, U32 ds, Entry& e) {
    const U32 n = exp_backward_[e.a];
    if (n == kNone || backward_.gone[n]) return;
    const Step& exp = l_.backward[n];
    if (exp.g == ds && e.g == kNone) {
      backward_.gone[n] = true;
      e.dx = exp.dx;
      return;
    }
    if (exp.g >= first_new_ || gradients_[exp.g].readers != 1) return;
    const U32 d = gradients_[exp.g].writer;
    if (d == kNone || backward_.gone[d] || l_.backward[d].code != kDot || l_.backward[d].mode_x != Mode::store) return;
    const Step& dot = l_.backward[d];
    if (dot.count != (e.g == kNone ? 1u : 2u)) return;
    const Term& last = l_.terms[dot.first + dot.count - 1];
    if (last.x != ds || last.y != kNoSlot) return;
    if (e.g != kNone) {
      const Term& first = l_.terms[dot.first];
      if (!(first.x == found.inverse && first.y == e.g) && !(first.y == found.inverse && first.x == e.g)) return;
    }
    backward_.gone[n] = backward_.gone[d] = true;
    e.dx = exp.dx;
  }

  // ---- log(e^x + 1)

  void match_log_exp(U32 n) {
    const Step& sum = l_.forward[n];
    if (forward_.gone[n] || sum.count != 2) return;
    U32 e = l_.terms[sum.first].x;
    if (!adds_one(sum, e)) e = l_.terms[sum.first + 1].x;
    if (!adds_one(sum, e) || !starts_here(e, n)) return;
    const U32 t = sum.z, log = values_[t].first_reader;
    if (log == kNone || forward_.gone[log] || !is(l_.forward[log], Code::log)) return;
    const U32 exp = values_[e].writer;
    forward_.gone[n] = forward_.gone[exp] = forward_.gone[log] = true;
    put(forward_, n, kLogExp,
        {{l_.forward[exp].x, e, Mode::none}, {kNoSlot, t, Mode::none}, {kNoSlot, l_.forward[log].z, Mode::none}});
    const U32 dl = log_backward_[t], de = exp_backward_[e];
    if (dl == kNone || de == kNone || backward_.gone[dl] || backward_.gone[de]) return;
    const Step &outer = l_.backward[dl], &inner = l_.backward[de];
    if (outer.dx != inner.g || gradients_[inner.g].readers != 1) return;
    backward_.gone[dl] = backward_.gone[de] = true;
    put(backward_, dl, kLogExp, {{e, inner.dx, Mode::none}, {t, kNoSlot, Mode::none}, {outer.g, kNoSlot, Mode::none}});
  }

  // ---- softplus; when loose it is a log_exp, which may give e^x and e^x + 1 to others

  void find_softplus() {
    kept_.assign(first_new_, {});
    std::vector<U32> exp_of;  // by x
    for (U32 n = 0; n < size(l_.forward) && !l_.exact; ++n) {
      if (!is(l_.forward[n], Code::exp) || forward_.gone[n]) continue;
      exp_of.resize(first_new_, kNone);
      exp_of[l_.forward[n].x] = n;
    }
    for (U32 n = 0; n < size(l_.forward); ++n)
      if (is(l_.forward[n], Code::softplus)) kept_[l_.forward[n].x] = {n, exp_of.empty() ? kNone : exp_of[l_.forward[n].x]};
  }

  void match_softplus_backward(U32 n) {
    const Step& s = l_.backward[n];
    if (!is(s, Code::softplus) || s.mode_x != Mode::store || kept_[s.x].step == kNone) return;
    Kept& kept = kept_[s.x];
    if (kept.power == kNone) l_.exact ? keep_small_power(s.x, kept) : keep_power(s.x, kept);
    backward_.gone[n] = true;
    if (l_.exact)
      put(backward_, n, kSoftplus, {{kept.power, s.dx, Mode::none}, {s.x, kNoSlot, Mode::none}, {s.g, kNoSlot, Mode::none}});
    else
      put(backward_, n, kLogExp,
          {{kept.power, s.dx, Mode::none}, {kept.power_and_one, kNoSlot, Mode::none}, {s.g, kNoSlot, Mode::none}});
  }

  struct Kept {
    U32 step = kNone, exp = kNone;  // softplus(x), and e^x
    U32 power = kNone, power_and_one = kNone;
  };

  void keep_small_power(U32 x, Kept& kept) {
    kept.power = registers_++;
    forward_.gone[kept.step] = true;
    put(forward_, kept.step, kSoftplus,
        {{x, kept.power, Mode::none}, {kNoSlot, l_.forward[kept.step].z, Mode::none}});
  }

  // At the place of the first of its parts: all they need is x.
  void keep_power(U32 x, Kept& kept) {
    U32 place = kept.step;
    if (kept.exp != kNone) {
      kept.power = l_.forward[kept.exp].z;
      forward_.gone[kept.exp] = true;
      place = std::min(place, kept.exp);
      const U32 next = values_[kept.power].first_reader;
      if (next != kNone && !forward_.gone[next] && adds_one(l_.forward[next], kept.power)) {
        forward_.gone[next] = true;
        kept.power_and_one = l_.forward[next].z;
      }
    } else {
      kept.power = registers_++;
    }
    if (kept.power_and_one == kNone) kept.power_and_one = registers_++;
    forward_.gone[kept.step] = true;
    put(forward_, place, kLogExp,
        {{x, kept.power, Mode::none}, {kNoSlot, kept.power_and_one, Mode::none}, {kNoSlot, l_.forward[kept.step].z, Mode::none}});
  }

  bool adds_one(const Step& s, U32 r) const {
    if (s.code != kDot || s.mode_x != Mode::store || s.count != 2) return false;
    const Term &a = l_.terms[s.first], &b = l_.terms[s.first + 1];
    return a.y == kNoSlot && b.y == kNoSlot && ((a.x == r && constant(b.x) == 1) || (b.x == r && constant(a.x) == 1));
  }

  static void replace(std::vector<Step>& steps, Changes& changes) {
    if (changes.made.empty()) return;
    std::sort(changes.made.begin(), changes.made.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<Step> out;
    out.reserve(steps.size());
    std::size_t next = 0;
    for (U32 n = 0; n < size(steps); ++n) {
      if (!changes.gone[n]) out.push_back(steps[n]);
      for (; next < changes.made.size() && changes.made[next].first == n; ++next)
        out.push_back(changes.made[next].second);
    }
    steps = std::move(out);
  }

  Lowered& l_;
  U32 registers_;
  const U32 first_new_;
  const std::vector<U32>& slots_;
  Changes forward_, backward_;
  std::vector<Uses> values_, gradients_;
  std::vector<U32> exp_backward_, log_backward_;  // the step, by e^x and by what the logarithm is taken of
  std::vector<U32> depths_;
  std::vector<U32> groups_;                       // into softmaxes_, by the registers of sum and reciprocal
  std::vector<Softmax> softmaxes_;
  std::vector<Kept> kept_;                        // by x
};

}  // namespace

std::uint32_t fuse(Lowered& lowered, std::uint32_t registers, const std::vector<std::uint32_t>& slots) {
  return Fuser(lowered, registers, slots).run();
}

}  // namespace tapegrad
