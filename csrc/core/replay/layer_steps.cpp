// layer_steps.cpp: reads steps one by one as rows of a layer and joins rows as long as nothing stands against it.
#include "core/replay/layer_steps.hpp"

#include <algorithm>

namespace tapegrad {

namespace {

using U32 = std::uint32_t;

constexpr std::uint16_t code_of(Code code) {
  return static_cast<std::uint16_t>(code);
}

// Marks of slots that are forgotten all at once.
class Marks {
 public:
  explicit Marks(std::size_t size) : mark_(size, 0) {}
  void clear() { ++now_; }
  void set(U32 slot, U32 note = 0) { mark_[slot] = (now_ << 32) | note; }
  bool has(U32 slot) const { return mark_[slot] >> 32 == now_; }
  U32 note(U32 slot) const { return static_cast<U32>(mark_[slot]); }

 private:
  std::vector<std::uint64_t> mark_;
  std::uint64_t now_ = 1;
};

class Finder {
 public:
  Finder(const Lowered& l, const std::vector<bool>& uniform)
      : l_(l), uniform_(uniform), columns_(l.slots), seen_(l.slots), read_(l.slots), written_(l.slots) {}

  LayerSteps run() {
    find_last_reads();
    for (std::size_t t = 0; t < l_.forward.size();) t = forward(t);
    for (std::size_t t = 0; t < l_.backward.size();) t = backward(t);
    return std::move(out_);
  }

 private:
  bool uniform(U32 slot) const { return uniform_[slot]; }

  // ---- forward

  // For each forward step of one operand: whether nothing reads that operand afterwards.
  void find_last_reads() {
    std::vector<bool> live(l_.slots, false);
    const auto read = [&](U32 slot) {
      if (slot != kNoSlot) live[slot] = true;
    };
    const auto write = [&](U32 slot, Mode mode) {
      if (slot != kNoSlot && mode != Mode::none) live[slot] = mode == Mode::add;
    };
    for (std::size_t t = l_.backward.size(); t-- > 0;) {
      const Step& s = l_.backward[t];
      if (s.code == kZero) {
        live[s.g] = false;
        continue;
      }
      if (s.code == code_of(Code::sum))
        for (U32 k = s.first; k < s.first + s.count; ++k) write(l_.terms[k].x, l_.terms[k].mode);
      write(s.dx, s.mode_x);
      write(s.dy, s.mode_y);
      for (U32 slot : {s.x, s.y, s.z, s.g}) read(slot);
    }
    // Between forward and backward.
    for (U32 o : l_.outputs) read(o);
    for (const CheckedSlot& g : l_.guards) read(g.slot);
    last_read_.assign(l_.forward.size(), false);
    for (std::size_t t = l_.forward.size(); t-- > 0;) {
      const Step& s = l_.forward[t];
      live[s.z] = false;
      if (s.x != kNoSlot && s.y == kNoSlot) last_read_[t] = !live[s.x];
      for (U32 slot : {s.x, s.y, s.g}) read(slot);  // g: the second choice of select
      if (s.code == code_of(Code::sum))
        for (U32 k = s.first; k < s.first + s.count; ++k) {
          read(l_.terms[k].x);
          read(l_.terms[k].y);
        }
    }
  }

  struct Row {
    std::vector<U32> x, weights, biases;
    U32 start = kNoSlot;
  };

  // Reads a sum as one row; false if it is none.
  bool read_row(const Step& s, Row& row) {
    row.x.clear();
    row.weights.clear();
    row.biases.clear();
    row.start = kNoSlot;
    if (s.code != code_of(Code::sum) || uniform(s.z)) return false;
    seen_.clear();
    for (U32 k = s.first; k < s.first + s.count; ++k) {
      U32 x = l_.terms[k].x, w = l_.terms[k].y;
      if (w == kNoSlot) {
        if (uniform(x)) {
          row.biases.push_back(x);
        } else {
          if (row.start != kNoSlot) return false;
          row.start = x;
        }
        continue;
      }
      if (uniform(x)) std::swap(x, w);
      if (uniform(x) || !uniform(w) || seen_.has(x)) return false;
      seen_.set(x);
      row.x.push_back(x);
      row.weights.push_back(w);
    }
    return !row.x.empty();
  }

  // Brings the weights of a row into the order of the columns; false if its inputs are others. columns_ must hold the
  // columns and their numbers.
  template <typename T>
  bool match(const std::vector<U32>& columns, const std::vector<U32>& x, std::vector<T>& weights) {
    if (columns.size() != x.size()) return false;
    if (columns == x) return true;
    for (U32 slot : x)
      if (!columns_.has(slot)) return false;
    std::vector<T> ordered(weights.size());
    for (std::size_t k = 0; k < x.size(); ++k) ordered[columns_.note(x[k])] = weights[k];
    weights = std::move(ordered);
    return true;
  }

