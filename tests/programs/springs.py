# ruff: noqa
"""Finds the stiffness of a chain of springs from a film of it: a simulation by Verlet steps, compared at some frames."""

from micrograd.engine import Value

masses, dt, frames = 4, 0.05, 30


def simulate(stiffness, damping):
    """Positions of the masses at every fifth step; both ends are held."""
    x = [0.0, 0.3, -0.2, 0.1]
    before = list(x)
    film = []
    for step in range(1, frames + 1):
        ends = [0.0, *x, 0.0]
        after = []
        for i in range(masses):
            left, here, right = ends[i], ends[i + 1], ends[i + 2]
            force = stiffness[i] * (left - here) + stiffness[i + 1] * (right - here)
            after.append(here * 2 - before[i] + dt * dt * (force - damping * (here - before[i]) * (1 / dt)))
        before, x = x, after
        if step % 5 == 0:
            film.append(x)
    return film


truth = simulate([4.0, 6.0, 5.0, 7.0, 3.0], 0.5)
stiffness = [Value(5) for _ in range(masses + 1)]
damping = Value(0.1)
params = stiffness + [damping]

for step in range(60):
    film = simulate(stiffness, damping)
    loss = sum((a - b) ** 2 for now, then in zip(film, truth) for a, b in zip(now, then))
    for p in params:
        p.grad = 0
    loss.backward()
    for p in params:
        p.data -= 1.5 * p.grad
    if step % 12 == 0:
        print(step, f"{loss.data:.9f}", [f"{p.data:.5f}" for p in params])

energy = sum(k * (a - b) ** 2 for k, a, b in zip(stiffness, [0.0, *truth[-1]], [*truth[-1], 0.0])) / 2
energy.backward()
print(f"{energy.data:.9f}", energy._op, type(film[0][0]).__name__)
