# ruff: noqa
"""Fits a cubic to the sine by Newton-free gradient descent, evaluating it by Horner's rule and by powers."""

import math

from micrograd.engine import Value


class Polynomial:
    def __init__(self, degree):
        self.c = [Value(0.0) for _ in range(degree + 1)]

    def horner(self, x):
        result = self.c[-1]
        for c in reversed(self.c[:-1]):
            result = result * x + c
        return result

    def powers(self, x):
        x = Value(x)
        return sum((c * x**k for k, c in enumerate(self.c[1:], 1)), self.c[0])


xs = [i / 10 for i in range(-15, 16)]
ys = [math.sin(x) for x in xs]
poly = Polynomial(3)

for step in range(200):
    evaluate = poly.horner if step % 2 else poly.powers
    total = sum([(evaluate(x) - y) ** 2 for x, y in zip(xs, ys)])
    loss = total * (1 / len(xs))
    for c in poly.c:
        c.grad = 0
    loss.backward()
    for c in poly.c:
        c.data += -0.08 * c.grad
    if step % 25 == 0:
        print(step, round(loss.data, 9), [round(abs(c.data), 6) for c in poly.c])

for x in (-1.0, 0.25, 1.5):
    h, p = poly.horner(x), poly.powers(x)
    print(f"{x:5.2f} {h.data:.6f} {abs(h.data - p.data) < 1e-12} {math.sin(x):.6f}")

x = Value(2.0)
print([x**k for k in range(4)])
print([str((x**k)._op) for k in (2, 3.0, -1, 0.5)])
