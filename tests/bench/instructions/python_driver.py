"""What one Python-level operation on a Value takes, N times and 2N times over; run under callgrind by guard.py.

As in the C++ driver, the difference of the two counts divided by N is what one takes: start-up and warm-up cancel.
"""

import ctypes
import gc
import random
import sys
from collections.abc import Callable
from itertools import repeat

from tapegrad import Value
from tapegrad.nn import MLP

N = 500

OPERATIONS = {
    "empty loop": "None",
    "a + b": "a + b",
    "a * b": "a * b",
    "a * 2.0": "a * 2.0",
    "2.0 * a": "2.0 * a",
    "a - b": "a - b",
    "a / b": "a / b",
    "-a": "-a",
    "a ** 2": "a ** 2",
    "a.relu()": "a.relu()",
    "a.tanh()": "a.tanh()",
    "Value(1.0)": "Value(1.0)",
    "read a.data": "a.data",
    "read a.grad": "a.grad",
    "a.data -= 0.1 * a.grad": "a.data -= 0.1 * a.grad",
    "a.grad = 0.0": "a.grad = 0.0",
    "a < b": "a < b",
}


def loop(statement: str) -> Callable[[int], object]:
    """A function that runs the statement n times on two Values."""
    space: dict[str, object] = {"Value": Value, "repeat": repeat}
    exec(f"def f(n, a=Value(1.5), b=Value(0.5)):\n    for _ in repeat(None, n):\n        {statement}\n", space)
    return space["f"]  # type: ignore[return-value]


def chain(n: int) -> Value:
    """A chain of n additions."""
    s, a = Value(0.0), Value(1.0)
    for _ in repeat(None, n):
        s = s + a
    return s


def main(marks: ctypes.CDLL) -> None:
    """Count everything."""
    end = marks.tapegrad_end
    end.argtypes = [ctypes.c_char_p]

    def count(name: str, n: int, part: Callable[[], object]) -> None:
        label = f"{name}|{n}".encode()
        marks.tapegrad_begin()
        part()
        end(label)

    for name, statement in OPERATIONS.items():
        run = loop(statement)
        run(2 * N)
        for n in (N, 2 * N):
            count(name, n, lambda n=n, run=run: run(n))
    held = [chain(2 * N)]
    held.clear()
    for n in (N, 2 * N):
        count("chain: create", n, lambda n=n: held.append(chain(n)))
        count("chain: backward", n, lambda: held[0].backward())
        count("chain: free", n, held.clear)
    random.seed(1)
    model = MLP(2, [16, 16, 1])
    for n in (1, 2, 4):  # the first to warm up
        count(
            "MLP(2, [16, 16, 1]), call and free", n, lambda n=n: [model([1.0, -2.0]) for _ in repeat(None, n)].clear()
        )


if __name__ == "__main__":
    gc.disable()  # when it runs depends on what was allocated before
    main(ctypes.CDLL(sys.argv[1]))
