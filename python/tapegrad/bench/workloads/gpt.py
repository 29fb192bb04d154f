"""gpt: one training step of a one-layer character GPT over scalars, Adam included: 4,192 parameters, 60,000 nodes."""

import math as python_math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tapegrad.bench.engines.base import Adapter, Outcome, ScalarProgram
from tapegrad.bench.workloads.base import Case, Prepared, Workload, gradients_of

# Seven letters each, so that every step builds a graph of the same size.
NAMES = (
    *("ambrose", "calanda", "delphor", "estrild", "gwendol", "jorunda"),
    *("lisbeth", "matthew", "natalie", "orlindo", "sabrina", "tabitha"),
)
VOCABULARY = 27  # 26 letters and the boundary
CHANNELS, HEADS, CONTEXT = 16, 4, 16
RATE, BETA1, BETA2, EPSILON = 0.01, 0.9, 0.95, 1e-8

# (rows, columns) of each weight matrix.
MATRICES = {
    "token": (VOCABULARY, CHANNELS),
    "position": (CONTEXT, CHANNELS),
    "query": (CHANNELS, CHANNELS),
    "key": (CHANNELS, CHANNELS),
    "value": (CHANNELS, CHANNELS),
    "project": (CHANNELS, CHANNELS),
    "expand": (4 * CHANNELS, CHANNELS),
    "contract": (CHANNELS, 4 * CHANNELS),
    "output": (VOCABULARY, CHANNELS),
}
Vector = list[Any]
Matrix = list[Vector]


def initial_weights() -> list[float]:
    """Small Gaussian numbers, matrix by matrix and row by row."""
    generator = random.Random(42)
    return [generator.gauss(0.0, 0.08) for rows, columns in MATRICES.values() for _ in range(rows * columns)]


def encode(name: str) -> list[int]:
    """Letters as 1 to 26 between two boundaries, which are 0."""
    return [0, *(ord(letter) - ord("a") + 1 for letter in name), 0]


def as_matrices(parameters: Sequence[Any]) -> dict[str, Matrix]:
    """The flat parameters as rows of named matrices."""
    rest = iter(parameters)
    return {
        name: [[next(rest) for _ in range(columns)] for _ in range(rows)] for name, (rows, columns) in MATRICES.items()
    }


def matvec(matrix: Matrix, x: Vector) -> Vector:
    """``matrix @ x``."""
    return [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in matrix]


def normalise(x: Vector) -> Vector:
    """Divide by the root of the mean square (RMSNorm without a gain)."""
    scale = (sum(xi * xi for xi in x) * (1.0 / len(x)) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def softmax(math: Any, scores: Vector) -> Vector:
    """Exponentials over their sum; the scores of this small model are far from overflow, so no maximum is taken off."""
    exponentials = [math.exp(score) for score in scores]
    inverse = sum(exponentials) ** -1
    return [e * inverse for e in exponentials]


def attention(math: Any, query: Vector, keys: Matrix, values: Matrix) -> Vector:
    """Causal attention of one position over those so far, head by head."""
    width = CHANNELS // HEADS
    mixed = []
    for start in range(0, CHANNELS, width):
        head = slice(start, start + width)
        scores = [sum(q * k for q, k in zip(query[head], key[head], strict=True)) * width**-0.5 for key in keys]
        weights = softmax(math, scores)
        mixed += [
            sum(w * value[i] for w, value in zip(weights, values, strict=True)) for i in range(start, start + width)
        ]
    return mixed


def program_for(name: str) -> ScalarProgram:
    """The mean cross-entropy of predicting each letter of ``name`` from those before it."""
    tokens = encode(name)

    def loss(math: Any, parameters: Sequence[Any]) -> Any:
        m = as_matrices(parameters)
        keys: Matrix = []
        values: Matrix = []
        losses = []
        for position, (token, target) in enumerate(pairwise(tokens)):
            x = [t + p for t, p in zip(m["token"][token], m["position"][position], strict=True)]
            h = normalise(x)
            keys.append(matvec(m["key"], h))
            values.append(matvec(m["value"], h))
            mixed = matvec(m["project"], attention(math, matvec(m["query"], h), keys, values))
            x = [xi + yi for xi, yi in zip(x, mixed, strict=True)]
            hidden = [math.relu(hi) for hi in matvec(m["expand"], normalise(x))]
            x = [xi + yi for xi, yi in zip(x, matvec(m["contract"], hidden), strict=True)]
            probabilities = softmax(math, matvec(m["output"], normalise(x)))
            losses.append(-math.log(probabilities[target]))
        return sum(losses) * (1.0 / len(losses))

    return loss


class Adam:
    """Adam (Kingma and Ba, 2015) in plain Python, as a one-file script has it."""

    def __init__(self, parameters: list[Any]) -> None:
        self.parameters = parameters
        self.mean = [0.0] * len(parameters)
        self.square = [0.0] * len(parameters)
        self.steps = 0

    def step(self) -> None:
        """Move every parameter against its gradient."""
        self.steps += 1
        mean, square = self.mean, self.square
        mean_scale, square_scale = 1.0 / (1.0 - BETA1**self.steps), 1.0 / (1.0 - BETA2**self.steps)
        for i, p in enumerate(self.parameters):
            g = p.grad
            mean[i] = BETA1 * mean[i] + (1.0 - BETA1) * g
            square[i] = BETA2 * square[i] + (1.0 - BETA2) * g * g
            p.data -= RATE * mean[i] * mean_scale / ((square[i] * square_scale) ** 0.5 + EPSILON)


class Gpt(Workload):
    """Sizes are letters of the name. Each step trains on the next name of the list, which is another program."""

    name = "gpt"
    about = "one training step of a one-layer scalar GPT with Adam: 16 channels, 4 heads, 4,192 parameters"
    unit = "node"
    forms = ("scalars",)
    needs = frozenset({"exp", "log", "relu"})
    check_size = 1
    changes = True

    def cases(self, quick: bool) -> tuple[Case, ...]:
        return (Case("names of 7 letters", 7, memory="tapegrad"),)

    def scalar_program(self, adapter: Adapter, size: int) -> tuple[ScalarProgram, list[Any]]:
        return program_for(NAMES[0][:size]), adapter.parameters(initial_weights())

    def prepare(self, adapter: Adapter, form: str, case: Case) -> Prepared:
        parameters = adapter.parameters(initial_weights())
        runs = [adapter.scalars(program_for(name[: case.size]), parameters) for name in NAMES]
        adam = Adam(parameters)
        loss = [python_math.nan]

        def step() -> None:
            for p in parameters:
                p.grad = adapter.zero_grad
            loss[0] = runs[adam.steps % len(runs)]()
            adam.step()

        return Prepared(step, lambda: Outcome([loss[0]], gradients_of(parameters)))


GPT = Gpt()
