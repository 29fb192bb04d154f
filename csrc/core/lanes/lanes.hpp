// lanes.hpp: the operations over arrays of lanes: values, gradients and reductions, generated from the op table for
// several instruction sets and picked at run time. Results do not depend on where a lane lies in its array. Sums,
// differences, products and quotients are those of scalar code bit for bit; exp, log, tanh, sigmoid, softplus, expm1,
// log1p, log2, log10, exp2, sinh, cosh, sin and cos are within 2 ulp. IEEE rules: infinities and NaN are results, not
// errors. Nothing here allocates, throws or looks at a global but the choice of instruction set, so any number of
// threads may call it.
#pragma once

#include <cstddef>

#include "core/graph/node.hpp"

namespace tapegrad::lanes {

// An operand: an array with one number a lane (stride 1), or one number for all the lanes (stride 0). Any double may be
// the first: arrays need no alignment, but at 64 bytes they are fastest. Must be readable also where an operation's
// rule does not need it.
struct Operand {
  const double* data;
  std::size_t stride;
  Operand(const double* array) : data(array), stride(1) {}  // NOLINT: an array is an operand
  Operand(const double* first, std::size_t step) : data(first), stride(step) {}
};

// How a gradient is written: added to what is there, or as if there were zeros (what is there is not read).
enum class Write { add, set };

// z[i] = op(x[i], y[i]) for i < n; op is powc or of the op table. An unary operation ignores y; powc takes the exponent
// as y with stride 0. z may be x or y itself, but must not overlap them otherwise.
void forward(Op op, std::size_t n, Operand x, Operand y, double* z);
inline void forward(Op op, std::size_t n, Operand x, double* z) {
  forward(op, n, x, x, z);
}

// g[i] += d op / d operand k * gz[i], with k = 0 or 1 and z the value that forward gave.
void backward(Op op, int k, std::size_t n, Operand x, Operand y, Operand z, Operand gz, double* g,
              Write write = Write::add);

// backward by both operands of a binary operation in one pass, first gx then gy lane by lane: they may be the same
// array.
void backward_both(Op op, std::size_t n, Operand x, Operand y, Operand z, Operand gz, double* gx, double* gy,
                   Write write_x = Write::add, Write write_y = Write::add);

// The same onto numbers that lie elsewhere: g[i] = old[i] + ..., where old may be g itself, or null for zeros.
void backward_onto(Op op, int k, std::size_t n, Operand x, Operand y, Operand z, Operand gz, const double* old,
                   double* g);
void backward_both_onto(Op op, std::size_t n, Operand x, Operand y, Operand z, Operand gz, const double* old_x,
                        double* gx, const double* old_y, double* gy);

// The sum over the lanes of d op / d operand k * gz[i]: the gradient of an operand that is one number for all the
// lanes.
double backward_sum(Op op, int k, std::size_t n, Operand x, Operand y, Operand z, Operand gz);

// Sums are taken in an order that depends on n alone: 32 partial sums over blocks of 1024 lanes, and blocks pairwise,
// so that results are the same with every instruction set, and the error grows with log n. 0 when there are no lanes.
double sum(std::size_t n, Operand x);
double dot(std::size_t n, Operand x, Operand y);

// The largest and the smallest; NaN if there is one, as NumPy has it. n must not be 0.
double max(std::size_t n, Operand x);
double min(std::size_t n, Operand x);

void fill(std::size_t n, double value, double* z);
// y[i] += a * x[i], the product rounded before it is added.
void axpy(std::size_t n, double a, Operand x, double* y);

// The instruction set in use: "avx512", "avx2" or "baseline". At start it is the best that the processor has, or what
// the environment variable TAPEGRAD_SIMD names; a name that cannot be had is reported on stderr and not followed.
const char* instruction_set();

// Switches to the instruction set of that name, for tests and comparisons; false if this build or processor does not
// have it. Not to be called while another thread computes.
bool use_instruction_set(const char* name);

}  // namespace tapegrad::lanes
