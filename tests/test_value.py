"""Value against independent oracles: finite differences, exact fractions, torch, and Python's own arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from tapegrad import Value, live_nodes

# (name, the function in Python's math, points inside the domain)
UNARY = [
    ("exp", math.exp, [-30.0, -1.5, 0.0, 0.3, 5.0]),
    ("expm1", math.expm1, [-3.0, -1e-9, 0.0, 0.3, 5.0]),
    ("exp2", math.exp2, [-3.0, 0.0, 0.3, 5.0]),
    ("log", math.log, [1e-3, 0.5, 1.0, 7.0]),
    ("log1p", math.log1p, [-0.5, 1e-12, 0.7, 9.0]),
    ("log2", math.log2, [0.01, 1.0, 7.0]),
    ("log10", math.log10, [0.01, 1.0, 7.0]),
    ("sqrt", math.sqrt, [0.01, 1.0, 7.0]),
    ("sin", math.sin, [-2.0, 0.0, 0.5, 30.0]),
    ("cos", math.cos, [-2.0, 0.0, 0.5, 30.0]),
    ("tan", math.tan, [-1.0, 0.0, 0.5, 1.2]),
    ("sinh", math.sinh, [-2.0, 0.0, 0.5]),
    ("cosh", math.cosh, [-2.0, 0.0, 0.5]),
    ("arcsin", math.asin, [-0.7, 0.0, 0.5]),
    ("arccos", math.acos, [-0.7, 0.0, 0.5]),
    ("arctan", math.atan, [-3.0, 0.0, 0.5]),
    ("arcsinh", math.asinh, [-3.0, 0.0, 0.5]),
    ("arccosh", math.acosh, [1.1, 2.0, 50.0]),
    ("arctanh", math.atanh, [-0.7, 0.0, 0.5]),
    ("abs", abs, [-2.5, 3.5]),
    ("relu", lambda x: 0 if x < 0 else x, [-2.5, 3.5]),
    ("tanh", lambda x: (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1), [-15.0, -0.9, 0.001, 0.8813735870195432, 20.0]),
    ("sigmoid", lambda x: 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)), [-9.0, 0.0, 2.0]),
    ("softplus", lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))), [-9.0, 0.0, 2.0, 40.0]),
]
POINTS = [(name, f, x) for name, f, points in UNARY for x in points]
TORCH_NAMES = {"softplus": "nn.functional.softplus", "relu": "relu"}


def torch_function(name: str):
    return torch.nn.functional.softplus if name == "softplus" else getattr(torch, name)


@pytest.mark.parametrize(("name", "function", "x"), POINTS, ids=[f"{n}({x})" for n, _, x in POINTS])
def test_unary_value_and_gradient(name, function, x):
    v = Value(x)
    out = getattr(v, name)()
    assert out.data == function(x)
    assert out._prev == {v}
    out.backward()
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    torch_function(name)(t).backward()
    assert v.grad == pytest.approx(t.grad.item(), rel=1e-12, abs=1e-15)


def test_every_unary_method_is_in_the_table():
    known = {name for name, _, _ in UNARY}
    methods = {n for n in dir(Value) if not n.startswith("_") and n not in {"data", "grad", "label", "backward"}}
    callables = {
        n
        for n in methods
        if callable(getattr(Value, n)) and getattr(Value, n).__doc__ and "makes one node" in getattr(Value, n).__doc__
    }
    assert callables == known


NUMBERS = [0.5, -1.25, 3.0, 2, -4, 1e-3, 1e4]


@pytest.mark.parametrize("y", NUMBERS)
@pytest.mark.parametrize("x", NUMBERS)
@pytest.mark.parametrize(
    "op", ["x + y", "x - y", "x * y", "x / y", "x ** 2 + y", "x * y ** -1", "-x + y", "(x + y) * (x - y) / 3"]
)
def test_arithmetic_matches_python_and_exact_fractions(op, x, y):
    a, b = Value(x), Value(y)
    out = eval(op, {"x": a, "y": b})
    expected = eval(
        op.replace("x - y", "x + (-y)").replace("x / y", "x * y**-1").replace("/ 3", "* 3**-1"), {"x": x, "y": y}
    )
    assert out.data == expected
    assert type(out.data) is type(expected)
    out.backward()
    # Gradients by central differences in exact rational arithmetic: exact for polynomials of degree 2, and to h^2 else.
    h = Fraction(1, 10**12)
    fx, fy = Fraction(x), Fraction(y)

    def at(s: Fraction, t: Fraction) -> Fraction:
        return eval(op, {"x": s, "y": t})

    dx = (at(fx + h, fy) - at(fx - h, fy)) / (2 * h)
    dy = (at(fx, fy + h) - at(fx, fy - h)) / (2 * h)
    assert a.grad == pytest.approx(float(dx), rel=1e-9, abs=1e-11)
    assert b.grad == pytest.approx(float(dy), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("x", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("y", [-1.5, 0.0, 0.7, 2.0])
def test_power_of_values(x, y):
    a, b = Value(x), Value(y)
    out = a**b
    assert out.data == x**y
    assert out._op == "**"
    out.backward()
    s, t = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, y))
    (s**t).backward()
    assert a.grad == pytest.approx(s.grad.item(), rel=1e-13)
    assert b.grad == pytest.approx(t.grad.item(), rel=1e-13)


@pytest.mark.parametrize("base", [-2.0, 0.0, 0])
def test_exponent_of_a_base_that_is_not_positive_has_no_gradient(base):
    a, b = Value(base), Value(2.0)
    out = a**b
    out.backward()
    assert math.isnan(b.grad)
    assert a.grad == 2 * base


def test_reflected_operators():
    a = Value(4.0)
    assert (1 - a).data == -3.0
    assert (2 / a).data == 0.5
    assert (2**a).data == 16.0
    assert (3 + a).data == 7.0
    assert (3 * a).data == 12.0
    out = 2**a
    out.backward()
    assert a.grad == pytest.approx(16 * math.log(2), rel=1e-15)
    assert [c.data for c in out._children] == [2, 4.0]


def test_composite_operators_build_micrograds_graph():
    a, b = Value(3.0), Value(2.0)
    negative = -a
    assert (negative._op, [c.data for c in negative._children]) == ("*", [3.0, -1])
    difference = a - b
    assert difference._op == "+"
    first, second = difference._children
    assert first is a
    assert second._op == "*"
    assert b in second._prev
    quotient = a / b
    first, second = quotient._children
    assert first is a
    assert second._op == "**-1"
    assert second._prev == {b}
    total = sum([a, b])
    assert [c._op for c in total._children] == ["+", ""]
    assert total._children[0]._children[1].data == 0


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("Value(3) + 3", "Value(data=6)"),
        ("Value(3) * 2.0", "Value(data=6.0)"),
        ("Value(3) ** 2", "Value(data=9)"),
        ("Value(2) ** -1", "Value(data=0.5)"),
        ("Value(3) - 5", "Value(data=-2)"),
        ("Value(6) / 3", "Value(data=2.0)"),
        ("Value(2.5).relu()", "Value(data=2.5)"),
        ("Value(-2.5).relu()", "Value(data=0)"),
        ("Value(0) * -1", "Value(data=0)"),
        ("Value(0.0) * -1", "Value(data=-0.0)"),
        ("abs(Value(-3))", "Value(data=3)"),
        ("Value(2**53)", "Value(data=9007199254740992)"),
        ("Value(2**53) + 1 + 1", "Value(data=9007199254740992.0)"),
        ("Value(10**300)", "Value(data=1e+300)"),
        ("Value(True)", "Value(data=1)"),
        ("Value(1e308) * 10", "Value(data=inf)"),
        ("Value(float('nan')) + 1", "Value(data=nan)"),
        ("Value(1e308) * 10 * 0", "Value(data=nan)"),
    ],
)
def test_numbers_are_shown_as_python_shows_them(expression, shown):
    assert repr(eval(expression)) == shown


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("Value(1.0) / 0", ZeroDivisionError),
        ("Value(1.0) / Value(0.0)", ZeroDivisionError),
        ("Value(0.0) ** -1", ZeroDivisionError),
        ("1 / Value(0)", ZeroDivisionError),
        ("Value(1000).exp()", OverflowError),
        ("Value(10.0) ** 400", OverflowError),
        ("Value(10**400)", OverflowError),
        ("Value(-1).log()", ValueError),
        ("Value(0).log()", ValueError),
        ("Value(-8.0) ** (1 / 3)", ValueError),
        ("Value(-1.0).sqrt()", ValueError),
        ("Value(float('inf')).sin()", ValueError),
        ("Value('3')", TypeError),
        ("Value(None)", TypeError),
        ("Value(1j)", TypeError),
        ("Value([1.0, 'x'])", TypeError),
        ("Value()", TypeError),
        ("Value(1, 2, 3, 4, 5)", TypeError),
        ("Value(1.0) + '1'", TypeError),
        ("Value(1.0) + None", TypeError),
        ("1j * Value(1.0)", TypeError),
        ("Value(1.0) ** 'x'", TypeError),
        ("pow(Value(2), 3, 5)", TypeError),
        ("Value(1.0) < 'a'", TypeError),
        ("Value(1.0, [2.0])", TypeError),
        ("Value(1.0, 5)", TypeError),
        ("Value(1.0, (), 5)", TypeError),
        ("Value(1.0, (Value(1),), (1.0, 2.0))", ValueError),
        ("Value(1.0, (Value(1),), ('x',))", TypeError),
        ("Value(1.0, data=2.0)", TypeError),
        ("Value(1.0, wrong=2.0)", TypeError),
        ("int(Value(float('nan')))", ValueError),
    ],
)
def test_errors_leave_no_node(expression, error):
    before = live_nodes()
    with pytest.raises(error):
        eval(expression)
    assert live_nodes() == before


def test_errors_name_the_value():
    with pytest.raises(TypeError, match=r"data must be a number or an array of real numbers, not str: 'abc'"):
        Value("abc")
    with pytest.raises(ValueError, match=r"log is not defined at -1\.0"):
        Value(-1.0).log()
    v = Value(1.0)
    with pytest.raises(TypeError, match="grad must be a number, not NoneType"):
        v.grad = None
    with pytest.raises(TypeError, match="_backward must be callable"):
        v._backward = 3
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del v.data
    assert (v.data, v.grad) == (1.0, 0.0)


def test_data_and_grad_are_python_numbers():
    v = Value(np.float32(1.5))
    assert type(v.data) is float
    assert type(v.grad) is float
    v.data = np.int64(3)
    assert type(v.data) is int
    v.grad = np.float64(2.5)
    assert type(v.grad) is float
    v.data = Fraction(1, 4)
    assert v.data == 0.25
    v.grad = 0
    assert repr(v.grad) == "0"


def test_identity():
    a, b = Value(2.0), Value(2.0)
    c = a * b
    assert a in c._prev
    assert {id(x) for x in c._prev} == {id(a), id(b)}
    assert len((a + a)._prev) == 1
    assert a != b
    assert a == a
    assert hash(a) >= 0
    assert hash(a) != hash(b)
    assert (a == 2.0) is False
    ids = [id(x) for x in (c * 2)._children]
    d = c * 3
    kept = [id(x) for x in d._children]
    assert kept == [id(x) for x in d._children]
    assert ids[0] == kept[0] == id(c)


class Always:
    def __eq__(self, other):
        return True

    __hash__ = None


def test_equality_with_a_foreign_class_is_its_own():
    assert Value(1.0) == Always()
    assert Value(1.0).__eq__(3) is NotImplemented


def test_comparison_and_conversion():
    a, b = Value(1.5), Value(2)
    assert a < b
    assert a <= 1.5
    assert b > 1
    assert not b >= 2.5
    assert max([a, b]) is b
    assert sorted([b, a]) == [a, b]
    assert float(a) == 1.5
    assert int(a) == 1
    assert bool(a)
    assert not Value(0.0)
    assert not Value(float("nan")) < 1
    assert f"{a:.3f} {b:d} {a}" == "1.500 2 Value(data=1.5)"
    assert math.floor(a) == 1


def test_backward_adds_and_never_zeroes():
    a = Value(3.0)
    b = a * 2
    c = b * b
    c.backward()
    assert (a.grad, b.grad, c.grad) == (24.0, 12.0, 1.0)
    c.backward()
    assert (a.grad, b.grad, c.grad) == (24.0 + 48.0, 24.0, 1.0)  # through the grads left in b
    with pytest.raises(TypeError, match="at most two arguments, gradient and zero_grad, but 3"):
        c.backward(1, 2, 3)


def test_operands_are_read_at_backward_time():
    a, b = Value(3.0), Value(4.0)
    c = a * b
    b.data = 10.0
    c.backward()
    assert a.grad == 10.0


def test_backward_of_a_leaf():
    a = Value(3.0)
    a.backward()
    assert a.grad == 1.0


def test_diamond_and_reuse():
    a = Value(2.0)
    b = a + a
    c = b * b + b
    c.backward()
    assert a.grad == 2 * (2 * 4.0 + 1)


def test_manual_backward_calls():
    a, b = Value(2.0), Value(-3.0)
    c = a * b
    c.grad = 2.0
    c._backward()
    assert (a.grad, b.grad) == (-6.0, 4.0)
    a._backward()
    assert (a.grad, b.grad) == (-6.0, 4.0)


def test_local_grads():
    a, b = Value(2.0), Value(3.0)
    assert (a * b)._local_grads == (3.0, 2.0)
    own = Value(math.sin(2.0), (a,), (math.cos(2.0),))
    own.backward()
    assert a.grad == math.cos(2.0)
    assert own._local_grads == (math.cos(2.0),)


def test_attributes_live_as_long_as_the_node():
    a = Value(1.0, label="a")
    (a * 2).note = "lost with its node"
    b = (a + 1) * 2
    for child in b._children:
        child.note = child._op
    assert [c.note for c in b._children] == ["+", ""]
    assert a.label == "a"
    assert (a + 1).label == ""
    a.momentum = 0.0
    shown = vars(a)
    assert callable(shown.pop("_backward"))
    assert shown == {"data": 1.0, "grad": 0.0, "_prev": set(), "_op": "", "label": "a", "momentum": 0.0}
    vars(a)["momentum"] = 2.0
    a.__dict__.update(speed=3)
    assert (a.momentum, a.speed) == (2.0, 3)
    del a.momentum
    assert not hasattr(a, "momentum")
    with pytest.raises(AttributeError, match="nothing"):
        a.nothing  # noqa: B018


def test_prev_is_a_set_of_ones_own():
    a, b = Value(1.0), Value(2.0)
    c = a * b
    assert c._prev is c._prev
    first = c._prev.pop()
    second = c._prev.pop()
    assert {first, second} == {a, b}
    assert not c._prev
    c.backward()
    assert (a.grad, b.grad) == (2.0, 1.0)
    assert Value(1.0)._prev == set()


def test_prev_can_be_assigned():
    a, b = Value(2.0), Value(3.0)
    out = Value(6.0)
    out._prev = {a, b}
    out._op = "mine"

    def rule():
        a.grad += out.grad * b.data
        b.grad += out.grad * a.data

    out._backward = rule
    assert out._prev == {a, b}
    assert out._op == "mine"
    (out * 2).backward()
    assert (a.grad, b.grad) == (6.0, 4.0)


def test_live_nodes_follow_the_values():
    base = live_nodes()
    a = Value(1.0)
    assert live_nodes() == base + 1
    b = a * 2.0 + 1
    assert live_nodes() == base + 5
    c = b._children[0]
    del b
    assert live_nodes() == base + 3
    del c
    assert live_nodes() == base + 1
    del a
    assert live_nodes() == base
