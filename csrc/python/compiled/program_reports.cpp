// program_reports.cpp: what a program tells of itself: its text and size, its guards, and what the passes did or did
// not find.
#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "python/compiled/program_class.hpp"

namespace tapegrad::python {

namespace {

py::list guards_of(const RunnableProgram& p) {
  constexpr const char* kKinds[] = {"truth", "whole", "exact"};
  py::list out;
  for (const Guard& g : p.program().guards)
    out.append(py::make_tuple(kKinds[static_cast<int>(g.kind)], g.expected, p.program().notes[g.note]));
  return out;
}

// A value as the words on a near miss need it: (operation, number of an input, a parameter or the value itself, its
// number as a constant or an exponent, operands).
py::object value_of(const Program& p, std::uint32_t value) {
  if (value == kNoPlace) return py::none();
  const Instruction& i = p.code[value];
  py::list operands;
  p.for_each_operand(i, [&](std::uint32_t o) { operands.append(o); });
  return py::make_tuple(name_of(i.code), i.code == Code::input || i.code == Code::param ? i.a : value, i.number,
                        operands);
}

py::list misses_of(const RunnableProgram& p) {
  constexpr const char* kKinds[] = {"operation", "length", "operand", "gathered", "carried", "small", "recurrence"};
  py::list out;
  for (const Miss& miss : p.repeats().missed) {
    py::dict told;
    told["kind"] = kKinds[static_cast<int>(miss.kind)];
    told["repeats"] = miss.repeats;
    told["size"] = miss.size;
    told["repeat"] = miss.repeat;
    told["operation"] = miss.operation;
    told["operand"] = miss.operand;
    told["count"] = miss.count;
    const auto number = [](std::uint32_t value) -> py::object {
      return value == kNoPlace ? py::object(py::none()) : py::int_(value);
    };
    told["value"] = number(miss.value);
    told["expected"] = number(miss.expected);
    told["taken"] = number(miss.taken);
    told["pattern"] = number(miss.pattern);
    out.append(told);
  }
  return out;
}

py::dict named_of(const RunnableProgram& p) {
  py::dict out;
  for (std::uint32_t value : named_values(p)) out[py::int_(value)] = value_of(p.program(), value);
  return out;
}

py::list params_of(const RunnableProgram& p) {
  py::list out;
  for (Node* n : p.params()) out.append(steal(handle_of(n)));
  return out;
}

py::dict steps_of(RunnableProgram& p) {
  py::dict out;
  const Variant& v = p.variant(Want::value, {});
  out["forward"] = v.forward_steps;
  out["slots"] = v.lowered.slots;
  if (p.program().outputs.size() == 1) {
    const Variant& b = p.variant(Want::param_gradients, {});
    out["forward with gradients"] = b.forward_steps;
    out["backward"] = b.backward_steps;
    out["slots with gradients"] = b.lowered.slots;
  }
  return out;
}

}  // namespace

std::vector<std::uint32_t> named_values(const RunnableProgram& p) {
  std::vector<std::uint32_t> out;
  const auto add = [&](std::uint32_t value) {
    if (value != kNoPlace) out.push_back(value);
  };
  for (const Miss& miss : p.repeats().missed)
    for (std::uint32_t value : {miss.value, miss.expected, miss.taken, miss.pattern}) {
      add(value);
      if (value != kNoPlace) p.program().for_each_operand(p.program().code[value], add);
    }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

void add_reports(ProgramClass& program) {
  program
      .def_property_readonly(
          "text", [](const RunnableProgram& p) { return p.program().text(); }, "The program as recorded.")
      .def_property_readonly(
          "simplified", [](RunnableProgram& p) { return p.draft().program.text(); }, "After the passes.")
      .def_property_readonly("inputs", [](const RunnableProgram& p) { return p.program().inputs; })
      .def_property_readonly("outputs", [](const RunnableProgram& p) { return p.program().outputs.size(); })
      .def_property_readonly("nodes", [](const RunnableProgram& p) { return p.program().code.size(); })
      .def_readonly("whole_outputs", &RunnableProgram::whole_outputs,
                    "Which outputs Python shows as ints, whatever the inputs are; empty for a program that was read.")
      .def_property_readonly("params", &params_of, "The Values read at each run.")
      .def_property_readonly("guards", &guards_of, "(kind, expected, source line) of each guard.")
      .def_property_readonly(
          "repeats", [](const RunnableProgram& p) { return p.repeats().found; },
          "The repeated blocks that run as lanes, a sentence each.")
      .def_property_readonly("near_misses", &misses_of,
                             "Why blocks that almost repeat do not: kind, counts and values of the program, by name.")
      .def_property_readonly("named", &named_of,
                             "The values that near_misses name and their operands: value -> (operation, which, number, "
                             "operands).")
      .def_property_readonly(
          "origins",
          [](const RunnableProgram& p) { return p.origins ? py::reinterpret_borrow<py::dict>(p.origins) : py::dict(); },
          "Of those that the recorded function made: value -> (file or None, line, label).")
      .def_property_readonly("steps", &steps_of, "Steps and slots of memory after lowering.")
      .def_property_readonly(
          "passes",
          [](RunnableProgram& p) {
            py::dict out;
            for (const PassCount& c : p.counts()) out[py::str(c.name)] = c.count;
            return out;
          },
          "How many instructions each pass removed or replaced.")
      .def_property_readonly(
          "layers",
          [](RunnableProgram& p) {
            const LayerCounts c = p.layers();
            return py::make_tuple(c.dots, c.layers);
          },
          "Sums of products, and over how many different vectors of inputs they are.");
}

}  // namespace tapegrad::python
