"""Every operation over zeros of both signs, the edges of normal and subnormal numbers, infinities and NaN: eager code
does what Python does, exceptions included; compiled code follows IEEE 754, as NumPy does; gradients are torch's."""

from __future__ import annotations

import math
import operator
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tapegrad
from tapegrad import Value, live_nodes

TINY, HUGE = sys.float_info.min, sys.float_info.max
SUBNORMAL = math.ulp(0.0)
EDGES = [0.0, 0.5, 1.0, 2.0, TINY, HUGE, SUBNORMAL, TINY - SUBNORMAL, math.inf]
SPECIAL = [sign * x for x in EDGES for sign in (1.0, -1.0)] + [math.nan]


def stable_tanh(x: float) -> float:
    if abs(x) < 1e-5 or not abs(x) < 354.5:
        return math.tanh(x)
    return (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)


def stable_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


UNARY: dict[str, tuple[Callable[[float], float], Any, Any]] = {  # Python's, NumPy's, torch's
    "abs": (abs, np.abs, torch.abs),
    "arccos": (math.acos, np.arccos, torch.arccos),
    "arccosh": (math.acosh, np.arccosh, torch.arccosh),
    "arcsin": (math.asin, np.arcsin, torch.arcsin),
    "arcsinh": (math.asinh, np.arcsinh, torch.arcsinh),
    "arctan": (math.atan, np.arctan, torch.arctan),
    "arctanh": (math.atanh, np.arctanh, torch.arctanh),
    "cos": (math.cos, np.cos, torch.cos),
    "cosh": (math.cosh, np.cosh, torch.cosh),
    "exp": (math.exp, np.exp, torch.exp),
    "exp2": (math.exp2, np.exp2, torch.exp2),
    "expm1": (math.expm1, np.expm1, torch.expm1),
    "log": (math.log, np.log, torch.log),
    "log10": (math.log10, np.log10, torch.log10),
    "log1p": (math.log1p, np.log1p, torch.log1p),
    "log2": (math.log2, np.log2, torch.log2),
    "relu": (lambda x: 0 if x < 0 else x, lambda x: np.where(x < 0, 0.0, x), torch.relu),
    "sigmoid": (stable_sigmoid, lambda x: 0.5 * (1 + np.tanh(0.5 * x)), torch.sigmoid),
    "sin": (math.sin, np.sin, torch.sin),
    "sinh": (math.sinh, np.sinh, torch.sinh),
    "softplus": (
        lambda x: (x if not x <= 0 else 0.0) + math.log1p(math.exp(-abs(x))),
        lambda x: np.logaddexp(x, 0.0),
        torch.nn.functional.softplus,
    ),
    "sqrt": (math.sqrt, np.sqrt, torch.sqrt),
    "tan": (math.tan, np.tan, torch.tan),
    "tanh": (stable_tanh, np.tanh, torch.tanh),
}
BINARY: dict[str, tuple[Callable[[Any, Any], Any], Callable[[float, float], float]]] = {  # on Values, on floats
    "+": (operator.add, operator.add),
    "-": (operator.sub, lambda x, y: x + y * -1),
    "*": (operator.mul, operator.mul),
    "/": (operator.truediv, lambda x, y: x * y**-1),
    "**": (operator.pow, operator.pow),
}


def bits(x: Any) -> bytes:
    """The number with the sign of its zero; all NaNs are one."""
    return b"nan" if math.isnan(x) else struct.pack("<d", x)


def outcome(function: Callable[..., Any], *operands: Any) -> Any:
    """The bits of the result, or the type of the exception; complex numbers are a ValueError here."""
    try:
        z = function(*operands)
    except (ArithmeticError, ValueError) as error:
        return type(error)
    return ValueError if isinstance(z, complex) else bits(z)


def test_all_methods_are_looked_at():
    known = {n for n in dir(Value) if "makes one node" in (getattr(Value, n).__doc__ or "")}
    assert known == set(UNARY)


@pytest.mark.parametrize("name", UNARY)
def test_unary_eager_is_pythons(name):
    before = live_nodes()
    for x in SPECIAL:
        expected = outcome(UNARY[name][0], x)
        got = outcome(lambda x: getattr(Value(x), name)().data, x)
        assert got == expected, (name, x, got, expected)
    assert live_nodes() == before


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kinds", ["values", "number on the right", "number on the left"])
def test_binary_eager_is_pythons(name, kinds):
    on_values, on_floats = BINARY[name]
    left = (lambda x: x) if kinds == "number on the left" else Value
    right = (lambda x: x) if kinds == "number on the right" else Value
    before = live_nodes()
    for x in SPECIAL:
        for y in SPECIAL:
            expected = outcome(on_floats, x, y)
            got = outcome(lambda x, y: on_values(left(x), right(y)).data, x, y)
            assert got == expected, (x, name, y, got, expected)
    assert live_nodes() == before


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_are_pythons(compare):
    for x in SPECIAL:
        assert bool(Value(x)) == bool(x)
        for y in SPECIAL:
            assert compare(Value(x), Value(y)) == compare(Value(x), y) == compare(x, Value(y)) == compare(x, y)


