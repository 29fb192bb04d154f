"""XAD's Python tape: active reals recorded on a C++ tape, eager."""

import importlib
from collections.abc import Callable
from typing import Any

from tapegrad.bench.engines.base import Adapter, Engine, ScalarProgram, functions


class XadAdapter(Adapter):
    """Records the program on one tape that is used again from call to call, as XAD's documentation does."""

    def __init__(self) -> None:
        self.xad: Any = importlib.import_module("xad.adj_1st")
        self.math = functions(importlib.import_module("xad.math"), "exp log tanh sqrt")
        real = self.xad.Real
        fmax = importlib.import_module("xad.math").fmax
        self.math.relu = lambda x: fmax(x, real(0.0))

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        tape = self.xad.Tape()
        real = self.xad.Real

        def run() -> float:
            with tape:
                inputs = [real(p.data) for p in parameters]
                tape.registerInputs(inputs)
                tape.newRecording()
                root = program(self.math, inputs)
                tape.registerOutput(root)
                root.setDerivative(1.0)
                tape.computeAdjoints()
                for p, x in zip(parameters, inputs, strict=True):
                    p.grad += x.getDerivative()
                value = float(root.getValue())
                tape.clearAll()
            return value

        return run


XAD = Engine(name="XAD", module="xad", pip="xad", load=XadAdapter, how="C++ tape under Python reals, eager")
