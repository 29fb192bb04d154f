// replay.cpp: the scalar interpreter. Words are read in order: a kind, how many steps of it there are, and the slots
// that each works on. Operations that the table lists are expanded from it.
#include "core/replay.hpp"

#include <algorithm>

#include "core/lanes.hpp"
#include "core/ops.hpp"
#include "core/schedule.hpp"

namespace tapegrad {

namespace {

using Word = std::uint32_t;

constexpr Word kEnd = kKinds;
// Kinds of runs that may be computed all at once, with the kernels of lanes.hpp.
constexpr Word kVectors = kKinds + 1;
constexpr Word kFewest = 3, kMost = 64;  // steps in such a run

constexpr Word forward_kind(Code code) {
  return kind_of(static_cast<std::uint16_t>(code), Mode::none, Mode::none);
}
constexpr Word backward_kind(Code code, Mode x, Mode y) {
  return kind_of(static_cast<std::uint16_t>(code), x, y);
}

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
      m[w[0]] = fn::pow(x, y);
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
  for (; n; --n, w += 4) put<mode>(m, w[0], fn::pow_dx(m[w[2]], m[w[3]]) * m[w[1]]);
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
  double x[kMost], z[kMost];
  for (Word k = 0; k < n; ++k) x[k] = m[w[2 * k + 1]];
  lanes::forward(op, n, x, z);
  for (Word k = 0; k < n; ++k) m[w[2 * k]] = z[k];
  return w + 2 * n;
}

const Word* vector_backward(Op op, double* m, const Word* w, Word n) {
  double x[kMost], z[kMost], g[kMost], dx[kMost];
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

bool is_unary(std::uint16_t code) {
  return code < static_cast<std::uint16_t>(Code::table_end) && kArity[code] == 1 &&
         code != static_cast<std::uint16_t>(Code::powc);
}

// Writes the words of a list of steps.
class Encoder {
 public:
  Encoder(const Lowered& lowered, std::uint32_t one) : l_(lowered), one_(one), written_(one + 1, 0) {}

  std::vector<Word> encode(const std::vector<Step>& steps, bool backward) {
    out_.clear();
    for (std::size_t n = 0; n < steps.size();) {
      const Word kind = kind_of(l_, steps[n]);
      std::size_t end = n + 1;
      while (end < steps.size() && kind_of(l_, steps[end]) == kind) ++end;
      if (vectorizes(steps[n], backward)) {
        while (n < end) n = independent_part(steps, n, end, kind, backward);
      } else {
        put_run(steps, n, end, kind, backward);
      }
      n = end;
    }
    out_.insert(out_.end(), {kEnd, 0});
    return std::move(out_);
  }

 private:
  bool vectorizes(const Step& s, bool backward) const {
    if (l_.exact || s.code >= static_cast<std::uint16_t>(Code::table_end)) return false;
    const auto code = static_cast<Code>(s.code);
    return backward ? has_vector_backward(code) && s.mode_x == Mode::store : has_vector_forward(code);
  }

  // As many steps as do not read what one of them writes.
  std::size_t independent_part(const std::vector<Step>& steps, std::size_t n, std::size_t end, Word kind,
                               bool backward) {
    ++run_;
    std::size_t last = n;
    for (; last < end && last - n < kMost; ++last) {
      const Step& s = steps[last];
      const auto reads = [&](Word slot) { return slot != kNoSlot && written_[slot] == run_; };
      if (reads(s.x) || (backward && (reads(s.z) || reads(s.g)))) break;
      written_[backward ? s.dx : s.z] = run_;
    }
    put_run(steps, n, last, last - n >= kFewest ? kind + kVectors : kind, backward);
    return last;
  }

  void put_run(const std::vector<Step>& steps, std::size_t n, std::size_t end, Word kind, bool backward) {
    out_.push_back(kind);
    out_.push_back(static_cast<Word>(end - n));
    for (; n < end; ++n) backward ? put_backward(steps[n]) : put_forward(steps[n]);
  }

  void put_slots(std::initializer_list<Word> slots) {
    for (const Word slot : slots) out_.push_back(slot == kNoSlot ? one_ : slot);
  }

  void put_dot(const Step& s) {
    bool factors = false;
    for (Word k = s.first; k < s.first + s.count; ++k) factors = factors || l_.terms[k].y != kNoSlot;
    out_.push_back(s.z);
    for (Word k = s.first; k < s.first + s.count; ++k) {
      out_.push_back(l_.terms[k].x);
      if (factors) put_slots({l_.terms[k].y});
    }
  }

  void put_forward(const Step& s) {
    if (s.code == kDot) return put_dot(s);
    if (is_unary(s.code)) return put_slots({s.z, s.x});
    if (s.code == static_cast<std::uint16_t>(Code::select)) return put_slots({s.z, s.x, s.y, s.g});
    put_slots({s.z, s.x, s.y});
  }

  void put_backward(const Step& s) {
    if (s.code == kDot) return put_dot(s);
    if (is_unary(s.code)) return put_slots({s.dx, s.g, s.x, s.z});
    if (s.code == static_cast<std::uint16_t>(Code::powc)) return put_slots({s.dx, s.g, s.x, s.y});
    if (s.code == static_cast<std::uint16_t>(Code::select)) return put_slots({s.dx, s.dy, s.g, s.x});
    put_slots({s.dx, s.dy, s.g, s.x, s.y, s.z});
  }

  const Lowered& l_;
  const Word one_;
  std::vector<Word> out_;
  std::vector<Word> written_;  // the last run that wrote to each slot
  Word run_ = 0;
};

#define TAPEGRAD_DOTS_OF(terms, adds)      \
  case dot_kind(terms, adds, false):       \
    w = dots<terms, adds, false>(m, w, n); \
    break;                                 \
  case dot_kind(terms, adds, true):        \
    w = dots<terms, adds, true>(m, w, n);  \
    break;
#define TAPEGRAD_DOTS                                                                                               \
  case dot_kind(0, false, false):                                                                                   \
    w = dots<0, false, false>(m, w, n);                                                                             \
    break;                                                                                                          \
    TAPEGRAD_DOTS_OF(1, false)                                                                                      \
    TAPEGRAD_DOTS_OF(2, false) TAPEGRAD_DOTS_OF(3, false) TAPEGRAD_DOTS_OF(4, false) TAPEGRAD_DOTS_OF(5, false)     \
        TAPEGRAD_DOTS_OF(6, false) TAPEGRAD_DOTS_OF(7, false) TAPEGRAD_DOTS_OF(8, false) TAPEGRAD_DOTS_OF(1, true)  \
            TAPEGRAD_DOTS_OF(2, true) TAPEGRAD_DOTS_OF(3, true) TAPEGRAD_DOTS_OF(4, true) TAPEGRAD_DOTS_OF(5, true) \
                TAPEGRAD_DOTS_OF(6, true) TAPEGRAD_DOTS_OF(7, true) TAPEGRAD_DOTS_OF(8, true)

template <bool checked>
Failure run_forward(const Word* w, double* m) {
  static_assert(kMaxTerms == 8);
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
  case forward_kind(Code::id) + kVectors:                                            \
    if constexpr (has_vector_forward(Code::id)) w = vector_forward(Op::id, m, w, n); \
    break;
#define TAPEGRAD_BINARY(id, ...)                                     \
  case forward_kind(Code::id):                                       \
    if (!binary<Op::id, checked>(m, w, n, &failure)) return failure; \
    break;
#include "core/ops.def"
      default:
        return {};
    }
  }
}

}  // namespace

