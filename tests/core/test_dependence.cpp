// test_dependence.cpp: what depends on what, for one program of each kind of instruction; what is said to have the same
// derivatives everywhere is also tried out by finite differences.
#include "core/replay/dependence.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "check.hpp"

using namespace tapegrad;

namespace {

// A program of two inputs and a parameter.
Program program(const std::string& rest) {
  return read_program("tapegrad program 1\ninputs 2\nparams 1\n%0 = input 0\n%1 = input 1\n%2 = param 0\n" + rest);
}

double run(const Program& p, double x, double y) {
  std::vector<double> values(p.code.size());
  for (std::size_t n = 0; n < p.code.size(); ++n) {
    const Instruction& i = p.code[n];
    values[n] = i.code == Code::input ? (i.a ? y : x) : i.code == Code::param ? 1.75 : evaluate(p, i, values.data());
  }
  return values[p.outputs[0]];
}

struct Case {
  const char* text;
  bool of_first, of_both;  // whether the derivatives by the first input, by both, are the same everywhere
};

const Case kCases[] = {
    {"%3 = add %0 %1\nreturn %3\n", true, true},
    {"%3 = sum %0 %1 %0 %2\nreturn %3\n", true, true},
    {"%3 = mul %0 %2\nreturn %3\n", true, true},
    {"%3 = mul %2 %0\nreturn %3\n", true, true},
    {"%3 = mul %0 %1\nreturn %3\n", true, false},
    {"%3 = mul %0 %0\nreturn %3\n", false, false},
    {"%3 = mul %1 %1\nreturn %3\n", true, false},
    {"%3 = div %0 %2\nreturn %3\n", true, true},
    {"%3 = div %0 %1\nreturn %3\n", true, false},
    {"%3 = div %1 %0\nreturn %3\n", false, false},
    {"%3 = div %2 %0\nreturn %3\n", false, false},
    {"%3 = tanh %0\nreturn %3\n", false, false},
    {"%3 = tanh %1\n%4 = add %3 %0\nreturn %4\n", true, false},
    {"%3 = tanh %2\n%4 = mul %3 %0\nreturn %4\n", true, true},
    {"%3 = powc %0 2\nreturn %3\n", false, false},
    {"%3 = relu %0\nreturn %3\n", false, false},
    {"%3 = less %0 %2\n%4 = select %3 %0 %2\nreturn %4\n", false, false},
    {"%3 = less %1 %2\n%4 = select %3 %0 %2\nreturn %4\n", true, false},
    {"%3 = less %2 %2\n%4 = select %3 %0 %1\nreturn %4\n", true, true},
    {"%3 = detach %0\n%4 = add %3 %1\nreturn %4\n", true, true},
    {"%3 = detach %0\n%4 = mul %3 %0\nreturn %4\n", false, false},
    {"%3 = linear %2 %0 %2\nreturn %3\n", true, true},   // the value %2, the operand %0, its derivative %2
    {"%3 = linear %2 %0 %1\nreturn %3\n", true, false},  // the derivative by the first is the second
    {"%3 = linear %2 %0 %0\nreturn %3\n", false, false},
};

void derivatives() {
  for (const Case& c : kCases) {
    const Program p = program(c.text);
    if (is_affine(p, {true, false}) != c.of_first || is_affine(p, {true, true}) != c.of_both) {
      std::fprintf(stderr, "%s", c.text);
      std::exit(1);
    }
    CHECK(is_affine(p, {false, false}));
    if (!c.of_first || p.code.back().code == Code::linear || std::string(c.text).find("detach") != std::string::npos)
      continue;  // these have other derivatives than their values
    for (double y : {0.5, 3.0}) {
      const double slope = run(p, 1.0, y) - run(p, 0.0, y);
      for (double x : {-2.0, 5.0}) CHECK_NEAR((run(p, x, y) - run(p, 0.0, y)) / x, slope, 1e-12);
    }
  }
}

// Values that have a gradient by what is marked.
void varied() {
  const auto last = [](const char* rest, bool first, bool second, bool param) {
    const Program p = program(rest);
    const std::vector<bool> all = varied_values(p, {first, second}, {param});
    CHECK(all.size() == p.code.size() && all[0] == first && all[1] == second && all[2] == param);
    return static_cast<bool>(all.back());
  };
  for (const char* text :
       {"%3 = add %0 %2\nreturn %3\n", "%3 = sum %0 %2 %0\nreturn %3\n", "%3 = div %0 %2\nreturn %3\n"}) {
    CHECK(last(text, true, false, false) && last(text, false, false, true) && !last(text, false, true, false));
  }
  CHECK(last("%3 = tanh %1\nreturn %3\n", false, true, false) && !last("%3 = tanh %1\nreturn %3\n", true, false, true));
  const char* select = "%3 = select %0 %1 %2\nreturn %3\n";
  CHECK(!last(select, true, false, false) && last(select, false, true, false) && last(select, false, false, true));
  const char* linear = "%3 = linear %0 %1 %2\nreturn %3\n";  // of its operands only
  CHECK(!last(linear, true, false, false) && last(linear, false, true, false) && !last(linear, false, false, true));
  for (const char* text :
       {"%3 = detach %0\nreturn %3\n", "%3 = less %0 %1\nreturn %3\n", "%3 = less_equal %0 %1\nreturn %3\n",
        "%3 = equal %0 %1\nreturn %3\n", "%3 = constant 2.0\nreturn %3\n"})
    CHECK(!last(text, true, true, true));
}

}  // namespace

int main() {
  derivatives();
  varied();
  std::puts("dependence: passed");
}
