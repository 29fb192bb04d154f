// test_threads.cpp: eight threads with arenas of their own, and eight that share compiled programs, give what one
// gives; to be run under ThreadSanitizer too.
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/graph/sweep.hpp"
#include "core/ops/ops.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/lower.hpp"
#include "core/replay/replay.hpp"
#include "core/replay/replay_lanes.hpp"

using namespace tapegrad;
using namespace tapegrad::test;

namespace {

constexpr int kThreads = 8;

template <typename Work>
void in_threads(Work work) {
  std::vector<std::thread> threads;
  for (int k = 0; k < kThreads; ++k) threads.emplace_back(work, k);
  for (std::thread& t : threads) t.join();
}

// Random graphs, built, swept and freed; the gradients of all of them.
std::vector<double> graphs(unsigned seed) {
  std::mt19937 random(seed);
  Arena arena(hooks());
  std::vector<double> gradients;
  Held x(arena, arena.make_leaf(0.3 + 0.01 * seed, 0));
  for (int round = 0; round < 20; ++round) {
    std::vector<Held> nodes;
    nodes.emplace_back(arena, arena.make_unary(Op::tanh, x.get(), fn::tanh(x->data), 0));
    for (int i = 0; i < 500; ++i) {
      Node* a = nodes[random() % nodes.size()].get();
      Node* b = random() % 4 ? nodes[random() % nodes.size()].get() : x.get();
      Node* n = random() % 3 ? arena.make_binary(Op::mul, a, b, a->data * b->data, 0)
                             : arena.make_unary(Op::sin, a, std::sin(a->data), 0);
      nodes.emplace_back(arena, n);
      if (nodes.size() > 60) nodes.erase(nodes.begin() + static_cast<long>(random() % nodes.size()));
    }
    nodes.back()->grad = 1.0;
    CHECK(sweep(nodes.back().get()));
    gradients.push_back(x->grad);
  }
  CHECK(arena.live_nodes() == 1);
  return gradients;
}

void separate_arenas() {
  std::vector<std::vector<double>> alone, together(kThreads);
  for (unsigned k = 0; k < kThreads; ++k) alone.push_back(graphs(k));
  in_threads([&](int k) { together[static_cast<std::size_t>(k)] = graphs(static_cast<unsigned>(k)); });
  CHECK(alone == together);
}

// A graph made by one thread dies on another.
void handed_over() {
  Arena arena(hooks());
  std::vector<Held> made;
  std::thread maker([&] {
    Held x(arena, arena.make_leaf(0.5, 0));
    Held s(arena, arena.make_constant(0.0, 0));
    for (int i = 0; i < 10000; ++i) s = Held(arena, arena.make_binary(Op::add, s.get(), x.get(), 0.0, 0));
    made.push_back(std::move(s));
  });
  maker.join();
  CHECK(arena.live_nodes() == 10002);
  std::thread([&] { made.clear(); }).join();
  CHECK(arena.live_nodes() == 0);
}

Program program() {
  Program p;
  p.inputs = 2;
  p.params = 3;
  for (std::uint32_t k = 0; k < 2; ++k) p.add({Code::input, k});
  for (std::uint32_t k = 0; k < 3; ++k) p.add({Code::param, k});
  std::uint32_t s = 0;
  for (std::uint32_t k = 0; k < 60; ++k) {
    s = p.add({k % 2 ? Code::mul : Code::add, s, 1 + k % 4});
    s = p.add({Code::tanh, s});
  }
  p.outputs.push_back(s);
  return p;
}

void shared_programs() {
  Lowering how;
  how.forward_only = false;
  how.param_gradients = true;
  how.input_gradients.assign(2, true);
  const Draft draft = simplify(program(), true, {}, nullptr);
  const Lowered lowered = lower(draft, how);
  const ScalarCode code(lowered);
  const LaneCode lanes(lower_steps(draft, how));
  const double params[] = {0.3, -0.6, 0.9};

  const auto scalar = [&](int seed) {
    std::vector<double> m(code.slots()), out;
    code.prepare(m.data());
    for (int round = 0; round < 50; ++round) {
      m[lowered.input_base] = 0.1 * seed;
      m[lowered.input_base + 1] = 0.01 * round;
      std::copy(params, params + 3, m.begin() + lowered.param_base);
      code.forward(m.data());
      m[lowered.seed] = 1.0;
      code.backward(m.data());
      out.push_back(m[lowered.outputs[0]]);
      for (int k = 0; k < 3; ++k) out.push_back(m[lowered.param_gradients + static_cast<std::uint32_t>(k)]);
    }
    return out;
  };
  const auto in_lanes = [&](int seed, int threads) {
    constexpr std::size_t kLanes = 3000;
    std::vector<double> x(kLanes), y(kLanes), out(kLanes), by_x(kLanes), by_y(kLanes), sums(3);
    for (std::size_t k = 0; k < kLanes; ++k) {
      x[k] = 0.001 * static_cast<double>(k) + seed;
      y[k] = 0.5 - 0.0001 * static_cast<double>(k);
    }
    const double* inputs[] = {x.data(), y.data()};
    double *outputs[] = {out.data()}, *gradients[] = {by_x.data(), by_y.data()};
    const std::size_t strides[] = {1, 1};
    LaneRun run;
    run.lanes = kLanes;
    run.threads = threads;
    run.params = params;
    run.inputs = inputs;
    run.input_strides = strides;
    run.outputs = outputs;
    run.input_gradients = gradients;
    run.gradient_strides = strides;
    run.param_gradients = sums.data();
    LaneGuards guards;
    lanes.run(run, &guards);
    out.insert(out.end(), by_x.begin(), by_x.end());
    out.insert(out.end(), sums.begin(), sums.end());
    return out;
  };
  std::vector<std::vector<double>> alone, together(kThreads), lanes_alone, lanes_together(kThreads);
  for (int k = 0; k < kThreads; ++k) {
    alone.push_back(scalar(k));
    lanes_alone.push_back(in_lanes(k, 1));
  }
  in_threads([&](int k) {
    together[static_cast<std::size_t>(k)] = scalar(k);
    lanes_together[static_cast<std::size_t>(k)] = in_lanes(k, 1 + k % 3);
  });
  CHECK(alone == together);
  CHECK(lanes_alone == lanes_together);
}

}  // namespace

int main() {
  separate_arenas();
  handed_over();
  shared_programs();
  std::puts("test_threads: passed");
}
