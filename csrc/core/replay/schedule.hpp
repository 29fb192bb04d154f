// schedule.hpp: puts the steps of a scalar program in an order in which many steps of one kind follow each other, so
// that the interpreter decides once for all of them what to do.
#pragma once

#include <cstdint>

#include "core/replay/words.hpp"

namespace tapegrad {

// No result changes in any bit. Leaves the order alone where steps mostly wait for the one before them. Time and memory
// are linear in the words.
void schedule(Stream& stream, bool backward, std::uint32_t registers);

}  // namespace tapegrad
