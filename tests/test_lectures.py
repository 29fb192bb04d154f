"""The numbers that the lectures print for expressions and one neuron come out of our Value; torch says the same.

The documents are read where they are at hand; what they print is also written out below, so nothing depends on them.
"""

import re
import struct
from pathlib import Path

import pytest
import torch

from tapegrad import Value

LECTURES = Path(__file__).resolve().parents[2] / "shared" / "lectures"


def lecture(name):
    path = LECTURES / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand")
    return path.read_text(encoding="utf-8")


# --- one neuron: "Reverse Engineering a Neural Network" ---------------------------------------------------------------

NAMES = ("x1", "x2", "w1", "w2", "b")
BIAS = 6.8813735870195432


def single(x):
    """``x`` as torch.Tensor([x]) holds it before .double(): rounded to float32."""
    return struct.unpack("f", struct.pack("f", x))[0]


def neuron(bias):
    """The lecture's neuron: every node of it by name."""
    v = {name: Value(x, label=name) for name, x in zip(NAMES, (2.0, 0.0, -3.0, 1.0, bias), strict=True)}
    v["x1w1"] = v["x1"] * v["w1"]
    v["x2w2"] = v["x2"] * v["w2"]
    v["x1w1x2w2"] = v["x1w1"] + v["x2w2"]
    v["n"] = v["x1w1x2w2"] + v["b"]
    v["o"] = v["n"].tanh()
    return v


def torch_neuron(bias):
    v = {n: torch.tensor([x], dtype=torch.float64) for n, x in zip(NAMES, (2.0, 0.0, -3.0, 1.0, bias), strict=True)}
    for tensor in v.values():
        tensor.requires_grad = True
    v["o"] = torch.tanh(v["x1"] * v["w1"] + v["x2"] * v["w2"] + v["b"])
    return v


def test_manual_back_propagation():
    v = neuron(BIAS)
    assert v["o"].data == pytest.approx(0.7071067811865476, abs=1e-15)
    assert 1 - v["o"].data ** 2 == pytest.approx(0.4999999999999999, abs=2e-16)
    v["o"].grad = 1.0
    v["n"].grad = v["x1w1x2w2"].grad = v["b"].grad = v["x1w1"].grad = v["x2w2"].grad = 0.5
    v["x1"].grad = v["x1w1"].grad * v["w1"].data
    v["w1"].grad = v["x1w1"].grad * v["x1"].data
    v["x2"].grad = v["x2w2"].grad * v["w2"].data
    v["w2"].grad = v["x2w2"].grad * v["x2"].data
    assert [v[name].grad for name in NAMES] == [-1.5, 0.5, 1.0, 0.0, 0.5]


def by_backward(v):
    v["o"].grad = 1.0  # as the lecture does before the call
    v["o"].backward()


def node_by_node(v):
    v["o"].grad = 1.0
    for name in ("o", "n", "b", "x1w1x2w2", "x2w2", "x1w1"):
        v[name]._backward()


@pytest.mark.parametrize("sweep", [by_backward, node_by_node])
def test_all_gradients(sweep):
    v = neuron(BIAS)
    sweep(v)
    expected = {"x1": -1.5, "w1": 1.0, "x2": 0.5, "w2": 0.0, "o": 1.0}
    expected |= dict.fromkeys(("n", "x1w1x2w2", "b", "x1w1", "x2w2"), 0.5)
    assert {name: node.grad for name, node in v.items()} == pytest.approx(expected, rel=1e-15)


def test_gradients_that_torch_prints():
    v = neuron(single(BIAS))
    v["o"].backward()
    assert v["o"].data == pytest.approx(0.7071066904050358, rel=1e-15)
    printed = {"x2": 0.5000001283844369, "w2": 0.0, "x1": -1.5000003851533106, "w1": 1.0000002567688737}
    assert {name: v[name].grad for name in printed} == pytest.approx(printed, rel=1e-15)
    t = torch_neuron(single(BIAS))
    t["o"].backward()
    assert [v[name].grad for name in NAMES] == pytest.approx([t[name].grad.item() for name in NAMES], rel=1e-15)


