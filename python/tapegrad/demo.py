"""``tapegrad demo``: trains a network on two moons, draws what it learnt and times the same steps in plain Python.

The network, loss and schedule are those of micrograd's demo. Whatever was reached is drawn, also after Ctrl-C.
"""

import argparse
import copy
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tapegrad import Value, drawing, live_nodes, reference
from tapegrad.data import make_moons
from tapegrad.micrograd import engine, nn

WIDTHS = [16, 16, 1]
ALPHA = 1e-4  # weight of the L2 term
PICTURE, GRAPH = "two_moons.png", "neuron.svg"
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended: 128 + SIGINT
TOLERANCE = 1e-9  # relative; the two engines add gradients in different orders, and training carries last digits on


class Step(NamedTuple):
    """One training step: loss and accuracy (a fraction) before the update, and the wall time of the whole step."""

    loss: float
    accuracy: float
    seconds: float


def margin_loss(model: Any, value: Callable[[float], Any], X: list[list[float]], y: list[int]) -> tuple[Any, float]:
    """Mean hinge loss (the SVM's "max margin") plus L2, and the accuracy, over all points.

    Args:
        model: a network with one output, whose sign is the predicted class.
        value: the ``Value`` type that the model computes with.
        X: points, shape (n, 2).
        y: labels -1 or +1, shape (n,).

    Returns:
        The loss as a Value, and the fraction of points on the right side.
    """
    scores = [model([value(xi) for xi in row]) for row in X]
    losses = [(1 + -yi * score).relu() for yi, score in zip(y, scores, strict=True)]
    data_loss = sum(losses) * (1.0 / len(losses))
    l2 = ALPHA * sum(p * p for p in model.parameters())
    right = [(yi > 0) == (score.data > 0) for yi, score in zip(y, scores, strict=True)]
    return data_loss + l2, sum(right) / len(right)


def train(
    model: Any, value: Callable[[float], Any], X: list[list[float]], y: list[int], steps: int, stop: int | None = None
) -> Iterator[Step]:
    """Full-batch gradient descent, a :class:`Step` at a time; the learning rate falls from 1 to 0.1 over ``steps``.

    ``stop`` ends it early, on the same schedule.
    """
    for k in range(steps if stop is None else stop):
        start = time.perf_counter()
        loss, accuracy = margin_loss(model, value, X, y)
        model.zero_grad()
        loss.backward()
        rate = 1.0 - 0.9 * k / steps
        for p in model.parameters():
            p.data -= rate * p.grad
        result = float(loss.data)
        del loss  # freeing the graph belongs to the step
        yield Step(result, accuracy, time.perf_counter() - start)


class PlainNeuron(reference.Neuron):
    """A neuron of micrograd's kind, ReLU or linear, on the plain-Python ``Value``, with the weights of another."""

    def __init__(self, neuron: nn.Neuron) -> None:
        self.w = [reference.Value(wi.data) for wi in neuron.w]
        self.b = reference.Value(neuron.b.data)
        self.nonlin = neuron.nonlin

    def __call__(self, x: Sequence[Any]) -> reference.Value:
        act: reference.Value = sum((wi * xi for wi, xi in zip(self.w, x, strict=True)), self.b)
        return act.relu() if self.nonlin else act


def plain_copy(model: nn.MLP) -> reference.MLP:
    """The same network, weight for weight, on ``tapegrad.reference``."""
    plain = reference.MLP(0, [0] * len(model.layers))
    for ours, layer in zip(plain.layers, model.layers, strict=True):
        ours.neurons = [PlainNeuron(neuron) for neuron in layer.neurons]
    return plain


