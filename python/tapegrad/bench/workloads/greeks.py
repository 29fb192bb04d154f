"""greeks: the Black-Scholes value of many call options with delta, vega, rho and theta, each option on its own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import Adapter, ColumnResults, Floats, Outcome
from tapegrad.bench.workloads.base import Case, Prepared, Workload


def black_scholes(math: Any, spot: Any, volatility: Any, rate: Any, years: Any, strike: Any) -> Any:
    """The value of a European call (Black and Scholes, 1973), with tanh in place of the normal integral."""
    deviation = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (rate + volatility * volatility * 0.5) * years) / deviation
    d2 = d1 - deviation
    return spot * _normal(math, d1) - strike * math.exp(-rate * years) * _normal(math, d2)


def _normal(math: Any, x: Any) -> Any:
    """N(x), as (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2."""
    return (math.tanh(0.7978845608 * (x + 0.044715 * x * x * x)) + 1.0) * 0.5


def options(n: int) -> tuple[list[Floats], list[Floats]]:
    """Spot, volatility, rate and years of ``n`` options, whose gradients are wanted, and the strike, whose is not."""
    generator = np.random.default_rng(7)
    low_high = ((80.0, 120.0), (0.1, 0.5), (0.0, 0.06), (0.1, 2.0), (80.0, 120.0))
    columns = [generator.uniform(low, high, 200_000)[:n] for low, high in low_high]
    return columns[:4], columns[4:]


class Greeks(Workload):
    """Sizes are options. Engines without whole columns go through them one by one."""

    name = "greeks"
    about = "Black-Scholes value and 4 sensitivities of each option"
    unit = "option"
    forms = ("columns", "scalars")
    needs = frozenset({"exp", "log", "sqrt", "tanh"})
    check_size = 200
    divisible = True

    def cases(self, quick: bool) -> tuple[Case, ...]:
        n = 10_000 if quick else 200_000
        return (Case(f"{n:,} options", n),)

    def nodes(self, adapter: Adapter, count: Callable[[], int], size: int) -> int:
        columns, constants = options(1)
        row = adapter.parameters([float(column[0]) for column in columns])
        before = count()
        value = black_scholes(adapter.math, *row, *(float(column[0]) for column in constants))
        alive = count() - before
        del value
        return alive * size

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        columns, constants = options(case.size)
        run = (
            adapter.columns(black_scholes, columns, constants)
            if form == "columns"
            else _one_by_one(adapter, columns, constants)
        )
        results: list[ColumnResults] = []

        def step() -> None:
            results[:] = [run()]

        def outcome() -> Outcome:
            values, gradients = results[0]
            return Outcome(values, None if gradients is None else np.concatenate(gradients))

        return Prepared(step, outcome)


def _one_by_one(
    adapter: Adapter, columns: Sequence[Floats], constants: Sequence[Floats]
) -> Callable[[], ColumnResults]:
    """A loop over the options on four leaves that take the numbers of each in turn."""
    leaves = adapter.parameters([0.0] * len(columns))
    fixed: list[float] = []
    rows = list(zip(*(c.tolist() for c in columns), strict=True))
    fixed_rows = list(zip(*(c.tolist() for c in constants), strict=True))
    price = adapter.scalars(lambda math, parameters: black_scholes(math, *parameters, *fixed), leaves)

    def run() -> ColumnResults:
        values, gradients = [], []
        for row, fixed_row in zip(rows, fixed_rows, strict=True):
            for leaf, number in zip(leaves, row, strict=True):
                leaf.data = number
                leaf.grad = adapter.zero_grad
            fixed[:] = fixed_row
            values.append(price())
            gradients.append([leaf.grad for leaf in leaves])
        return np.array(values), list(np.array(gradients, dtype=np.float64).T)

    return run


GREEKS = Greeks()
