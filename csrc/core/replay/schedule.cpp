// schedule.cpp: sums of products, gradients gathered, and list scheduling by kind within a window.
#include "core/replay/schedule.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/replay/fuse.hpp"

namespace tapegrad {

namespace {

using U32 = std::uint32_t;

// Steps are put in order within so many of each other, so that what they work on stays in cache.
constexpr U32 kWindow = 1024;
constexpr std::size_t kMany = 16;

constexpr bool is(const Step& s, Code code) {
  return s.code == static_cast<std::uint16_t>(code);
}

Step dot(U32 z, Mode mode, U32 first, U32 count) {
  Step s;
  s.code = kDot;
  s.mode_x = mode;
  s.z = z;
  s.first = first;
  s.count = count;
  return s;
}

// The registers that a step reads, once or more often, and those that it writes.
template <typename F>
void for_each_read(const Lowered& l, const Step& s, bool backward, F f) {
  if (s.code == kDot) {
    if (s.mode_x == Mode::add) f(s.z);
    for (U32 k = s.first; k < s.first + s.count; ++k) {
      f(l.terms[k].x);
      if (l.terms[k].y != kNoSlot) f(l.terms[k].y);
    }
    return;
  }
  if (is_fused(s)) {
    for (U32 k = s.first; k < s.first + s.count; ++k)
      if (l.terms[k].x != kNoSlot) f(l.terms[k].x);
    return;
  }
  for (const U32 r : {s.x, s.y, s.g})
    if (r != kNoSlot) f(r);
  if (!backward) return;
  if (s.z != kNoSlot) f(s.z);
  if (s.mode_x == Mode::add) f(s.dx);
  if (s.mode_y == Mode::add) f(s.dy);
}

template <typename F>
void for_each_write(const Lowered& l, const Step& s, bool backward, F f) {
  if (is_fused(s)) {
    for (U32 k = s.first; k < s.first + s.count; ++k)
      if (l.terms[k].y != kNoSlot) f(l.terms[k].y);
    return;
  }
  if (s.code == kDot || !backward) return f(s.z);
  if (s.mode_x != Mode::none) f(s.dx);
  if (s.mode_y != Mode::none) f(s.dy);
}

// Collects what flows into each gradient, and puts it down as soon as there are enough terms or no more will come.
class Gatherer {
 public:
  Gatherer(Lowered& lowered, U32 registers) : l_(lowered), registers_(registers) {}

  U32 run() {
    const std::vector<Step> before = std::move(l_.backward);
    l_.backward.clear();
    targets_.assign(registers_, {});
    U32 parts = 0;
    for (const Step& s : before) {
      if (s.code == kDot && !s.count) {
        targets_[s.z].store = true;
        continue;
      }
      for_each_part(s, [&](U32 target, Mode mode) {
        Target& t = targets_[target];
        if (!t.missing++ && mode == Mode::store) t.store = true;
        ++parts;
      });
    }
    const auto start = static_cast<U32>(l_.terms.size());
    U32 next = start;
    for (Target& t : targets_) {
      t.first = t.filled = next;
      t.alone = t.missing == 1;
      next += t.missing;
    }
    l_.terms.resize(start + parts);
    for (const Step& s : before) {
      if (s.code == kDot) {
        if (s.count) put(s.z, l_.terms[s.first]);
        continue;
      }
      Step derivative = s;
      const U32 temporary_x = settle(derivative.dx, derivative.mode_x);
      const U32 temporary_y = settle(derivative.dy, derivative.mode_y);
      l_.backward.push_back(derivative);
      if (temporary_x != kNoSlot) put(s.dx, {temporary_x, kNoSlot, Mode::none});
      if (temporary_y != kNoSlot) put(s.dy, {temporary_y, kNoSlot, Mode::none});
    }
    return registers_;
  }

 private:
  struct Target {
    U32 missing = 0, first = 0, filled = 0;  // terms from `first` on are not put down yet
    bool alone = false;                      // one term is all there is
    bool store = false;                      // nothing is there yet
  };

  template <typename F>
  static void for_each_part(const Step& s, F f) {
    if (s.code == kDot) return f(s.z, s.mode_x);
    if (s.mode_x != Mode::none) f(s.dx, s.mode_x);
    if (s.mode_y != Mode::none) f(s.dy, s.mode_y);
  }

