// layers.cpp: finds sums of products that share their inputs, the neurons of a layer, and puts them next to each other,
// their activations behind them, so that lane code computes them together. Computes nothing differently itself.
#include <algorithm>
#include <utility>

#include "core/program/passes/passes.hpp"

namespace tapegrad {

namespace {

using U32 = std::uint32_t;
constexpr U32 kNone = ~0u;

// Numbers keys in the order in which they come. Open addressing; grows by doubling.
class Numbering {
 public:
  U32 number_of(std::uint64_t key, bool* fresh) {
    if (2 * std::size_t{count_} >= entries_.size()) grow();
    Entry& entry = find(key);
    *fresh = entry.number == kNone;
    if (*fresh) entry = {key, count_++};
    return entry.number;
  }

 private:
  struct Entry {
    std::uint64_t key = 0;
    U32 number = kNone;
  };
  Entry& find(std::uint64_t key) {
    const std::size_t last = entries_.size() - 1;
    std::size_t at = (key * 0x9E3779B97F4A7C15u) >> 20 & last;
    while (entries_[at].number != kNone && entries_[at].key != key) at = (at + 1) & last;
    return entries_[at];
  }
  void grow() {
    std::vector<Entry> before(std::max<std::size_t>(64, 2 * entries_.size()));
    before.swap(entries_);
    for (const Entry& entry : before)
      if (entry.number != kNone) find(entry.key) = entry;
  }
  std::vector<Entry> entries_;
  U32 count_ = 0;
};

class Grouping {
 public:
  explicit Grouping(const Draft& draft)
      : p_(draft.program),
        same_(draft.same),
        size_(static_cast<U32>(p_.code.size())),
        uses_(size_, 0),
        user_(size_, kNone) {}

  // Numbers the layers and counts them. One product by itself counts only next to others of the same input.
  LayerCounts find() {
    count_uses();
    Numbering layer_of_inputs;
    for (U32 n = 0; n < size_; ++n) {
      const Code code = p_.code[n].code;
      if (code != Code::sum && code != Code::add) continue;
      U32 products = 0;
      const std::uint64_t inputs = inputs_of(p_.code[n], products);
      if (!products) continue;
      bool fresh;
      const U32 layer = layer_of_inputs.number_of(inputs, &fresh);
      if (fresh) found_.push_back({0, products});
      ++found_[layer].rows;
      sums_.push_back({n, layer});
    }
    LayerCounts counts;
    for (const Found& found : found_) {
      const U32 rows = found.rows;
      if (rows == 1 && found.products == 1) continue;
      counts.dots += rows;
      ++counts.layers;
      shared_ = shared_ || rows > 1;
    }
    return counts;
  }

  // Whether any layer has more than one row.
  bool shared() const { return shared_; }

  // The instructions in their new order.
  std::vector<U32> order() {
    layer_.assign(size_, kNone);
    members_.resize(found_.size());
    for (const auto& [n, layer] : sums_) {
      layer_[n] = layer;
      members_[layer].push_back(n);
    }
    order_.reserve(size_);
    placed_.assign(size_, false);
    for (U32 n = 0; n < size_; ++n)
      if (is_leaf(p_.code[n].code)) place(n);
    for (U32 n = 0; n < size_; ++n) {
      if (placed_[n]) continue;
      if (layer_[n] != kNone && members_[layer_[n]].size() > 1) place_layer(n);
      place(n);
    }
    return std::move(order_);
  }

 private:
  void count_uses() {
    for (U32 o : p_.outputs) uses_[o] += 2;
    for (const Guard& g : p_.guards) uses_[g.value] += 2;
    for (U32 n = 0; n < size_; ++n) {
      p_.for_each_operand(p_.code[n], [&](U32 operand) {
        ++uses_[operand];
        user_[operand] = n;
      });
      if (same_[n] != n) uses_[same_[n]] += 2;
    }
  }

  // The other factor of a product with a parameter or a constant that only one sum reads; kNone for anything else.
  U32 input_of(U32 n) const {
    const Instruction& i = p_.code[n];
    if (i.code != Code::mul || uses_[n] != 1 || same_[n] != n) return kNone;
    const Code a = p_.code[i.a].code, b = p_.code[i.b].code;
    const auto fixed = [](Code code) { return code == Code::param || code == Code::constant; };
    if (fixed(a) && !fixed(b)) return i.b;
    if (fixed(b) && !fixed(a)) return i.a;
    if (a == Code::param && b == Code::constant) return i.b;  // numbers of the data, written into the function
    if (b == Code::param && a == Code::constant) return i.a;
    return kNone;
  }

