"""Dot products and layers in compiled functions: whatever is found, over lanes and one by one, the numbers are eager's;
planted networks are found however they are written, and what only looks like one is left alone."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

import tapegrad
from tapegrad import MLP, Value

ACTIVATIONS = ("relu", "tanh", "sigmoid", "softplus", "")


def eager(function: Any, rows: list[list[float]], parameters: list[Value]) -> tuple[list[float], list[float], Any]:
    """Values, gradients by the parameters (their sum) and by the inputs, row by row."""
    values, by_input = [], []
    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = 0.0
    for row in rows:
        inputs = [Value(x) for x in row]
        out = function(inputs)
        out.backward()
        values.append(out.data)
        by_input.append([v.grad for v in inputs])
    sums = [p.grad for p in parameters]
    for p, grad in zip(parameters, before, strict=True):
        p.grad = grad
    return values, sums, by_input


def check(function: Any, width: int, parameters: list[Value], lanes: int = 11, seed: int = 0, **options: Any) -> Any:
    """Compares compiled code, lane by lane and all lanes at once, with eager code; returns the compiled function."""
    generator = random.Random(seed)
    rows = [[generator.uniform(-1, 1) for _ in range(width)] for _ in range(lanes)]
    values, sums, by_input = eager(function, rows, parameters)
    compiled = tapegrad.compile(function, **options)
    mapped = tapegrad.vmap(compiled)
    X = np.array(rows)
    np.testing.assert_allclose(mapped(X), values, rtol=1e-12, atol=1e-12)
    got, gradient = mapped.value_and_grad(X)
    np.testing.assert_allclose(got, values, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient, by_input, rtol=1e-11, atol=1e-11)
    for p in parameters:
        p.grad = 0.0
    total = mapped.backward(X, reduce="sum")
    assert math.isclose(total, sum(values), rel_tol=1e-11, abs_tol=1e-11)
    np.testing.assert_allclose([p.grad for p in parameters], sums, rtol=1e-11, atol=1e-11)
    assert compiled(rows[0]) == values[0] or options.get("fastmath")
    return compiled


class Parameters:
    """Hands out new parameters, or now and then one used before."""

    def __init__(self, seed: int, reuse: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.reuse = reuse
        self.all: list[Value] = []

    def __call__(self) -> Value:
        if self.all and self.random.random() < self.reuse:
            return self.random.choice(self.all)
        self.all.append(Value(self.random.uniform(-1, 1)))
        return self.all[-1]


# ---- every way to write a neuron: (weights, inputs, bias) -> Value


def bias_first(w: list[Value], x: list[Any], b: Value) -> Any:
    return sum((wi * xi for wi, xi in zip(w, x, strict=True)), b)


def bias_last(w: list[Value], x: list[Any], b: Value) -> Any:
    return sum(xi * wi for wi, xi in zip(w, x, strict=True)) + b


def bias_on_the_right(w: list[Value], x: list[Any], b: Value) -> Any:
    return b + sum([wi * xi for wi, xi in zip(w, x, strict=True)])


def no_bias(w: list[Value], x: list[Any], b: Value) -> Any:
    return sum(wi * xi for wi, xi in zip(w, x, strict=True))


def accumulated(w: list[Value], x: list[Any], b: Value) -> Any:
    total = b * 1.0
    for i in range(len(w)):
        total += x[i] * w[i] if i % 2 else w[i] * x[i]
    return total


def from_the_end(w: list[Value], x: list[Any], b: Value) -> Any:
    total = b
    for wi, xi in reversed(list(zip(w, x, strict=True))):
        total = wi * xi + total
    return total


def shuffled(w: list[Value], x: list[Any], b: Value) -> Any:
    pairs = list(zip(w, x, strict=True))
    random.Random(len(w)).shuffle(pairs)
    return bias_first([w for w, _ in pairs], [x for _, x in pairs], b)


NEURONS = (bias_first, bias_last, bias_on_the_right, no_bias, accumulated, from_the_end, shuffled)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("activation", ["relu", "tanh", ""])
def test_each_way_to_write_a_neuron(neuron: Any, activation: str) -> None:
    new = Parameters(3)
    weights = [[new() for _ in range(5)] for _ in range(6)]
    biases = [new() for _ in range(6)]
    last = [new() for _ in range(7)]

    def network(x: Any) -> Any:
        hidden = [neuron(w, list(x), b) for w, b in zip(weights, biases, strict=True)]
        if activation:
            hidden = [getattr(h, activation)() for h in hidden]
        return neuron(last[:6], hidden, last[6])

    assert check(network, 5, new.all).program.found == ["7 dot products in 2 layers"]


@pytest.mark.parametrize(
    "shape", [(1, [1]), (1, [4, 1]), (2, [3, 1]), (3, [16, 16, 1]), (9, [5, 1]), (64, [50, 10, 1])]
)
@pytest.mark.parametrize("lanes", [1, 7, 8, 100])
def test_networks_of_our_own(shape: tuple[int, list[int]], lanes: int) -> None:
    random.seed(4)
    net = MLP(*shape)
    check(lambda x: net(list(x)), shape[0], net.parameters(), lanes)


def test_lanes_of_all_sizes() -> None:
    random.seed(5)
    net = MLP(3, [5, 2, 1])
    for lanes in (*range(1, 40), 63, 64, 65, 1023, 1024, 1025, 3000):
        check(lambda x: net(list(x)), 3, net.parameters(), lanes)


def test_found_in_words() -> None:
    random.seed(6)
    net = MLP(2, [16, 16, 1])
    f = tapegrad.compile(lambda x: net(list(x)))
    f([0.1, 0.2])
    assert f.program.found == ["33 dot products in 3 layers"]
    assert "found: 33 dot products in 3 layers\n" in str(f.program)
    net = MLP(4, [3, 2])
    f = tapegrad.compile(lambda x: [y * 1.0 for y in net(list(x))])
    f([0.1, 0.2, 0.3, 0.4])
    assert f.program.found == ["5 dot products in 2 layers"]
    w = [Value(0.5), Value(0.25)]
    f = tapegrad.compile(lambda x, y: w[0] * x + w[1] * y)
    f(1.0, 2.0)
    assert f.program.found == ["1 dot product"]
    f = tapegrad.compile(lambda x, y: (p := w[0] * x) * (p + w[1] * y))  # one of its products is used again
    f(1.0, 2.0)
    assert f.program.found == []
    f = tapegrad.compile(lambda x, y: x * y + x)
    f(1.0, 2.0)
    assert f.program.found == []


def test_can_be_left_out() -> None:
    random.seed(7)
    net = MLP(3, [8, 4, 1])
    f = check(lambda x: net(list(x)), 3, net.parameters(), disable=("layers",))
    assert f.program.found == []
    for name in tapegrad.compiled.PASSES:
        check(lambda x: net(list(x)), 3, net.parameters(), disable=(name,))
    check(lambda x: net(list(x)), 3, net.parameters(), disable=tapegrad.compiled.PASSES)
    check(lambda x: net(list(x)), 3, net.parameters(), fastmath=True)


def test_results_do_not_depend_on_threads() -> None:
    random.seed(8)
    net = MLP(6, [20, 9, 1])
    X = np.random.default_rng(0).uniform(-1, 1, (20_000, 6))
    f = tapegrad.compile(lambda x: net(list(x)))
    seen = []
    for threads in (1, 2, 5):
        mapped = tapegrad.vmap(f, threads=threads)
        for p in net.parameters():
            p.grad = 0.0
        loss = mapped.backward(X)
        seen.append((loss, [p.grad for p in net.parameters()], mapped(X).tolist()))
    assert seen[0] == seen[1] == seen[2]


# ---- what gets in the way


def layer(new: Parameters, x: list[Any], rows: int) -> list[Any]:
    return [bias_first([new() for _ in x], x, new()) for _ in range(rows)]


def planted(plan: Any) -> tuple[Any, list[Value]]:
    """A function of the inputs from `plan(new, inputs)`, which draws the same parameters at each call."""
    first = Parameters(9)
    plan(first, [Value(0.5)] * 4)
    parameters = first.all

    def function(x: Any) -> Any:
        rest = iter(parameters)
        return plan(lambda: next(rest), list(x))

    return function, parameters


def near_misses() -> dict[str, Any]:
    def an_input_used_outside(new: Any, x: list[Any]) -> Any:
        h = layer(new, x, 3)
        return sum((h[i].tanh() * x[i] for i in range(3)), x[3] * x[0])

    def an_input_used_between_the_neurons(new: Any, x: list[Any]) -> Any:
        out = []
        for i in range(4):
            out.append(bias_first([new() for _ in x], x, new()).relu())
            out.append((x[i] * out[-1]).sin())
        return sum(out)

    def a_neuron_that_reads_its_neighbour(new: Any, x: list[Any]) -> Any:
        first = bias_first([new() for _ in x], x, new())
        second = bias_first([new() for _ in x], x, first)  # the bias is another neuron
        third = bias_first([new() for _ in x], [*x[:3], second], new())
        return first.tanh() + second.relu() * third

    def residuals(new: Any, x: list[Any]) -> Any:
        h = [a + b for a, b in zip(x, layer(new, x, 4), strict=True)]
        h = [a + b for a, b in zip(h, [v.relu() for v in layer(new, h, 4)], strict=True)]
        h = [b + a for a, b in zip(h, layer(new, h, 4), strict=True)]
        return bias_first([new() for _ in h], h, new())

    def inputs_in_another_order(new: Any, x: list[Any]) -> Any:
        total = 0.0
        for i in range(4):
            total = total + bias_first([new() for _ in x], x[i:] + x[:i], new()).tanh()
        return total

    def one_input_less(new: Any, x: list[Any]) -> Any:
        h = [bias_first([new() for _ in x[: 4 - i % 2]], x[: 4 - i % 2], new()) for i in range(5)]
        return sum(v.relu() for v in h)

    def an_input_twice(new: Any, x: list[Any]) -> Any:
        h = [bias_first([new() for _ in range(5)], [*x, x[i % 4]], new()) for i in range(4)]
        return sum(v.tanh() for v in h)

    def one_weight_for_all(new: Any, x: list[Any]) -> Any:
        w = new()
        h = [bias_first([w] * 4, x, new()) for _ in range(2)]
        h += [bias_first([w, new(), w, new()], x, w) for _ in range(3)]
        return bias_first([w] * 5, [v.relu() for v in h], w)

    def a_weight_used_outside(new: Any, x: list[Any]) -> Any:
        w = [[new() for _ in x] for _ in range(3)]
        h = [bias_first(row, x, row[0]) for row in w]
        return sum(v.tanh() for v in h) + sum(wi * wi for row in w for wi in row) * 0.1 + w[0][0] * x[0]

    def fixed_weights(new: Any, x: list[Any]) -> Any:
        h = [bias_first([0.5, new(), -0.25, new()], x, Value(0.125)) for _ in range(3)]  # type: ignore[list-item]
        return sum((0.5 * v.relu() for v in h), new()) + 0.25 * x[0] + 0.5 * x[1] + 2.0

    def activations_used_again(new: Any, x: list[Any]) -> Any:
        pre = layer(new, x, 4)
        h = [v.relu() for v in pre]
        return bias_first([new() for _ in h], h, new()).tanh() * h[0] + pre[1] * h[2] + pre[3]

    def some_rows_activated(new: Any, x: list[Any]) -> Any:
        pre = layer(new, x, 5)
        h = [getattr(v, ACTIVATIONS[i])() if ACTIVATIONS[i] else v for i, v in enumerate(pre)]
        return bias_first([new() for _ in h], h, new())

    def activated_twice(new: Any, x: list[Any]) -> Any:
        h = [v.relu().relu().tanh() for v in layer(new, x, 4)]
        return bias_first([new() for _ in h], h, new()).relu()

    def rows_without_a_use(new: Any, x: list[Any]) -> Any:
        return layer(new, x, 4)[2].tanh()

    def rows_with_one_gradient(new: Any, x: list[Any]) -> Any:
        h = layer(new, x, 4)
        return h[0] + h[1] + (h[2] + h[3])

    def products_of_inputs(new: Any, x: list[Any]) -> Any:
        return sum((a * b for a, b in itertools.pairwise(x)), new() * x[0]) + sum(v * v for v in layer(new, x, 3))

    def a_product_used_twice(new: Any, x: list[Any]) -> Any:
        products = [new() * v for v in x]
        return sum(products, new()).tanh() + products[1] * products[2]

    def two_matrices_of_one_input(new: Any, x: list[Any]) -> Any:
        a, b = layer(new, x, 3), layer(new, x, 2)
        return sum((p * q for p, q in zip(a, [*b, b[0]], strict=True)), new())

    def a_recurrence(new: Any, x: list[Any]) -> Any:
        w = [[new() for _ in range(3)] for _ in range(2)]
        h = [Value(0.0), Value(0.0)]
        for v in x:
            h = [bias_first(row[:2], h, row[2] * v).tanh() for row in w]
        return h[0] * h[1]

    def detached_inputs(new: Any, x: list[Any]) -> Any:
        h = [v.tanh() for v in layer(new, x, 3)]
        largest = max(v.data for v in h)
        return sum((v - largest).exp() for v in layer(new, h, 3))

    return {name: plan for name, plan in locals().items() if callable(plan)}


@pytest.mark.parametrize("name", near_misses())
@pytest.mark.parametrize("lanes", [1, 5, 8, 21])
def test_near_misses(name: str, lanes: int) -> None:
    function, parameters = planted(near_misses()[name])
    check(function, 4, parameters, lanes)
    check(function, 4, parameters, lanes, fastmath=True)


def random_network(seed: int) -> tuple[Any, int, list[Value]]:
    """Layers and other operations put together at random, over values that may come from anywhere before."""
    plan = random.Random(seed)
    width = plan.randint(1, 5)
    parameters = Parameters(seed, reuse=plan.choice([0.0, 0.0, 0.2]))
    steps: list[tuple[Any, ...]] = []
    count = width
    for _ in range(plan.randint(2, 7)):
        if plan.random() < 0.7:
            sources = [plan.randrange(count) for _ in range(plan.randint(1, 6))]
            if plan.random() < 0.8:
                sources = sorted(set(sources))
            rows = []
            for _ in range(plan.randint(1, 6)):
                order = list(sources)
                if plan.random() < 0.2:
                    plan.shuffle(order)
                if plan.random() < 0.1:
                    order = order[1:] or order
                weights = [0.5 if plan.random() < 0.05 else parameters() for _ in order]
                bias = parameters() if plan.random() < 0.8 else plan.randrange(count)
                rows.append((plan.choice(NEURONS), weights, order, bias, plan.choice(ACTIVATIONS)))
            if plan.random() < 0.6:
                rows = [(*row[:4], rows[0][4]) for row in rows]
            steps.append(("layer", plan.random() < 0.5, rows))
            count += len(rows)
        else:
            steps.append((plan.choice(["mul", "add", "sub", "tanh"]), plan.randrange(count), plan.randrange(count)))
            count += 1
    sinks = [plan.randrange(count) for _ in range(3)] + [count - 1]

    def function(x: Any) -> Any:
        values: list[Any] = list(x)
        for kind, *rest in steps:
            if kind == "layer":
                together, rows = rest
                sums = []
                for neuron, weights, order, bias, activation in rows:
                    b = bias if isinstance(bias, Value) else values[bias]
                    sums.append(neuron(weights, [values[i] for i in order], b))
                    if not together and activation:
                        sums[-1] = getattr(sums[-1], activation)()
                if together:
                    sums = [getattr(v, row[4])() if row[4] else v for v, row in zip(sums, rows, strict=True)]
                values += sums
            elif kind == "tanh":
                values.append(values[rest[0]].tanh())
            else:
                a, b = values[rest[0]], values[rest[1]]
                values.append(a * b * 0.5 if kind == "mul" else a + b if kind == "add" else a - b)
        return sum(values[i].tanh() for i in sinks)

    return function, width, parameters.all


@pytest.mark.parametrize("seed", range(120))
def test_random_networks(seed: int) -> None:
    function, width, parameters = random_network(seed)
    check(function, width, parameters, lanes=1 + seed % 19, seed=seed, fastmath=seed % 3 == 0)


def test_random_networks_hold_layers() -> None:
    found = 0
    for seed in range(120):
        function, width, _ = random_network(seed)
        f = tapegrad.compile(function)
        f([0.1] * width)
        found += "layer" in "".join(f.program.found)
    assert found > 60


def test_nan_and_infinity_go_through() -> None:
    random.seed(10)
    net = MLP(3, [4, 4, 1])
    for row in net.layers:
        for neuron in row.neurons:
            neuron.nonlin = False

    def function(x: Any) -> Any:
        h = list(x)
        for row in net.layers:
            h = [bias_first(n.w, h, n.b).relu() for n in row.neurons]
        return h[0]

    X = np.zeros((13, 3))
    X[3, 1], X[7, 0], X[12, 2] = math.inf, math.nan, -math.inf
    mapped = tapegrad.vmap(tapegrad.compile(function))
    plain = tapegrad.vmap(tapegrad.compile(function, disable=("layers",)))
    np.testing.assert_array_equal(np.isnan(mapped(X)), np.isnan(plain(X)))
    np.testing.assert_array_equal(np.isinf(mapped(X)), np.isinf(plain(X)))
    assert np.isfinite(np.delete(mapped(X), [3, 7, 12])).all()
    grads = []
    for way in (mapped, plain):
        for p in net.parameters():
            p.grad = 0.0
        way.backward(X)
        grads.append([p.grad for p in net.parameters()])
    np.testing.assert_array_equal(np.isnan(grads[0]), np.isnan(grads[1]))
    # Lanes without such numbers are not touched by those with them, not even by copies past the last lane.
    for p in net.parameters():
        p.grad = 0.0
    mapped.backward(X[[0, 1, 2]])
    assert all(math.isfinite(p.grad) for p in net.parameters())


# ---- calls with arrays like those of the last call


def test_calls_again_with_other_arrays() -> None:
    w, b = [Value(0.5), Value(-0.25)], Value(0.125)
    f = tapegrad.compile(lambda x, y: (bias_first(w, list(x), b) - y).tanh())
    mapped = tapegrad.vmap(f)
    generator = np.random.default_rng(1)

    def expected(X: Any, Y: Any, scale: float) -> tuple[float, list[float]]:
        for p in (*w, b):
            p.grad = 0.0
        total = sum((((bias_first(w, list(x), b) - y).tanh()) * scale for x, y in zip(X, Y, strict=True)), Value(0.0))
        total.backward()
        return total.data, [p.grad for p in (*w, b)]

    def numbers(*shape: int) -> Any:
        return generator.uniform(-1, 1, shape)

    calls = 0
    for X, Y in [
        (numbers(5, 2), numbers(5)),
        (numbers(5, 2), numbers(5)),
        (numbers(9, 2), numbers(9)),  # more lanes
        (numbers(18, 2)[::2], numbers(9)),  # not in a row
        (np.asfortranarray(numbers(9, 2)), numbers(9)[::-1]),
        (numbers(9, 2).astype(np.float32), numbers(9)),
        (numbers(9, 2).astype(">f8"), numbers(9)),
        (numbers(9, 2).tolist(), numbers(9)),
        (numbers(9, 2).view(np.matrix), numbers(9)),
        (numbers(9, 2), numbers(9)),
    ]:
        if isinstance(X, np.matrix):
            X = X.A
        for reduce in ("mean", "sum"):
            w[0].data += 0.125  # read at each call
            value, gradients = expected(np.asarray(X), np.asarray(Y), 1 / len(X) if reduce == "mean" else 1.0)
            for p in (*w, b):
                p.grad = 0.0
            calls += 1
            assert math.isclose(mapped.backward(X, Y, reduce=reduce), value, rel_tol=1e-12, abs_tol=1e-12)
            np.testing.assert_allclose([p.grad for p in (*w, b)], gradients, rtol=1e-11, atol=1e-11)
    assert sum(entry.calls for entry in f.cache_info()) == calls
    assert len(f.cache_info()) == 1


def test_what_the_quick_way_leaves_to_the_slow_one() -> None:
    w = [Value(0.5), Value(-0.25)]
    scale = [2.0]

    def function(x: Any, y: Any) -> Any:
        return (no_bias(w, list(x), w[0]) * scale[0] - y).tanh()

    f = tapegrad.compile(function)
    mapped = tapegrad.vmap(f)
    X, y = np.ones((4, 2)), np.zeros(4)
    first = mapped.backward(X, y)
    assert mapped.backward(X, y) == first
    with pytest.raises(ValueError, match="differ in their number of lanes"):
        mapped.backward(X, np.zeros(5))
    with pytest.raises(ValueError, match="no lanes"):
        mapped.backward(X[:0], y[:0])
    with pytest.raises(ValueError, match="reduce"):
        mapped.backward(X, y, reduce="max")
    with pytest.raises(TypeError):
        mapped.backward(X)
    with pytest.raises(TypeError):
        mapped.backward(X.astype(complex), y)
    with pytest.raises(TypeError):
        mapped.backward([Value(1.0)], y)
    outer = tapegrad.compile(lambda a: mapped.backward(X, y) * a)
    with pytest.raises(TypeError, match="inside a compiled function"):
        outer(1.0)
    scale[0] = 3.0  # the function is another one now
    assert mapped.backward(X, y) == pytest.approx(math.tanh(0.75))
    assert [entry.calls for entry in f.cache_info()] == [1, 2]
    f.cache_clear()
    assert f.cache_info() == []
    assert mapped.backward(X, y) == pytest.approx(math.tanh(0.75))
    assert [entry.calls for entry in f.cache_info()] == [1]
    assert f.program.parameters[0] is w[0]


def test_guards_on_the_quick_way() -> None:
    w = Value(0.5)

    def function(x: Any) -> Any:
        return w * x if w.data > 0 else w * x * x

    mapped = tapegrad.vmap(tapegrad.compile(function))
    X = np.array([1.0, 2.0, 3.0])
    assert mapped.backward(X) == mapped.backward(X) == 1.0
    w.data = -0.5
    assert mapped.backward(X) == pytest.approx(-0.5 * 14 / 3)

    def branch(x: Any) -> Any:
        return w * x if x > 0 else -w * x

    mapped = tapegrad.vmap(tapegrad.compile(branch))
    assert mapped.backward(X) == mapped.backward(X) == -1.0
    assert mapped.backward(-X) == -1.0
    with pytest.raises(ValueError, match="different courses"):
        mapped.backward(np.array([1.0, -1.0]))
