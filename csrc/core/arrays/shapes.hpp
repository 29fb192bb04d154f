// shapes.hpp: the shape of an array, NumPy's broadcasting, and loops over the lanes of several arrays at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tapegrad {

inline constexpr int kMaxDims = 32;

// Arrays lie in memory in C order, the last axis running fastest. No axes: one number.
struct Shape {
  int ndim = 0;
  std::size_t size = 1;
  std::size_t dims[kMaxDims];  // beyond ndim not initialised

  Shape() noexcept {}

  // Adds an axis at the end. False when there are too many, or the numbers are too many to count, with empty axes
  // counted as one.
  bool append(std::size_t n) noexcept {
    std::size_t extent = 1;
    for (int d = 0; d < ndim; ++d) extent *= dims[d] ? dims[d] : 1;
    if (ndim == kMaxDims || (n && extent > SIZE_MAX / 16 / n)) return false;
    dims[ndim++] = n;
    size *= n;
    return true;
  }
  bool operator==(const Shape& other) const noexcept;
};

// What x and y broadcast to. False if they do not.
bool broadcast(const Shape& x, const Shape& y, Shape* out) noexcept;

// Visits the lanes of a shape in runs along its last axis, with the place of K arrays in each. Axes over which every
// array steps evenly are joined, so that arrays of one shape are met in a single run.
template <int K>
class Loop {
 public:
  explicit Loop(const Shape& shape) noexcept : size_(shape.size), ndim_(shape.ndim) {
    for (int d = 0; d < ndim_; ++d) dims_[d] = shape.dims[d];
  }

  // Array k in C order, broadcast to the loop's shape.
  void broadcast(int k, const Shape& shape) noexcept {
    std::ptrdiff_t step = 1;
    for (int d = ndim_ - 1, e = shape.ndim - 1; d >= 0; --d, --e) {
      const std::size_t n = e >= 0 ? shape.dims[e] : 1;
      strides_[k][d] = n == 1 ? 0 : step;
      step *= static_cast<std::ptrdiff_t>(n);
    }
  }

  // Array k with the axes in the bit mask `dropped` left out, in C order.
  void reduce(int k, std::uint32_t dropped) noexcept {
    std::ptrdiff_t step = 1;
    for (int d = ndim_ - 1; d >= 0; --d) {
      const bool drop = dropped >> d & 1;
      strides_[k][d] = drop ? 0 : step;
      if (!drop) step *= static_cast<std::ptrdiff_t>(dims_[d]);
    }
  }

  // Array k with strides of its own, in numbers.
  void stride(int k, const std::int64_t* strides) noexcept {
    for (int d = 0; d < ndim_; ++d) strides_[k][d] = static_cast<std::ptrdiff_t>(strides[d]);
  }

  // To be called once, after all arrays are set.
  void join() noexcept {
    int kept = 0;
    for (int d = 0; d < ndim_; ++d) {
      if (dims_[d] == 1) continue;
      bool joins = kept > 0;
      for (int k = 0; joins && k < K; ++k)
        joins = strides_[k][kept - 1] == strides_[k][d] * static_cast<std::ptrdiff_t>(dims_[d]);
      const int to = joins ? kept - 1 : kept++;
      dims_[to] = joins ? dims_[to] * dims_[d] : dims_[d];
      for (int k = 0; k < K; ++k) strides_[k][to] = strides_[k][d];
    }
    ndim_ = kept;
  }

  std::size_t run() const noexcept { return ndim_ ? dims_[ndim_ - 1] : size_; }
  std::size_t runs() const noexcept { return size_ ? size_ / run() : 0; }
  // Array k's step from lane to lane within a run.
  std::ptrdiff_t step(int k) const noexcept { return ndim_ ? strides_[k][ndim_ - 1] : 0; }

  // Calls visit(places): an array with the place of each array's first lane, for each run.
  template <typename Visit>
  void each_run(Visit visit) const {
    if (!size_) return;
    std::ptrdiff_t at[K] = {};
    std::size_t index[kMaxDims] = {};
    for (;;) {
      visit(static_cast<const std::ptrdiff_t*>(at));
      int d = ndim_ - 2;
      for (; d >= 0; --d) {
        if (++index[d] < dims_[d]) {
          for (int k = 0; k < K; ++k) at[k] += strides_[k][d];
          break;
        }
        index[d] = 0;
        for (int k = 0; k < K; ++k) at[k] -= strides_[k][d] * static_cast<std::ptrdiff_t>(dims_[d] - 1);
      }
      if (d < 0) return;
    }
  }

  // Calls visit(places) for each lane.
  template <typename Visit>
  void each_lane(Visit visit) const {
    const std::size_t n = run();
    each_run([&](const std::ptrdiff_t* start) {
      std::ptrdiff_t at[K];
      for (int k = 0; k < K; ++k) at[k] = start[k];
      for (std::size_t i = 0; i < n; ++i) {
        visit(static_cast<const std::ptrdiff_t*>(at));
        for (int k = 0; k < K; ++k) at[k] += step(k);
      }
    });
  }

 private:
  std::size_t size_;
  int ndim_;
  std::size_t dims_[kMaxDims];
  std::ptrdiff_t strides_[K][kMaxDims];
};

}  // namespace tapegrad
