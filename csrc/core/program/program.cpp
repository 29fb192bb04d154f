// program.cpp: programs as text, and the value of a single instruction.
#include "core/program/program.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "core/ops/ops.hpp"

namespace tapegrad {

namespace {

constexpr const char* kLeafNames[] = {"input", "param", "constant", "detach", "select", "sum", "linear"};
constexpr const char* kGuardNames[] = {"is_true", "whole", "equals"};

std::string number_text(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

Code find_code(const std::string& name) {
  for (int c = static_cast<int>(Code::powc); c < static_cast<int>(Code::count); ++c)
    if (name == name_of(static_cast<Code>(c))) return static_cast<Code>(c);
  return Code::count;
}

// Reads one line of a program and says what is wrong with it.
class LineReader {
 public:
  LineReader(const std::string& line, std::size_t number) : in_(line), line_(line), number_(number) {
    in_.exceptions(std::ios::badbit);  // want of memory is no damage
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument("damaged program, line " + std::to_string(number_) + ": " + what + ": " +
                                line_.substr(0, 200));
  }

  bool word(std::string* out) { return static_cast<bool>(in_ >> *out); }

  std::string need(const char* what) {
    std::string text;
    if (!word(&text)) fail(std::string("expected ") + what);
    return text;
  }

  std::uint32_t whole(const char* what) { return parse_whole(need(what), what); }

  std::uint32_t parse_whole(const std::string& text, const char* what) const {
    if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
      fail(std::string("expected ") + what + ", a whole number");
    return static_cast<std::uint32_t>(std::strtoul(text.c_str(), nullptr, 10));
  }

  std::uint32_t value(const std::string& text, std::size_t limit) const {
    if (text.size() < 2 || text[0] != '%') fail("expected a value such as %0");
    const std::uint32_t i = parse_whole(text.substr(1), "a value");
    if (i >= limit) fail("value " + text + " is used before it is computed");
    return i;
  }
  std::uint32_t value(std::size_t limit) { return value(need("a value"), limit); }

  double number() {
    const std::string text = need("a number");
    char* end = nullptr;
    const double x = std::strtod(text.c_str(), &end);
    if (end != text.c_str() + text.size()) fail("expected a number");
    return x;
  }

  std::string rest() {
    std::string text;
    std::getline(in_, text);
    const std::size_t start = text.find_first_not_of(' ');
    return start == std::string::npos ? "" : text.substr(start);
  }

  void end() {
    std::string text;
    if (word(&text)) fail("unexpected '" + text + "'");
  }

 private:
  std::istringstream in_;
  const std::string& line_;
  std::size_t number_;
};

void read_instruction(LineReader& line, const std::string& label, Program* p) {
  if (line.value(label, p->code.size() + 1) != p->code.size()) line.fail("values must be numbered in order");
  if (line.need("=") != "=") line.fail("expected =");
  Instruction i{};
  i.code = find_code(line.need("an operation"));
  const std::size_t limit = p->code.size();
  switch (i.code) {
    case Code::count:
      line.fail("unknown operation");
    case Code::input:
      i.a = line.whole("an input");
      if (i.a >= p->inputs) line.fail("there is no such input");
      break;
    case Code::param:
      i.a = line.whole("a parameter");
      if (i.a >= p->params) line.fail("there is no such parameter");
      break;
    case Code::constant:
      i.number = line.number();
      break;
    case Code::detach:
      i.a = line.value(limit);
      break;
    case Code::select:
      i.a = line.value(limit);
      i.b = line.value(limit);
      i.c = line.value(limit);
      break;
    case Code::sum: {
      i.a = static_cast<std::uint32_t>(p->pool.size());
      std::string operand;
      while (line.word(&operand)) p->pool.push_back(line.value(operand, limit));
      i.b = static_cast<std::uint32_t>(p->pool.size()) - i.a;
      if (!i.b) line.fail("a sum needs operands");
      break;
    }
    case Code::linear: {
      i.c = line.value(limit);
      i.a = static_cast<std::uint32_t>(p->pool.size());
      std::string operand;
      while (line.word(&operand)) p->pool.push_back(line.value(operand, limit));
      const std::size_t count = p->pool.size() - i.a;
      if (count % 2) line.fail("linear needs one derivative for each operand");
      i.b = static_cast<std::uint32_t>(count / 2);
      break;
    }
    case Code::powc:
      i.a = line.value(limit);
      i.number = line.number();
      break;
    default:
      i.a = line.value(limit);
      if (kArity[static_cast<int>(i.code)] == 2) i.b = line.value(limit);
  }
  line.end();
  p->add(i);
  p->check_length();
}

}  // namespace

const char* name_of(Code code) {
  if (code >= Code::table_end) return kLeafNames[static_cast<int>(code) - static_cast<int>(Code::table_end)];
  return info(static_cast<Op>(code)).name;
}

bool Guard::holds(double x) const {
  switch (kind) {
    case GuardKind::truth:
      return (x != 0) == (expected != 0);
    case GuardKind::whole:
      return std::trunc(x) == expected;
    default:
      return (x == expected && std::signbit(x) == std::signbit(expected)) || (std::isnan(x) && std::isnan(expected));
  }
}

void Program::refuse_length() {
  throw std::length_error(
      "a program can have at most " + std::to_string(kMaxProgram) +
      " instructions, operands of sums, guards, inputs and parameters each: compile a part of the function, "
      "or write loops over many numbers with vmap");
}

std::string Program::text() const {
  std::string out =
      "tapegrad program 1\ninputs " + std::to_string(inputs) + "\nparams " + std::to_string(params) + "\n";
  for (std::size_t n = 0; n < code.size(); ++n) {
    const Instruction& i = code[n];
    out += '%' + std::to_string(n) + " = " + name_of(i.code);
    if (i.code == Code::input || i.code == Code::param) out += ' ' + std::to_string(i.a);
    for_each_operand(i, [&](std::uint32_t operand) { out += " %" + std::to_string(operand); });
    if (i.code == Code::constant || i.code == Code::powc) out += ' ' + number_text(i.number);
    out += '\n';
  }
  for (const Guard& g : guards)
    out += std::string("guard ") + kGuardNames[static_cast<int>(g.kind)] + " %" + std::to_string(g.value) + ' ' +
           number_text(g.expected) + ' ' + notes[g.note] + '\n';
  out += "return";
  for (std::uint32_t o : outputs) out += " %" + std::to_string(o);
  return out + '\n';
}

Program read_program(const std::string& text) {
  Program p;
  std::istringstream in(text);
  in.exceptions(std::ios::badbit);
  std::string line;
  bool returned = false;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    LineReader reader(line, number);
    std::string first;
    if (number == 1) {
      if (line != "tapegrad program 1") reader.fail("expected the header 'tapegrad program 1'");
      continue;
    }
    if (!reader.word(&first) || first[0] == '#') continue;
    if (returned) reader.fail("nothing may follow the return line");
    if (first == "inputs" || first == "params") {
      if (!p.code.empty()) reader.fail("inputs and params stand before the first instruction");
      (first == "inputs" ? p.inputs : p.params) = reader.whole("a count");
      p.check_length();
    } else if (first == "guard") {
      Guard g{};
      const std::string kind = reader.need("a kind of guard");
      int k = 0;
      while (k < 3 && kind != kGuardNames[k]) ++k;
      if (k == 3) reader.fail("unknown kind of guard");
      g.kind = static_cast<GuardKind>(k);
      g.value = reader.value(p.code.size());
      g.expected = reader.number();
      g.note = static_cast<std::uint32_t>(p.notes.size());
      p.notes.push_back(reader.rest());
      p.guards.push_back(g);
    } else if (first == "return") {
      std::string output;
      while (reader.word(&output)) p.outputs.push_back(reader.value(output, p.code.size()));
      returned = true;
    } else {
      read_instruction(reader, first, &p);
    }
  }
  if (!returned) throw std::invalid_argument("damaged program: it has no return line");
  return p;
}

double evaluate(const Program& p, const Instruction& i, const double* values) {
  switch (i.code) {
    case Code::constant:
      return i.number;
    case Code::detach:
      return values[i.a];
    case Code::select:
      return values[i.a] != 0 ? values[i.b] : values[i.c];
    case Code::sum: {
      double z = values[p.pool[i.a]];
      for (std::uint32_t k = 1; k < i.b; ++k) z += values[p.pool[i.a + k]];
      return z;
    }
    case Code::linear:
      return values[i.c];
    case Code::powc:
      return fn::pow(values[i.a], i.number);
#define TAPEGRAD_UNARY(id, ...) \
  case Code::id:                \
    return Rule<Op::id>::value(values[i.a]);
#define TAPEGRAD_BINARY(id, ...) \
  case Code::id:                 \
    return Rule<Op::id>::value(values[i.a], values[i.b]);
#include "core/ops/ops.def"
    default:
      return 0.0;
  }
}

}  // namespace tapegrad
