"""Times the loss and all gradients of two small networks, side by side in one run, in one thread.

    python tests/bench/side_by_side.py [--rounds N]

moons: MLP(2, [16, 16, 1]) with ReLU, 100 points, margin loss with a penalty on the weights; digits: MLP(64, [50, 10])
with tanh and softmax cross-entropy, 64 samples. tapegrad runs plain Python loops over samples, compiled, and the same
function of one sample over lanes; torch and, where it is installed, JAX run whole arrays. Before anything is timed, all
have to agree on the loss and on a gradient. Takes about ten seconds. Not a test: `tapegrad bench` times whole training
steps, with the update of the parameters.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch

import tapegrad
from tapegrad import Value
from tapegrad.bench.workloads import moons

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None

torch.set_num_threads(1)


def race(name, runs, rounds, calls):
    """Takes turns; prints the best and the median of a call."""
    times = {who: [] for who in runs}
    for run in runs.values():
        for _ in range(3):
            run()
    for _ in range(rounds):
        for who, run in runs.items():
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[who].append((time.perf_counter() - start) / calls)
    print(name)
    for who, took in times.items():
        print(f"  {who:15s} {1e6 * min(took):8.1f} us, median {1e6 * sorted(took)[rounds // 2]:8.1f} us")


def agree(*losses):
    values = [float(x) for x in losses]
    assert np.allclose(values, values[0], rtol=1e-9, atol=0.0), values


def weights(sizes, seed):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(m, n)) * 0.3 for n, m in itertools.pairwise(sizes)], [np.zeros(m) for m in sizes[1:]]


def network(w, b, squash):
    """The plain Python network over rows of Values, its last layer linear."""

    def run(x):
        for k, (rows, biases) in enumerate(zip(w, b, strict=True)):
            x = [
                sum((wi * xi for wi, xi in zip(row, x, strict=True)), bi) for row, bi in zip(rows, biases, strict=True)
            ]
            if k + 1 < len(w):
                x = [squash(v) for v in x]
        return x

    return run


def as_values(arrays):
    return [[[Value(x) for x in row] for row in a] if a.ndim == 2 else [Value(x) for x in a] for a in arrays]


def flat(layers):
    return [p for layer in layers for row in layer for p in (row if isinstance(row, list) else [row])]


def time_moons(rounds):
    w, b = weights([2, 16, 16, 1], 1)
    vw, vb = as_values(w), as_values(b)
    parameters = flat(vw) + flat(vb)
    model = network(vw, vb, lambda v: v.relu())
    points, labels = (np.array(a, dtype=float) for a in moons.make_moons(100))

    def one(x, y):
        return (1.0 - y * model([x[0], x[1]])[0]).relu()

    rows, ys = points.tolist(), labels.tolist()
    loop = tapegrad.compile(
        lambda: sum(one(x, y) for x, y in zip(rows, ys, strict=True)) * 0.01 + 1e-4 * sum(p * p for p in parameters)
    )
    lanes = tapegrad.vmap(tapegrad.compile(one))

    tw, tb = ([torch.tensor(a, requires_grad=True) for a in part] for part in (w, b))
    tx, ty = torch.tensor(points), torch.tensor(labels)

    def with_torch():
        for p in tw + tb:
            p.grad = None
        x = tx
        for k in range(3):
            x = x @ tw[k].T + tb[k]
            x = torch.relu(x) if k < 2 else x
        loss = torch.relu(1 - ty * x[:, 0]).mean() + 1e-4 * sum((p * p).sum() for p in tw + tb)
        loss.backward()
        return loss.detach()

    agree(loop.backward(), with_torch())
    assert np.allclose([p.grad for p in vw[0][3]], tw[0].grad[3], rtol=1e-9)
    runs = {
        "tapegrad loop": loop.backward,
        "tapegrad vmap": lambda: lanes.backward(points, labels),
        "torch": with_torch,
    }
    if jax:

        def loss(parts, x, y):
            for k in range(3):
                x = x @ parts[0][k].T + parts[1][k]
                x = jax.nn.relu(x) if k < 2 else x
            return jax.nn.relu(1 - y * x[:, 0]).mean() + 1e-4 * sum((p * p).sum() for part in parts for p in part)

        step = jax.jit(jax.value_and_grad(loss))
        parts = [[jnp.array(a) for a in w], [jnp.array(a) for a in b]]
        jx, jy = jnp.array(points), jnp.array(labels)
        agree(loop(), step(parts, jx, jy)[0])
        runs["JAX jit"] = lambda: jax.block_until_ready(step(parts, jx, jy))
    race(f"moons, {loop.program.nodes:,} nodes", runs, rounds, 20)


def time_digits(rounds):
    w, b = weights([64, 50, 10], 2)
    vw, vb = as_values(w), as_values(b)
    model = network(vw, vb, lambda v: v.tanh())
    generator = np.random.default_rng(3)
    images, labels = generator.uniform(size=(64, 64)), generator.integers(0, 10, 64)
    chosen = np.eye(10)[labels]

    def entropy(scores, picked):
        return sum(s.exp() for s in scores).log() - picked

    def one(x, hot):
        scores = model(x)
        return entropy(scores, sum(h * s for h, s in zip(hot, scores, strict=True)))

    def whole():
        scores = [model(x) for x in images.tolist()]
        return sum(entropy(s, s[k]) for s, k in zip(scores, labels.tolist(), strict=True)) * (1 / 64)

    loop, lanes = tapegrad.compile(whole), tapegrad.vmap(tapegrad.compile(one))
    tw, tb = ([torch.tensor(a, requires_grad=True) for a in part] for part in (w, b))
    tx, tk = torch.tensor(images), torch.tensor(labels)

    def with_torch():
        for p in tw + tb:
            p.grad = None
        scores = torch.tanh(tx @ tw[0].T + tb[0]) @ tw[1].T + tb[1]
        loss = torch.nn.functional.cross_entropy(scores, tk)
        loss.backward()
        return loss.detach()

    agree(loop.backward(), with_torch(), np.mean(lanes(images, chosen)))
    assert np.allclose([p.grad for p in vw[0][3]], tw[0].grad[3], rtol=1e-9)
    runs = {
        "tapegrad loop": loop.backward,
        "tapegrad vmap": lambda: lanes.backward(images, chosen),
        "torch": with_torch,
    }
    if jax:

        def loss(w, b, x, k):
            scores = jnp.tanh(x @ w[0].T + b[0]) @ w[1].T + b[1]
            return (jax.nn.logsumexp(scores, axis=1) - scores[jnp.arange(64), k]).mean()

        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        arguments = [jnp.array(a) for a in w], [jnp.array(a) for a in b], jnp.array(images), jnp.array(labels)
        agree(loop(), step(*arguments)[0])
        runs["JAX jit"] = lambda: jax.block_until_ready(step(*arguments))
    race(f"digits, {loop.program.nodes:,} nodes", runs, rounds, 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    if jax:
        jax.config.update("jax_enable_x64", True)
    time_moons(rounds)
    time_digits(rounds)


if __name__ == "__main__":
    main()
