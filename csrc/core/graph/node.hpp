// node.hpp: what a node of the graph is. A node is a row in a page of the arena, 48 bytes, and never moves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/graph/limits.hpp"

namespace tapegrad {

enum class Op : std::uint8_t {
  free = 0,  // the slot holds no node
  leaf,      // a number: no operands, nothing to do in a sweep
  array,     // what Node::array says: holds an array, or is computed from nodes that do
  custom,    // any number of operands; gradients from local_grads or from a rule outside the core
  powc,      // x ** constant: unary, the exponent is kept in the node
#define TAPEGRAD_BINARY(id, ...) id,
#define TAPEGRAD_UNARY(id, ...) id,
#include "core/ops/ops.def"
  count
};

// Operands that an operation has in the node itself.
inline constexpr std::uint8_t kArity[] = {
    0, 0, 0, 0, 1,
#define TAPEGRAD_BINARY(...) 2,
#define TAPEGRAD_UNARY(...) 1,
#include "core/ops/ops.def"
};

using Flags = std::uint16_t;
inline constexpr Flags kDataInt = 1;      // Python would show the value as an int
inline constexpr Flags kGradInt = 2;      // ... the gradient
inline constexpr Flags kExponentInt = 4;  // ... the exponent of powc
inline constexpr Flags kPinned =
    8;  // every consumer edge owns a reference to the handle, which so lives as the node does
inline constexpr Flags kTracked = 16;    // the handle takes part in garbage collection (implies pinned)
inline constexpr Flags kHasRule = 32;    // the handle has a backward rule of its own
inline constexpr Flags kFloatGrad = 64;  // gradients are floats from the start (the lectures' dialect)
inline constexpr Flags kArray =
    128;  // the node holds an array; its `data` is a NaN, which no operation on numbers refuses
inline constexpr Flags kDialectShift = 8;  // four bits: which dialect's type shows this node
inline constexpr Flags kDialectMask = 0x0F00;

struct Node;
struct Array;

// Operands of a custom node. local_grads holds `count` numbers, or is absent when a rule outside the core is used.
struct alignas(8) Operands {
  Count count;
  std::uint32_t label;  // index into a table of the caller's; 0 is the empty label
  bool has_local_grads;
  Node** nodes() { return reinterpret_cast<Node**>(this + 1); }
  double* local_grads() { return reinterpret_cast<double*>(nodes() + count); }
};

// States of Node::mark. Leaves keep kLeafMark for life, so a sweep passes over them without asking for their op.
inline constexpr std::uint8_t kUnmarked = 0;
inline constexpr std::uint8_t kMarked = 1;
inline constexpr std::uint8_t kLeafMark = 2;

struct Node {
  double data;
  double grad;
  Node* a;  // first operand
  union {
    Node* b;             // second operand of a binary node
    double exponent;     // of powc
    Operands* operands;  // of custom
    Array* array;        // of array
  };
  void* handle;  // the one object outside the core that shows this node, or null; link of the release list once dead
  Count refs;    // consumer edges, one for the handle, and those who hold it; limits.hpp
  Op op;
  std::uint8_t mark;
  Flags flags;
};
static_assert(sizeof(Node) == 48);

}  // namespace tapegrad