  void set_columns(const std::vector<U32>& x) {
    columns_.clear();
    for (std::size_t c = 0; c < x.size(); ++c) columns_.set(x[c], static_cast<U32>(c));
  }

  std::size_t forward(std::size_t t) {
    Row row;
    if (!read_row(l_.forward[t], row)) return t + 1;
    ForwardLayer layer;
    layer.begin = t;
    layer.x = row.x;
    set_columns(layer.x);
    written_.clear();
    for (;;) {
      const U32 z = l_.forward[t].z;
      // An array that a row before it writes is not there yet when this row is begun.
      if (columns_.has(z) || written_.has(z) || (row.start != kNoSlot && written_.has(row.start))) break;
      written_.set(z);
      layer.z.push_back(z);
      layer.start.push_back(row.start);
      layer.weights.insert(layer.weights.end(), row.weights.begin(), row.weights.end());
      layer.biases.insert(layer.biases.end(), row.biases.begin(), row.biases.end());
      layer.bias_end.push_back(static_cast<U32>(layer.biases.size()));
      if (++t == l_.forward.size() || !read_row(l_.forward[t], row) || !match(layer.x, row.x, row.weights)) break;
    }
    if (layer.z.empty()) return layer.begin + 1;
    layer.end = t;
    join_relu(layer);
    const std::size_t end = layer.end;
    if (layer.weights.size() > 1) out_.forward.push_back(std::move(layer));
    return end;
  }

  // The rows' values become those of the relu that follows each, if nothing else reads them.
  void join_relu(ForwardLayer& layer) {
    const std::size_t rows = layer.rows(), end = layer.end + rows;
    if (end > l_.forward.size()) return;
    seen_.clear();
    for (U32 r = 0; r < rows; ++r) seen_.set(layer.z[r], r);
    written_.clear();
    std::vector<U32> z(rows, kNoSlot);
    for (std::size_t t = layer.end; t < end; ++t) {
      const Step& s = l_.forward[t];
      if (s.code != code_of(Code::relu) || !last_read_[t] || !seen_.has(s.x)) return;
      if (written_.has(s.x) || columns_.has(s.z)) return;  // not the row's own value any more; an input
      const U32 row = seen_.note(s.x);
      if (z[row] != kNoSlot || written_.has(s.z)) return;
      written_.set(s.z);
      z[row] = s.z;
    }
    for (std::size_t r = 0; r < rows; ++r)
      if (layer.start[r] != kNoSlot && layer.start[r] != z[r] && written_.has(layer.start[r])) return;
    layer.z = std::move(z);
    layer.end = end;
    layer.relu = true;
  }

  // ---- backward

  struct Entry {
    U32 weight, dx, dweight;
    bool store;
  };
  struct Unit {
    U32 g;
    std::vector<U32> x;
    std::vector<Entry> entries;
    std::vector<U32> dbias;
    std::vector<Term> carried;
  };

  // Reads a product's backward step as an entry for a lane operand and a uniform one.
  bool read_entry(const Step& s, U32& x, Entry& e) const {
    if (s.code != code_of(Code::mul)) return false;
    // An operand's value is there only if the other's gradient is wanted.
    const bool by_x = s.mode_x != Mode::none, by_y = s.mode_y != Mode::none;
    const auto fits = [&](U32 lane, U32 weight, U32 dlane, U32 dweight, bool by_lane, bool by_weight) {
      if (by_lane && (uniform(dlane) || weight == kNoSlot || !uniform(weight))) return false;
      return !by_weight || (uniform(dweight) && lane != kNoSlot && !uniform(lane));
    };
    if (!by_y && !by_x) return false;
    if (fits(s.x, s.y, s.dx, s.dy, by_x, by_y)) {
      x = s.x;
      e = {by_x ? s.y : kNoSlot, by_x ? s.dx : kNoSlot, by_y ? s.dy : kNoSlot, s.mode_x == Mode::store};
      return true;
    }
    if (fits(s.y, s.x, s.dy, s.dx, by_y, by_x)) {
      x = s.y;
      e = {by_y ? s.x : kNoSlot, by_y ? s.dy : kNoSlot, by_x ? s.dx : kNoSlot, s.mode_y == Mode::store};
      return true;
    }
    return false;
  }

