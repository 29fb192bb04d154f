// repeats.cpp: the search for repeats, round by round: the widest chains first, until what is left is not worth a walk.
#include "core/program/passes/repeats.hpp"

#include <algorithm>
#include <unordered_map>

#include "core/program/passes/repeat_search.hpp"

namespace tapegrad {

namespace repeats {

namespace {

constexpr std::size_t kMaxFailures = 3;  // searches in vain
constexpr std::size_t kMaxRounds = 16;   // searches over what is left
constexpr std::size_t kMaxPasses = 24;   // walks over the program
constexpr U32 kSomeLanes = 8;
constexpr U32 kManyLanes = 32;  // enough of them

// Where values are carried on, that says it.
void tell_recurrence(const Program& p, RepeatReport* report) {
  for (const Miss& miss : report->missed)
    if (miss.kind == Miss::Kind::carried) return;
  if (const std::optional<Miss> miss = find_recurrence(p)) report->missed.insert(report->missed.begin(), *miss);
}

}  // namespace

Finder::Finder(const Program& p, RepeatReport* report, bool always)
    : p_(p), report_(*report), always_(always), size_(static_cast<U32>(p.code.size())) {
  count_uses();
}

void Finder::count_uses() {
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

void Finder::start() {
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

Findings Finder::search(std::size_t rounds) {
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

// One search with the repeats of all chains that have as many terms as `c`, k-th terms together; chains that such
// repeats depend on are left for later rounds.
bool Finder::round(const ChainInfo& c) {
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
bool Finder::stack(U32 repeats) {
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
