"""torch, twice: one zero-dimensional tensor per number, as a newcomer from micrograd would write, and whole tensors."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from tapegrad.bench.engines.base import (
    Adapter,
    ArrayProgram,
    ColumnProgram,
    ColumnResults,
    Engine,
    Floats,
    ScalarProgram,
    Training,
    functions,
)


def _torch() -> Any:
    return importlib.import_module("torch")


class TorchAdapter(Adapter):
    """What both share: float64 on the CPU, and torch's own functions."""

    def __init__(self) -> None:
        torch = self.torch = _torch()
        self.math = functions(torch, "exp log tanh relu sqrt")
        self.math.softplus = torch.nn.functional.softplus
        self.math.constant = torch.as_tensor

    def leaf(self, numbers: Any) -> Any:
        return self.torch.tensor(numbers, dtype=self.torch.float64, requires_grad=True)


class TorchScalars(TorchAdapter):
    """Eager, a node per scalar operation."""

    zero_grad = None

    def parameters(self, numbers: Sequence[float]) -> list[Any]:
        return [self.leaf(x) for x in numbers]

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        def run() -> float:
            root = program(self.math, parameters)
            root.backward()
            return float(root.item())

        return run

    def graph(self, program: ScalarProgram, parameters: list[Any]) -> Any:
        return program(self.math, parameters)


class TorchTensors(TorchAdapter):
    """Eager, a node per tensor operation."""

    def lanes(self, numbers: Floats) -> Any:
        return self.leaf(numbers)

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        leaves = [self.leaf(column) for column in columns]
        fixed = [self.torch.as_tensor(column) for column in constants]

        def run() -> ColumnResults:
            for leaf in leaves:
                leaf.grad = None
            values = program(self.math, *leaves, *fixed)
            values.sum().backward()
            return values.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]

        return run

    def arrays(self, program: ArrayProgram, weights: Sequence[Floats], rate: float) -> Training:
        leaves = [self.leaf(w) for w in weights]
        objective = program(self.math)
        optimiser = self.torch.optim.SGD(leaves, lr=rate)

        def step() -> float:
            optimiser.zero_grad()
            loss = objective(leaves)
            loss.backward()
            optimiser.step()
            return float(loss.item())

        return Training(step, lambda: [leaf.grad.numpy() for leaf in leaves])


TORCH_SCALARS = Engine(
    name="torch scalars",
    module="torch",
    pip="torch",
    load=TorchScalars,
    how="a 0-d tensor per number, eager",
    only=frozenset({"chain"}),
)

TORCH_TENSORS = Engine(name="torch tensors", module="torch", pip="torch", load=TorchTensors, how="whole tensors, eager")
