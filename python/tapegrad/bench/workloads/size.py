"""size: tapegrad alone from a thousand to ten million nodes, whole and in parts; nanoseconds and bytes a node."""

from collections.abc import Callable, Sequence
from typing import Any

from tapegrad.bench.engines.base import Adapter, Outcome, ScalarProgram
from tapegrad.bench.workloads.base import Case, Prepared, Workload, evaluate

WIDTH = 256  # states that are alive at a time


class Size(Workload):
    """Sizes are nodes, to the nearest three: ``x = tanh(x*w + b)`` on each of 256 states in turn, and their sum."""

    name = "size"
    about = "x = tanh(x*w + b) over 256 states in turn; build, sweep and free, together and apart"
    unit = "node"
    forms = ("scalars",)
    needs = frozenset({"tanh"})
    check_size = 1_000
    engines = frozenset({"tapegrad"})

    def cases(self, quick: bool) -> tuple[Case, ...]:
        sizes = (1_000, 10_000, 100_000) if quick else (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
        parted = 100_000 if quick else 1_000_000
        whole = [Case(f"{size:,} nodes", size, memory="tapegrad" if size >= 100_000 else "nobody") for size in sizes]
        parts = [Case(f"{parted:,} nodes, {part}", parted, part) for part in ("build", "sweep", "free")]
        return (*whole, *parts)

    def nodes(self, adapter: Adapter, count: Any, size: int) -> int:
        return 3 * (size // 3 - WIDTH // 3) + WIDTH - 1

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        tanh = adapter.math.tanh

        def program(math: Any, parameters: Sequence[Any]) -> Any:
            w, b, *states = parameters
            for i in range(size // 3 - WIDTH // 3):
                k = i % WIDTH
                states[k] = tanh(states[k] * w + b)
            total = states[0]
            for state in states[1:]:
                total = total + state
            return total

        return program, adapter.parameters([0.9, 0.05, *(i / WIDTH for i in range(WIDTH))])

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        program, parameters = self.scalar_program(adapter, case.size)
        if case.part == "whole":
            return evaluate(adapter, program, parameters)
        held: list[Any] = []

        def hold() -> None:
            held.clear()
            held.append(adapter.graph(program, parameters))

        def hold_swept() -> None:
            hold()
            held[0].backward()

        steps: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "build": (held.clear, hold),
            "sweep": (hold, lambda: held[0].backward()),
            "free": (hold_swept, held.clear),
        }
        setup, step = steps[case.part]
        return Prepared(step, lambda: Outcome([], None), setup)


SIZE = Size()
