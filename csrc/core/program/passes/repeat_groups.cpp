// repeat_groups.cpp: groups repeats that have the same operations, or end with the same ones, and tells of those left
// over how they differ.
#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "core/program/passes/repeat_search.hpp"

namespace tapegrad::repeats {

// Repeats with the same operations become the lanes of one body.
bool Finder::group(U32 lanes) {
  std::vector<U32> starts(lanes + 1, 0);
  for (U32 n : rest_)
    if (in_lane(n)) ++starts[spots_[n].lane + 1];
  for (U32 k = 0; k < lanes; ++k) starts[k + 1] += starts[k];
  Scratch<U32> nodes(starts[lanes]);
  std::vector<U32> next(starts.begin(), starts.end() - 1);
  std::vector<std::uint64_t> hashes(lanes, 1);
  for (U32 n : rest_) {
    if (!in_lane(n)) continue;
    const U32 lane = spots_[n].lane;
    const Instruction& i = p_.code[n];
    spots_[n].position = next[lane] - starts[lane];
    nodes[next[lane]++] = n;
    hashes[lane] = (hashes[lane] ^ static_cast<std::uint64_t>(i.code)) * 0x9E3779B97F4A7C15u;
    if (i.code == Code::powc) {
      std::uint64_t bits;
      std::memcpy(&bits, &i.number, sizeof bits);
      hashes[lane] = (hashes[lane] ^ bits) * 0xBF58476D1CE4E5B9u;
    }
  }
  std::map<std::uint64_t, U32> group_of;
  std::vector<std::vector<U32>> groups;
  for (U32 k = 0; k < lanes; ++k) {
    if (starts[k] == starts[k + 1]) continue;
    const auto [at, fresh] = group_of.try_emplace(hashes[k], static_cast<U32>(groups.size()));
    if (fresh) groups.emplace_back();
    groups[at->second].push_back(k);
  }
  std::stable_sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::vector<U32> others;
  bool any = false;
  U32 model = kNone;  // a repeat of the most frequent kind that will do
  unlike_.reset();
  for (const auto& group : groups) {
    Blocks blocks{&nodes, group, {}, starts[group[0] + 1] - starts[group[0]]};
    for (U32 k : group) blocks.starts.push_back(starts[k]);
    if (group.size() >= kMinLanes && accept(blocks)) {
      any = true;
      if (model == kNone) model = group[0];
      continue;
    }
    others.insert(others.end(), group.begin(), group.end());
  }
  const bool tried = groups.size() == 1;
  std::sort(others.begin(), others.end());
  const bool tails = others.size() >= kMinLanes && !tried && accept_tails(nodes, starts, others);
  if (any && !tails)
    for (U32 k : others) tell_difference(nodes, starts, model, k);
  any = any || tails;
  if (!any && !unlike_ && groups.size() > 1 && 4 * nodes.size() >= size_) {
    unlike_ = difference_of(nodes, starts, std::min(groups[0][0], groups[1][0]), std::max(groups[0][0], groups[1][0]));
    unlike_->repeats = static_cast<U32>(lanes);
    unlike_->count = static_cast<U32>(groups.size());
  }
  if (any) {
    std::erase_if(rest_, [&](U32 n) { return findings_.owner[n] != kNone || findings_.dropped[n]; });
    settle_chains();
  }
  for (U32 n : nodes) spots_[n].lane = findings_.owner[n] == kNone ? kNone : kFixed;
  return any;
}

// Repeats that begin differently may end alike: the longest run of operations that all of them end with.
bool Finder::accept_tails(const Scratch<U32>& nodes, const std::vector<U32>& starts, const std::vector<U32>& lanes) {
  const auto length = [&](U32 k) { return starts[k + 1] - starts[k]; };
  U32 size = length(lanes[0]);
  for (U32 k : lanes) {
    size = std::min(size, length(k));
    U32 same = 0;
    while (same < size &&
           same_operation(p_.code[nodes[starts[k + 1] - 1 - same]], p_.code[nodes[starts[lanes[0] + 1] - 1 - same]]))
      ++same;
    size = same;
  }
  if (!size) return false;
  Blocks blocks{&nodes, lanes, {}, size};
  for (U32 k : lanes) {
    blocks.starts.push_back(starts[k + 1] - size);
    for (U32 at = starts[k]; at < starts[k + 1]; ++at) {
      const U32 n = nodes[at];
      if (at < starts[k + 1] - size)
        spots_[n].lane = kNone;
      else
        spots_[n].position = at - (starts[k + 1] - size);
    }
  }
  return accept(blocks);
}

// Chains of which lanes took terms lose their links.
void Finder::settle_chains() {
  for (Chain& chain : active_) {
    if (chain.summed.empty()) continue;
    for (U32 link : chain.links) findings_.dropped[link] = true;
    modified_.insert({chain.end, static_cast<U32>(findings_.chains.size())});
    roles_[chain.end] = kModified;
    findings_.chains.push_back(std::move(chain));
  }
  active_.clear();
  std::erase_if(rest_, [&](U32 n) { return findings_.dropped[n]; });
}

void Finder::tell_difference(const Scratch<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other) {
  if (report_.missed.size() < kMaxTold) report_.missed.push_back(difference_of(nodes, starts, model, other));
}

Miss Finder::difference_of(const Scratch<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other) const {
  const Blocks blocks{&nodes, {model, other}, {starts[model], starts[other]}, 0};
  return difference(p_, blocks, starts[model + 1] - starts[model], starts[other + 1] - starts[other]);
}

}  // namespace tapegrad::repeats
