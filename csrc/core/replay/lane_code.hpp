// lane_code.hpp: what LaneCode consists of besides its steps: codes of its own, the sizes of blocks and the memory of a
// thread. Compiled in compile_lanes.cpp; replay_blocks.cpp runs it block by block, replay_lanes.cpp within a block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/replay/replay_lanes.hpp"

namespace tapegrad {

inline constexpr std::size_t kMaxBlock = 1024, kMinBlock = 32;
inline constexpr std::uint16_t kLayer = kStepCodes + 1, kActivations = kStepCodes + 2;

// Arrays are filled up to a multiple of so many lanes with copies of the last one.
inline constexpr std::size_t kPadding = 8;
inline std::size_t padded(std::size_t lanes) {
  return (lanes + kPadding - 1) / kPadding * kPadding;
}

// The memory of one thread.
struct LaneCode::Worker {
  std::vector<double> room, uniform, packed;
  double* lanes = nullptr;  // within room, aligned to 64 bytes: no vector lies across two cache lines
  std::size_t size = 0;
  BlockMemory m{};
  LaneStop* stop = nullptr;  // of the run that it works for
  bool asks = false;         // the thread that called

  void reserve(std::size_t count) {
    if (count <= size) return;
    room.assign(count + 8, 0.0);
    size = count;
    void* start = room.data();
    std::size_t bytes = (count + 8) * sizeof(double);
    lanes = static_cast<double*>(std::align(64, count * sizeof(double), start, bytes));
  }
};

}  // namespace tapegrad