ScalarCode::ScalarCode(const Lowered& lowered) : constants_(lowered.constants), slots_(lowered.slots + 1) {
  // The last slot holds 1, for products that lack a factor; slots not read point there too.
  if (lowered.spelled_out) {
    Encoder encoder(lowered, lowered.slots);
    forward_ = encoder.encode(lowered.forward, false);
    backward_ = encoder.encode(lowered.backward, true);
  } else {
    Lowered spelled = lowered;
    spell_out(spelled);
    Encoder encoder(spelled, lowered.slots);
    forward_ = encoder.encode(spelled.forward, false);
    backward_ = encoder.encode(spelled.backward, true);
  }
}

void ScalarCode::prepare(double* m) const {
  std::fill(m, m + slots_, 0.0);
  std::copy(constants_.begin(), constants_.end(), m);
  m[slots_ - 1] = 1.0;
}

void ScalarCode::forward(double* m) const {
  run_forward<false>(forward_.data(), m);
}

Failure ScalarCode::checked_forward(double* m) const {
  return run_forward<true>(forward_.data(), m);
}

void ScalarCode::backward(double* m) const {
  constexpr Mode N = Mode::none, A = Mode::add, S = Mode::store;
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
  case backward_kind(Code::id, S, N) + kVectors:                                       \
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
#include "core/ops.def"
#undef TAPEGRAD_BINARY_CASE
#undef TAPEGRAD_MODES
      default:
        return;
    }
  }
}

}  // namespace tapegrad
