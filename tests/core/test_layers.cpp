// test_layers.cpp: the layer kernels of every instruction set against plain loops in long double: all sizes around
// tiles and vectors, infinities and NaN, and lanes past the last that must not count; and the finding of layers among
// steps that get in each other's way, against the same steps one by one.
#include "core/replay/lane_layers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/layer_steps.hpp"
#include "core/replay/replay_lanes.hpp"

using namespace tapegrad;

namespace {

using U32 = std::uint32_t;
using Real = long double;

const char* const kSets[] = {"baseline", "avx2", "avx512"};
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Equal up to a few roundings of the terms, whose sizes add up to `size`; NaN and infinities as they are.
bool close(double x, Real expected, Real size) {
  if (std::isnan(expected)) return std::isnan(x);
  if (std::isinf(expected)) return x == static_cast<double>(expected);
  return std::fabs(static_cast<Real>(x) - expected) <= 1e-14L * size;
}

// Arrays of lanes with room up to a multiple of 8, each number known.
struct Memory {
  std::size_t n, stride, count;
  std::vector<double> room, uniform;
  double* lanes;

  Memory(std::size_t lane_count, std::size_t arrays, std::size_t uniforms, std::mt19937& random)
      : n(lane_count), stride((lane_count + 7) / 8 * 8), count(arrays), room(arrays * stride + 8), uniform(uniforms) {
    void* start = room.data();
    std::size_t bytes = room.size() * sizeof(double);
    lanes = static_cast<double*>(std::align(64, arrays * stride * sizeof(double), start, bytes));
    std::uniform_real_distribution<double> numbers(-1, 1);
    for (std::size_t i = 0; i < arrays * stride; ++i) lanes[i] = numbers(random);
    for (double& u : uniform) u = numbers(random);
  }
  double& at(U32 array, std::size_t lane) { return lanes[array * stride + lane]; }
  BlockMemory block() { return {lanes, uniform.data(), stride, nullptr}; }
};

// `count` different numbers below `limit`.
std::vector<U32> choose(std::size_t count, std::size_t limit, std::mt19937& random) {
  std::vector<U32> all(limit);
  for (U32 i = 0; i < limit; ++i) all[i] = i;
  std::shuffle(all.begin(), all.end(), random);
  all.resize(count);
  return all;
}

void test_product(std::size_t rows, std::size_t columns, std::size_t n, std::mt19937& random) {
  Memory m(n, rows + columns + rows + 2, 0, random);
  const std::vector<U32> arrays = choose(m.count, m.count, random);
  const std::vector<U32> x(arrays.begin(), arrays.begin() + static_cast<long>(columns));
  const std::vector<U32> y(arrays.begin() + static_cast<long>(columns),
                           arrays.begin() + static_cast<long>(columns + rows));
  std::vector<U32> start(rows, kNoArray);
  const bool starts = random() % 2, relu = random() % 2, biased = random() % 4;
  if (starts)
    for (std::size_t r = 0; r < rows; ++r) {
      const auto kind = random() % 3;
      if (kind == 1) start[r] = y[r];
      if (kind == 2) start[r] = arrays[columns + rows + r];
    }
  std::uniform_real_distribution<double> numbers(-1, 1);
  std::vector<double> weights(rows * columns), bias(rows), panels(rows * columns);
  for (double& w : weights) w = numbers(random);
  for (double& b : bias) b = numbers(random);
  if (random() % 3 == 0) m.at(x[random() % columns], random() % n) = random() % 2 ? kInf : kNan;
  if (random() % 5 == 0) weights[random() % weights.size()] = random() % 2 ? -kInf : kNan;
  const double* end =
      pack_panels(rows, columns, panels.data(), [&](std::size_t r, std::size_t c) { return weights[r * columns + c]; });
  CHECK(end == panels.data() + panels.size());

  Memory before = m;
  before.lanes = before.room.data() + (m.lanes - m.room.data());
  layer_kernels().product(m.block(),
                          {rows, columns, x.data(), y.data(), starts ? start.data() : nullptr, panels.data(),
                           biased ? bias.data() : nullptr, relu},
                          n);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t lane = 0; lane < n; ++lane) {
      Real sum = biased ? bias[r] : 0.0, size = std::fabs(sum);
      if (starts && start[r] != kNoArray) sum += before.at(start[r], lane), size += 1;
      for (std::size_t c = 0; c < columns; ++c) {
        const Real term = static_cast<Real>(weights[r * columns + c]) * before.at(x[c], lane);
        sum += term;
        size += std::fabs(term);
      }
      if (relu && sum < 0) sum = 0;
      CHECK(close(m.at(y[r], lane), sum, size));
    }
  for (U32 array = 0; array < m.count; ++array) {
    if (std::find(y.begin(), y.end(), array) != y.end()) continue;
    for (std::size_t lane = 0; lane < m.stride; ++lane) {
      const double a = m.at(array, lane), b = before.at(array, lane);
      CHECK(a == b || (std::isnan(a) && std::isnan(b)));
    }
  }
}

