"""JAX on the CPU in float64: a program is compiled once by XLA and then called."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import (
    Adapter,
    ArrayProgram,
    ColumnProgram,
    ColumnResults,
    Engine,
    Floats,
    Training,
    functions,
)


class JaxAdapter(Adapter):
    """``jit`` around ``vmap`` of ``value_and_grad``; every call waits for its result, for JAX works asynchronously."""

    replays = True

    def __init__(self) -> None:
        jax = self.jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_platforms", "cpu")
        numpy = importlib.import_module("jax.numpy")
        self.math = functions(numpy, "exp log tanh sqrt")
        self.math.relu = jax.nn.relu
        self.math.constant = numpy.asarray

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        jax = self.jax
        arguments = tuple(range(len(columns)))

        def formula(*row: Any) -> Any:
            return program(self.math, *row)

        compiled = jax.jit(jax.vmap(jax.value_and_grad(formula, argnums=arguments)))
        on_device = [jax.device_put(column) for column in (*columns, *constants)]

        def run() -> ColumnResults:
            values, gradients = jax.block_until_ready(compiled(*on_device))
            return np.asarray(values), [np.asarray(g) for g in gradients]

        return run

    def arrays(self, program: ArrayProgram, weights: Sequence[Floats], rate: float) -> Training:
        jax = self.jax
        objective = program(self.math)
        now: list[Any] = [jax.device_put(w) for w in weights]
        before: list[Any] = []

        @jax.jit  # type: ignore[untyped-decorator]
        def update(w: list[Any]) -> Any:
            loss, gradients = jax.value_and_grad(objective)(w)
            return loss, [wi - rate * gi for wi, gi in zip(w, gradients, strict=True)]

        def step() -> float:
            before[:] = now
            loss, now[:] = jax.block_until_ready(update(now))
            return float(loss)

        gradient = jax.jit(jax.grad(objective))
        return Training(step, lambda: [np.asarray(g) for g in gradient(before)])


JAX = Engine(name="JAX", module="jax", pip="jax", load=JaxAdapter, how="whole arrays, compiled once by XLA (jit)")
