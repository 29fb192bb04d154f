// node_lines.cpp: looks for the program's frame, and notes its code and where in it the interpreter is.
#include "python/tools/node_lines.hpp"

#include <algorithm>
#include <iterator>
#include <new>

#include "python/tools/current_frame.hpp"

namespace tapegrad::python {

namespace {

PyObject *package_folder = nullptr, *program_folders = nullptr;  // a str, a tuple of them

bool starts_with(PyObject* text, PyObject* start) {
  return start && PyUnicode_Tailmatch(text, start, 0, PyUnicode_GET_LENGTH(text), -1) == 1;
}

}  // namespace

void set_package_folders(PyObject* package, PyObject* programs) {
  Py_XSETREF(package_folder, Py_NewRef(package));
  Py_XSETREF(program_folders, Py_NewRef(programs));
}

std::uint32_t NodeLines::index_of(PyCodeObject* code) {
  const auto bits = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(code));
  Seen& seen = seen_[(bits * 0x9E3779B97F4A7C15u) >> 58];
  if (seen.code == code) return seen.index;
  const auto [at, fresh] = index_.try_emplace(code, static_cast<std::uint32_t>(codes_.size()));
  if (fresh) {
    bool own = starts_with(code->co_filename, package_folder);
    for (Py_ssize_t i = 0; own && i < PyTuple_GET_SIZE(program_folders); ++i)
      own = !starts_with(code->co_filename, PyTuple_GET_ITEM(program_folders, i));
    codes_.push_back({code, own});
    Py_INCREF(code);
  }
  seen = {code, at->second};
  return at->second;
}

bool NodeLines::note(std::uint64_t id) {
  while (!entries_.empty() && entries_.back().id >= id) entries_.pop_back();
  if (entries_.size() >= most_) return true;
  PyCodeObject* code;
  int instruction;
  if (!current_place(&code, &instruction)) return true;
  try {
    Entry entry{id, index_of(code), instruction};
    if (codes_[entry.code].own) entry = outside_package(entry);
    entries_.push_back(entry);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
  return true;
}

NodeLines::Entry NodeLines::entry_of(std::uint64_t id, PyFrameObject* frame) {
  PyCodeObject* code = PyFrame_GetCode(frame);
  struct Release {
    PyCodeObject* code;
    ~Release() { Py_DECREF(code); }
  } release{code};
  return {id, index_of(code), PyFrame_GetLasti(frame)};
}

// The entry for the nearest frame below that is the program's; the one given where there is none.
NodeLines::Entry NodeLines::outside_package(Entry innermost) {
  PyFrameObject* const frame = PyEval_GetFrame();  // borrowed
  struct Held {
    PyFrameObject* frame;
    ~Held() { Py_XDECREF(frame); }
  } held{frame ? PyFrame_GetBack(frame) : nullptr};
  while (held.frame) {
    const Entry entry = entry_of(innermost.id, held.frame);
    if (!codes_[entry.code].own) return entry;
    PyFrameObject* back = PyFrame_GetBack(held.frame);
    Py_DECREF(held.frame);
    held.frame = back;
  }
  return innermost;
}

NodeLines::Place NodeLines::of(std::uint64_t id) const {
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), id,
                                      [](const Entry& e, std::uint64_t wanted) { return e.id < wanted; });
  if (found == entries_.end()) return {};
  PyCodeObject* code = codes_[found->code].code;
  return {code, PyCode_Addr2Line(code, found->instruction)};
}

void NodeLines::clear() {
  std::vector<Code> gone;
  gone.swap(codes_);
  entries_.clear();
  index_.clear();
  std::fill(std::begin(seen_), std::end(seen_), Seen{});
  for (const Code& c : gone) Py_DECREF(c.code);
}

}  // namespace tapegrad::python
