// program.hpp: a recorded computation as a linear program in static single assignment form over the op table.
//
// Instruction i computes value i from values before it; nothing is assigned twice. Gradients are not part of a program:
// they are derived from it when it is lowered. A program knows no addresses: parameters and inputs are numbered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/node.hpp"
#include "core/graph/scratch.hpp"

namespace tapegrad {

// Up to kTableEnd the numbers are those of Op; beyond are the instructions that only programs have.
enum class Code : std::uint8_t {
  powc = static_cast<int>(Op::powc),
#define TAPEGRAD_BINARY(id, ...) id = static_cast<int>(Op::id),
#define TAPEGRAD_UNARY(id, ...) id = static_cast<int>(Op::id),
#include "core/ops/ops.def"
  table_end = static_cast<int>(Op::count),
  input = table_end,  // a: which
  param,              // a: which
  constant,           // number
  detach,             // a, as a number: no gradient goes through
  select,             // a != 0 ? b : c; no gradient to a
  sum,                // operands pool[a .. a + b), added from left to right
  linear,             // the value c; its derivatives by pool[a .. a + b) are the values pool[a + b .. a + 2 b)
  count
};

inline constexpr bool is_leaf(Code code) {
  return code == Code::input || code == Code::param || code == Code::constant;
}
const char* name_of(Code code);

struct Instruction {
  Code code;
  std::uint32_t a = 0, b = 0, c = 0;
  double number = 0.0;  // of constant; the exponent of powc
};

// What must hold for the program to stand for the function it was recorded from.
enum class GuardKind : std::uint8_t {
  truth,  // (value != 0) == expected
  whole,  // value cut to a whole number == expected
  exact,  // value == expected, where NaN equals NaN and -0 is not 0
};

struct Guard {
  GuardKind kind;
  std::uint32_t value;
  double expected;
  std::uint32_t note;  // into Program::notes: where in the source it was looked at

  bool holds(double x) const;
};

struct Program {
  LargeVector<Instruction> code;
  std::vector<std::uint32_t> pool;     // operands of sums and of linear
  std::vector<std::uint32_t> outputs;  // values handed back, in order
  std::vector<Guard> guards;
  std::vector<std::string> notes;
  std::uint32_t inputs = 0;
  std::uint32_t params = 0;

  // Throws std::length_error unless instructions, operands of sums, guards, inputs and parameters are at most
  // kMaxProgram each: to be called while a program is recorded or read. Passes add to it, so that there is more room
  // than that.
  void check_length() const {
    if (code.size() > kMaxProgram || pool.size() > kMaxProgram || guards.size() > kMaxProgram || inputs > kMaxProgram ||
        params > kMaxProgram)
      refuse_length();
  }
  [[noreturn]] static void refuse_length();

  // Throws std::length_error where values could no longer be numbered.
  std::uint32_t add(const Instruction& i) {
    if (code.size() >= 2 * kMaxProgram) [[unlikely]]
      refuse_length();
    code.push_back(i);
    return static_cast<std::uint32_t>(code.size() - 1);
  }

  template <typename F>
  void for_each_operand(const Instruction& i, F f) const {
    switch (i.code) {
      case Code::input:
      case Code::param:
      case Code::constant:
        return;
      case Code::detach:
        return f(i.a);
      case Code::select:
        f(i.a);
        f(i.b);
        return f(i.c);
      case Code::sum:
        for (std::uint32_t k = 0; k < i.b; ++k) f(pool[i.a + k]);
        return;
      case Code::linear:
        f(i.c);
        for (std::uint32_t k = 0; k < 2 * i.b; ++k) f(pool[i.a + k]);
        return;
      default:
        f(i.a);
        if (kArity[static_cast<int>(i.code)] == 2) f(i.b);
    }
  }

  // Replaces every operand by f(operand).
  template <typename F>
  void map_operands(Instruction& i, F f) {
    switch (i.code) {
      case Code::input:
      case Code::param:
      case Code::constant:
        return;
      case Code::detach:
        i.a = f(i.a);
        return;
      case Code::select:
        i.a = f(i.a);
        i.b = f(i.b);
        i.c = f(i.c);
        return;
      case Code::sum:
        for (std::uint32_t k = 0; k < i.b; ++k) pool[i.a + k] = f(pool[i.a + k]);
        return;
      case Code::linear:
        i.c = f(i.c);
        for (std::uint32_t k = 0; k < 2 * i.b; ++k) pool[i.a + k] = f(pool[i.a + k]);
        return;
      default:
        i.a = f(i.a);
        if (kArity[static_cast<int>(i.code)] == 2) i.b = f(i.b);
    }
  }

  // Text that read_program() takes back: one line an instruction, numbers to the last bit.
  std::string text() const;
};

// Reads what Program::text() wrote. Throws std::invalid_argument that names the line for anything else; what it returns
// is sound: every operand is computed before it is used and every number is in range.
Program read_program(const std::string& text);

// The value of one instruction, given a way to look up its operands. Follows IEEE: nothing raises.
double evaluate(const Program& program, const Instruction& i, const double* values);

}  // namespace tapegrad