  // Reads the backward steps of one row from t on: the sum's, then its products'. Returns their end, t if there are
  // none. Where only gradients by the inputs are wanted, columns are told apart by those.
  std::size_t read_unit(std::size_t t, Unit& unit) {
    unit.x.clear();
    unit.entries.clear();
    unit.dbias.clear();
    unit.carried.clear();
    const std::size_t begin = t;
    unit.g = l_.backward[t].g;
    if (unit.g == kNoSlot || uniform(unit.g)) return begin;
    if (l_.backward[t].code == code_of(Code::sum)) {
      const Step& s = l_.backward[t++];
      for (U32 k = s.first; k < s.first + s.count; ++k) {
        const Term& term = l_.terms[k];
        if (uniform(term.x))
          unit.dbias.push_back(term.x);
        else
          unit.carried.push_back(term);
      }
    }
    seen_.clear();
    U32 x;
    Entry e;
    for (; t < l_.backward.size() && l_.backward[t].g == unit.g && read_entry(l_.backward[t], x, e); ++t) {
      const U32 column = e.dweight == kNoSlot ? e.dx : x;
      if (seen_.has(column)) break;
      seen_.set(column);
      unit.x.push_back(column);
      unit.entries.push_back(e);
    }
    return unit.entries.empty() ? begin : t;
  }

  // Whether the rows so far and this one may be computed together: no array is both read and written. Carried gradients
  // are passed on before the rest.
  bool independent(const Unit& unit, bool first) {
    if (first) {
      read_.clear();
      written_.clear();
      for (std::size_t c = 0; c < unit.x.size(); ++c) {
        const Entry& e = unit.entries[c];
        if (e.dweight != kNoSlot) read_.set(unit.x[c]);
        if (e.dx == kNoSlot) continue;
        if (written_.has(e.dx)) return false;
        written_.set(e.dx);
      }
      for (U32 slot : unit.x)
        if (read_.has(slot) && written_.has(slot)) return false;
    }
    if (written_.has(unit.g)) return false;
    read_.set(unit.g);
    for (const Term& term : unit.carried)
      if (read_.has(term.x) || written_.has(term.x)) return false;
    return true;
  }

  std::size_t backward(std::size_t t) {
    if (const std::size_t end = read_activations(t); end != t) return end;
    Unit unit;
    std::size_t next = read_unit(t, unit);
    if (next == t || !independent(unit, true)) return t + 1;
    BackwardLayer layer;
    layer.begin = t;
    layer.x = unit.x;
    set_columns(layer.x);
    for (const Entry& e : unit.entries) {
      layer.dx.push_back(e.dx);
      layer.store.push_back(e.store);
    }
    for (;;) {
      for (const Entry& e : unit.entries) {
        layer.weights.push_back(e.weight);
        layer.dweights.push_back(e.dweight);
      }
      for (const Term& term : unit.carried) layer.carried.push_back({term.x, unit.g, term.mode});
      layer.g.push_back(unit.g);
      layer.dbias.insert(layer.dbias.end(), unit.dbias.begin(), unit.dbias.end());
      layer.bias_end.push_back(static_cast<U32>(layer.dbias.size()));
      layer.end = next;
      if (next == l_.backward.size()) break;
      const std::size_t after = read_unit(next, unit);
      if (after == next || !match(layer.x, unit.x, unit.entries)) break;
      bool same = true;
      for (std::size_t c = 0; c < unit.entries.size() && same; ++c)
        same = unit.entries[c].dx == layer.dx[c] && !unit.entries[c].store;
      if (!same || !independent(unit, false)) break;
      next = after;
    }
    const std::size_t end = layer.end;
    if (layer.weights.size() > 1) out_.backward.push_back(std::move(layer));
    return end;
  }

  // Steps in a row of one activation that is told by its value.
  std::size_t read_activations(std::size_t t) {
    const std::uint16_t code = l_.backward[t].code;
    if (code != code_of(Code::relu) && code != code_of(Code::tanh) && code != code_of(Code::sigmoid)) return t;
    const auto fits = [&](const Step& s) {
      return s.code == code && s.mode_x == Mode::store && !uniform(s.g) && s.z != kNoSlot && !uniform(s.z) &&
             !uniform(s.dx);
    };
    std::size_t end = t;
    while (end < l_.backward.size() && fits(l_.backward[end])) ++end;
    if (end > t + 1) out_.activations.push_back({t, end});
    return end > t ? end : t + 1;
  }

  const Lowered& l_;
  const std::vector<bool>& uniform_;
  LayerSteps out_;
  std::vector<bool> last_read_;
  Marks columns_, seen_, read_, written_;
};

}  // namespace

LayerSteps find_layers(const Lowered& lowered, const std::vector<bool>& uniform) {
  return Finder(lowered, uniform).run();
}

}  // namespace tapegrad
