// compile.cpp: programs as Python sees them: recording, running on flat arrays of numbers, text, and what the passes
// did.
#include "python/compiled/compile.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <new>
#include <stdexcept>

#include "core/lanes/lanes.hpp"
#include "core/program/record.hpp"
#include "python/compiled/observe.hpp"
#include "python/compiled/programs.hpp"
#include "python/compiled/result_memory.hpp"
#include "python/value/numbers.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

py::object steal(PyObject* o) {
  if (!o) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(o);
}

std::uint32_t label_index(const char* text) {
  const py::str label(text);
  const long index = intern_label(label.ptr());
  if (index < 0) throw py::error_already_set();
  return static_cast<std::uint32_t>(index);
}

constexpr const char* kDetach = "tapegrad.detach";
constexpr const char* kSelect = "tapegrad.select";
constexpr const char* kLinear = "tapegrad.linear";

Node* require_node(py::handle h) {
  if (!is_value(h.ptr()))
    throw py::type_error("expected a Value, not " + py::cast<std::string>(py::str(py::type::handle_of(h))));
  return node_of(h.ptr());
}

std::vector<Node*> nodes_of(const py::sequence& values) {
  std::vector<Node*> nodes;
  for (py::handle h : values) nodes.push_back(require_node(h));
  return nodes;
}

std::unique_ptr<RunnableProgram> make_program(Program program, std::vector<Node*> params, bool exact,
                                              const std::vector<std::string>& off, bool check) {
  for (const Node* n : params)
    if (!Arena::may_hold(n)) throw std::overflow_error("a Value is a parameter of more programs than can be counted");
  for (Node* n : params) arena().hold(n);
  return std::make_unique<RunnableProgram>(std::move(program), std::move(params), exact, off, check);
}

// The values that the words on a near miss may name: operations, and what they are applied to. In rising order.
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

// What a run that did not end in numbers means: an error, or the index of the guard that failed.
py::object outcome(long guard) {
  if (guard == -2) throw py::error_already_set();
  return py::int_(guard);
}

const double* checked_inputs(const RunnableProgram& p, const Array& inputs) {
  if (static_cast<std::size_t>(inputs.size()) != p.program().inputs)
    throw py::value_error("the program takes " + std::to_string(p.program().inputs) + " numbers, not " +
                          std::to_string(inputs.size()));
  return inputs.data();
}

void require_one_output(const RunnableProgram& p) {
  if (p.program().outputs.size() != 1)
    throw py::type_error("a gradient is that of one number, but the function returns " +
                         std::to_string(p.program().outputs.size()));
}

py::object run(RunnableProgram& p, const Array& inputs) {
  Array out(static_cast<py::ssize_t>(p.program().outputs.size()));
  const long guard = p.run(checked_inputs(p, inputs), out.mutable_data());
  return guard == -1 ? py::object(out) : outcome(guard);
}

py::object run_gradients(RunnableProgram& p, const Array& inputs, const std::vector<bool>& wanted) {
  require_one_output(p);
  double value;
  Array gradients(inputs.size());
  const long guard = p.run_gradients(checked_inputs(p, inputs), wanted, &value, gradients.mutable_data());
  return guard == -1 ? py::object(py::make_tuple(value, gradients)) : outcome(guard);
}

py::object run_backward(RunnableProgram& p, const Array& inputs) {
  require_one_output(p);
  double value;
  const long guard = p.run_backward(checked_inputs(p, inputs), &value);
  return guard == -1 ? py::object(py::float_(value)) : outcome(guard);
}

// Arguments of a run over lanes: each an array and whether its first axis is that of the lanes. An array of shape
// (lanes, m) is m inputs.
struct LaneArguments {
  std::vector<Array> arrays;
  std::vector<LaneInput> inputs;
  std::size_t lanes;

  LaneArguments(const RunnableProgram& p, const py::list& leaves, std::size_t lane_count) : lanes(lane_count) {
    for (py::handle h : leaves) {
      const auto leaf = py::cast<py::tuple>(h);
      arrays.push_back(py::cast<Array>(leaf[0]));
      const Array& array = arrays.back();
      const bool batched = py::cast<bool>(leaf[1]);
      const auto size = static_cast<std::size_t>(array.size());
      if (batched && lanes && size % lanes) throw py::value_error("an array does not have one row a lane");
      const std::size_t count = batched ? (lanes ? size / lanes : py::cast<std::size_t>(leaf[2])) : size;
      for (std::size_t k = 0; k < count; ++k)
        inputs.push_back({array.data() + (lanes || !batched ? k : 0), batched ? count : 0});
    }
    if (inputs.size() != p.program().inputs)
      throw py::value_error("the program takes " + std::to_string(p.program().inputs) + " numbers a lane, not " +
                            std::to_string(inputs.size()));
  }

