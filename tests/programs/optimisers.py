# ruff: noqa
"""Optimiser classes that keep their state on the parameters: momentum, RMSProp and Adam race down the same valley."""

import math

from micrograd.engine import Value


class Optimiser:
    def __init__(self, params, lr):
        self.params = list(params)
        self.lr = lr

    def zero_grad(self):
        for p in self.params:
            p.grad = 0


class Momentum(Optimiser):
    def step(self):
        for p in self.params:
            if not hasattr(p, "velocity"):
                p.velocity = 0.0
            p.velocity = 0.9 * p.velocity - self.lr * p.grad
            p.data += p.velocity


class RMSProp(Optimiser):
    def step(self):
        for p in self.params:
            p.cache = 0.9 * getattr(p, "cache", 0.0) + 0.1 * p.grad**2
            p.data -= self.lr * p.grad / (math.sqrt(p.cache) + 1e-8)


class Adam(Optimiser):
    def __init__(self, params, lr, betas=(0.9, 0.999)):
        super().__init__(params, lr)
        self.betas, self.t = betas, 0
        for p in self.params:
            p.state = {"m": 0.0, "v": 0.0}

    def step(self):
        self.t += 1
        b1, b2 = self.betas
        for p in self.params:
            s = p.state
            s["m"] = b1 * s["m"] + (1 - b1) * p.grad
            s["v"] = b2 * s["v"] + (1 - b2) * p.grad * p.grad
            p.data -= self.lr * (s["m"] / (1 - b1**self.t)) / (math.sqrt(s["v"] / (1 - b2**self.t)) + 1e-8)


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


for kind, lr in ((Momentum, 2e-4), (RMSProp, 1e-2), (Adam, 5e-2)):
    x, y = Value(-1.2), Value(1.0)
    x.name, y.name = "x", "y"
    optimiser = kind([x, y], lr)
    for step in range(151):
        f = rosenbrock(x, y)
        optimiser.zero_grad()
        f.backward()
        optimiser.step()
        if step % 50 == 0:
            print(
                f"{kind.__name__:8s} {step:3d} f={f.data:.6f} "
                + " ".join(f"{p.name}={p.data:.6f}" for p in optimiser.params)
            )
    extra = sorted(k for k in vars(x) if k in ("velocity", "cache", "state", "name"))
    print(extra, all(hasattr(p, extra[-1]) for p in optimiser.params))

p = Value(1.5)
p.velocity = 0.25
del p.velocity
print(hasattr(p, "velocity"))
try:
    print(p.velocity)
except AttributeError as e:
    print(type(e).__name__, "velocity" in str(e))
