// fuse_softplus.cpp: finds log(e^x + 1) and softplus(x) among steps. Exactly, what softplus keeps for its derivative is
// e^-|x|; loosely, softplus is log(e^x + 1) by another way, and gives e^x and e^x + 1 to whoever else asks for them.
#include <algorithm>

#include "core/replay/fusion.hpp"

namespace tapegrad {

namespace {

using U32 = Fusion::U32;
constexpr U32 kNone = Fusion::kNone;

class SoftplusFuser {
 public:
  explicit SoftplusFuser(Fusion& fusion) : f_(fusion), l_(fusion.lowered) {}

  void run() {
    for (U32 n = 0; n < Fusion::size(l_.forward); ++n)
      if (l_.forward[n].code == kDot) match_log_exp(n);
    keep_powers();
    for (U32 n = 0; n < Fusion::size(l_.backward) && !kept_.empty(); ++n) match_softplus_backward(n);
  }

 private:
  struct Kept {
    U32 power = kNone, power_and_one = kNone;  // e^-|x|, or e^x and e^x + 1
  };

  void match_log_exp(U32 n) {
    const Step& sum = l_.forward[n];
    if (f_.forward.gone[n] || sum.count != 2) return;
    U32 e = l_.terms[sum.first].x;
    if (!f_.adds_one(sum, e)) e = l_.terms[sum.first + 1].x;
    if (!f_.adds_one(sum, e) || !f_.starts_here(e, n)) return;
    const U32 t = sum.z, log = f_.values[t].first_reader;
    if (f_.values[t].writer != n) return;
    if (log == kNone || f_.forward.gone[log] || !Fusion::is(l_.forward[log], Code::log)) return;
    const U32 exp = f_.values[e].writer;
    f_.forward.gone[n] = f_.forward.gone[exp] = f_.forward.gone[log] = true;
    f_.put(f_.forward, n, kLogExp,
           {{l_.forward[exp].x, e, Mode::none}, {kNoSlot, t, Mode::none}, {kNoSlot, l_.forward[log].z, Mode::none}});
    const U32 dl = f_.log_backward[t], de = f_.exp_backward[e];
    if (dl == kNone || de == kNone || f_.backward.gone[dl] || f_.backward.gone[de]) return;
    const Step &outer = l_.backward[dl], &inner = l_.backward[de];
    if (outer.dx != inner.g || f_.gradients[inner.g].readers != 1) return;
    f_.backward.gone[dl] = f_.backward.gone[de] = true;
    f_.put(f_.backward, dl, kLogExp,
           {{e, inner.dx, Mode::none}, {t, kNoSlot, Mode::none}, {outer.g, kNoSlot, Mode::none}});
  }

  void keep_powers() {
    std::vector<U32> exp_of;  // by x
    for (U32 n = 0; n < Fusion::size(l_.forward); ++n) {
      const Step& s = l_.forward[n];
      if (l_.exact || !Fusion::is(s, Code::exp) || f_.forward.gone[n]) continue;
      exp_of.resize(f_.first_new, kNone);
      exp_of[s.x] = n;
    }
    for (U32 n = 0; n < Fusion::size(l_.forward); ++n) {
      if (!Fusion::is(l_.forward[n], Code::softplus)) continue;
      kept_.resize(f_.first_new);
      l_.exact ? keep_small_power(n) : keep_power(n, exp_of.empty() ? kNone : exp_of[l_.forward[n].x]);
    }
  }

  void keep_small_power(U32 n) {
    const Step& s = l_.forward[n];
    f_.forward.gone[n] = true;
    kept_[s.x].power = f_.registers++;
    f_.put(f_.forward, n, kSoftplus, {{s.x, kept_[s.x].power, Mode::none}, {kNoSlot, s.z, Mode::none}});
  }

  // With e^x, if it is wanted. At the place of the first of its parts: all they need is x. Another softplus of x gets
  // registers of its own: each is written once.
  void keep_power(U32 n, U32 exp) {
    const Step& s = l_.forward[n];
    Kept kept;
    f_.forward.gone[n] = true;
    if (exp != kNone && !f_.forward.gone[exp]) {
      kept.power = l_.forward[exp].z;
      f_.forward.gone[exp] = true;
      n = std::min(n, exp);
      const U32 next = f_.values[kept.power].first_reader;
      if (next != kNone && !f_.forward.gone[next] && f_.adds_one(l_.forward[next], kept.power)) {
        f_.forward.gone[next] = true;
        kept.power_and_one = l_.forward[next].z;
      }
    } else {
      kept.power = f_.registers++;
    }
    if (kept.power_and_one == kNone) kept.power_and_one = f_.registers++;
    f_.put(f_.forward, n, kLogExp,
           {{s.x, kept.power, Mode::none}, {kNoSlot, kept.power_and_one, Mode::none}, {kNoSlot, s.z, Mode::none}});
    kept_[s.x] = kept;
  }

  void match_softplus_backward(U32 n) {
    const Step& s = l_.backward[n];
    if (!Fusion::is(s, Code::softplus) || s.mode_x != Mode::store) return;
    const Kept& kept = kept_[s.x];
    f_.backward.gone[n] = true;
    const Term power{kept.power, s.dx, Mode::none}, gradient{s.g, kNoSlot, Mode::none};
    if (l_.exact)
      f_.put(f_.backward, n, kSoftplus, {power, {s.x, kNoSlot, Mode::none}, gradient});
    else
      f_.put(f_.backward, n, kLogExp, {power, {kept.power_and_one, kNoSlot, Mode::none}, gradient});
  }

  Fusion& f_;
  Fusion::Steps& l_;
  std::vector<Kept> kept_;  // by x
};

}  // namespace

void fuse_softplus(Fusion& fusion) {
  SoftplusFuser(fusion).run();
}

}  // namespace tapegrad
