// encode.cpp: finds the runs of one kind, and parts those that are computed at once where a step needs one before it.
#include "core/replay/encode.hpp"

#include <algorithm>
#include <vector>

#include "core/replay/words.hpp"

namespace tapegrad {

namespace {

class Encoder {
 public:
  Encoder(const Stream& stream, bool backward, Word one, AtOnce at_once)
      : words_(stream.words.begin()),
        steps_(stream.steps.begin()),
        size_(stream.steps.size()),
        layouts_(layouts(backward)),
        backward_(backward),
        one_(one),
        at_once_(at_once) {
    if (at_once_) written_.assign(one + 1, 0);
    std::size_t runs = at_once_ ? size_ : 0;
    for (std::size_t n = 0; n < size_ && !at_once_; ++n) runs += !n || kind_of(n) != kind_of(n - 1);
    out_.resize(stream.words.size() - size_ + 2 * runs + 2);
    to_ = out_.data();
  }

  LargeVector<Word> run() {
    for (std::size_t n = 0; n < size_;) {
      const Word kind = kind_of(n);
      std::size_t end = n + 1;
      while (end < size_ && kind_of(end) == kind) ++end;
      if (is_at_once(kind)) {
        while (n < end) n = put_independent(n, end, kind);
      } else {
        put_run(n, end, kind, kind);
        n = end;
      }
    }
    *to_++ = kEnd;
    *to_++ = 0;
    out_.resize(static_cast<std::size_t>(to_ - out_.data()));
    if (at_once_) out_.shrink_to_fit();
    return std::move(out_);
  }

 private:
  Word kind_of(std::size_t n) const { return words_[steps_[n]]; }

  bool is_at_once(Word kind) const {
    if (!at_once_) return false;
    const auto code = static_cast<Code>(kind / 9);
    const Word wanted = backward_ ? backward_kind(code, Mode::store, Mode::none) : forward_kind(code);
    return kind == wanted && code < Code::table_end && code != Code::powc && kArity[static_cast<int>(code)] == 1 &&
           at_once_(code);
  }

  // As many steps as do not read what one of them writes. Returns the next step.
  std::size_t put_independent(std::size_t n, std::size_t end, Word kind) {
    ++run_;
    const Layout layout = layouts_[kind];
    std::size_t last = n;
    for (; last < end && last - n < kMostAtOnce; ++last) {
      const Word* w = words_ + steps_[last] + 1;
      const bool waits = std::any_of(w + layout.writes, w + layout.words,
                                     [&](Word slot) { return slot != kNoSlot && written_[slot] == run_; });
      if (waits) break;
      written_[w[0]] = run_;
    }
    put_run(n, last, kind, last - n >= kFewestAtOnce ? kind + kAtOnce : kind);
    return last;
  }

  void put_run(std::size_t n, std::size_t end, Word kind, Word name) {
    *to_++ = name;
    *to_++ = static_cast<Word>(end - n);
    Word* const start = to_;
    for (; n < end; ++n) {
      const Word* w = words_ + steps_[n] + 1;
      const std::size_t count = words_of(layouts_[kind], w);
      for (std::size_t k = 0; k < count; ++k) *to_++ = w[k] == kNoSlot ? one_ : w[k];
    }
    if (kind >= kFirstFused) start[-1] = static_cast<Word>(to_ - start);
  }

  const Word* words_;
  const Word* steps_;
  const std::size_t size_;
  const Layout* const layouts_;
  const bool backward_;
  const Word one_;
  const AtOnce at_once_;
  LargeVector<Word> out_;
  Word* to_;
  std::vector<Word> written_;  // the last run that wrote to each slot
  Word run_ = 0;
};

}  // namespace

LargeVector<Word> encode(const Lowered& lowered, Direction direction, Word one, AtOnce at_once) {
  const bool backward = direction == Direction::backward;
  return Encoder(lowered.streams[backward], backward, one, at_once).run();
}

}  // namespace tapegrad
