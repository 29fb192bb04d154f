"""NumPy: whole arrays at once, values only; what the arithmetic costs when nobody asks for a gradient."""

from collections.abc import Callable, Sequence

import numpy as np

from tapegrad.bench.engines.base import Adapter, ColumnProgram, ColumnResults, Engine, Floats, functions


class NumpyAdapter(Adapter):
    """Evaluates over float64 arrays."""

    def __init__(self) -> None:
        self.math = functions(np, "exp log tanh sqrt")

    def lanes(self, numbers: Floats) -> Floats:
        return numbers

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        return lambda: (program(self.math, *columns, *constants), None)


NUMPY = Engine(name="NumPy", module="numpy", pip="numpy", load=NumpyAdapter, how="value only, no gradient")
