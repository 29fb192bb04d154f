"""Neuron, Layer and MLP from outside: what they draw and hold, the sizes and inputs they take, their errors."""

import gc
import random

import numpy as np
import pytest

from tapegrad import Value, live_nodes
from tapegrad.nn import MLP, Layer, Neuron


def test_weights_then_bias_are_drawn_from_the_global_random():
    random.seed(1337)
    model = MLP(3, [4, 4, 1])
    after = random.random()
    generator = random.Random(1337)
    assert [p.data for p in model.parameters()] == [generator.uniform(-1, 1) for _ in range(41)]
    assert after == generator.random()
    assert [len(layer.neurons) for layer in model.layers] == [4, 4, 1]
    assert [len(neuron.w) for layer in model.layers for neuron in layer.neurons] == [3] * 4 + [4] * 5
    assert model.parameters()[3] is model.layers[0].neurons[0].b
    assert [id(p) for p in model.layers[1].parameters()] == [id(p) for p in model.parameters()[16:36]]


@pytest.mark.parametrize(
    "make", [lambda: Neuron(2), lambda: Layer(2, 3), lambda: MLP(2, [3, 2])], ids=["neuron", "layer", "mlp"]
)
def test_zero_grad_clears_every_parameter(make):
    model = make()
    out = model([1.0, 2.0])
    (sum(out) if isinstance(out, list) else out).backward()
    assert all(p.grad != 0 for p in model.parameters())
    model.zero_grad()
    assert [repr(p.grad) for p in model.parameters()] == ["0.0"] * len(model.parameters())


def test_network_without_layers_or_neurons():
    assert MLP(2, [])([1.0, 2.0]) == [1.0, 2.0]
    assert Layer(2, 0)([1.0, 2.0]) == []
    neuron = Neuron(0)
    assert neuron([1.0]).data == neuron.b.tanh().data


@pytest.mark.parametrize(
    "sizes", [(np.int64(2), [np.int32(3), 1]), (2, (3, 1)), (2, range(3, 0, -2)), (2, np.array([3, 1]))]
)
def test_sizes_may_be_any_whole_numbers(sizes):
    model = MLP(*sizes)
    assert [len(layer.neurons) for layer in model.layers] == [3, 1]
    assert len(model.parameters()) == 13


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Neuron(2.5), TypeError, r"nin must be a whole number, got 2\.5 \(float\)"),
        (lambda: Neuron("2"), TypeError, r"nin must be a whole number, got '2' \(str\)"),
        (lambda: Neuron(-1), ValueError, "nin must not be negative, got -1"),
        (lambda: Layer(2, None), TypeError, r"nout must be a whole number, got None \(NoneType\)"),
        (lambda: Layer(2, -3), ValueError, "nout must not be negative, got -3"),
        (lambda: MLP(2, 4), TypeError, r"nouts must be a list of layer widths such as \[16, 16, 1\], got 4 \(int\)"),
        (lambda: MLP(2, [4, "1"]), TypeError, r"nouts\[1\] must be a whole number, got '1' \(str\)"),
        (lambda: MLP(2, [4, -1]), ValueError, r"nouts\[1\] must not be negative, got -1"),
        (lambda: MLP([2], [4]), TypeError, r"nin must be a whole number, got \[2\] \(list\)"),
        (
            lambda: Neuron(1)(2.0),
            TypeError,
            r"x must be a sequence of numbers or Values such as .*, got 2\.0 \(float\)",
        ),
        (lambda: MLP(2, [1])(None), TypeError, r"x must be a sequence .*, got None \(NoneType\)"),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    gc.collect()
    before = live_nodes()
    with pytest.raises(error, match=words):
        call()
    gc.collect()
    assert live_nodes() == before


@pytest.mark.parametrize(
    ("bad", "words"), [("a", "sequence|str"), (None, "NoneType"), (1j, "complex"), ([1.0], "sequence|list")]
)
def test_inputs_that_are_not_numbers_raise_and_leave_no_node(bad, words):
    layer = Layer(3, 4)
    gc.collect()
    before = live_nodes()
    for network in (layer, layer.neurons[0]):
        with pytest.raises(TypeError, match=words):
            network([1.0, Value(2.0), bad])
    gc.collect()
    assert live_nodes() == before


def test_errors_of_an_iterator_pass_through():
    def broken():
        yield 1.0
        raise TypeError("the iterator's own")

    with pytest.raises(TypeError, match=r"^the iterator's own$"):
        Layer(2, 2)(broken())