  // A number for the set of inputs of a sum's products; how many there are. Numbers of the data count if there are no
  // other inputs.
  std::uint64_t inputs_of(const Instruction& i, U32& products) const {
    std::uint64_t sum = 0, sum_of_data = 0;
    U32 data = 0;
    p_.for_each_operand(i, [&](U32 operand) {
      const U32 input = input_of(operand);
      if (input == kNone) return;
      const bool constant = p_.code[input].code == Code::constant;
      ++(constant ? data : products);
      std::uint64_t h = (input + 1) * 0x9E3779B97F4A7C15u;
      h = (h ^ (h >> 31)) * 0xBF58476D1CE4E5B9u;
      (constant ? sum_of_data : sum) += h ^ (h >> 29);
    });
    if (products) return sum;
    products = data;
    return sum_of_data;
  }

  void place(U32 n) {
    if (placed_[n]) return;
    placed_[n] = true;
    order_.push_back(n);
  }

  bool is_ready(U32 n) const {
    bool ready = true;
    p_.for_each_operand(p_.code[n], [&](U32 operand) { ready = ready && placed_[operand]; });
    return ready && placed_or_self(same_[n], n);
  }
  bool placed_or_self(U32 value, U32 n) const { return value == n || placed_[value]; }

  // Places every row of n's layer whose operands are there, then the activations of those rows.
  void place_layer(U32 n) {
    const std::vector<U32>& members = members_[layer_[n]];
    rows_.clear();
    for (U32 row : members) {
      if (placed_[row]) continue;
      bool ready = placed_or_self(same_[row], row);
      p_.for_each_operand(p_.code[row], [&](U32 operand) {
        ready = ready && (placed_[operand] ||
                          (p_.code[operand].code == Code::mul && same_[operand] == operand && is_ready(operand)));
      });
      if (ready) rows_.push_back(row);
    }
    for (U32 row : rows_) p_.for_each_operand(p_.code[row], [&](U32 operand) { place(operand); });
    for (U32 row : rows_) place(row);
    for (U32 row : rows_) {
      const U32 user = user_[row];
      if (uses_[row] != 1 || user == kNone) continue;
      const Code code = p_.code[user].code;
      if (code < Code::table_end && kArity[static_cast<int>(code)] == 1 && is_ready(user)) place(user);
    }
    members_[layer_[n]].clear();  // what could not be placed now stays where it is
  }

  const Program& p_;
  const std::vector<U32>& same_;
  const U32 size_;
  std::vector<U32> uses_, user_, layer_;
  std::vector<std::vector<U32>> members_;
  struct Found {
    U32 rows, products;  // products of the first row
  };
  std::vector<Found> found_;               // layers
  std::vector<std::pair<U32, U32>> sums_;  // sums of products, and the layer of each
  std::vector<U32> order_, rows_;
  std::vector<bool> placed_;
  bool shared_ = false;
};

}  // namespace

std::size_t group_layers(Draft& draft, bool exact) {
  Grouping grouping(draft);
  draft.layers = grouping.find();
  // Gradients that have to keep every bit are added in the order of the instructions.
  if (exact || !grouping.shared()) return draft.layers.dots;
  Program& p = draft.program;
  const std::vector<U32> order = grouping.order();
  std::vector<U32> place(order.size()), same(order.size());
  for (U32 n = 0; n < order.size(); ++n) place[order[n]] = n;
  LargeVector<Instruction> code;
  code.reserve(order.size());
  for (U32 n : order) {
    Instruction i = p.code[n];
    p.map_operands(i, [&](U32 operand) { return place[operand]; });
    same[code.size()] = place[draft.same[n]];
    code.push_back(i);
  }
  p.code = std::move(code);
  draft.same = std::move(same);
  for (U32& o : p.outputs) o = place[o];
  for (Guard& g : p.guards) g.value = place[g.value];
  return draft.layers.dots;
}

}  // namespace tapegrad
