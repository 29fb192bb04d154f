# ruff: noqa
"""A softmax classifier whose exp, log, maximum and clamp are the program's own, some as functions, some with two operands."""

import math
import random

from micrograd.engine import Value
from micrograd.nn import Layer, Module, Neuron

random.seed(11)


def exp(x):
    out = Value(math.exp(x.data), (x,), "exp")

    def _backward():
        x.grad += out.data * out.grad

    out._backward = _backward
    return out


def log(x):
    out = Value(math.log(x.data), (x,), "log")

    def _backward():
        x.grad += 1 / x.data * out.grad

    out._backward = _backward
    return out


def maximum(a, b):
    out = Value(max(a.data, b.data), (a, b), "max")

    def _backward():
        winner = a if a.data >= b.data else b
        winner.grad += out.grad

    out._backward = _backward
    return out


def clamp(x, low, high):
    out = Value(min(max(x.data, low), high), (x,), f"clamp({low},{high})")
    # a rule given as a lambda with defaults, for its effect
    out._backward = lambda x=x, inside=low < x.data < high: setattr(x, "grad", x.grad + inside * out.grad)
    return out


class Classifier(Module):
    def __init__(self, nin, nclass):
        self.hidden = Layer(nin, 6)
        self.out = [Neuron(6, nonlin=False) for _ in range(nclass)]

    def __call__(self, x):
        h = self.hidden(x)
        logits = [n(h) for n in self.out]
        top = logits[0]
        for v in logits[1:]:
            top = maximum(top, v)
        exps = [exp(clamp(v - top, -30, 1)) for v in logits]
        total = sum(exps)
        return [e / total for e in exps]

    def parameters(self):
        return self.hidden.parameters() + [p for n in self.out for p in n.parameters()]


centres = [(0, 1), (-1, -1), (1, -1)]
data = [
    ([cx + random.gauss(0, 0.3), cy + random.gauss(0, 0.3)], k) for k, (cx, cy) in enumerate(centres) for _ in range(8)
]
model = Classifier(2, 3)
print(model.hidden, model.out)

for step in range(40):
    loss = sum((-log(model(x)[k]) for x, k in data), 0) * (1 / len(data))
    model.zero_grad()
    loss.backward()
    for p in model.parameters():
        p.data -= 0.5 * p.grad
    if step % 8 == 0:
        right = sum(max(range(3), key=lambda i, q=model(x): q[i].data) == k for x, k in data)
        print(step, f"{loss.data:.6f}", f"{right}/{len(data)}")

a, b = Value(3), Value(-2)
m = maximum(a, b) * clamp(b, -1, 1)
m.backward()
print(m, a, b, m._op, sorted(v._op for v in m._prev))
