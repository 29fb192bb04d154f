// test_columns.cpp: arrays wherever they lie. Results of ColumnCode have the same bits for every alignment, stride,
// number of lanes and number of threads, nothing beside them is touched, and formulae in long double agree.
#include "core/replay/columns.hpp"

#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/lanes/lanes.hpp"
#include "core/program/passes/passes.hpp"

using namespace tapegrad;

namespace {

constexpr double kUntouched = -12345.678;
constexpr std::size_t kAround = 64;

// An array of lanes `stride` numbers apart that starts `shift` numbers after a cache line, with numbers around and
// between that nobody may write to.
class Lanes {
 public:
  Lanes(std::size_t lanes, std::size_t shift, std::size_t stride)
      : lanes_(lanes), stride_(stride), room_(lanes * stride + 2 * kAround + 8, kUntouched) {
    first_ = kAround;
    while (reinterpret_cast<std::uintptr_t>(room_.data() + first_) % 64) ++first_;
    first_ += shift;
    room_.resize(first_ + lanes * stride + kAround, kUntouched);
  }
  double* data() { return room_.data() + first_; }
  double& operator[](std::size_t lane) { return room_[first_ + lane * stride_]; }
  std::size_t stride() const { return stride_; }
  bool nothing_beside() const {
    for (std::size_t k = 0; k < room_.size(); ++k) {
      const bool inside = k >= first_ && k < first_ + lanes_ * stride_ && (k - first_) % stride_ == 0;
      if (!inside && room_[k] != kUntouched) return false;
    }
    return true;
  }

