// ops.cpp: run-time access to the op table.
#include "core/ops/ops.hpp"

#include <cstring>

namespace tapegrad {

namespace {

constexpr OpInfo kInfo[] = {
    {"free", "", 0}, {"leaf", "", 0}, {"array", "", -1}, {"custom", "", -1}, {"powc", "**", 1},
#define TAPEGRAD_BINARY(id, label, ...) {#id, label, 2},
#define TAPEGRAD_UNARY(id, label, ...) {#id, label, 1},
#include "core/ops/ops.def"
};
static_assert(sizeof kInfo / sizeof *kInfo == static_cast<std::size_t>(Op::count));

bool is_int(const Node* node) {
  return (node->flags & kDataInt) != 0;
}

}  // namespace

const OpInfo& info(Op op) {
  return kInfo[static_cast<int>(op)];
}

Status power(double x, double y, double* z) {
  if (x == 0 && y < 0 && std::isfinite(y)) return Status::zero_power;
  if (x < 0 && std::isfinite(x) && std::isfinite(y) && y != std::floor(y)) return Status::domain;
  *z = fn::pow(x, y);
  return std::isinf(*z) && std::isfinite(x) && std::isfinite(y) ? Status::range : Status::ok;
}

Status evaluate_unary(Op op, double x, bool x_is_int, double* z, bool* z_is_int) {
  switch (op) {
#define TAPEGRAD_UNARY(id, ...)                       \
  case Op::id:                                        \
    *z = Rule<Op::id>::value(x);                      \
    *z_is_int = Rule<Op::id>::int_value(x_is_int, x); \
    return check<Op::id>(x, *z);
#include "core/ops/ops.def"
    default:
      return Status::domain;
  }
}

Op find_unary(const char* name) {
#define TAPEGRAD_UNARY(id, ...) \
  if (!std::strcmp(name, #id)) return Op::id;
#include "core/ops/ops.def"
  return Op::free;
}

double partial(const Node& n, int i) {
  switch (n.op) {
    case Op::powc:
      return fn::pow_dx(n.a->data, n.exponent);
    case Op::custom:
      return n.operands->has_local_grads ? n.operands->local_grads()[i] : 0.0;
#define TAPEGRAD_UNARY(id, ...) \
  case Op::id:                  \
    return Rule<Op::id>::dx(n.a->data, n.data);
#define TAPEGRAD_BINARY(id, ...) \
  case Op::id:                   \
    return i == 0 ? Rule<Op::id>::dx(n.a->data, n.b->data, n.data) : Rule<Op::id>::dy(n.a->data, n.b->data, n.data);
#include "core/ops/ops.def"
    default:
      return 0.0;
  }
}

bool partial_is_int(const Node& n, int i) {
  switch (n.op) {
    case Op::powc:
      return is_int(n.a) && (n.flags & kExponentInt) && n.exponent >= 1;
#define TAPEGRAD_UNARY(id, ...) \
  case Op::id:                  \
    return Rule<Op::id>::int_dx(is_int(n.a));
#define TAPEGRAD_BINARY(id, ...)                                              \
  case Op::id:                                                                \
    return i == 0 ? Rule<Op::id>::int_dx(is_int(n.a), is_int(n.b), n.b->data) \
                  : Rule<Op::id>::int_dy(is_int(n.a), is_int(n.b), n.b->data);
#include "core/ops/ops.def"
    default:
      return false;
  }
}

}  // namespace tapegrad
