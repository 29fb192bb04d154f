// interrupts.hpp: how work on long programs, which takes seconds where there are millions of instructions, hears of
// Ctrl-C.
#pragma once

namespace tapegrad {

// Set by whoever owns signals. Called between two phases of such work, by the thread that does it, while no graph has
// marks; may run other code and may throw: then the work is given up.
inline void (*interrupt_hook)() = nullptr;

inline void hear_interrupts() {
  if (interrupt_hook) interrupt_hook();
}

}  // namespace tapegrad
