# ruff: noqa
"""Fits a straight line by gradient descent, with bare Values for slope and intercept and integers among the data."""

import random

from micrograd.engine import Value

random.seed(7)
points = [(x, 3 * x - 2 + random.gauss(0, 0.1)) for x in range(-5, 6)]

slope = Value(0)
intercept = Value(0)
print(slope, intercept)

for step in range(120):
    loss = Value(0)
    for x, y in points:
        error = slope * x + intercept - y
        loss += error * error
    loss /= len(points)
    slope.grad = intercept.grad = 0
    loss.backward()
    slope.data -= 0.05 * slope.grad
    intercept.data -= 0.05 * intercept.grad
    if step % 20 == 0 or step == 119:
        print("%4d %.8f %.6f %.6f" % (step, loss.data, slope.data, intercept.data))

# the first gradient by hand, from whole numbers
w, b = Value(1), Value(2)
e = (w * 3 + b - 4) ** 2
e.backward()
print(w, b, e)
