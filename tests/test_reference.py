"""The plain-Python Value: exact on fractions, equal to micrograd's package, torch and the lectures' printed numbers."""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import micrograd.engine
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegrad.reference import MLP, Layer, Neuron, Value

LECTURES = Path(__file__).resolve().parents[1] / ".." / "shared" / "lectures"


# --- exact gradients ---

RATIONALS = st.fractions(min_value=-9, max_value=9, max_denominator=12)
NONZERO = RATIONALS.filter(bool)


@given(a=RATIONALS, b=RATIONALS, c=RATIONALS, d=NONZERO)
def test_gradients_of_a_rational_expression_are_exact(a: Fraction, b: Fraction, c: Fraction, d: Fraction) -> None:
    va, vb, vc, vd = Value(a), Value(b), Value(c), Value(d)
    out = (va * vb + vc) ** 3 / vd - vc * va
    out.backward()
    inner = a * b + c
    assert out.data == inner**3 / d - c * a
    assert va.grad == 3 * inner**2 * b / d - c
    assert vb.grad == 3 * inner**2 * a / d
    assert vc.grad == 3 * inner**2 / d - a
    assert vd.grad == -(inner**3) / d**2
    assert all(type(v.grad) is Fraction for v in (va, vb, vc, vd))


@given(w=st.lists(RATIONALS, min_size=3, max_size=3), x=st.lists(RATIONALS, min_size=3, max_size=3), b=RATIONALS)
def test_gradients_of_a_relu_neuron_are_exact(w: list[Fraction], x: list[Fraction], b: Fraction) -> None:
    vw, vx, vb = [Value(v) for v in w], [Value(v) for v in x], Value(b)
    out = sum((wi * xi for wi, xi in zip(vw, vx, strict=True)), vb).relu() * abs(vb)
    out.backward()
    act = sum((wi * xi for wi, xi in zip(w, x, strict=True)), b)
    on, sign = int(act > 0), (b > 0) - (b < 0)
    assert out.data == max(act, 0) * abs(b)
    assert [v.grad for v in vw] == [on * xi * abs(b) for xi in x]
    assert [v.grad for v in vx] == [on * wi * abs(b) for wi in w]
    assert vb.grad == on * abs(b) + sign * max(act, 0)


# --- against micrograd's package ---

OPERATIONS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "sub": lambda a, b: a - b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: b**3,
    "relu": lambda a, b: a.relu(),
    "neg": lambda a, b: -a,
    "radd": lambda a, b: 2 + a,
    "rsub": lambda a, b: 2.5 - a,
    "rmul": lambda a, b: 3 * a,
    "rdiv": lambda a, b: 2 / b,
}
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=25
)
FLOATS = st.floats(min_value=-3, max_value=3).filter(lambda x: x == 0 or abs(x) > 1e-3)


def run_program(make: Any, leaves: list[float], steps: list[tuple[str, int, int]]) -> tuple[list[Any], Any]:
    """Build an expression whose steps use earlier results; steps that would divide by nearly nothing are left out."""
    values = [make(x) for x in leaves]
    inputs = list(values)
    for op, i, j in steps:
        a, b = values[i % len(values)], values[j % len(values)]
        if op in ("div", "pow", "rdiv") and not 1e-2 < abs(b.data) < 1e2:
            continue
        if abs(a.data) < 1e6 and abs(b.data) < 1e6:
            values.append(OPERATIONS[op](a, b))
    return inputs, sum(values)


def shape(root: Any) -> int:
    """A hash of operations, data and shape; operands are sorted, since micrograd keeps them in a set."""
    done: dict[int, int] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        missing = [c for c in node._prev if id(c) not in done]
        if missing:
            stack.extend(missing)
        else:
            done[id(node)] = hash((node._op, float(node.data), *sorted(done[id(c)] for c in node._prev)))
            stack.pop()
    return done[id(root)]