def close(got: float, expected: float, x: Any) -> bool:
    """Equal but for the last digits, which two libraries may round differently; zeros with their sign."""
    if math.isnan(expected) or math.isinf(expected) or expected == 0:
        return bits(got) == bits(expected)
    return abs(got - expected) <= 1e-14 * abs(expected) + 2 * SUBNORMAL


def in_lanes(function: Callable[..., Any], *columns: list[float]) -> list[float]:
    return list(tapegrad.vmap(function)(*(np.array(c) for c in columns)))


@pytest.mark.parametrize("way", ["scalar", "lanes"])
@pytest.mark.parametrize("name", UNARY)
def test_unary_compiled_is_ieee(name, way):
    f = tapegrad.compile(lambda x: getattr(x, name)())
    got = [f(x) for x in SPECIAL] if way == "scalar" else in_lanes(f, SPECIAL)
    with np.errstate(all="ignore"):
        for x, z in zip(SPECIAL, got, strict=True):
            expected = float(UNARY[name][1](np.float64(x)))
            assert close(z, expected, x), (name, x, z, expected)


@pytest.mark.parametrize("way", ["scalar", "lanes"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_compiled_is_ieee(name, way):
    on_values, on_floats = BINARY[name]
    f = tapegrad.compile(lambda x, y: on_values(x, y))
    pairs = [(x, y) for x in SPECIAL for y in SPECIAL]
    got = [f(*pair) for pair in pairs] if way == "scalar" else in_lanes(f, *map(list, zip(*pairs, strict=True)))
    with np.errstate(all="ignore"):
        for (x, y), z in zip(pairs, got, strict=True):
            expected = float(on_floats(np.float64(x), np.float64(y)))
            assert close(z, expected, (x, y)), (x, name, y, z, expected)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("way", ["eager", "scalar", "lanes"])
def test_maximum_and_minimum_are_numpys(name, way):
    function = getattr(tapegrad, name)
    pairs = [(x, y) for x in SPECIAL for y in SPECIAL]
    f = tapegrad.compile(lambda x, y: function(x, y))
    if way == "eager":
        got = [function(Value(x), Value(y)).data for x, y in pairs]
    else:
        got = [f(*pair) for pair in pairs] if way == "scalar" else in_lanes(f, *map(list, zip(*pairs, strict=True)))
    for (x, y), z in zip(pairs, got, strict=True):
        expected = float(getattr(np, name)(x, y))
        assert bits(z + 0.0) == bits(expected + 0.0), (name, x, y, z)  # of two zeros either is right


# Where a gradient is not torch's, and what it is instead.
OWN_GRADIENTS = {
    ("abs", "nan"): math.nan,  # NaN travels
    ("relu", "nan"): 0.0,  # the positive side has the slope, and NaN is not on it
}


@pytest.mark.parametrize("way", ["eager", "scalar", "lanes"])
@pytest.mark.parametrize("name", UNARY)
def test_unary_gradients_are_torchs(name, way):
    f = tapegrad.compile(lambda x: getattr(x, name)())
    lanes = tapegrad.vmap(f).value_and_grad(np.array(SPECIAL))[1] if way == "lanes" else SPECIAL
    for x, in_lane in zip(SPECIAL, lanes, strict=True):
        expected = outcome(UNARY[name][0], x)
        if expected is ValueError or (way == "eager" and expected is OverflowError):
            continue  # no result, no gradient
        if way == "eager":
            v = Value(x)
            getattr(v, name)().backward()
            got = v.grad
        else:
            got = f.value_and_grad(x)[1] if way == "scalar" else in_lane
        t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            UNARY[name][2](t).backward()
        expected = t.grad.item()
        if (name, str(x)) in OWN_GRADIENTS:
            assert bits(expected) != bits(OWN_GRADIENTS[name, str(x)])
            expected = OWN_GRADIENTS[name, str(x)]
        same = (math.isnan(got) and math.isnan(expected)) or got == pytest.approx(expected, rel=1e-12, abs=1e-300)
        assert same, (name, x, got, expected)
