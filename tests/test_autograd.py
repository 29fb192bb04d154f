"""Gradient semantics: what backward() adds, zero_grad, seeds, and gradients that leave .grad alone."""

from __future__ import annotations

import gc
import random

import numpy as np
import pytest
import torch

import tapegrad
from tapegrad import Value, live_nodes
from tapegrad.autograd import grad
from tapegrad.micrograd import engine as published


def graph():
    a, b = Value(2.0, label="a"), Value(-3.0)
    m = a * b
    return a, b, m, (m + a) * m


def test_the_double_backward_trap_and_both_ways_out():
    a, b, m, loss = graph()
    loss.backward()
    right = a.grad, b.grad, m.grad
    loss.backward()
    assert (a.grad, b.grad, m.grad) != tuple(2 * g for g in right)  # the second adds through what m has left over
    loss.backward(zero_grad=True)
    assert (a.grad, b.grad, m.grad) == right
    loss.zero_grad()
    assert (a.grad, b.grad, m.grad, loss.grad) == (0.0, 0.0, 0.0, 0.0)
    loss.backward()
    assert (a.grad, b.grad, m.grad) == right


def test_backward_takes_a_gradient_and_zero_grad_by_place_or_name():
    a, _, _, loss = graph()
    for call in (
        lambda: loss.backward(2.5, True),
        lambda: loss.backward(gradient=2.5, zero_grad=True),
        lambda: loss.backward(2.5, zero_grad=1),
        lambda: loss.backward(zero_grad=True, gradient=Value(2.5).data),
    ):
        call()
        assert loss.grad == 2.5
        assert a.grad == 2.5 * grad(loss, a)[0]
    loss.backward(None, zero_grad=True)
    assert loss.grad == 1.0
    for wrong, error in (
        (lambda: loss.backward(1, False, 3), "at most two"),
        (lambda: loss.backward(1, gradient=1), "more than one value for argument 'gradient'"),
        (lambda: loss.backward(retain_graph=True), "unexpected keyword argument 'retain_graph'"),
        (lambda: loss.backward("no"), "str"),
    ):
        with pytest.raises(TypeError, match=error):
            wrong()

    class Vague:
        def __bool__(self):
            raise KeyError("planted")

    with pytest.raises(KeyError):
        loss.backward(zero_grad=Vague())


def test_zero_grad_reaches_the_whole_graph_and_nothing_else():
    base = live_nodes()
    a, other = Value(1.0), Value(5.0)
    s = a
    nodes = []
    for i in range(100_000):
        s = s * 0.999 + a
        if i % 1000 == 0:
            nodes.append(s)
    (a * other).backward()
    s.backward()
    assert all(v.grad for v in nodes)
    s.zero_grad()
    assert [v.grad for v in [a, s, *nodes]] == [0.0] * 102
    assert other.grad == 1.0
    whole = published.Value(3)
    out = whole * 0.5
    out.backward()
    out.zero_grad()
    assert repr(whole) == "Value(data=3, grad=0)"  # that dialect's zero is an int
    array = Value(np.ones(3))
    (array * a).sum().backward()
    (array * a).sum().zero_grad()
    assert array.grad.tolist() == [0.0] * 3
    del s, nodes, out, whole, array, other, a
    assert live_nodes() == base


def test_grad_leaves_every_grad_alone():
    a, b, m, loss = graph()
    for v, g in ((a, 10.0), (b, 20.0), (m, 30.0), (loss, 40.0)):
        v.grad = g
    ta, tb = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, -3.0))
    tm = ta * tb
    expected = [t.item() for t in torch.autograd.grad((tm + ta) * tm, [ta, tb, tm])]
    for _ in range(2):
        assert list(grad(loss, [a, b, m])) == expected
        assert grad(loss, (b, b, loss)) == (expected[1], expected[1], 1.0)
        assert grad(loss, [a], gradient=3)[0] == 3 * expected[0]
    assert (a.grad, b.grad, m.grad, loss.grad) == (10.0, 20.0, 30.0, 40.0)
    assert tapegrad.autograd.grad is grad


def test_grad_of_what_does_not_matter_is_zero():
    a, b, _, loss = graph()
    away = Value(7.0)
    away.grad = 5.0
    array = Value(np.ones((2, 2)))
    found = grad(loss, [away, a, array])
    assert (found[0], away.grad) == (0.0, 5.0)
    assert found[2].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert grad(a, [a, b]) == (1.0, 0.0)


def test_grad_of_arrays():
    w, x = Value(np.array([[1.0, 2.0], [3.0, 4.0]])), Value(np.array([1.0, -1.0]))
    out = (w @ x).tanh().sum()
    w.grad = np.full((2, 2), 9.0)
    one, two = grad(out, [w, x])
    tw, tx = (torch.tensor(v.data.copy(), requires_grad=True) for v in (w, x))
    expected = torch.autograd.grad((tw @ tx).tanh().sum(), [tw, tx])
    np.testing.assert_allclose(one, expected[0], rtol=1e-12)
    np.testing.assert_allclose(two, expected[1], rtol=1e-12)
    assert w.grad.tolist() == [[9.0, 9.0], [9.0, 9.0]]
    assert x.grad.tolist() == [0.0, 0.0]
    again = grad(out, w)[0]
    assert again.tolist() == one.tolist()  # and the first result is still what it was
    assert grad(x * 2, x, np.array([1.0, 3.0]))[0].tolist() == [2.0, 6.0]


def test_grad_with_python_rules_and_exceptions():
    a = Value(2.0)
    out = Value(4.0, (a,), "mine")
    seen = []

    def rule():
        seen.append((a.grad, out.grad))
        if len(seen) == 2:
            raise KeyError("planted")
        a.grad += 3.0 * out.grad

    out._backward = rule
    a.grad, out.grad = 7.0, 8.0
    loss = out * 2.0
    assert grad(loss, a) == (6.0,)
    with pytest.raises(KeyError):
        grad(loss, a)
    assert (a.grad, out.grad, loss.grad) == (7.0, 8.0, 0.0)
    assert seen == [(0.0, 2.0), (0.0, 2.0)]
    assert grad(loss, a) == (6.0,)


def test_grad_of_random_graphs_is_that_of_backward():
    rng = random.Random(3)
    gc.collect()
    base = live_nodes()
    for _ in range(30):
        leaves = [Value(rng.uniform(-1, 1)) for _ in range(4)]
        pool = list(leaves)
        for _ in range(60):
            a, b = rng.choice(pool), rng.choice(pool)
            pool.append(rng.choice([a + b, a * b, a.tanh(), a - b, a / (b * b + 1)]))
        loss = sum(pool[-8:])
        found = grad(loss, leaves)
        assert [v.grad for v in pool] == [0.0] * len(pool)
        loss.backward()
        assert [v.grad for v in leaves] == list(found)
    del leaves, pool, loss, a, b
    gc.collect()
    assert live_nodes() == base


def test_wrong_arguments():
    a = Value(1.0)
    for wrong in (lambda: grad(5, [a]), lambda: grad(a, [5]), lambda: grad(a, 5), lambda: grad(a, [a], "no")):
        with pytest.raises(TypeError):
            wrong()
    for call in (lambda x: grad(x, [x])[0] * x, lambda x: x.zero_grad() or x, lambda x: x.backward() or x):
        with pytest.raises(TypeError, match="not possible inside a compiled function"):
            tapegrad.compile(call)(2.0)
    assert a.grad == 0.0
