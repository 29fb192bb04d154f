# ruff: noqa
"""Adds to the Value class from outside: ordering, functions, a power with a Value as exponent, and a counting operator."""

import functools
import math

from micrograd.engine import Value


def _sin(self):
    out = Value(math.sin(self.data), (self,), "sin")

    def _backward():
        self.grad += math.cos(self.data) * out.grad

    out._backward = _backward
    return out


Value.sin = _sin
x = Value(0.5)
y = x.sin() * 2
y.backward()
print(y, x)


def _lt(self, other):
    return self.data < (other.data if isinstance(other, Value) else other)


def _eq(self, other):
    return self.data == (other.data if isinstance(other, Value) else other)


hash_before = Value.__hash__
Value.__lt__ = _lt
functools.total_ordering(Value)
values = [Value(v) for v in (3, -1.5, 2, 0.25)]
print(sorted(values), max(values), min(values))
print(values[0] > values[1], values[0] >= 3.5, values[1] <= values[2], values[0] < 10)

old_pow = Value.__pow__


def power(self, other):
    if not isinstance(other, Value):
        return old_pow(self, other)
    out = Value(self.data**other.data, (self, other), "pow")

    def _backward():
        self.grad += other.data * self.data ** (other.data - 1) * out.grad
        other.grad += out.data * math.log(self.data) * out.grad

    out._backward = _backward
    return out


Value.__pow__ = power
a, b = Value(2.0), Value(3.0)
c = a**b + b**2
c.backward()
print(c, a, b)

calls = []
old_mul, old_add = Value.__mul__, Value.__add__


def mul(self, other):
    calls.append("*")
    return old_mul(self, other)


def add(self, other):
    calls.append("+")
    return old_add(self, other)


Value.__mul__, Value.__add__ = mul, add
p, q = Value(6.0), Value(4.0)
for text in ("p * q", "2 * p", "p / q", "-p", "p - q", "1 - p", "3 / q", "sum([p, q])", "p + 1", "1 + p"):
    calls.clear()
    r = eval(text)
    print(f"{text:12s} {r.data:8.4f} {''.join(calls)} {r._op}")
Value.__mul__, Value.__add__ = old_mul, old_add
calls.clear()
r = p / q - 2 * p
print(r, calls)


def show(self):
    return f"<{self.data:g}>"


Value.__repr__ = show
print(p, [q], f"{p}", str(q))

Value.item = property(lambda self: self.data)
Value.zero = staticmethod(lambda: Value(0))
Value.scale = 10
print(p.item, Value.zero(), q.scale, [hasattr(Value, n) for n in ("sin", "item", "zero", "scale", "no")])
print(Value.__lt__ is _lt, Value.sin is _sin)