@settings(max_examples=150, deadline=None)
@given(leaves=st.lists(FLOATS, min_size=1, max_size=4), steps=STEPS)
def test_random_programs_match_micrograd(leaves: list[float], steps: list[tuple[str, int, int]]) -> None:
    ours, out = run_program(Value, leaves, steps)
    theirs, expected = run_program(micrograd.engine.Value, leaves, steps)
    assert out.data == expected.data
    assert shape(out) == shape(expected)
    for _ in range(2):  # the second pass goes through intermediates that still hold their gradients
        out.backward()
        expected.backward()
    scale = 1 + max(abs(v.grad) for v in theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad == pytest.approx(b.grad, rel=1e-10, abs=1e-10 * scale)


# --- against torch ---

ANY = (-20.0, -2.5, -0.7, -1e-7, 0.0, 1e-7, 0.3, 1.9, 20.0)
POSITIVE = (0.03, 0.5, 1.0, 2.75, 40.0)
FUNCTIONS = [
    *[(name, x) for name in ("exp", "expm1", "tanh", "relu", "sigmoid", "sin", "cos", "abs", "softplus") for x in ANY],
    *[(name, x) for name in ("log", "log1p", "sqrt") for x in POSITIVE],
    ("sqrt", 0.0),
    ("sqrt", -0.0),
    ("log1p", -0.5),
    ("tanh", 1000.0),
    ("tanh", -1000.0),
    ("sigmoid", 1000.0),
    ("sigmoid", -1000.0),
    ("softplus", 1000.0),
    ("softplus", -1000.0),
]


@pytest.mark.parametrize(("name", "x"), FUNCTIONS)
def test_functions_match_torch(name: str, x: float) -> None:
    v = Value(x)
    out = getattr(v, name)()
    out.backward()
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    # torch's own softplus goes over to x at a threshold
    expected = torch.logaddexp(t, torch.zeros_like(t)) if name == "softplus" else getattr(t, name)()
    expected.backward()
    assert out.data == pytest.approx(expected.item(), rel=1e-14, abs=1e-15)
    assert v.grad == pytest.approx(t.grad.item(), rel=1e-13, abs=1e-15)
    assert out._op == ("ReLU" if name == "relu" else name)
    assert out._children == (v,)


POWERS = [
    *[(2.0, 3), (2.0, -1), (2.0, 0.5), (-2.0, 3), (-2.0, -2), (0.0, 0), (0.0, 0.5), (0.0, 1), (0.0, 2)],
    *[(1e-200, -1), (-1e-200, -1), (-1e-120, -2)],  # the derivative overflows where the power does not
]


@pytest.mark.parametrize(("x", "k"), POWERS)
def test_powers_match_torch(x: float, k: float) -> None:
    v = Value(x)
    out = v**k
    out.backward()
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = t**k
    expected.backward()
    assert out.data == pytest.approx(expected.item(), rel=1e-15)
    assert v.grad == pytest.approx(t.grad.item(), rel=1e-15)
    assert out._op == f"**{k}"


@pytest.mark.parametrize(("x", "y"), [(2.0, 3.0), (0.5, -1.5), (3.0, 0.0)])
def test_powers_of_values_match_torch(x: float, y: float) -> None:
    a, b = Value(x), Value(y)
    out = a**b + 2**a
    out.backward()
    s, t = (torch.tensor(z, dtype=torch.float64, requires_grad=True) for z in (x, y))
    expected = s**t + 2**s
    expected.backward()
    assert out.data == pytest.approx(expected.item(), rel=1e-15)
    assert (a.grad, b.grad) == pytest.approx((s.grad.item(), t.grad.item()), rel=1e-14)


@pytest.mark.parametrize("x", [-2.0, 0.0])
def test_exponent_of_a_base_that_is_not_positive_has_no_gradient(x: float) -> None:
    a, b = Value(x), Value(2.0)
    (a**b).backward()
    assert a.grad == 2 * x
    assert math.isnan(b.grad)


def test_mlp_matches_torch() -> None:
    random.seed(7)
    net = MLP(3, [4, 4, 1])
    out = net([2.0, 3.0, -1.0])
    out.backward()
    x = torch.tensor([2.0, 3.0, -1.0], dtype=torch.float64)
    weights = []
    for layer in net.layers:
        w = torch.tensor([[p.data for p in n.w] for n in layer.neurons], dtype=torch.float64, requires_grad=True)
        b = torch.tensor([n.b.data for n in layer.neurons], dtype=torch.float64, requires_grad=True)
        weights.append((w, b))
        x = torch.tanh(w @ x + b)
    x.sum().backward()
    expected = [torch.cat([w.grad, b.grad[:, None]], dim=1).flatten() for w, b in weights]
    assert out.data == pytest.approx(x.item(), rel=1e-14)
    assert [p.grad for p in net.parameters()] == pytest.approx(torch.cat(expected).tolist(), rel=1e-12, abs=1e-15)


# --- the lectures' numbers ---


def lecture_leaves() -> dict[str, Value]:
    """The inputs, weights and bias as the lectures give them to torch, where the bias passes through 32 bits."""
    start = {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": float(np.float32(6.8813735870195432))}
    return {name: Value(x, label=name) for name, x in start.items()}


def lecture_neuron(v: dict[str, Value]) -> Value:
    return (v["x1"] * v["w1"] + v["x2"] * v["w2"] + v["b"]).tanh()


def test_lecture_neuron_has_the_printed_gradients() -> None:
    v = lecture_leaves()
    out = lecture_neuron(v)
    out.backward()
    printed = {"x2": 0.5000001283844369, "w2": 0.0, "x1": -1.5000003851533106, "w1": 1.0000002567688737}
    assert out.data == pytest.approx(0.7071066904050358, rel=1e-14, abs=0)
    assert {name: v[name].grad for name in printed} == pytest.approx(printed, rel=1e-14, abs=1e-16)


def test_lecture_table_of_losses() -> None:
    text = LECTURES / "reverse_engineering_a_neural_network.txt"
    if not text.exists():
        pytest.skip("the lectures are not here")
    printed = re.findall(r"Epoch (\d+), Loss: ([\d.]+), Output: ([\d.]+)", text.read_text("utf-8", "replace"))
    v = lecture_leaves()
    lecture_neuron(v).backward()  # its gradients are still there in the first epoch, as in the lecture
    lines = []
    for epoch in range(1, 101):
        out = lecture_neuron(v)
        loss = (out - 0.0) ** 2 / 2
        loss.backward()
        for name in ("w1", "w2", "b"):
            v[name].data -= 0.01 * v[name].grad
        for leaf in v.values():
            leaf.grad = 0.0
        lines.append((str(epoch), f"{loss.data:.6f}", f"{out.data:.6f}"))
    assert len(printed) == 100
    assert lines == printed


@pytest.mark.parametrize("x", [-354.0, -30.0, -1.0, -1e-4, 1e-5, 0.3, 0.8813735870195432, 2.0, 17.5, 354.0])
def test_tanh_has_the_bits_of_the_lectures_formula(x: float) -> None:
    assert Value(x).tanh().data == (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)


@pytest.mark.parametrize("x", [0.0, 1e-12, -3e-6, 9.9e-6, 355.0, 1e300, -1e300, math.inf, -math.inf])
def test_tanh_is_sound_where_the_formula_is_not(x: float) -> None:
    assert Value(x).tanh().data == math.tanh(x)


# --- graph ---


def text(v: Value) -> str:
    """The graph of v as nested text."""
    return f"({v._op} {' '.join(map(text, v._children))})" if v._children else str(v.data)


def test_composite_operators_build_micrograds_graph() -> None:
    a, b = Value(2.0), Value(4.0)
    assert text(-a) == "(* 2.0 -1)"
    assert text(a - b) == "(+ 2.0 (* 4.0 -1))"
    assert text(a / b) == "(* 2.0 (**-1 4.0))"
    assert text(a - 1) == "(+ 2.0 -1)"
    assert text(a / 4) == "(* 2.0 0.25)"
    assert text(1 - a) == "(+ (* 2.0 -1) 1)"
    assert text(3 / a) == "(* (**-1 2.0) 3)"
    assert text(3 + a) == "(+ 2.0 3)"
    assert text(3 * a) == "(* 2.0 3)"
    assert text(3**a) == "(** 3 2.0)"
    assert text(a**0.5) == "(**0.5 2.0)"
    assert text(a**b) == "(** 2.0 4.0)"
    assert text(sum([a, b])) == "(+ (+ 2.0 0) 4.0)"
    assert text(abs(a)) == "(abs 2.0)"


def test_operands_are_the_very_objects() -> None:
    a, b = Value(2.0), Value(3.0)
    c = a * b
    assert c._prev == {a, b}
    assert c._children[0] is a
    assert c._children[1] is b
    assert (a + a)._prev == {a}
    assert (a + a)._children == (a, a)
    assert (a._prev, a._children, a._op, a.label) == (set(), (), "", "")


def test_ints_stay_ints() -> None:
    assert repr(Value(3) + 3) == "Value(data=6)"
    assert repr(Value(-2.0).relu()) == "Value(data=0)"
    assert repr(Value(3).relu() ** 2) == "Value(data=9)"


def test_third_argument_may_be_local_gradients() -> None:
    a, b = Value(2.0), Value(3.0)
    for out in (Value(6.0, (a, b), (3.0, 2.0)), Value(6.0, children=(a, b), local_grads=(3.0, 2.0))):
        a.grad = b.grad = 0.0
        (out * 10).backward()
        assert (a.grad, b.grad, out._op) == (30.0, 20.0, "")


def test_own_rule_and_rule_by_hand() -> None:
    a = Value(3.0)
    out = Value(9.0, (a,), "square", label="s")

    def rule() -> None:
        a.grad += 2 * a.data * out.grad

    out._backward = rule  # type: ignore[method-assign]
    (out * 2).backward()
    assert (a.grad, out._op, out.label) == (12.0, "square", "s")
    b, c = Value(2.0), Value(5.0)
    d = b * c
    d.grad = 10.0
    d._backward()
    assert (b.grad, c.grad) == (50.0, 20.0)


def test_operands_are_read_at_backward_time() -> None:
    a, b = Value(2.0), Value(3.0)
    out = a * b
    a.data = 7.0
    out.backward()
    assert (a.grad, b.grad) == (3.0, 7.0)


def test_any_depth() -> None:
    n = 100_000
    a, b = Value(1.0), Value(1.0)
    s = Value(0.0)
    for _ in range(n):
        s = s * b + a
    s.backward()
    assert a.grad == n  # s = a (1 + b + ... + b^(n-1))
    assert b.grad == n * (n - 1) / 2


# --- numbers and errors ---


def test_comparison_conversion_and_identity() -> None:
    a, b = Value(2.0), Value(3.5)
    assert a < b
    assert a <= 2
    assert b > 3
    assert b >= a
    assert 3 > a  # noqa: SIM300  the reflected comparison is what is tested
    assert (float(b), int(b), bool(b), bool(Value(0.0))) == (3.5, 3, True, False)
    assert max(a, b) is b
    assert a != Value(2.0)
    assert {a: 1}[a] == 1


@pytest.mark.parametrize("bad", ["2", None, 1j, [1.0], np.ones(3)], ids=lambda bad: type(bad).__name__)
def test_data_must_be_a_real_number(bad: object) -> None:
    with pytest.raises(TypeError, match=f"real number, not {type(bad).__name__}"):
        Value(bad)


@pytest.mark.parametrize("bad", ["2", None, 1j])
def test_operands_must_be_real_numbers(bad: Any) -> None:
    a = Value(1.0)
    operations = [
        *[lambda: a + bad, lambda: a - bad, lambda: a * bad, lambda: a / bad, lambda: a**bad, lambda: a < bad],
        *[lambda: bad + a, lambda: bad - a, lambda: bad * a, lambda: bad / a, lambda: bad**a, lambda: bad < a],
    ]
    for operate in operations:
        with pytest.raises(TypeError):
            operate()


@pytest.mark.parametrize(
    ("operate", "error"),
    [
        (lambda: Value(1.0) / 0, ZeroDivisionError),
        (lambda: Value(0.0) ** -1, ZeroDivisionError),
        (lambda: Value(1000.0).exp(), OverflowError),
        (lambda: Value(10.0) ** 400, OverflowError),
        (lambda: Value(-1.0).log(), ValueError),
        (lambda: Value(-8.0) ** (1 / 3), ValueError),
        (lambda: Value(-8.0) ** 1000000.5, ValueError),
    ],
)
def test_errors_are_pythons(operate: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        operate()


def test_numpy() -> None:
    v = Value(3.0)
    assert (np.float64(2) * v).data == 6.0
    assert (v * np.int64(3)).data == 9
    array = np.array([Value(1.0), Value(2.0)], dtype=object)
    assert [x.data for x in array * v] == [3.0, 6.0]
    assert [x.data for x in v * np.array([1.0, 2.0])] == [3.0, 6.0]
    assert [x.data for x in np.exp(array)] == [math.exp(1.0), math.exp(2.0)]
    assert np.dot(array, array).data == 5.0


# --- network ---


def test_weights_are_drawn_in_the_lectures_order() -> None:
    random.seed(1337)
    drawn = [random.uniform(-1, 1) for _ in range(41)]
    random.seed(1337)
    net = MLP(3, [4, 4, 1])
    assert [p.data for p in net.parameters()] == drawn
    assert net.layers[0].neurons[0].b.data == drawn[3]
    assert net.layers[0].neurons[1].w[0].data == drawn[4]


def test_a_neuron_builds_the_lectures_graph() -> None:
    neuron = Neuron(2)
    for v, x in zip(neuron.parameters(), (0.5, -1.0, 2.0), strict=True):
        v.data = x
    out = neuron([3.0, Value(4.0)])
    assert text(out) == "(tanh (+ (+ 2.0 (* 0.5 3.0)) (* -1.0 4.0)))"


def test_layers_give_lists_and_single_outputs() -> None:
    assert len(Layer(2, 3)([1.0, 2.0])) == 3
    assert isinstance(Layer(2, 1)([1.0, 2.0]), Value)


def test_zero_grad() -> None:
    net = MLP(2, [3, 1])
    net([1.0, 2.0]).backward()
    assert any(p.grad for p in net.parameters())
    net.zero_grad()
    assert not any(p.grad for p in net.parameters())
