"""Neuron, Layer and MLP build the lectures' graph, node for node and bit for bit, in one call into C++."""

import copy
import gc
import pickle
import random

import numpy as np
import pytest

from tapegrad import Value, live_nodes, nn
from tapegrad.micrograd.engine import Value as MicrogradValue
from tapegrad.nn import MLP, Layer, Neuron


def plain_neuron(neuron, x):
    """The lectures' expression."""
    return sum((wi * xi for wi, xi in zip(neuron.w, x, strict=False)), neuron.b).tanh()


def plain_layer(layer, x):
    outs = [plain_neuron(neuron, x) for neuron in layer.neurons]
    return outs[0] if len(outs) == 1 else outs


def plain_mlp(model, x):
    for layer in model.layers:
        x = plain_layer(layer, x)
    return x


def bits(number):
    return type(number).__name__, number.hex() if isinstance(number, float) else number


def graph(*roots):
    """Every node below the roots in a fixed order: type, operation, data and grad to the bit, operands by their place.

    Two graphs are the same if and only if these lists are equal; a shared node has one place.
    """
    place, rows, stack = {}, [], list(reversed(roots))
    while stack:
        node = stack[-1]
        if node in place:
            stack.pop()
            continue
        children = node._children
        missing = [child for child in children if child not in place]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        assert node._prev == set(children)
        place[node] = len(rows)
        rows.append((type(node), node._op, bits(node.data), bits(node.grad), [place[child] for child in children]))
    return rows


def model_and_twin(*sizes, seed=1):
    """A network, and another one with the same weights."""
    random.seed(seed)
    model = MLP(sizes[0], list(sizes[1:]))
    random.seed(seed)
    return model, MLP(sizes[0], list(sizes[1:]))


class Spy:
    """Stands in front of a function and keeps what it returned."""

    def __init__(self, function):
        self.function = function
        self.results = []

    def __call__(self, *arguments):
        self.results.append(self.function(*arguments))
        return self.results[-1]


@pytest.fixture
def core_calls(monkeypatch):
    """Results of the calls into C++, layers and single neurons in one list; None is a call that C++ left to Python."""
    spies = Spy(nn._core_layer), Spy(nn._core_neuron)
    monkeypatch.setattr(nn, "_core_layer", spies[0])
    monkeypatch.setattr(nn, "_core_neuron", spies[1])
    spies[1].results = spies[0].results
    return spies[0].results


INPUTS = {
    "floats": lambda: [2.0, 3.0, -1.0],
    "ints": lambda: [2, 3, -1],
    "tuple": lambda: (0.5, -0.0, 1e-300),
    "mixed": lambda: [Value(2), 3, Value(-1.5)],
    "the same Value thrice": lambda: [Value(0.25)] * 3,
    "too long": lambda: [1.0, 2.0, 3.0, 4.0],
    "too short": lambda: [1.0],
    "empty": lambda: [],
    "range": lambda: range(3),
    "array": lambda: np.array([0.1, 0.2, 0.3]),
    "array of Values": lambda: np.array([Value(1.0), Value(2.0), Value(3.0)], dtype=object),
    "another dialect": lambda: [MicrogradValue(1.5), 2, Value(-0.5)],
    "not finite": lambda: [float("inf"), float("nan"), 1.0],
}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("sizes", [(3, 1), (3, 4), (3, 4, 4, 1), (3, 2, 1, 2)], ids=str)
def test_graph_is_that_of_the_plain_expression(core_calls, sizes, inputs):
    model, twin = model_and_twin(*sizes)
    x, before = inputs(), live_nodes()
    outs = model(x)
    made = live_nodes() - before
    assert len(core_calls) == len(sizes) - 1
    assert None not in core_calls

    y, before = inputs(), live_nodes()
    expected = []
    for layer in twin.layers:  # a layer of one neuron gives a bare Value, which the next one reads as a list of one
        expected = plain_layer(layer, y if not expected else expected if isinstance(expected, list) else [expected])
    assert made == live_nodes() - before

    outs, expected = ([out] if isinstance(out, Value) else out for out in (outs, expected))
    assert graph(*outs) == graph(*expected)
    sum(outs).backward()
    sum(expected).backward()
    assert graph(*outs) == graph(*expected)
    assert [bits(p.grad) for p in model.parameters()] == [bits(p.grad) for p in twin.parameters()]


def test_neuron_is_the_plain_expression(core_calls):
    random.seed(3)
    neuron = Neuron(5)
    x = [0.1, Value(-0.7), 2, 0.0, Value(5)]
    ours = graph(neuron(x))
    assert ours == graph(plain_neuron(neuron, x))
    assert len(core_calls) == 1
    assert core_calls != [None]
    assert [op for _, op, *_ in ours].count("tanh") == 1


def test_operands_are_the_very_objects_of_the_program():
    neuron, x = Neuron(2), [Value(1.0), Value(2.0)]
    last_sum = neuron(x)._children[0]
    first_sum, product = last_sum._children
    assert product._children[0] is neuron.w[1]
    assert product._children[1] is x[1]
    assert first_sum._children[0] is neuron.b


