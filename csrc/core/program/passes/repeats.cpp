// repeats.cpp: the search for repeats: labels values with the repeat that alone uses them, groups repeats that have the
// same operations, and keeps what pays.
#include "core/program/passes/repeats.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "core/program/passes/repeat_finder.hpp"

namespace tapegrad {

namespace repeats {

namespace {

constexpr std::size_t kMaxFailures = 3;  // searches in vain
constexpr std::size_t kMaxRounds = 16;   // searches over what is left
constexpr std::size_t kMaxPasses = 24;   // walks over the program
constexpr std::size_t kMaxTold = 4;      // near misses
constexpr U32 kSomeLanes = 8;
constexpr U32 kManyLanes = 32;               // enough of them
constexpr std::size_t kMinOperations = 256;  // of all repeats together: below, scalar code is as fast

// Rough times in nanoseconds, forward and backward, for choosing only: results do not depend on it but for the order of
// sums.
constexpr double kGathered = 4.0, kRepeat = 800.0;
struct Times {
  double scalar, step, lane;  // of one operation; in a body, of the operation and of each lane
};
Times times_of(Code code) {
  switch (code) {
    case Code::add:
    case Code::mul:
    case Code::sum:
      return {0.9, 2.0, 0.2};  // most become dot products
    case Code::relu:
    case Code::maximum:
    case Code::minimum:
    case Code::less:
    case Code::less_equal:
    case Code::equal:
    case Code::abs:
    case Code::detach:
    case Code::select:
    case Code::linear:
      return {1.2, 6.0, 0.2};
    case Code::div:
    case Code::sqrt:
      return {5.0, 6.0, 1.5};
    case Code::pow:
    case Code::powc:
      return {25.0, 6.0, 2.5};
    default:
      return {12.0, 6.0, 2.0};
  }
}

// Lanes of values that are in none: leaves and what is rolled already; links of chains.
constexpr U32 kFixed = ~0u - 1, kSpine = ~0u - 2;
enum Role : std::uint8_t { kPlain = 0, kCandidate = 1, kModified = 2 };  // of the last links of chains

class Finder {
 public:
  Finder(const Program& p, RepeatReport* report, bool always)
      : p_(p), report_(*report), always_(always), size_(static_cast<U32>(p.code.size())) {
    count_uses();
  }

  Findings search(std::size_t rounds) {
    report_ = {};
    findings_ = {};
    modified_.clear();
    tried_.clear();
    unlike_.reset();
    rest_.clear();
    started_ = false;
    passes_ = 0;
    std::vector<ChainInfo> open = chains_.found;
    if (result_repeats_ >= kMinLanes) open.push_back({kNone, result_repeats_, 0, 0});
    // The widest first: what lies inside its repeats need not be looked at again.
    const auto end_of = [this](const ChainInfo& c) { return std::size_t{(c.end == kNone ? size_ : c.end)}; };
    const auto span = [&](const ChainInfo& c) { return end_of(c) - c.reach; };
    // Few repeats are worth it only where they are most of the program.
    std::erase_if(open, [&](const ChainInfo& c) { return c.repeats < kSomeLanes && end_of(c) - c.first < size_ / 4; });
    std::sort(open.begin(), open.end(), [&](const ChainInfo& a, const ChainInfo& b) {
      return std::make_pair(span(a), a.end) > std::make_pair(span(b), b.end);
    });
    std::unordered_map<U32, std::size_t> width;  // of all chains with so many terms
    for (const ChainInfo& c : open) width[c.repeats] += span(c);
    std::size_t failures = 0, done = 0;
    for (const ChainInfo& c : open) {
      if (done == rounds || failures == kMaxFailures || passes_ >= kMaxPasses) break;
      if (tried_.count(c.end) || (started_ && c.end != kNone && findings_.owner[c.end] != kNone)) continue;
      if (width[c.repeats] < least() && !always_) continue;
      if (!started_) start();
      candidates_.clear();
      for (const ChainInfo& other : open) {
        if (other.repeats != c.repeats || other.end == kNone || findings_.owner[other.end] != kNone) continue;
        if (roles_[other.end] == kModified || tried_.count(other.end)) continue;
        candidates_.push_back(other.end);
        roles_[other.end] = kCandidate;
      }
      with_results_ = result_repeats_ == c.repeats;
      ++done;
      failures += !round(c);
      for (U32 end : candidates_)
        if (roles_[end] == kCandidate) roles_[end] = kPlain;
    }
    if (unlike_ && findings_.repeats.empty() && report_.missed.empty()) report_.missed.push_back(*unlike_);
    if (report_.missed.size() > kMaxTold) report_.missed.resize(kMaxTold);
    return std::move(findings_);
  }

