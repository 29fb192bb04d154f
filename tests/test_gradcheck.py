"""gradcheck: right gradients pass, every kind of wrong one is caught and named, and nothing of the caller's changes."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import tapegrad
from tapegrad import MLP, Value, gradcheck
from tapegrad.gradcheck import GradcheckError


def sine(x: Value, slope: float = 1.0) -> Value:
    """sin with a rule written in Python, whose derivative is off by the factor `slope`."""
    out = Value(math.sin(x.data), (x,), "sin")

    def rule() -> None:
        x.grad += slope * math.cos(x.data) * out.grad

    out._backward = rule
    return out


def test_right_gradients_pass():
    a = Value(0.7, label="a")
    assert gradcheck(lambda x, y: (x * y + a).tanh() / (1.5 + y**2), 0.3, -1.2)
    assert gradcheck(lambda x: sine(x) * sine(x * 2), 0.4)
    assert gradcheck(lambda x, n: x**n, 1.5, 3)  # the int is passed on as it is
    assert gradcheck(
        lambda p: {"sum": p["w"][0] + p["w"][1], "all": [p["b"] * 2, p["w"][0] ** 2]}, {"w": (1.0, 2.0), "b": 3.0}
    )
    assert gradcheck(lambda x: x @ x + np.exp(x).sum(), np.array([0.1, 0.2, -0.5]))
    assert gradcheck(lambda x: [x, 3.0, 2], 1.0)  # an output that is the input, and two that do not depend on it


def test_values_are_the_callers_own():
    random.seed(3)
    model = MLP(2, [3, 1])
    parameters = model.parameters()
    for p in parameters:
        p.grad = 0.25
    before = [(p.data, p.grad) for p in parameters]
    nodes = tapegrad.live_nodes()
    assert gradcheck(lambda *_: model([0.5, -1.0]), *parameters)
    assert [(p.data, p.grad) for p in parameters] == before
    assert tapegrad.live_nodes() == nodes
    whole = Value(3)
    gradcheck(lambda x: x * x, whole)
    assert type(whole.data) is int


def test_nodes_from_before_do_not_count_twice():
    x = Value(2.0)
    middle = x * x
    middle.grad = 5.0
    assert gradcheck(lambda y: middle * y, 3.0)
    assert middle.grad == 5.0
    assert x.grad == 0.0


@pytest.mark.parametrize("slope", [0.0, -1.0, 1.01, 2.0, math.nan, math.inf])
def test_a_wrong_rule_is_caught(slope):
    assert gradcheck(sine, 0.4)
    assert not gradcheck(lambda x: sine(x, slope), 0.4, raise_exception=False)
    with pytest.raises(GradcheckError, match="output 0 by args"):
        gradcheck(lambda x: sine(x, slope), 0.4)


def test_the_error_names_input_output_and_both_numbers():
    x = Value(0.0, label="angle")
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda p: [p["x"][0] * 2, sine(p["x"][1], 3.0)], {"x": [1.0, x]})
    text = str(caught.value)
    for part in ("output 1", "args[0]['x'][1] 'angle'", "is 3.0 by the sweep", "0.99999999"):
        assert part in text
    assert (x.data, x.grad) == (0.0, 0.0)


def test_tolerances():
    off = lambda x: sine(x, 1.01)  # noqa: E731
    assert gradcheck(off, 0.4, rtol=0.02)
    assert gradcheck(off, 0.4, atol=0.02)
    assert not gradcheck(off, 0.4, rtol=1e-4, raise_exception=False)


def test_gradients_that_change_are_caught():
    noise = random.Random(5)

    def rough(x: Value) -> Value:
        return Value(2 * x.data, (x,), (2.0 + 1e-9 * noise.random(),))

    with pytest.raises(GradcheckError, match="not deterministic: the gradient of output 0 by args"):
        gradcheck(rough, 1.0)
    with pytest.raises(GradcheckError, match="not deterministic: output 0 is"):
        gradcheck(lambda x: x * noise.random(), 1.0)


def test_an_exception_puts_everything_back():
    x = Value(1.0)
    calls = []

    def fails(v: Value) -> Value:
        calls.append(1)
        if len(calls) > 5:
            raise OSError("planted")
        return v * 2

    x.grad = 7.0
    with pytest.raises(OSError, match="planted"):
        gradcheck(fails, x)
    assert (x.data, x.grad) == (1.0, 7.0)


def test_what_cannot_be_checked():
    with pytest.raises(ValueError, match="no input"):
        gradcheck(lambda x: Value(1.0) * x, 2)
    with pytest.raises(ValueError, match=r"lost next to args\[0\]"):
        gradcheck(lambda x: x * 2, 1e30)
    with pytest.raises(ValueError, match="lost next to"):
        gradcheck(lambda x: x * 2, math.inf)
    with pytest.raises(TypeError, match="str: 'no'"):
        gradcheck(lambda x: "no", 1.0)
    outputs = iter([1, 1, 1, 1, 2, 2])
    with pytest.raises(GradcheckError, match="has 1 outputs"):
        gradcheck(lambda x: [x * 2] * next(outputs), 1.0)


def test_compiled_functions():
    w = Value(0.5, label="w")
    w.grad = 4.0

    @tapegrad.compile
    def loss(x, y, more, n):
        return ((x * w).tanh() - y) ** 2 + more["k"][0] * n + more["k"][1].sum()

    assert gradcheck(loss, 0.3, -1.0, {"k": (2.0, np.array([1.0, 2.0]))}, 3)
    assert gradcheck(loss, Value(0.3), -1.0, {"k": (2.0, np.array([1.0, 2.0]))}, 3)
    assert (w.data, w.grad) == (0.5, 4.0)
    assert gradcheck(tapegrad.compile(lambda: w * w))  # nothing but a parameter

    @tapegrad.compile
    def wrong_argument(x):
        return Value(2 * x.data, (x,), (3.0,))

    with pytest.raises(GradcheckError, match=r"args\[0\] \(= 1.0\) is 3.0 by the sweep"):
        gradcheck(wrong_argument, 1.0)

    @tapegrad.compile
    def wrong_parameter(x):
        return Value(2 * w.data, (w,), (3.0,)) + x

    with pytest.raises(GradcheckError, match=r"parameter 0 'w' \(= 0.5\) is 3.0 by the sweep"):
        gradcheck(wrong_parameter, 1.0)
    assert (w.data, w.grad) == (0.5, 4.0)


def test_functions_over_lanes():
    w = Value(0.5, label="w")

    @tapegrad.compile
    def loss(x, y):
        return (x[0] * w - y * x[1]).tanh()

    xs = np.array([[1.0, 2.0], [0.5, -0.5], [0.1, 0.2]])
    assert gradcheck(tapegrad.vmap(loss), xs, [1.0, 0.0, 2.0])
    assert gradcheck(tapegrad.vmap(loss, in_axes=(1, None)), xs.T, 0.5)

    @tapegrad.compile
    def wrong(x, y):
        return Value(2 * x.data, (x,), (3.0,)) * y

    with pytest.raises(GradcheckError, match=r"args\[0\]\[0\]"):
        gradcheck(tapegrad.vmap(wrong), [1.0, 2.0], 0.5)


def test_values_that_hold_arrays():
    w = Value(np.array([[0.5, -0.2], [0.1, 0.3]]), label="w")
    x = Value(np.array([1.0, -2.0]))
    w.grad = np.ones((2, 2))
    assert gradcheck(lambda w, x: (w @ x * 2).tanh(), w, x)  # an array comes out
    assert gradcheck(lambda x: [(x * x).sum(), x[1], x.max() * w[0, 0]], x)
    assert (w.data.tolist(), w.grad.tolist()) == ([[0.5, -0.2], [0.1, 0.3]], [[1.0, 1.0], [1.0, 1.0]])

    def wrong(x):
        return Value(x.data * 2, (x,), (np.array([2.0, 3.0]),))

    with pytest.raises(GradcheckError, match=r"output 1 by args\[0\]\[1\] \(= -2.0\) is 3.0 by the sweep"):
        gradcheck(wrong, x)
