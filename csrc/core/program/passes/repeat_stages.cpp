// repeat_stages.cpp: what is not repeated becomes scalar stages; what stages and repeats hand on gets places.
#include <algorithm>
#include <unordered_map>

#include "core/program/passes/repeat_finder.hpp"

namespace tapegrad::repeats {

namespace {

class Planner {
 public:
  Planner(const Program& p, Findings found, RepeatPlan* plan)
      : p_(p), f_(std::move(found)), plan_(*plan), size_(static_cast<U32>(p.code.size())) {}

  bool run() {
    chain_at_.reserve(f_.chains.size());
    for (U32 c = 0; c < f_.chains.size(); ++c) chain_at_[f_.chains[c].end] = c;
    for (U32 n = 0; n < size_; ++n) {
      plan_.rolled += f_.owner[n] != kNone || f_.dropped[n];
      if (!is_leaf(p_.code[n].code) && f_.owner[n] == kNone && !f_.dropped[n]) rest_.push_back(n);
    }
    if (!find_levels()) return false;
    give_places();
    write_stages();
    return true;
  }

 private:
  template <typename F>  // the values that an outside value is computed from, sums over lanes apart
  void for_each_value(U32 n, F f) const {
    const auto chain = chain_at_.find(n);
    if (chain == chain_at_.end()) return p_.for_each_operand(p_.code[n], f);
    const Chain& c = f_.chains[chain->second];
    for (U32 k = 0; k < c.terms.size(); ++k)
      if (!c.taken[k]) f(c.terms[k]);
  }

  U32 level_of(U32 value) const {
    if (is_leaf(p_.code[value].code)) return 0;
    return f_.owner[value] != kNone ? f_.repeats[f_.owner[value]].level + 1 : level_[value];
  }

  bool find_levels() {
    level_ = Scratch<U32>(size_, 0);
    for (std::size_t turn = 0; turn < f_.repeats.size() + 2; ++turn) {
      bool changed = false;
      const auto raise = [&](U32& level, U32 to) {
        changed = changed || level < to;
        level = std::max(level, to);
      };
      for (U32 n : rest_) {
        U32 level = 0;
        for_each_value(n, [&](U32 v) { level = std::max(level, level_of(v)); });
        const auto chain = chain_at_.find(n);
        if (chain != chain_at_.end())
          for (const auto& [repeat, output] : f_.chains[chain->second].summed)
            level = std::max(level, f_.repeats[repeat].level + 1);
        raise(level_[n], level);
      }
      for (Repeat& r : f_.repeats) {
        U32 level = 0;
        for (U32 v : r.uniforms) level = std::max(level, level_of(v));
        for (const Column& c : r.columns)
          for (U32 v : c.places) level = std::max(level, level_of(v));
        raise(r.level, level);
      }
      if (!changed) return true;
    }
    return false;
  }

  U32 place(U32 value) {
    U32& p = place_[value];
    const Instruction& i = p_.code[value];
    if (i.code == Code::param) return i.a;
    if (i.code == Code::input) return p_.params + i.a;
    if (p == kNoPlace) {
      p = plan_.places++;
      if (i.code == Code::constant) plan_.constants.push_back({p, i.number});
    }
    return p;
  }

  void give_places() {
    plan_.params = p_.params;
    plan_.inputs = p_.inputs;
    plan_.places = p_.params + p_.inputs;
    place_ = Scratch<U32>(size_, kNoPlace);
    for (U32 n : rest_)
      for_each_value(n, [&](U32 v) {
        if (!is_leaf(p_.code[v].code) && (f_.owner[v] != kNone || level_[v] != level_[n])) place(v);
      });
    for (U32 o : p_.outputs) plan_.outputs.push_back(place(o));
    for (const Guard& g : p_.guards) plan_.guards.push_back(place(g.value));
    for (Repeat& r : f_.repeats) {
      for (U32& v : r.uniforms) v = place(v);
      for (Column& c : r.columns)
        for (U32& v : c.places) v = place(v);
    }
    for (Repeat& r : f_.repeats) {
      for (U32& s : r.sums) s = plan_.places++;
      for (auto& out : r.outs)
        for (U32& v : out) v = v == kNone ? kNoPlace : place_[v];
    }
  }

