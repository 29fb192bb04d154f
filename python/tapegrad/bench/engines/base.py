"""What the benchmarks ask of an engine: a registry entry, and an adapter that runs programs in one or more forms.

A *program* is a plain Python function written once in a workload. The forms differ in what its arguments are:

==========  ==========================================================================================
scalars     ``program(math, parameters) -> scalar``: one number per parameter, gradients of all of them
operations  no program: a list of operations, for an engine that is no Python
columns     ``program(math, *columns, *constants) -> column``: the same scalar formula for every row
rows        ``program(math, parameters, *row) -> scalar``: the mean over the rows, gradients of the parameters
arrays      ``program(math)`` gives ``loss(weights) -> scalar``: whole arrays, trained by gradient descent
lanes       no program: leaves that hold whole arrays, computed with by the engine's own operators
network     no program: a class like ``MLP(nin, nouts)`` whose parameters have ``data`` and ``grad``
==========  ==========================================================================================

An adapter offers a form by overriding its method; a workload asks with :meth:`Adapter.offers`.
"""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

ScalarProgram = Callable[[Any, Sequence[Any]], Any]
ColumnProgram = Callable[..., Any]
RowProgram = Callable[..., Any]
ArrayProgram = Callable[[Any], Callable[[Sequence[Any]], Any]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
ColumnResults = tuple[Floats, list[Floats] | None]


class Outcome(NamedTuple):
    """What a step computed, to be equal across engines: values, and gradients unless the engine has none."""

    values: Sequence[float] | Floats
    gradients: Sequence[float] | Floats | None


@dataclass(slots=True)
class Parameter:
    """A number that is trained, for engines whose own numbers carry no gradient from call to call."""

    data: float
    grad: float = 0.0


class Operations(NamedTuple):
    """A scalar program as steps: a kind, the number of its first result, and the numbers of its operands.

    Numbers below that of the parameters are theirs; the value is the sum of the nodes ``summed``.
    """

    steps: list[tuple[str, int, list[int]]]
    nodes: int
    summed: list[int]


class Training(NamedTuple):
    """An array program being trained: ``step()`` returns the loss, ``gradients()`` those of the last step."""

    step: Callable[[], float]
    gradients: Callable[[], list[Floats]]


class Adapter:
    """An imported engine. ``math`` holds its functions under NumPy's names; a missing one is one it does not have."""

    math: SimpleNamespace
    #: What a parameter's gradient is set to before a sweep.
    zero_grad: Any = 0.0
    #: Whether ``scalars`` records the program beforehand, so that the timed call replays it.
    replays = False
    #: Whether programs that were recorded are kept, so that one that comes again is replayed too.
    keeps_programs = False

    def offers(self, form: str) -> bool:
        """Whether this adapter has the form of the given name."""
        return getattr(type(self), form) is not getattr(Adapter, form)

    def parameters(self, numbers: Sequence[float]) -> list[Any]:
        """Leaves holding ``numbers``: objects with ``data`` and ``grad``."""
        return [Parameter(x) for x in numbers]

    def scalars(self, program: ScalarProgram, parameters: list[Any]) -> Callable[[], float]:
        """A call that runs ``program`` and its sweep, adds into the ``grad`` of ``parameters`` and returns the value.

        Nothing of the graph is left alive when the call returns. An engine without gradients leaves ``grad`` None.
        """
        raise NotImplementedError

    def operations(self, program: Operations, parameters: list[Any]) -> Callable[[], float]:
        """As ``scalars``, for a program that is a list of operations."""
        raise NotImplementedError

    def graph(self, program: ScalarProgram, parameters: list[Any]) -> Any:
        """The root of the program's graph, which keeps the whole of it alive, ready for ``sweep``."""
        raise NotImplementedError

    def columns(
        self, program: ColumnProgram, columns: Sequence[Floats], constants: Sequence[Floats]
    ) -> Callable[[], ColumnResults]:
        """A call that returns the value for every row and the gradient with respect to each of ``columns``."""
        raise NotImplementedError

    def rows(self, program: RowProgram, parameters: list[Any], columns: Sequence[Floats]) -> Callable[[], float]:
        """A call that returns the mean of ``program`` over the rows of ``columns``, whose first axis is that of the
        rows, and adds its gradients into the ``grad`` of ``parameters``."""
        raise NotImplementedError

    def arrays(self, program: ArrayProgram, weights: Sequence[Floats], rate: float) -> Training:
        """Gradient descent on ``program`` from ``weights`` with learning rate ``rate``.

        ``math.constant`` turns a NumPy array into what the engine computes with, once, before training.
        """
        raise NotImplementedError

    def lanes(self, numbers: Floats) -> Any:
        """A leaf that holds the array, with a gradient of the same shape unless the engine has none.

        Results have ``data``, ``detach`` or are arrays themselves: see ``workloads.lanes``.
        """
        raise NotImplementedError

    def network(self, activation: str, nin: int, nouts: Sequence[int]) -> Any | None:
        """The engine's own multi-layer perceptron with this activation, or None where it has no such."""
        raise NotImplementedError


@dataclass(frozen=True)
class Engine:
    """One entry of the registry: how an engine is called, found, imported and described."""

    name: str
    module: str
    pip: str
    load: Callable[[], Adapter]
    #: How it works, in a few words, for the table's legend.
    how: str
    #: The workloads it takes part in; empty for every one that it is able to run.
    only: frozenset[str] = frozenset()
    #: Workloads that it stays out of, each with the reason.
    never: Mapping[str, str] = field(default_factory=dict)
    #: The distribution whose version is reported; the module's name unless given.
    distribution: str = ""

    def missing(self) -> str:
        """What to say of an engine that cannot be imported."""
        return f"not installed: pip install {self.pip}"

    def version(self) -> str:
        """The version of the installed distribution, or an empty string where there is none."""
        if not self.pip:
            return platform.python_version()
        try:
            return importlib.metadata.version(self.distribution or self.module.partition(".")[0])
        except importlib.metadata.PackageNotFoundError:
            return ""


def functions(source: Any, names: str) -> SimpleNamespace:
    """The functions of ``source`` (a class or a module) that go by these names, as far as it has them."""
    return SimpleNamespace(**{name: getattr(source, name) for name in names.split() if hasattr(source, name)})
