"""layers: the moons step with each engine's own ``MLP`` class, as the lectures have it and as the package has."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import Adapter
from tapegrad.bench.workloads.base import Case, Prepared, Workload
from tapegrad.bench.workloads.moons import (
    ALPHA,
    SHAPE,
    array_program,
    initial_weights,
    margin_loss,
    train_arrays,
    train_scalars,
)
from tapegrad.data import make_moons


class Layers(Workload):
    """Sizes are data points. One activation per workload, so that every row of a table computes the same."""

    unit = "node"
    needs = frozenset({"relu"})
    check_size = 4

    def __init__(self, name: str, about: str, activation: str, last: bool, forms: tuple[str, ...]) -> None:
        self.name, self.about = name, about
        self.activation, self.last = activation, last
        self.forms = forms

    def cases(self, quick: bool) -> tuple[Case, ...]:
        points = 10 if quick else 100
        return (Case(f"{points} points", points),)

    def form_for(self, adapter: Adapter) -> str | None:
        form = super().form_for(adapter)
        if form == "network" and adapter.network(self.activation, 1, [1]) is None:
            return None
        return form

    def nodes(self, adapter: Adapter, count: Callable[[], int], size: int) -> int:
        forward, _ = self._forward(adapter, size)
        before = count()
        loss = forward()
        alive = count() - before
        del loss
        return alive

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        if form == "arrays":
            return train_arrays(adapter, array_program(case.size, self.activation, self.last))
        forward, parameters = self._forward(adapter, case.size)

        def run() -> float:
            loss = forward()
            loss.backward()
            return float(loss.data)

        return train_scalars(adapter, run, parameters)

    def _forward(self, adapter: Adapter, size: int) -> tuple[Callable[[], Any], list[Any]]:
        """A call that builds the loss, and the network's parameters at their starting point."""
        model, parameters = self._network(adapter)
        data = make_moons(size)
        return lambda: margin_loss(data, model, parameters, adapter.math), parameters

    def _network(self, adapter: Adapter) -> tuple[Any, list[Any]]:
        model = adapter.network(self.activation, SHAPE[0], SHAPE[1:])
        if model is None:
            raise ValueError(f"workload {self.name} needs an MLP with {self.activation}, which this engine has not")
        parameters = model.parameters()
        for p, weight in zip(parameters, initial_weights(), strict=True):
            p.data = weight
        return model, parameters


LAYERS = Layers(
    "layers",
    "the moons step with the engine's own MLP class, tanh on every layer (the lectures)",
    activation="tanh",
    last=True,
    forms=("arrays", "network"),
)


class LayersOverLanes(Layers):
    """The same network called once with whole columns in place of each point: its Values hold arrays."""

    engines = frozenset({"tapegrad", "torch tensors", "autograd", "JAX"})

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        if form == "arrays":
            return super().prepare(adapter, form, case)
        model, parameters = self._network(adapter)
        X, y = (np.array(part, dtype=np.float64) for part in make_moons(case.size))

        def run() -> float:
            hinge = (1.0 - y * model([X[:, 0], X[:, 1]])).relu()
            loss = hinge.sum() * (1.0 / case.size) + ALPHA * sum(p * p for p in parameters)
            loss.backward()
            return float(loss.data)

        return train_scalars(adapter, run, parameters)


LAYERS_LANES = LayersOverLanes(
    "layers-lanes",
    "the moons step with the package's MLP class, all points at once as lanes (or whole tensors)",
    activation="relu",
    last=False,
    forms=("arrays", "network"),
)
# Whole tensors are left out here: they do the same in moons.
LAYERS_RELU = Layers(
    "layers-relu",
    "the moons step with the engine's own MLP class, ReLU and linear output (the package)",
    activation="relu",
    last=False,
    forms=("network",),
)