 private:
  void count_uses() {
    uses_ = Scratch<U32>(size_, 0);
    fixed_asked_.assign(size_, false);
    for (U32 n = 0; n < size_; ++n) p_.for_each_operand(p_.code[n], [&](U32 o) { ++uses_[o]; });
    for (const Guard& g : p_.guards) ++uses_[g.value], fixed_asked_[g.value] = true;
    for (U32 o : p_.outputs) {
      ++uses_[o], fixed_asked_[o] = true;
      result_repeats_ += !is_leaf(p_.code[o].code);
    }
    chains_ = find_chains(p_, uses_);
  }

  // What a class of chains has to span, and its repeats to hold, to be worth a walk over all that is left.
  std::size_t least() const { return std::max(kMinOperations, (started_ ? rest_.size() : size_) / 64); }

  void start() {
    started_ = true;
    findings_.owner = Scratch<U32>(size_, kNone);
    findings_.dropped.assign(size_, false);
    roles_ = Scratch<std::uint8_t>(size_, kPlain);
    asked_ = fixed_asked_;
    spots_ = Scratch<Spot>(size_, {kFixed, 0});  // leaves stay so
    leaks_ = Scratch<std::uint8_t>(size_, 0);
    rest_.reserve(size_);
    for (U32 n = 0; n < size_; ++n)
      if (!is_leaf(p_.code[n].code)) rest_.push_back(n);
  }

  // One search with the repeats of all chains that have as many terms as `c`, k-th terms together; chains that such
  // repeats depend on are left for later rounds.
  bool round(const ChainInfo& c) {
    tried_.insert(c.end);
    segments_.clear();
    label(c.repeats);
    if (rolled_ < least() && !always_) return false;
    for (const Chain& chain : active_) tried_.insert(chain.end);
    // Neighbours that share what no others use, such as the steps of one sequence, are one repeat.
    const U32 count = find_segments(c.repeats);
    if (count) {
      label(count);
      if (group(count)) return true;
      segments_.clear();
      label(c.repeats);
    }
    if (2 * carried_ >= c.repeats) {
      Miss miss{Miss::Kind::carried, c.repeats};
      miss.value = first_carried_;
      report_.missed.push_back(miss);
    }
    return group(c.repeats) || stack(c.repeats);
  }

  // Short loops inside a loop that did not do: the repeats of all of them are lanes of one body, and are summed
  // outside.
  bool stack(U32 repeats) {
    for (const Chain& chain : active_)
      if (chain.end != kNone) roles_[chain.end] = kPlain;
    U32 count = 0;
    for (U32 end : candidates_) count += roles_[end] == kCandidate;
    if (!count) {
      count = static_cast<U32>(candidates_.size());
      for (U32 end : candidates_) roles_[end] = kCandidate;
    }
    if (count < 2 || repeats >= kManyLanes) return false;
    with_results_ = false;
    stacked_ = true;
    label(count * repeats);
    const bool any = group(count * repeats);
    stacked_ = false;
    for (const Chain& chain : active_) tried_.insert(chain.end);
    return any;
  }