  // Where an operation's own derivative goes: to the gradient if it is all of it, else to a register from which it is
  // gathered.
  U32 settle(U32& to, Mode& mode) {
    if (mode == Mode::none) return kNoSlot;
    mode = Mode::store;
    const Target& t = targets_[to];
    return t.alone && t.store ? kNoSlot : to = registers_++;
  }

  void put(U32 target, const Term& term) {
    Target& t = targets_[target];
    l_.terms[t.filled++] = term;
    --t.missing;
    if (t.missing && t.filled - t.first < kMaxTerms) return;
    l_.backward.push_back(dot(target, t.store ? Mode::store : Mode::add, t.first, t.filled - t.first));
    t.first = t.filled;
    t.store = false;
  }

  Lowered& l_;
  U32 registers_;
  std::vector<Target> targets_;
};

// List scheduling: of the steps whose operands are there, all of one kind are taken at a time, the kind of which there
// are most.
class Scheduler {
 public:
  Scheduler(const Lowered& lowered, const std::vector<Step>& steps, bool backward, U32 registers)
      : l_(lowered), steps_(steps), backward_(backward), size_(static_cast<U32>(steps.size())) {
    find_dependences(registers);
  }

  std::vector<Step> run() {
    std::vector<Step> out;
    out.reserve(size_);
    buckets_.resize(kKinds);
    done_.assign(size_, false);
    open(std::min(size_, kWindow));
    while (out.size() < size_) {
      const std::size_t best = choose();
      Bucket& bucket = buckets_[active_[best]];
      while (bucket.waiting()) {
        const U32 n = bucket.steps[bucket.next++];
        out.push_back(steps_[n]);
        finish(n);
      }
      bucket.steps.clear();
      bucket.next = 0;
      bucket.height = 0;
      active_[best] = active_.back();
      active_.pop_back();
    }
    return out;
  }

 private:
  struct Bucket {
    std::vector<U32> steps;
    std::size_t next = 0;
    U32 height = 0;
    std::size_t waiting() const { return steps.size() - next; }
  };

  // The kind of which most steps are ready, unless they are few: then what most of the rest waits for.
  std::size_t choose() const {
    std::size_t most = 0, highest = 0;
    for (std::size_t k = 1; k < active_.size(); ++k) {
      if (buckets_[active_[k]].waiting() > buckets_[active_[most]].waiting()) most = k;
      if (buckets_[active_[k]].height > buckets_[active_[highest]].height) highest = k;
    }
    return buckets_[active_[most]].waiting() >= kMany ? most : highest;
  }

  // About how many cycles it takes until what a step computes can be used.
  U32 latency(const Step& s) const {
    if (s.code == kDot) return 8 + 3 * s.count;
    if (is_fused(s)) return backward_ ? 32 : 80;
    return backward_ ? 16 : 45;
  }

  void find_dependences(U32 registers) {
    constexpr U32 kNone = ~0u;
    std::vector<U32> writer(registers, kNone);
    missing_.assign(size_, 0);
    start_.assign(size_ + 1, 0);
    std::vector<std::pair<U32, U32>> edges;  // from, to
    for (U32 n = 0; n < size_; ++n) {
      for_each_read(l_, steps_[n], backward_, [&](U32 r) {
        if (r >= registers || writer[r] == kNone) return;
        edges.push_back({writer[r], n});
        ++missing_[n];
        ++start_[writer[r] + 1];
      });
      for_each_write(l_, steps_[n], backward_, [&](U32 r) { writer[r] = n; });
    }
    for (U32 n = 0; n < size_; ++n) start_[n + 1] += start_[n];
    follower_.resize(edges.size());
    std::vector<U32> at(start_.begin(), start_.end() - 1);
    for (const auto& [from, to] : edges) follower_[at[from]++] = to;
    height_.resize(size_);
    for (U32 n = size_; n-- > 0;) {
      U32 rest = 0;
      for (U32 k = start_[n]; k < start_[n + 1]; ++k) rest = std::max(rest, height_[follower_[k]]);
      height_[n] = rest + latency(steps_[n]);
    }
  }

  void make_ready(U32 n) {
    Bucket& bucket = buckets_[kind_of(l_, steps_[n])];
    if (bucket.steps.empty()) active_.push_back(kind_of(l_, steps_[n]));
    bucket.steps.push_back(n);
    bucket.height = std::max(bucket.height, height_[n]);
  }

