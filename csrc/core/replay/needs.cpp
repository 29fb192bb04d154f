// needs.cpp: one walk from the inputs on for what varies, and one back from the outputs for all else.
#include "core/replay/needs.hpp"

#include <array>
#include <atomic>
#include <cmath>

#include "core/ops/ops.hpp"
#include "core/replay/lower.hpp"

namespace tapegrad {

namespace {

double derivative(Code code, int k, double x, double y, double z) {
  switch (code) {
    case Code::powc:
      return fn::pow_dx(x, y);
#define TAPEGRAD_UNARY(id, ...) \
  case Code::id:                \
    return Rule<Op::id>::dx(x, z);
#define TAPEGRAD_BINARY(id, ...) \
  case Code::id:                 \
    return k == 0 ? Rule<Op::id>::dx(x, y, z) : Rule<Op::id>::dy(x, y, z);
#include "core/ops/ops.def"
    default:
      return 0.0;
  }
}

}  // namespace

// Found out by trial, so that the table need not say it: a derivative reads what changes it.
Reads derivative_reads(Code code, int k) {
  constexpr double kTrials[] = {-2.75, -1.5, -0.625, 0.0, 0.375, 0.8125, 1.25, 3.5};
  Reads reads{false, false, false};
  const auto differ = [](double p, double q) { return !(p == q) && !(std::isnan(p) && std::isnan(q)); };
  for (double x : kTrials)
    for (double y : kTrials)
      for (double z : kTrials)
        for (double other : kTrials) {
          const double base = derivative(code, k, x, y, z);
          reads.x = reads.x || differ(base, derivative(code, k, other, y, z));
          reads.y = reads.y || differ(base, derivative(code, k, x, other, z));
          reads.z = reads.z || differ(base, derivative(code, k, x, y, other));
        }
  return reads;
}

// Found out when first asked for: 12,000 trials a derivative. Threads that ask at once find the same.
Reads known_reads(Code code, int k) {
  static std::array<std::atomic<std::uint8_t>, 2 * static_cast<std::size_t>(Code::table_end)> known{};
  constexpr unsigned kFound = 8;
  std::atomic<std::uint8_t>& kept = known[static_cast<std::size_t>(2 * static_cast<int>(code) + k)];
  unsigned bits = kept.load(std::memory_order_relaxed);
  if (!bits) {
    const Reads found = derivative_reads(code, k);
    bits = kFound | (found.x ? 1u : 0u) | (found.y ? 2u : 0u) | (found.z ? 4u : 0u);
    kept.store(static_cast<std::uint8_t>(bits), std::memory_order_relaxed);
  }
  return {(bits & 1u) != 0, (bits & 2u) != 0, (bits & 4u) != 0};
}

bool is_wanted_leaf(const Instruction& i, const Lowering& how) {
  if (i.code == Code::param) return how.param_gradients;
  return i.code == Code::input && i.a < how.input_gradients.size() && how.input_gradients[i.a];
}

Needs find_needs(const Draft& draft, const Lowering& how) {
  using U32 = std::uint32_t;
  const Program& p = draft.program;
  const auto& same = draft.same;
  const auto size = static_cast<U32>(p.code.size());
  Needs needs;
  needs.flags = Scratch<std::uint8_t>(size, 0);
  if (!how.forward_only) needs.parts = Scratch<U32>(size, 0);
  // Locals, since a byte written to `flags` might otherwise be any of them.
  const Instruction* const code = p.code.data();
  const U32* const first_same = same.data();
  std::size_t part_count = 0, steps = 0, derivatives = 0;
  std::uint8_t* const flags = needs.flags.begin();
  U32* const parts = needs.parts.begin();

  for (U32 n = 0; n < size; ++n) {
    const Instruction& i = code[n];
    if (is_leaf(i.code) || i.code == Code::powc) needs.leaves.push_back(n);
    if (how.forward_only) continue;
    if (is_leaf(i.code)) {
      flags[n] = is_wanted_leaf(i, how);
      continue;
    }
    std::uint8_t any = 0;
    for_each_differentiable(p, i, [&](U32 operand) { any |= flags[operand]; });
    flags[n] = any;
  }
  static_assert(Needs::kVaried == 1);
  for (U32 o : p.outputs) flags[same[o]] |= Needs::kAsked;
  for (const Guard& g : p.guards) flags[same[g.value]] |= Needs::kAsked;
  if (!how.forward_only && flags[p.outputs[0]] & Needs::kVaried) flags[p.outputs[0]] |= Needs::kLive;

  // Whatever is known of a value comes from newer ones, so that all is known when the walk comes to it.
  for (U32 n = size; n-- > 0;) {
    const Instruction& i = code[n];
    if (flags[n] & Needs::kLive) {
      const auto ask = [&](U32 value) { flags[first_same[value]] |= Needs::kAsked; };
      for_each_differentiable(p, i, [&](U32 operand) {
        if (!(flags[operand] & Needs::kVaried)) return;
        flags[operand] |= Needs::kLive;
        ++parts[operand];
        ++part_count;
      });
      derivatives += i.code != Code::add && i.code != Code::mul && !is_leaf(i.code);
      if (i.code == Code::select) ask(i.a);
      if (i.code == Code::linear)
        for (U32 k = 0; k < i.b; ++k) ask(p.pool[i.a + i.b + k]);
      if (i.code == Code::mul) {
        if (flags[i.a] & Needs::kLive) ask(i.b);
        if (flags[i.b] & Needs::kLive) ask(i.a);
      } else if (i.code < Code::table_end && i.code != Code::add) {
        const int arity = kArity[static_cast<int>(i.code)];
        for (int k = 0; k < arity; ++k) {
          if (!(flags[k ? i.b : i.a] & Needs::kLive)) continue;
          const Reads r = known_reads(i.code, k);
          if (r.x) ask(i.a);
          if (r.y && arity == 2) ask(i.b);
          if (r.z) ask(n);
        }
      }
    }
    std::uint8_t own = flags[n];
    if (!(own & (Needs::kAsked | Needs::kUsed)) || first_same[n] != n) continue;
    own |= Needs::kNeeded;
    constexpr std::uint8_t kOnceBySum = Needs::kUsed | Needs::kBySum;
    if (i.code == Code::mul && how.fuse_products &&
        (own & (kOnceBySum | Needs::kUsedAgain | Needs::kAsked)) == kOnceBySum)
      own |= Needs::kFused;
    flags[n] = own;
    steps += !(own & Needs::kFused) && !is_leaf(i.code);
    const std::uint8_t first = i.code == Code::add || i.code == Code::sum ? kOnceBySum : std::uint8_t{Needs::kUsed};
    const auto use = [&](U32 operand) {
      std::uint8_t& f = flags[first_same[operand]];
      f |= f & Needs::kUsed ? std::uint8_t{Needs::kUsedAgain} : first;
    };
    if (i.code == Code::linear)
      use(i.c);
    else
      p.for_each_operand(i, use);
  }
  needs.part_count = part_count;
  needs.steps = steps;
  needs.derivatives = derivatives;
  return needs;
}

}  // namespace tapegrad
