// programs.hpp: a recorded program together with the Values that are its parameters, ready to run.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/replay.hpp"
#include "python/value.hpp"

namespace tapegrad::python {

enum class Want { value, input_gradients, param_gradients };

// One way to run a program, compiled on first use.
struct Variant {
  Lowered lowered;
  ScalarCode code;
  std::vector<std::unique_ptr<double[]>> spare;  // prepared memory that no run uses just now

  explicit Variant(Lowered l) : lowered(std::move(l)), code(lowered) {}
};

// Used under the interpreter lock; runs of large programs let go of it, each on memory of its own.
class RunnableProgram {
 public:
  // Takes over the parameters' counts: the caller holds each node once for the program.
  RunnableProgram(Program program, std::vector<Node*> params, bool exact, std::vector<std::string> off, bool check);
  ~RunnableProgram();
  RunnableProgram(const RunnableProgram&) = delete;
  RunnableProgram& operator=(const RunnableProgram&) = delete;

  // The three ways to run. Each returns -1, or the index of the first guard that does not hold, and then has changed nothing. With an
  // error set (check=True only) it returns -2. `wanted` names the inputs whose gradients are wanted, all of them when empty.
  long run(const double* inputs, double* outputs);
  long run_gradients(const double* inputs, const std::vector<bool>& wanted, double* output, double* gradients);
  long run_backward(const double* inputs, double* output);

  const Program& program() const { return program_; }
  const Draft& draft() const { return draft_; }
  const std::vector<PassCount>& counts() const { return counts_; }
  const std::vector<Node*>& params() const { return params_; }
  const Variant& variant(Want want, const std::vector<bool>& wanted);
  bool exact() const { return exact_; }
  const std::vector<std::string>& off() const { return off_; }

 private:
  struct Run;
  Variant& find(Want want, const std::vector<bool>& wanted);

  Program program_;
  std::vector<PassCount> counts_;  // filled while draft_ is made
  Draft draft_;
  std::vector<Node*> params_;
  bool exact_, check_;
  std::vector<std::string> off_;
  std::map<std::pair<Want, std::vector<bool>>, Variant> variants_;
  Variant* last_[3] = {nullptr, nullptr, nullptr};  // of each Want, for all inputs
};

}  // namespace tapegrad::python
