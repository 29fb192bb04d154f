// ops.hpp: the op table as code: values, partial derivatives and the facts about each operation, generated from
// ops.def.
#pragma once

#include <cmath>

#include "core/graph/node.hpp"
#include "core/ops/functions.hpp"

namespace tapegrad {

enum class Status { ok, range, domain, zero_power };

struct OpInfo {
  const char* name;
  const char* label;
  int arity;  // -1: as many as the node says
};

// Name, label and arity of an operation.
const OpInfo& info(Op op);

// A whole number above this is not exact in a double and is shown as a float.
inline constexpr double kMaxInt = 9007199254740992.0;

template <Op op>
struct Rule;

#define TAPEGRAD_BINARY(id, label_, value_, dx_, dy_, int_value_, int_dx_, int_dy_)                      \
  template <>                                                                                            \
  struct Rule<Op::id> {                                                                                  \
    static double value([[maybe_unused]] double x, [[maybe_unused]] double y) {                          \
      return value_;                                                                                     \
    }                                                                                                    \
    static double dx([[maybe_unused]] double x, [[maybe_unused]] double y, [[maybe_unused]] double z) {  \
      return dx_;                                                                                        \
    }                                                                                                    \
    static double dy([[maybe_unused]] double x, [[maybe_unused]] double y, [[maybe_unused]] double z) {  \
      return dy_;                                                                                        \
    }                                                                                                    \
    static bool int_value([[maybe_unused]] bool xi, [[maybe_unused]] bool yi, [[maybe_unused]] double x, \
                          [[maybe_unused]] double y) {                                                   \
      return int_value_;                                                                                 \
    }                                                                                                    \
    static bool int_dx([[maybe_unused]] bool xi, [[maybe_unused]] bool yi, [[maybe_unused]] double y) {  \
      return int_dx_;                                                                                    \
    }                                                                                                    \
    static bool int_dy([[maybe_unused]] bool xi, [[maybe_unused]] bool yi, [[maybe_unused]] double y) {  \
      return int_dy_;                                                                                    \
    }                                                                                                    \
  };
#define TAPEGRAD_UNARY(id, label_, value_, dx_, infinite_, int_value_, int_dx_)  \
  template <>                                                                    \
  struct Rule<Op::id> {                                                          \
    static constexpr Status infinite = Status::infinite_;                        \
    static double value(double x) {                                              \
      return value_;                                                             \
    }                                                                            \
    static double dx([[maybe_unused]] double x, [[maybe_unused]] double z) {     \
      return dx_;                                                                \
    }                                                                            \
    static bool int_value([[maybe_unused]] bool xi, [[maybe_unused]] double x) { \
      return int_value_;                                                         \
    }                                                                            \
    static bool int_dx([[maybe_unused]] bool xi) {                               \
      return int_dx_;                                                            \
    }                                                                            \
  };
#include "core/ops/ops.def"

// What Python's math module would say of an unary result: fine, an overflow, or outside the domain.
template <Op op>
inline Status check(double x, double z) {
  if (std::isfinite(z)) [[likely]]
    return Status::ok;
  if (std::isnan(z)) return std::isnan(x) ? Status::ok : Status::domain;
  return std::isfinite(x) ? Rule<op>::infinite : Status::ok;
}

// Python's float ** float, except that where Python turns to complex numbers the status is domain.
Status power(double x, double y, double* z);

// An unary operation chosen at run time: its value, and whether Python would show that as an int.
Status evaluate_unary(Op op, double x, bool x_is_int, double* z, bool* z_is_int);

// The unary operation of that name; Op::free if there is none.
Op find_unary(const char* name);

// The partial derivative by operand `i` (0 or 1) of a node with its operands as they are now.
double partial(const Node& node, int i);

// Whether Python would hold that partial derivative as an int.
bool partial_is_int(const Node& node, int i);

}  // namespace tapegrad
