# ruff: noqa
"""Keeps the best network by deepcopy, averages two networks, and shares weights between layers."""

import copy
import random

from micrograd.nn import MLP, Layer, Module, Neuron

random.seed(21)
train = [([x / 4, (x / 4) ** 2], 0.5 * x / 4 - 1) for x in range(-6, 7)]
held_out = [([x / 3, (x / 3) ** 2], 0.5 * x / 3 - 1) for x in range(-4, 5)]


def error(model, data):
    return sum(((model(x) - t) ** 2 for x, t in data)) * (1.0 / len(data))


model = MLP(2, [5, 1])
best, best_error = None, float("inf")
for epoch in range(30):
    loss = error(model, train)
    model.zero_grad()
    loss.backward()
    for p in model.parameters():
        p.data -= 0.05 * p.grad
    now = error(model, held_out).data
    if now < best_error:
        best, best_error = copy.deepcopy(model), now
    if epoch % 6 == 0:
        print(f"{epoch:2d} {loss.data:.7f} {now:.7f}")

print(best, best is not model, f"{best_error:.7f}")
print(all(p is not q and p.data is not None for p, q in zip(best.parameters(), model.parameters())))
print(f"{error(best, held_out).data:.7f}", best_error == error(best, held_out).data)
before = [p.data for p in best.parameters()]
for p in model.parameters():
    p.data = 0.0
print(before == [p.data for p in best.parameters()], model([1.0, 1.0]))

other = copy.deepcopy(best)
for p in other.parameters():
    p.data *= 1.1
mean = copy.copy(best)
mean.layers = copy.deepcopy(best.layers)
for p, a, b in zip(mean.parameters(), best.parameters(), other.parameters()):
    p.data = (a.data + b.data) / 2
    p.grad = 0
print(f"{error(mean, held_out).data:.7f}", len(set(map(id, mean.parameters())) & set(map(id, best.parameters()))))


class Tied(Module):
    def __init__(self):
        self.layer = Layer(2, 2, nonlin=False)
        self.head = Neuron(2, nonlin=False)

    def __call__(self, x):
        return self.head(self.layer(self.layer(x)))

    def parameters(self):
        return self.layer.parameters() + self.head.parameters()


random.seed(4)
tied = Tied()
out = tied([1.0, 0.5])
out.backward()
again = copy.deepcopy(tied)
print(f"{out.data:.9f}", [f"{p.grad:.6f}" for p in tied.parameters()])
print([p.grad == q.grad and p.data == q.data for p, q in zip(tied.parameters(), again.parameters())].count(True))
