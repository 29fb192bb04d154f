// repeat_bodies.cpp: from blocks with the same operations to one body over lanes, operand by operand.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "core/program/passes/repeat_finder.hpp"

namespace tapegrad::repeats {

namespace {

constexpr std::size_t kMaxChoices = 64;  // values of the block that one operand may choose from

std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

std::uint64_t mix(std::uint64_t h, std::uint64_t part) {
  h = (h ^ part) * 0xBF58476D1CE4E5B9u;
  return h ^ (h >> 29);
}

class BodyBuilder {
 public:
  BodyBuilder(const Program& p, const Blocks& blocks, const Scratch<Spot>& spots)
      : p_(p), blocks_(blocks), spots_(spots), lanes_(blocks.lanes.size()), operands_(lanes_) {
    out_.lanes = static_cast<U32>(lanes_);
    in_body_.resize(blocks.size);
    most_choices_ = 16 + blocks.size / 2;
  }

  std::optional<Repeat> build(const std::vector<std::vector<U32>>& outputs, Miss* miss) {
    bool sound = compare();
    U32 slot = 0;
    for (U32 position = 0; sound && position < blocks_.size; ++position) sound = add(position, &slot);
    if (!sound) {
      *miss = miss_;
      return std::nullopt;
    }
    for (const std::vector<U32>& positions : outputs) {
      if (positions.size() == 1) {
        body_.outputs.push_back(in_body_[positions[0]]);
        continue;
      }
      const auto start = static_cast<U32>(body_.pool.size());
      for (U32 position : positions) body_.pool.push_back(in_body_[position]);
      body_.outputs.push_back(body_.add({Code::sum, start, static_cast<U32>(positions.size())}));
    }
    body_.inputs = static_cast<U32>(out_.columns.size());
    body_.params = static_cast<U32>(out_.uniforms.size());
    out_.body = std::move(body_);
    return std::move(out_);
  }

 private:
  // What an operand is in a lane: a position of the block, or past all positions a value of the program.
  std::uint64_t symbol(std::size_t lane, U32 operand) const {
    const Spot spot = spots_[operand];
    return spot.lane == lane ? spot.position : std::uint64_t{blocks_.size} + operand;
  }

  // Lane by lane against the first: notes which operands differ. False where an operation does.
  bool compare() {
    for (U32 position = 0; position < blocks_.size; ++position) {
      const Instruction& i = p_.code[blocks_.at(0, position)];
      const U32 count = operand_count(i);
      for (U32 s = 0; s < count; ++s) model_.push_back(symbol(blocks_.lanes[0], operand_of(p_, i, s)));
    }
    differs_.assign(model_.size(), 0);
    for (std::size_t k = 1; k < lanes_; ++k) {
      const std::uint64_t* model = model_.data();
      std::uint8_t* differs = differs_.data();
      const U32 lane = blocks_.lanes[k];
      for (U32 position = 0; position < blocks_.size; ++position) {
        const Instruction& first = p_.code[blocks_.at(0, position)];
        const Instruction& i = p_.code[blocks_.at(k, position)];
        if (!same_operation(first, i)) {
          miss_ = {Miss::Kind::operation, static_cast<U32>(lanes_), blocks_.size, lane, position};
          miss_.value = blocks_.at(k, position);
          miss_.expected = blocks_.at(0, position);
          return false;
        }
        const U32 count = operand_count(i);
        for (U32 s = 0; s < count; ++s) *differs++ |= symbol(lane, operand_of(p_, i, s)) != *model++;
      }
    }
    return true;
  }

  bool add(U32 position, U32* slot_index) {
    Instruction i = p_.code[blocks_.at(0, position)];
    const bool pools = i.code == Code::sum || i.code == Code::linear;
    const U32 count = operand_count(i);
    std::vector<U32> pooled;
    U32 values[3] = {i.a, i.b, i.c};
    for (U32 slot = 0; slot < count; ++slot, ++*slot_index) {
      U32 value;
      if (!operand(position, slot, *slot_index, &value)) return false;
      if (pools)
        pooled.push_back(value);
      else
        values[slot] = value;
    }
    if (pools) {
      const bool linear = i.code == Code::linear;
      if (linear) i.c = pooled[0];
      i.a = static_cast<U32>(body_.pool.size());
      body_.pool.insert(body_.pool.end(), pooled.begin() + linear, pooled.end());
    } else {
      i.a = values[0], i.b = values[1], i.c = values[2];
    }
    in_body_[position] = body_.add(i);
    return true;
  }

  bool operand(U32 position, U32 slot, U32 slot_index, U32* value) {
    if (!differs_[slot_index]) {
      const std::uint64_t model = model_[slot_index];
      *value = model < blocks_.size ? in_body_[model] : shared(static_cast<U32>(model - blocks_.size));
      return true;
    }
    bool any_local = false, all_constant = true;
    for (std::size_t k = 0; k < lanes_; ++k) {
      operands_[k] = operand_of(p_, p_.code[blocks_.at(k, position)], slot);
      any_local = any_local || is_local(k);
      all_constant = all_constant && p_.code[operands_[k]].code == Code::constant;
    }
    if (any_local) return choice(position, slot, value);
    *value = all_constant ? numbers() : column({{}, operands_});
    return true;
  }

  bool is_local(std::size_t k) const { return spots_[operands_[k]].lane == blocks_.lanes[k]; }

  // One value for all lanes from outside the blocks.
  U32 shared(U32 node) {
    if (p_.code[node].code == Code::constant) return constant(p_.code[node].number);
    const auto [at, fresh] = uniforms_.try_emplace(node, 0);
    if (fresh) {
      at->second = body_.add({Code::param, static_cast<U32>(out_.uniforms.size())});
      out_.uniforms.push_back(node);
    }
    return at->second;
  }

