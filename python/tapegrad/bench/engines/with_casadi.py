"""CasADi: a symbolic graph recorded once, before the clock starts, and replayed by its virtual machine."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import Adapter, ColumnProgram, ColumnResults, Engine, Floats, ScalarProgram, functions


class CasadiAdapter(Adapter):
    """Scalar symbols (SX), one function for value and gradient, ``map`` over rows."""

    replays = True

    def __init__(self) -> None:
        casadi = self.casadi = importlib.import_module("casadi")
        self.math = functions(casadi, "exp log tanh sqrt")
        self.math.relu = lambda x: casadi.fmax(x, 0)

    def _function(self, expression: Callable[[list[Any]], Any], active: int, passive: int = 0) -> Any:
        """The function from ``active + passive`` numbers to the value and the gradient in the active ones."""
        casadi = self.casadi
        symbols = [casadi.SX.sym(f"x{i}") for i in range(active + passive)]
        value = expression(symbols)
        gradient = casadi.gradient(value, casadi.vertcat(*symbols[:active]))
        return casadi.Function("f", [casadi.vertcat(*symbols)], [value, gradient])

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        recorded = self._function(lambda symbols: program(self.math, symbols), len(parameters))

        def run() -> float:
            value, gradient = recorded([p.data for p in parameters])
            for p, g in zip(parameters, gradient.full().ravel().tolist(), strict=True):
                p.grad += g
            return float(value)

        return run

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        recorded = self._function(lambda symbols: program(self.math, *symbols), len(columns), len(constants))
        mapped = recorded.map(len(columns[0]))
        rows = np.stack([*columns, *constants])

        def run() -> ColumnResults:
            values, gradients = mapped(rows)
            return values.full().ravel(), list(gradients.full())

        return run


CASADI = Engine(
    name="CasADi",
    module="casadi",
    pip="casadi",
    load=CasadiAdapter,
    how="recorded once (not timed), replayed by its VM",
)
