// program_calls.cpp: how Python runs a program: on flat arrays of numbers, or over lanes.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "core/lanes/lanes.hpp"
#include "python/compiled/program_class.hpp"
#include "python/compiled/result_memory.hpp"

namespace tapegrad::python {

namespace {

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

}  // namespace

void add_runs(ProgramClass& program) {
  program
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
           "guard.");
}

}  // namespace tapegrad::python
