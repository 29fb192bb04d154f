"""Values that hold arrays: a tanh neuron over 2-D arrays, the same over numbers, and the same in torch.

These are the three examples of "Building Autograd Engine & Neural Network Library: An Interactive Guide", whose Value
holds an N-dimensional array, element by element. The first builds ``o = tanh(x1*w1 + x2*w2 + b)`` over arrays of 2 by 2
and draws its graph before and after ``backward()``; the second does the same with one number in place of each array;
the third asks torch. All gradients must agree: that is what `main` checks and prints.

One formula of the guide is not taken over: it gives the exponent of ``base ** exponent`` the gradient
``log(base) * out.grad``, which lacks the factor ``base ** exponent``. The last part shows the difference.

    python -m tapegrad.examples.arrays --pictures .
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapegrad import Value
from tapegrad.drawing import save_svg

#: The numbers of the lectures' neuron; with this bias the derivative of tanh is one half.
NUMBERS = {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432}
SHAPE = (2, 2)


@dataclass(frozen=True)
class Neuron:
    """A neuron's output and the leaves it was made from, by their names."""

    leaves: dict[str, Any]
    out: Any

    def gradients(self) -> dict[str, Any]:
        """What the last ``backward()`` left in the leaves."""
        return {name: leaf.grad for name, leaf in self.leaves.items()}


def forward(numbers: dict[str, Any]) -> Neuron:
    """The neuron over numbers or arrays of one shape; every node on the way gets the name that the guide gives it."""
    leaves = {name: Value(number, label=name) for name, number in numbers.items()}
    x1w1 = leaves["x1"] * leaves["w1"]
    x1w1.label = "x1w1"
    x2w2 = leaves["x2"] * leaves["w2"]
    x2w2.label = "x2w2"
    both = x1w1 + x2w2
    both.label = "x1w1 + x2w2"
    n = both + leaves["b"]
    n.label = "n"
    o = n.tanh()
    o.label = "o"
    return Neuron(leaves, o)


def example_1(pictures: Path | None = None) -> Neuron:
    """Forward and backward over 2-D arrays; the graph is drawn after each where there is a folder for it."""
    neuron = forward({name: np.full(SHAPE, number) for name, number in NUMBERS.items()})
    if pictures is not None:
        save_svg(neuron.out, pictures / "arrays_forward.svg")
    neuron.out.backward()
    if pictures is not None:
        save_svg(neuron.out, pictures / "arrays_backward.svg")
    return neuron


def example_2(pictures: Path | None = None) -> Neuron:
    """The same with one number in place of each array."""
    neuron = forward(NUMBERS)
    neuron.out.backward()
    if pictures is not None:
        save_svg(neuron.out, pictures / "numbers_backward.svg")
    return neuron


def example_3() -> Neuron:
    """The same in torch, over the arrays of the first example.

    Raises ModuleNotFoundError where torch is not installed.
    """
    torch: Any = importlib.import_module("torch")
    leaves = {
        name: torch.full(SHAPE, number, dtype=torch.float64, requires_grad=True) for name, number in NUMBERS.items()
    }
    n = leaves["x1"] * leaves["w1"] + leaves["x2"] * leaves["w2"] + leaves["b"]
    o = torch.tanh(n)
    o.backward(torch.ones_like(o))
    return Neuron(leaves, o)


def exponent_gradients() -> tuple[Any, Any]:
    """The gradient of the exponent in ``base ** exponent``: ours, and by the guide's formula without its factor."""
    base, exponent = Value([2.0, 3.0, 0.5]), Value([3.0, 0.5, -1.0])
    (base**exponent).backward()
    return exponent.grad, np.log(base.data)


def report(title: str, neuron: Neuron) -> None:
    """Print the output and the gradients, arrays on one line."""
    print(f"{title}: o = {_line(neuron.out)}")
    for name, grad in neuron.gradients().items():
        print(f"    d o / d {name:2} = {_line(grad)}")


def _line(x: Any) -> str:
    numbers = x.data if isinstance(x, Value) else x.detach().numpy() if hasattr(x, "detach") else x
    return " ".join(np.array2string(np.asarray(numbers), precision=4, separator=", ", suppress_small=True).split())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the examples; 1 if gradients that should agree do not."""
    parser = argparse.ArgumentParser(prog="python -m tapegrad.examples.arrays", description="Values that hold arrays.")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write the graphs there, as SVG")
    folder = parser.parse_args(argv).pictures
    if folder is not None and not folder.is_dir():
        parser.error(f"--pictures: {folder} is no folder; name one that exists")
    arrays, numbers = example_1(folder), example_2(folder)
    report("1. arrays of 2 by 2", arrays)
    report("2. numbers", numbers)
    equal = all(np.all(arrays.gradients()[name] == grad) for name, grad in numbers.gradients().items())
    print(f"the gradients of the arrays are {'' if equal else 'NOT '}those of the numbers, lane by lane")
    try:
        torch = example_3()
    except ModuleNotFoundError:
        print("3. torch is not installed: pip install torch")
    else:
        report("3. torch", torch)
        close = all(
            np.allclose(grad, torch.gradients()[name], rtol=1e-12, atol=1e-15)
            for name, grad in arrays.gradients().items()
        )
        equal = equal and close
        print(f"torch {'agrees' if close else 'does NOT agree'}")
    ours, guide = exponent_gradients()
    print(f"base ** exponent by its exponent: {_line(ours)}; the guide's formula lacks a factor: {_line(guide)}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
