// fuzz_programs.cpp: byte strings as programs for the compiler: text and back, damaged text, every mix of passes and
// ways of lowering beside a reference that computes one instruction after the other, and lanes beside single runs.
#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

#include "core/ops/ops.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/columns.hpp"
#include "core/replay/lower.hpp"
#include "core/replay/replay.hpp"
#include "core/replay/replay_lanes.hpp"
#include "fuzz.hpp"

#define REQUIRE(condition)                                                                 \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      std::fprintf(stderr, "%s:%d: REQUIRE(%s) failed\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                        \
    }                                                                                      \
  } while (0)

namespace tapegrad::test {

namespace {

using Numbers = std::vector<double>;

// Operations whose results on small whole numbers and their halves are exact, in any order and in any kernel.
constexpr Code kExact[] = {Code::add,    Code::mul,  Code::maximum,    Code::minimum, Code::relu,
                           Code::abs,    Code::less, Code::less_equal, Code::equal,   Code::select,
                           Code::detach, Code::sum,  Code::add,        Code::mul,     Code::powc};

Program make_program(Bytes& in, bool exact) {
  Program p;
  p.inputs = in.below(4);
  p.params = in.below(4);
  for (std::uint32_t k = 0; k < p.inputs; ++k) p.add({Code::input, k});
  for (std::uint32_t k = 0; k < p.params; ++k) p.add({Code::param, k});
  p.add({Code::constant, 0, 0, 0, exact ? 0.5 : in.number()});
  const std::uint32_t size = 1 + in.below(40);
  const auto pick = [&] { return in.below(static_cast<std::uint32_t>(p.code.size())); };
  for (std::uint32_t n = 0; n < size; ++n) {
    Instruction i{};
    if (exact) {
      i.code = kExact[in.below(std::size(kExact))];
    } else {
      const auto first = static_cast<std::uint32_t>(Code::powc), last = static_cast<std::uint32_t>(Code::count);
      i.code = static_cast<Code>(first + in.below(last - first));
    }
    switch (i.code) {
      case Code::input:
      case Code::param:
        continue;  // a recording has each once
      case Code::constant:
        i.number = in.number();
        break;
      case Code::sum:
      case Code::linear: {
        const std::uint32_t count = i.code == Code::sum ? 1 + in.below(5) : in.below(3);
        i.c = i.code == Code::linear ? pick() : 0;
        std::vector<std::uint32_t> operands;
        for (std::uint32_t k = 0; k < (i.code == Code::sum ? count : 2 * count); ++k) operands.push_back(pick());
        i.a = static_cast<std::uint32_t>(p.pool.size());
        i.b = count;
        p.pool.insert(p.pool.end(), operands.begin(), operands.end());
        break;
      }
      case Code::powc:
        i.a = pick();
        i.number = exact ? 1 + in.below(3) : in.number();
        break;
      case Code::select:
        i.c = pick();
        [[fallthrough]];
      default:
        i.a = pick();
        if (i.code == Code::select || (i.code < Code::table_end && kArity[static_cast<int>(i.code)] == 2)) i.b = pick();
    }
    p.add(i);
  }
  p.outputs.push_back(static_cast<std::uint32_t>(p.code.size() - 1));
  for (std::uint32_t n = in.below(3); n-- > 0;) {
    p.notes.push_back("line " + std::to_string(n));
    p.guards.push_back(
        {static_cast<GuardKind>(in.below(3)), pick(), in.number(), static_cast<std::uint32_t>(p.notes.size() - 1)});
  }
  return p;
}

Numbers values_of(const Program& p, const Numbers& inputs, const Numbers& params) {
  Numbers v(p.code.size());
  for (std::size_t n = 0; n < v.size(); ++n) {
    const Instruction& i = p.code[n];
    v[n] = i.code == Code::input ? inputs[i.a] : i.code == Code::param ? params[i.a] : evaluate(p, i, v.data());
  }
  return v;
}

struct Gradients {
  Numbers inputs, params;
};

// Whether a value depends on a wanted leaf by a way that gradients go: only there does the sweep of an eager graph and
// that of a program do the same work.
std::vector<bool> varied_of(const Program& p) {
  std::vector<bool> varied(p.code.size());
  for (std::size_t n = 0; n < varied.size(); ++n) {
    const Instruction& i = p.code[n];
    switch (i.code) {
      case Code::input:
      case Code::param:
        varied[n] = true;
        break;
      case Code::detach:
      case Code::less:
      case Code::less_equal:
      case Code::equal:
        break;
      case Code::select:
        varied[n] = varied[i.b] || varied[i.c];
        break;
      case Code::linear:
        for (std::uint32_t k = 0; k < i.b; ++k) varied[n] = varied[n] || varied[p.pool[i.a + k]];
        break;
      default:
        p.for_each_operand(i, [&](std::uint32_t operand) { varied[n] = varied[n] || varied[operand]; });
    }
  }
  return varied;
}

// Reverse accumulation, newest instruction first, each operand in the order in which a node's rule has it.
Gradients gradients_of(const Program& p, const Numbers& v, const std::vector<bool>& varied) {
  Gradients out{Numbers(p.inputs), Numbers(p.params)};
  Numbers g(p.code.size());
  std::vector<bool> live(p.code.size());
  const std::uint32_t root = p.outputs[0];
  if (!varied[root]) return out;
  g[root] = 1.0;
  live[root] = true;
  const auto add = [&](std::uint32_t operand, double amount) {
    if (!varied[operand]) return;
    g[operand] += amount;
    live[operand] = true;
  };
  for (std::size_t n = p.code.size(); n-- > 0;) {
    if (!live[n]) continue;
    const Instruction& i = p.code[n];
    const double x = i.a < n ? v[i.a] : 0, y = i.b < n ? v[i.b] : 0;
    switch (i.code) {
      case Code::input:
        out.inputs[i.a] += g[n];
        break;
      case Code::param:
        out.params[i.a] += g[n];
        break;
      case Code::select:
        add(i.b, x != 0 ? g[n] : 0.0);
        add(i.c, x != 0 ? 0.0 : g[n]);
        break;
      case Code::sum:
        for (std::uint32_t k = i.b; k-- > 0;) add(p.pool[i.a + k], g[n]);
        break;
      case Code::linear:
        for (std::uint32_t k = 0; k < i.b; ++k) add(p.pool[i.a + k], v[p.pool[i.a + i.b + k]] * g[n]);
        break;
      case Code::powc:
        add(i.a, fn::pow_dx(x, i.number) * g[n]);
        break;
#define TAPEGRAD_UNARY(id, ...)                 \
  case Code::id:                                \
    add(i.a, Rule<Op::id>::dx(x, v[n]) * g[n]); \
    break;
#define TAPEGRAD_BINARY(id, ...)                  \
  case Code::id: {                                \
    const double own = g[n];                      \
    add(i.a, Rule<Op::id>::dx(x, y, v[n]) * own); \
    add(i.b, Rule<Op::id>::dy(x, y, v[n]) * own); \
    break;                                        \
  }
#include "core/ops/ops.def"
      default:
        break;
    }
  }
  return out;
}

bool same_numbers(const Numbers& x, const Numbers& y) {
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), same_number);
}

