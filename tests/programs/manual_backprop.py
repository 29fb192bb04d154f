# ruff: noqa
"""Backpropagation by hand: one rule at a time, then by a sort of its own, then by backward(), and numerically."""

from micrograd.engine import Value


def f(a, b, c):
    d = a * b
    e = d + c
    g = e.relu()
    return g * g / 2.0, (d, e, g)


a, b, c = Value(2.0), Value(-3.0), Value(10.0)
loss, (d, e, g) = f(a, b, c)
print(loss, loss._op, g._op, e._op, d._op, repr(a._op))

# 1. every node by hand, in reverse order of creation
square = [v for v in loss._prev if v._op == "*"][0]
half = [v for v in loss._prev if v._op != "*"][0]
loss.grad = 1.0
loss._backward()
print(square, half)
square._backward()
print(g)
for v in (g, e, d):
    v._backward()
by_hand = [v.grad for v in (a, b, c)]
print(by_hand)
a._backward()
print(a)

# 2. an explicit sort
a, b, c = Value(2.0), Value(-3.0), Value(10.0)
loss, _ = f(a, b, c)
order, seen = [], set()


def visit(v):
    if v not in seen:
        seen.add(v)
        for child in v._prev:
            visit(child)
        order.append(v)


visit(loss)
loss.grad = 1
for v in reversed(order):
    v._backward()
print(len(order), order[-1] is loss, [v.grad for v in (a, b, c)] == by_hand)

# 3. the method, twice: the second pass adds through intermediates as well
loss, (d, e, g) = f(*(Value(x) for x in (2.0, -3.0, 10.0)))
leaves = [v for v in [*d._prev, *(e._prev - {d})]]
loss.backward()
print(sorted(v.grad for v in leaves), d.grad, e.grad, g.grad)
loss.backward()
print(sorted(v.grad for v in leaves), d.grad, e.grad, g.grad, loss.grad)

# 4. numerically
h = 1e-6
for i in range(3):
    args = [2.0, -3.0, 10.0]
    args[i] += h
    up = f(*map(Value, args))[0].data
    args[i] -= 2 * h
    down = f(*map(Value, args))[0].data
    print(f"{(up - down) / (2 * h):.5f} {by_hand[i]:.5f}")

# 5. part of a graph
x = Value(3)
y = x * x
z = y + y
y.backward()
print(x.grad, y.grad, z.grad)
z._backward()
print(x.grad, y.grad, z.grad)
