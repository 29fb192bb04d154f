"""One scalar program over many lanes: the same numbers lane by lane, layers over whole columns, memory and threads."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tapegrad
from tapegrad import MLP, Layer, Neuron, Value, _core, nn
from tapegrad.micrograd import engine
from tapegrad.micrograd import nn as micrograd_nn

NETWORKS: list[Callable[[], Any]] = [
    lambda: MLP(2, [3, 1]), lambda: MLP(2, [4, 2]), lambda: micrograd_nn.MLP(2, [3, 1]), lambda: Layer(2, 3),
    lambda: Neuron(2), lambda: micrograd_nn.Layer(2, 1, nonlin=False), lambda: MLP(2, [1, 1, 2]),
]  # fmt: skip


def polynomial(x: Any, y: Any) -> Any:
    return (x * y + x**3 - 2 * y) / (x * x + 1.5)


def composite(x: Any, y: Any) -> Any:
    z = (x - y).tanh() * 3 + abs(x).sqrt()
    return (z.exp() + 1.0).log() - (2**x) * y.sigmoid() + (-z).relu()


def repeated(x: Any, y: Any) -> Any:
    for _ in range(5):
        x = x * y + x
    return x + y + x


@pytest.mark.parametrize("program", [polynomial, composite, repeated])
@pytest.mark.parametrize("V", [Value, engine.Value], ids=["lectures", "micrograd"])
@pytest.mark.parametrize("lanes", [1, 7, 600])
def test_lanes_are_scalars(program: Callable[[Any, Any], Any], V: Any, lanes: int) -> None:
    data = np.random.default_rng(lanes).uniform(-1.2, 1.3, lanes)
    x, y = V(data), V(0.7)
    out = program(x, y)
    out.backward()
    y_grad = 0.0
    for i, number in enumerate(data):
        xs, ys = V(float(number)), V(0.7)
        scalar = program(xs, ys)
        scalar.backward()
        assert out.data[i] == pytest.approx(scalar.data, rel=1e-13)
        assert x.grad[i] == pytest.approx(xs.grad, rel=1e-12, abs=1e-13)
        y_grad += ys.grad
    assert y.grad == pytest.approx(y_grad, rel=1e-11)
    assert type(y.grad) is float


def test_sums_and_products_are_those_of_scalars_to_the_bit() -> None:
    data = np.random.default_rng(1).normal(size=100)
    x, w = Value(data), Value(1.1)
    out = (x * w + x) * x - w
    out.backward()
    for i, number in enumerate(data):
        xs, ws = Value(float(number)), Value(1.1)
        scalar = (xs * ws + xs) * xs - ws
        scalar.backward()
        assert (out.data[i], x.grad[i]) == (scalar.data, xs.grad)


def test_a_random_program_over_lanes_and_numbers() -> None:
    draw = random.Random(5)
    for _ in range(30):
        size = draw.choice([3, 40])
        kinds = [np.random.default_rng(draw.randrange(99)).uniform(0.5, 1.5, size) for _ in range(2)] + [0.8, 1.2]
        plan = [(draw.choice("+*-/mx"), draw.random(), draw.random()) for _ in range(12)]

        def run(leaves: list[Any], maximum: Any) -> Any:
            does = {
                "+": lambda a, b: a + b,
                "*": lambda a, b: a * b * 0.5,
                "-": lambda a, b: a - b,
                "/": lambda a, b: a / (b * b + 1),
                "m": maximum,
                "x": lambda a, b: (a * b).tanh(),
            }
            pool = list(leaves)
            for op, i, k in plan:  # noqa: B023
                pool.append(does[op](pool[int(i * len(pool))], pool[int(k * len(pool))]))
            return sum(pool).sum()

        values = [Value(k) for k in kinds]
        tensors = [torch.tensor(k, dtype=torch.float64, requires_grad=True) for k in kinds]
        run(values, tapegrad.maximum).backward()
        run(tensors, torch.maximum).backward()
        for v, t in zip(values, tensors, strict=True):
            grad = np.zeros(v.shape) if t.grad is None else t.grad.numpy()
            np.testing.assert_allclose(v.grad, grad, rtol=1e-10, atol=1e-11)


# ---- layers


def outputs(result: Any) -> list[Any]:
    return result if isinstance(result, list) else [result]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("samples", [1, 2, 3, 50])
def test_layers_over_lanes(make: Callable[[], Any], samples: int) -> None:
    X = np.random.default_rng(3).normal(size=(samples, 2))
    random.seed(11)
    model = make()
    want_out, want_grad = [], np.zeros(len(model.parameters()))
    for row in X:
        out = outputs(model([float(row[0]), float(row[1])]))
        want_out.append([o.data for o in out])
        for p in model.parameters():
            p.grad = 0.0
        sum(o * o for o in out).backward()
        want_grad += [p.grad for p in model.parameters()]
    columns = [X[:, 0], X[:, 1]]
    for given in (X, X.tolist() and np.asfortranarray(X), columns, tuple(columns), [Value(c) for c in columns],
                  Value(X), [Value(columns[0]), columns[1]]):  # fmt: skip
        for p in model.parameters():
            p.grad = 0.0
        out = outputs(model(given))
        assert all(type(o).__name__ == "Value" and o.shape == (samples,) for o in out)
        np.testing.assert_allclose(np.column_stack([o.data for o in out]), want_out, rtol=1e-12)
        sum((o * o).sum() for o in out).backward()
        np.testing.assert_allclose([p.grad for p in model.parameters()], want_grad, rtol=1e-10, atol=1e-12)


def test_a_number_among_lane_features() -> None:
    random.seed(2)
    neuron = Neuron(3)
    x = np.array([0.1, -0.2, 0.5])
    free = Value(0.3)
    out = neuron([x, 2.0, free])
    want = [neuron([float(n), 2.0, 0.3]).data for n in x]
    np.testing.assert_allclose(out.data, want, rtol=1e-14)
    out.backward()
    assert free.grad == pytest.approx(sum((1 - t * t) * neuron.w[2].data for t in want), rel=1e-12)
    matrix = np.ones((3, 1)) * x
    np.testing.assert_allclose(neuron([x, matrix, 1.0]).data, np.tanh(
        neuron.w[0].data * x + neuron.w[1].data * matrix + neuron.w[2].data + neuron.b.data), rtol=1e-12)  # fmt: skip


def test_weights_may_be_arrays() -> None:
    random.seed(2)
    neuron = Neuron(2)
    neuron.w[0] = Value([0.5, -0.5])
    out = neuron([np.array([1.0, 2.0]), 1.0])
    want = np.tanh(np.array([0.5, -1.0]) + neuron.w[1].data + neuron.b.data)
    np.testing.assert_allclose(out.data, want, rtol=1e-13)
    out.backward()
    np.testing.assert_allclose(neuron.w[0].grad, (1 - want**2) * [1.0, 2.0], rtol=1e-12)


@pytest.mark.parametrize("module", [nn, micrograd_nn])
def test_matrices_that_do_not_fit(module: Any) -> None:
    model = module.MLP(2, [3, 1])
    for bad in (np.ones((4, 3)), np.ones((4, 1)), Value(np.ones((4, 3))), Value(np.ones(3))):
        with pytest.raises(ValueError, match=r"input of a layer with 2 inputs has shape .*\(samples, 2\)"):
            model(bad)
    for lanes in ([np.ones(3), np.ones(4)], [Value([1.0, 2.0]), np.ones(3)]):
        with pytest.raises(ValueError, match=r"shapes \(\d,\) and \(\d,\) do not broadcast"):
            model(lanes)
    with pytest.raises(TypeError):
        model([np.array(["a"]), 1.0])


def test_layers_of_callables_take_matrices() -> None:
    layer = Layer(2, 1)
    layer.neurons = [lambda x: x[0] * 2 + x[1], lambda x: x[1] - x[0]]
    a, b = layer(np.array([[1.0, 2.0], [3.0, 5.0]]))
    assert (np.asarray(a).tolist(), np.asarray(b).tolist()) == ([4.0, 11.0], [1.0, 2.0])


def test_a_loss_written_for_scalars() -> None:
    random.seed(1)
    model = micrograd_nn.MLP(2, [4, 1])
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.random.default_rng(1).choice([-1.0, 1.0], 20)

    def loss(scores: list[Any], labels: Any) -> Any:
        losses = [(1 + -yi * score).relu() for yi, score in zip(labels, scores)]  # noqa: B905
        return sum(losses)

    rows = loss([model(list(map(float, row))) for row in X], y)
    rows.backward()
    want = [p.grad for p in model.parameters()]
    model.zero_grad()
    lanes = (1 + -y * model(X)).relu().sum()
    lanes.backward()
    assert lanes.data == pytest.approx(rows.data, rel=1e-12)
    assert [p.grad for p in model.parameters()] == pytest.approx(want, rel=1e-10)
    model.zero_grad()
    loss(list(model(X)), y).backward()  # the scores taken out one by one
    assert [p.grad for p in model.parameters()] == pytest.approx(want, rel=1e-10)


# ---- memory, lifetimes, threads


def test_memory_is_flat_over_2000_steps() -> None:
    gc.collect()
    before = tapegrad.live_nodes()
    random.seed(3)
    model, X = MLP(2, [4, 1]), np.random.default_rng(0).normal(size=(64, 2))
    held = []
    for step in range(2000):
        loss = ((model(X) - 0.5) ** 2).mean()
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.01 * p.grad
        del loss
        if step in (10, 1999):
            held.append((tapegrad.live_nodes(), _core.array_bytes(), _core.reserved_bytes()))
    assert held[0] == held[1]
    assert held[0][0] - before == len(model.parameters())


def test_arrays_go_with_their_node() -> None:
    gc.collect()
    before = _core.array_bytes()
    x = Value(np.zeros(10_000))
    one = _core.array_bytes() - before
    assert 80_000 <= one <= 81_000
    y = (x * 2.0).tanh() * x
    assert _core.array_bytes() - before == 4 * one
    y.backward()
    assert _core.array_bytes() - before == 8 * one
    look = y.grad
    del y
    assert _core.array_bytes() - before == 3 * one  # x, its gradient, and the gradient that is looked at
    del look
    x.grad = 0.0
    assert _core.array_bytes() - before == one
    del x
    assert _core.array_bytes() == before


def test_a_million_nodes_over_lanes() -> None:
    x, w = Value([1.0, 2.0]), Value(1.0)
    s = x
    for _ in range(100_000):
        s = s + w
    s.backward()
    assert w.grad == 200_000.0
    assert x.grad.tolist() == [1.0, 1.0]
    del s
    assert x.data.tolist() == [1.0, 2.0]


def test_threads_with_graphs_of_their_own_and_a_shared_parameter() -> None:
    n, rounds = 200_000, 6
    X = np.linspace(0, 1, n)
    shared = Value(2.0)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(rounds):
                x = Value(X)
                y = ((x * shared).tanh() * x).sum()
                y.backward()
                t = np.tanh(2 * X)
                assert abs(y.data - (t * X).sum()) < 1e-6
                np.testing.assert_allclose(x.grad, t + 2 * X * (1 - t * t), rtol=1e-9, atol=1e-9)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    expected = 3 * rounds * (X * X * (1 - np.tanh(2 * X) ** 2)).sum()
    assert shared.grad == pytest.approx(expected, rel=1e-9)


def test_large_kernels_let_other_threads_run() -> None:
    x = Value(np.linspace(0.1, 3, 4_000_000))
    seen: list[int] = []
    stop = threading.Event()

    def count() -> None:
        n = 0
        while not stop.is_set():
            n += 1
        seen.append(n)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        y = x
        for _ in range(4):
            y = y.tanh().exp()
        y.backward()
    finally:
        stop.set()
        counter.join()
    assert seen[0] > 0
    assert np.isfinite(x.grad).all()


# ---- rules of one's own


def test_custom_operations_over_lanes() -> None:
    x = Value([0.5, 1.0])
    t = np.sin(x.data)
    out = Value(t, (x,), "sine")

    def rule() -> None:
        x.grad += np.cos(x.data) * out.grad

    out._backward = rule
    (out * 2.0).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * np.cos(x.data))
    assert (out * 1)._children[0]._op == "sine"
    x.grad = 0.0
    local = Value(np.sin(x.data), (x,), (np.cos(x.data),))
    (local * 2.0).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * np.cos(x.data))
    w = Value(3.0)
    spread = Value(x.data * 3.0, (w, x), (x.data, 3.0))  # the number's gradient is summed
    spread.backward([1.0, 10.0])
    assert w.grad == 0.5 + 10.0
    with pytest.raises(ValueError, match="local gradients do not broadcast"):
        Value([1.0, 2.0], (x,), ([1.0, 2.0, 3.0],))


def test_a_rule_applied_by_hand() -> None:
    a, b = Value([1.0, 2.0]), Value([3.0, 4.0])
    c = a * b
    c.grad = [1.0, 1.0]
    c._backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([3.0, 4.0], [1.0, 2.0])
    c._backward()
    assert a.grad.tolist() == [6.0, 8.0]


def test_subclasses_and_assigned_operators() -> None:
    class Tagged(Value):
        pass

    v = Tagged([1.0, 2.0])
    assert type(v + 1) is Value
    assert len(v) == 2
    assert [x.data for x in v] == [1.0, 2.0]

    class Loud(Value):
        def __add__(self, other: Any) -> Any:
            return "loud"

    assert Loud([1.0]) + 1 == "loud"


def test_compiled_functions_refuse_arrays() -> None:
    w = Value([1.0, 2.0])
    f = tapegrad.compile(lambda x: (x * w).sum())
    with pytest.raises((ValueError, TypeError), match="holds an array cannot be part of a compiled function"):
        f(2.0)
    g = tapegrad.compile(lambda x: x * x)
    assert g(3.0) == 9.0
