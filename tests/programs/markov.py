# ruff: noqa
"""Learns a hidden Markov model: the forward algorithm with scaling, probabilities as normalised squares of Values."""

import random

from micrograd.engine import Value

random.seed(29)


def sample(length):
    state, out = 0, []
    for _ in range(length):
        out.append(int(random.random() < (0.9 if state else 0.2)))
        state = state if random.random() < 0.85 else 1 - state
    return out


sequences = [sample(12) for _ in range(6)]
change = [[Value(1.2), Value(0.8)], [Value(0.7), Value(1.1)]]
emit = [[Value(1.0), Value(0.6)], [Value(0.5), Value(1.0)]]
params = [p for row in change + emit for p in row]


def distribution(row):
    squares = [p * p for p in row]
    total = squares[0] + squares[1]
    return [s / total for s in squares]


def surprise(sequence):
    """Mean of 1/scale - 1 over the steps: small where each symbol was expected."""
    turn, show = [distribution(r) for r in change], [distribution(r) for r in emit]
    belief, total = [0.5, 0.5], 0.0
    for symbol in sequence:
        joint = [b * show[k][symbol] for k, b in enumerate(belief)]
        scale = joint[0] + joint[1]
        total += 1 / scale - 1
        here = [j / scale for j in joint]
        belief = [sum(here[i] * turn[i][k] for i in range(2)) for k in range(2)]
    return total / len(sequence)


for epoch in range(40):
    loss = sum(surprise(s) for s in sequences) / len(sequences)
    for p in params:
        p.grad = 0
    loss.backward()
    for p in params:
        p.data -= 0.1 * p.grad
    if epoch % 8 == 0:
        print(epoch, f"{loss.data:.8f}")

for name, rows in (("change", change), ("emit", emit)):
    print(name, [[f"{p.data:.4f}" for p in distribution(row)] for row in rows])
print(sum(map(sum, sequences)), f"{surprise([1, 1, 1]).data:.6f}", f"{surprise([1, 0, 1]).data:.6f}")
