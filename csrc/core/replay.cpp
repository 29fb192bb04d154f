// replay.cpp: the scalar interpreter. One switch, words read in order; operations that the table lists are expanded
// from it.
#include "core/replay.hpp"

#include <algorithm>

#include "core/ops.hpp"

namespace tapegrad {

namespace {

using Word = std::uint32_t;

// Backward words: an operation with the modes of both operands.
constexpr Word backward_code(std::uint16_t code, Mode x, Mode y) {
  return static_cast<Word>(code) * 9 + static_cast<Word>(x) * 3 + static_cast<Word>(y);
}
constexpr Word kEnd = 0;
constexpr Word kForwardEnd = 0;
constexpr Word kSumOfTwoProducts = kStepCodes;  // forward words of their own
// Several products in a row with one gradient: backward words of their own.
constexpr Word products_code(Mode x, Mode y) {
  return backward_code(kStepCodes, x, y);
}

template <Mode mode>
inline void put(double* m, Word slot, double amount) {
  if constexpr (mode == Mode::add) m[slot] += amount;
  if constexpr (mode == Mode::store) m[slot] = amount;
}

template <Op op, Mode mode_x, Mode mode_y>
inline void binary_backward(double* m, const Word* w) {
  const double g = m[w[1]];
  const double x = m[w[2]], y = m[w[3]], z = m[w[4]];
  if constexpr (mode_x != Mode::none) put<mode_x>(m, w[5], Rule<op>::dx(x, y, z) * g);
  if constexpr (mode_y != Mode::none) put<mode_y>(m, w[6], Rule<op>::dy(x, y, z) * g);
}

template <Mode mode_x, Mode mode_y>
inline const Word* products_backward(double* m, const Word* w) {
  const double g = m[w[1]];
  const Word count = w[2];
  w += 3;
  for (Word k = 0; k < count; ++k, w += 4) {
    const double x = m[w[0]], y = m[w[1]];
    if constexpr (mode_x != Mode::none) put<mode_x>(m, w[2], y * g);
    if constexpr (mode_y != Mode::none) put<mode_y>(m, w[3], x * g);
  }
  return w;
}

inline const Word* sum_forward(double* m, const Word* w) {
  const Word count = w[2];
  const Word* end = w + 3 + 2 * count;
  const Word z = w[1];
  double s = m[w[3]] * m[w[4]];
  for (w += 5; w < end; w += 2) s += m[w[0]] * m[w[1]];
  m[z] = s;
  return end;
}

}  // namespace

ScalarCode::ScalarCode(const Lowered& lowered) : constants_(lowered.constants), slots_(lowered.slots + 1) {
  const Word one =
      lowered.slots;  // a slot that holds 1, so that every term of a sum is a product; slots not read point there too
  const auto slot = [&](Word s) { return s == kNoSlot ? one : s; };
  for (const Step& s : lowered.forward) {
    const auto code = static_cast<Code>(s.code);
    if (code == Code::sum) {
      forward_.insert(forward_.end(), {s.code, s.z, s.count});
      for (Word k = s.first; k < s.first + s.count; ++k) {
        forward_.push_back(lowered.terms[k].x);
        forward_.push_back(slot(lowered.terms[k].y));
      }
    } else if (code == Code::select) {
      forward_.insert(forward_.end(), {s.code, s.z, s.x, s.y, s.g});
    } else {
      forward_.insert(forward_.end(), {s.code, s.z, s.x, slot(s.y)});
    }
  }
  forward_.push_back(kForwardEnd);

  const std::vector<Step>& back = lowered.backward;
  for (std::size_t n = 0; n < back.size(); ++n) {
    const Step& s = back[n];
    if (s.code == static_cast<std::uint16_t>(Code::sum)) {
      backward_.insert(backward_.end(), {backward_code(s.code, Mode::none, Mode::none), s.g, s.count});
      for (Word k = s.first; k < s.first + s.count; ++k) {
        backward_.push_back(lowered.terms[k].x);
        backward_.push_back(lowered.terms[k].mode == Mode::store);
      }
      continue;
    }
    if (s.code == static_cast<std::uint16_t>(Code::mul)) {
      std::size_t end = n + 1;
      while (end < back.size() && back[end].code == s.code && back[end].g == s.g && back[end].mode_x == s.mode_x &&
             back[end].mode_y == s.mode_y && back[end - 1].dx != s.g && back[end - 1].dy != s.g)
        ++end;
      backward_.insert(backward_.end(), {products_code(s.mode_x, s.mode_y), s.g, static_cast<Word>(end - n)});
      for (; n < end; ++n)
        backward_.insert(backward_.end(), {slot(back[n].x), slot(back[n].y), slot(back[n].dx), slot(back[n].dy)});
      --n;
      continue;
    }
    backward_.insert(backward_.end(), {backward_code(s.code, s.mode_x, s.mode_y), s.g, slot(s.x), slot(s.y), slot(s.z),
                                       slot(s.dx), slot(s.dy)});
  }
  backward_.push_back(kEnd);
}

void ScalarCode::prepare(double* m) const {
  std::fill(m, m + slots_, 0.0);
  std::copy(constants_.begin(), constants_.end(), m);
  m[slots_ - 1] = 1.0;
}

void ScalarCode::forward(double* m) const {
  for (const Word* w = forward_.data();;) {
    switch (*w) {
      case kForwardEnd:
        return;
      case static_cast<Word>(Code::sum):
        w = sum_forward(m, w);
        break;
      case static_cast<Word>(Code::select):
        m[w[1]] = m[w[2]] != 0 ? m[w[3]] : m[w[4]];
        w += 5;
        break;
      case static_cast<Word>(Code::detach):
        m[w[1]] = m[w[2]];
        w += 4;
        break;
      case static_cast<Word>(Code::powc):
        m[w[1]] = fn::pow(m[w[2]], m[w[3]]);
        w += 4;
        break;
#define TAPEGRAD_UNARY(id, ...)             \
  case static_cast<Word>(Code::id):         \
    m[w[1]] = Rule<Op::id>::value(m[w[2]]); \
    w += 4;                                 \
    break;
#define TAPEGRAD_BINARY(id, ...)                     \
  case static_cast<Word>(Code::id):                  \
    m[w[1]] = Rule<Op::id>::value(m[w[2]], m[w[3]]); \
    w += 4;                                          \
    break;
#include "core/ops.def"
      default:
        return;
    }
  }
}

Failure ScalarCode::checked_forward(double* m) const {
  for (const Word* w = forward_.data();;) {
    const auto code = static_cast<Code>(*w);
    switch (*w) {
      case kForwardEnd:
        return {};
      case static_cast<Word>(Code::sum):
        w = sum_forward(m, w);
        continue;
      case static_cast<Word>(Code::select):
        m[w[1]] = m[w[2]] != 0 ? m[w[3]] : m[w[4]];
        w += 5;
        continue;
      case static_cast<Word>(Code::powc):
      case static_cast<Word>(Code::pow):
        if (power(m[w[2]], m[w[3]], &m[w[1]]) != Status::ok) return {code, m[w[2]], m[w[3]]};
        break;
      case static_cast<Word>(Code::div):
        if (m[w[3]] == 0) return {code, m[w[2]], m[w[3]]};
        m[w[1]] = m[w[2]] / m[w[3]];
        break;
      case static_cast<Word>(Code::detach):
        m[w[1]] = m[w[2]];
        break;
#define TAPEGRAD_UNARY(id, ...)                                   \
  case static_cast<Word>(Code::id): {                             \
    const double x = m[w[2]];                                     \
    const double z = m[w[1]] = Rule<Op::id>::value(x);            \
    if (check<Op::id>(x, z) != Status::ok) return {code, x, 0.0}; \
    break;                                                        \
  }
#include "core/ops.def"
      case static_cast<Word>(Code::add):
        m[w[1]] = m[w[2]] + m[w[3]];
        break;
      case static_cast<Word>(Code::mul):
        m[w[1]] = m[w[2]] * m[w[3]];
        break;
      case static_cast<Word>(Code::maximum):
        m[w[1]] = fn::maximum(m[w[2]], m[w[3]]);
        break;
      case static_cast<Word>(Code::minimum):
        m[w[1]] = fn::minimum(m[w[2]], m[w[3]]);
        break;
      case static_cast<Word>(Code::less):
        m[w[1]] = fn::less(m[w[2]], m[w[3]]);
        break;
      case static_cast<Word>(Code::less_equal):
        m[w[1]] = fn::less_equal(m[w[2]], m[w[3]]);
        break;
      case static_cast<Word>(Code::equal):
        m[w[1]] = fn::equal(m[w[2]], m[w[3]]);
        break;
      default:
        return {};
    }
    w += 4;
  }
}

void ScalarCode::backward(double* m) const {
  constexpr Mode N = Mode::none, A = Mode::add, S = Mode::store;
  for (const Word* w = backward_.data();;) {
    switch (*w) {
      case kEnd:
        return;
      case backward_code(kZero, N, N):
        m[w[1]] = 0.0;
        w += 7;
        break;
      case backward_code(kScale, A, N):
        m[w[5]] += m[w[3]] * m[w[1]];
        w += 7;
        break;
      case backward_code(kScale, S, N):
        m[w[5]] = m[w[3]] * m[w[1]];
        w += 7;
        break;
      case backward_code(static_cast<std::uint16_t>(Code::sum), N, N): {
        const double g = m[w[1]];
        const Word* end = w + 3 + 2 * w[2];
        for (w += 3; w < end; w += 2) m[w[0]] = w[1] ? g : m[w[0]] + g;
        break;
      }
#define TAPEGRAD_MODES(F) F(A, N) F(S, N) F(N, A) F(N, S) F(A, A) F(A, S) F(S, A) F(S, S)
#define TAPEGRAD_PRODUCTS(mx, my)        \
  case products_code(mx, my):            \
    w = products_backward<mx, my>(m, w); \
    break;
        TAPEGRAD_MODES(TAPEGRAD_PRODUCTS)
#undef TAPEGRAD_PRODUCTS
#define TAPEGRAD_SELECT(mx, my)                                           \
  case backward_code(static_cast<std::uint16_t>(Code::select), mx, my): { \
    const double g = m[w[1]];                                             \
    const bool chosen = m[w[2]] != 0;                                     \
    put<mx>(m, w[5], chosen ? g : 0.0);                                   \
    put<my>(m, w[6], chosen ? 0.0 : g);                                   \
    w += 7;                                                               \
    break;                                                                \
  }
        TAPEGRAD_MODES(TAPEGRAD_SELECT)
#undef TAPEGRAD_SELECT
#define TAPEGRAD_POWC(mode)                                            \
  case backward_code(static_cast<std::uint16_t>(Code::powc), mode, N): \
    put<mode>(m, w[5], fn::pow_dx(m[w[2]], m[w[3]]) * m[w[1]]);        \
    w += 7;                                                            \
    break;
        TAPEGRAD_POWC(A)
        TAPEGRAD_POWC(S)
#undef TAPEGRAD_POWC
#define TAPEGRAD_UNARY_CASE(id, mode)                                 \
  case backward_code(static_cast<std::uint16_t>(Code::id), mode, N):  \
    put<mode>(m, w[5], Rule<Op::id>::dx(m[w[2]], m[w[4]]) * m[w[1]]); \
    w += 7;                                                           \
    break;
#define TAPEGRAD_UNARY(id, ...) TAPEGRAD_UNARY_CASE(id, A) TAPEGRAD_UNARY_CASE(id, S)
#define TAPEGRAD_BINARY_CASE(id, mx, my)                            \
  case backward_code(static_cast<std::uint16_t>(Code::id), mx, my): \
    binary_backward<Op::id, mx, my>(m, w);                          \
    w += 7;                                                         \
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
#undef TAPEGRAD_UNARY_CASE
#undef TAPEGRAD_BINARY_CASE
#undef TAPEGRAD_MODES
      default:
        return;
    }
  }
}

}  // namespace tapegrad
