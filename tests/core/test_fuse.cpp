// test_fuse.cpp: programs full of softmax, log(e^x + 1) and softplus, in all the ways to write them and in ways that
// almost are, give the same bits whether their steps are fused or not; the exponentials inside are those of the C
// library.
#include "core/replay/fuse.hpp"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/ops/functions.hpp"
#include "core/program/passes/passes.hpp"
#include "core/replay/fused.hpp"
#include "core/replay/replay.hpp"

using namespace tapegrad;

namespace {

constexpr std::uint32_t kParams = 12;

class Writer {
 public:
  explicit Writer(std::mt19937& random) : random_(random) {
    p_.params = kParams;
    for (std::uint32_t k = 0; k < kParams; ++k) v_.push_back(p_.add({Code::param, k}));
  }

  Program write(int size) {
    while (static_cast<int>(p_.code.size()) < size) {
      switch (random_() % 6) {
        case 0:
        case 1:
          softmax();
          break;
        case 2:
          log_exp();
          break;
        case 3:
          softplus();
          break;
        case 4:
          v_.push_back(p_.add({Code::mul, number(0.5), sum({pick(), pick()})}));
          break;
        default:
          v_.push_back(p_.add({Code::mul, pick(), number(-0.7)}));
      }
    }
    std::vector<std::uint32_t> terms;
    for (int k = 0; k < 30; ++k) terms.push_back(pick());
    p_.outputs.push_back(sum(terms));
    return p_;
  }

 private:
  bool rarely() { return random_() % 6 == 0; }
  std::uint32_t pick() { return v_[v_.size() - 1 - random_() % std::min<std::size_t>(25, v_.size())]; }
  std::uint32_t number(double x) { return p_.add({Code::constant, 0, 0, 0, x}); }
  std::uint32_t exp(std::uint32_t x) { return p_.add({Code::exp, x}); }
  std::uint32_t product(std::uint32_t x, std::uint32_t y) {
    return random_() % 2 ? p_.add({Code::mul, x, y}) : p_.add({Code::mul, y, x});
  }
  // As additions, or as one sum.
  std::uint32_t sum(const std::vector<std::uint32_t>& terms) {
    if (random_() % 2) {
      std::uint32_t s = terms[0];
      for (std::size_t k = 1; k < terms.size(); ++k) s = p_.add({Code::add, s, terms[k]});
      return s;
    }
    const Instruction i{Code::sum, static_cast<std::uint32_t>(p_.pool.size()),
                        static_cast<std::uint32_t>(terms.size())};
    p_.pool.insert(p_.pool.end(), terms.begin(), terms.end());
    return p_.add(i);
  }

  void softmax() {
    const std::size_t n = 2 + random_() % 9;
    std::vector<std::uint32_t> a;
    for (std::size_t k = 0; k < n; ++k) a.push_back(exp(rarely() && k ? v_[k] : pick()));
    if (rarely()) a[random_() % n] = p_.add({Code::softplus, pick()});  // above zero, but no exponential
    if (rarely()) a[0] = a[n - 1];
    if (rarely()) v_.push_back(p_.add({Code::mul, a[0], number(0.1)}));  // read before the sum
    std::vector<std::uint32_t> terms = a;
    if (rarely()) terms.insert(terms.begin() + random_() % 2, number(0.0));
    if (rarely()) terms.push_back(number(0.5));
    const std::uint32_t s = sum(terms);
    if (rarely()) v_.push_back(p_.add({Code::mul, p_.add({Code::log, s}), number(0.1)}));
    const std::uint32_t one = number(1.0);
    const std::uint32_t r = random_() % 3 ? p_.add({Code::powc, s, 0, 0, -1.0}) : p_.add({Code::div, one, s});
    if (rarely()) v_.push_back(r);
    for (std::size_t k = 0; k < n; ++k) {
      if (rarely()) continue;
      v_.push_back(product(a[(k * 3 + 1) % n], r));  // for most n in another order than that of the sum
    }
    if (rarely()) v_.push_back(p_.add({Code::mul, a[n / 2], number(0.1)}));
  }

  void log_exp() {
    const std::uint32_t x = pick(), e = exp(x), one = number(rarely() ? 1.5 : 1.0);
    const std::uint32_t t = random_() % 2 ? p_.add({Code::add, e, one}) : p_.add({Code::add, one, e});
    if (rarely()) v_.push_back(p_.add({Code::mul, e, number(0.1)}));
    v_.push_back(p_.add({Code::log, t}));
    if (rarely()) v_.push_back(p_.add({Code::mul, t, number(0.1)}));
    if (rarely()) v_.push_back(p_.add({Code::mul, exp(v_.back()), number(0.1)}));
  }