  // Steps before `limit` may be taken from now on.
  void open(U32 limit) {
    for (; limit_ < limit; ++limit_)
      if (!missing_[limit_]) make_ready(limit_);
  }

  void finish(U32 n) {
    done_[n] = true;
    for (U32 k = start_[n]; k < start_[n + 1]; ++k)
      if (!--missing_[follower_[k]] && follower_[k] < limit_) make_ready(follower_[k]);
    while (oldest_ < size_ && done_[oldest_]) ++oldest_;
    open(size_ - oldest_ > kWindow ? oldest_ + kWindow : size_);
  }

  const Lowered& l_;
  const std::vector<Step>& steps_;
  const bool backward_;
  const U32 size_;
  std::vector<U32> missing_, start_, follower_;  // operands not there yet; who waits for each step
  std::vector<U32> height_;                      // cycles from the start of each step to the end of all
  std::vector<bool> done_;
  std::vector<Bucket> buckets_;
  std::vector<U32> active_;  // kinds of which there are steps ready
  U32 limit_ = 0, oldest_ = 0;
};

}  // namespace

std::uint32_t kind_of(const Lowered& l, const Step& s) {
  if (is_fused(s)) {
    U32 terms = 0;
    for (U32 k = s.first; k < s.first + s.count; ++k) terms += l.terms[k].mode == Mode::store;
    return fused_kind(s.code, terms);
  }
  if (s.code != kDot) return kind_of(s.code, s.mode_x, s.mode_y);
  bool factors = false;
  for (U32 k = s.first; k < s.first + s.count; ++k) factors = factors || l.terms[k].y != kNoSlot;
  return dot_kind(s.count, s.mode_x == Mode::add, factors);
}

void spell_out(Lowered& l) {
  if (l.spelled_out) return;
  l.spelled_out = true;
  std::vector<Step> out;
  out.reserve(l.forward.size());
  const auto term = [&](U32 x, U32 y) { l.terms.push_back({x, y, Mode::none}); };
  for (const Step& s : l.forward) {
    const auto first = static_cast<U32>(l.terms.size());
    if (is(s, Code::sum)) {
      for (U32 k = 0; k < s.count; k += kMaxTerms)
        out.push_back(dot(s.z, k ? Mode::add : Mode::store, s.first + k, std::min(kMaxTerms, s.count - k)));
      continue;
    }
    if (is(s, Code::add)) {
      term(s.x, kNoSlot);
      term(s.y, kNoSlot);
    } else if (is(s, Code::mul)) {
      term(s.x, s.y);
    } else if (is(s, Code::detach)) {
      term(s.x, kNoSlot);
    } else {
      out.push_back(s);
      continue;
    }
    out.push_back(dot(s.z, Mode::store, first, static_cast<U32>(l.terms.size()) - first));
  }
  l.forward = std::move(out);

  out.clear();
  out.reserve(l.backward.size());
  const auto part = [&](U32 target, Mode mode, U32 x, U32 y) {
    if (mode == Mode::none) return;
    out.push_back(dot(target, mode, static_cast<U32>(l.terms.size()), 1));
    term(x, y);
  };
  for (const Step& s : l.backward) {
    if (s.code == kZero) {
      out.push_back(dot(s.g, Mode::store, 0, 0));
    } else if (s.code == kScale) {
      part(s.dx, s.mode_x, s.y, s.g);
    } else if (is(s, Code::mul)) {
      part(s.dx, s.mode_x, s.y, s.g);
      part(s.dy, s.mode_y, s.x, s.g);
    } else if (is(s, Code::add)) {
      part(s.dx, s.mode_x, s.g, kNoSlot);
      part(s.dy, s.mode_y, s.g, kNoSlot);
    } else if (is(s, Code::sum)) {
      for (U32 k = s.first; k < s.first + s.count; ++k) {
        const Term t = l.terms[k];
        part(t.x, t.mode, s.g, kNoSlot);
      }
    } else {
      out.push_back(s);
    }
  }
  l.backward = std::move(out);
}

std::uint32_t gather(Lowered& l, std::uint32_t registers) {
  spell_out(l);
  return Gatherer(l, registers).run();
}

void schedule(Lowered& l, std::uint32_t registers) {
  l.forward = Scheduler(l, l.forward, false, registers).run();
  l.backward = Scheduler(l, l.backward, true, registers).run();
}

}  // namespace tapegrad
