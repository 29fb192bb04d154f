// replay_bodies.cpp: runs the bodies of a level over their lanes: gathers what they read, and hands on values, sums and
// gradients.
#include <algorithm>

#include "core/lanes/lanes.hpp"
#include "core/replay/repeat_code.hpp"

namespace tapegrad {

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

}  // namespace tapegrad
