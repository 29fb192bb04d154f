// program_class.hpp: what the files that make up the Python class Program share: its parts, and the nodes of Values.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "python/compiled/programs.hpp"
#include "python/tools/steal.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

namespace py = pybind11;

using ProgramClass = py::class_<RunnableProgram>;
void add_runs(ProgramClass& program);      // program_calls.cpp
void add_reports(ProgramClass& program);   // program_reports.cpp
void register_operations(py::module_& m);  // operations.cpp

// program_reports.cpp: the values that the words on a near miss may name: operations, and what they are applied to. In
// rising order.
std::vector<std::uint32_t> named_values(const RunnableProgram& p);

inline constexpr const char* kDetach = "tapegrad.detach";
inline constexpr const char* kSelect = "tapegrad.select";
inline constexpr const char* kLinear = "tapegrad.linear";

inline std::uint32_t label_index(const char* text) {
  const py::str label(text);
  const long index = intern_label(label.ptr());
  if (index < 0) throw py::error_already_set();
  return static_cast<std::uint32_t>(index);
}

inline Node* require_node(py::handle h) {
  if (!is_value(h.ptr()))
    throw py::type_error("expected a Value, not " + py::cast<std::string>(py::str(py::type::handle_of(h))));
  return node_of(h.ptr());
}

inline std::vector<Node*> nodes_of(const py::sequence& values) {
  std::vector<Node*> nodes;
  for (py::handle h : values) nodes.push_back(require_node(h));
  return nodes;
}

}  // namespace tapegrad::python
