# ruff: noqa
"""Checks gradients of random expressions numerically; grows the expressions as trees of closures."""

import random

from micrograd.engine import Value

random.seed(99)


def grow(depth):
    if depth == 0:
        i = random.randrange(3)
        return lambda v: v[i], f"v{i}"
    kind = random.choice("+-*/^rnc")
    f, ft = grow(depth - 1)
    if kind == "r":
        return lambda v: f(v).relu() + 0.1 * f(v), f"lrelu({ft})"
    if kind == "n":
        return lambda v: -f(v), f"-{ft}"
    if kind == "^":
        k = random.choice([2, 3])
        return lambda v: f(v) ** k * 0.1, f"({ft})^{k}"
    if kind == "c":
        c = random.choice([2, 0.5, -1])
        return lambda v: c - f(v), f"({c} - {ft})"
    g, gt = grow(depth - 1)
    if kind == "+":
        return lambda v: f(v) + g(v), f"({ft} + {gt})"
    if kind == "-":
        return lambda v: f(v) - g(v), f"({ft} - {gt})"
    if kind == "*":
        return lambda v: f(v) * g(v), f"({ft} * {gt})"
    return lambda v: f(v) / (g(v) ** 2 + 1), f"({ft} / ({gt}^2 + 1))"


for trial in range(25):
    f, text = grow(random.randrange(2, 5))
    point = [random.uniform(-2, 2) for _ in range(3)]
    leaves = [Value(x) for x in point]
    out = f(leaves)
    out.backward()
    worst = 0.0
    for i, leaf in enumerate(leaves):
        h = 1e-6
        up, down = list(point), list(point)
        up[i] += h
        down[i] -= h
        numeric = (f([Value(x) for x in up]).data - f([Value(x) for x in down]).data) / (2 * h)
        worst = max(worst, abs(numeric - leaf.grad) / (1 + abs(numeric)))
    print(f"{trial:2d} {out.data:.9f} {[f'{leaf.grad:.6f}' for leaf in leaves]} {worst < 1e-4} {text[:60]}")
