"""Engines with a micrograd-like ``Value``: tapegrad itself, its pure-Python reference and micrograd from PyPI."""

import importlib
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tapegrad.bench.engines.base import Adapter, Engine, Floats, ScalarProgram, functions

FUNCTIONS = "exp log tanh relu sqrt softplus"
#: Deep enough for a graph of ten million nodes in a sort that recurses.
DEEP = 100_000_000


class ValueAdapter(Adapter):
    """Runs a program as users write it: the expression builds the graph, ``backward()`` walks it, the names go away."""

    def __init__(self, module: str, networks: dict[str, str] | None = None) -> None:
        """``networks`` says which module holds the ``MLP`` of which activation; one that is not there is left out."""
        self.value: Any = importlib.import_module(module).Value
        self.math = functions(self.value, FUNCTIONS)
        self._networks = networks or {}

    def parameters(self, numbers: Sequence[float]) -> list[Any]:
        return [self.value(x) for x in numbers]

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        math = self.math

        def run() -> float:
            root = program(math, parameters)
            root.backward()
            return float(root.data)

        return run

    def graph(self, program: ScalarProgram, parameters: list[Any]) -> Any:
        return program(self.math, parameters)

    def network(self, activation: str, nin: int, nouts: Sequence[int]) -> Any | None:
        if activation not in self._networks:
            return None
        try:
            module = importlib.import_module(self._networks[activation])
        except ModuleNotFoundError:
            return None
        state = random.getstate()  # the constructor draws weights that the workload replaces
        try:
            return module.MLP(nin, list(nouts))
        finally:
            random.setstate(state)


class LaneValueAdapter(ValueAdapter):
    """A ``Value`` that may hold an array."""

    def lanes(self, numbers: Floats) -> Any:
        return self.value(numbers)


class RecursiveValueAdapter(ValueAdapter):
    """A ``Value`` whose sweep recurses once per node: as it comes, it stops at a thousand nodes in a row."""

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        run = super().scalars(program, parameters)

        def run_deep() -> float:
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(DEEP)
            try:
                return run()
            finally:
                sys.setrecursionlimit(limit)

        return run_deep


TAPEGRAD = Engine(
    name="tapegrad",
    module="tapegrad",
    pip="tapegrad",
    load=lambda: LaneValueAdapter("tapegrad", {"tanh": "tapegrad", "relu": "tapegrad.micrograd.nn"}),
    how="Values over the C++ core, eager",
)

REFERENCE = Engine(
    name="tapegrad.reference",
    module="tapegrad.reference",
    pip="tapegrad",
    load=lambda: RecursiveValueAdapter("tapegrad.reference", {"tanh": "tapegrad.reference"}),
    how="the same in plain Python, eager",
)

MICROGRAD = Engine(
    name="micrograd",
    module="micrograd",
    pip="micrograd",
    load=lambda: RecursiveValueAdapter("micrograd.engine", {"relu": "micrograd.nn"}),
    how="plain Python, eager, with the recursion limit raised",
)
