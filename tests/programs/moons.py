# ruff: noqa
"""The max-margin demo on two interleaved half circles, in mini-batches, with labels and features as NumPy has them."""

import random

import numpy as np
from micrograd.engine import Value
from micrograd.nn import MLP

np.random.seed(1337)
random.seed(1337)

n = 24
angle = np.linspace(0, np.pi, n // 2)
X = np.vstack([np.c_[np.cos(angle), np.sin(angle)], np.c_[1 - np.cos(angle), 0.5 - np.sin(angle)]]) + np.random.normal(
    0, 0.1, (n, 2)
)
y = np.repeat([0, 1], n // 2) * 2 - 1

model = MLP(2, [8, 8, 1])
print(model)
print("number of parameters", len(model.parameters()))


def loss(batch_size=None):
    if batch_size is None:
        Xb, yb = X, y
    else:
        ri = np.random.permutation(X.shape[0])[:batch_size]
        Xb, yb = X[ri], y[ri]
    inputs = [list(map(Value, xrow)) for xrow in Xb]
    scores = list(map(model, inputs))
    losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(yb, scores)]
    data_loss = sum(losses) * (1.0 / len(losses))
    alpha = 1e-4
    reg_loss = alpha * sum((p * p for p in model.parameters()))
    total_loss = data_loss + reg_loss
    accuracy = [(yi > 0) == (scorei.data > 0) for yi, scorei in zip(yb, scores)]
    return total_loss, sum(accuracy) / len(accuracy)


total_loss, acc = loss()
print(f"{total_loss.data:.9f}", acc, total_loss._op)

for k in range(12):
    total_loss, acc = loss(16 if k % 2 else None)
    model.zero_grad()
    total_loss.backward()
    learning_rate = 1.0 - 0.9 * k / 100
    for p in model.parameters():
        p.data -= learning_rate * p.grad
    print(f"step {k} loss {total_loss.data:.8f}, accuracy {acc * 100}%")

h = 1.0
xx, yy = np.meshgrid(np.arange(-2, 3, h), np.arange(-1, 2, h))
mesh = np.c_[xx.ravel(), yy.ravel()]
scores = list(map(model, [list(map(Value, row)) for row in mesh]))
Z = np.array([s.data > 0 for s in scores]).reshape(xx.shape)
print("\n".join("".join("#" if z else "." for z in row) for row in Z))