def test_hundred_training_steps_leave_only_the_parameters_alive():
    gc.collect()
    before = live_nodes()
    model, twin = model_and_twin(3, 4, 4, 1)
    xs = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
    ys = [1.0, -1.0, -1.0, 1.0]
    losses = []
    for network, forward in ((model, MLP.__call__), (twin, plain_mlp)):
        history = []
        for _ in range(100):
            loss = sum((forward(network, x) - y) ** 2 for x, y in zip(xs, ys, strict=True))
            network.zero_grad()
            loss.backward()
            for p in network.parameters():
                p.data -= 0.05 * p.grad
            history.append(loss.data.hex())
            del loss
            del p
            assert live_nodes() - before == 2 * 41
        losses.append(history)
    assert losses[0] == losses[1]
    assert float.fromhex(losses[0][-1]) < float.fromhex(losses[0][0]) / 10
    del network
    del model
    assert live_nodes() - before == 41
    del twin
    assert live_nodes() == before


def test_replaced_weights_are_used():
    model, twin = model_and_twin(2, 3, 1)
    for network in (model, twin):
        shared = Value(0.125)
        network.layers[0].neurons[0].w[1] = shared
        network.layers[0].neurons[2].b = shared
        network.layers[1].neurons[0].w = [shared, Value(2), shared * 2]
    x = [0.5, -0.25]
    assert graph(model(x)) == graph(plain_mlp(twin, x))
    assert model.parameters()[1] is model.parameters()[8]


def test_weights_that_are_plain_numbers_are_used():
    neuron = Neuron(2)
    neuron.w = [3.0, Value(2.0)]
    assert graph(neuron([Value(1.0), 0.5])) == graph(plain_neuron(neuron, [Value(1.0), 0.5]))
    layer = Layer(2, 2)
    layer.neurons[1] = neuron
    assert layer([Value(1.0), 0.5])[1].data == neuron([1.0, 0.5]).data


def test_weights_with_attributes_are_used():
    neuron = Neuron(2)
    neuron.w[0].label, neuron.w[1].momentum, neuron.b.label = "w0", 0.5, "b"
    x = [1.0, 2.0]
    assert graph(neuron(x)) == graph(plain_neuron(neuron, x))


def test_subclasses_of_neuron_are_called():
    class Scaled(Neuron):
        def __call__(self, x):
            return 10 * super().__call__(x)

    class Named(Neuron):
        name = "plain otherwise"

    layer = Layer(2, 3)
    x = [0.5, -0.5]
    expected = [plain_neuron(n, x).data for n in layer.neurons]
    layer.neurons[1].__class__ = Scaled
    layer.neurons[2].__class__ = Named
    assert [out.data for out in layer(x)] == [expected[0], 10 * expected[1], expected[2]]
    layer.neurons[0] = lambda x: Value(7.0)
    assert layer(x)[0].data == 7.0


def test_patched_neuron_call_is_called(monkeypatch):
    monkeypatch.setattr(Neuron, "__call__", lambda self, x: "patched")
    assert Layer(2, 2)([1.0, 2.0]) == ["patched", "patched"]


def test_subclasses_of_layer_and_mlp_are_called():
    class Doubled(Layer):
        def __call__(self, x):
            return [2 * out for out in super().__call__(x)]

    class Summed(MLP):
        def __call__(self, x):
            return sum(super().__call__(x))

    model = Summed(2, [3, 2])
    x = [1.0, -1.0]
    hidden = [2 * out for out in plain_layer(model.layers[0], x)]
    expected = sum(plain_layer(model.layers[1], hidden))
    model.layers[0].__class__ = Doubled
    assert graph(model(x)) == graph(expected)


@pytest.mark.parametrize("name", ["__mul__", "__rmul__", "__add__", "__radd__", "tanh"])
def test_patched_operators_are_followed(monkeypatch, core_calls, name):
    model, twin = model_and_twin(2, 3, 1)
    inputs = [Value(0.5), 2.0]
    original, seen = getattr(Value, name), []

    def patched(self, *operands):
        seen.append(name)
        return original(self, *operands)

    with monkeypatch.context() as patch:
        patch.setattr(Value, name, patched)
        out, calls = model(inputs), len(seen)
        expected = plain_mlp(twin, inputs)
        assert graph(out) == graph(expected)
        assert len(seen) == 2 * calls
        assert (calls > 0) == (name not in ("__rmul__", "__radd__"))  # no number stands left of a Value here
    core_calls.clear()
    assert graph(model(inputs)) == graph(expected)
    assert seen == seen[: 2 * calls]
    assert None not in core_calls, "the class is as it was: C++ does it again"


def test_values_of_a_subclass_are_followed():
    class Loud(Value):
        def __mul__(self, other):
            return Value(1000.0) * other

        def __rmul__(self, other):
            return Value(2000.0) * other

    neuron = Neuron(2)
    neuron.w = [Loud(0.5), Value(0.001)]
    neuron.b = Value(0.0)
    out = neuron([0.0001, Loud(3.0)])
    assert out._children[0].data == pytest.approx(1000 * 0.0001 + 2000 * 0.001)


def test_iterators_serve_every_neuron():
    layer = Layer(3, 4)
    assert graph(*layer(x for x in [1.0, 2.0, 3.0])) == graph(*plain_layer(layer, [1.0, 2.0, 3.0]))
    assert graph(*layer(Value(x) for x in [1.0, 2.0, 3.0])) == graph(
        *plain_layer(layer, [Value(x) for x in [1.0, 2.0, 3.0]])
    )
    neuron = layer.neurons[0]
    assert neuron(iter([1.0, 2.0, 3.0])).data == plain_neuron(neuron, [1.0, 2.0, 3.0]).data


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies_are_equal_and_independent(copied):
    model = MLP(2, [3, 1])
    twin = copied(model)
    x = [0.5, 2.0]
    assert graph(twin(x)) == graph(model(x))
    twin(x).backward()
    assert all(p.grad == 0 for p in model.parameters())
    assert all(p.grad != 0 for p in twin.parameters())
