// runs.hpp: how long runs share the interpreter: from when on they let go of it, and how they hear of Ctrl-C then.
#pragma once

#include <Python.h>

#include <chrono>
#include <cstddef>

namespace tapegrad::python {

inline constexpr std::size_t kLetGoSteps = 20000;  // from this size on, a run lets other threads work

// Looks for Ctrl-C now and then during a run that has let go of the interpreter.
struct Interrupts {
  PyThreadState*& state;
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();

  // Whether a signal's handler has raised; the exception is set.
  bool now() {
    const auto time = std::chrono::steady_clock::now();
    if (time - last < std::chrono::milliseconds(50)) return false;
    last = time;
    PyEval_RestoreThread(state);
    const bool raised = PyErr_CheckSignals() < 0;
    state = PyEval_SaveThread();
    return raised;
  }

  template <typename AnyRun>
  void give_to(AnyRun* run) {
    run->interrupt = [](void* context) { return static_cast<Interrupts*>(context)->now(); };
    run->interrupt_context = this;
  }
};

}  // namespace tapegrad::python
