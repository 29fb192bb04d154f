# ruff: noqa
"""Values in sets, dicts, sorts and object arrays, and every conversion and repr that a program prints."""

import numpy as np
from micrograd.engine import Value

a, b, c = Value(1), Value(1), Value(2.5)
names = {a: "a", b: "b", c: "c"}
print(len({a, b, c, a}), names[b], a == b, a == a, a != b, a in [b, c], b in (b,), [c, a, b].index(a))
print(sorted([c, a, b], key=lambda v: (v.data, names[v])), max([a, c], key=lambda v: v.data))
print(a, -a, a + b, a - b, a * b, a / b, a**2, a**-1, a**0.5, 2 + c, 2 - c, 2 * c, 2 / c)
print(Value(7) / 2, Value(7) * 0.5, Value(-3).relu(), Value(-3.5).relu(), Value(0).relu(), Value(2.5).relu())
print([v._op for v in (a, -a, a + b, a - b, a / b, a**2, a**-1.5, a.relu())])
print(sum([a, b, c]), sum([a, b, c], Value(10)), sum([], Value(3)))

# whole numbers stay whole, gradients too
p, q = Value(3), Value(4)
r = p * q + p - 2
r.backward()
print(p, q, r)
p.grad = 0
print(p, p.grad + 1, type(p.grad).__name__)
s = (p * 0.5).relu()
s.backward()
print(p, s)

# object arrays
w = np.array([Value(x) for x in (0.5, -1.5, 2.0)])
x = np.array([1.0, 2.0, 3.0])
d = (w * x).sum() + np.dot(w, x)
d.backward()
print(w.dtype, w.shape, d.data, [v.grad for v in w], type(d).__name__)
M = np.array([[Value(i * 3 + j) for j in range(3)] for i in range(2)])
y = M @ w
print(y.shape, [v.data for v in y], [v.data for v in M.sum(axis=0)], (M * 2)[1, 2].data)
y.sum().backward()
print([[v.grad for v in row] for row in M])
w -= 0.1 * np.array([v.grad for v in w])
print([round(v.data, 12) for v in w], [v._op for v in w])

print(callable(a._backward), a._backward())
fresh = Value(5, (a, b), "custom")
print(fresh._op, fresh._prev == {a, b}, len(fresh._prev), fresh)
fresh.backward()
print(fresh, a.grad, b.grad)
