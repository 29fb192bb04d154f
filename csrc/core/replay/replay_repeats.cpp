// replay_repeats.cpp: compiles stages and bodies for the gradients wanted, and runs them in order.
#include "core/replay/replay_repeats.hpp"

#include <algorithm>

#include "core/lanes/lanes.hpp"
#include "core/replay/lower.hpp"

namespace tapegrad {

namespace {

using U32 = std::uint32_t;

bool is_off(const std::vector<std::string>& off, const char* name) {
  return std::find(off.begin(), off.end(), name) != off.end();
}

Lowering lowering(const RepeatWants& wants) {
  Lowering how;
  how.first_writer_stores = !is_off(wants.off, "first-writer stores");
  how.share_slots = !is_off(wants.off, "slot sharing");
  how.fuse_products = !is_off(wants.off, "fused products");
  return how;
}

// Which values have a gradient, given which inputs and params have one.
std::vector<bool> varied_values(const Program& p, const std::vector<bool>& inputs, const std::vector<bool>& params) {
  std::vector<bool> varied(p.code.size(), false);
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    switch (i.code) {
      case Code::input:
        varied[n] = inputs[i.a];
        break;
      case Code::param:
        varied[n] = params[i.a];
        break;
      case Code::select:
        varied[n] = varied[i.b] || varied[i.c];
        break;
      case Code::linear:
        for (U32 k = 0; k < i.b; ++k) varied[n] = varied[n] || varied[p.pool[i.a + k]];
        break;
      case Code::constant:
      case Code::detach:
      case Code::less:
      case Code::less_equal:
      case Code::equal:
        break;
      default:
        p.for_each_operand(i, [&](U32 operand) { varied[n] = varied[n] || varied[operand]; });
    }
  }
  return varied;
}

// Whether no partial derivative of the program depends on the marked inputs.
bool is_affine(const Program& p, const std::vector<bool>& inputs) {
  std::vector<bool> depends(p.code.size(), false);
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    if (i.code == Code::input) depends[n] = inputs[i.a];
    p.for_each_operand(i, [&](U32 operand) { depends[n] = depends[n] || depends[operand]; });
    if (!depends[n]) continue;
    switch (i.code) {
      case Code::input:
      case Code::add:
      case Code::sum:
      case Code::detach:
      case Code::less:
      case Code::less_equal:
      case Code::equal:
        break;
      case Code::mul:
        if (depends[i.a] && depends[i.b]) return false;
        break;
      case Code::div:
        if (depends[i.b]) return false;
        break;
      case Code::select:
        if (depends[i.a]) return false;
        break;
      case Code::linear:
        for (U32 k = 0; k < i.b; ++k)
          if (depends[p.pool[i.a + i.b + k]]) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

// Appends the value 0 whose derivatives by `operands` are `seeds`.
U32 add_carrier(Program& p, const std::vector<U32>& operands, const std::vector<U32>& seeds) {
  const U32 zero = p.add({Code::constant});
  const Instruction carrier{Code::linear, static_cast<U32>(p.pool.size()), static_cast<U32>(operands.size()), zero};
  p.pool.insert(p.pool.end(), operands.begin(), operands.end());
  p.pool.insert(p.pool.end(), seeds.begin(), seeds.end());
  return p.add(carrier);
}

// How many of the first places lie next to each other: parameters do, mostly, and are then copied as one.
std::size_t first_run(const std::vector<U32>& places) {
  std::size_t run = std::min<std::size_t>(places.size(), 1);
  while (run < places.size() && places[run] == places[run - 1] + 1) ++run;
  return run;
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

// A stage with its gradients; `wanted` are positions in inputs.
struct RepeatCode::StageCode {
  const Stage* stage;
  Lowered lowered;
  ScalarCode code;
  U32 first_output = 0;     // of the lowered program: 1 after the carrier
  std::vector<U32> seeds;   // places whose gradients the stage takes, in the order of its last inputs
  std::vector<U32> wanted;  // positions in stage->inputs whose gradients it gives
  std::size_t run;          // of the inputs
  StageCode(const Stage* s, Lowered l) : stage(s), lowered(std::move(l)), code(lowered), run(first_run(s->inputs)) {}
};

struct RepeatCode::BodyCode {
  // How a column is read: in place, or gathered.
  struct ColumnRead {
    const double* fixed = nullptr;
    U32 input = kNoPlace;  // the input of the first lane, with its stride
    std::size_t stride = 1;
    bool gradient = false;
  };
  // One way to run the body: what lanes share is computed once, then the lanes.
  struct Way {
    Split split;
    Lowered uniform;
    ScalarCode uniform_code;
    LaneCode lanes;
    Way(Split s, Lowered u, const Lowered& l, bool layers)
        : split(std::move(s)), uniform(std::move(u)), uniform_code(uniform), lanes(l, layers) {}
  };
  const Repeat* repeat = nullptr;
  std::unique_ptr<Way> forward, both;  // both is null where nothing wanted depends on the body
  std::vector<ColumnRead> columns;
  // Of `both`: outputs of the lanes by output of the body, and where seeds come from.
  bool direct = false;  // the only gradient is that of the first output: a number for all lanes
  U32 direct_output = 0;
  std::vector<U32> sum_seeds;  // sums whose gradients are params after the uniforms
  std::vector<U32> out_seeds;  // outs whose gradients are columns after the columns
  std::vector<U32> outputs;    // output of the lanes for each output of the body
  U32 lane_outputs = 0;
  bool uniform_gradients = false;
  std::size_t run = 0;  // of the uniforms
};

struct RepeatCode::Memory {
  std::vector<double> places, gradients;
  std::vector<std::vector<double>> stages;
  struct Body {
    std::vector<double> params, param_gradients, uniform, columns, column_gradients, outputs;
  };
  std::vector<Body> bodies;
  std::vector<const double*> data;
  std::vector<std::size_t> strides, ones;
  std::vector<double*> outputs, column_gradients;
};

RepeatCode::~RepeatCode() = default;

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

std::unique_ptr<RepeatCode::Memory> RepeatCode::take_memory() const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!spare_.empty()) {
      std::unique_ptr<Memory> m = std::move(spare_.back());
      spare_.pop_back();
      return m;
    }
  }
  auto m = std::make_unique<Memory>();
  m->places.assign(plan_.places, 0.0);
  m->gradients.assign(plan_.places, 0.0);
  for (const auto& [at, number] : plan_.constants) m->places[at] = number;
  for (const StageCode& s : stages_) {
    m->stages.emplace_back(s.code.slots());
    s.code.prepare(m->stages.back().data());
  }
  std::size_t most = 1;
  for (const BodyCode& b : bodies_) {
    Memory::Body body;
    const std::size_t lanes = b.repeat->lanes;
    body.columns.assign((b.columns.size() + b.out_seeds.size()) * lanes, 0.0);
    body.column_gradients.assign(b.columns.size() * lanes, 0.0);
    body.outputs.assign(b.lane_outputs * lanes, 0.0);
    most = std::max({most, b.columns.size() + b.out_seeds.size()});
    m->bodies.push_back(std::move(body));
  }
  m->ones.assign(most, 1);
  return m;
}

// False if given up.
bool RepeatCode::run_bodies(Memory& memory, std::uint32_t level, Part part, const Run& whole) const {
  const double* inputs = whole.inputs;
  const bool gradients = part == Part::gradients;
  for (std::size_t b = 0; b < bodies_.size(); ++b) {
    const BodyCode& body = bodies_[b];
    const Repeat& repeat = *body.repeat;
    if (repeat.level != level) continue;
    if (part != Part::values && (part == Part::gradients) != (body.both != nullptr)) continue;
    const BodyCode::Way& way = gradients ? *body.both : *body.forward;
    Memory::Body& m = memory.bodies[b];
    const std::size_t lanes = repeat.lanes;
    const auto gather = [&](const std::vector<U32>& places, const std::vector<double>& from, double* to,
                            std::size_t start = 0) {
      for (std::size_t k = start; k < places.size(); ++k) to[k] = places[k] == kNoPlace ? 0.0 : from[places[k]];
    };

    const Split& split = way.split;
    m.params.resize(split.lanes.params);
    if (body.run) std::copy_n(memory.places.data() + repeat.uniforms[0], body.run, m.params.data());
    gather(repeat.uniforms, memory.places, m.params.data(), body.run);
    std::size_t top = repeat.uniforms.size();
    if (gradients)
      for (U32 k : body.sum_seeds) m.params[top++] = memory.gradients[repeat.sums[k]];
    if (split.shared) {
      m.uniform.resize(way.uniform_code.slots());
      way.uniform_code.prepare(m.uniform.data());
      std::copy_n(m.params.begin(), top, m.uniform.begin() + way.uniform.param_base);
      way.uniform_code.forward(m.uniform.data());
      for (U32 k = 0; k < split.shared; ++k) m.params[top + k] = m.uniform[way.uniform.outputs[k + 1]];
    }

    memory.data.clear();
    memory.strides.clear();
    memory.column_gradients.clear();
    for (std::size_t k = 0; k < body.columns.size(); ++k) {
      const BodyCode::ColumnRead& read = body.columns[k];
      if (read.fixed) {
        memory.data.push_back(read.fixed);
        memory.strides.push_back(1);
      } else if (read.input != kNoPlace) {
        memory.data.push_back(inputs + read.input);
        memory.strides.push_back(read.stride);
      } else {
        double* to = m.columns.data() + k * lanes;
        gather(repeat.columns[k].places, memory.places, to);
        memory.data.push_back(to);
        memory.strides.push_back(1);
      }
      memory.column_gradients.push_back(read.gradient ? m.column_gradients.data() + k * lanes : nullptr);
    }
    if (gradients) {
      for (std::size_t k = 0; k < body.out_seeds.size(); ++k) {
        double* to = m.columns.data() + (body.columns.size() + k) * lanes;
        gather(repeat.outs[body.out_seeds[k]], memory.gradients, to);
        memory.data.push_back(to);
        memory.strides.push_back(1);
        memory.column_gradients.push_back(nullptr);
      }
    }
    memory.outputs.clear();
    const std::size_t output_count = gradients ? body.lane_outputs : repeat.body.outputs.size();
    for (std::size_t k = 0; k < output_count; ++k) memory.outputs.push_back(m.outputs.data() + k * lanes);

    LaneRun run;
    run.lanes = lanes;
    run.params = m.params.data();
    run.inputs = memory.data.data();
    run.input_strides = memory.strides.data();
    run.outputs = memory.outputs.data();
    if (gradients) {
      m.param_gradients.resize(split.lanes.params);
      run.param_gradients = body.uniform_gradients ? m.param_gradients.data() : nullptr;
      run.input_gradients = memory.column_gradients.data();
      run.gradient_strides = memory.ones.data();
      if (body.direct) run.seed = memory.gradients[repeat.sums[body.direct_output]];
    }
    run.interrupt = whole.interrupt;
    run.interrupt_context = whole.interrupt_context;
    LaneGuards guards;
    way.lanes.run(run, &guards);
    if (guards.interrupted) return false;

    for (std::size_t k = 0; k < repeat.body.outputs.size(); ++k) {
      const double* from = m.outputs.data() + (gradients ? body.outputs[k] : k) * lanes;
      if (k < repeat.sums.size()) {
        memory.places[repeat.sums[k]] = lanes::sum(lanes, from);
        continue;
      }
      const std::vector<U32>& to = repeat.outs[k - repeat.sums.size()];
      for (std::size_t i = 0; i < lanes; ++i)
        if (to[i] != kNoPlace) memory.places[to[i]] = from[i];
    }
    if (!gradients) continue;
    for (std::size_t k = 0; k < body.columns.size(); ++k) {
      if (!body.columns[k].gradient) continue;
      const double* from = m.column_gradients.data() + k * lanes;
      const std::vector<U32>& to = repeat.columns[k].places;
      for (std::size_t i = 0; i < lanes; ++i) memory.gradients[to[i]] += from[i];
    }
    if (!body.uniform_gradients) continue;
    const double* by_uniform = m.param_gradients.data();
    if (split.shared && way.uniform.seed != kNoSlot) {
      double* u = m.uniform.data();
      for (U32 k = 0; k < split.shared; ++k) u[way.uniform.input_base + k] = m.param_gradients[top + k];
      std::copy_n(m.param_gradients.begin(), top, u + way.uniform.param_gradients);
      u[way.uniform.seed] = 1.0;
      way.uniform_code.backward(u);
      by_uniform = u + way.uniform.param_gradients;
    }
    double* sums = memory.gradients.data() + (body.run ? repeat.uniforms[0] : 0);
    for (std::size_t k = 0; k < body.run; ++k) sums[k] += by_uniform[k];
    for (std::size_t k = body.run; k < repeat.uniforms.size(); ++k)
      memory.gradients[repeat.uniforms[k]] += by_uniform[k];
  }
  return true;
}

bool RepeatCode::run(const Run& run) const {
  std::unique_ptr<Memory> memory = take_memory();
  const bool finished = run_in(*memory, run);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.size() < 8) spare_.push_back(std::move(memory));
  return finished;
}

