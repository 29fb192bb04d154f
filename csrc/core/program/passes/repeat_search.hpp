// repeat_search.hpp: the search for repeats as one class, whose parts are in repeats.cpp (rounds), repeat_labels.cpp
// (which repeat a value belongs to), repeat_groups.cpp (which repeats are alike) and repeat_gains.cpp (what pays).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/program/passes/repeat_finder.hpp"

namespace tapegrad::repeats {

inline constexpr std::size_t kMaxTold = 4;          // near misses
inline constexpr std::size_t kMinOperations = 256;  // of all repeats together: below, scalar code is as fast

// Lanes of values that are in none: leaves and what is rolled already; links of chains.
inline constexpr U32 kFixed = ~0u - 1, kSpine = ~0u - 2;
enum Role : std::uint8_t { kPlain = 0, kCandidate = 1, kModified = 2 };  // of the last links of chains

class Finder {
 public:
  Finder(const Program& p, RepeatReport* report, bool always);

  Findings search(std::size_t rounds);

 private:
  // repeats.cpp
  void count_uses();
  // What a class of chains has to span, and its repeats to hold, to be worth a walk over all that is left.
  std::size_t least() const { return std::max(kMinOperations, (started_ ? rest_.size() : size_) / 64); }
  void start();
  bool round(const ChainInfo& c);
  bool stack(U32 repeats);

  // repeat_labels.cpp
  U32 find_segments(U32 repeats);
  void label(U32 lanes);
  U32 lane_of(U32 repeat) const { return segments_.empty() ? repeat : segments_[repeat]; }

  template <typename F>
  void for_each_value(U32 n, F f) const {
    if (roles_[n] != kModified) return p_.for_each_operand(p_.code[n], f);
    const Chain& c = findings_.chains[modified_.at(n)];
    for (U32 k = 0; k < c.terms.size(); ++k)
      if (!c.taken[k]) f(c.terms[k]);
  }

  bool in_lane(U32 n) const { return spots_[n].lane < kSpine; }

  // repeat_groups.cpp
  bool group(U32 lanes);
  bool accept_tails(const Scratch<U32>& nodes, const std::vector<U32>& starts, const std::vector<U32>& lanes);
  void settle_chains();
  void tell_difference(const Scratch<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other);
  Miss difference_of(const Scratch<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other) const;

  // repeat_gains.cpp
  bool accept(const Blocks& blocks);
  bool terms_of(const Chain& chain, const Blocks& blocks, std::vector<U32>* positions);

  const Program& p_;
  RepeatReport& report_;
  const bool always_;
  const U32 size_;
  Scratch<U32> uses_;
  Chains chains_;
  U32 result_repeats_ = 0;
  std::vector<bool> fixed_asked_, asked_;  // by results, guards and the repeats found so far
  Findings findings_;
  std::unordered_map<U32, U32> modified_;  // ends of chains in findings_.chains
  std::unordered_set<U32> tried_;
  std::optional<Miss> unlike_;   // why the last repeats would not do; told where none do
  std::vector<U32> candidates_;  // ends of the chains of this round
  Scratch<std::uint8_t> roles_;
  std::vector<U32> segments_;            // lane of each repeat; empty where each is its own
  std::vector<std::int32_t> crossings_;  // by repeat: values used from it on, less those used up to it
  std::vector<std::uint8_t> chosen_;
  bool started_ = false, with_results_ = false, stacked_ = false;
  std::size_t passes_ = 0, rolled_ = 0;  // walks so far; values in repeats by the last one
  std::size_t carried_ = 0;              // values that several repeats use, but not the first; the oldest of them
  U32 first_carried_ = 0;
  LargeVector<U32> rest_;  // values outside the repeats found so far, oldest first
  Scratch<Spot> spots_;
  Scratch<std::uint8_t> leaks_;  // also used outside the block
  std::vector<Chain> active_;
};

}  // namespace tapegrad::repeats
