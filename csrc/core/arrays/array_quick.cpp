// array_quick.cpp: the short way through the commonest array nodes: rows of the op table whose operands have all the
// lanes of the result, or are one number. Same numbers as rules/elementwise.hpp gives, without a frame. An addition
// hands its gradient on without copying it.
#include "core/arrays/array_rules.hpp"
#include "core/arrays/arrays.hpp"
#include "core/lanes/lanes.hpp"

namespace tapegrad {

namespace {

lanes::Operand lanes_of(const Node* node) {
  if (const Array* array = array_of(node)) return {array->data->values(), 1};
  return {&node->data, 0};
}

// Whether an operand has all the lanes, or is one number.
bool is_even(const Node* node, std::size_t size) {
  const Array* array = array_of(node);
  return !array || array->size == size;
}

bool is_quick(const Array& z) {
  if (z.op != ArrayOp::table) return false;
  return is_even(z.operands()[0], z.size) && is_even(z.operands()[z.count - 1], z.size);
}

// The second operand: of powc the exponent, of other unary operations anything that can be read.
lanes::Operand second(const Array& z) {
  return z.table == Op::powc ? lanes::Operand(&z.number, 0) : lanes_of(z.operands()[z.count - 1]);
}

// Where the gradient of an operand goes. It is the operand's own only at the end, when nothing can fail any more, and
// nothing reads what it replaces.
struct Place {
  Array* array = nullptr;
  Buffer* fresh = nullptr;
  const double* old = nullptr;  // what is added to, null for zeros
  double* g = nullptr;

  // False without memory.
  bool find(Array* operand) {
    array = operand;
    Buffer* grad = array->grad;
    if (grad && grad->owners == 1) {
      g = grad->values();
      old = g;
      return true;
    }
    fresh = make_buffer(array->size);
    if (!fresh) return false;
    old = grad ? grad->values() : nullptr;
    g = fresh->values();
    return true;
  }
  void take() const {
    if (!fresh) return;
    disown(array->grad);
    array->grad = fresh;
  }
};

// An operand that has no gradient yet gets the very one that is handed to it, if nobody outside looks at that.
bool share(Array* operand, Buffer* gz) {
  if (!operand || operand->grad || gz->refs != gz->owners) return false;
  own(gz);
  operand->grad = gz;
  return true;
}

// The gradient of operand k alone.
Quick flow(const Array& z, int k, lanes::Operand x, lanes::Operand y) {
  Node* node = z.operands()[k];
  Array* operand = array_of(node);
  const double* gz = z.grad->values();
  if (!operand) {
    node->grad += z.table == Op::add ? lanes::sum(z.size, gz)
                                     : lanes::backward_sum(z.table, k, z.size, x, y, z.data->values(), gz);
    node->flags &= static_cast<Flags>(~kGradInt);
    return Quick::done;
  }
  Place place;
  if (!place.find(operand)) return Quick::no_memory;
  lanes::backward_onto(z.table, k, z.size, x, y, z.data->values(), gz, place.old, place.g);
  place.take();
  return Quick::done;
}

Quick flow_both(const Array& z, Array* ax, Array* ay, lanes::Operand x, lanes::Operand y) {
  Place to_x, to_y;
  if (!to_x.find(ax)) return Quick::no_memory;
  if (ax == ay) {
    to_y.old = to_y.g = to_x.g;
  } else if (!to_y.find(ay)) {
    release(to_x.fresh);
    return Quick::no_memory;
  }
  lanes::backward_both_onto(z.table, z.size, x, y, z.data->values(), z.grad->values(), to_x.old, to_x.g, to_y.old,
                            to_y.g);
  to_x.take();
  to_y.take();
  return Quick::done;
}

}  // namespace

bool compute_quickly(Array& z) noexcept {
  if (!is_quick(z)) return false;
  lanes::forward(z.table, z.size, lanes_of(z.operands()[0]), second(z), z.data->values());
  return true;
}

Quick apply_quickly(Node* node) noexcept {
  const Array& z = *node->array;
  if (!z.grad || !is_quick(z)) return Quick::declined;
  const lanes::Operand x = lanes_of(z.operands()[0]), y = second(z);
  if (z.count == 1) return flow(z, 0, x, y);
  Array *ax = array_of(z.operands()[0]), *ay = array_of(z.operands()[1]);
  if (z.table == Op::add && ax != ay) {
    const bool shared_x = share(ax, z.grad), shared_y = share(ay, z.grad);
    if (shared_x && shared_y) return Quick::done;
    if (shared_x || shared_y) {
      const Quick outcome = flow(z, shared_x ? 1 : 0, x, y);
      if (outcome == Quick::done) return outcome;
      Array* content = shared_x ? ax : ay;
      disown(content->grad);
      content->grad = nullptr;
      return outcome;
    }
  }
  if (ax && ay) return flow_both(z, ax, ay, x, y);
  // One of the two is a number, whose gradient cannot fail: it comes last.
  const Quick outcome = flow(z, ax ? 0 : 1, x, y);
  return outcome == Quick::done ? flow(z, ax ? 1 : 0, x, y) : outcome;
}

}  // namespace tapegrad