def minimise(epochs=100, rate=0.01, target=0.0):
    """The lecture's loop on our Value: (loss, output) of each epoch. The first adds to the gradients left over."""
    v = neuron(single(BIAS))
    v["o"].backward()
    rows = []
    for _ in range(epochs):
        o = (v["x1"] * v["w1"] + v["x2"] * v["w2"] + v["b"]).tanh()
        loss = (o - target) ** 2 / 2
        loss.backward()
        for name in ("w1", "w2", "b"):
            v[name].data -= rate * v[name].grad
        for name in NAMES:
            v[name].grad = 0.0
        rows.append((loss.data, o.data))
    return rows


def minimise_torch(epochs=100, rate=0.01, target=0.0):
    v = torch_neuron(single(BIAS))
    v["o"].backward()
    rows = []
    for _ in range(epochs):
        o = torch.tanh(v["x1"] * v["w1"] + v["x2"] * v["w2"] + v["b"])
        loss = (o - target).pow(2) / 2
        loss.backward()
        with torch.no_grad():
            for name in ("w1", "w2", "b"):
                v[name] -= rate * v[name].grad
            for name in NAMES:
                v[name].grad.zero_()
        rows.append((loss.item(), o.item()))
    return rows


def test_minimising_loss_agrees_with_torch():
    ours, theirs = minimise(), minimise_torch()
    assert len(ours) == 100
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "line"),
    [
        (1, "Loss: 0.250000, Output: 0.707107"),
        (2, "Loss: 0.234693, Output: 0.685118"),  # 0.243712 if the leftover gradients were dropped
        (25, "Loss: 0.075849, Output: 0.389485"),
        (50, "Loss: 0.008090, Output: 0.127203"),
        (100, "Loss: 0.000050, Output: 0.009957"),
    ],
)
def test_minimising_loss_prints_these_lines(epoch, line):
    loss, output = minimise()[epoch - 1]
    assert f"Loss: {loss:.6f}, Output: {output:.6f}" == line


def test_minimising_loss_prints_the_whole_table():
    text = lecture("reverse_engineering_a_neural_network.txt")
    table = re.findall(r"^\s*(Epoch \d+, Loss: .*?)\s*$", text, flags=re.MULTILINE)
    assert len(table) == 100
    ours = [f"Epoch {i}, Loss: {loss:.6f}, Output: {o:.6f}" for i, (loss, o) in enumerate(minimise(), 1)]
    assert ours == table


# --- worked examples: "Building Autograd Engine & Neural Network Library" ---------------------------------------------


def test_single_input_derivative():
    def f(x):
        return 3 * x**2 - 4 * x + 5

    x = Value(3.0)
    y = f(x)
    y.backward()
    assert (y.data, x.grad) == (20.0, 14.0)
    h = 0.001
    assert (f(Value(3.0 + h)) - f(Value(3.0))).data / h == pytest.approx(14.003, abs=1e-9)


def test_multi_input_derivative():
    a, b, c, h = Value(2.0), Value(-3.0), Value(10.0), 0.0001
    d1 = a * b + c
    d1.backward()
    assert (a.grad, b.grad, c.grad) == (-3.0, 2.0, 1.0)
    a += h
    d2 = a * b + c
    assert ((d2 - d1) / h).data == pytest.approx(-3.0, abs=1e-9)


def test_product_and_sum_expressions():
    a, b, c, f = Value(2.0, label="a"), Value(-3.0, label="b"), Value(10.0, label="c"), Value(-2.0, label="f")
    e = a * b
    d = e + c
    L = d * f
    assert (e.data, d.data, L.data) == (-6.0, 4.0, -8.0)
    L.backward()
    gradients = {"L": L.grad, "d": d.grad, "f": f.grad, "c": c.grad, "e": e.grad, "a": a.grad, "b": b.grad}
    assert gradients == {"L": 1.0, "d": -2.0, "f": 4.0, "c": -2.0, "e": -2.0, "a": 6.0, "b": -4.0}
