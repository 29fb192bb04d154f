"""west: 100 inputs and ten thousand operations of four kinds, forward and backward, again and again.

The pattern of operations is that of "Fastest Autograd in the West" (A. Rogozhnikov, 2023), here in float64. There the
last node is the result; its gradient fades to zero on the way to the inputs, so here it is a sum of nodes all along.
"""

from collections.abc import Sequence
from typing import Any

from tapegrad.bench.engines.base import Adapter, Operations, ScalarProgram
from tapegrad.bench.workloads.base import Case, Prepared, Workload, evaluate, evaluate_operations

INPUTS = 100
#: In turn: what is done, and which nodes with, counted from the next one.
OPERATIONS = (
    ("softplus", (-10,)),
    ("sum", (-30, -25, -20, -15)),
    ("product", (-20, -10)),
    ("softmax", (-4, -3, -2, -1)),
)


class West(Workload):
    """Sizes are operations, where a softmax of four is one."""

    name = "west"
    about = "100 inputs, operations cycling softplus, sum of 4, product, softmax of 4; forward and backward"
    unit = "op"
    forms = ("operations", "scalars")
    needs = frozenset({"exp", "log"})
    check_size = 400

    def cases(self, quick: bool) -> tuple[Case, ...]:
        ops = 2_000 if quick else 10_000
        return (Case(f"{ops:,} operations", ops),)

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        def west(math: Any, parameters: Sequence[Any]) -> Any:
            exp, log = math.exp, math.log
            softplus = getattr(math, "softplus", lambda x: log(exp(x) + 1.0))
            nodes = list(parameters)
            for op in range(size):
                kind = op % 4
                if kind == 0:
                    nodes.append(softplus(nodes[-10]))
                elif kind == 1:
                    nodes.append(nodes[-30] + nodes[-25] + nodes[-20] + nodes[-15])
                elif kind == 2:
                    nodes.append(nodes[-20] * nodes[-10])
                else:
                    exponentials = [exp(x) for x in nodes[-4:]]
                    inverse = (exponentials[0] + exponentials[1] + exponentials[2] + exponentials[3]) ** -1
                    nodes += [e * inverse for e in exponentials]
            total = nodes[-1]
            for node in nodes[INPUTS:-1:50]:
                total = total + node
            return total

        return west, adapter.parameters([0.02 * i - 1.0 for i in range(INPUTS)])

    def operations(self, size: int) -> Operations:
        """The same program, a step an operation."""
        steps: list[tuple[str, int, list[int]]] = []
        top = INPUTS
        for op in range(size):
            kind, offsets = OPERATIONS[op % 4]
            steps.append((kind, top, [top + offset for offset in offsets]))
            top += 4 if kind == "softmax" else 1
        return Operations(steps, top, [top - 1, *range(INPUTS, top - 1, 50)])

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        program, parameters = self.scalar_program(adapter, case.size)
        if form == "operations":
            return evaluate_operations(adapter, self.operations(case.size), parameters)
        return evaluate(adapter, program, parameters)


WEST = West()
