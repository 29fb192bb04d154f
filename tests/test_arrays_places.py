"""Indexing, slicing, iterating, reshaping and transposing array Values: NumPy's meaning, and gradients that go back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tapegrad
from tapegrad import Value


def check(shape: tuple[int, ...], pick: Any) -> None:
    """The lanes that NumPy picks, and a gradient that lands where they came from, repeats added up."""
    source = np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape)
    v = Value(source)
    places = np.arange(source.size).reshape(shape)
    want, where = pick(source), np.asarray(pick(places)).ravel()
    out = pick(v)
    assert out.shape == np.shape(want)
    np.testing.assert_array_equal(out.data, want)
    seed = np.arange(2.0, 2.0 + out.size).reshape(out.shape)
    out.backward(seed if out.ndim else float(seed))
    expected = np.zeros(source.size)
    np.add.at(expected, where, seed.ravel())
    np.testing.assert_array_equal(v.grad, expected.reshape(shape))


KEYS: list[tuple[tuple[int, ...], Any]] = [
    ((3,), 0), ((3,), -1), ((3,), np.int64(1)), ((3,), slice(1, 3)), ((3,), slice(None, None, -1)), ((3,), slice(5, 9)),
    ((3,), [0, 2, 2]), ((3,), np.array([-1, 0])), ((3,), [True, False, True]), ((3,), None), ((3,), ...), ((3,), ()),
    ((3,), []), ((2, 3), 1), ((2, 3), (1, 2)), ((2, 3), (slice(None), 1)), ((2, 3), (..., -1)),
    ((2, 3), (slice(None), slice(None, None, 2))), ((2, 3), ([0, 1, 1], [2, 0, 0])), ((2, 3), (slice(None), [2, 0])),
    ((2, 3), np.array([[True, False, True], [False, True, False]])), ((2, 3), (None, 1, None)),
    ((2, 3, 4), (1, ..., slice(None, None, -2))), ((2, 3, 4), (slice(None), -1)), ((2, 3, 4), ([1, 0], slice(1, 2), 3)),
    ((0, 3), slice(None)), ((0, 3), (slice(None), 1)), ((3, 0), 1),
    ((60, 70), (slice(3, 50, 7), slice(None, None, -3))),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "key"), KEYS, ids=str)
def test_keys(shape: tuple[int, ...], key: Any) -> None:
    check(shape, lambda x: x[key])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_key(data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    check(shape, lambda x: x[key])


@pytest.mark.parametrize(
    ("key", "error", "said"),
    [
        (3, IndexError, "index 3 is out of range for a Value with 3 lanes along its first axis"),
        (-4, IndexError, "index -4 is out of range"),
        (10**30, IndexError, "cannot fit"),
        ((0, 0), IndexError, "too many indices"),
        ("a", IndexError, "only integers, slices"),
        (1.5, IndexError, "only integers, slices"),
        ([True, False], IndexError, "boolean index did not match"),
        ([5], IndexError, "out of bounds"),
        (slice(None, None, 0), ValueError, "step cannot be zero"),
    ],
    ids=repr,
)
def test_bad_keys(key: Any, error: type[Exception], said: str) -> None:
    v = Value([1.0, 2.0, 3.0])
    before = tapegrad.live_nodes()
    with pytest.raises(error, match=said):
        v[key]
    assert tapegrad.live_nodes() == before
    with pytest.raises(TypeError, match="does not support item assignment"):
        v[0] = 1.0  # type: ignore[index]


def test_what_was_taken_is_a_node_of_its_own() -> None:
    v = Value([1.0, 2.0, 3.0])
    w = v[1:]
    w.data[0] = 50.0
    assert v.data.tolist() == [1.0, 2.0, 3.0]
    assert w._op == "index"
    assert w._children == (v,)
    assert v[0]._op == "index"
    assert type(v[0].data) is float


def test_iterating() -> None:
    v = Value([1.0, 2.0, 4.0])
    total = sum(x * x for x in v)
    total.backward()
    assert total.data == 21.0
    assert v.grad.tolist() == [2.0, 4.0, 8.0]
    a, b = Value([[1.0, 2.0], [3.0, 4.0]])
    assert (a.data.tolist(), b.data.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    assert list(Value([])) == []
    assert 2.0 not in [x.data for x in Value([1.0])]


@pytest.mark.parametrize(
    ("shape", "args"),
    [((6,), (2, 3)), ((6,), ((3, 2),)), ((2, 3), (-1,)), ((2, 3), (3, -1)), ((1,), ((),)), ((0, 3), (3, 0)),
     ((2, 3), (1, 6, 1)), ((0,), (0, 5)), ((1200,), (30, 40))], ids=str,
)  # fmt: skip
def test_reshape(shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    check(shape, lambda x: x.reshape(*args))
    if isinstance(args[-1], int):
        np.testing.assert_array_equal(np.reshape(Value(np.ones(shape)), args).data, np.ones(shape).reshape(*args))


def test_reshape_of_one_number() -> None:
    s = Value(3.0)
    v = s.reshape(1, 1)
    assert v.shape == (1, 1)
    v.backward()
    assert s.grad == 1.0
    assert s.reshape(()) is s


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ((4,), ValueError, "reshape(): a Value of shape (2, 3) cannot take the shape (4,)"),
        ((-1, -1), ValueError, "cannot take the shape (-1, -1)"),
        ((-2, 3), ValueError, "cannot take the shape (-2, 3)"),
        ((-1, 4), ValueError, "cannot take the shape (-1, 4)"),
        ((2**62, 2**62), ValueError, "cannot take the shape"),
        (("a",), TypeError, "reshape() takes whole numbers, not str: 'a'"),
        ((2.0, 3.0), TypeError, "not float: 2.0"),
    ],
    ids=repr,
)
def test_bad_shapes(args: tuple[Any, ...], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        Value(np.zeros((2, 3))).reshape(*args)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3,), ()), ((2, 3), ()), ((2, 3), (1, 0)), ((2, 3), (0, 1)), ((2, 3), ((-1, 0),)), ((2, 3, 4), (2, 0, 1)),
     ((2, 0), ()), ((30, 40), ())], ids=str,
)  # fmt: skip
def test_transpose(shape: tuple[int, ...], axes: tuple[Any, ...]) -> None:
    check(shape, lambda x: x.transpose(*axes))
    if not axes:
        check(shape, lambda x: x.T)
        np.testing.assert_array_equal(np.transpose(Value(np.ones(shape))).data, np.ones(shape).T)


@pytest.mark.parametrize("axes", [(0,), (0, 0), (0, 2), (-3, 1), (0, 1, 2)], ids=str)
def test_bad_orders_of_axes(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the axes must be the numbers from 0 to 1, each once"):
        Value(np.zeros((2, 3))).transpose(*axes)


def test_a_chain_of_places() -> None:
    check((4, 6), lambda x: x[1:, ::2].T.reshape(-1)[[0, 3, 3, 8]])


REFUSED = {
    "concatenate": lambda v: np.concatenate([v, v]),
    "stack": lambda v: np.stack([v, v]),
    "norm": lambda v: np.linalg.norm(v),
    "cumsum": lambda v: np.cumsum(v),
    "reduce": lambda v: np.add.reduce(v),
    "outer": lambda v: np.multiply.outer(v, v),
    "einsum": lambda v: np.einsum("i,i", v, v),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numpy_functions_without_a_meaning_here_say_so(name: str) -> None:
    with pytest.raises(TypeError, match="not defined for a Value that holds an array"):
        REFUSED[name](Value([1.0, 2.0]))


def test_an_array_of_numbers_cannot_take_a_value_up() -> None:
    x = np.ones(2)
    with pytest.raises(TypeError, match=re.escape("write x = x + v in place of x += v")):
        x += Value([1.0, 2.0])
    with pytest.raises(TypeError):
        np.add(x, Value([1.0, 2.0]), out=x)
    assert x.tolist() == [1.0, 1.0]
