// fuse.cpp: finds who uses each register, lets the matchers do their work, and puts the new steps in place.
#include "core/replay/fuse.hpp"

#include <algorithm>
#include <limits>

#include "core/replay/fusion.hpp"

namespace tapegrad {

Fusion::Fusion(Lowered& l, U32 first_free, const std::vector<U32>& slots)
    : lowered(l), registers(first_free), first_new(first_free), slots_(slots) {
  find_uses(l.forward, false, values);
  find_uses(l.backward, true, gradients);
  forward.gone.assign(l.forward.size(), false);
  backward.gone.assign(l.backward.size(), false);
  find_derivatives();
}

double Fusion::constant(U32 r) const {
  const U32 slot = r >= kSettled ? r - kSettled : r < slots_.size() ? slots_[r] : kNone;
  return slot < lowered.constants.size() ? lowered.constants[slot] : std::numeric_limits<double>::quiet_NaN();
}

void Fusion::find_uses(const std::vector<Step>& steps, bool is_backward, std::vector<Uses>& uses) const {
  uses.assign(first_new, {});
  const auto read = [&](U32 r, U32 n) {
    if (r >= first_new) return;
    if (!uses[r].readers++) uses[r].first_reader = n;
  };
  std::vector<bool> written(first_new, false);
  const auto write = [&](U32 r, U32 n, Mode mode) {
    if (mode == Mode::none) return;
    uses[r].writer = written[r] || mode == Mode::add ? kNone : n;
    written[r] = true;
  };
  for (U32 n = 0; n < size(steps); ++n) {
    const Step& s = steps[n];
    for (U32 k = s.first; k < s.first + s.count; ++k) {
      read(lowered.terms[k].x, n);
      read(lowered.terms[k].y, n);
    }
    for (const U32 r : {s.x, s.y, s.g}) read(r, n);
    if (s.code == kDot) {
      write(s.z, n, s.mode_x);
    } else if (is_backward) {
      read(s.z, n);
      write(s.dx, n, s.mode_x);
      write(s.dy, n, s.mode_y);
    } else {
      write(s.z, n, Mode::store);
    }
  }
}

void Fusion::find_derivatives() {
  exp_backward.assign(first_new, kNone);
  log_backward.assign(first_new, kNone);
  std::vector<bool> seen(first_new, false);
  for (U32 n = 0; n < size(lowered.backward); ++n) {
    const Step& s = lowered.backward[n];
    // Equal values may have gradients of their own; those are left as they are.
    const auto only = [&](U32& step, U32 r) {
      step = seen[r] ? kNone : n;
      seen[r] = true;
    };
    if (s.mode_x == Mode::store && is(s, Code::exp)) only(exp_backward[s.z], s.z);
    if (s.mode_x == Mode::store && is(s, Code::log)) only(log_backward[s.x], s.x);
  }
}

Fusion::U32 Fusion::writer_of(U32 r, Code code) const {
  const U32 n = r < first_new ? values[r].writer : kNone;
  return n != kNone && is(lowered.forward[n], code) && !forward.gone[n] ? n : kNone;
}

bool Fusion::adds_one(const Step& s, U32 r) const {
  if (s.code != kDot || s.mode_x != Mode::store || s.count != 2) return false;
  const Term &a = lowered.terms[s.first], &b = lowered.terms[s.first + 1];
  return a.y == kNoSlot && b.y == kNoSlot && ((a.x == r && constant(b.x) == 1) || (b.x == r && constant(a.x) == 1));
}

void Fusion::put(Changes& to, U32 place, std::uint16_t code, std::initializer_list<Term> head,
                 const std::vector<Term>& tail) {
  std::vector<Term>& terms = lowered.terms;
  Step s;
  s.code = code;
  s.first = static_cast<U32>(terms.size());
  terms.insert(terms.end(), head.begin(), head.end());
  terms.insert(terms.end(), tail.begin(), tail.end());
  s.count = static_cast<U32>(terms.size()) - s.first;
  to.made.push_back({place, s});
}

void Fusion::replace() {
  const auto replace = [](std::vector<Step>& steps, Changes& changes) {
    if (changes.made.empty()) return;
    std::stable_sort(changes.made.begin(), changes.made.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<Step> out;
    out.reserve(steps.size());
    std::size_t next = 0;
    for (U32 n = 0; n < size(steps); ++n) {
      if (!changes.gone[n]) out.push_back(steps[n]);
      for (; next < changes.made.size() && changes.made[next].first == n; ++next)
        out.push_back(changes.made[next].second);
    }
    steps = std::move(out);
  };
  replace(lowered.forward, forward);
  replace(lowered.backward, backward);
}

std::uint32_t fuse(Lowered& l, std::uint32_t registers, const std::vector<std::uint32_t>& slots) {
  const auto starts = [](const Step& s) { return Fusion::is(s, Code::exp) || Fusion::is(s, Code::softplus); };
  if (std::none_of(l.forward.begin(), l.forward.end(), starts)) return registers;
  Fusion fusion(l, registers, slots);
  fuse_softmaxes(fusion);
  fuse_softplus(fusion);
  fusion.replace();
  return fusion.registers;
}

}  // namespace tapegrad
