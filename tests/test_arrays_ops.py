"""Operations on array Values: values against NumPy, gradients against torch and against differences."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tapegrad
from tapegrad import Value, _core

RANDOM = np.random.default_rng(7)
SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((4, 1, 3), (2, 1)),
    ((1,), (2, 3)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((0,), (0,)),
    ((0, 3), (1, 3)),
    ((40, 50), (50,)),
    ((50,), (40, 1)),
    ((700,), (700,)),
]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


def numbers(shape: tuple[int, ...], low: float = 0.3, high: float = 2.0) -> Any:
    return RANDOM.uniform(low, high, shape)


def seed_for(result: Any) -> Any:
    return RANDOM.uniform(-1, 1, result.shape)


def check(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any, rtol: float = 1e-12) -> None:
    """Value and gradients of a function of Values against the same of tensors, twice, so that gradients add up."""
    values = [Value(a if np.ndim(a) else float(a)) for a in arrays]
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    for _ in range(2):
        out, want = ours(*values), theirs(*tensors)
        assert type(out) is Value
        assert out.shape == tuple(want.shape)
        np.testing.assert_allclose(out.data, want.detach().numpy(), rtol=rtol, atol=1e-14)
        seed = seed_for(out)
        out.backward(seed if out.ndim else float(seed))
        if want.requires_grad:
            want.backward(torch.tensor(seed))
    for v, t in zip(values, tensors, strict=True):
        grad = np.zeros(v.shape) if t.grad is None else t.grad.numpy()
        np.testing.assert_allclose(v.grad, grad, rtol=1e-10, atol=1e-12)
        assert np.shape(v.grad) == v.shape


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_binary_operators_broadcast(op: Any, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check(op, op, numbers(a), numbers(b))


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (600,)], ids=str)
def test_an_operand_twice(op: Any, shape: tuple[int, ...]) -> None:
    check(lambda x: op(x, x) + x, lambda x: op(x, x) + x, numbers(shape))


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize("other", [2, 2.5, -1.0, np.float64(3.0), np.float32(0.5), np.int64(2)], ids=repr)
def test_numbers_on_either_side(op: Any, other: Any) -> None:
    plain = other.item() if isinstance(other, np.generic) else other
    x = numbers((2, 3))
    check(lambda v: op(v, other), lambda t: op(t, plain), x)
    if op is not operator.pow or plain > 0:
        check(lambda v: op(other, v), lambda t: op(torch.tensor(float(plain), dtype=torch.float64), t), x)


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_arrays_on_either_side(op: Any) -> None:
    x, y = numbers((2, 3)), numbers((3,))
    for value, other in [(x, y), (y, x), (1.5, x)]:
        check(lambda v, other=other: op(v, other), lambda t, other=other: op(t, torch.tensor(other)), value)
        check(lambda v, other=other: op(other, v), lambda t, other=other: op(torch.tensor(other), t), value)
    for other in ([1, 2, 3], (1.0, 2.0, 3.0)):
        np.testing.assert_allclose(op(Value(y), other).data, op(y, np.array(other, dtype=float)), rtol=1e-12)
        np.testing.assert_allclose(op(other, Value(y)).data, op(np.array(other, dtype=float), y), rtol=1e-12)
    with pytest.raises(TypeError):
        op(Value(2.0), [1, 2])  # a list and a number do not go together in Python either


def test_the_exponent_has_its_gradient() -> None:
    # The article's formula for the exponent's gradient, log(base) * out.grad, lacks the factor base ** exponent.
    base, exponent = Value([1.5, 2.0, 3.0]), Value([2.0, 0.5, -1.0])
    (base**exponent).backward()
    b, e = base.data, exponent.data
    np.testing.assert_allclose(exponent.grad, b**e * np.log(b), rtol=1e-14)
    np.testing.assert_allclose(base.grad, e * b ** (e - 1), rtol=1e-14)
    cold = Value([-2.0, 0.0])
    power = Value([2.0, 2.0])
    (cold**power).backward()
    assert np.isnan(power.grad).all()  # as for numbers
    assert cold.grad.tolist() == [-4.0, 0.0]


def test_arrays_follow_ieee() -> None:
    x = Value([0.0, -1.0, 1.0, np.nan, np.inf])
    with np.errstate(all="ignore"):
        for ours, want in [
            (x.log(), np.log(x.data)),
            (x.sqrt(), np.sqrt(x.data)),
            (1 / x, 1 / x.data),
            (x / 0, x.data * np.inf),
            (x**-1, x.data**-1.0),
            (x**0.5, x.data**0.5),
            ((x * 1000).exp(), np.exp(x.data * 1000)),
            (x.arcsin(), np.arcsin(x.data)),
        ]:
            np.testing.assert_array_equal(ours.data, want)
    zero = Value([0.0])
    (zero**0.5).backward()
    assert zero.grad[0] == np.inf
    zero = Value([0.0])
    (zero**0).backward()
    assert zero.grad[0] == 0.0


UNARY = {
    "exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid,
    "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "abs": torch.abs,
    "softplus": torch.nn.functional.softplus, "log1p": torch.log1p, "expm1": torch.expm1, "exp2": torch.exp2,
    "log2": torch.log2, "log10": torch.log10, "sinh": torch.sinh, "cosh": torch.cosh, "arctan": torch.arctan,
    "arcsinh": torch.arcsinh, "arcsin": torch.arcsin, "arccos": torch.arccos, "arctanh": torch.arctanh,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(5,), (2, 3), (0,), (513,)], ids=str)
@pytest.mark.parametrize("name", [*UNARY, "arccosh"])
def test_functions(name: str, shape: tuple[int, ...]) -> None:
    low, high = {"arccosh": (1.1, 3.0)}.get(name, (0.05, 0.95))
    x = numbers(shape, low, high)
    if name in ("exp", "tanh", "relu", "sigmoid", "sin", "cos", "abs", "softplus", "sinh"):
        x = x * RANDOM.choice([-1.0, 1.0], shape)
    check(lambda v: getattr(v, name)(), UNARY.get(name, torch.arccosh), x)
    if hasattr(np, name):
        np.testing.assert_allclose(getattr(np, name)(Value(x)).data, getattr(np, name)(x), rtol=1e-13)


def test_every_function_of_the_table_is_tested() -> None:
    unary = {name for name in vars(Value) if callable(getattr(Value(0.5), name)) and not name.startswith("_")}
    other = {"backward", "zero_grad", "detach", "sum", "mean", "max", "min", "dot", "reshape", "transpose", "clip"}
    assert unary - other == {*UNARY, "arccosh"}


def test_signs() -> None:
    check(lambda v: -v, lambda t: -t, numbers((2, 2)))
    check(abs, abs, numbers((5,), -1, 1))
    x = Value([1.0])
    assert +x is x


# ---- reductions

AXES: list[tuple[tuple[int, ...], Any]] = [
    ((4,), None), ((4,), 0), ((4,), -1), ((2, 3), None), ((2, 3), 0), ((2, 3), 1), ((2, 3), (0, 1)),
    ((2, 3, 4), 1), ((2, 3, 4), (0, 2)), ((2, 3, 4), (-1, 0)), ((2, 1, 4), 1), ((3, 2), ()), ((1500,), 0),
    ((30, 40), 0),
]  # fmt: skip


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
def test_reductions(name: str, shape: tuple[int, ...], axis: Any, keepdims: bool) -> None:
    every = tuple(range(len(shape))) if axis is None else axis
    where = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}[name]

    def theirs(t: Any) -> Any:  # torch takes no axes for all axes
        return t * 1 if every == () else where(t, dim=every, keepdim=keepdims)

    x = numbers(shape)
    check(lambda v: getattr(v, name)(axis=axis, keepdims=keepdims), theirs, x)
    by_numpy = getattr(np, name)(Value(x), axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(by_numpy.data, getattr(np, name)(x, axis=axis, keepdims=keepdims), rtol=1e-13)


def test_ties_share_the_gradient() -> None:
    x = Value([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    x.max(axis=1).backward([6.0, 9.0])
    assert x.grad.tolist() == [[0.0, 3.0, 3.0], [3.0, 3.0, 3.0]]
    x.grad = 0.0
    x.min().backward()
    assert x.grad.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    a, b = Value([1.0, 2.0]), Value([1.0, 5.0])
    tapegrad.maximum(a, b).backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([0.5, 0.0], [0.5, 1.0])


def test_nan_wins() -> None:
    x = Value([1.0, np.nan, 3.0])
    assert np.isnan(x.max().data)
    assert np.isnan(x.min().data)
    assert np.isnan(tapegrad.maximum(x, 2.0).data).tolist() == [False, True, False]


def test_reductions_of_nothing() -> None:
    empty = Value(np.zeros((0, 3)))
    assert empty.sum().data == 0.0
    assert empty.sum(axis=0).data.tolist() == [0.0] * 3
    assert empty.sum(axis=1).shape == empty.max(axis=1).shape == (0,)
    assert np.isnan(empty.mean().data)
    assert np.isnan(empty.mean(axis=0).data).all()
    (empty.sum() + empty.mean(axis=1).sum()).backward()
    assert empty.grad.shape == (0, 3)
    for name in ("max", "min"):
        with pytest.raises(ValueError, match=rf"\[{name}\] the shape \(0, 3\) has no lanes to choose from"):
            getattr(empty, name)()


def test_bad_axes() -> None:
    v = Value(np.zeros((2, 3)))
    for axis, error, said in [
        (2, ValueError, "sum(): axis 2 is out of range for a Value with 2 axes"),
        ((0, -2), ValueError, "sum(): axis -2 is given twice"),
        ("a", TypeError, "axis must be a whole number, a tuple of them or None, not str: 'a'"),
        (1.0, TypeError, "not float: 1.0"),
        (10**30, OverflowError, "int"),
    ]:
        with pytest.raises(error, match=re.escape(said)):
            v.sum(axis=axis)
    with pytest.raises(TypeError, match="takes one positional argument"):
        v.sum(0, True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'axes'"):
        v.sum(axes=0)
    with pytest.raises(TypeError, match="dtype is not for Values"):
        v.sum(dtype=float)


# ---- products


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((0,), (0,)), ((2, 0), (0, 3)), ((0, 2), (2, 3)),
     ((1, 1), (1, 1)), ((40, 30), (30, 20)), ((1, 1200), (1200,))], ids=str,
)  # fmt: skip
def test_products(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = numbers(a), numbers(b)
    check(operator.matmul, operator.matmul, x, y)
    check(lambda p, q: p.dot(q), operator.matmul, x, y)
    check(lambda p: p @ y, lambda t: t @ torch.tensor(y), x)
    check(lambda q: x @ q, lambda t: torch.tensor(x) @ t, y)
    for out in (np.dot(Value(x), y), np.dot(x, Value(y)), np.matmul(x, Value(y)), _core.dot(x, y)):
        np.testing.assert_allclose(out.data, x @ y, rtol=1e-12)


def test_products_that_do_not_fit() -> None:
    v, m, s = Value([1.0, 2.0, 3.0]), Value(np.ones((2, 3))), Value(2.0)
    with pytest.raises(ValueError, match=r"\[@\] the shapes \(3,\) and \(2, 3\) do not fit: the last axis of the left"):
        v @ m
    with pytest.raises(
        ValueError, match=r"\[@\] the shapes \(2, 2, 2\) and \(2,\) are not those of vectors or matrices"
    ):
        Value(np.ones((2, 2, 2))) @ Value([1.0, 2.0])
    with pytest.raises(ValueError, match=r"one operand is a single number; multiply with \*"):
        v @ s
    with pytest.raises(TypeError):
        v @ 2.0
    assert v.dot(2.0).data.tolist() == [2.0, 4.0, 6.0]
    assert s.dot(v).data.tolist() == [2.0, 4.0, 6.0]
    assert (v @ [1, 1, 1]).data == ([1, 1, 1] @ v).data == 6.0


# ---- choices


def test_where() -> None:
    c = np.array([[True, False, True], [False, False, True]])
    for a, b in [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2, 3)), ((), ())]:
        x, y = numbers(a), numbers(b)
        check(lambda p, q: tapegrad.where(c, p, q), lambda p, q: torch.where(torch.tensor(c), p, q), x, y)
        if a:  # of Values that hold numbers NumPy makes object arrays, as ever
            np.testing.assert_array_equal(np.where(c, Value(x), y).data, np.where(c, x, y))
    v = Value([1.0, -2.0])
    tapegrad.where(v > 0, v * 2, v * 3).backward()
    assert v.grad.tolist() == [2.0, 3.0]
    condition = Value([1.0, 0.0])
    tapegrad.where(condition, v, 0.0).backward()
    assert condition.grad.tolist() == [0.0, 0.0]
    assert tapegrad.where([True, False], 1, 2).tolist() == [1, 2]
    with pytest.raises(
        ValueError, match=r"\[where\] the shapes \(2,\) and \(3,\) and \(\) \(one number\) do not broad"
    ):
        tapegrad.where(v > 0, Value([1.0, 2.0, 3.0]), 1)
    with pytest.raises(TypeError, match=r"operand of where\(\) must be a number or an array of real numbers, not str"):
        tapegrad.where(v > 0, v, "a")


@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_maximum_and_minimum(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = numbers(a), numbers(b)
    check(tapegrad.maximum, torch.maximum, x, y)
    check(tapegrad.minimum, torch.minimum, x, y)
    np.testing.assert_array_equal(np.maximum(Value(x), y).data, np.maximum(x, y))
    np.testing.assert_array_equal(tapegrad.minimum(x, Value(y)).data, np.minimum(x, y))


def test_clip() -> None:
    x = numbers((4, 5), -2, 2)
    check(lambda v: tapegrad.clip(v, -1, 1), lambda t: torch.clip(t, -1, 1), x)
    check(lambda v: v.clip(None, 0.5), lambda t: torch.clip(t, None, 0.5), x)
    check(lambda v: np.clip(v, -0.5, None), lambda t: torch.clip(t, -0.5, None), x)
    low = numbers((5,), -1, 0)
    check(lambda v, b: v.clip(b, 2.0), lambda t, b: torch.clip(torch.maximum(t, b), None, 2.0), x, low)
    assert tapegrad.clip([1, 5], 2, 3).tolist() == [2, 3]
    with pytest.raises(TypeError, match="takes the two arguments low and high, 1 given"):
        Value([1.0]).clip(1)


# ---- errors


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_shapes_that_do_not_broadcast(op: Any) -> None:
    name = {"sub": "add", "truediv": "mul"}.get(op.__name__, op.__name__)
    label = {"add": "+", "mul": "*", "pow": "**"}[name]
    before = tapegrad.live_nodes()
    for other in (Value(np.ones((2, 4))), np.ones((2, 4))):
        with pytest.raises(
            ValueError, match=rf"\[{re.escape(label)}\] the shapes \(2, 3\) and \(2, 4\) do not broadcast"
        ):
            op(Value(np.ones((2, 3))), other)
    for function in (tapegrad.maximum, tapegrad.minimum):
        with pytest.raises(ValueError, match=r"imum\] the shapes \(2,\) and \(3,\) do not broadcast"):
            function(Value([1.0, 2.0]), Value([1.0, 2.0, 3.0]))
    del other
    assert tapegrad.live_nodes() == before


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize(
    "bad", ["a", None, 1j, {}, object(), np.array(["a"]), np.array([1j]), np.array([None])], ids=repr
)
def test_operands_of_another_kind(op: Any, bad: Any) -> None:
    v = Value([1.0, 2.0])
    for a, b in [(v, bad), (bad, v)]:
        with pytest.raises(TypeError, match=r"unsupported operand|do not go together|to str|sequence"):
            op(a, b)


def test_no_warnings_from_elements_of_object_arrays() -> None:
    x = Value(np.linspace(-0.9, 0.9, 37))
    boxed = np.empty(2, dtype=object)
    boxed[:] = [x, x * 0.5]
    for name in ("tanh", "arctanh", "exp", "sin", "arcsin", "log1p", "sinh"):
        for out, source in zip(getattr(np, name)(boxed), boxed, strict=True):
            np.testing.assert_allclose(out.data, getattr(np, name)(source.data), rtol=1e-13)
