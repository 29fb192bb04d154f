# ruff: noqa
"""Fills in a table of ratings by two thin matrices and biases, given only some of the entries, with weight decay."""

import random

from micrograd.engine import Value

random.seed(31)
users, films, rank = 9, 7, 2
taste = [[random.gauss(0, 1) for _ in range(rank)] for _ in range(users)]
style = [[random.gauss(0, 1) for _ in range(rank)] for _ in range(films)]
ratings = {
    (u, f): sum(a * b for a, b in zip(taste[u], style[f])) + 3
    for u in range(users)
    for f in range(films)
    if random.random() < 0.7
}
held = sorted(ratings)[::5]
known = {key: r for key, r in ratings.items() if key not in held}


class Factors:
    def __init__(self, rows):
        self.rows = [[Value(random.gauss(0, 0.5)) for _ in range(rank)] for _ in range(rows)]
        self.bias = [Value(0) for _ in range(rows)]

    def __getitem__(self, i):
        return self.rows[i], self.bias[i]

    def parameters(self):
        return [v for row in self.rows for v in row] + self.bias


U, F, mean = Factors(users), Factors(films), Value(3)
params = U.parameters() + F.parameters() + [mean]


def predict(u, f):
    (a, p), (b, q) = U[u], F[f]
    return sum((x * y for x, y in zip(a, b)), mean + p + q)


for step in range(80):
    errors = [predict(u, f) - r for (u, f), r in known.items()]
    loss = sum(e * e for e in errors) * (1 / len(errors)) + 0.002 * sum(p**2 for p in params[:-1])
    for p in params:
        p.grad = 0
    loss.backward()
    for p in params:
        p.data -= 0.25 * p.grad
    if step % 16 == 0:
        print(step, f"{loss.data:.8f}", f"{mean.data:.6f}")

test = [(predict(u, f).data - ratings[u, f]) ** 2 for u, f in held]
print(len(known), len(held), f"{(sum(test) / len(test)) ** 0.5:.6f}")
print(" ".join(f"{predict(0, f).data:.3f}" for f in range(films)))
