// common_subexpressions.cpp: finds values that are computed twice, by value numbering. Exactly, only the second
// computation is saved and gradients stay apart (their sums would round otherwise); loosely, the second value is
// replaced by the first altogether.
#include <algorithm>
#include <cstring>

#include "core/graph/scratch.hpp"
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

// An open-addressing table of values by key. It keeps eight bytes an entry, not the keys: those of values already there
// are asked for again, and only where 32 bits of their hash agree.
class Table {
 public:
  // The value already there for the key, or `value`, which is then put there.
  template <typename KeyOf>
  // NOLINTNEXTLINE(misc-no-recursion): grow() puts into a table that has room
  std::uint32_t find_or_put(const Key& key, std::uint32_t value, KeyOf key_of) {
    if (2 * count_ >= entries_.size()) grow(key_of);
    const std::uint64_t h = hash(key);
    const auto tag = static_cast<std::uint32_t>(h >> 32);
    for (std::size_t at = h & (entries_.size() - 1);; at = (at + 1) & (entries_.size() - 1)) {
      Entry& entry = entries_[at];
      if (entry.value == kEmpty) {
        entry = {tag, value};
        ++count_;
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
  template <typename KeyOf>
  // NOLINTNEXTLINE(misc-no-recursion)
  void grow(KeyOf key_of) {
    Scratch<Entry> before(std::max<std::size_t>(64, 2 * entries_.size()), Entry{0, kEmpty});
    before.swap(entries_);
    count_ = 0;
    for (const Entry& entry : before)
      if (entry.value != kEmpty) find_or_put(key_of(entry.value), entry.value, key_of);
  }
  Scratch<Entry> entries_;
  std::size_t count_ = 0;
};

// Values by their newest operand: two that are the same are both in its list, which is short as a rule. What is past
// the first few goes to a table, and so do leaves.
class Known {
 public:
  explicit Known(std::size_t count) : last_user_(count, kNone), user_before_(count) {}

  // The value already there for the key, or `value`, which is then put there.
  template <typename KeyOf, typename SameCode>
  std::uint32_t find_or_put(const Key& key, std::uint32_t newest, std::uint32_t value, KeyOf key_of,
                            SameCode same_code) {
    if (newest != kNone) {
      int count = 0;
      for (std::uint32_t user = last_user_[newest]; user != kNone; user = user_before_[user], ++count)
        if (same_code(user) && key_of(user) == key) return user;
      if (count < kFew) {
        user_before_[value] = last_user_[newest];
        last_user_[newest] = value;
        return value;
      }
    }
    return table_.find_or_put(key, value, key_of);
  }

  static constexpr std::uint32_t kNone = ~0u;

 private:
  static constexpr int kFew = 8;
  Scratch<std::uint32_t> last_user_, user_before_;
  Table table_;
};

}  // namespace

std::size_t merge_common_subexpressions(Draft& draft, bool exact) {
  Program& p = draft.program;
  Known known(p.code.size());
  Scratch<std::uint32_t> replaced(exact ? 0 : p.code.size());
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
    if (!exact) {
      replaced[n] = n;
      p.map_operands(i, [&](std::uint32_t operand) { return replaced[operand]; });
    }
    if (i.code == Code::sum || i.code == Code::linear) continue;
    if (i.code == Code::detach) {
      draft.same[n] = draft.same[i.a];
      if (exact) continue;
    }
    std::uint32_t newest = Known::kNone;
    if (!is_leaf(i.code)) {
      newest = 0;
      p.for_each_operand(i, [&](std::uint32_t operand) { newest = std::max(newest, number_of(operand)); });
    }
    const std::uint32_t first = known.find_or_put(key_of(n), newest, n, key_of,
                                                  [&](std::uint32_t user) { return p.code[user].code == i.code; });
    if (first == n) continue;
    draft.same[n] = draft.same[first];
    ++count;
    if (!exact) replaced[n] = first;
  }
  if (!exact) {
    for (std::uint32_t& o : p.outputs) o = replaced[o];
    for (Guard& g : p.guards) g.value = replaced[g.value];
  }
  return count;
}

}  // namespace tapegrad
