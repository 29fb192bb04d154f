"""lanes: Values that hold arrays: a chain of + and * over 1,000 lanes, and single operations over a million."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import Adapter, Floats, Outcome, ScalarProgram
from tapegrad.bench.workloads.base import Case, Prepared, Workload

LANES = 1_000
MANY = 1_000_000
NODES = 100
OPERATIONS = ("add", "multiply", "exp", "log", "tanh")


def chain(s: Any, b: Any, a: Any) -> Any:
    """``s = s*b + a``, fifty times: a hundred nodes."""
    for _ in range(NODES // 2):
        s = s * b + a
    return s


def columns(size: int) -> tuple[Floats, Floats, Floats]:
    """Three arrays of positive numbers of about one."""
    generator = np.random.default_rng(1337)
    return generator.uniform(0.5, 1.5, size), generator.uniform(0.6, 1.0, size), generator.uniform(0.1, 0.4, size)


def numbers_of(result: Any) -> Floats:
    """The lanes of a result, or of a gradient, of any engine."""
    plain = result.detach() if hasattr(result, "detach") else result
    return np.asarray(plain if isinstance(plain, np.ndarray) else plain.data)


class Lanes(Workload):
    """Sizes are lanes. Operations are timed as written, ``z = x + y``, with whatever an engine notes for a sweep."""

    name = "lanes"
    about = "arrays: s = s*b + a, 100 nodes, forward and backward; and one operation, forward, over a million lanes"
    unit = "node and lane"
    forms = ("lanes",)
    needs = frozenset({"exp", "log", "tanh"})
    check_size = LANES

    def cases(self, quick: bool) -> tuple[Case, ...]:
        many = MANY // 10 if quick else MANY
        return (
            Case(f"chain, {LANES:,} lanes", LANES, "chain"),
            *(Case(f"{name}, {many:,} lanes", many, name) for name in OPERATIONS),
        )

    def items(self, size: int, nodes: int | None) -> int | None:
        return size * nodes if nodes else None

    def nodes(self, adapter: Adapter, count: Callable[[], int], size: int) -> int:
        return NODES if size == LANES else 1

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        def program(math: Any, parameters: Sequence[Any]) -> Any:
            return chain(*parameters)

        return program, adapter.parameters([float(column[0]) for column in columns(1)])

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        leaves = [adapter.lanes(column) for column in columns(case.size)]
        return self._operation(adapter, leaves, case.part) if case.part in OPERATIONS else self._chain(adapter, leaves)

    def _operation(self, adapter: Adapter, leaves: list[Any], name: str) -> Prepared:
        x, y, _ = leaves
        out = [x]
        if name == "add":

            def step() -> None:
                out[0] = x + y

        elif name == "multiply":

            def step() -> None:
                out[0] = x * y

        else:
            function = getattr(adapter.math, name)

            def step() -> None:
                out[0] = function(x)

        return Prepared(step, lambda: Outcome(numbers_of(out[0]), None))

    def _chain(self, adapter: Adapter, leaves: list[Any]) -> Prepared:
        sweeps = hasattr(leaves[0], "backward")
        ones = adapter.math.constant(np.ones(LANES)) if hasattr(adapter.math, "constant") else None
        values: list[Floats] = [np.zeros(0)]

        def step() -> None:
            if sweeps:
                for leaf in leaves:
                    leaf.grad = None if ones is not None else 0.0
            out = chain(*leaves)
            if sweeps:
                out.backward(ones)
            values[0] = numbers_of(out)

        def outcome() -> Outcome:
            return Outcome(values[0], np.concatenate([numbers_of(p.grad) for p in leaves]) if sweeps else None)

        return Prepared(step, outcome)


LANES_WORKLOAD = Lanes()