  // Of the first input with lanes next to each other, null where there is none.
  const double* first_lanes() const {
    for (const LaneInput& input : inputs)
      if (input.stride == 1) return input.data;
    return nullptr;
  }
};

py::object lane_outcome(const LaneOutcome& outcome) {
  if (outcome.guard == -2) throw py::error_already_set();
  return py::make_tuple(outcome.guard, outcome.failures, outcome.first);
}

py::object run_lanes(RunnableProgram& p, const py::list& leaves, std::size_t lanes, int threads) {
  const LaneArguments arguments(p, leaves, lanes);
  const std::size_t count = p.program().outputs.size();
  Array out = result_array({count, lanes}, arguments.first_lanes());
  std::vector<double*> rows;
  for (std::size_t k = 0; k < count; ++k) rows.push_back(out.mutable_data() + k * lanes);
  const LaneOutcome outcome = p.run_lanes(lanes, arguments.inputs, threads, rows.data());
  return outcome.guard == -1 ? py::object(out) : lane_outcome(outcome);
}

py::object run_lanes_gradients(RunnableProgram& p, const py::list& leaves, std::size_t lanes, int threads,
                               const std::vector<bool>& wanted) {
  require_one_output(p);
  const LaneArguments arguments(p, leaves, lanes);
  Array values = result_array({lanes}, arguments.first_lanes());
  py::list gradients;
  std::vector<double*> to;
  std::vector<std::size_t> strides;
  for (std::size_t leaf = 0, input = 0; leaf < leaves.size(); ++leaf) {
    const auto size = static_cast<std::size_t>(arguments.arrays[leaf].size());
    const auto tuple = py::cast<py::tuple>(leaves[leaf]);
    const std::size_t count =
        py::cast<bool>(tuple[1]) ? (lanes ? size / lanes : py::cast<std::size_t>(tuple[2])) : size;
    bool any = false;
    for (std::size_t k = 0; k < count; ++k) any = any || wanted[input + k];
    double* data = nullptr;
    if (any || !count) {
      Array gradient = result_array({lanes, count}, arguments.first_lanes());
      data = gradient.mutable_data();
      gradients.append(gradient);
    } else {
      gradients.append(py::none());
    }
    for (std::size_t k = 0; k < count; ++k, ++input) {
      to.push_back(any ? data + k : nullptr);
      strides.push_back(count);
    }
  }
  const LaneOutcome outcome =
      p.run_lanes_gradients(lanes, arguments.inputs, threads, values.mutable_data(), to.data(), strides.data());
  return outcome.guard == -1 ? py::object(py::make_tuple(values, gradients)) : lane_outcome(outcome);
}

py::object run_lanes_backward(RunnableProgram& p, const py::list& leaves, std::size_t lanes, int threads, double seed) {
  require_one_output(p);
  const LaneArguments arguments(p, leaves, lanes);
  Array values = result_array({lanes}, arguments.first_lanes());
  bool failed;
  const LaneOutcome outcome =
      p.run_lanes_backward(lanes, arguments.inputs, threads, values.mutable_data(), seed, &failed);
  if (failed) throw py::error_already_set();
  if (outcome.guard != -1) return lane_outcome(outcome);
  return py::float_(lanes::sum(lanes, values.data()) * seed);
}

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

// One node of a table operation over Values, whatever IEEE says of it.
py::object apply(const std::string& name, const py::sequence& operands) {
  for (int i = static_cast<int>(Op::powc) + 1; i < static_cast<int>(Op::count); ++i) {
    const Op op = static_cast<Op>(i);
    if (name != info(op).name) continue;
    const std::vector<Node*> nodes = nodes_of(operands);
    if (nodes.size() != kArity[i]) throw py::value_error(name + " takes " + std::to_string(kArity[i]) + " operands");
    Instruction instruction{static_cast<Code>(op), 0, 1};
    const double values[2] = {nodes[0]->data, nodes.back()->data};
    double z = evaluate({}, instruction, values);
    Flags either = 0;
    bool is_int = false;
    for (Node* n : nodes) either |= n->flags;
    switch (op) {
#define TAPEGRAD_BINARY(id, ...)                                                                                    \
  case Op::id:                                                                                                      \
    is_int = Rule<Op::id>::int_value(nodes[0]->flags & kDataInt, nodes[1]->flags & kDataInt, values[0], values[1]); \
    break;
#include "core/ops/ops.def"
      default:
        break;
    }
    Flags flags = inherited(nodes[0]->flags);
    if (is_int) flags |= int_flag(&z);
    Node* n = nodes.size() == 2 ? arena().make_binary(op, nodes[0], nodes[1], z, flags)
                                : arena().make_unary(op, nodes[0], z, flags);
    return steal(show(n, type_of(flags), either));
  }
  throw py::value_error("no operation '" + name + "'");
}

