// repeats.cpp: the search for repeats: labels values with the repeat that alone uses them, groups repeats that have the
// same operations, and keeps what pays.
#include "core/passes/repeats.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>

#include "core/passes/repeat_finder.hpp"

namespace tapegrad {

namespace repeats {

namespace {

constexpr std::size_t kMaxFailures = 3;      // searches in vain
constexpr std::size_t kMaxRounds = 16;       // searches over what is left
constexpr std::size_t kMinOperations = 256;  // of all repeats together: below, scalar code is as fast

// Rough times in nanoseconds, forward and backward, for choosing only: results do not depend on it but for the order of
// sums.
constexpr double kScalarStep = 1.2, kLaneStep = 5.0, kLaneNumber = 0.2, kGathered = 1.5, kRepeat = 600.0;

// Lanes of values that are in none: used by several; the link of a chain.
constexpr U32 kShared = ~0u - 1, kSpine = ~0u - 2;

class Finder {
 public:
  Finder(const Program& p, RepeatReport* report) : p_(p), report_(*report), size_(static_cast<U32>(p.code.size())) {
    count_uses();
  }

  Findings search(std::size_t rounds) {
    report_ = {};
    findings_ = {};
    findings_.owner.assign(size_, kNone);
    findings_.dropped.assign(size_, false);
    modified_.clear();
    asked_ = fixed_asked_;
    spots_.assign(size_, {kShared, 0});  // leaves stay so
    leaks_.assign(size_, false);
    rest_.clear();
    for (U32 n = 0; n < size_; ++n)
      if (!is_leaf(p_.code[n].code)) rest_.push_back(n);
    std::vector<ChainInfo> open = chains_.found;
    if (result_repeats_ >= kMinLanes) open.push_back({kNone, result_repeats_, 0});
    // The widest first: what lies inside its repeats need not be looked at again.
    std::sort(open.begin(), open.end(), [this](const ChainInfo& a, const ChainInfo& b) {
      const auto span = [this](const ChainInfo& c) { return (c.end == kNone ? size_ : c.end) - c.first; };
      return std::make_pair(span(a), a.end) > std::make_pair(span(b), b.end);
    });
    std::size_t failures = 0, done = 0;
    for (const ChainInfo& c : open) {
      if (done == rounds || failures == kMaxFailures) break;
      if (c.end != kNone && (findings_.owner[c.end] != kNone || tried_.count(c.end))) continue;
      if (std::size_t{(c.end == kNone ? size_ : c.end)} - c.first < kMinOperations) break;
      candidates_.clear();
      for (const ChainInfo& other : open)
        if (other.repeats == c.repeats && other.end != kNone && findings_.owner[other.end] == kNone &&
            !modified_.count(other.end))
          candidates_.insert({other.end, true});
      with_results_ = result_repeats_ == c.repeats;
      ++done;
      failures += !round(c);
    }
    tried_.clear();
    return std::move(findings_);
  }

 private:
  void count_uses() {
    uses_.assign(size_, 0);
    fixed_asked_.assign(size_, false);
    for (U32 n = 0; n < size_; ++n) p_.for_each_operand(p_.code[n], [&](U32 o) { ++uses_[o]; });
    for (const Guard& g : p_.guards) ++uses_[g.value], fixed_asked_[g.value] = true;
    for (U32 o : p_.outputs) {
      ++uses_[o], fixed_asked_[o] = true;
      result_repeats_ += !is_leaf(p_.code[o].code);
    }
    chains_ = find_chains(p_, uses_);
  }

  // One search with the repeats of all chains that have as many terms as `c`, k-th terms together. Where such chains
  // depend on each other, only with those of one depth; where a block feeds what it reads, without such values.
  bool round(const ChainInfo& c) {
    if (c.end != kNone) tried_.insert({c.end, true});
    if (!label(false)) {
      find_depths();
      const U32 depth = c.end == kNone ? kNone : depth_[c.end];
      for (auto& [end, use] : candidates_) use = c.end != kNone && depth_[end] == depth;
      with_results_ = with_results_ && c.end == kNone;
      if (!label(false) && !label(true)) return false;
    }
    for (const Chain& chain : active_) tried_.insert({chain.end, true});
    return group(c.repeats);
  }