void test_gradient(std::size_t rows, std::size_t columns, std::size_t n, std::mt19937& random) {
  Memory m(n, rows + columns, rows * columns + rows + 1, random);
  std::vector<U32> arrays = choose(m.count, m.count, random);
  std::vector<U32> x(arrays.begin(), arrays.begin() + static_cast<long>(columns));
  std::vector<U32> g(arrays.begin() + static_cast<long>(columns), arrays.end());
  std::vector<U32> targets = choose(m.uniform.size(), m.uniform.size(), random);
  if (random() % 2) std::sort(targets.begin(), targets.end());      // neighbours
  if (random() % 4 == 0) targets[0] = targets[targets.size() / 2];  // a weight that is used twice
  for (U32 array = 0; array < m.count; ++array)  // what stands past the last lane is no number of ours
    for (std::size_t lane = n; lane < m.stride; ++lane) m.at(array, lane) = lane % 2 ? kInf : kNan;
  if (random() % 4 == 0) m.at(x[random() % columns], random() % n) = random() % 2 ? kInf : kNan;
  const bool weights = random() % 5, bias = random() % 5;

  const std::vector<double> before = m.uniform;
  layer_kernels().gradient(m.block(),
                           {rows, columns, g.data(), x.data(), weights ? targets.data() : nullptr,
                            bias ? targets.data() + rows * columns : nullptr},
                           n);
  std::vector<Real> expected(before.begin(), before.end()), sizes(before.size(), 1);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t lane = 0; lane < n; ++lane) {
      const Real gradient = m.at(g[r], lane);
      if (bias) {
        expected[targets[rows * columns + r]] += gradient;
        sizes[targets[rows * columns + r]] += std::fabs(gradient);
      }
      for (std::size_t c = 0; weights && c < columns; ++c) {
        const Real term = gradient * m.at(x[c], lane);
        expected[targets[r * columns + c]] += term;
        sizes[targets[r * columns + c]] += std::fabs(term);
      }
    }
  for (std::size_t k = 0; k < before.size(); ++k) CHECK(close(m.uniform[k], expected[k], sizes[k]));
}

void test_activation(std::size_t rows, std::size_t n, std::mt19937& random) {
  for (const Op op : {Op::relu, Op::tanh, Op::sigmoid}) {
    Memory m(n, 3 * rows, 0, random);
    const std::vector<U32> arrays = choose(m.count, m.count, random);
    std::vector<U32> y(arrays.begin(), arrays.begin() + static_cast<long>(rows));
    std::vector<U32> from(arrays.begin() + static_cast<long>(rows), arrays.begin() + static_cast<long>(2 * rows));
    std::vector<U32> to(arrays.begin() + static_cast<long>(2 * rows), arrays.end());
    if (rows > 1) to[1] = from[0];  // free again once its row is done
    m.at(y[0], random() % n) = 0.0;
    m.at(from[0], random() % n) = kInf;
    Memory plain = m;
    plain.lanes = plain.room.data() + (m.lanes - m.room.data());
    layer_kernels().activation(m.block(), {op, rows, y.data(), from.data(), to.data()}, n);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t lane = 0; lane < n; ++lane) {
        const double z = plain.at(y[r], lane);
        const double partial = op == Op::relu ? (z > 0 ? 1.0 : 0.0) : (op == Op::tanh ? 1 - z * z : z * (1 - z));
        plain.at(to[r], lane) = partial * plain.at(from[r], lane);
      }
    for (U32 array = 0; array < m.count; ++array)
      for (std::size_t lane = 0; lane < n; ++lane) CHECK(close(m.at(array, lane), plain.at(array, lane), 1));
  }
}

