// modes.hpp: no_grad and detect_anomaly: what happens to each new node while one of them is on.
//
// A mode belongs to a context (contextvars), and so to a thread and to an asyncio task. Operations do not ask for it:
// while any context is in a mode somebody watches (value.hpp), and every new node takes the long way, which asks.
#pragma once

#include <cstdint>

#include "python/value/value.hpp"

namespace tapegrad::python {

enum class Mode { no_grad, anomaly };

extern int modes_on;  // modes entered and not left, in all contexts

// Whether the mode is on in this context.
bool in_mode_now(Mode mode);
inline bool in_mode(Mode mode) {
  return modes_on && in_mode_now(mode);
}

// What a number, or the worst of an array's numbers, is.
enum class Kind { finite, infinite, nan };
Kind kind_of(const Node* node);
Kind gradient_kind(const Node* node);

// Does to a new node what the modes of this context ask for. Steals the handle; null with an error set.
PyObject* apply_modes(PyObject* handle);

// Nodes shown while one of these lives are left as they are.
struct ModesAside {
  ModesAside();
  ~ModesAside();
};

// Raises AnomalyError for the rule of `node`, which made the gradient of operand `i` what it is.
void raise_backward_anomaly(Node* node, std::uint32_t i);

bool register_modes(PyObject* module);

}  // namespace tapegrad::python
