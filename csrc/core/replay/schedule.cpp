// schedule.cpp: list scheduling by kind within a window.
#include "core/replay/schedule.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace tapegrad {

namespace {

using U32 = std::uint32_t;

// Steps are put in order within so many of each other, so that what they work on stays in cache.
constexpr U32 kWindow = 1024;
constexpr std::size_t kMany = 16;
constexpr U32 kNone = ~0u;

// Whether in each of a few samples of a long stream most steps wait for the one before them: then all of them would be
// looked at for nothing.
bool looks_like_chain(const Stream& stream, bool backward) {
  constexpr std::size_t kSamples = 8, kSteps = 256, kPlaces = 2048;
  if (stream.steps.size() < 8 * kSamples * kSteps) return false;
  struct Written {
    Word register_;
    U32 depth;
  };
  std::vector<Written> written(kPlaces);  // by the registers' last bits: a register may hide another, seldom
  for (std::size_t sample = 0; sample < kSamples; ++sample) {
    std::fill(written.begin(), written.end(), Written{kNone, 0});
    const std::size_t begin = sample * (stream.steps.size() - kSteps) / (kSamples - 1);
    U32 longest = 0;
    for (std::size_t n = begin; n < begin + kSteps; ++n) {
      const Word* w = &stream.words[stream.steps[n]];
      const Layout layout = layouts(backward)[*w++];
      U32 depth = 0;
      for (const Word* at = w + (layout.adds ? 0 : layout.writes); at < w + words_of(layout, w); ++at) {
        const Written& by = written[*at % kPlaces];
        if (by.register_ == *at) depth = std::max(depth, by.depth);
      }
      longest = std::max(longest, ++depth);
      for (const Word* at = w; at < w + layout.writes; ++at) written[*at % kPlaces] = {*at, depth};
    }
    if (2 * longest <= kSteps) return false;
  }
  return true;
}

// Of the steps whose operands are there, all of one kind are taken at a time, the kind of which there are most.
class Scheduler {
 public:
  Scheduler(const Stream& stream, bool backward, U32 registers)
      : words_(stream.words.begin()),
        steps_(stream.steps.begin()),
        size_(static_cast<U32>(stream.steps.size())),
        layouts_(layouts(backward)),
        backward_(backward),
        missing_(size_),
        links_(stream.words.size()) {
    find_writers(registers);
  }

  // The order; nothing where most steps wait for the one before them.
  Scratch<Word> run() {
    if (2 * std::size_t{longest_} > size_) return {};
    find_followers();
    Scratch<Word> out(size_);
    buckets_.resize(kKinds);
    done_ = Scratch<std::uint8_t>(size_, 0);
    open(std::min(size_, kWindow));
    for (U32 count = 0; count < size_;) {
      const std::size_t best = choose();
      Bucket& bucket = buckets_[active_[best]];
      while (bucket.waiting()) {
        const U32 n = bucket.steps[bucket.next++];
        out[count++] = steps_[n];
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
  // One for each word that a step reads: first who wrote it, then the next link of the followers of that step.
  struct Link {
    U32 next, step;
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
  U32 latency(U32 n) const {
    const Word kind = words_[steps_[n]], dots = dot_kind(0, false, false);
    if (kind >= kFirstFused) return backward_ ? 32 : 80;
    if (kind >= dots) return 8 + 3 * ((kind - dots) / 4);
    return backward_ ? 16 : 45;
  }

  template <typename F>  // the places of the words that a step reads
  void for_each_read(U32 n, F f) const {
    const Layout layout = layouts_[words_[steps_[n]]];
    const Word first = steps_[n] + 1, end = first + static_cast<Word>(words_of(layout, words_ + first));
    for (Word at = first + (layout.adds ? 0 : layout.writes); at < end; ++at)
      if (!(words_[at] & kSettled)) f(at);
  }

  void find_writers(U32 registers) {
    Scratch<U32> writer(registers, kNone), depth(size_);
    for (U32 n = 0; n < size_; ++n) {
      U32 missing = 0, before = 0;
      for_each_read(n, [&](Word at) {
        const U32 from = writer[words_[at]];
        links_[at].next = from;
        if (from == kNone) return;
        ++missing;
        before = std::max(before, depth[from]);
      });
      missing_[n] = missing;
      depth[n] = before + 1;
      longest_ = std::max(longest_, before + 1);
      const Word* w = words_ + steps_[n];
      const U32 writes = layouts_[*w++].writes;
      for (U32 k = 0; k < writes; ++k)
        if (!(w[k] & kSettled)) writer[w[k]] = n;
    }
  }

  // From the last step to the first, so that followers are listed oldest first and their heights are known.
  void find_followers() {
    followers_ = Scratch<U32>(size_, kNone);
    height_ = Scratch<U32>(size_, 0);
    for (U32 n = size_; n-- > 0;) {
      height_[n] += latency(n);
      for_each_read(n, [&](Word at) {
        const U32 from = links_[at].next;
        if (from == kNone) return;
        links_[at] = {followers_[from], n};
        followers_[from] = at;
        height_[from] = std::max(height_[from], height_[n]);
      });
    }
  }

  void make_ready(U32 n) {
    const Word kind = words_[steps_[n]];
    Bucket& bucket = buckets_[kind];
    if (bucket.steps.empty()) active_.push_back(kind);
    bucket.steps.push_back(n);
    bucket.height = std::max(bucket.height, height_[n]);
  }

  // Steps before `limit` may be taken from now on.
  void open(U32 limit) {
    for (; limit_ < limit; ++limit_)
      if (!missing_[limit_]) make_ready(limit_);
  }

  void finish(U32 n) {
    done_[n] = 1;
    for (U32 at = followers_[n]; at != kNone; at = links_[at].next) {
      const U32 follower = links_[at].step;
      if (!--missing_[follower] && follower < limit_) make_ready(follower);
    }
    while (oldest_ < size_ && done_[oldest_]) ++oldest_;
    open(size_ - oldest_ > kWindow ? oldest_ + kWindow : size_);
  }

  const Word* words_;
  const Word* steps_;
  const U32 size_;
  const Layout* const layouts_;
  const bool backward_;
  Scratch<U32> missing_, followers_;  // operands not there yet; the first link of who waits for each step
  Scratch<U32> height_;               // cycles from the start of each step to the end of all
  Scratch<Link> links_;               // by place of the word
  Scratch<std::uint8_t> done_;
  std::vector<Bucket> buckets_;
  std::vector<U32> active_;  // kinds of which there are steps ready
  U32 limit_ = 0, oldest_ = 0, longest_ = 0;
};

}  // namespace

void schedule(Stream& stream, bool backward, std::uint32_t registers) {
  if (looks_like_chain(stream, backward)) return;
  Scratch<Word> order = Scheduler(stream, backward, registers).run();
  if (order.size()) stream.steps = std::move(order);
}

}  // namespace tapegrad
