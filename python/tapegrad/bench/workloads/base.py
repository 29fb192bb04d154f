"""What a workload is: a program written once, its sizes, and how an engine is set up to run it."""

import math as python_math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tapegrad.bench.engines.base import Adapter, Operations, Outcome, ScalarProgram


@dataclass(frozen=True)
class Case:
    """One size of a workload, and which part of its work is on the clock."""

    label: str
    size: int
    part: str = "whole"
    #: Whose graph is measured in bytes as well.
    memory: Literal["nobody", "tapegrad", "everybody"] = "nobody"


@dataclass(frozen=True)
class Prepared:
    """An engine ready to work. Only ``step`` is timed; ``setup`` runs before each step where it is given."""

    step: Callable[[], Any]
    outcome: Callable[[], Outcome]
    setup: Callable[[], Any] | None = None


class Workload(ABC):
    """A piece of work that every engine does in the same way. Sizes count what ``unit`` says unless told otherwise."""

    name: str
    about: str
    #: What a time is divided by for the table: "node", "op" or "option".
    unit: str
    #: Forms that an engine may run it in, the preferred one first.
    forms: tuple[str, ...]
    #: Functions besides + - * / ** that the program calls.
    needs: frozenset[str] = frozenset()
    #: The size at which all engines are compared before anything is timed.
    check_size: int
    #: Engines that it is for; empty for all.
    engines: frozenset[str] = frozenset()
    #: Whether every step is a new program, which an engine that records beforehand would have to record anew.
    changes: bool = False
    #: Whether the units are independent, so that a slow engine may do fewer of them.
    divisible: bool = False

    @abstractmethod
    def cases(self, quick: bool) -> tuple[Case, ...]:
        """The sizes to time, small to large."""

    @abstractmethod
    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        """Everything that a step needs and that a user would do once, outside the training loop."""

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        """The program in scalar form with its parameters, where the workload is one program."""
        raise NotImplementedError(f"workload {self.name} is not a single scalar program")

    def items(self, size: int, nodes: int | None) -> int | None:
        """How many of ``unit`` one step works on."""
        return nodes if self.unit == "node" else size

    def nodes(self, adapter: Adapter, count: Callable[[], int], size: int) -> int:
        """Scalar nodes of one step's graph besides its parameters, found by building it; ``count`` is of all alive."""
        program, parameters = self.scalar_program(adapter, size)
        before = count()
        root = adapter.graph(program, parameters)
        alive = count() - before
        del root
        return alive

    def form_for(self, adapter: Adapter) -> str | None:
        """The first form that the adapter offers with every function needed, or None."""
        if not self.needs <= vars(adapter.math).keys():
            return None
        return next((form for form in self.forms if adapter.offers(form)), None)


def evaluate(adapter: Adapter, program: ScalarProgram, parameters: list[Any]) -> Prepared:
    """The value and gradient of a scalar program, from the same parameters in every step."""
    return _repeated(adapter, adapter.scalars(program, parameters), parameters)


def evaluate_operations(adapter: Adapter, program: Operations, parameters: list[Any]) -> Prepared:
    """The same of a program in operations."""
    return _repeated(adapter, adapter.operations(program, parameters), parameters)


def _repeated(adapter: Adapter, run: Callable[[], float], parameters: list[Any]) -> Prepared:
    value = [python_math.nan]

    def step() -> None:
        for p in parameters:
            p.grad = adapter.zero_grad
        value[0] = run()

    return Prepared(step, lambda: Outcome([value[0]], gradients_of(parameters)))


def gradients_of(parameters: list[Any]) -> list[float] | None:
    """The gradients as floats, or None if the engine left none."""
    if any(p.grad is None for p in parameters):
        return None
    return [float(p.grad) for p in parameters]