void test_kernels() {
  std::mt19937 random(1);
  for (std::size_t n = 1; n <= 45; ++n) {
    test_activation(1 + random() % 5, n, random);
    for (int trial = 0; trial < 12; ++trial) {
      const std::size_t rows = 1 + random() % 11, columns = 1 + random() % 11;
      test_product(rows, columns, n, random);
      test_gradient(rows, columns, n, random);
    }
  }
  for (const std::size_t n : {64u, 100u, 127u, 1000u})
    for (std::size_t size = 1; size <= 9; ++size) {
      test_product(size, 10 - size, n, random);
      test_gradient(10 - size, size, n, random);
      test_product(size * 7, size, n, random);
      test_gradient(size * 7, size, n, random);
    }
}

// ---- finding

// Steps over few slots, so that sums and products of one input lie side by side and write what others read. They mean
// nothing; one by one they have a result, and grouped they must have the same.
class Tangle {
 public:
  static constexpr U32 kParams = 12, kInputs = 6, kTemporaries = 9;

  explicit Tangle(std::mt19937& random) : random_(random) {
    l.constants = {0.5};
    l.params = kParams;
    l.inputs = kInputs;
    l.param_base = 1;
    l.input_base = l.param_base + kParams;
    l.param_gradients = l.input_base + kInputs;
    l.input_gradients = l.param_gradients + kParams;
    first_temporary = l.input_gradients + kInputs;
    l.slots = first_temporary + kTemporaries;
    l.seed = first_temporary;
    for (U32 slot = first_temporary; slot < l.slots; ++slot) {  // each has a number
      Step s;
      s.code = code(Code::sum);
      s.z = slot;
      s.first = terms();
      s.count = 1;
      l.terms.push_back({input(), param(), Mode::none});
      l.forward.push_back(s);
    }
    const U32 steps = 3 + below(12);
    const std::vector<U32> columns = some_lanes();
    if (below(2)) forward_block(columns);
    for (U32 k = 0; k < steps; ++k) forward_step(below(4) ? columns : some_lanes());
    const U32 units = 2 + below(8);
    const std::vector<U32> inputs = some_lanes(), targets = some_lanes();
    std::vector<bool> stored(l.slots, false);
    for (U32 k = 0; k < units; ++k) backward_unit(inputs, targets, below(3) == 0, k == 0);
    for (U32 slot = first_temporary; slot < l.slots; ++slot) {  // what is looked at between forward and backward
      if (below(2)) l.outputs.push_back(slot);
      if (below(4) == 0) l.guards.push_back({slot, {GuardKind::truth, 0, 0.0, 0}});
    }
    l.outputs.push_back(first_temporary);
    // Whatever is in the temporaries at the end goes to the gradients of the inputs.
    for (U32 slot = first_temporary; slot < l.slots; ++slot) {
      Step s;
      s.code = code(Code::sum);
      s.g = slot;
      s.first = terms();
      s.count = 1;
      l.terms.push_back({l.input_gradients + slot % kInputs, kNoSlot, Mode::add});
      l.backward.push_back(s);
    }
  }

  Lowered l;
  U32 first_temporary;

 private:
  static std::uint16_t code(Code c) { return static_cast<std::uint16_t>(c); }
  U32 below(U32 limit) { return static_cast<U32>(random_() % limit); }
  U32 terms() const { return static_cast<U32>(l.terms.size()); }
  U32 param() { return l.param_base + below(kParams); }
  U32 input() { return l.input_base + below(kInputs); }
  U32 temporary() { return first_temporary + below(kTemporaries); }
  U32 lane() { return below(2) ? input() : temporary(); }

  std::vector<U32> some_lanes() {
    std::vector<U32> out;
    for (U32 count = 1 + below(4); out.size() < count;) {
      const U32 slot = lane();
      if (std::find(out.begin(), out.end(), slot) == out.end()) out.push_back(slot);
    }
    return out;
  }

