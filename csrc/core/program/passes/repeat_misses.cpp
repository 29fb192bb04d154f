// repeat_misses.cpp: why what looks like a loop is not run as one: the first thing that breaks the pattern.
#include <algorithm>

#include "core/program/passes/repeat_finder.hpp"

namespace tapegrad::repeats {

namespace {

constexpr std::size_t kMinSteps = 16;     // of a recurrence; fewer are the layers of a deep network, say
constexpr std::size_t kMaxWindow = 8192;  // operations in which its period is looked for

// The smallest period of text[0 .. size): by how far it can be moved along itself.
template <typename At>
std::size_t period_of(std::size_t size, At at) {
  std::vector<U32> border(size, 0);  // of each prefix, the longest that is also its suffix
  for (std::size_t k = 1, b = 0; k < size; ++k) {
    while (b && at(k) != at(b)) b = border[b - 1];
    b += at(k) == at(b);
    border[k] = static_cast<U32>(b);
  }
  return size - border[size - 1];
}

}  // namespace

Miss difference(const Program& p, const Blocks& blocks, U32 model_size, U32 size) {
  U32 at = 0;
  while (at < std::min(model_size, size) && same_operation(p.code[blocks.at(0, at)], p.code[blocks.at(1, at)])) ++at;
  const bool both = at < std::min(model_size, size);
  Miss miss{both ? Miss::Kind::operation : Miss::Kind::length, 0, model_size, blocks.lanes[1], at};
  if (at < size) miss.value = blocks.at(1, at);
  if (at < model_size) miss.expected = blocks.at(0, at);
  return miss;
}

Miss gathered_operand(const Program& p, const Blocks& blocks, const Scratch<Spot>& spots) {
  Miss miss{Miss::Kind::gathered, static_cast<U32>(blocks.lanes.size()), blocks.size};
  const auto is_data = [&](U32 o) { return p.code[o].code == Code::constant || p.code[o].code == Code::input; };
  for (std::size_t k = 1; k < std::min<std::size_t>(blocks.lanes.size(), 4); ++k)
    for (U32 position = 0; position < blocks.size; ++position) {
      const Instruction &first = p.code[blocks.at(0, position)], &i = p.code[blocks.at(k, position)];
      for (U32 slot = 0; slot < operand_count(first); ++slot) {
        const U32 pattern = operand_of(p, first, slot), taken = operand_of(p, i, slot);
        const bool outside = spots[pattern].lane != blocks.lanes[0] && spots[taken].lane != blocks.lanes[k];
        if (!outside || pattern == taken || (is_data(pattern) && is_data(taken))) continue;
        miss.repeat = blocks.lanes[k];
        miss.operation = position;
        miss.operand = slot;
        miss.value = blocks.at(k, position);
        miss.expected = blocks.at(0, position);
        miss.taken = taken;
        miss.pattern = pattern;
        return miss;
      }
    }
  return miss;
}

std::optional<Miss> find_recurrence(const Program& p) {
  // From the newest result back along the newest operands: through one step after the other, where each needs the one
  // before; into the last repeat and to its leaves, where they are independent.
  std::vector<U32> path;
  for (U32 o : p.outputs)
    if (!is_leaf(p.code[o].code) && (path.empty() || o > path[0])) path.assign(1, o);
  while (!path.empty()) {
    U32 newest = kNone;
    p.for_each_operand(p.code[path.back()], [&](U32 o) {
      if (!is_leaf(p.code[o].code) && (newest == kNone || o > newest)) newest = o;
    });
    if (newest == kNone) break;
    path.push_back(newest);
  }
  if (path.size() < 2 * kMinSteps) return std::nullopt;
  const std::size_t start = path.size() / 4, size = std::min(path.size() / 2, kMaxWindow);
  const auto same = [&](std::size_t j, std::size_t k) { return same_operation(p.code[path[j]], p.code[path[k]]); };
  const std::size_t period = period_of(size, [&](std::size_t k) {
    const Instruction& i = p.code[path[start + k]];
    return std::make_pair(i.code, i.code == Code::powc ? i.number : 0.0);
  });
  if (period * kMinSteps / 2 > size) return std::nullopt;
  std::size_t begin = start, end = start + size;
  while (begin && same(begin - 1, begin - 1 + period)) --begin;
  while (end < path.size() && same(end, end - period)) ++end;
  const std::size_t steps = (end - begin) / period;
  if (steps < kMinSteps || 2 * std::size_t{path[begin] - path[end - 1]} < p.code.size()) return std::nullopt;
  // What a step hands on is read after all else of it was made.
  std::size_t last = start + 1;
  for (std::size_t k = start + 1; k <= start + period; ++k)
    if (path[k - 1] - path[k] > path[last - 1] - path[last]) last = k;
  Miss miss{Miss::Kind::recurrence, static_cast<U32>(steps)};
  miss.value = path[last];
  for (U32 n = path[last + period]; n < path[last]; ++n) miss.size += !is_leaf(p.code[n].code);
  return miss;
}

}  // namespace tapegrad::repeats
