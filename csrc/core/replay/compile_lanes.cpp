// compile_lanes.cpp: from a lowered program to steps over lanes: where each slot lies, and which steps one kernel takes
// together.
#include <algorithm>
#include <utility>

#include "core/replay/lane_code.hpp"

namespace tapegrad {

namespace {

constexpr std::size_t kBlockBytes = 256 * 1024;  // of a block's values, within a core's second-level cache

std::uint32_t uniform_limit(const Lowered& l) {
  return l.param_base + l.params;
}

}  // namespace

Place LaneCode::place(std::uint32_t slot) const {
  if (slot == kNoSlot) return {0, 1};
  const std::uint32_t lane = lane_of_slot_[slot];
  return lane == kNoSlot ? Place{slot, 1} : Place{lane, 0};
}

LaneCode::LaneCode(const Lowered& l, bool layers)
    : constants_(l.constants),
      guards_(l.guards),
      uniform_slots_(l.slots),
      params_(l.params),
      inputs_(l.inputs),
      param_base_(l.param_base),
      input_base_(l.input_base),
      param_gradients_(l.param_gradients),
      input_gradients_(l.input_gradients) {
  lane_of_slot_.assign(l.slots, kNoSlot);
  std::vector<bool> is_uniform(l.slots);
  const bool grads = l.param_gradients != kNoSlot;
  for (std::uint32_t s = 0; s < l.slots; ++s) {
    is_uniform[s] = s < uniform_limit(l) || (grads && s >= l.param_gradients && s < l.param_gradients + l.params);
    if (!is_uniform[s]) lane_of_slot_[s] = lane_slots_++;
  }
  const LayerSteps found = layers ? find_layers(l, is_uniform) : LayerSteps{};
  // Beyond the slots: the number 1, and a place that nobody reads.
  layers_ = std::make_unique<LayerCode>(found, lane_of_slot_, uniform_slots_ + 1);
  add_steps(l, found);
  for (std::uint32_t o : l.outputs) outputs_.push_back(place(o));
  for (const CheckedSlot& g : guards_) guard_places_.push_back(place(g.slot));
  has_seed_ = l.seed != kNoSlot;
  if (has_seed_) seed_ = place(l.seed);
  block_ = kBlockBytes / sizeof(double) / std::max<std::size_t>(lane_slots_, 1);
  block_ = std::clamp(block_ / 16 * 16, kMinBlock, kMaxBlock);
}

// Layers and runs of activations stand in place of the steps that they were found in.
void LaneCode::add_steps(const Lowered& l, const LayerSteps& found) {
  const auto add_numbered = [](std::vector<LaneStep>& steps, std::uint16_t code, std::size_t number) {
    LaneStep step{};
    step.code = code;
    step.first = static_cast<std::uint32_t>(number);
    steps.push_back(step);
  };
  std::size_t layer = 0, run = 0;
  for (std::size_t t = 0; t < l.forward.size();) {
    if (layer < found.forward.size() && found.forward[layer].begin == t) {
      t = found.forward[layer].end;
      add_numbered(forward_, kLayer, layer++);
    } else {
      add_forward(l, l.forward[t++]);
    }
  }
  layer = 0;
  for (std::size_t t = 0; t < l.backward.size();) {
    if (layer < found.backward.size() && found.backward[layer].begin == t) {
      for (const Term& carried : found.backward[layer].carried) {
        LaneStep step{};
        step.code = static_cast<std::uint16_t>(Code::sum);
        step.g = place(carried.y);
        step.first = static_cast<std::uint32_t>(terms_.size());
        step.count = 1;
        terms_.push_back({place(carried.x), {}, {}, 0, false, carried.mode == Mode::store, false});
        backward_.push_back(step);
      }
      t = found.backward[layer].end;
      add_numbered(backward_, kLayer, layer++);
    } else if (run < found.activations.size() && found.activations[run].begin == t) {
      Activations a{static_cast<Op>(l.backward[t].code), {}, {}, {}};
      for (; t < found.activations[run].end; ++t) {
        a.y.push_back(place(l.backward[t].z).index);
        a.from.push_back(place(l.backward[t].g).index);
        a.to.push_back(place(l.backward[t].dx).index);
      }
      activations_.push_back(std::move(a));
      add_numbered(backward_, kActivations, run++);
    } else {
      add_backward(l, l.backward[t++]);
    }
  }
}

LaneCode::LaneStep LaneCode::convert(const Step& s) const {
  return {s.code, s.mode_x, s.mode_y, place(s.z), place(s.x), place(s.y), place(s.g), place(s.dx), place(s.dy), 0, 0};
}

void LaneCode::add_forward(const Lowered& l, const Step& s) {
  LaneStep step = convert(s);
  if (s.code == static_cast<std::uint16_t>(Code::sum)) {
    step.first = static_cast<std::uint32_t>(terms_.size());
    step.count = s.count;
    for (std::uint32_t k = s.first; k < s.first + s.count; ++k) {
      const Term& t = l.terms[k];
      // A term that is not a product is one with the number 1, in the place after the last slot.
      terms_.push_back(
          {place(t.x), t.y == kNoSlot ? Place{uniform_slots_, 1} : place(t.y), {}, 0, false, false, false});
    }
  }
  forward_.push_back(step);
}

void LaneCode::add_backward(const Lowered& l, const Step& s) {
  LaneStep step = convert(s);
  if (s.code == static_cast<std::uint16_t>(Code::sum)) {
    step.first = static_cast<std::uint32_t>(terms_.size());
    step.count = s.count;
    for (std::uint32_t k = s.first; k < s.first + s.count; ++k)
      terms_.push_back({place(l.terms[k].x), {}, {}, 0, false, l.terms[k].mode == Mode::store, false});
    backward_.push_back(step);
    return;
  }
  if (s.code != static_cast<std::uint16_t>(Code::mul)) {
    backward_.push_back(step);
    return;
  }
  const auto fits_products = [](const LaneStep& m) {
    return !m.g.uniform && (m.mode_x == Mode::none || !m.dx.uniform) && (m.mode_y == Mode::none || m.dy.uniform) &&
           (m.mode_x == Mode::none || m.y.uniform) && (m.mode_y == Mode::none || !m.x.uniform);
  };
  if (!fits_products(step)) {  // the parameter may be the left factor
    LaneStep swapped = step;
    std::swap(swapped.x, swapped.y);
    std::swap(swapped.dx, swapped.dy);
    std::swap(swapped.mode_x, swapped.mode_y);
    if (!fits_products(swapped)) {
      backward_.push_back(step);
      return;
    }
    step = swapped;
  }
  const bool continues = !backward_.empty() && backward_.back().code == kStepCodes &&
                         backward_.back().g.index == step.g.index &&
                         backward_.back().first + backward_.back().count == terms_.size();
  if (!continues) {
    LaneStep group = step;
    group.code = kStepCodes;
    group.first = static_cast<std::uint32_t>(terms_.size());
    group.count = 0;
    backward_.push_back(group);
  }
  ++backward_.back().count;
  terms_.push_back({step.x, step.y, step.dx, step.dy.index, step.mode_x != Mode::none, step.mode_x == Mode::store,
                    step.mode_y != Mode::none});
}

}  // namespace tapegrad
