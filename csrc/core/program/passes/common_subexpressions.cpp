// common_subexpressions.cpp: finds values that are computed twice, by value numbering. Exactly, only the second
// computation is saved and gradients stay apart (their sums would round otherwise); loosely, the second value is
// replaced by the first altogether.
#include <cstring>

#include "core/program/passes/passes.hpp"

namespace tapegrad {

namespace {

struct Key {
  std::uint64_t code, first, second, third;
  bool operator==(const Key&) const = default;
};

std::uint64_t hash(const Key& k) {
  std::uint64_t h = k.code * 0x9E3779B97F4A7C15u;
  for (std::uint64_t part : {k.first, k.second, k.third}) h = (h ^ (h >> 29) ^ part) * 0xBF58476D1CE4E5B9u;
  return h ^ (h >> 32);
}

// An open-addressing table of values by key; sized once. It keeps eight bytes an entry, not the keys: those of values
// already there are asked for again, and only where 32 bits of their hash agree.
class Table {
 public:
  explicit Table(std::size_t count) {
    std::size_t size = 16;
    while (size < 2 * count) size *= 2;
    entries_.assign(size, {0, kEmpty});
  }
  // The value already there for the key, or `value`, which is then put there.
  template <typename KeyOf>
  std::uint32_t find_or_put(const Key& key, std::uint32_t value, KeyOf key_of) {
    const std::uint64_t h = hash(key);
    const auto tag = static_cast<std::uint32_t>(h >> 32);
    for (std::size_t at = h & (entries_.size() - 1);; at = (at + 1) & (entries_.size() - 1)) {
      Entry& entry = entries_[at];
      if (entry.value == kEmpty) {
        entry = {tag, value};
        return value;
      }
      if (entry.tag == tag && key_of(entry.value) == key) return entry.value;
    }
  }

 private:
  static constexpr std::uint32_t kEmpty = ~0u;
  struct Entry {
    std::uint32_t tag, value;
  };
  std::vector<Entry> entries_;
};

}  // namespace

std::size_t merge_common_subexpressions(Draft& draft, bool exact) {
  Program& p = draft.program;
  Table table(p.code.size());
  std::vector<std::uint32_t> replaced(p.code.size());
  std::size_t count = 0;
  // Exactly, values are compared; loosely, what is merged has to be the same in its gradient too, so that a detached
  // value is another.
  const auto number_of = [&](std::uint32_t operand) { return exact ? draft.same[operand] : operand; };
  const auto key_of = [&](std::uint32_t n) {
    const Instruction& i = p.code[n];
    std::uint64_t bits;
    std::memcpy(&bits, &i.number, sizeof bits);
    Key key{static_cast<std::uint64_t>(i.code), i.a, i.b, bits};
    if (!is_leaf(i.code)) {
      key.first = number_of(i.a);
      if (i.code == Code::select || (i.code < Code::table_end && kArity[static_cast<int>(i.code)] == 2))
        key.second = number_of(i.b);
      if (i.code == Code::select) key.third = number_of(i.c);
      if ((i.code == Code::add || i.code == Code::mul) && key.first > key.second) std::swap(key.first, key.second);
    }
    return key;
  };
  for (std::uint32_t n = 0; n < p.code.size(); ++n) {
    Instruction& i = p.code[n];
    replaced[n] = n;
    if (!exact) p.map_operands(i, [&](std::uint32_t operand) { return replaced[operand]; });
    if (i.code == Code::sum || i.code == Code::linear) continue;
    if (i.code == Code::detach) {
      draft.same[n] = draft.same[i.a];
      if (exact) continue;
    }
    const std::uint32_t first = table.find_or_put(key_of(n), n, key_of);
    if (first == n) continue;
    draft.same[n] = draft.same[first];
    ++count;
    // Constants have no gradient, so one will do for all.
    if (!exact || i.code == Code::constant) replaced[n] = first;
  }
  if (!exact) {
    for (std::uint32_t& o : p.outputs) o = replaced[o];
    for (Guard& g : p.guards) g.value = replaced[g.value];
  }
  return count;
}

}  // namespace tapegrad
