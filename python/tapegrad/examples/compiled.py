"""Compiled functions at work: a network trained on two moons in three ways that agree, choices that need no guard and
one that does, and a program that is saved and sent to other processes.

    python -m tapegrad.examples.compiled [--steps N] [--points N]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tapegrad
from tapegrad import Program, Value
from tapegrad.data import make_moons
from tapegrad.micrograd.nn import MLP

RATE = 0.1


def new_model() -> MLP:
    """The same network each time, from the same random numbers."""
    state = random.getstate()
    random.seed(1337)
    try:
        return MLP(2, [16, 16, 1])
    finally:
        random.setstate(state)


def margin(model: MLP, x: Sequence[Any], y: Any) -> Any:
    """The hinge loss of one point."""
    return (1 - y * model(x)).relu()


def train(model: MLP, backward: Callable[[], float], steps: int) -> tuple[list[float], float]:
    """The losses of gradient descent, and the seconds of a step."""
    losses = []
    start = time.perf_counter()
    for _ in range(steps):
        for p in model.parameters():
            p.grad = 0.0
        losses.append(backward())
        for p in model.parameters():
            p.data -= RATE * p.grad
    return losses, (time.perf_counter() - start) / max(steps, 1)


def eagerly(points: Any, steps: int) -> tuple[list[float], float]:
    """Each step builds the graph of all points anew."""
    X, y = points
    model = new_model()

    def backward() -> float:
        loss = sum(margin(model, xi, yi) for xi, yi in zip(X, y, strict=True)) * (1 / len(X))
        loss.backward()
        return float(loss.data)

    return train(model, backward, steps)


def decorated(points: Any, steps: int) -> tuple[list[float], float]:
    """The same loop over the points, recorded in the first step and replayed in the others."""
    X, y = points
    model = new_model()

    @tapegrad.compile
    def loss() -> Any:
        return sum(margin(model, xi, yi) for xi, yi in zip(X, y, strict=True)) * (1 / len(X))

    return train(model, loss.backward, steps)


def over_lanes(points: Any, steps: int) -> tuple[list[float], float]:
    """The loss of one point, mapped over all of them; the gradient of their mean goes to the parameters."""
    X, y = (np.array(part, dtype=np.float64) for part in points)
    model = new_model()

    def loss(x: Any, target: Any) -> Any:
        return margin(model, list(x), target)

    mapped = tapegrad.vmap(loss)
    return train(model, lambda: mapped.backward(X, y, reduce="mean"), steps)


@tapegrad.compile
def huber(x: Any) -> Any:
    """Quadratic near zero, linear beyond: `where` chooses at each call, and in each lane."""
    return tapegrad.where(abs(x) < 1, 0.5 * x * x, abs(x) - 0.5)


@tapegrad.compile
def steps_to_one(x: Any) -> Any:
    """A loop whose length depends on the number: each length is a recording of its own."""
    count = 0
    while x > 1:
        x = x / 2
        count += 1
    return x * count


@tapegrad.compile
def softmax(logits: Sequence[Any]) -> list[Any]:
    """The stable softmax: what `.data` shows goes back into arithmetic, so it is computed anew at each call."""
    top = max(v.data for v in logits)
    exponentials = [(v - top).exp() for v in logits]
    total = sum(exponentials, Value(0.0))
    return [e / total for e in exponentials]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--points", type=int, default=100)
    options = parser.parse_args(arguments)
    points = make_moons(options.points)

    print(f"{options.steps} steps on {options.points} points:")
    for way in (eagerly, decorated, over_lanes):
        losses, seconds = way(points, options.steps)
        print(f"  {way.__name__:<10} {seconds * 1e6:>9.0f} us a step, loss {losses[0]:.6f} to {losses[-1]:.6f}")

    print("huber, without guards:", tapegrad.vmap(huber)(np.array([-3.0, 0.5, 2.0])).tolist())
    print("softmax of any logits:", [round(p, 6) for p in softmax([1000.0, 999.0, -5.0])])
    print("steps_to_one, by the number of halvings:", [steps_to_one(x) for x in (0.5, 3.0, 100.0, 4.0)])
    for recording in steps_to_one.cache_info():
        print(f"  {recording.nodes} nodes, {recording.calls} calls, because of {recording.reason.rpartition(': ')[2]}")
    try:
        tapegrad.vmap(steps_to_one)(np.array([0.5, 3.0]))
    except ValueError as error:
        print("over lanes:", str(error).partition(" at ")[0])

    with tempfile.TemporaryDirectory() as folder:
        softmax.program.save(Path(folder) / "softmax.txt")
        program = Program.load(Path(folder) / "softmax.txt")
    print("saved and loaded:", program)
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        for result in pool.map(program, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]):
            print("from another process:", [round(p, 6) for p in result])
    return 0


if __name__ == "__main__":
    sys.exit(main())
