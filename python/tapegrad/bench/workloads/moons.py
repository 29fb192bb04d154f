"""moons: one training step of the classic demo, MLP(2, [16, 16, 1]) on two moons, plain Python over scalars."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import Adapter, ArrayProgram, Floats, Outcome, ScalarProgram
from tapegrad.bench.workloads.base import Case, Prepared, Workload, gradients_of
from tapegrad.data import make_moons

Points = tuple[list[list[float]], list[int]]

SHAPE = (2, 16, 16, 1)
ALPHA = 1e-4
RATE = 0.05


def initial_weights() -> list[float]:
    """The starting point of every engine: neuron by neuron, weights before the bias, 337 numbers."""
    generator = random.Random(1337)
    return [generator.uniform(-1.0, 1.0) for nin, nout in pairwise(SHAPE) for _ in range(nout * (nin + 1))]


def margin_loss(data: Points, model: Callable[[list[float]], Any], parameters: Sequence[Any], math: Any) -> Any:
    """Mean hinge loss of ``model`` over the points, plus the weights' squares."""
    X, y = data
    losses = [math.relu(1.0 - yi * model(xi)) for xi, yi in zip(X, y, strict=True)]
    return sum(losses) * (1.0 / len(losses)) + ALPHA * sum(p * p for p in parameters)


def plain_network(parameters: Sequence[Any], relu: Callable[[Any], Any]) -> Callable[[list[float]], Any]:
    """The network as nested lists of parameters: ReLU on the hidden layers, linear output."""
    rest = iter(parameters)
    layers = [[([next(rest) for _ in range(nin)], next(rest)) for _ in range(nout)] for nin, nout in pairwise(SHAPE)]

    def model(x: list[Any]) -> Any:
        for depth, layer in enumerate(layers):
            x = [sum((wi * xi for wi, xi in zip(w, x, strict=True)), b) for w, b in layer]
            if depth < len(layers) - 1:
                x = [relu(value) for value in x]
        return x[0]

    return model


def point_loss(math: Any, parameters: Sequence[Any], x: Sequence[Any], y: Any) -> Any:
    """The loss of one point, whose mean over the points is that of all."""
    model = plain_network(parameters, math.relu)
    return math.relu(1.0 - y * model(list(x))) + ALPHA * sum(p * p for p in parameters)


def array_weights() -> list[Floats]:
    """The same starting point as arrays: weights of shape (nout, nin) and biases of shape (nout,) in turn."""
    numbers, arrays = np.array(initial_weights()), []
    for nin, nout in pairwise(SHAPE):
        block, numbers = numbers[: nout * (nin + 1)].reshape(nout, nin + 1), numbers[nout * (nin + 1) :]
        arrays += [block[:, :nin].copy(), block[:, nin].copy()]
    return arrays


def array_program(points: int, activation: str, last: bool) -> ArrayProgram:
    """The same loss over whole arrays; ``last`` says whether the output layer is activated too."""

    def program(math: Any) -> Callable[[Sequence[Any]], Any]:
        activate = getattr(math, activation)
        X, y = (math.constant(np.array(part, dtype=np.float64)) for part in make_moons(points))

        def loss(weights: Sequence[Any]) -> Any:
            h = X
            for depth in range(0, len(weights), 2):
                h = h @ weights[depth].T + weights[depth + 1]
                if last or depth < len(weights) - 2:
                    h = activate(h)
            hinge = math.relu(1.0 - y * h[:, 0])
            return hinge.sum() * (1.0 / points) + ALPHA * sum((w * w).sum() for w in weights)

        return loss

    return program


def train_scalars(adapter: Adapter, run: Callable[[], float], parameters: list[Any]) -> Prepared:
    """Gradient descent on scalar parameters, as the demo has it: zero, forward and backward, update."""
    loss = [0.0]

    def step() -> None:
        for p in parameters:
            p.grad = adapter.zero_grad
        loss[0] = run()
        for p in parameters:
            p.data -= RATE * p.grad

    return Prepared(step, lambda: Outcome([loss[0]], gradients_of(parameters)))


def train_arrays(adapter: Adapter, program: ArrayProgram) -> Prepared:
    """The same on arrays; gradients are reported in the order of the scalar parameters."""
    training = adapter.arrays(program, array_weights(), RATE)
    loss = [0.0]

    def step() -> None:
        loss[0] = training.step()

    def outcome() -> Outcome:
        g = training.gradients()
        blocks = [np.column_stack([g[i], g[i + 1]]).ravel() for i in range(0, len(g), 2)]
        return Outcome([loss[0]], np.concatenate(blocks))

    return Prepared(step, outcome)


class Moons(Workload):
    """Sizes are data points."""

    name = "moons"
    about = "one training step of MLP(2, [16, 16, 1]) with ReLU, plain Python over scalars (or whole tensors)"
    unit = "node"
    forms = ("arrays", "rows", "scalars")
    needs = frozenset({"relu"})
    check_size = 4

    def cases(self, quick: bool) -> tuple[Case, ...]:
        points = 10 if quick else 100
        return (Case(f"{points} points", points, memory="tapegrad"),)

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        data = make_moons(size)

        def loss(math: Any, parameters: Sequence[Any]) -> Any:
            return margin_loss(data, plain_network(parameters, math.relu), parameters, math)

        return loss, adapter.parameters(initial_weights())

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        if form == "arrays":
            return train_arrays(adapter, array_program(case.size, "relu", last=False))
        if form == "rows":
            parameters = adapter.parameters(initial_weights())
            columns = [np.array(part, dtype=np.float64) for part in make_moons(case.size)]
            return train_scalars(adapter, adapter.rows(point_loss, parameters, columns), parameters)
        program, parameters = self.scalar_program(adapter, case.size)
        return train_scalars(adapter, adapter.scalars(program, parameters), parameters)


MOONS = Moons()
