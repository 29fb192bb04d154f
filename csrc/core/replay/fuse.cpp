// fuse.cpp: finds who uses each register, lets the matchers do their work, and puts the new steps in place.
#include "core/replay/fuse.hpp"

#include <algorithm>
#include <limits>

#include "core/replay/fusion.hpp"

namespace tapegrad {

Fusion::Fusion(const Program& program, const Lowered& l, U32 first_free)
    : registers(first_free), first_new(first_free), program_(program), constants_(l.constants) {
  lowered.exact = l.exact;
  read(l.streams[0], false, lowered.forward);
  read(l.streams[1], true, lowered.backward);
  find_uses(lowered.forward, false, values);
  find_uses(lowered.backward, true, gradients);
  forward.gone.assign(lowered.forward.size(), false);
  backward.gone.assign(lowered.backward.size(), false);
  find_derivatives();
}

double Fusion::constant(U32 r) const {
  if (r != kNoSlot && r >= kSettled) return constants_[r - kSettled];
  if (r < program_.code.size() && program_.code[r].code == Code::constant) return program_.code[r].number;
  return std::numeric_limits<double>::quiet_NaN();
}

void Fusion::read(const Stream& stream, bool is_backward, std::vector<Step>& steps) {
  constexpr Word kDots = dot_kind(0, false, false);
  steps.reserve(stream.steps.size());
  for (const Word at : stream.steps) {
    const Word* w = &stream.words[at];
    const Word kind = *w++;
    Step s;
    if (kind >= kDots) {
      const bool factors = (kind - kDots) % 2;
      s.code = kDot;
      s.mode_x = (kind - kDots) % 4 >= 2 ? Mode::add : Mode::store;
      s.z = *w++;
      s.first = static_cast<U32>(lowered.terms.size());
      s.count = (kind - kDots) / 4;
      for (U32 k = 0; k < s.count; ++k, w += 1 + factors)
        lowered.terms.push_back({w[0], factors ? w[1] : kNoSlot, Mode::none});
      steps.push_back(s);
      continue;
    }
    s.code = static_cast<std::uint16_t>(kind / 9);
    const bool unary =
        s.code == kReciprocal || (s.code < static_cast<std::uint16_t>(Code::table_end) && kArity[s.code] == 1);
    if (!is_backward) {
      s.z = w[0];
      s.x = w[1];
      if (!unary || is(s, Code::powc)) s.y = w[2];
      if (is(s, Code::select)) s.g = w[3];
    } else {
      s.mode_x = static_cast<Mode>(kind % 9 / 3);
      s.mode_y = static_cast<Mode>(kind % 3);
      s.dx = *w++;
      if (!unary) s.dy = *w++;
      s.g = w[0];
      s.x = w[1];
      if (unary)
        (is(s, Code::powc) ? s.y : s.z) = w[2];
      else if (!is(s, Code::select))
        s.y = w[2], s.z = w[3];
    }
    steps.push_back(s);
  }
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

// In the order that fused.hpp tells of.
void Fusion::write(const Step& s, bool is_backward, std::vector<Word>& words) {
  const Term* const t = &lowered.terms[s.first];
  const std::size_t start = words.size();
  U32 count = 0;
  for (U32 k = 0; k < s.count; ++k) count += t[k].mode == Mode::store;
  words.insert(words.end(), {fused_kind(s.code, count), 0});
  U32 given = 0;
  for (U32 k = 0, i = 0; k < s.count; ++k) {
    const bool is_given = !is_backward && t[k].mode == Mode::store && t[k].y == kNoSlot;
    if (is_given) given |= 1u << i;
    i += t[k].mode == Mode::store;
    if (is_given || t[k].y != kNoSlot) words.push_back(is_given ? registers++ : t[k].y);
  }
  if (s.code == kSoftmax && is_backward) {
    words.insert(words.end(), {t[0].x, t[1].x});
    for (U32 k = 2; k < s.count;) {
      U32 end = k + 1;
      while (end < s.count && t[end].mode != Mode::store) ++end;
      words.insert(words.end(), {t[k].x, kSettled + (end - k) / 2});
      while (++k < end) words.push_back(t[k].x);
    }
  } else {
    for (U32 k = 0; k < s.count; ++k)
      if (t[k].x != kNoSlot) words.push_back(t[k].x);
    if (s.code == kSoftmax) words.push_back(kSettled + given);
  }
  words[start + 1] = kSettled + static_cast<U32>(words.size() - start - 1);
}

void Fusion::replace(Lowered& l) {
  for (const bool is_backward : {false, true}) {
    Changes& changes = is_backward ? backward : forward;
    if (changes.made.empty()) continue;
    std::stable_sort(changes.made.begin(), changes.made.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    Stream& stream = l.streams[is_backward];
    const std::size_t old = stream.words.size();
    std::vector<Word> words, steps;
    std::size_t next = 0;
    for (U32 n = 0; n < stream.steps.size(); ++n) {
      if (!changes.gone[n]) steps.push_back(stream.steps[n]);
      for (; next < changes.made.size() && changes.made[next].first == n; ++next) {
        steps.push_back(static_cast<Word>(old + words.size()));
        write(changes.made[next].second, is_backward, words);
      }
    }
    Scratch<Word> all(old + words.size());
    std::copy(words.begin(), words.end(), std::copy(stream.words.begin(), stream.words.end(), all.begin()));
    Scratch<Word> order(steps.size());
    std::copy(steps.begin(), steps.end(), order.begin());
    stream.words = std::move(all);
    stream.steps = std::move(order);
  }
}

std::uint32_t fuse(const Program& program, Lowered& l, std::uint32_t registers) {
  const Stream& stream = l.streams[0];
  const auto starts = [&](Word at) {
    return stream.words[at] == forward_kind(Code::exp) || stream.words[at] == forward_kind(Code::softplus);
  };
  if (std::none_of(stream.steps.begin(), stream.steps.end(), starts)) return registers;
  Fusion fusion(program, l, registers);
  fuse_softmaxes(fusion);
  fuse_softplus(fusion);
  fusion.replace(l);
  return fusion.registers;
}

}  // namespace tapegrad
