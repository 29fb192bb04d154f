# ruff: noqa
"""Trains a recurrent network on one string, through time, with a tanh and a softmax of its own."""

import math
import random

from micrograd.engine import Value

random.seed(3)
text = "hello hello hello"
alphabet = sorted(set(text))
index = {c: i for i, c in enumerate(alphabet)}
hidden = 6


def tanh(v):
    t = math.tanh(v.data)
    out = Value(t, (v,), "tanh")

    def _backward():
        v.grad += (1 - t * t) * out.grad

    out._backward = _backward
    return out


def exp(v):
    out = Value(math.exp(v.data), (v,), "exp")

    def _backward():
        v.grad += out.data * out.grad

    out._backward = _backward
    return out


def log(v):
    out = Value(math.log(v.data), (v,), "log")

    def _backward():
        v.grad += out.grad / v.data

    out._backward = _backward
    return out


def matrix(rows, cols):
    return [[Value(random.uniform(-0.5, 0.5)) for _ in range(cols)] for _ in range(rows)]


Wx, Wh, Wy = matrix(hidden, len(alphabet)), matrix(hidden, hidden), matrix(len(alphabet), hidden)
bh, by = [Value(0) for _ in range(hidden)], [Value(0) for _ in alphabet]
params = [p for m in (Wx, Wh, Wy) for row in m for p in row] + bh + by
print(len(params), "parameters over", alphabet)


def step(char, state):
    k = index[char]
    state = [tanh(sum((w * s for w, s in zip(row, state)), Wx[i][k] + bh[i])) for i, row in enumerate(Wh)]
    logits = [sum((w * s for w, s in zip(row, state)), b) for row, b in zip(Wy, by)]
    return state, logits


def cross_entropy(logits, target):
    top = max(v.data for v in logits)
    exps = [exp(v - top) for v in logits]
    return -log(exps[target] / sum(exps))


for epoch in range(25):
    state = [Value(0.0)] * hidden
    loss = 0
    for a, b in zip(text, text[1:]):
        state, logits = step(a, state)
        loss = loss + cross_entropy(logits, index[b])
    loss = loss / (len(text) - 1)
    for p in params:
        p.grad = 0
    loss.backward()
    for p in params:
        p.data -= 0.5 * max(-1.0, min(1.0, p.grad))
    if epoch % 4 == 0:
        print(f"{epoch} {loss.data:.6f}")

state, out = [Value(0.0)] * hidden, "h"
for _ in range(10):
    state, logits = step(out[-1], state)
    out += alphabet[max(range(len(alphabet)), key=lambda i: logits[i].data)]
print(out)
