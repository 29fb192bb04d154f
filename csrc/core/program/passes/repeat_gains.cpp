// repeat_gains.cpp: makes a repeat of blocks that are alike, where running them as lanes is faster than one by one.
#include <optional>
#include <string>
#include <utility>

#include "core/program/passes/repeat_search.hpp"

namespace tapegrad::repeats {

namespace {

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

}  // namespace

// Where in each block the terms of the chain lie, if it is the same in all of them; otherwise they are handed on each
// by itself. Sets chosen_ to the lanes of the blocks.
bool Finder::terms_of(const Chain& chain, const Blocks& blocks, std::vector<U32>* positions) {
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

bool Finder::accept(const Blocks& blocks) {
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

}  // namespace tapegrad::repeats