  // Sets segments_ so that no value is used by several segments and less than a quarter of the repeats. Returns how
  // many there are; 0 where they are too few, too uneven, or the repeats themselves.
  U32 find_segments(U32 repeats) {
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
  void label(U32 lanes) {
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

  U32 lane_of(U32 repeat) const { return segments_.empty() ? repeat : segments_[repeat]; }

  template <typename F>
  void for_each_value(U32 n, F f) const {
    if (roles_[n] != kModified) return p_.for_each_operand(p_.code[n], f);
    const Chain& c = findings_.chains[modified_.at(n)];
    for (U32 k = 0; k < c.terms.size(); ++k)
      if (!c.taken[k]) f(c.terms[k]);
  }

  bool in_lane(U32 n) const { return spots_[n].lane < kSpine; }

  // Repeats with the same operations become the lanes of one body.
  bool group(U32 lanes) {
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
      unlike_ =
          difference_of(nodes, starts, std::min(groups[0][0], groups[1][0]), std::max(groups[0][0], groups[1][0]));
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
  bool accept_tails(const Scratch<U32>& nodes, const std::vector<U32>& starts, const std::vector<U32>& lanes) {
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

  bool accept(const Blocks& blocks) {
    const std::size_t count = blocks.lanes.size();
    const auto small = [&] {
      if (4 * count * blocks.size >= size_) unlike_ = Miss{Miss::Kind::small, static_cast<U32>(count), blocks.size};
      return false;
    };
    if (count * blocks.size < kMinOperations && !always_) return small();
    double scalar = 0.0, rolled = 0.0;
    for (U32 position = 0; position < blocks.size; ++position) {
      const Times t = times_of(p_.code[blocks.at(0, position)].code);
      scalar += t.scalar * static_cast<double>(count);
      rolled += t.step + t.lane * static_cast<double>(count);
    }
    const auto gain = [&](std::size_t gathered) {
      return always_ || kRepeat + rolled + kGathered * static_cast<double>(count * gathered) < 0.7 * scalar;
    };
    if (!gain(0)) return small();
    std::vector<std::vector<U32>> outputs;  // positions whose sum is handed on
    std::vector<std::size_t> sums;          // chains
    for (std::size_t c = 0; c < active_.size(); ++c) {
      if (!active_[c].reduces) continue;
      std::vector<U32> positions;
      if (terms_of(active_[c], blocks, &positions)) {
        outputs.push_back(std::move(positions));
        sums.push_back(c);
      }
    }
    std::vector<std::vector<U32>> outs;
    std::vector<std::uint8_t> leaks(blocks.size, 0);
    for (std::size_t k = 0; k < count; ++k)
      for (U32 position = 0; position < blocks.size; ++position) leaks[position] |= leaks_[blocks.at(k, position)];
    for (U32 position = 0; position < blocks.size; ++position) {
      if (!leaks[position]) continue;
      outputs.push_back({position});
      outs.emplace_back();
      for (std::size_t k = 0; k < count; ++k) {
        const U32 n = blocks.at(k, position);
        outs.back().push_back(leaks_[n] ? n : kNone);
      }
    }
    Miss miss{};
    std::optional<Repeat> repeat = build_body(p_, blocks, spots_, outputs, &miss);
    if (!repeat) {
      report_.missed.push_back(miss);
      return false;
    }
    std::size_t gathered = outs.size();
    for (const Column& c : repeat->columns)
      gathered += !c.places.empty() &&
                  !(p_.code[c.places[0]].code == Code::input && p_.code[c.places.back()].code == Code::input);
    if (!gain(gathered)) {
      miss = gathered_operand(p_, blocks, spots_);
      miss.count = static_cast<U32>(gathered);
      report_.missed.push_back(miss);
      return false;
    }
    const auto index = static_cast<U32>(findings_.repeats.size());
    repeat->outs = std::move(outs);
    repeat->sums.assign(sums.size(), 0);
    for (U32 k = 0; k < sums.size(); ++k) {
      Chain& chain = active_[sums[k]];
      chain.summed.push_back({index, k});
      for (std::size_t r = 0; r < chain.repeats.size(); ++r) {
        const U32 term = chain.terms[chain.repeats[r]];
        if (in_lane(term) && chosen_[spots_[term].lane]) chain.taken[chain.repeats[r]] = true;
      }
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

  // Where in each block the terms of the chain lie, if it is the same in all of them; otherwise they are handed on each
  // by itself. Sets chosen_ to the lanes of the blocks.
  bool terms_of(const Chain& chain, const Blocks& blocks, std::vector<U32>* positions) {
    chosen_.assign(crossings_.size(), 0);
    for (U32 lane : blocks.lanes) chosen_[lane] = 1;
    std::vector<std::vector<U32>> found(crossings_.size());
    for (U32 k = 0; k < chain.repeats.size(); ++k) {
      const Spot spot = spots_[chain.terms[chain.repeats[k]]];
      if (spot.lane >= kSpine || !chosen_[spot.lane]) continue;
      found[spot.lane].push_back(spot.position);
    }
    const std::vector<U32>& model = found[blocks.lanes[0]];
    bool all = !model.empty();
    for (U32 lane : blocks.lanes) all = all && found[lane] == model;
    for (U32 position : model) all = all && position < blocks.size;
    if (all) {
      *positions = model;
      return true;
    }
    for (U32 r : chain.repeats)
      if (in_lane(chain.terms[r])) leaks_[chain.terms[r]] = 1;
    return false;
  }

  // Chains of which lanes took terms lose their links.
  void settle_chains() {
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

  void tell_difference(const Scratch<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other) {
    if (report_.missed.size() < kMaxTold) report_.missed.push_back(difference_of(nodes, starts, model, other));
  }

  Miss difference_of(const Scratch<U32>& nodes, const std::vector<U32>& starts, U32 model, U32 other) const {
    const Blocks blocks{&nodes, {model, other}, {starts[model], starts[other]}, 0};
    return difference(p_, blocks, starts[model + 1] - starts[model], starts[other + 1] - starts[other]);
  }

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

// Where values are carried on, that says it.
void tell_recurrence(const Program& p, RepeatReport* report) {
  for (const Miss& miss : report->missed)
    if (miss.kind == Miss::Kind::carried) return;
  if (const std::optional<Miss> miss = find_recurrence(p)) report->missed.insert(report->missed.begin(), *miss);
}

}  // namespace

}  // namespace repeats

RepeatPlan find_repeats(const Program& program, RepeatReport* report, bool always) {
  if (program.code.size() < repeats::kMinOperations && !always) return {};
  repeats::Finder finder(program, report, always);
  for (std::size_t rounds : {repeats::kMaxRounds, std::size_t{1}}) {
    repeats::Findings found = finder.search(rounds);
    if (found.repeats.empty()) break;
    RepeatPlan plan;
    if (repeats::plan_stages(program, std::move(found), &plan)) {
      if (2 * plan.rolled < program.code.size()) repeats::tell_recurrence(program, report);
      return plan;
    }
    *report = {};
  }
  repeats::tell_recurrence(program, report);
  return {};
}

}  // namespace tapegrad