bool close(double x, double y) {
  return same_number(x, y) || std::fabs(x - y) <= 1e-9 * (1 + std::fabs(y));
}

bool all_tame(const Numbers& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](double x) { return std::fabs(x) < 1e6; });
}

Lowering choose(Bytes& in) {
  Lowering how;
  const std::uint32_t bits = in.byte();
  how.first_writer_stores = bits & 1;
  how.share_slots = bits & 2;
  how.fuse_products = bits & 4;
  how.schedule = bits & 8;
  return how;
}

std::vector<std::string> choose_off(Bytes& in) {
  std::vector<std::string> off;
  const std::uint32_t bits = in.byte();
  for (std::size_t k = 0; k < std::size(kPasses); ++k)
    if (bits >> k & 1) off.push_back(kPasses[k].name);
  return off;
}

bool leaves_are_unique(const Program& p) {
  std::vector<bool> inputs(p.inputs), params(p.params);
  for (const Instruction& i : p.code) {
    if (i.code != Code::input && i.code != Code::param) continue;
    auto seen = (i.code == Code::input ? inputs : params)[i.a];
    if (seen) return false;
    seen = true;
  }
  return true;
}

// What limits.hpp counts on: a lowered program is at most 14 times as large as the program, but for a few numbers.
void require_bounded(const Program& p, const Lowered& l) {
  const std::size_t size = std::max({p.code.size(), p.pool.size(), std::size_t{p.inputs}, std::size_t{p.params}});
  const std::size_t made =
      std::max({std::size_t{l.slots}, l.streams[0].words.size(), l.streams[1].words.size(), l.constants.size()});
  REQUIRE(made <= 14 * size + 16);
}

