// node_lines.hpp: which line of the program made a node, for nodes noted in order of creation.
//
// An entry is two numbers and an index: lines are worked out only for nodes that somebody asks about.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

#include "core/graph/scratch.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

class NodeLines {
 public:
  // Keeps at most so many entries; nodes after those have no line.
  explicit NodeLines(std::size_t most = std::numeric_limits<std::size_t>::max()) : most_(most) {}
  NodeLines(const NodeLines&) = delete;
  NodeLines& operator=(const NodeLines&) = delete;
  ~NodeLines() { clear(); }

  // Notes that the node with this id, and those before it that are not noted, are made where the program is just now.
  // Ids rise, except that a page whose nodes have all died starts again: then what was noted of its nodes goes. False
  // with MemoryError set.
  bool note(std::uint64_t id);

  // The newest id noted; 0 if there is none.
  std::uint64_t newest() const { return entries_.empty() ? 0 : entries_.back().id; }

  // Code (borrowed) and line; null and 0 where that is not known.
  struct Place {
    PyCodeObject* code = nullptr;
    int line = 0;
  };
  Place of(std::uint64_t id) const;

  void clear();

 private:
  struct Entry {
    std::uint64_t id;
    std::uint32_t code;  // index into codes_
    int instruction;
  };
  struct Code {
    PyCodeObject* code;  // owned
    bool own;            // tapegrad's own
  };
  struct Seen {
    PyCodeObject* code = nullptr;
    std::uint32_t index = 0;
  };
  std::uint32_t index_of(PyCodeObject* code);
  Entry entry_of(std::uint64_t id, PyFrameObject* frame);
  Entry outside_package(Entry innermost);

  std::size_t most_;
  LargeVector<Entry> entries_;
  std::vector<Code> codes_;
  std::unordered_map<PyCodeObject*, std::uint32_t> index_;
  Seen seen_[64];  // of index_, what was asked for lately
};

// tapegrad's own folder, which is not where a program makes a node, and a tuple of folders within it, which are.
void set_package_folders(PyObject* package, PyObject* programs);

}  // namespace tapegrad::python
