// fuzz.hpp: how a fuzz target reads its bytes, and a main() that feeds it random ones. Each target is a function
// fuzz_one(data, size) that aborts when something is wrong. `fuzz_x COUNT SEED` runs COUNT inputs; `fuzz_x FILE` runs
// one; built with -DTAPEGRAD_LIBFUZZER it is libFuzzer's target instead.
#pragma once

#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <vector>

namespace tapegrad::test {

void fuzz_one(const std::uint8_t* data, std::size_t size);

// The bytes of an input, one decision after the other; past the end every decision is 0.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), end_(data + size) {}
  bool empty() const { return data_ == end_; }
  std::uint32_t byte() { return empty() ? 0 : *data_++; }
  std::uint32_t below(std::uint32_t n) { return n ? (byte() | byte() << 8) % n : 0; }
  bool coin() { return byte() & 1; }

  // A small number, or rarely one from the edges.
  double number() {
    constexpr double kEdges[] = {0.0,
                                 -0.0,
                                 1e-310,
                                 std::numeric_limits<double>::denorm_min(),
                                 std::numeric_limits<double>::max(),
                                 -std::numeric_limits<double>::max(),
                                 std::numeric_limits<double>::infinity(),
                                 -std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::quiet_NaN()};
    const std::uint32_t kind = byte();
    if (kind < 8) return kEdges[kind % std::size(kEdges)];
    if (kind == 8) return kEdges[8];
    return (static_cast<double>(byte()) - 128.0) / 64.0;
  }

 private:
  const std::uint8_t* data_;
  const std::uint8_t* end_;
};

// Bit for bit, but for the sign of zero and the kind of NaN.
inline bool same_number(double x, double y) {
  return x == y || (std::isnan(x) && std::isnan(y));
}

}  // namespace tapegrad::test

#ifdef TAPEGRAD_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tapegrad::test::fuzz_one(data, size);
  return 0;
}
#else
int main(int argc, char** argv) {
  char* end = nullptr;
  const long count = argc > 1 ? std::strtol(argv[1], &end, 10) : 1000;
  if (argc > 1 && *end) {
    std::ifstream file(argv[1], std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    tapegrad::test::fuzz_one(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    return 0;
  }
  const unsigned long seed = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> bytes;
  for (long n = 0; n < count; ++n) {
    bytes.resize(32 + random() % 480);
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random() >> 56);
    static const std::vector<std::uint8_t>* now;
    now = &bytes;
    std::signal(SIGABRT, [](int) {
      std::ofstream("fuzz-failure.bin", std::ios::binary)
          .write(reinterpret_cast<const char*>(now->data()), static_cast<std::streamsize>(now->size()));
      std::fputs("the input is in fuzz-failure.bin\n", stderr);
      std::signal(SIGABRT, SIG_DFL);
      std::abort();
    });
    tapegrad::test::fuzz_one(bytes.data(), bytes.size());
  }
  std::printf("%ld inputs, seed %lu: passed\n", count, seed);
}
#endif
