// repeat_labels.cpp: which repeat each value belongs to: the one that alone uses it.
#include <algorithm>
#include <utility>

#include "core/program/passes/repeat_search.hpp"

namespace tapegrad::repeats {

// Sets segments_ so that no value is used by several segments and less than a quarter of the repeats. Returns how
// many there are; 0 where they are too few, too uneven, or the repeats themselves.
U32 Finder::find_segments(U32 repeats) {
  segments_.assign(repeats, 0);
  U32 segment = 0, start = 0, longest = 1;
  std::int64_t crossing = 0;
  for (U32 k = 0; k < repeats; ++k) {
    if (k && !crossing) {
      ++segment;
      start = k;
    }
    longest = std::max(longest, k - start + 1);
    segments_[k] = segment;
    crossing += crossings_[k];
  }
  const U32 count = segment + 1;
  if (count >= kMinLanes && count < repeats && std::size_t{longest} * count <= 4 * std::size_t{repeats}) return count;
  segments_.clear();
  return 0;
}

// Newest first: a value that only one repeat uses belongs to it, also if it is used outside too. What several use is
// outside, and so is all that it is computed from: no repeat depends on what depends on a repeat. While it runs, a
// spot is the range of the lanes that use a value.
void Finder::label(U32 lanes) {
  ++passes_;
  rolled_ = carried_ = 0;
  active_.clear();
  crossings_.assign(lanes + 1, 0);
  for (U32 n : rest_) {
    spots_[n] = {kNone, 0};
    leaks_[n] = asked_[n];
  }
  const auto use = [&](U32 operand, Spot by) {
    Spot& at = spots_[operand];
    if (at.lane == kFixed || at.lane == kSpine) return;
    if (by.lane == kNone) {
      leaks_[operand] = 1;
    } else if (at.lane == kNone) {
      at = by;
    } else {
      at = {std::min(at.lane, by.lane), std::max(at.position, by.position)};
    }
  };
  U32 first = 0;
  const auto activate = [&](Chain chain) {
    for (U32 link : chain.links) spots_[link].lane = kSpine;
    if (stacked_) chain.reduces = false;
    for (U32 k = 0; k < chain.repeats.size(); ++k) {
      const U32 term = chain.terms[chain.repeats[k]], lane = stacked_ ? first++ : lane_of(k);
      use(term, {lane, lane});
      if (!chain.reduces) leaks_[term] = 1;
    }
    active_.push_back(std::move(chain));
  };
  if (with_results_) {
    Chain results;
    for (U32 o : p_.outputs) results.terms.push_back(o);
    for (U32 k = 0; k < results.terms.size(); ++k)
      if (!is_leaf(p_.code[results.terms[k]].code)) results.repeats.push_back(k);
    activate(std::move(results));
  }
  for (std::size_t r = rest_.size(); r-- > 0;) {
    const U32 n = rest_[r];
    Spot& spot = spots_[n];
    if (spot.lane == kSpine) continue;
    if (spot.lane == kNone && roles_[n] == kCandidate) {
      activate(chain_of(p_, chains_.before, n));
      continue;
    }
    const Spot by = spot;
    for_each_value(n, [&](U32 operand) { use(operand, by); });
    rolled_ += by.lane == by.position;
    if (by.lane == kNone || by.lane == by.position) continue;
    spot.lane = kNone;
    if (by.lane) {
      ++carried_;
      first_carried_ = n;
    }
    if (by.position - by.lane > lanes / 4) continue;
    ++crossings_[by.lane];
    --crossings_[by.position];
  }
}

}  // namespace tapegrad::repeats
