"""HIPS autograd: NumPy arrays boxed in Python objects, eager; scalars and arrays alike."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from tapegrad.bench.engines.base import (
    Adapter,
    ArrayProgram,
    ColumnProgram,
    ColumnResults,
    Engine,
    Floats,
    ScalarProgram,
    Training,
    functions,
)


class AutogradAdapter(Adapter):
    """``value_and_grad`` of the program; autograd's functional style has no leaves, so parameters are kept outside."""

    def __init__(self) -> None:
        numpy: Any = importlib.import_module("autograd.numpy")
        self.value_and_grad: Any = importlib.import_module("autograd").value_and_grad
        self.math = functions(numpy, "exp log tanh sqrt")
        self.math.relu = lambda x: numpy.maximum(x, 0.0)
        self.math.constant = lambda x: x
        self.numpy = numpy

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        gradient = self.value_and_grad(lambda numbers: program(self.math, numbers))

        def run() -> float:
            value, gradients = gradient([p.data for p in parameters])
            for p, g in zip(parameters, gradients, strict=True):
                p.grad += float(g)
            return float(value)

        return run

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        values: list[Any] = [None]

        def total(arguments: list[Any]) -> Any:
            result = program(self.math, *arguments, *constants)
            values[0] = result._value
            return self.numpy.sum(result)

        gradient = self.value_and_grad(total)

        def run() -> ColumnResults:
            gradients = gradient(list(columns))[1]
            return values[0], gradients

        return run

    def arrays(self, program: ArrayProgram, weights: Sequence[Floats], rate: float) -> Training:
        gradient = self.value_and_grad(program(self.math))
        state: list[Any] = [list(weights), None]

        def step() -> float:
            loss, state[1] = gradient(state[0])
            state[0] = [w - rate * g for w, g in zip(state[0], state[1], strict=True)]
            return float(loss)

        return Training(step, lambda: list(state[1]))


AUTOGRAD = Engine(
    name="autograd",
    module="autograd",
    pip="autograd",
    load=AutogradAdapter,
    how="HIPS autograd: boxed NumPy, eager",
    never={
        "gpt": "boxes every number: minutes a step",
        "west": "boxes every number: seconds a run",
    },
)