py::object custom(const char* label, const py::sequence& operands, double data, bool is_int) {
  const std::vector<Node*> nodes = nodes_of(operands);
  Flags flags = static_cast<Flags>(inherited(nodes[0]->flags) | (is_int ? kDataInt : 0)), either = 0;
  for (Node* n : nodes) either |= n->flags;
  return steal(show(arena().make_custom(nodes.data(), nodes.size(), nullptr, label_index(label), data, flags),
                    type_of(flags), either));
}

}  // namespace

PyObject* detached(PyObject* value) {
  try {
    const Node* n = node_of(value);
    return custom(kDetach, py::make_tuple(py::handle(value)), n->data, n->flags & kDataInt).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

void register_programs(py::module_& m) {
  py::class_<RunnableProgram>(m, "Program", "A recorded program and the Values that are its parameters.")
      .def("run", &run, py::arg("inputs"),
           "Outputs for flat inputs, or the index of the first guard that does not hold.")
      .def("run_gradients", &run_gradients, py::arg("inputs"), py::arg("wanted"),
           "(value, gradients by the inputs), or the index of a guard. wanted: which inputs, [] for all.")
      .def("run_backward", &run_backward, py::arg("inputs"),
           "The value; adds into the parameters' grads. Or the index of a guard.")
      .def("run_lanes", &run_lanes, py::arg("leaves"), py::arg("lanes"), py::arg("threads"),
           "Outputs of shape (outputs, lanes), or (guard, lanes in which it fails, first of them). leaves: (array, "
           "batched, inputs).")
      .def("run_lanes_gradients", &run_lanes_gradients, py::arg("leaves"), py::arg("lanes"), py::arg("threads"),
           py::arg("wanted"),
           "(values, one gradient array of shape (lanes, inputs) a leaf), or the outcome of a guard.")
      .def("run_lanes_backward", &run_lanes_backward, py::arg("leaves"), py::arg("lanes"), py::arg("threads"),
           py::arg("seed"),
           "seed times the sum of the values; adds seed times the gradients into the parameters. Or the outcome of a "
           "guard.")
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
  m.def("apply", &apply, py::arg("name"), py::arg("operands"), "One node of a table operation, by name.");
  m.def(
      "detach",
      [](py::handle v) {
        Node* n = require_node(v);
        return custom(kDetach, py::make_tuple(v), n->data, n->flags & kDataInt);
      },
      py::arg("value"), "A node with the value's number, through which no gradient goes.");
  m.def(
      "select",
      [](py::handle c, py::handle a, py::handle b) {
        Node* chosen = require_node(c)->data != 0 ? require_node(a) : require_node(b);
        return custom(kSelect, py::make_tuple(c, a, b), chosen->data, chosen->flags & kDataInt);
      },
      py::arg("condition"), py::arg("a"), py::arg("b"), "A node that is a where the condition is not 0, else b.");
  m.def(
      "linear",
      [](const py::sequence& operands, py::handle data, const py::sequence& grads) {
        py::list all;
        for (py::handle h : operands) all.append(h);
        all.append(data);
        for (py::handle h : grads) all.append(h);
        return custom(kLinear, all, require_node(data)->data, false);
      },
      py::arg("operands"), py::arg("data"), py::arg("grads"),
      "A node with that number and those derivatives by its operands.");
  m.def(
      "peek",
      [](py::handle v) {
        Node* n = require_node(v);
        return steal(to_python(n->data, n->flags & kDataInt));
      },
      py::arg("value"), "The number of a Value, unnoticed by a recording.");
  py::list passes;
  for (const Pass& pass : kPasses) passes.append(pass.name);
  for (const char* name : {"repeats", "uniform subexpressions", "first-writer stores", "slot sharing", "fused products",
                           "scheduling", "fused functions", "column kernels"})
    passes.append(name);
  m.attr("passes") = py::tuple(passes);
}

}  // namespace tapegrad::python
