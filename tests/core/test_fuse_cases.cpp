// test_fuse_cases.cpp: each way to write softmax, log(e^x + 1) and softplus, and each way that almost is: the bits of
// an eager sweep, and as many steps taken together as there are to take.
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/fuse.hpp"
#include "core/replay/replay.hpp"
#include "eager.hpp"
#include "fuse_cases.hpp"

using namespace tapegrad;

namespace {

constexpr std::uint32_t kParams = 6;

// The program of lines such as "s = sum a b"; its last line is its result.
Program program_of(const std::string& text) {
  std::map<std::string, std::size_t> numbers;
  std::ostringstream out;
  out << "tapegrad program 1\ninputs 0\nparams " << kParams << "\n";
  for (std::uint32_t k = 0; k < kParams; ++k) {
    out << '%' << k << " = param " << k << "\n";
    numbers[{'p', static_cast<char>('0' + k)}] = k;
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line, ';');) {
    std::istringstream words(line);
    std::string name, word;
    words >> name;
    out << '%' << numbers.size();
    while (words >> word) numbers.count(word) ? out << " %" << numbers[word] : out << ' ' << word;
    out << "\n";
    CHECK(numbers.emplace(name, numbers.size()).second);
  }
  out << "return %" << numbers.size() - 1 << "\n";
  return read_program(out.str());
}

// A program ready to run.
struct Ready {
  Lowered lowered;
  ScalarCode code;
  Ready(const Draft& draft, const Lowering& how) : lowered(lower(draft, how)), code(lowered) {}

  std::vector<double> run(const std::vector<double>& params, const std::vector<double>& before) const {
    std::vector<double> m(code.slots());
    code.prepare(m.data());
    for (std::uint32_t k = 0; k < kParams; ++k) {
      m[lowered.param_base + k] = params[k];
      m[lowered.param_gradients + k] = before[k];
    }
    code.forward(m.data());
    std::vector<double> out{m[lowered.outputs[0]]};
    CHECK(lowered.seed != kNoSlot);
    m[lowered.seed] = 1.0;
    code.backward(m.data());
    for (std::uint32_t k = 0; k < kParams; ++k) out.push_back(m[lowered.param_gradients + k]);
    return out;
  }

  std::size_t steps(int direction) const { return lowered.streams[direction].steps.size(); }
  std::size_t fused(int direction) const {
    std::size_t count = 0;
    for (const Word at : lowered.streams[direction].steps) count += lowered.streams[direction].words[at] >= kFirstFused;
    return count;
  }
};

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || !std::memcmp(&a, &b, sizeof a);
}

// Steps that are several in one, and how many steps of their own there were instead: forward, then backward.
struct Taken {
  std::size_t fused[2], instead[2];
};

struct Case {
  std::string what, text;
  Taken exact, loose;
};

Taken read_taken(const std::string& text) {
  std::istringstream in(text);
  Taken t;
  for (int d = 0; d < 2; ++d) {
    char becomes = 0;
    in >> t.instead[d] >> becomes >> t.fused[d];
    CHECK(in && becomes == '>');
  }
  return t;
}

std::vector<Case> read_cases() {
  std::vector<Case> cases;
  std::istringstream lines(test::kFuseCases);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    if (line[0] == ' ') {
      cases.back().text += line;
      continue;
    }
    std::istringstream in(line);
    std::string part[3];
    Case c;
    std::getline(in, c.what, '|');
    for (std::string& p : part) std::getline(in, p, '|');
    c.exact = read_taken(part[0]);
    c.loose = read_taken(part[1]);
    c.text = part[2];
    cases.push_back(c);
  }
  for (Case& c : cases) {
    for (const auto& [name, piece] : test::kFusePieces) {
      const std::size_t at = c.text.find(name);
      if (at != std::string::npos) c.text.replace(at, std::strlen(name), piece);
    }
  }
  return cases;
}

Lowering how(bool exact, bool fuse) {
  Lowering h;
  h.forward_only = false;
  h.param_gradients = true;
  h.schedule = true;
  h.fuse_functions = fuse;
  h.exact = exact;
  return h;
}

void test_case(const Case& c) {
  const Program p = program_of(c.text);
  std::mt19937 random(7);
  for (const bool exact : {true, false}) {
    for (const bool simple : {true, false}) {
      const Draft draft = simple ? simplify(p, exact, {}, nullptr) : Draft(p);
      const Ready code(draft, how(exact, true)), plain(draft, how(exact, false));
      for (int d = 0; d < 2 && simple; ++d) {
        const Taken& taken = exact ? c.exact : c.loose;
        const std::size_t instead = plain.steps(d) + code.fused(d) - code.steps(d);
        if (code.fused(d) == taken.fused[d] && instead == taken.instead[d]) continue;
        std::fprintf(stderr, "%s, %s, %s: %zu steps for %zu, not %zu for %zu\n", c.what.c_str(),
                     exact ? "exact" : "loose", d ? "backward" : "forward", code.fused(d), instead, taken.fused[d],
                     taken.instead[d]);
        std::exit(1);
      }
      for (int trial = 0; trial < 40; ++trial) {
        std::vector<double> params, before;
        const double range = trial < 20 ? 2 : !exact ? 4 : trial < 30 ? 30 : 900;
        for (std::uint32_t k = 0; k < kParams; ++k) {
          params.push_back(range * (static_cast<double>(random()) * 0x1p-31 - 1));
          before.push_back(0.125 * k);
        }
        if (trial == 39) params[0] = std::nan("");
        const std::vector<double> expected = test::sweep(p, params, before), found = code.run(params, before);
        for (std::size_t k = 0; k <= kParams; ++k) {
          const bool fits = same(found[k], expected[k]) ||
                            (!exact && (!std::isfinite(expected[k]) ||
                                        std::fabs(found[k] - expected[k]) <= 1e-11 * (1 + std::fabs(expected[k]))));
          if (fits) continue;
          std::fprintf(stderr, "%s, %s: number %zu is %.17g, not %.17g\n", c.what.c_str(), exact ? "exact" : "loose", k,
                       found[k], expected[k]);
          std::exit(1);
        }
      }
    }
  }
}

// Libraries' pow(x, -1) is not 1 / x for about every thousandth x: bits are those of the one that is written.
void test_reciprocals() {
  const Program quotient = program_of(
      "e = exp p0; s = sum e p1 p2; one = constant 1; r = div one s; z = mul e r; w = mul p1 r; y = sum z w");
  const Program power =
      program_of("e = exp p0; s = sum e p1 p2; r = powc s -1; z = mul e r; w = mul p1 r; y = sum z w");
  std::mt19937_64 random(8);
  for (const Program* p : {&quotient, &power}) {
    const Ready code(simplify(*p, true, {}, nullptr), how(true, true));
    for (int trial = 0; trial < 20000; ++trial) {
      const double x = 1 + static_cast<double>(random() >> 12) * 0x1p-52;
      const double low = trial % 2 ? -700 : -1000;  // nothing to the sum, by the library or not
      const std::vector<double> params{low, x, 0, 0, 0, 0}, before(kParams);
      const std::vector<double> expected = test::sweep(*p, params, before), found = code.run(params, before);
      for (std::size_t k = 0; k <= kParams; ++k) CHECK(same(found[k], expected[k]));
    }
  }
}

}  // namespace

int main() {
  const std::vector<Case> cases = read_cases();
  CHECK(cases.size() > 60);
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (!lanes::use_instruction_set(name)) continue;
    for (const Case& c : cases) test_case(c);
    test_reciprocals();
  }
}