  void softplus() {
    const std::uint32_t x = pick(), z = p_.add({Code::softplus, x});
    v_.push_back(z);
    if (rarely()) v_.push_back(p_.add({Code::softplus, x}));
    if (rarely()) v_.push_back(p_.add({Code::mul, exp(x), number(0.1)}));
    if (rarely()) v_.push_back(p_.add({Code::mul, p_.add({Code::add, exp(x), number(1.0)}), number(0.1)}));
    if (rarely()) v_.push_back(p_.add({Code::powc, exp(z), 0, 0, -1.0}));
  }

  std::mt19937& random_;
  Program p_;
  std::vector<std::uint32_t> v_;
};

struct Ran {
  std::vector<double> numbers;  // the value, then the gradients of the parameters
  std::size_t fused[2] = {};    // steps, forward and backward
};

Ran run(const Program& p, const std::vector<double>& params, bool fuse, bool exact, bool simple = true) {
  Lowering how;
  how.forward_only = false;
  how.param_gradients = true;
  how.schedule = fuse;
  how.exact = exact;
  const Lowered lowered = lower(simple ? simplify(p, exact, {}, nullptr) : Draft(p), how);
  const ScalarCode code(lowered);
  std::vector<double> m(code.slots());
  code.prepare(m.data());
  for (std::uint32_t k = 0; k < p.params; ++k) {
    m[lowered.param_base + k] = params[k];
    m[lowered.param_gradients + k] = 0.125 * k;
  }
  code.forward(m.data());
  Ran out;
  out.numbers.push_back(m[lowered.outputs[0]]);
  if (lowered.seed != kNoSlot) {
    m[lowered.seed] = 1.0;
    code.backward(m.data());
  }
  for (std::uint32_t k = 0; k < p.params; ++k) out.numbers.push_back(m[lowered.param_gradients + k]);
  for (int d = 0; d < 2; ++d)
    for (const Word at : lowered.streams[d].steps) out.fused[d] += lowered.streams[d].words[at] >= kFirstFused;
  return out;
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || !std::memcmp(&a, &b, sizeof a);
}

void test_programs() {
  std::mt19937 random(21);
  std::size_t fused[2] = {}, loose_fused[2] = {};
  for (int trial = 0; trial < 300; ++trial) {
    const Program p = Writer(random).write(20 + static_cast<int>(random() % 400));
    std::vector<double> params;
    const double range = trial % 10 == 9 ? 2000 : 2;
    for (std::uint32_t k = 0; k < kParams; ++k) params.push_back(range * (static_cast<double>(random()) / 0x1p31 - 1));
    const Ran plain = run(p, params, false, true);
    for (const bool simple : {true, false}) {
      const Ran exact = run(p, params, true, true, simple);
      for (std::size_t k = 0; k <= kParams; ++k) CHECK(same(exact.numbers[k], plain.numbers[k]));
      for (int d = 0; d < 2; ++d) fused[d] += exact.fused[d];
    }
    for (const bool simple : {true, false}) {
      const Ran loose = run(p, params, true, false, simple);
      for (int d = 0; d < 2; ++d) loose_fused[d] += loose.fused[d];
      if (range > 2) continue;  // infinities and NaN may come by other ways
      for (std::size_t k = 0; k <= kParams; ++k)
        CHECK_NEAR(loose.numbers[k], plain.numbers[k], 1e-10 * std::max(1.0, std::fabs(plain.numbers[k])));
    }
  }
  for (int d = 0; d < 2; ++d) CHECK(fused[d] > 3000 && loose_fused[d] > 3000);
}

// The kernels of an instruction set as the interpreter runs them: what is left open is done by the library.
void run_steps(const FusedKernels& kernels, bool exact, Word kind, const std::vector<Word>& words, double* m) {
  const Word *w = words.data(), *const end = w + words.size();
  while ((w = kernels.forward[exact][kind - kFirstFused](m, w, end)) != end)
    if ((w = kernels.forward_by_library[exact][kind - kFirstFused](m, w, end)) == end) break;
}

double ulps(double x, long double true_value) {
  if (same(x, static_cast<double>(true_value))) return 0;
  const double nearest = static_cast<double>(true_value);
  return static_cast<double>(
      std::fabs((x - true_value) / (std::nextafter(std::fabs(nearest), HUGE_VAL) - std::fabs(nearest))));
}

void test_functions(const FusedKernels& kernels) {
  std::mt19937_64 random(22);
  std::vector<double> numbers{0.0,   -0.0,   1.0,    -1.0,  1e-300, -5e-324,  708.0,     -708.0,      709.7,
                              709.8, -745.1, -745.2, 1e300, -1e300, INFINITY, -INFINITY, std::nan("")};
  const auto uniform = [&](double range) { return range * (static_cast<double>(random() >> 11) * 0x1p-52 - 1); };
  while (numbers.size() < 200000) {
    numbers.push_back(uniform(2));
    numbers.push_back(uniform(40));
    numbers.push_back(uniform(720));
    numbers.push_back(std::ldexp(uniform(1), static_cast<int>(random() % 60) - 58));
    // Near k ln(2) / 16, where the reduced argument is largest.
    numbers.push_back(std::round(uniform(4000)) * 0.04332169878499658 * (1 + uniform(1e-9)));
  }
  while (numbers.size() % 8) numbers.push_back(0.5);
  // Slots: the numbers; then for each of them e^x and softmax, or what log_exp and softplus have.
  const auto size = static_cast<Word>(numbers.size());
  std::vector<double> m(6 * numbers.size());
  std::copy(numbers.begin(), numbers.end(), m.begin());
  const auto run_all = [&](bool exact, Word kind, const std::vector<Word>& words) {
    std::fill(m.begin() + size, m.end(), -7.0);  // nothing is left of another run
    run_steps(kernels, exact, kind, words, m.data());
  };
  double worst = 0, worst_log = 0;
  for (const bool exact : {true, false}) {
    for (const Word terms : {2u, 4u, 8u}) {
      std::vector<Word> words;
      for (Word k = 0; k < size; k += terms) {
        words.insert(words.end(), {4 + 3 * terms, 3 * size, 3 * size + 1});
        for (Word i = k; i < k + terms; ++i) words.insert(words.end(), {size + i, 2 * size + i});
        for (Word i = k; i < k + terms; ++i) words.push_back(i);
        words.push_back(0);
      }
      run_all(exact, fused_kind(kSoftmax, terms), words);
      for (Word k = 0; k < size; ++k) {
        if (exact)
          CHECK(same(m[size + k], std::exp(numbers[k])));
        else
          worst = std::max(worst, ulps(m[size + k], std::exp(static_cast<long double>(numbers[k]))));
      }
    }
    std::vector<Word> words;
    for (Word k = 0; k < size; ++k) words.insert(words.end(), {5u, size + k, 2 * size + k, 3 * size + k, k});
    run_all(exact, fused_kind(kLogExp, 0), words);
    for (Word k = 0; k < size; ++k) {
      const double x = numbers[k], e = std::exp(x);
      if (exact) {
        CHECK(same(m[size + k], e) && same(m[2 * size + k], e + 1) && same(m[3 * size + k], std::log(e + 1)));
        continue;
      }
      CHECK(same(m[2 * size + k], m[size + k] + 1));
      CHECK(std::isnan(x) ? std::isnan(m[size + k]) : m[size + k] == e || ulps(m[size + k], e) < 3);
      const long double true_value =
          std::isnan(x) ? x : std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(static_cast<long double>(x))));
      worst_log = std::max(worst_log, ulps(m[3 * size + k], true_value));
    }
    words.clear();
    for (Word k = 0; k < size; ++k) words.insert(words.end(), {4u, size + k, 2 * size + k, k});
    if (!exact) continue;
    run_all(exact, fused_kind(kSoftplus, 0), words);
    for (Word k = 0; k < size; ++k) {
      CHECK(same(m[size + k], std::exp(-std::fabs(numbers[k]))));
      CHECK(same(m[2 * size + k], fn::softplus(numbers[k])));
    }
  }
  std::printf("%s: e^x within %.3f ulp, softplus %.3f\n", kernels.name, worst, worst_log);
  CHECK(worst < 2);
  CHECK(worst_log < 3);
}

}  // namespace

int main() {
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (!lanes::use_instruction_set(name)) continue;
    CHECK(!std::strcmp(fused_kernels().name, name));
    test_programs();
#if defined(__x86_64__)
    if (!std::strcmp(name, "avx2")) test_functions(kFusedAvx2);
    if (!std::strcmp(name, "avx512")) test_functions(kFusedAvx512);
#endif
    if (!std::strcmp(name, "baseline")) test_functions(kFusedBaseline);
  }
}