  void forward_step(std::vector<U32> columns) {
    Step s;
    s.z = temporary();
    if (below(4) == 0) {
      s.code = code(Code::relu);
      s.x = below(2) ? lane() : l.forward.back().z;
      l.forward.push_back(s);
      return;
    }
    s.code = code(Code::sum);
    s.first = terms();
    if (below(3) == 0) std::shuffle(columns.begin(), columns.end(), random_);
    if (below(2)) l.terms.push_back({below(3) ? param() : 0, kNoSlot, Mode::none});
    if (below(4) == 0) l.terms.push_back({lane(), kNoSlot, Mode::none});
    for (U32 x : columns) {
      const bool swap = below(2), lanes_only = below(15) == 0;
      const U32 w = lanes_only ? lane() : param();
      l.terms.push_back({swap ? w : x, swap ? x : w, Mode::none});
    }
    if (below(4) == 0) l.terms.push_back({below(2) ? lane() : param(), kNoSlot, Mode::none});
    s.count = terms() - s.first;
    l.forward.push_back(s);
  }

  // A layer as it ought to be, with more rows than a tile has, but for the places of its activations.
  void forward_block(const std::vector<U32>& columns) {
    std::vector<U32> rows(kTemporaries);
    for (U32 k = 0; k < kTemporaries; ++k) rows[k] = first_temporary + k;
    std::shuffle(rows.begin(), rows.end(), random_);
    rows.resize(2 + below(6));
    for (U32 z : rows) {
      Step s;
      s.code = code(Code::sum);
      s.z = z;
      s.first = terms();
      if (below(3) == 0) l.terms.push_back({lane(), kNoSlot, Mode::none});
      for (U32 x : columns) l.terms.push_back({x, param(), Mode::none});
      s.count = terms() - s.first;
      l.forward.push_back(s);
    }
    std::vector<U32> free = columns;
    for (U32 x : rows) {
      Step s;
      s.code = code(Code::relu);
      s.x = x;
      s.z = below(3) ? free[below(static_cast<U32>(free.size()))] : temporary();
      if (s.z < first_temporary) s.z = temporary();
      free.push_back(x);
      l.forward.push_back(s);
    }
    if (below(2)) return;
    for (U32 z : rows) {  // nothing of the sums themselves is left
      Step s;
      s.code = code(Code::sum);
      s.z = z;
      s.first = terms();
      s.count = 1;
      l.terms.push_back({l.forward.back().z, param(), Mode::none});
      l.forward.push_back(s);
    }
  }

  void backward_unit(std::vector<U32> inputs, std::vector<U32> targets, bool activation, bool first) {
    const U32 g = temporary();
    if (activation)
      for (U32 k = 0; k <= below(3); ++k) {
        Step s;
        s.code = code(below(4) ? Code::relu : Code::tanh);
        s.g = temporary();
        s.z = lane();
        s.dx = k ? temporary() : g;
        s.mode_x = below(6) ? Mode::store : Mode::add;
        l.backward.push_back(s);
      }
    if (below(2)) {
      Step s;
      s.code = code(Code::sum);
      s.g = g;
      s.first = terms();
      for (U32 count = 1 + below(2); count; --count) {
        if (below(3)) {
          l.terms.push_back({l.param_gradients + below(kParams), kNoSlot, Mode::add});
        } else if (const U32 slot = temporary(); slot != g) {
          l.terms.push_back({slot, kNoSlot, below(2) ? Mode::store : Mode::add});
        }
      }
      s.count = terms() - s.first;
      if (s.count) l.backward.push_back(s);
    }
    if (below(5) == 0) inputs = some_lanes();
    while (targets.size() < inputs.size()) targets.push_back(temporary());
    std::vector<std::size_t> order(inputs.size());
    for (std::size_t k = 0; k < order.size(); ++k) order[k] = k;
    if (below(3) == 0) std::shuffle(order.begin(), order.end(), random_);
    const bool by_input = below(6), by_weight = below(6);
    for (std::size_t k : order) {
      Step s;
      s.code = code(Code::mul);
      s.g = g;
      if (by_weight || below(10) == 0) {
        s.x = inputs[k];
        s.dy = l.param_gradients + below(kParams);
        s.mode_y = Mode::add;
      }
      U32 target = targets[k];
      if (target < first_temporary) target = l.input_gradients + target % kInputs;
      if (by_input && target != s.x) {
        s.y = param();
        s.dx = target;
        s.mode_x = (first || below(8) == 0) && target >= first_temporary ? Mode::store : Mode::add;
      }
      if (s.mode_x == Mode::none && s.mode_y == Mode::none) continue;
      if (below(2)) {
        std::swap(s.x, s.y);
        std::swap(s.dx, s.dy);
        std::swap(s.mode_x, s.mode_y);
      }
      l.backward.push_back(s);
    }
  }

