// fuse_softmax.cpp: finds softmax among steps: s = a_0 + a_1 + ..., r = 1 / s, z_i = a_i r, where some or all a_i are
// e^x_i; and backward dr = sum of a_i gz_i, ds = -r^2 dr, da_i = r gz_i + ds, dx_i = a_i da_i.
#include <algorithm>

#include "core/replay/fusion.hpp"

namespace tapegrad {

namespace {

using U32 = Fusion::U32;
constexpr U32 kNone = Fusion::kNone;

struct Softmax {
  std::vector<U32> a, z;
  U32 sum = kNone, inverse = kNone;
};

// One a_i backward: itself, the gradient of z_i, and where that of x_i goes.
struct Entry {
  U32 a = kNone, g = kNone, dx = kNone;
};

class SoftmaxFuser {
 public:
  explicit SoftmaxFuser(Fusion& fusion) : f_(fusion), l_(fusion.lowered), groups_(fusion.first_new, kNone) {}

  void run() {
    if (!l_.exact) find_depths();
    for (U32 n = 0; n < Fusion::size(l_.forward); ++n)
      if (l_.forward[n].code == kDot) match(n);
    for (U32 n = 0; n < Fusion::size(l_.backward) && !softmaxes_.empty(); ++n) match_backward(n);
  }

 private:
  // About how many cycles it takes until a value is there.
  void find_depths() {
    depths_.assign(f_.first_new, 0);
    for (const Step& s : l_.forward) {
      U32 ready = 0;
      const auto read = [&](U32 r) {
        if (r < f_.first_new) ready = std::max(ready, depths_[r]);
      };
      for (const U32 r : {s.x, s.y, s.g}) read(r);
      for (U32 k = s.first; k < s.first + s.count; ++k) {
        read(l_.terms[k].x);
        read(l_.terms[k].y);
      }
      depths_[s.z] = ready + (s.code == kDot ? 12 : 40);
    }
  }

  void match(U32 n) {
    const Step& sum = l_.forward[n];
    if (sum.mode_x != Mode::store || sum.count < 2 || sum.count > kMaxTerms) return;
    U32 exponentials = 0;
    for (U32 k = sum.first; k < sum.first + sum.count; ++k) {
      if (l_.terms[k].y != kNoSlot) return;
      exponentials += f_.starts_here(l_.terms[k].x, n);
    }
    if (!exponentials || f_.values[sum.z].writer != n) return;
    Softmax found;
    for (U32 k = sum.first; k < sum.first + sum.count; ++k) {
      const U32 a = l_.terms[k].x;
      if (f_.constant(a) == 0) continue;  // exponentials are not -0
      if (is_one_of(found.a, a)) return;
      found.a.push_back(a);
    }
    if (found.a.size() < 2 || (l_.exact && found.a.size() < sum.count && exponentials < found.a.size())) return;
    const U32 r = reciprocal_of(sum.z);
    if (r == kNone) return;
    // What is there last is added last.
    if (!l_.exact)
      std::stable_sort(found.a.begin(), found.a.end(), [this](U32 a, U32 b) { return depths_[a] < depths_[b]; });
    found.sum = sum.z;
    found.inverse = l_.forward[r].z;
    find_quotients(found);
    f_.forward.gone[n] = f_.forward.gone[r] = true;
    std::vector<Term> terms;
    for (std::size_t k = 0; k < found.a.size(); ++k) {
      const U32 a = found.a[k];
      if (f_.starts_here(a, n)) {
        terms.push_back({l_.forward[f_.values[a].writer].x, a, Mode::store});
        f_.forward.gone[f_.values[a].writer] = true;
      } else {
        terms.push_back({a, kNoSlot, Mode::store});
      }
      terms.push_back({kNoSlot, found.z[k] == kNone ? f_.registers++ : found.z[k], Mode::none});
    }
    f_.put(f_.forward, n, kSoftmax, {{kNoSlot, found.sum, Mode::none}, {kNoSlot, found.inverse, Mode::none}}, terms);
    groups_[found.sum] = groups_[found.inverse] = static_cast<U32>(softmaxes_.size());
    softmaxes_.push_back(std::move(found));
  }

  U32 reciprocal_of(U32 sum) const {
    const U32 n = f_.values[sum].first_reader;
    if (n == kNone || f_.forward.gone[n]) return kNone;
    const Step& s = l_.forward[n];
    const bool power = Fusion::is(s, Code::powc) && s.x == sum && f_.constant(s.y) == -1;
    const bool quotient = !l_.exact && Fusion::is(s, Code::div) && s.y == sum && f_.constant(s.x) == 1;
    return power || quotient ? n : kNone;
  }

