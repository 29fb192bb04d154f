// shapes.cpp: comparing and broadcasting shapes.
#include "core/arrays/shapes.hpp"

#include <algorithm>

namespace tapegrad {

bool Shape::operator==(const Shape& other) const noexcept {
  return ndim == other.ndim && std::equal(dims, dims + ndim, other.dims);
}

bool broadcast(const Shape& x, const Shape& y, Shape* out) noexcept {
  Shape z;
  const int ndim = std::max(x.ndim, y.ndim);
  for (int d = 0; d < ndim; ++d) {
    const int dx = d - (ndim - x.ndim), dy = d - (ndim - y.ndim);
    const std::size_t nx = dx >= 0 ? x.dims[dx] : 1, ny = dy >= 0 ? y.dims[dy] : 1;
    if (nx != ny && nx != 1 && ny != 1) return false;
    if (!z.append(nx == 1 ? ny : nx)) return false;
  }
  *out = z;
  return true;
}

}  // namespace tapegrad
