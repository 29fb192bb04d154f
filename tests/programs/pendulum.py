# ruff: noqa
"""Optimises a throw through a simulation: a small vector class over Value, Euler steps and penalties."""

from micrograd.engine import Value


class Vector:
    def __init__(self, x, y):
        self.x = x if isinstance(x, Value) else Value(x)
        self.y = y if isinstance(y, Value) else Value(y)

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def __mul__(self, k):
        return Vector(self.x * k, self.y * k)

    __rmul__ = __mul__

    def norm2(self):
        return self.x**2 + self.y**2

    def __repr__(self):
        return f"({self.x.data:.4f}, {self.y.data + 1e-9:.4f})"


def throw(velocity, steps=25, dt=0.1):
    position, gravity = Vector(0, 0), Vector(0, -9.81)
    for _ in range(steps):
        drag = velocity * -0.1
        velocity = velocity + dt * (gravity + drag)
        position = position + dt * velocity
    return position


target = Vector(12, 0)
vx, vy = Value(1), Value(5)
for iteration in range(45):
    landing = throw(Vector(vx, vy))
    miss = (landing + target * -1).norm2()
    penalty = (vy - 15).relu() ** 2
    cost = miss + 0.1 * penalty
    vx.grad, vy.grad = 0, 0
    cost.backward()
    vx.data -= 0.03 * vx.grad
    vy.data -= 0.03 * vy.grad
    if iteration % 10 == 0:
        print(f"{iteration} cost {cost.data:.5f} landing {landing} v=({vx.data:.5f}, {vy.data:.5f})")
print(cost.data < 1e-9, len(cost._prev), sorted(v._op for v in cost._prev))