  // Products of one a_i and the reciprocal follow it closely; where they do not, they stay steps of their own.
  void find_quotients(Softmax& found) {
    found.z.assign(found.a.size(), kNone);
    const U32 first = f_.values[found.inverse].first_reader;
    if (first == kNone) return;
    const U32 end = std::min(Fusion::size(l_.forward), first + 4 * kMaxTerms);
    for (U32 n = first; n < end; ++n) {
      const Step& s = l_.forward[n];
      if (s.code != kDot || s.mode_x != Mode::store || s.count != 1 || f_.forward.gone[n]) continue;
      const Term& t = l_.terms[s.first];
      if (t.y == kNoSlot || (t.x == found.inverse) == (t.y == found.inverse)) continue;
      const auto at = std::find(found.a.begin(), found.a.end(), t.x == found.inverse ? t.y : t.x);
      if (at == found.a.end() || found.z[at - found.a.begin()] != kNone || f_.values[s.z].writer != n) continue;
      found.z[at - found.a.begin()] = s.z;
      f_.forward.gone[n] = true;
    }
  }

  // From the step that gives ds. What is matched reads nothing that comes later, so all of it goes there.
  void match_backward(U32 n) {
    const Step& s = l_.backward[n];
    if (s.mode_x != Mode::store) return;
    U32 group = kNone;
    if (Fusion::is(s, Code::powc) && f_.constant(s.y) == -1) group = groups_[s.x];
    if (s.code == kReciprocal) group = groups_[s.z];
    if (group == kNone) return;
    const Softmax& found = softmaxes_[group];
    if (s.code != kReciprocal && s.x != found.sum) return;
    const U32 d = s.g < f_.first_new ? f_.gradients[s.g].writer : kNone;
    if (d == kNone || f_.gradients[s.g].readers != 1) return;
    const Step& dot = l_.backward[d];
    if (dot.code != kDot || dot.mode_x != Mode::store || f_.backward.gone[d]) return;
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
      const bool matched = match_entry(found, s.dx, e);
      terms.push_back({e.a, e.dx == kNone ? f_.registers++ : e.dx, Mode::store});
      if (e.g != kNone) put_gradient(e.g, matched, terms);
    }
    f_.backward.gone[n] = f_.backward.gone[d] = true;
    f_.put(f_.backward, n, kSoftmax, {{found.sum, s.dx, Mode::none}, {found.inverse, kNoSlot, Mode::none}}, terms);
  }

  static bool is_one_of(const std::vector<U32>& registers, U32 r) {
    return std::find(registers.begin(), registers.end(), r) != registers.end();
  }

  // Forms it on the spot where it is a sum that nothing else reads.
  void put_gradient(U32 g, bool matched, std::vector<Term>& terms) {
    const U32 d = g < f_.first_new ? f_.gradients[g].writer : kNone;
    if (!matched || d == kNone || f_.gradients[g].readers != 2 || f_.backward.gone[d] || l_.backward[d].code != kDot ||
        !l_.backward[d].count) {
      terms.push_back({g, kNoSlot, Mode::none});
      terms.push_back({kNoSlot, kNoSlot, Mode::none});
      return;
    }
    f_.backward.gone[d] = true;
    for (U32 k = l_.backward[d].first; k < l_.backward[d].first + l_.backward[d].count; ++k) {
      terms.push_back({l_.terms[k].x, kNoSlot, Mode::none});
      terms.push_back({l_.terms[k].y, kNoSlot, Mode::none});
    }
  }

  // Whether the gradient of a_i and that of x_i are the fused step's to give.
  bool match_entry(const Softmax& found, U32 ds, Entry& e) {
    const U32 n = f_.exp_backward[e.a];
    if (n == kNone || f_.backward.gone[n]) return false;
    const Step& exp = l_.backward[n];
    if (exp.g == ds && e.g == kNone) {
      f_.backward.gone[n] = true;
      e.dx = exp.dx;
      return true;
    }
    if (exp.g >= f_.first_new || f_.gradients[exp.g].readers != 1) return false;
    const U32 d = f_.gradients[exp.g].writer;
    if (d == kNone || f_.backward.gone[d] || l_.backward[d].code != kDot || l_.backward[d].mode_x != Mode::store)
      return false;
    const Step& dot = l_.backward[d];
    if (dot.count != (e.g == kNone ? 1u : 2u)) return false;
    const Term& last = l_.terms[dot.first + dot.count - 1];
    if (last.x != ds || last.y != kNoSlot) return false;
    if (e.g != kNone) {
      const Term& first = l_.terms[dot.first];
      if (!(first.x == found.inverse && first.y == e.g) && !(first.y == found.inverse && first.x == e.g)) return false;
    }
    f_.backward.gone[n] = f_.backward.gone[d] = true;
    e.dx = exp.dx;
    return true;
  }

  Fusion& f_;
  Fusion::Steps& l_;
  std::vector<U32> depths_;
  std::vector<U32> groups_;  // into softmaxes_, by the registers of sum and reciprocal
  std::vector<Softmax> softmaxes_;
};

}  // namespace

void fuse_softmaxes(Fusion& fusion) {
  SoftmaxFuser(fusion).run();
}

}  // namespace tapegrad
