// compile.cpp: how Python gets programs: by recording them, or by reading their text.
#include "python/compiled/compile.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>

#include "core/program/record.hpp"
#include "python/compiled/observe.hpp"
#include "python/compiled/program_class.hpp"

namespace tapegrad::python {

namespace {

std::unique_ptr<RunnableProgram> make_program(Program program, std::vector<Node*> params, bool exact,
                                              const std::vector<std::string>& off, bool check) {
  for (const Node* n : params)
    if (!Arena::may_hold(n)) throw std::overflow_error("a Value is a parameter of more programs than can be counted");
  for (Node* n : params) arena().hold(n);
  return std::make_unique<RunnableProgram>(std::move(program), std::move(params), exact, off, check);
}

// (file, line, label) of those values that the recorded function made, while its nodes live.
py::dict origins_of(const RunnableProgram& p, const Recorded& recorded) {
  py::dict out;
  const std::vector<std::uint32_t> values = named_values(p);
  if (values.empty()) return out;
  const std::vector<Node*> nodes = nodes_of_values(recorded, p.program(), values);
  const NodeLines* origins = recorded_lines();
  for (std::size_t k = 0; k < values.size(); ++k) {
    if (!nodes[k]) continue;
    const NodeLines::Place place = origins ? origins->of(Arena::id(nodes[k])) : NodeLines::Place{};
    py::object label = py::str();
    if (nodes[k]->handle) {
      PyObject* text = PyObject_GetAttrString(static_cast<PyObject*>(nodes[k]->handle), "label");
      if (!text) PyErr_Clear();
      if (text && PyUnicode_CheckExact(text)) label = py::reinterpret_borrow<py::object>(text);
      Py_XDECREF(text);
    }
    out[py::int_(values[k])] = py::make_tuple(
        place.code ? py::reinterpret_borrow<py::object>(place.code->co_filename) : py::none(), place.line, label);
  }
  return out;
}

std::unique_ptr<RunnableProgram> record_program(const py::sequence& outputs, const py::sequence& inputs,
                                                const py::sequence& looks, std::uint64_t since, bool exact,
                                                const std::vector<std::string>& off, bool check) {
  std::vector<Look> noted;
  for (py::handle h : looks) {
    const auto look = py::cast<py::tuple>(h);
    noted.push_back({static_cast<GuardKind>(py::cast<int>(look[0])), require_node(look[1]), py::cast<double>(look[2]),
                     py::cast<std::string>(look[3])});
  }
  const RecordLabels labels{label_index(kDetach), label_index(kSelect), label_index(kLinear)};
  Recorded recorded = record(arena(), nodes_of(outputs), nodes_of(inputs), noted, since, labels);
  auto program = make_program(std::move(recorded.program), std::move(recorded.params), exact, off, check);
  program->whole_outputs = std::move(recorded.whole_outputs);
  program->origins = origins_of(*program, recorded).release().ptr();
  return program;
}

}  // namespace

void register_programs(py::module_& m) {
  ProgramClass programs(m, "Program", "A recorded program and the Values that are its parameters.");
  add_runs(programs);
  add_reports(programs);
  register_operations(m);
  m.def("record_program", &record_program, py::arg("outputs"), py::arg("inputs"), py::arg("looks"), py::arg("since"),
        py::arg("exact"), py::arg("off"), py::arg("check"), "Copies out what was recorded since begin_recording().");
  m.def(
      "read_program",
      [](const std::string& text, const py::sequence& params, bool exact, const std::vector<std::string>& off,
         bool check) {
        Program program = read_program(text);
        if (program.params != params.size()) throw py::value_error("the program has another number of parameters");
        return make_program(std::move(program), nodes_of(params), exact, off, check);
      },
      py::arg("text"), py::arg("params"), py::arg("exact"), py::arg("off"), py::arg("check"),
      "Reads what Program.text gave.");
  py::list passes;
  for (const Pass& pass : kPasses) passes.append(pass.name);
  for (const char* name : {"repeats", "uniform subexpressions", "first-writer stores", "slot sharing", "fused products",
                           "scheduling", "fused functions", "column kernels"})
    passes.append(name);
  m.attr("passes") = py::tuple(passes);
}

}  // namespace tapegrad::python