  void write_stages() {
    U32 levels = 0;
    for (U32 n : rest_) levels = std::max(levels, level_[n] + 1);
    for (const Repeat& r : f_.repeats) levels = std::max(levels, r.level + 2);
    std::vector<std::vector<U32>> by_level(levels);
    for (U32 n : rest_) by_level[level_[n]].push_back(n);
    in_stage_ = Scratch<U32>(size_, kNone);
    for (U32 level = 0; level < levels; ++level) plan_.stages.push_back(write_stage(by_level[level], level));
    plan_.repeats = std::move(f_.repeats);
  }

  Stage write_stage(const std::vector<U32>& values, U32 level) {
    Stage s;
    std::unordered_map<U32, U32> read;  // value of the stage by place
    std::vector<U32> leaves;
    const auto from_place = [&](U32 at) {
      const auto [found, fresh] = read.try_emplace(at, 0);
      if (fresh) {
        found->second = s.program.add({Code::input, static_cast<U32>(s.inputs.size())});
        s.inputs.push_back(at);
      }
      return found->second;
    };
    const auto value_of = [&](U32 v) {
      if (in_stage_[v] != kNone) return in_stage_[v];
      if (p_.code[v].code == Code::constant) {
        leaves.push_back(v);
        return in_stage_[v] = s.program.add({Code::constant, 0, 0, 0, p_.code[v].number});
      }
      if (is_leaf(p_.code[v].code) || f_.owner[v] != kNone || level_[v] != level) {
        leaves.push_back(v);
        return in_stage_[v] = from_place(place(v));
      }
      return in_stage_[v];
    };
    std::vector<U32> operands;
    for (U32 n : values) {
      Instruction i = p_.code[n];
      const auto chain = chain_at_.find(n);
      if (chain != chain_at_.end()) {
        const Chain& c = f_.chains[chain->second];
        operands.clear();
        for_each_value(n, [&](U32 v) { operands.push_back(value_of(v)); });
        for (const auto& [repeat, output] : c.summed) operands.push_back(from_place(f_.repeats[repeat].sums[output]));
        if (operands.size() == 2) {
          i = {Code::add, operands[0], operands[1]};
        } else {
          i = {Code::sum, static_cast<U32>(s.program.pool.size()), static_cast<U32>(operands.size())};
          s.program.pool.insert(s.program.pool.end(), operands.begin(), operands.end());
        }
      } else if (i.code == Code::sum || i.code == Code::linear) {
        operands.clear();
        const U32 count = operand_count(i);
        for (U32 k = 0; k < count; ++k) operands.push_back(value_of(operand_of(p_, i, k)));
        const bool linear = i.code == Code::linear;
        if (linear) i.c = operands[0];
        i.a = static_cast<U32>(s.program.pool.size());
        s.program.pool.insert(s.program.pool.end(), operands.begin() + linear, operands.end());
      } else {
        s.program.map_operands(i, value_of);
      }
      in_stage_[n] = s.program.add(i);
      if (place_[n] != kNoPlace) {
        s.program.outputs.push_back(in_stage_[n]);
        s.outputs.push_back(place_[n]);
      }
    }
    s.program.inputs = static_cast<U32>(s.inputs.size());
    for (U32 v : leaves) in_stage_[v] = kNone;
    for (U32 v : values) in_stage_[v] = kNone;
    return s;
  }

  const Program& p_;
  Findings f_;
  RepeatPlan& plan_;
  const U32 size_;
  std::vector<U32> rest_;  // values that stay scalar
  Scratch<U32> level_, place_, in_stage_;
  std::unordered_map<U32, U32> chain_at_;
};

}  // namespace

bool plan_stages(const Program& p, Findings found, RepeatPlan* plan) {
  return Planner(p, std::move(found), plan).run();
}

}  // namespace tapegrad::repeats
