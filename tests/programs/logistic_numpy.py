# ruff: noqa
"""Logistic regression on NumPy data: float64 features, int64 labels, a sigmoid of its own, mini-batches by permutation."""

import math

import numpy as np
from micrograd.engine import Value

rng = np.random.default_rng(5)
n = 60
X = np.concatenate([rng.normal(-1.0, 0.7, (n // 2, 2)), rng.normal(1.0, 0.7, (n // 2, 2))])
y = np.repeat([0, 1], n // 2)
print(X.dtype, y.dtype, X.shape)


def sigmoid(v):
    s = 1 / (1 + math.exp(-v.data))
    out = Value(s, (v,), "sigmoid")

    def backward():
        v.grad += s * (1 - s) * out.grad

    out._backward = backward
    return out


def neg_log(v):
    out = Value(-math.log(v.data), (v,), "-log")

    def backward():
        v.grad -= out.grad / v.data

    out._backward = backward
    return out


w = [Value(np.float64(0.1)), Value(np.float64(-0.1))]
b = Value(0)

for epoch in range(15):
    order = rng.permutation(n)
    epoch_loss = 0.0
    for batch in np.split(order, 3):
        losses = []
        for xi, yi in zip(X[batch], y[batch]):
            p = sigmoid(xi[0] * w[0] + xi[1] * w[1] + b)  # a NumPy scalar on the left
            losses.append(neg_log(p if yi else 1 - p) + np.float64(1e-3) * (w[0] * w[0] + w[1] ** 2))
        loss = sum(losses) / np.float64(len(losses))
        for p in (*w, b):
            p.grad = 0
        loss.backward()
        for p in (*w, b):
            p.data = p.data - np.float32(0.5) * p.grad
        epoch_loss += float(loss.data)
    if epoch % 3 == 0:
        print(f"epoch {epoch:2d} loss {epoch_loss:.5f}")

predicted = np.array([sigmoid(w[0] * xi[0] + w[1] * xi[1] + b).data > 0.5 for xi in X])
print("weights", " ".join(f"{p.data:.5f}" for p in w), f"bias {b.data:.5f}")
print("accuracy", (predicted == (y == 1)).mean())
