// compile_repeats.cpp: compiles the stages and bodies of a plan for the gradients wanted.
#include <algorithm>

#include "core/replay/dependence.hpp"
#include "core/replay/repeat_code.hpp"

namespace tapegrad {

namespace {

bool is_off(const std::vector<std::string>& off, const char* name) {
  return std::find(off.begin(), off.end(), name) != off.end();
}

Lowering lowering(const RepeatWants& wants) {
  Lowering how;
  how.first_writer_stores = !is_off(wants.off, "first-writer stores");
  how.share_slots = !is_off(wants.off, "slot sharing");
  how.fuse_products = !is_off(wants.off, "fused products");
  how.fuse_functions = !is_off(wants.off, "fused functions");
  return how;
}

// Appends the value 0 whose derivatives by `operands` are `seeds`.
U32 add_carrier(Program& p, const std::vector<U32>& operands, const std::vector<U32>& seeds) {
  const U32 zero = p.add({Code::constant});
  const Instruction carrier{Code::linear, static_cast<U32>(p.pool.size()), static_cast<U32>(operands.size()), zero};
  p.pool.insert(p.pool.end(), operands.begin(), operands.end());
  p.pool.insert(p.pool.end(), seeds.begin(), seeds.end());
  return p.add(carrier);
}

void count_passes(std::vector<PassCount>& all, const std::vector<PassCount>& more) {
  for (const PassCount& c : more) {
    const auto at = std::find_if(all.begin(), all.end(), [&](const PassCount& a) { return a.name == c.name; });
    if (at == all.end())
      all.push_back(c);
    else
      at->count += c.count;
  }
}

}  // namespace

RepeatCode::RepeatCode(const RepeatPlan& plan, const RepeatWants& wants) : plan_(plan) {
  std::vector<bool> varied(plan.places, false);
  for (U32 k = 0; k < plan.params; ++k) varied[k] = wants.params;
  for (U32 k = 0; k < plan.inputs && k < wants.inputs.size(); ++k) varied[plan.params + k] = wants.inputs[k];
  gradients_ = std::find(varied.begin(), varied.end(), true) != varied.end();
  for (const Repeat& r : plan.repeats) last_level_ = std::max(last_level_, r.level);
  const bool hoist = !is_off(wants.off, "uniform subexpressions");
  std::vector<U32> order(plan.repeats.size());
  for (U32 r = 0; r < order.size(); ++r) order[r] = r;
  bodies_.resize(plan.repeats.size());

  for (U32 level = 0; level < plan.stages.size(); ++level) {
    {  // the stage
      const Stage& stage = plan.stages[level];
      Program p = stage.program;
      std::vector<bool> in;
      for (U32 at : stage.inputs) in.push_back(varied[at]);
      const std::vector<bool> by_value = varied_values(p, in, {});
      std::vector<U32> operands, seeds, seed_places;
      for (U32 k = 0; k < stage.outputs.size(); ++k) {
        if (!by_value[p.outputs[k]]) continue;
        varied[stage.outputs[k]] = true;
        operands.push_back(p.outputs[k]);
        seed_places.push_back(stage.outputs[k]);
        seeds.push_back(p.add({Code::input, p.inputs++}));
      }
      Lowering how = lowering(wants);
      how.schedule = !is_off(wants.off, "scheduling");
      how.exact = wants.exact;
      how.forward_only = operands.empty();
      if (!operands.empty()) {
        p.outputs.insert(p.outputs.begin(), add_carrier(p, operands, seeds));
        how.input_gradients = in;
        how.input_gradients.resize(p.inputs, false);
      }
      std::vector<PassCount> counts;
      steps_ += p.code.size();
      const Draft draft = simplify(std::move(p), wants.exact, wants.off, &counts);
      count_passes(counts_, counts);
      layers_.dots += draft.layers.dots;
      layers_.layers += draft.layers.layers;
      StageCode code(&stage, lower(draft, how));
      code.first_output = operands.empty() ? 0 : 1;
      code.seeds = std::move(seed_places);
      for (U32 k = 0; k < in.size() && !operands.empty(); ++k)
        if (in[k]) code.wanted.push_back(k);
      stages_.push_back(std::move(code));
    }
    for (U32 r = 0; r < plan.repeats.size(); ++r) {
      const Repeat& repeat = plan.repeats[r];
      if (repeat.level != level) continue;
      BodyCode& body = bodies_[r];
      body.repeat = &repeat;
      body.run = first_run(repeat.uniforms);
      steps_ += repeat.body.code.size() * repeat.lanes;
      std::vector<bool> by_column, by_uniform;
      for (const Column& c : repeat.columns) {
        BodyCode::ColumnRead read;
        if (c.places.empty()) {
          read.fixed = c.numbers.data();
        } else {
          bool inputs = repeat.lanes > 1;
          const auto step = static_cast<std::int64_t>(c.places[repeat.lanes > 1]) - c.places[0];
          for (U32 k = 0; k < repeat.lanes && inputs; ++k)
            inputs = c.places[k] >= plan.params && c.places[k] < plan.params + plan.inputs &&
                     c.places[k] == c.places[0] + step * k && step >= 0;
          if (inputs) {
            read.input = c.places[0] - plan.params;
            read.stride = static_cast<std::size_t>(step);
          }
          for (U32 at : c.places) read.gradient = read.gradient || varied[at];
        }
        by_column.push_back(read.gradient);
        body.columns.push_back(read);
      }
      for (U32 at : repeat.uniforms) by_uniform.push_back(varied[at]);
      body.uniform_gradients = std::find(by_uniform.begin(), by_uniform.end(), true) != by_uniform.end();
      const std::vector<bool> by_value = varied_values(repeat.body, by_column, by_uniform);

      const auto compile = [&](Program p, const Lowering& how, bool count) {
        Split split = split_uniform(p, std::vector<bool>(p.inputs, true), hoist);
        Lowering own = how;
        own.input_gradients.clear();
        own.forward_only = !how.param_gradients;
        std::vector<PassCount> counts;
        Lowered uniform = lower(simplify(split.uniform, false, wants.off, nullptr), own);
        const Draft draft = simplify(split.lanes, false, wants.off, &counts);
        if (count) {
          count_passes(counts_, counts);
          layers_.dots += draft.layers.dots;
          layers_.layers += draft.layers.layers;
        }
        return std::make_unique<BodyCode::Way>(std::move(split), std::move(uniform), lower_steps(draft, how),
                                               !is_off(wants.off, "layers"));
      };
      body.forward = compile(repeat.body, lowering(wants), true);
      body.lane_outputs = static_cast<U32>(repeat.body.outputs.size());

      const auto sums = static_cast<U32>(repeat.sums.size());
      std::vector<U32> asked;  // outputs of the body that have a gradient
      for (U32 k = 0; k < repeat.body.outputs.size(); ++k) {
        if (!by_value[repeat.body.outputs[k]]) continue;
        asked.push_back(k);
        if (k < sums) {
          varied[repeat.sums[k]] = true;
        } else {
          for (U32 at : repeat.outs[k - sums])
            if (at != kNoPlace) varied[at] = true;
        }
      }
      if (asked.empty()) continue;
      Program p = repeat.body;
      Lowering how = lowering(wants);
      how.forward_only = false;
      how.param_gradients = body.uniform_gradients;
      how.input_gradients = by_column;
      const bool any_column = std::find(by_column.begin(), by_column.end(), true) != by_column.end();
      body.direct = asked.size() == 1 && asked[0] < sums;
      if (body.direct) {
        body.direct_output = asked[0];
        std::swap(p.outputs[0], p.outputs[asked[0]]);
        for (U32 k = 0; k < p.outputs.size(); ++k) body.outputs.push_back(k);
        std::swap(body.outputs[0], body.outputs[asked[0]]);
      } else {
        std::vector<U32> operands, seeds;
        for (U32 k : asked) {
          operands.push_back(p.outputs[k]);
          if (k < sums) {
            body.sum_seeds.push_back(k);
            seeds.push_back(p.add({Code::param, p.params++}));
          } else {
            body.out_seeds.push_back(k - sums);
            seeds.push_back(p.add({Code::input, p.inputs++}));
            how.input_gradients.push_back(false);
          }
        }
        p.outputs.insert(p.outputs.begin(), add_carrier(p, operands, seeds));
        for (U32 k = 1; k < p.outputs.size(); ++k) body.outputs.push_back(k);
        body.lane_outputs = static_cast<U32>(p.outputs.size());
      }
      if (!any_column) how.input_gradients.clear();
      body.both = compile(std::move(p), how, false);
    }
  }

  // Whether the last bodies' seeds can be known before they run, and that is not dearer than running them twice.
  if (gradients_ && last_level_ + 1 < plan.stages.size()) {
    const Stage& last = plan.stages[last_level_ + 1];
    std::vector<bool> unknown(last.program.inputs, false);
    made_.assign(plan.places, false);
    std::size_t lane_work = 0;
    for (const Repeat& r : plan.repeats) {
      if (r.level != last_level_) continue;
      lane_work += r.body.code.size() * r.lanes / 8;
      for (U32 at : r.sums) made_[at] = true;
      for (const auto& out : r.outs)
        for (U32 at : out)
          if (at != kNoPlace) made_[at] = true;
    }
    for (U32 k = 0; k < last.inputs.size(); ++k) unknown[k] = made_[last.inputs[k]];
    early_ = is_affine(last.program, unknown) && last.program.code.size() < 2 * lane_work;
  }
}

}  // namespace tapegrad