  std::mt19937& random_;
};

struct Result {
  std::vector<std::vector<double>> outputs, input_gradients;
  std::vector<double> param_gradients;
  std::vector<std::size_t> failures;
};

Result run(const LaneCode& code, const Lowered& l, std::size_t lanes, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> numbers(-0.7, 0.7);
  std::vector<double> params(l.params);
  for (double& p : params) p = numbers(random);
  std::vector<std::vector<double>> columns(l.inputs, std::vector<double>(lanes));
  std::vector<const double*> in;
  for (auto& column : columns) {
    for (double& x : column) x = numbers(random);
    in.push_back(column.data());
  }
  Result r{std::vector<std::vector<double>>(l.outputs.size(), std::vector<double>(lanes)),
           std::vector<std::vector<double>>(l.inputs, std::vector<double>(lanes)),
           std::vector<double>(l.params),
           {}};
  std::vector<double*> out, to;
  for (auto& o : r.outputs) out.push_back(o.data());
  for (auto& g : r.input_gradients) to.push_back(g.data());
  const std::vector<std::size_t> strides(l.inputs, 1);
  LaneRun lane_run;
  lane_run.lanes = lanes;
  lane_run.params = params.data();
  lane_run.inputs = in.data();
  lane_run.input_strides = strides.data();
  lane_run.outputs = out.data();
  lane_run.input_gradients = to.data();
  lane_run.gradient_strides = strides.data();
  lane_run.param_gradients = r.param_gradients.data();
  LaneGuards guards;
  code.run(lane_run, &guards);
  r.failures = guards.failures;
  return r;
}

void compare(double x, double y) {
  if (std::isnan(y)) {
    CHECK(std::isnan(x));
  } else {
    CHECK_NEAR(x, y, 1e-11);
  }
}

void test_finding() {
  std::mt19937 random(2);
  std::size_t forward = 0, backward = 0, joined = 0, rows = 0, carried = 0, activations = 0, refused = 0;
  for (unsigned trial = 0; trial < 6000; ++trial) {
    const Tangle tangle(random);
    const Lowered& l = tangle.l;
    std::vector<bool> uniform(l.slots);
    for (U32 s = 0; s < l.slots; ++s)
      uniform[s] = s < l.input_base || (s >= l.param_gradients && s < l.input_gradients);
    const LayerSteps found = find_layers(l, uniform);
    for (const ForwardLayer& f : found.forward) {
      forward += f.rows() > 1;
      joined += f.relu;
    }
    for (const BackwardLayer& b : found.backward) {
      backward += b.rows() > 1;
      rows = std::max(rows, b.rows());
      carried += b.carried.size();
    }
    activations += found.activations.size();
    refused += found.forward.empty() || found.backward.empty();
    const std::size_t lanes = 1 + random() % 40;
    const Result grouped = run(LaneCode(l, true), l, lanes, trial), plain = run(LaneCode(l, false), l, lanes, trial);
    for (std::size_t k = 0; k < l.outputs.size(); ++k)
      for (std::size_t lane = 0; lane < lanes; ++lane) compare(grouped.outputs[k][lane], plain.outputs[k][lane]);
    for (std::size_t k = 0; k < l.inputs; ++k)
      for (std::size_t lane = 0; lane < lanes; ++lane)
        compare(grouped.input_gradients[k][lane], plain.input_gradients[k][lane]);
    CHECK(grouped.failures == plain.failures);
    for (std::size_t k = 0; k < l.params; ++k) compare(grouped.param_gradients[k], plain.param_gradients[k]);
  }
  for (std::size_t count : {forward, backward, joined, carried, activations, refused}) CHECK(count > 100);
  CHECK(rows > 2);
}

