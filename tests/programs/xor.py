# ruff: noqa
"""Learns exclusive-or with a small network from micrograd.nn and a mean squared error."""

import random

from micrograd.nn import MLP

random.seed(42)

inputs = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
targets = [0.0, 1.0, 1.0, 0.0]

model = MLP(2, [8, 1])
print(model)
print("number of parameters", len(model.parameters()))
print(model.parameters()[0])
print(model.parameters()[2])

for epoch in range(400):
    predictions = [model(x) for x in inputs]
    loss = sum((p - t) ** 2 for p, t in zip(predictions, targets)) / len(targets)
    model.zero_grad()
    loss.backward()
    for p in model.parameters():
        p.data -= 0.1 * p.grad
    if epoch % 50 == 0:
        print(f"epoch {epoch:3d}  loss {loss.data:.6f}")

for x, t in zip(inputs, targets):
    y = model(x)
    print(x, t, f"{y.data:.3f}", int(y.data > 0.5))
