"""tapegrad's compiled functions: one call at a time (`tapegrad.compile`), and many lanes at once (`tapegrad.vmap`)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tapegrad
from tapegrad.bench.engines.base import (
    Adapter,
    ColumnProgram,
    ColumnResults,
    Engine,
    Floats,
    RowProgram,
    ScalarProgram,
)
from tapegrad.bench.engines.values import ValueAdapter


class CompiledAdapter(ValueAdapter):
    """The program of the eager engine, decorated: recorded before anything is timed, replayed at each call."""

    replays = True
    keeps_programs = True
    graph = Adapter.graph  # what is kept is a program, not a graph
    lanes = Adapter.lanes  # array Values are for eager code

    def __init__(self) -> None:
        super().__init__("tapegrad")

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        math = self.math
        compiled = tapegrad.compile(lambda: program(math, parameters))
        compiled()
        return compiled.backward

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        math, wanted = self.math, len(columns)
        compiled = tapegrad.compile(lambda *row: program(math, *row))
        rows = list(zip(*(column.tolist() for column in (*columns, *constants)), strict=True))

        def run() -> ColumnResults:
            values, gradients = zip(*(compiled.value_and_grad(*row) for row in rows), strict=True)
            return np.array(values), list(np.array(gradients).T[:wanted])

        return run


class LanesAdapter(Adapter):
    """The function of one row, mapped over the rows."""

    def __init__(self) -> None:
        self.math = CompiledAdapter().math

    def parameters(self, numbers: Sequence[float]) -> list[Any]:
        return [tapegrad.Value(x) for x in numbers]

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        math = self.math
        mapped = tapegrad.vmap(tapegrad.value_and_grad(lambda *row: program(math, *row), tuple(range(len(columns)))))

        def run() -> ColumnResults:
            values, gradients = mapped(*columns, *constants)
            return values, list(gradients)

        return run

    def rows(self, program: RowProgram, parameters: list[Any], columns: Sequence[Floats]) -> Callable[[], float]:
        math = self.math
        mapped = tapegrad.vmap(lambda *row: program(math, parameters, *row))
        return lambda: mapped.backward(*columns)


COMPILED = Engine(
    name="tapegrad compiled",
    module="tapegrad",
    pip="tapegrad",
    load=CompiledAdapter,
    how="the same function under tapegrad.compile, recorded beforehand",
)

LANES = Engine(
    name="tapegrad lanes",
    module="tapegrad",
    pip="tapegrad",
    load=LanesAdapter,
    how="the function of one row under tapegrad.vmap, recorded beforehand",
)