// A network of two layers whose neurons are spread over the program, with activations between.
Program network(std::size_t inputs, std::size_t hidden, std::size_t outputs) {
  Program p;
  p.inputs = static_cast<U32>(inputs);
  std::vector<U32> x;
  for (U32 i = 0; i < inputs; ++i) x.push_back(p.add({Code::input, i}));
  const auto neuron = [&](const std::vector<U32>& from) {
    U32 sum = p.add({Code::param, p.params++});
    for (U32 i : from) sum = p.add({Code::add, sum, p.add({Code::mul, p.add({Code::param, p.params++}), i})});
    return sum;
  };
  std::vector<U32> h;
  for (std::size_t k = 0; k < hidden; ++k) h.push_back(p.add({Code::tanh, neuron(x)}));
  U32 total = p.add({Code::constant});
  for (std::size_t k = 0; k < outputs; ++k) {
    const U32 y = p.add({Code::relu, neuron(h)});
    total = p.add({Code::add, total, p.add({Code::mul, y, y})});
  }
  p.outputs = {total};
  return p;
}

void test_pass() {
  const Program p = network(3, 5, 4);
  const Draft exact = simplify(p, true, {}, nullptr), loose = simplify(p, false, {}, nullptr);
  for (const Draft* d : {&exact, &loose}) {
    CHECK(d->layers.dots == 9);
    CHECK(d->layers.layers == 2);
  }
  CHECK(simplify(p, false, {"layers"}, nullptr).layers.dots == 0);
  Lowering how;
  how.forward_only = false;
  how.param_gradients = true;
  const Lowered l = lower_steps(loose, how);
  std::vector<bool> uniform(l.slots);
  for (U32 s = 0; s < l.slots; ++s)
    uniform[s] = s < l.input_base || (s >= l.param_gradients && s < l.param_gradients + l.params);
  const LayerSteps found = find_layers(l, uniform);
  CHECK(found.forward.size() == 2 && found.backward.size() == 2 && found.activations.size() == 2);
  CHECK(found.forward[0].rows() == 5 && found.forward[0].x.size() == 3 && !found.forward[0].relu);
  CHECK(found.forward[1].rows() == 4 && found.forward[1].x.size() == 5 && found.forward[1].relu);
  CHECK(found.backward[0].rows() == 4 && found.backward[1].rows() == 5);
  // Left as recorded, each neuron of the first layer stands alone.
  const Lowered apart = lower_steps(simplify(p, false, {"layers"}, nullptr), how);
  CHECK(find_layers(apart, uniform).forward.size() >= 6);
}

// Rows that wait for something computed after the first of them stay behind it.
void test_rows_that_wait() {
  Program p;
  p.inputs = 2;
  p.params = 8;
  const U32 x = p.add({Code::input, 0}), y = p.add({Code::input, 1});
  const auto dot = [&](U32 start, U32 w) {
    const U32 a = p.add({Code::mul, p.add({Code::param, w}), x}),
              b = p.add({Code::mul, y, p.add({Code::param, w + 1})});
    return p.add({Code::add, p.add({Code::add, start, a}), b});
  };
  const U32 first = dot(p.add({Code::param, 0}), 1);
  const U32 between = p.add({Code::sin, first});
  const U32 second = dot(between, 3), third = dot(p.add({Code::exp, second}), 5),
            fourth = dot(p.add({Code::param, 0}), 6);
  p.outputs = {p.add({Code::mul, p.add({Code::mul, between, third}), fourth})};
  const Draft d = simplify(p, false, {}, nullptr);
  CHECK(d.layers.dots == 4 && d.layers.layers == 1);
  for (U32 n = 0; n < d.program.code.size(); ++n)
    d.program.for_each_operand(d.program.code[n], [&](U32 operand) { CHECK(operand < n); });
  std::vector<U32> rows;
  for (U32 n = 0; n < d.program.code.size(); ++n)
    if (d.program.code[n].code == Code::sum) rows.push_back(n);
  CHECK(rows.size() == 4 && rows[1] == rows[0] + 1 && rows[2] > rows[1] + 1);  // the fourth stands next to the first
}

}  // namespace

int main() {
  for (const char* set : kSets) {
    if (!lanes::use_instruction_set(set)) continue;
    CHECK(std::string(layer_kernels().name) == set);
    test_kernels();
    test_finding();
  }
  test_pass();
  test_rows_that_wait();
}
