# ruff: noqa
"""Subclasses of Value: a named one with its own constructor, one with slots, one that overrides operators."""

import random

from micrograd.engine import Value
from micrograd.nn import Module


class Named(Value):
    def __init__(self, name, data=0.0):
        super().__init__(data)
        self.name = name

    def __repr__(self):
        return f"{self.name}={self.data}"


class Slotted(Value):
    __slots__ = ("unit",)

    def __init__(self, data, unit="m", _children=(), _op=""):
        super().__init__(data, _children, _op)
        self.unit = unit

    def __str__(self):
        return f"{self.data} {self.unit}"


class Counting(Value):
    additions = 0

    def __add__(self, other):
        Counting.additions += 1
        return super().__add__(other)

    def __radd__(self, other):
        return self + other

    def square(self):
        return self * self


class Parameter(Named):
    registry = []

    def __init__(self, name):
        super().__init__(name, random.uniform(-1, 1))
        Parameter.registry.append(self)


a, b = Named("a", 2.0), Named("b", -3)
c = a * b + a / 2 - b**2
print(a, b, c, type(c).__name__, isinstance(a, Value))
c.backward()
print(a.grad, b.grad, [type(v).__name__ for v in (a + b)._prev])

s = Slotted(5, "kg")
t = s * 2 + Slotted(1.5)
t.backward()
print(str(s), repr(s), s.unit, s.grad, t)

n = Counting(1.5)
total = sum([n, n, n])
total = n + total + 1
print(Counting.additions, total.data, type(total).__name__)
q = n.square() + 1 - n
q.backward()
print(Counting.additions, q, n.grad)


class Model(Module):
    def __init__(self):
        self.w, self.b = Parameter("w"), Parameter("b")

    def parameters(self):
        return Parameter.registry

    def __call__(self, x):
        return (self.w * x + self.b).relu()


random.seed(1)
model = Model()
print(model.parameters())
out = model(3.0) + model(-3.0)
out.backward()
print(out, [(p.name, p.grad) for p in model.parameters()])
model.zero_grad()
print([p.grad for p in model.parameters()], {type(p).__mro__[2].__name__ for p in model.parameters()})
