// encode.cpp: finds the runs of one kind, and parts those that are computed at once where a step needs one before it.
#include "core/replay/encode.hpp"

#include <initializer_list>

#include "core/replay/fuse.hpp"
#include "core/replay/schedule.hpp"

namespace tapegrad {

namespace {

bool is(const Step& s, Code code) {
  return s.code == static_cast<std::uint16_t>(code);
}

class Encoder {
 public:
  Encoder(const Lowered& lowered, Direction direction, Word one, AtOnce at_once)
      : l_(lowered), backward_(direction == Direction::backward), one_(one), at_once_(at_once), written_(one + 1, 0) {}

  std::vector<Word> run() {
    const std::vector<Step>& steps = backward_ ? l_.backward : l_.forward;
    for (std::size_t n = 0; n < steps.size();) {
      const Word kind = kind_of(l_, steps[n]);
      std::size_t end = n + 1;
      while (end < steps.size() && kind_of(l_, steps[end]) == kind) ++end;
      if (is_at_once(steps[n])) {
        while (n < end) n = put_independent(steps, n, end, kind);
      } else {
        put_run(steps, n, end, kind);
        n = end;
      }
    }
    out_.insert(out_.end(), {kEnd, 0});
    return std::move(out_);
  }

 private:
  static bool is_unary(const Step& s) {
    return s.code == kReciprocal ||
           (s.code < static_cast<std::uint16_t>(Code::table_end) && kArity[s.code] == 1 && !is(s, Code::powc));
  }

  bool is_at_once(const Step& s) const {
    if (!at_once_ || !is_unary(s) || s.code == kReciprocal || (backward_ && s.mode_x != Mode::store)) return false;
    return at_once_(static_cast<Code>(s.code));
  }

  // As many steps as do not read what one of them writes. Returns the next step.
  std::size_t put_independent(const std::vector<Step>& steps, std::size_t n, std::size_t end, Word kind) {
    ++run_;
    std::size_t last = n;
    for (; last < end && last - n < kMostAtOnce; ++last) {
      const Step& s = steps[last];
      const auto reads = [&](Word slot) { return slot != kNoSlot && written_[slot] == run_; };
      if (reads(s.x) || (backward_ && (reads(s.z) || reads(s.g)))) break;
      written_[backward_ ? s.dx : s.z] = run_;
    }
    put_run(steps, n, last, last - n >= kFewestAtOnce ? kind + kAtOnce : kind);
    return last;
  }

  void put_run(const std::vector<Step>& steps, std::size_t n, std::size_t end, Word kind) {
    out_.push_back(kind);
    out_.push_back(static_cast<Word>(end - n));
    const std::size_t start = out_.size();
    const bool fused = is_fused(steps[n]);
    for (; n < end; ++n) backward_ ? put_backward(steps[n]) : put_forward(steps[n]);
    if (fused) out_[start - 1] = static_cast<Word>(out_.size() - start);
  }

  void put_slots(std::initializer_list<Word> slots) {
    for (const Word slot : slots) out_.push_back(slot == kNoSlot ? one_ : slot);
  }

  void put_dot(const Step& s) {
    bool factors = false;
    for (Word k = s.first; k < s.first + s.count; ++k) factors = factors || l_.terms[k].y != kNoSlot;
    out_.push_back(s.z);
    for (Word k = s.first; k < s.first + s.count; ++k) {
      out_.push_back(l_.terms[k].x);
      if (factors) put_slots({l_.terms[k].y});
    }
  }

  // The slots that are there, but for softmax, which has counts among them.
  void put_fused(const Step& s) {
    const auto* t = &l_.terms[s.first];
    if (s.code != kSoftmax) {
      for (Word k = 0; k < s.count; ++k) {
        if (t[k].x != kNoSlot) out_.push_back(t[k].x);
        if (t[k].y != kNoSlot) out_.push_back(t[k].y);
      }
      return;
    }
    if (!backward_) {
      Word given = 0;
      for (Word k = 2; k < s.count; k += 2) given |= static_cast<Word>(t[k].y == kNoSlot) << (k / 2 - 1);
      out_.insert(out_.end(), {t[0].y, t[1].y, given});
      for (Word k = 2; k < s.count; k += 2)
        out_.insert(out_.end(), {t[k].x, t[k].y == kNoSlot ? t[k].x : t[k].y, t[k + 1].y});
      return;
    }
    out_.insert(out_.end(), {t[0].x, t[0].y, t[1].x});
    for (Word k = 2; k < s.count;) {
      Word end = k + 1;
      while (end < s.count && t[end].mode != Mode::store) ++end;
      out_.insert(out_.end(), {t[k].x, t[k].y, (end - k) / 2});
      while (++k < end) put_slots({t[k].x});
    }
  }

  void put_forward(const Step& s) {
    if (is_fused(s)) return put_fused(s);
    if (s.code == kDot) return put_dot(s);
    if (is_unary(s)) return put_slots({s.z, s.x});
    if (is(s, Code::select)) return put_slots({s.z, s.x, s.y, s.g});
    put_slots({s.z, s.x, s.y});
  }

  void put_backward(const Step& s) {
    if (is_fused(s)) return put_fused(s);
    if (s.code == kDot) return put_dot(s);
    if (is_unary(s)) return put_slots({s.dx, s.g, s.x, s.z});
    if (is(s, Code::powc)) return put_slots({s.dx, s.g, s.x, s.y});
    if (is(s, Code::select)) return put_slots({s.dx, s.dy, s.g, s.x});
    put_slots({s.dx, s.dy, s.g, s.x, s.y, s.z});
  }

  const Lowered& l_;
  const bool backward_;
  const Word one_;
  const AtOnce at_once_;
  std::vector<Word> out_;
  std::vector<Word> written_;  // the last run that wrote to each slot
  Word run_ = 0;
};

}  // namespace

std::vector<Word> encode(const Lowered& lowered, Direction direction, Word one, AtOnce at_once) {
  if (lowered.spelled_out) return Encoder(lowered, direction, one, at_once).run();
  Lowered spelled = lowered;
  spell_out(spelled);
  return Encoder(spelled, direction, one, at_once).run();
}

}  // namespace tapegrad