 private:
  std::size_t lanes_, stride_, first_ = 0;
  std::vector<double> room_;
};

ColumnCode compile(const std::string& text, std::vector<bool> wanted, bool by_params) {
  Lowering how;
  how.forward_only = wanted.empty() && !by_params;
  how.fresh_inputs = true;
  how.exact = false;
  how.param_gradients = by_params;
  how.input_gradients = std::move(wanted);
  return ColumnCode(lower(simplify(read_program(text), false, {}, nullptr), how));
}

struct Arrays {
  std::vector<Lanes> in, out, gradients;
  std::vector<double> sums;
};

// Arrays at random places, or all at cache lines.
Arrays make_arrays(std::mt19937* random, std::size_t lanes, std::size_t inputs, std::size_t outputs) {
  Arrays a;
  const std::size_t common = random ? (*random)() % 8 : 0;  // as arrays of one kind lie
  const auto add = [&](std::vector<Lanes>& to) {
    const bool odd = random && (*random)() % 4 == 0;
    to.emplace_back(lanes, odd ? (*random)() % 8 : common, odd && (*random)() % 2 ? 1 + (*random)() % 6 : 1);
  };
  for (std::size_t k = 0; k < inputs; ++k) {
    add(a.in);
    std::mt19937 numbers(static_cast<unsigned>(k + 1));
    std::uniform_real_distribution<double> uniform(0.1, 1.5);
    for (std::size_t i = 0; i < lanes; ++i) a.in[k][i] = uniform(numbers);
  }
  for (std::size_t k = 0; k < outputs; ++k) add(a.out);
  for (std::size_t k = 0; k < inputs; ++k) add(a.gradients);
  for (Lanes& out : a.out)
    if (out.stride() != 1) out = Lanes(lanes, common, 1);  // outputs lie next to each other
  return a;
}

void run(const ColumnCode& code, Arrays& a, std::size_t lanes, int threads, const std::vector<bool>& wanted,
         const std::vector<double>& params, bool by_params) {
  std::vector<const double*> in;
  std::vector<double*> out, gradients;
  std::vector<std::size_t> strides, apart;
  for (Lanes& x : a.in) in.push_back(x.data()), strides.push_back(x.stride());
  for (Lanes& x : a.out) out.push_back(x.data());
  for (std::size_t k = 0; k < a.gradients.size(); ++k) {
    gradients.push_back(k < wanted.size() && wanted[k] ? a.gradients[k].data() : nullptr);
    apart.push_back(a.gradients[k].stride());
  }
  a.sums.assign(params.size(), 0.0);
  LaneRun r;
  r.lanes = lanes;
  r.threads = threads;
  r.params = params.data();
  r.inputs = in.data();
  r.input_strides = strides.data();
  r.outputs = out.data();
  if (!wanted.empty()) r.input_gradients = gradients.data();
  r.gradient_strides = apart.data();
  if (by_params) r.param_gradients = a.sums.data();
  LaneGuards guards;
  code.run(r, &guards);
  CHECK(!guards.interrupted);
  for (const std::vector<Lanes>* all : {&a.in, &a.out, &a.gradients})
    for (const Lanes& x : *all) CHECK(x.nothing_beside());
}

bool same(Lanes& a, Lanes& b, std::size_t lanes) {
  for (std::size_t i = 0; i < lanes; ++i)
    if (a[i] != b[i]) return false;
  return true;
}

const char* const kHead =
    "tapegrad program 1\ninputs 3\nparams 2\n%0 = input 0\n%1 = input 1\n%2 = input 2\n"
    "%3 = param 0\n%4 = param 1\n";

// p0 tanh(x y) + log(x) / y + p1 z with its gradients, at 1,000 places of arrays.
void test_gradients() {
  const std::string text =
      std::string(kHead) +
      "%5 = mul %0 %1\n%6 = tanh %5\n%7 = mul %3 %6\n%8 = log %0\n%9 = div %8 %1\n%10 = mul %4 %2\n"
      "%11 = add %7 %9\n%12 = add %11 %10\nreturn %12\n";
  const std::vector<double> params = {0.75, -1.25};
  const auto near = [](double x, long double y) {
    return std::fabs(static_cast<double>(x - y)) <= 1e-14 * (1 + std::fabs(static_cast<double>(y)));
  };
  std::mt19937 random(3);
  for (const bool by_params : {false, true}) {
    const std::vector<bool> wanted = {true, false, true};
    const ColumnCode code = compile(text, wanted, by_params);
    const std::size_t chunk = code.chunk_lanes();
    for (const std::size_t lanes : {std::size_t{1}, std::size_t{7}, chunk - 1, chunk, chunk + 1, 16 * chunk - 1,
                                    16 * chunk, 16 * chunk + 5, 70 * chunk + 33}) {
      Arrays plain = make_arrays(nullptr, lanes, 3, 1);
      run(code, plain, lanes, 1, wanted, params, by_params);
      long double sums[2] = {0, 0};
      for (std::size_t i = 0; i < lanes; ++i) {
        const long double x = plain.in[0][i], y = plain.in[1][i], z = plain.in[2][i], t = std::tanh(x * y);
        CHECK(near(plain.out[0][i], 0.75L * t + std::log(x) / y - 1.25L * z));
        CHECK(near(plain.gradients[0][i], 0.75L * (1 - t * t) * y + 1 / x / y));
        CHECK(near(plain.gradients[2][i], -1.25L));
        CHECK(plain.gradients[1][i] == kUntouched);  // not wanted
        sums[0] += t;
        sums[1] += z;
      }
      for (std::size_t k = 0; by_params && k < 2; ++k) CHECK_NEAR(plain.sums[k], static_cast<double>(sums[k]), 1e-13);
      for (int trial = 0; trial < 25; ++trial) {
        Arrays other = make_arrays(&random, lanes, 3, 1);
        run(code, other, lanes, 1 + trial % 3, wanted, params, by_params);
        CHECK(same(other.out[0], plain.out[0], lanes));
        CHECK(same(other.gradients[0], plain.gradients[0], lanes));
        CHECK(same(other.gradients[2], plain.gradients[2], lanes));
        CHECK(other.sums == plain.sums);
      }
    }
  }
}

// Outputs that are one value twice, inputs, parameters, constants, or values that others are made of.
void test_outputs() {
  const std::string text = std::string(kHead) + "%5 = mul %0 %1\n%6 = add %5 %2\n%7 = constant 2.5\n%8 = sqrt %5\n" +
                           "return %5 %6 %5 %0 %4 %7 %8\n";
  const ColumnCode code = compile(text, {}, false);
  std::mt19937 random(4);
  const std::vector<double> params = {0.75, -1.25};
  for (const std::size_t lanes : {1, 33, 5000}) {
    for (int trial = 0; trial < 20; ++trial) {
      Arrays a = make_arrays(&random, lanes, 3, 7);
      run(code, a, lanes, 1 + trial % 2, {}, params, false);
      for (std::size_t i = 0; i < lanes; ++i) {
        const double x = a.in[0][i], y = a.in[1][i], z = a.in[2][i];
        const double expected[] = {x * y, x * y + z, x * y, x, -1.25, 2.5, std::sqrt(x * y)};
        for (std::size_t k = 0; k < 7; ++k) CHECK(a.out[k][i] == expected[k]);
      }
    }
  }
}

// Numbers that go on in registers: also kept where they are outputs or guarded, and sums formed in their order.
void test_chains() {
  const std::string text = std::string(kHead) +
                           "%5 = mul %0 %1\n%6 = mul %5 %2\n%7 = sum %0 %1 %6\n%8 = mul %7 %0\n%9 = mul %8 %1\n"
                           "guard is_true %8 1 here\nreturn %6 %7 %9\n";
  const ColumnCode code = compile(text, {}, false);
  const std::size_t lanes = 700;
  Arrays a = make_arrays(nullptr, lanes, 3, 3);
  for (const std::size_t lane : {403, 404, 623}) a.in[0][lane] = 0.0;  // then the guard does not hold
  std::vector<const double*> in;
  std::vector<double*> out;
  for (Lanes& x : a.in) in.push_back(x.data());
  for (Lanes& x : a.out) out.push_back(x.data());
  const std::size_t strides[] = {1, 1, 1};
  const double params[] = {0, 0};
  LaneRun r;
  r.lanes = lanes;
  r.params = params;
  r.inputs = in.data();
  r.input_strides = strides;
  r.outputs = out.data();
  LaneGuards guards;
  code.run(r, &guards);
  CHECK(guards.failures[0] == 3 && guards.first[0] == 403);
  for (std::size_t i = 0; i < lanes; ++i) {
    const double x = a.in[0][i], y = a.in[1][i], z = a.in[2][i];
    const double product = x * y * z, sum = x + y + product;
    CHECK(a.out[0][i] == product && a.out[1][i] == sum && a.out[2][i] == sum * x * y);
  }
}

// Values are rounded one by one, in sums of their own and in chains: nothing hides in a product that is added
// unrounded.
void test_rounding() {
  const std::string text = std::string(kHead) +
                           "%5 = mul %0 %1\n%6 = add %5 %2\n%7 = mul %6 %0\n%8 = mul %1 %2\n%9 = add %7 %8\n"
                           "%10 = mul %0 %2\n%11 = add %1 %10\n%12 = sqrt %11\nreturn %9 %12\n";
  const ColumnCode code = compile(text, {}, false);
  const std::size_t lanes = 1000;
  Arrays a = make_arrays(nullptr, lanes, 3, 2);
  run(code, a, lanes, 1, {}, {0, 0}, false);
  for (std::size_t i = 0; i < lanes; ++i) {
    const double x = a.in[0][i], y = a.in[1][i], z = a.in[2][i];
    CHECK(a.out[0][i] == (x * y + z) * x + y * z && a.out[1][i] == std::sqrt(y + x * z));
  }
}

// Gradients that go on in registers up to a parameter's, to which every chunk of lanes adds.
void test_chains_to_parameters() {
  const std::string text = std::string(kHead) + "%5 = mul %3 %0\n%6 = tanh %5\n%7 = mul %6 %1\nreturn %7\n";
  const ColumnCode code = compile(text, {true, true, true}, true);
  const std::size_t lanes = 130 * code.chunk_lanes() + 3;  // several chunks to each of the partial sums
  Arrays a = make_arrays(nullptr, lanes, 3, 1);
  run(code, a, lanes, 1, {true, true, true}, {0.75, 2.0}, true);
  long double sum = 0;
  for (std::size_t i = 0; i < lanes; ++i) {
    const long double x = a.in[0][i], y = a.in[1][i], t = std::tanh(0.75L * x);
    sum += x * y * (1 - t * t);
    CHECK_NEAR(a.gradients[0][i], static_cast<double>(0.75L * y * (1 - t * t)), 1e-14);
  }
  CHECK_NEAR(a.sums[0], static_cast<double>(sum), 1e-13);
  CHECK(a.sums[1] == 0.0);
}

// Gradients of inputs that nothing depends on are 0, wherever they lie.
void test_no_gradients() {
  const ColumnCode code = compile(std::string(kHead) + "%5 = mul %0 %3\nreturn %5\n", {true, true, true}, false);
  const std::size_t lanes = 3 * code.chunk_lanes() + 1;
  for (int trial = 0; trial < 2; ++trial) {
    Arrays a = make_arrays(nullptr, lanes, 3, 1);
    run(code, a, lanes, 1, {true, true, true}, {0.75, 2.0}, false);
    for (std::size_t i = 0; i < lanes; ++i)
      CHECK(a.gradients[0][i] == 0.75 && a.gradients[1][i] == 0.0 && a.gradients[2][i] == 0.0);
  }
}

// One array given for all inputs: it is read, never written.
void test_shared_input() {
  const ColumnCode code =
      compile(std::string(kHead) + "%5 = mul %0 %1\n%6 = mul %5 %2\nreturn %6\n", {true, true, true}, false);
  for (const std::size_t lanes : {40, 4000}) {
    Arrays a = make_arrays(nullptr, lanes, 1, 1);
    for (int k = 0; k < 2; ++k) a.gradients.emplace_back(lanes, 0, 1);
    const double* in[] = {a.in[0].data(), a.in[0].data(), a.in[0].data()};
    double* out[] = {a.out[0].data()};
    double* gradients[] = {a.gradients[0].data(), a.gradients[1].data(), a.gradients[2].data()};
    const std::size_t strides[] = {1, 1, 1};
    const double params[] = {0, 0};
    LaneRun r;
    r.lanes = lanes;
    r.params = params;
    r.inputs = in;
    r.input_strides = r.gradient_strides = strides;
    r.outputs = out;
    r.input_gradients = gradients;
    LaneGuards guards;
    code.run(r, &guards);
    for (std::size_t i = 0; i < lanes; ++i) {
      const double x = a.in[0][i];
      CHECK(a.out[0][i] == x * x * x);
      for (Lanes& g : a.gradients) CHECK(g[i] == x * x);
    }
  }
}

// A run that is given up comes back, and the next one on the same memory is whole.
void test_interrupt() {
  const ColumnCode code = compile(std::string(kHead) + "%5 = mul %0 %1\n%6 = add %5 %2\nreturn %6\n", {}, false);
  const std::size_t lanes = 200001;
  Arrays a = make_arrays(nullptr, lanes, 3, 1);
  std::vector<const double*> in;
  for (Lanes& x : a.in) in.push_back(x.data());
  double* out[] = {a.out[0].data()};
  const std::size_t strides[] = {1, 1, 1};
  const double params[] = {0, 0};
  int asked = 0;
  LaneRun r;
  r.lanes = lanes;
  r.params = params;
  r.inputs = in.data();
  r.input_strides = strides;
  r.outputs = out;
  r.interrupt = [](void* context) { return ++*static_cast<int*>(context) == 3; };
  r.interrupt_context = &asked;
  LaneGuards guards;
  code.run(r, &guards);
  CHECK(guards.interrupted && asked == 3);
  CHECK(a.out[0][0] != kUntouched && a.out[0][lanes - 1] == kUntouched);
  r.interrupt = nullptr;
  code.run(r, &guards);
  CHECK(!guards.interrupted);
  for (std::size_t i = 0; i < lanes; ++i) CHECK(a.out[0][i] == a.in[0][i] * a.in[1][i] + a.in[2][i]);
}

}  // namespace

int main() {
  for (const char* set : {"baseline", "avx2", "avx512"}) {
    if (!lanes::use_instruction_set(set)) continue;
    test_gradients();
    test_outputs();
    test_chains();
    test_rounding();
    test_chains_to_parameters();
    test_no_gradients();
    test_shared_input();
    test_interrupt();
  }
}
