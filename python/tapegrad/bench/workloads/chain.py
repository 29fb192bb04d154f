"""chain: ``s = s * b + a`` again and again, then backward, then free; the cost of a node with nothing around it."""

from collections.abc import Sequence
from typing import Any, Literal

from tapegrad.bench.engines.base import Adapter, ScalarProgram
from tapegrad.bench.workloads.base import Case, Prepared, Workload, evaluate

# b is so near to 1 that the adjoint of the start, b**n, stays far from the denormal numbers at the largest size.
START = (1.0, 0.99999, 0.5e-5)


class Chain(Workload):
    """Sizes are nodes: two for each turn of the loop."""

    name = "chain"
    about = "s = s*b + a in a loop, backward, free"
    unit = "node"
    forms = ("scalars",)
    check_size = 1_000

    def cases(self, quick: bool) -> tuple[Case, ...]:
        sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
        return tuple(Case(f"{size:,} nodes", size, memory=self._memory(quick, size)) for size in sizes)

    def _memory(self, quick: bool, size: int) -> Literal["nobody", "tapegrad", "everybody"]:
        if quick:
            return "tapegrad" if size == 10_000 else "nobody"
        return "everybody" if size == 100_000 else "nobody"

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        def chain(math: Any, parameters: Sequence[Any]) -> Any:
            s, b, a = parameters
            for _ in range(size // 2):
                s = s * b + a
            return s

        return chain, adapter.parameters(START)

    def nodes(self, adapter: Adapter, count: Any, size: int) -> int:
        return size

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        return evaluate(adapter, *self.scalar_program(adapter, case.size))


CHAIN = Chain()