def draw_picture(model: nn.MLP, X: list[list[float]], y: list[int], history: list[Step], path: Path) -> None:
    """Write a PNG of the decision boundary, the points and the course of loss and accuracy.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    import numpy as np
    from matplotlib.figure import Figure

    (left, right), (bottom, top) = ((min(c) - 0.4, max(c) + 0.4) for c in zip(*X, strict=True))
    columns, rows = np.linspace(left, right, 160), np.linspace(bottom, top, 120)
    scores = np.array([[model([u, v]).data for u in columns.tolist()] for v in rows.tolist()], dtype=float)

    upper, lower, ink = "#2f6db5", "#d1495b", "#2b2b2b"
    figure = Figure(figsize=(11, 5), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.35, 1])
    plane = figure.add_subplot(grid[:, 0])
    plane.contourf(columns, rows, np.tanh(scores / 2), levels=np.linspace(-1, 1, 21), cmap="RdBu_r", alpha=0.75)
    if scores.min() < 0 < scores.max():
        plane.contour(columns, rows, scores, levels=[0], colors=ink, linewidths=2)
    if scores.min() < -1 and scores.max() > 1:
        plane.contour(columns, rows, scores, levels=[-1, 1], colors=ink, linewidths=0.8, linestyles="dashed")
    for label, colour, name in ((-1, upper, "upper moon"), (1, lower, "lower moon")):
        across, up = zip(*(point for point, yi in zip(X, y, strict=True) if yi == label), strict=True)
        plane.scatter(across, up, s=34, color=colour, edgecolors="white", linewidths=0.8, label=name)
    plane.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="x", ylabel="y")
    plane.set_title("Decision boundary (margin dashed)")
    plane.legend(loc="upper right", framealpha=0.9)

    steps = range(1, len(history) + 1)
    loss, accuracy = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    loss.semilogy(steps, [step.loss for step in history], color=ink, linewidth=1.6)
    loss.set(title="Max-margin loss", ylabel="loss (log scale)")
    accuracy.plot(steps, [100 * step.accuracy for step in history], color=ink, linewidth=1.6)
    accuracy.set(title="Training accuracy", xlabel="step", ylabel="% of points", ylim=(None, 102))
    for axes in (loss, accuracy):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def draw_neuron(model: nn.MLP, X: list[list[float]], path: Path) -> None:
    """Write an SVG of the graph of the first layer's first neuron, with gradients, at the point that excites it most.

    Raises:
        OSError: the file cannot be written.
    """
    neuron = copy.copy(model.layers[0].neurons[0])
    point = max(X, key=lambda point: neuron(point).data)
    inputs = [Value(xi, label=f"x{i}") for i, xi in enumerate(point, 1)]
    neuron.w = [Value(wi.data, label=f"w{i}") for i, wi in enumerate(neuron.w, 1)]
    neuron.b = Value(neuron.b.data, label="b")
    out = neuron(inputs)
    out.backward()
    drawing.save_svg(out, path)


def writable_folder(path: Path) -> Path:
    """``path`` as a folder that exists and takes files.

    Raises:
        OSError: it cannot be made or written to.
    """
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        return path


def report(steps: int, history: list[Step]) -> None:
    """Print about twenty lines of progress over a training, the first and the last step among them."""
    k, step = len(history), history[-1]
    if k == 1 or k == steps or k % max(1, steps // 20) == 0:
        print(
            f"step {k:>{len(str(steps))}}/{steps}   loss {step.loss:9.6f}   accuracy {step.accuracy:4.0%}", flush=True
        )


def compare(plain: reference.MLP, X: list[list[float]], y: list[int], steps: int, ours: list[Step]) -> bool:
    """Repeat the steps of ``ours`` in plain Python; print losses, times and ratio. True if the losses agree."""
    stop = len(ours)
    print(f"\nThe first {stop} of these steps again in plain Python (tapegrad.reference)")
    print("step   loss, tapegrad      loss, reference     reference took")
    theirs: list[Step] = []
    for step in train(plain, reference.Value, X, y, steps, stop):
        theirs.append(step)
        k = len(theirs)
        print(f"{k:>4}   {ours[k - 1].loss:<18.12f}  {step.loss:<18.12f}  {step.seconds:.2f} s", flush=True)
    worst = max(abs(a.loss - b.loss) / abs(b.loss) for a, b in zip(ours, theirs, strict=True))
    mine, other = (sum(step.seconds for step in run) for run in (ours, theirs))
    if worst <= TOLERANCE:
        print(f"losses equal: largest relative difference {worst:.1e}")
    else:
        print(f"losses differ by up to {worst:.1e}, relative: please report this as a bug", file=sys.stderr)
    print(f"tapegrad      {mine:10.4f} s")
    print(f"plain Python  {other:10.4f} s")
    print(f"ratio         {other / mine:10.0f} x")
    return worst <= TOLERANCE


def whole_number(least: int) -> Callable[[str], int]:
    """An argparse type: an int of at least ``least``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def make_parser() -> argparse.ArgumentParser:
    """The options of ``tapegrad demo``."""
    parser = argparse.ArgumentParser(
        prog="tapegrad demo",
        description="Train MLP(2, [16, 16, 1]) on two moons with the max-margin loss of micrograd's demo, draw the "
        "decision boundary, the loss and one neuron's graph, and time the same steps in plain Python.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=whole_number(1), default=100, metavar="N", help="training steps")
    parser.add_argument("--samples", type=whole_number(2), default=100, metavar="N", help="points to train on")
    parser.add_argument("--seed", type=int, default=1337, metavar="N", help="seed of the points and of the weights")
    output = parser.add_argument("--output", type=Path, default=Path("tapegrad-demo"), metavar="DIR")
    output.help = "folder for the pictures, made if need be"
    again = parser.add_argument("--reference-steps", type=whole_number(0), default=10, metavar="N")
    again.help = "how many of the steps to repeat in plain Python, up to a second each; 0 for none"
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo with the command-line options ``argv``.

    Returns:
        The exit code: 0; 1 if plain Python gets other losses; 2 for a folder that cannot be written; 130 after Ctrl-C.
    """
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        folder = writable_folder(options.output)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        print(
            f"{parser.prog}: cannot write to {str(options.output)!r}: {reason}. Choose another folder with --output.",
            file=sys.stderr,
        )
        return 2

    X, y = make_moons(options.samples, noise=0.1, seed=options.seed)
    random.seed(options.seed)
    model = nn.MLP(2, WIDTHS)
    plain = plain_copy(model)
    history: list[Step] = []
    try:
        interrupted = not run_training(model, X, y, options.steps, history)
        write_drawings(model, X, y, history, folder)
        if interrupted:
            return INTERRUPTED
        again = min(options.reference_steps, options.steps)
        return 0 if not again or compare(plain, X, y, options.steps, history[:again]) else 1
    except KeyboardInterrupt:
        written = [name for name in (PICTURE, GRAPH) if (folder / name).exists()]
        print(f"\nInterrupted; {folder} keeps {' and '.join(written) or 'no pictures'}.", flush=True)
        return INTERRUPTED


def run_training(model: nn.MLP, X: list[list[float]], y: list[int], steps: int, history: list[Step]) -> bool:
    """Train ``model``, printing progress and adding to ``history``. False if Ctrl-C ended it early."""
    before = live_nodes()
    loss, _ = margin_loss(model, engine.Value, X, y)
    nodes = live_nodes() - before
    del loss
    print(f"Two moons, {len(X)} points; {len(model.parameters())} parameters; {nodes:,} nodes a step")
    try:
        for step in train(model, engine.Value, X, y, steps):
            history.append(step)
            report(steps, history)
    except KeyboardInterrupt:
        print(f"\nInterrupted after {len(history)} of {steps} steps: drawing what is there.", flush=True)
        return False
    seconds = sum(step.seconds for step in history)
    print(f"{steps} steps in {seconds:.3f} s, {1e3 * seconds / steps:.2f} ms a step")
    return True


def write_drawings(model: nn.MLP, X: list[list[float]], y: list[int], history: list[Step], folder: Path) -> None:
    """Write picture and graph into ``folder`` and say where they are; without matplotlib, say what to install."""
    try:
        draw_picture(model, X, y, history, folder / PICTURE)
        print(f"picture: {folder / PICTURE}")
    except ImportError:
        print("no picture, for matplotlib is not installed: pip install 'tapegrad[demo]' brings it")
    draw_neuron(model, X, folder / GRAPH)
    print(f"graph:   {folder / GRAPH}")


if __name__ == "__main__":
    sys.exit(main())
