// replay.cpp: the scalar interpreter. Words are read in order: a kind, how many steps of it there are, and the slots
// that each works on. Operations that the table lists are expanded from it.
#include "core/replay/replay.hpp"

#include <algorithm>

#include "core/lanes/lanes.hpp"
#include "core/ops/ops.hpp"
#include "core/replay/encode.hpp"
#include "core/replay/fused.hpp"
#include "core/replay/powers.hpp"
#include "core/replay/schedule.hpp"

namespace tapegrad {

namespace {

template <Mode mode>
inline void put(double* m, Word slot, double amount) {
  if constexpr (mode == Mode::add) m[slot] += amount;
  if constexpr (mode == Mode::store) m[slot] = amount;
}

// Sums of products: z, then x and y of each term; without factors only x.
template <Word terms, bool adds, bool factors>
inline const Word* dots(double* m, const Word* w, Word n) {
  constexpr Word step = factors ? 2 : 1;
  const auto term = [m](const Word* at) {
    if constexpr (factors) return m[at[0]] * m[at[1]];
    return m[at[0]];
  };
  for (; n; --n, w += 1 + terms * step) {
    double s = 0.0;
    if constexpr (adds)
      s = m[w[0]] + term(w + 1);
    else if constexpr (terms > 0)
      s = term(w + 1);
#pragma GCC unroll 8
    for (Word k = 1; k < terms; ++k) s += term(w + 1 + k * step);
    m[w[0]] = s;
  }
  return w;
}

template <Op op, bool checked>
inline bool unary(double* m, const Word*& w, Word n, Failure* failure) {
  for (; n; --n, w += 2) {
    const double x = m[w[1]];
    const double z = m[w[0]] = Rule<op>::value(x);
    if constexpr (checked) {
      if (check<op>(x, z) != Status::ok) {
        *failure = {static_cast<Code>(op), x, 0.0};
        return false;
      }
    }
  }
  return true;
}

template <Op op, bool checked>
inline bool binary(double* m, const Word*& w, Word n, Failure* failure) {
  for (; n; --n, w += 3) {
    const double x = m[w[1]], y = m[w[2]];
    if constexpr (checked && (op == Op::pow || op == Op::powc)) {
      if (power(x, y, &m[w[0]]) != Status::ok) {
        *failure = {static_cast<Code>(op), x, y};
        return false;
      }
      continue;
    }
    if constexpr (checked && op == Op::div) {
      if (y == 0) {
        *failure = {Code::div, x, y};
        return false;
      }
    }
    if constexpr (op == Op::powc)
      m[w[0]] = powers::power(x, y);
    else
      m[w[0]] = Rule<op>::value(x, y);
  }
  return true;
}

template <Op op, Mode mode>
inline const Word* unary_backward(double* m, const Word* w, Word n) {
  for (; n; --n, w += 4) put<mode>(m, w[0], Rule<op>::dx(m[w[2]], m[w[3]]) * m[w[1]]);
  return w;
}

template <Op op, Mode mode_x, Mode mode_y>
inline const Word* binary_backward(double* m, const Word* w, Word n) {
  for (; n; --n, w += 6) {
    const double g = m[w[2]], x = m[w[3]], y = m[w[4]], z = m[w[5]];
    if constexpr (mode_x != Mode::none) put<mode_x>(m, w[0], Rule<op>::dx(x, y, z) * g);
    if constexpr (mode_y != Mode::none) put<mode_y>(m, w[1], Rule<op>::dy(x, y, z) * g);
  }
  return w;
}

template <Mode mode>
inline const Word* powc_backward(double* m, const Word* w, Word n) {
  for (; n; --n, w += 4) put<mode>(m, w[0], powers::power_dx(m[w[2]], m[w[3]]) * m[w[1]]);
  return w;
}

template <Mode mode_x, Mode mode_y>
inline const Word* select_backward(double* m, const Word* w, Word n) {
  for (; n; --n, w += 4) {
    const double g = m[w[2]];
    const bool chosen = m[w[3]] != 0;
    put<mode_x>(m, w[0], chosen ? g : 0.0);
    put<mode_y>(m, w[1], chosen ? 0.0 : g);
  }
  return w;
}

const Word* vector_forward(Op op, double* m, const Word* w, Word n) {
  double x[kMostAtOnce], z[kMostAtOnce];
  for (Word k = 0; k < n; ++k) x[k] = m[w[2 * k + 1]];
  lanes::forward(op, n, x, z);
  for (Word k = 0; k < n; ++k) m[w[2 * k]] = z[k];
  return w + 2 * n;
}

const Word* vector_backward(Op op, double* m, const Word* w, Word n) {
  double x[kMostAtOnce], z[kMostAtOnce], g[kMostAtOnce], dx[kMostAtOnce];
  for (Word k = 0; k < n; ++k) {
    g[k] = m[w[4 * k + 1]];
    x[k] = m[w[4 * k + 2]];
    z[k] = m[w[4 * k + 3]];
  }
  lanes::backward(op, 0, n, x, x, z, g, dx, lanes::Write::set);
  for (Word k = 0; k < n; ++k) m[w[4 * k]] = dx[k];
  return w + 4 * n;
}

// Operations of one operand for which the vector kernels are faster than the library's functions.
constexpr bool has_vector_forward(Code code) {
  switch (code) {
    case Code::tanh:
    case Code::sigmoid:
    case Code::softplus:
    case Code::exp:
    case Code::expm1:
    case Code::exp2:
    case Code::log:
    case Code::log1p:
    case Code::log2:
    case Code::log10:
    case Code::sin:
    case Code::cos:
    case Code::sinh:
    case Code::cosh:
      return true;
    default:
      return false;
  }
}
constexpr bool has_vector_backward(Code code) {
  return code == Code::softplus || code == Code::sin || code == Code::cos || code == Code::sinh || code == Code::cosh;
}

#define TAPEGRAD_DOTS_OF(terms, adds)      \
  case dot_kind(terms, adds, false):       \
    w = dots<terms, adds, false>(m, w, n); \
    break;                                 \
  case dot_kind(terms, adds, true):        \
    w = dots<terms, adds, true>(m, w, n);  \
    break;
// clang-format off: it finds another layout each time
#define TAPEGRAD_DOTS                     \
  case dot_kind(0, false, false):         \
    w = dots<0, false, false>(m, w, n);   \
    break;                                \
    TAPEGRAD_DOTS_OF(1, false) \
    TAPEGRAD_DOTS_OF(2, false) \
    TAPEGRAD_DOTS_OF(3, false) \
    TAPEGRAD_DOTS_OF(4, false) \
    TAPEGRAD_DOTS_OF(5, false) \
    TAPEGRAD_DOTS_OF(6, false) \
    TAPEGRAD_DOTS_OF(7, false) \
    TAPEGRAD_DOTS_OF(8, false) \
    TAPEGRAD_DOTS_OF(1, true) \
    TAPEGRAD_DOTS_OF(2, true) \
    TAPEGRAD_DOTS_OF(3, true) \
    TAPEGRAD_DOTS_OF(4, true) \
    TAPEGRAD_DOTS_OF(5, true) \
    TAPEGRAD_DOTS_OF(6, true) \
    TAPEGRAD_DOTS_OF(7, true) \
    TAPEGRAD_DOTS_OF(8, true)
// clang-format on

template <bool checked>
Failure run_forward(const Word* w, double* m, bool exact) {
  static_assert(kMaxTerms == 8);
  const FusedStep *const fused = fused_kernels().forward[exact], *const library =
                                                                     fused_kernels().forward_by_library[exact];
  Failure failure;
  for (;;) {
    const Word kind = w[0], n = w[1];
    w += 2;
    switch (kind) {
      case kEnd:
        return {};
        TAPEGRAD_DOTS
      case forward_kind(Code::select):
        for (const Word* end = w + 4 * n; w < end; w += 4) m[w[0]] = m[w[1]] != 0 ? m[w[2]] : m[w[3]];
        break;
      case forward_kind(Code::powc):
        if (!binary<Op::powc, checked>(m, w, n, &failure)) return failure;
        break;
#define TAPEGRAD_UNARY(id, ...)                                                      \
  case forward_kind(Code::id):                                                       \
    if (!unary<Op::id, checked>(m, w, n, &failure)) return failure;                  \
    break;                                                                           \
  case forward_kind(Code::id) + kAtOnce:                                             \
    if constexpr (has_vector_forward(Code::id)) w = vector_forward(Op::id, m, w, n); \
    break;
#define TAPEGRAD_BINARY(id, ...)                                     \
  case forward_kind(Code::id):                                       \
    if (!binary<Op::id, checked>(m, w, n, &failure)) return failure; \
    break;
#include "core/ops/ops.def"
      default:
        for (const Word* end = w + n; (w = fused[kind - kFirstFused](m, w, end)) != end;)
          if ((w = library[kind - kFirstFused](m, w, end)) == end) break;
    }
  }
}

}  // namespace

ScalarCode::ScalarCode(const Lowered& lowered)
    : constants_(lowered.constants), slots_(lowered.slots + 1), exact_(lowered.exact) {
  AtOnce forward_at_once = nullptr, backward_at_once = nullptr;
  if (!lowered.exact) {
    forward_at_once = has_vector_forward;
    backward_at_once = has_vector_backward;
  }
  // The last slot holds 1, for products that lack a factor; slots not read point there too.
  forward_ = encode(lowered, Direction::forward, lowered.slots, forward_at_once);
  backward_ = encode(lowered, Direction::backward, lowered.slots, backward_at_once);
}

void ScalarCode::prepare(double* m) const {
  std::fill(m, m + slots_, 0.0);
  std::copy(constants_.begin(), constants_.end(), m);
  m[slots_ - 1] = 1.0;
}

void ScalarCode::forward(double* m) const {
  run_forward<false>(forward_.data(), m, exact_);
}

Failure ScalarCode::checked_forward(double* m) const {
  return run_forward<true>(forward_.data(), m, exact_);
}

void ScalarCode::backward(double* m) const {
  constexpr Mode N = Mode::none, A = Mode::add, S = Mode::store;
  const FusedStep* const fused = fused_kernels().backward[exact_];
  for (const Word* w = backward_.data();;) {
    const Word kind = w[0], n = w[1];
    w += 2;
    switch (kind) {
      case kEnd:
        return;
        TAPEGRAD_DOTS
#define TAPEGRAD_MODES(F) F(A, N) F(S, N) F(N, A) F(N, S) F(A, A) F(A, S) F(S, A) F(S, S)
#define TAPEGRAD_SELECT(mx, my)             \
  case backward_kind(Code::select, mx, my): \
    w = select_backward<mx, my>(m, w, n);   \
    break;
        TAPEGRAD_MODES(TAPEGRAD_SELECT)
#undef TAPEGRAD_SELECT
      case kReciprocalKind:
        for (const Word* end = w + 4 * n; w < end; w += 4) m[w[0]] = -m[w[3]] * m[w[3]] * m[w[1]];
        break;
      case backward_kind(Code::powc, A, N):
        w = powc_backward<A>(m, w, n);
        break;
      case backward_kind(Code::powc, S, N):
        w = powc_backward<S>(m, w, n);
        break;
#define TAPEGRAD_UNARY(id, ...)                                                        \
  case backward_kind(Code::id, A, N):                                                  \
    w = unary_backward<Op::id, A>(m, w, n);                                            \
    break;                                                                             \
  case backward_kind(Code::id, S, N):                                                  \
    w = unary_backward<Op::id, S>(m, w, n);                                            \
    break;                                                                             \
  case backward_kind(Code::id, S, N) + kAtOnce:                                        \
    if constexpr (has_vector_backward(Code::id)) w = vector_backward(Op::id, m, w, n); \
    break;
#define TAPEGRAD_BINARY_CASE(id, mx, my)          \
  case backward_kind(Code::id, mx, my):           \
    w = binary_backward<Op::id, mx, my>(m, w, n); \
    break;
#define TAPEGRAD_BINARY(id, ...) \
  TAPEGRAD_BINARY_CASE(id, A, N) \
  TAPEGRAD_BINARY_CASE(id, S, N) \
  TAPEGRAD_BINARY_CASE(id, N, A) \
  TAPEGRAD_BINARY_CASE(id, N, S) \
  TAPEGRAD_BINARY_CASE(id, A, A) \
  TAPEGRAD_BINARY_CASE(id, A, S) \
  TAPEGRAD_BINARY_CASE(id, S, A) \
  TAPEGRAD_BINARY_CASE(id, S, S)
#include "core/ops/ops.def"
#undef TAPEGRAD_BINARY_CASE
#undef TAPEGRAD_MODES
      default:
        w = fused[kind - kFirstFused](m, w, w + n);
    }
  }
}

}  // namespace tapegrad