void run_scalar(Bytes& in, const Program& p, const Numbers& inputs, const Numbers& params) {
  const Numbers v = values_of(p, inputs, params);
  Lowering how = choose(in);
  const Draft draft = simplify(p, true, choose_off(in), nullptr);
  how.forward_only = in.byte() % 4 == 0;
  how.param_gradients = !how.forward_only;
  if (!how.forward_only) how.input_gradients.assign(p.inputs, true);
  const Lowered lowered = lower(draft, how);
  require_bounded(p, lowered);
  const ScalarCode code(lowered);
  Numbers m(code.slots());
  code.prepare(m.data());
  for (int round = 0; round < 2; ++round) {  // memory is used again
    std::copy(inputs.begin(), inputs.end(), m.begin() + lowered.input_base);
    std::copy(params.begin(), params.end(), m.begin() + lowered.param_base);
    code.forward(m.data());
    REQUIRE(same_number(m[lowered.outputs[0]], v[p.outputs[0]]));
    REQUIRE(lowered.guards.size() == p.guards.size());
    for (std::size_t k = 0; k < p.guards.size(); ++k)
      REQUIRE(lowered.guards[k].guard.holds(m[lowered.guards[k].slot]) == p.guards[k].holds(v[p.guards[k].value]));
    if (how.forward_only) continue;
    std::fill_n(m.begin() + lowered.input_gradients, p.inputs, 0.0);
    std::fill_n(m.begin() + lowered.param_gradients, p.params, 0.0);
    if (lowered.seed != kNoSlot) {
      m[lowered.seed] = 1.0;
      code.backward(m.data());
    }
    if (!leaves_are_unique(p)) continue;  // then parts of a leaf's gradient come in another order
    const Gradients expected = gradients_of(p, v, varied_of(p));
    const Numbers by_inputs(m.begin() + lowered.input_gradients, m.begin() + lowered.input_gradients + p.inputs);
    const Numbers by_params(m.begin() + lowered.param_gradients, m.begin() + lowered.param_gradients + p.params);
    REQUIRE(same_numbers(by_inputs, expected.inputs));
    REQUIRE(same_numbers(by_params, expected.params));
  }
  Numbers checked(code.slots());
  code.prepare(checked.data());
  std::copy(inputs.begin(), inputs.end(), checked.begin() + lowered.input_base);
  std::copy(params.begin(), params.end(), checked.begin() + lowered.param_base);
  if (code.checked_forward(checked.data()).code == Code::count)
    REQUIRE(same_number(checked[lowered.outputs[0]], v[p.outputs[0]]));
}