  void find_depths() {
    if (!depth_.empty()) return;
    std::unordered_map<U32, bool> ends;
    for (const ChainInfo& c : chains_.found) ends.insert({c.end, true});
    depth_.assign(size_, 0);
    for (U32 n = 0; n < size_; ++n) {
      U32 depth = 0;
      p_.for_each_operand(p_.code[n], [&](U32 o) { depth = std::max(depth, depth_[o]); });
      depth_[n] = depth + (ends.count(n) ? 1 : 0);
    }
  }


  // Newest first: a value that only one repeat uses belongs to it. A value that is used outside too belongs to it all
  // the same, unless `strict`. False where a repeat then depends on what depends on a repeat.
  bool label(bool strict) {
    active_.clear();
    for (U32 n : rest_) {
      spots_[n].lane = kNone;
      leaks_[n] = asked_[n];
    }
    const auto use = [&](U32 operand, U32 lane) {
      U32& at = spots_[operand].lane;
      if (lane == kNone) {
        leaks_[operand] = true;
        if (strict && at != kSpine) at = kShared;
      } else if (at == kNone) {
        at = lane;
      } else if (at != lane) {
        at = kShared;
      }
    };
    const auto activate = [&](Chain chain) {
      for (U32 link : chain.links) spots_[link].lane = kSpine;
      for (U32 lane = 0; lane < chain.repeats.size(); ++lane) {
        const U32 term = chain.terms[chain.repeats[lane]];
        use(term, lane);
        if (!chain.reduces) leaks_[term] = true;
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
      U32& lane = spots_[n].lane;
      if (lane == kSpine) continue;
      if (lane == kNone || lane == kShared) {
        lane = kNone;
        const auto candidate = candidates_.find(n);
        if (candidate != candidates_.end() && candidate->second) {
          activate(chain_of(p_, chains_.before, n));
          continue;
        }
      }
      const U32 own = lane;
      for_each_value(n, [&](U32 operand) { use(operand, own); });
    }
    return !feeds_itself();
  }

  template <typename F>
  void for_each_value(U32 n, F f) const {
    const auto chain = modified_.find(n);
    if (chain == modified_.end()) return p_.for_each_operand(p_.code[n], f);
    const Chain& c = findings_.chains[chain->second];
    for (U32 k = 0; k < c.terms.size(); ++k)
      if (!c.taken[k]) f(c.terms[k]);
  }

  bool in_lane(U32 n) const { return spots_[n].lane < kSpine; }

  bool feeds_itself() {
    after_.assign(size_, false);
    for (U32 n : rest_) {
      bool after = false;
      for_each_value(n, [&](U32 o) {
        if (is_leaf(p_.code[o].code) || findings_.owner[o] != kNone) return;
        if (in_lane(n))
          after = after || (!in_lane(o) && after_[o]);
        else
          after = after || in_lane(o) || after_[o];
      });
      if (after && in_lane(n)) return true;
      after_[n] = after;
    }
    return false;
  }

  // Repeats with the same operations become the lanes of one body.
  bool group(U32 lanes) {
    std::vector<U32> starts(lanes + 1, 0);
    for (U32 n : rest_)
      if (in_lane(n)) ++starts[spots_[n].lane + 1];
    for (U32 k = 0; k < lanes; ++k) starts[k + 1] += starts[k];
    std::vector<U32> nodes(starts[lanes]), next(starts.begin(), starts.end() - 1);
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
    for (const auto& group : groups) {
      Blocks blocks{&nodes, group, {}, starts[group[0] + 1] - starts[group[0]]};
      for (U32 k : group) blocks.starts.push_back(starts[k]);
      if (group.size() >= kMinLanes && accept(blocks)) {
        any = true;
        continue;
      }
      others.insert(others.end(), group.begin(), group.end());
    }
    if (others.size() >= kMinLanes) {
      std::sort(others.begin(), others.end());
      any = accept_tails(nodes, starts, others) || any;
    } else if (any) {
      for (U32 k : others) tell_difference(nodes, starts, groups[0][0], k);
    }
    if (any) {
      std::erase_if(rest_, [&](U32 n) { return findings_.owner[n] != kNone || findings_.dropped[n]; });
      settle_chains();
    }
    for (U32 n : nodes) spots_[n].lane = findings_.owner[n] == kNone ? kNone : kShared;
    return any;
  }

  // Repeats that begin differently may end alike: the longest run of operations that all of them end with.
  bool accept_tails(const std::vector<U32>& nodes, const std::vector<U32>& starts, const std::vector<U32>& lanes) {
    const auto length = [&](U32 k) { return starts[k + 1] - starts[k]; };
    U32 size = length(lanes[0]);
    for (U32 k : lanes) {
      size = std::min(size, length(k));
      U32 same = 0;
      while (same < size && same_operation(p_.code[nodes[starts[k + 1] - 1 - same]],
                                           p_.code[nodes[starts[lanes[0] + 1] - 1 - same]]))
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

  bool accept(const Blocks& blocks) {
    const std::size_t count = blocks.lanes.size();
    if (count * blocks.size < kMinOperations) return false;
    const auto gain = [&](std::size_t gathered) {
      const auto lanes = static_cast<double>(count), size = static_cast<double>(blocks.size);
      const double scalar = kScalarStep * lanes * size;
      const double rolled = kRepeat + size * (kLaneStep + kLaneNumber * lanes) +
                            kGathered * lanes * static_cast<double>(gathered);
      return rolled < 0.7 * scalar;
    };
    if (!gain(0)) return false;
    std::vector<U32> outputs;
    std::vector<std::pair<std::size_t, U32>> sums;  // chain, position of its terms
    for (std::size_t c = 0; c < active_.size(); ++c) {
      const Chain& chain = active_[c];
      if (!chain.reduces) continue;
      const auto term = [&](std::size_t k) { return chain.terms[chain.repeats[blocks.lanes[k]]]; };
      const U32 position = spots_[term(0)].position;
      bool all = true;
      for (std::size_t k = 0; k < count; ++k)
        all = all && spots_[term(k)].lane == blocks.lanes[k] && spots_[term(k)].position == position;
      if (all && position < blocks.size) {
        outputs.push_back(position);
        sums.push_back({c, position});
      } else {
        for (std::size_t k = 0; k < count; ++k)
          if (in_lane(term(k))) leaks_[term(k)] = true;
      }
    }
    std::vector<std::vector<U32>> outs;
    for (U32 position = 0; position < blocks.size; ++position) {
      bool any = false;
      for (std::size_t k = 0; k < count && !any; ++k) any = leaks_[blocks.at(k, position)];
      if (!any) continue;
      outputs.push_back(position);
      outs.emplace_back();
      for (std::size_t k = 0; k < count; ++k) {
        const U32 n = blocks.at(k, position);
        outs.back().push_back(leaks_[n] ? n : kNone);
      }
    }
    std::string miss;
    std::optional<Repeat> repeat = build_body(p_, blocks, spots_, outputs, &miss);
    if (!repeat) {
      report_.missed.push_back(std::to_string(count) + " repeats of a block of " + std::to_string(blocks.size) +
                               " operations are not run as lanes: " + miss);
      return false;
    }
    std::size_t gathered = outs.size();
    for (const Column& c : repeat->columns)
      gathered += !c.places.empty() && !(p_.code[c.places[0]].code == Code::input &&
                                         p_.code[c.places.back()].code == Code::input);
    if (!gain(gathered)) {
      report_.missed.push_back(std::to_string(count) + " repeats of a block of " + std::to_string(blocks.size) +
                               " operations are not run as lanes: they read " + std::to_string(gathered) +
                               " values that differ from repeat to repeat, which costs more than it saves");
      return false;
    }
    const auto index = static_cast<U32>(findings_.repeats.size());
    repeat->outs = std::move(outs);
    repeat->sums.assign(sums.size(), 0);
    for (U32 k = 0; k < sums.size(); ++k) {
      Chain& chain = active_[sums[k].first];
      chain.summed.push_back({index, k});
      for (U32 lane : blocks.lanes) chain.taken[chain.repeats[lane]] = true;
    }
    for (std::size_t k = 0; k < count; ++k)
      for (U32 position = 0; position < blocks.size; ++position) findings_.owner[blocks.at(k, position)] = index;
    for (U32 v : repeat->uniforms) asked_[v] = true;
    for (const Column& c : repeat->columns)
      for (U32 v : c.places) asked_[v] = true;
    report_.found.push_back(std::to_string(count) + " repeats of a block of " + std::to_string(blocks.size) +
                            " nodes, run as " + std::to_string(count) + " lanes");
    findings_.repeats.push_back(std::move(*repeat));
    return true;
  }

  // Chains of which lanes took terms lose their links.
  void settle_chains() {
    for (Chain& chain : active_) {
      if (chain.summed.empty()) continue;
      for (U32 link : chain.links) findings_.dropped[link] = true;
      modified_.insert({chain.end, static_cast<U32>(findings_.chains.size())});
      findings_.chains.push_back(std::move(chain));
    }
    active_.clear();
    std::erase_if(rest_, [&](U32 n) { return findings_.dropped[n]; });
  }

  void tell_difference(const std::vector<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other) {
    if (report_.missed.size() >= 8) return;
    const U32 model_size = starts[model + 1] - starts[model], size = starts[other + 1] - starts[other];
    U32 at = 0;
    while (at < std::min(model_size, size) &&
           same_operation(p_.code[nodes[starts[model] + at]], p_.code[nodes[starts[other] + at]]))
      ++at;
    std::string text = "repeat " + std::to_string(other + 1) + " is computed by itself: ";
    if (at < std::min(model_size, size)) {
      const auto name = [&](U32 lane) { return std::string(name_of(p_.code[nodes[starts[lane] + at]].code)); };
      text += "its operation " + std::to_string(at + 1) + " (%" + std::to_string(nodes[starts[other] + at]) + ") is " +
              name(other) + " where the others have " + name(model);
    } else {
      text += "it has " + std::to_string(size) + " operations, the others " + std::to_string(model_size);
    }
    report_.missed.push_back(text);
  }

  const Program& p_;
  RepeatReport& report_;
  const U32 size_;
  std::vector<U32> uses_;
  Chains chains_;
  U32 result_repeats_ = 0;
  std::vector<bool> fixed_asked_, asked_;  // by results, guards and the repeats found so far
  Findings findings_;
  std::unordered_map<U32, U32> modified_;  // ends of chains in findings_.chains
  std::unordered_map<U32, bool> candidates_, tried_;
  bool with_results_ = false;
  std::vector<U32> rest_;  // values outside the repeats found so far, oldest first
  std::vector<Spot> spots_;
  std::vector<bool> leaks_;  // also used outside the block
  std::vector<bool> after_;
  std::vector<U32> depth_;
  std::vector<Chain> active_;
};

}  // namespace

}  // namespace repeats

RepeatPlan find_repeats(const Program& program, RepeatReport* report) {
  if (program.code.size() < repeats::kMinOperations) return {};
  repeats::Finder finder(program, report);
  for (std::size_t rounds : {repeats::kMaxRounds, std::size_t{1}}) {
    repeats::Findings found = finder.search(rounds);
    if (found.repeats.empty()) return {};
    RepeatPlan plan;
    if (repeats::plan_stages(program, std::move(found), &plan)) return plan;
  }
  *report = {};
  return {};
}

}  // namespace tapegrad