  U32 constant(double x) {
    const auto [at, fresh] = constants_.try_emplace(bits_of(x), 0);
    if (fresh) at->second = body_.add({Code::constant, 0, 0, 0, x});
    return at->second;
  }

  U32 numbers() {
    const double first = p_.code[operands_[0]].number;
    bool all = true;
    std::vector<double> numbers(lanes_);
    for (std::size_t k = 0; k < lanes_; ++k) {
      numbers[k] = p_.code[operands_[k]].number;
      all = all && bits_of(numbers[k]) == bits_of(first);
    }
    return all ? constant(first) : column({std::move(numbers), {}});
  }

  U32 column(Column c) {
    std::uint64_t h = c.places.size();
    for (double x : c.numbers) h = mix(h, bits_of(x));
    for (U32 x : c.places) h = mix(h, x);
    const auto same = [&](const Column& other) {
      return other.places == c.places && other.numbers.size() == c.numbers.size() &&
             (c.numbers.empty() ||  // by bits: zeros differ in sign
              !std::memcmp(other.numbers.data(), c.numbers.data(), c.numbers.size() * sizeof(double)));
    };
    const auto [begin, end] = columns_.equal_range(h);
    for (auto at = begin; at != end; ++at)
      if (same(out_.columns[at->second.first])) return at->second.second;
    const auto index = static_cast<U32>(out_.columns.size());
    const U32 value = body_.add({Code::input, index});
    columns_.emplace(h, std::make_pair(index, value));
    out_.columns.push_back(std::move(c));
    return value;
  }

  // The lanes read different values of their block: the body computes them all and selects, by columns of 0 and 1.
  bool choice(U32 position, U32 slot, U32* value) {
    std::vector<U32> which(lanes_);  // a position in the block; blocks_.size for a value from outside
    std::vector<U32> outside(lanes_, kNone);
    std::vector<U32> choices;
    U32 example = kNone;
    for (std::size_t k = 0; k < lanes_; ++k) {
      which[k] = is_local(k) ? spots_[operands_[k]].position : blocks_.size;
      if (which[k] == blocks_.size) outside[k] = example = operands_[k];
      if (std::find(choices.begin(), choices.end(), which[k]) == choices.end()) choices.push_back(which[k]);
      if (choices.size() > kMaxChoices) break;
    }
    std::uint64_t h = 1;
    for (std::size_t k = 0; k < lanes_; ++k) h = mix(mix(h, which[k]), outside[k]);
    const auto known = chosen_.find(h);
    if (known != chosen_.end() && known->second.first == std::make_pair(which, outside)) {
      *value = known->second.second;
      return true;
    }
    most_choices_ -= std::min(most_choices_, choices.size() - 1);
    if (choices.size() > kMaxChoices || !most_choices_) {
      std::size_t k = 1;
      while (k + 1 < lanes_ && which[k] == which[0]) ++k;
      miss_ = {Miss::Kind::operand, static_cast<U32>(lanes_), blocks_.size, blocks_.lanes[k], position, slot};
      miss_.value = blocks_.at(k, position);
      miss_.expected = blocks_.at(0, position);
      miss_.taken = operands_[k];
      miss_.pattern = operands_[0];
      return false;
    }
    std::sort(choices.begin(), choices.end());
    U32 result = kNone;
    for (U32 c : choices) {
      U32 candidate;
      if (c == blocks_.size) {
        std::vector<U32> filled = outside;
        for (U32& o : filled) o = o == kNone ? example : o;
        const bool one = std::all_of(filled.begin(), filled.end(), [&](U32 o) { return o == example; });
        candidate = one ? shared(example) : column({{}, std::move(filled)});
      } else {
        candidate = in_body_[c];
      }
      if (result == kNone) {
        result = candidate;
        continue;
      }
      std::vector<double> mask(lanes_);
      for (std::size_t k = 0; k < lanes_; ++k) mask[k] = which[k] == c ? 1.0 : 0.0;
      const U32 condition = column({std::move(mask), {}});
      result = body_.add({Code::select, condition, candidate, result});
    }
    chosen_.insert_or_assign(h, std::make_pair(std::make_pair(std::move(which), std::move(outside)), result));
    *value = result;
    return true;
  }

  const Program& p_;
  const Blocks& blocks_;
  const Scratch<Spot>& spots_;
  const std::size_t lanes_;
  Repeat out_;
  Program body_;
  Miss miss_{};
  std::vector<std::uint64_t> model_;   // symbols of the first lane's operands, operation by operation
  std::vector<std::uint8_t> differs_;  // whether another lane has another
  std::vector<U32> operands_;          // the operand at hand, one a lane
  std::vector<U32> in_body_;           // value of the body by position
  std::size_t most_choices_;
  std::unordered_map<U32, U32> uniforms_;
  std::unordered_map<std::uint64_t, U32> constants_;
  std::unordered_multimap<std::uint64_t, std::pair<U32, U32>> columns_;
  std::unordered_map<std::uint64_t, std::pair<std::pair<std::vector<U32>, std::vector<U32>>, U32>> chosen_;
};

}  // namespace

std::optional<Repeat> build_body(const Program& p, const Blocks& blocks, const Scratch<Spot>& spots,
                                 const std::vector<std::vector<U32>>& outputs, Miss* miss) {
  return BodyBuilder(p, blocks, spots).build(outputs, miss);
}

}  // namespace tapegrad::repeats
