# ruff: noqa
"""Clusters points softly: each centre gets a share of each point by a heavy-tailed kernel, and all centres move at once."""

import random

from micrograd.engine import Value

random.seed(17)
true_centres = [(-2.0, 0.0), (1.5, 1.5), (1.0, -2.0)]
points = [(cx + random.gauss(0, 0.4), cy + random.gauss(0, 0.4)) for cx, cy in true_centres for _ in range(14)]
centres = [[Value(random.uniform(-1, 1)), Value(random.uniform(-1, 1))] for _ in true_centres]


def distance(centre, point):
    return sum((c - p) ** 2 for c, p in zip(centre, point))


def shares(point):
    kernel = [(1 + distance(c, point)) ** -2 for c in centres]
    total = sum(kernel)
    return [k / total for k in kernel]


def spread():
    total = 0
    for point in points:
        total = total + sum(s * distance(c, point) for s, c in zip(shares(point), centres))
    return total / len(points)


for step in range(60):
    loss = spread()
    for c in centres:
        for v in c:
            v.grad = 0
    loss.backward()
    for c in centres:
        for v in c:
            v.data -= 0.5 * v.grad
    if step % 10 == 0:
        print(step, f"{loss.data:.7f}", sorted((round(x.data, 4), round(y.data, 4)) for x, y in centres))

sizes = [0, 0, 0]
for point in points:
    s = [v.data for v in shares(point)]
    sizes[s.index(max(s))] += 1
print(sorted(sizes), f"{sum(v.data for v in shares(points[0])):.12f}")
