"""Bare Python floats: the same loop with no graph and no gradient, the floor under anything eager in Python."""

import importlib
from collections.abc import Callable
from typing import Any

from tapegrad.bench.engines.base import Adapter, Engine, ScalarProgram, functions


class FloatAdapter(Adapter):
    """Evaluates a program over ``float``; every ``grad`` stays None, which says that there is none."""

    zero_grad = None

    def __init__(self) -> None:
        self.math = functions(importlib.import_module("math"), "exp log tanh sqrt")

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        numbers = [p.data for p in parameters]
        for p in parameters:
            p.grad = None
        return lambda: float(program(self.math, numbers))


FLOATS = Engine(
    name="Python floats",
    module="math",
    pip="",
    load=FloatAdapter,
    how="value only, no gradient",
    only=frozenset({"chain"}),
)
