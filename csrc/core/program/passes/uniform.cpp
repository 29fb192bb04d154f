// uniform.cpp: parts off what depends on parameters, constants and unbatched inputs only: it is computed once a call,
// not in each lane.
#include "core/program/passes/passes.hpp"

namespace tapegrad {

namespace {

// Copies an instruction into another program, operands renamed by `rename`.
template <typename Rename>
std::uint32_t copy(const Program& from, Instruction i, Program& to, Rename rename) {
  if (i.code == Code::sum || i.code == Code::linear) {
    const std::uint32_t length = i.code == Code::sum ? i.b : 2 * i.b;
    const auto start = static_cast<std::uint32_t>(to.pool.size());
    to.pool.insert(to.pool.end(), from.pool.begin() + i.a, from.pool.begin() + i.a + length);
    i.a = start;
  }
  to.map_operands(i, rename);
  return to.add(i);
}

}  // namespace

Split split_uniform(const Program& p, const std::vector<bool>& batched, bool hoist) {
  Split s;
  const auto size = static_cast<std::uint32_t>(p.code.size());
  std::vector<std::uint32_t> place_of_input(p.inputs);
  for (std::uint32_t k = 0; k < p.inputs; ++k) {
    auto& list = batched[k] ? s.lane_inputs : s.uniform_inputs;
    place_of_input[k] = static_cast<std::uint32_t>(list.size());
    list.push_back(k);
  }
  std::vector<bool> varies(size), asked(size);
  for (std::uint32_t n = 0; n < size; ++n) {
    const Instruction& i = p.code[n];
    bool any = i.code == Code::input ? batched[i.a] : (!is_leaf(i.code) && !hoist);
    p.for_each_operand(i, [&](std::uint32_t operand) { any = any || varies[operand]; });
    varies[n] = any;
    if (any) p.for_each_operand(i, [&](std::uint32_t operand) { asked[operand] = true; });
  }
  for (std::uint32_t o : p.outputs) asked[o] = true;
  for (const Guard& g : p.guards) asked[g.value] = true;

  const auto unbatched = static_cast<std::uint32_t>(s.uniform_inputs.size());
  s.uniform.params = p.params;
  std::vector<std::uint32_t> in_uniform(size), in_lanes(size), shared;
  for (std::uint32_t n = 0; n < size; ++n) {
    Instruction i = p.code[n];
    if (varies[n]) continue;
    if (i.code == Code::input) i.a = place_of_input[i.a];
    in_uniform[n] = copy(p, i, s.uniform, [&](std::uint32_t operand) { return in_uniform[operand]; });
    if (asked[n] && !is_leaf(i.code)) shared.push_back(n);
  }
  s.shared = static_cast<std::uint32_t>(shared.size());
  s.uniform.inputs = unbatched + s.shared;
  std::vector<std::uint32_t> operands, gradients;
  for (std::uint32_t k = 0; k < s.shared; ++k) {
    operands.push_back(in_uniform[shared[k]]);
    gradients.push_back(s.uniform.add({Code::input, unbatched + k}));
  }
  const std::uint32_t zero = s.uniform.add({Code::constant});
  const Instruction carrier{Code::linear, static_cast<std::uint32_t>(s.uniform.pool.size()), s.shared, zero};
  s.uniform.pool.insert(s.uniform.pool.end(), operands.begin(), operands.end());
  s.uniform.pool.insert(s.uniform.pool.end(), gradients.begin(), gradients.end());
  s.uniform.outputs.push_back(s.uniform.add(carrier));
  for (std::uint32_t operand : operands) s.uniform.outputs.push_back(operand);

  Program& lanes = s.lanes;
  lanes.params = p.params + unbatched + s.shared;
  lanes.inputs = static_cast<std::uint32_t>(s.lane_inputs.size());
  std::uint32_t next_shared = p.params + unbatched;
  for (std::uint32_t n = 0; n < size; ++n) {
    Instruction i = p.code[n];
    if (!varies[n]) {
      if (!is_leaf(i.code) && asked[n]) {
        in_lanes[n] = lanes.add({Code::param, next_shared++});
      } else if (i.code == Code::input) {
        in_lanes[n] = lanes.add({Code::param, p.params + place_of_input[i.a]});
      } else if (is_leaf(i.code)) {
        in_lanes[n] = lanes.add(i);
      }
      continue;
    }
    if (i.code == Code::input) i.a = place_of_input[i.a];
    in_lanes[n] = copy(p, i, lanes, [&](std::uint32_t operand) { return in_lanes[operand]; });
  }
  lanes.notes = p.notes;
  for (Guard g : p.guards) {
    g.value = in_lanes[g.value];
    lanes.guards.push_back(g);
  }
  for (std::uint32_t o : p.outputs) lanes.outputs.push_back(in_lanes[o]);
  return s;
}

}  // namespace tapegrad