// Numbers small enough for every result to be exact: then lanes have the bits of the reference, whatever the kernels.
void run_lanes(Bytes& in, const Program& p, const Numbers& params) {
  const std::size_t lanes = 1 + in.below(70);
  std::vector<Numbers> columns(p.inputs, Numbers(lanes)), gradients(p.inputs, Numbers(lanes));
  for (Numbers& column : columns)
    for (std::size_t k = 0; k < lanes; ++k) column[k] = (static_cast<double>((k * 7 + in.byte()) % 13) - 6) / 2;
  Numbers expected(lanes), by_params(p.params), magnitude(p.params);
  std::vector<Numbers> by_inputs(p.inputs, Numbers(lanes));
  const std::vector<bool> varied = varied_of(p);
  for (std::size_t k = 0; k < lanes; ++k) {
    Numbers row;
    for (const Numbers& column : columns) row.push_back(column[k]);
    const Numbers v = values_of(p, row, params);
    const Gradients g = gradients_of(p, v, varied);
    if (!all_tame(v) || !all_tame(g.inputs) || !all_tame(g.params)) return;
    expected[k] = v[p.outputs[0]];
    for (std::size_t i = 0; i < p.inputs; ++i) by_inputs[i][k] = g.inputs[i];
    for (std::size_t i = 0; i < p.params; ++i) {
      by_params[i] += g.params[i];
      magnitude[i] += std::fabs(g.params[i]);
    }
  }
  Lowering how = choose(in);
  how.schedule = false;
  how.exact = false;
  how.forward_only = false;
  how.param_gradients = true;
  how.input_gradients.assign(p.inputs, true);
  const Draft draft = simplify(p, in.coin(), choose_off(in), nullptr);
  const LaneCode code(lower_steps(draft, how), in.coin());
  how.fresh_inputs = true;
  const Lowered gathered = lower(draft, how);
  std::optional<ColumnCode> columns_code;
  if (ColumnCode::suits(gathered)) columns_code.emplace(gathered);
  Numbers out(lanes), sums(p.params);
  std::vector<const double*> data;
  std::vector<double*> to;
  const std::vector<std::size_t> strides(p.inputs, 1);
  for (std::uint32_t i = 0; i < p.inputs; ++i) {
    data.push_back(columns[i].data());
    to.push_back(gradients[i].data());
  }
  LaneRun run;
  double* outputs = out.data();
  run.lanes = lanes;
  run.threads = in.byte() % 64 ? 1 : 2;
  run.params = params.data();
  run.inputs = data.data();
  run.input_strides = strides.data();
  run.outputs = &outputs;
  run.input_gradients = to.data();
  run.gradient_strides = strides.data();
  run.param_gradients = sums.data();
  for (const bool by_columns : {false, true}) {
    if (by_columns && !columns_code) continue;
    LaneGuards guards;
    by_columns ? columns_code->run(run, &guards) : code.run(run, &guards);
    for (std::size_t failures : guards.failures)
      if (failures) return;
    for (std::size_t k = 0; k < lanes; ++k) REQUIRE(close(out[k], expected[k]));
    for (std::size_t i = 0; i < p.inputs; ++i)
      for (std::size_t k = 0; k < lanes; ++k) REQUIRE(close(gradients[i][k], by_inputs[i][k]));
    for (std::size_t i = 0; i < p.params; ++i) REQUIRE(std::fabs(sums[i] - by_params[i]) <= 1e-9 * (1 + magnitude[i]));
  }
}

// Text with a few bytes changed: refused, or a program that runs.
void damage(Bytes& in, const Program& p) {
  std::string text = p.text();
  for (std::uint32_t n = 1 + in.below(4); n-- > 0;) {
    const std::size_t at = in.below(static_cast<std::uint32_t>(text.size()));
    const std::uint32_t kind = in.byte() % 4;
    constexpr char kLikely[] = "0123456789% \n-einpsud";
    const char c = in.coin() ? static_cast<char>(in.byte()) : kLikely[in.below(sizeof kLikely - 1)];
    if (kind == 0) text[at] = c;
    if (kind == 1) text.insert(at, 1, c);
    if (kind == 2) text.erase(at, 1 + in.below(8));
    if (kind == 3) text.insert(at, text.substr(in.below(static_cast<std::uint32_t>(text.size())), in.below(40)));
  }
  try {
    const Program read = read_program(text);
    if (read.inputs > 10000 || read.params > 10000) return;
    const Numbers inputs(read.inputs, 0.5), params(read.params, -0.5);
    REQUIRE(read_program(read.text()).text() == read.text());
    if (!read.outputs.empty()) run_scalar(in, read, inputs, params);
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

void fuzz_one(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  const bool exact = in.coin();
  const Program p = make_program(in, exact);
  REQUIRE(read_program(p.text()).text() == p.text());
  Numbers inputs, params;
  for (std::uint32_t k = 0; k < p.inputs; ++k) inputs.push_back(in.number());
  for (std::uint32_t k = 0; k < p.params; ++k)
    params.push_back(exact ? (static_cast<double>(in.below(13)) - 6) / 2 : in.number());
  run_scalar(in, p, inputs, params);
  if (exact) run_lanes(in, p, params);
  damage(in, p);
}

}  // namespace tapegrad::test