// A run in memory of which it needs nothing but the constants.
bool RepeatCode::run_in(Memory& m, const Run& run) const {
  std::copy_n(run.params, plan_.params, m.places.begin());
  std::copy_n(run.inputs, plan_.inputs, m.places.begin() + plan_.params);
  const auto gives_up = [&] { return run.interrupt && run.interrupt(run.interrupt_context); };

  const auto forward = [&](const StageCode& s, std::vector<double>& slots) {
    double* in = slots.data() + s.lowered.input_base;
    const std::vector<U32>& from = s.stage->inputs;
    if (s.run) std::copy_n(m.places.data() + from[0], s.run, in);
    for (std::size_t k = s.run; k < from.size(); ++k) in[k] = m.places[from[k]];
    s.code.forward(slots.data());
    for (std::size_t k = 0; k < s.stage->outputs.size(); ++k)
      m.places[s.stage->outputs[k]] = slots[s.lowered.outputs[k + s.first_output]];
  };
  // The gradients of the stage's inputs that `take` accepts are added to those of their places.
  const auto backward = [&](const StageCode& s, std::vector<double>& slots, auto take) {
    if (s.lowered.seed == kNoSlot) return;
    double* seeds = slots.data() + s.lowered.input_base + s.stage->inputs.size();
    for (U32 at : s.seeds) *seeds++ = m.gradients[at];
    double* g = slots.data() + s.lowered.input_gradients;
    std::fill(g, g + s.lowered.inputs, 0.0);
    slots[s.lowered.seed] = 1.0;
    s.code.backward(slots.data());
    for (U32 k : s.wanted)
      if (take(s.stage->inputs[k])) m.gradients[s.stage->inputs[k]] += g[k];
  };

  const bool wanted = gradients_ && (run.param_gradients || run.input_gradients);
  const bool early = wanted && early_;
  if (wanted) {
    std::fill(m.gradients.begin(), m.gradients.end(), 0.0);
    m.gradients[plan_.outputs[0]] = 1.0;
  }
  for (U32 level = 0; level < stages_.size(); ++level) {
    if (gives_up()) return false;
    forward(stages_[level], m.stages[level]);
    if (level > last_level_) continue;
    if (level == last_level_ && early) {
      // The last stage once with whatever values: it gives the seeds, which do not depend on them.
      forward(stages_[level + 1], m.stages[level + 1]);
      backward(stages_[level + 1], m.stages[level + 1], [&](U32 at) { return made_[at]; });
      if (!run_bodies(m, level, Part::other_values, run) || !run_bodies(m, level, Part::gradients, run)) return false;
    } else if (!run_bodies(m, level, Part::values, run)) {
      return false;
    }
  }
  for (std::size_t k = 0; run.outputs && k < plan_.outputs.size(); ++k) run.outputs[k] = m.places[plan_.outputs[k]];
  for (std::size_t k = 0; run.guarded && k < plan_.guards.size(); ++k) run.guarded[k] = m.places[plan_.guards[k]];
  if (wanted) {
    for (U32 level = static_cast<U32>(stages_.size()); level-- > 0;) {
      if (gives_up()) return false;
      if (level <= last_level_ && !(early && level == last_level_) && !run_bodies(m, level, Part::gradients, run))
        return false;
      if (early && level == last_level_ + 1)
        backward(stages_[level], m.stages[level], [&](U32 at) { return !made_[at]; });
      else
        backward(stages_[level], m.stages[level], [](U32) { return true; });
    }
  }
  if (run.param_gradients) std::copy_n(m.gradients.begin(), plan_.params, run.param_gradients);
  if (run.input_gradients) std::copy_n(m.gradients.begin() + plan_.params, plan_.inputs, run.input_gradients);
  return true;
}

}  // namespace tapegrad
