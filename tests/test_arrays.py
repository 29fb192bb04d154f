"""Values that hold arrays: what they are made of, how data and grad are read and assigned, and what is refused."""

from __future__ import annotations

import copy
import gc
import pickle
import re
from typing import Any

import numpy as np
import pytest

import tapegrad
from tapegrad import Value, _core
from tapegrad.micrograd import engine

DIALECTS = [Value, engine.Value]


@pytest.fixture(params=DIALECTS, ids=["lectures", "micrograd"])
def V(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    before = tapegrad.live_nodes(), _core.array_bytes()
    yield
    gc.collect()
    assert (tapegrad.live_nodes(), _core.array_bytes()) == before


SOURCES: list[tuple[str, Any, Any]] = [
    ("list", [1.0, 2.0], [1.0, 2.0]),
    ("nested list", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    ("tuple", (1, 2.5), [1.0, 2.5]),
    ("range", range(3), [0, 1, 2]),
    ("memoryview", memoryview(bytearray(b"ab")), [97, 98]),
    ("int64", np.array([[1], [2]]), [[1], [2]]),
    ("uint8", np.array([255], dtype=np.uint8), [255]),
    ("bool", np.array([True, False]), [1, 0]),
    ("float16", np.array([1.5], dtype=np.float16), [1.5]),
    ("float32", np.array([1.5, 2.25], dtype=np.float32), [1.5, 2.25]),
    ("big-endian", np.array([1.5, 2.0], dtype=">f8"), [1.5, 2.0]),
    ("negative strides", np.arange(4.0)[::-1], [3, 2, 1, 0]),
    ("every second", np.arange(6.0)[::2], [0, 2, 4]),
    ("transposed", np.arange(6.0).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
    ("Fortran order", np.asfortranarray(np.arange(6.0).reshape(2, 3)), [[0, 1, 2], [3, 4, 5]]),
    ("broadcast", np.broadcast_to(np.float64(2), (2, 2)), [[2, 2], [2, 2]]),
    ("masked", np.ma.array([1.0, 2.0]), [1.0, 2.0]),
    ("empty", [], []),
    ("zero rows", np.zeros((0, 3)), np.zeros((0, 3))),
    ("zero columns", np.zeros((3, 0)), np.zeros((3, 0))),
    ("unaligned", np.frombuffer(b"x" + np.array([1.0, 2.0]).tobytes(), dtype=np.uint8)[1:].view(np.float64), [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), [s[1:] for s in SOURCES], ids=[s[0] for s in SOURCES])
def test_made_from_anything_like_an_array(V: Any, source: Any, expected: Any) -> None:
    v = V(source)
    want = np.asarray(expected, dtype=np.float64)
    assert v.data.dtype == v.grad.dtype == np.float64
    assert v.data.flags.c_contiguous
    assert v.data.shape == v.grad.shape == v.shape == want.shape
    assert (v.ndim, v.size, len(v)) == (want.ndim, want.size, len(want))
    assert np.array_equal(v.data, want)
    assert not v.grad.any()
    w = (v * 2.0 + v).sum()
    w.backward()
    assert w.data == pytest.approx(3 * want.sum())
    assert np.array_equal(v.grad, np.full(want.shape, 3.0))


def test_the_source_is_copied() -> None:
    source = np.array([1.0, 2.0])
    v = Value(source)
    source[0] = 5.0
    assert v.data.tolist() == [1.0, 2.0]
    v.data[1] = 7.0
    assert source.tolist() == [5.0, 2.0]


def test_arrays_without_axes_are_scalars(V: Any) -> None:
    for number, kind in [(np.array(3), int), (np.array(2.5), float), (np.float32(2.5), float)]:
        v = V(number)
        assert type(v.data) is kind
        assert v.shape == ()
        assert (v.ndim, v.size) == (0, 1)
        with pytest.raises(TypeError, match="holds one number has no length"):
            len(v)
        with pytest.raises(TypeError, match="cannot be iterated"):
            iter(v)
        with pytest.raises(TypeError, match="has no lanes to index"):
            v[0]


def test_scalars_are_no_containers() -> None:
    v = Value(1.0)
    assert not hasattr(v, "__len__")
    assert not hasattr(v, "__iter__")
    assert np.array([v, v]).shape == (2,)
    assert v.sum() is v
    assert v.T is v


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["a", "b"], r"list with elements of type <U1: \['a', 'b'\]"),
        (np.array(["a"]), "elements of type <U1"),
        ([1j], "elements of type complex128"),
        (np.array([1j, 2]), "elements of type complex128"),
        (np.array([None]), "elements of type object"),
        (np.array([object()]), "elements of type object"),
        ([10**400], "elements of type object"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"elements of type datetime64\[D\]"),
        (np.zeros(1, dtype=[("x", float)]), "elements of type"),
        ([1, [2, 3]], r"rows of different lengths\?\): \[1, \[2, 3\]\]"),
        ([[1, 2], [3]], "list .rows of different lengths"),
        ("abc", "number or an array of real numbers, not str: 'abc'"),
        (b"abc", "not bytes"),
        ({1: 2}, "not dict"),
        ({1, 2}, "not set"),
        (object(), "not object"),
        (None, "not NoneType"),
    ],
    ids=repr,
)
def test_what_is_no_array_of_numbers_is_refused(V: Any, bad: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        V(bad)
    assert "data must be a number or an array" in str(caught.value)
    v = V([1.0, 2.0])
    for assign in ("data", "grad"):
        with pytest.raises(TypeError, match=f"{assign} must be a number or an array"):
            setattr(v, assign, bad)
    with pytest.raises(TypeError, match="gradient must be a number or an array"):
        v.backward(bad) if bad is not None else v.backward(object())
    assert v.data.tolist() == [1.0, 2.0]
    assert not v.grad.any()


def test_too_many_axes() -> None:
    assert Value(np.zeros((1,) * 32)).ndim == 32
    with pytest.raises(ValueError, match="an array of 33 axes is too much for a Value: 32 at most"):
        Value(np.zeros((1,) * 33))
    v, one = Value(np.zeros((1,) * 32)), Value([2.0])
    assert (v + one).shape == (1,) * 32
    with pytest.raises(ValueError, match="cannot take the shape"):
        v.reshape((1,) * 33)


# ---- data and grad


def test_data_is_a_view_that_stays_valid() -> None:
    v = Value([1.0, 2.0, 3.0])
    data, grad = v.data, v.grad
    data[0] = 10.0
    assert v.data.tolist() == [10.0, 2.0, 3.0]
    (v * v).sum().backward()
    assert grad.tolist() == [20.0, 4.0, 6.0]  # written in place
    grad[:] = 0.0
    assert not v.grad.any()
    w = v * 2.0
    del v
    assert data.tolist() == [10.0, 2.0, 3.0]
    assert w.data.tolist() == [20.0, 4.0, 6.0]
    del w
    assert data.tolist() == [10.0, 2.0, 3.0]  # the view outlives the Value


def test_updates_in_place() -> None:
    v = Value([1.0, 2.0])
    data = v.data
    (v**2).sum().backward()
    v.data -= 0.5 * v.grad
    assert data.tolist() == v.data.tolist() == [0.0, 0.0]
    v.data += [1, 2]
    v.data *= 2
    v.grad += 1
    assert data.tolist() == [2.0, 4.0]
    assert v.grad.tolist() == [3.0, 5.0]


def test_assigning() -> None:
    v = Value([[1.0, 2.0], [3.0, 4.0]])
    old = v.data
    for given, want in [
        (7, [[7, 7], [7, 7]]),
        ([1, 2], [[1, 2], [1, 2]]),
        ([[1], [2]], [[1, 1], [2, 2]]),
        (np.float32(1.5), [[1.5, 1.5], [1.5, 1.5]]),
        (Value([5, 6]), [[5, 6], [5, 6]]),
        (v.data.T, None),
    ]:
        v.data = given
        v.grad = given
        if want is not None:
            assert v.data.tolist() == v.grad.tolist() == want
    v.data = old[::-1]  # a view of the old numbers, which keep what they were
    assert v.data.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    v.data = v.data.T
    assert v.data.tolist() == [[3.0, 1.0], [4.0, 2.0]]
    v.grad = 0.0
    assert v.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 2), (0,)])
def test_a_value_keeps_its_shape(shape: tuple[int, ...]) -> None:
    v = Value([[1.0, 2.0], [3.0, 4.0]])
    for assign in ("data", "grad"):
        said = re.escape(f"{assign} of shape {shape} does not fit a Value of shape (2, 2)")
        with pytest.raises(ValueError, match=said):
            setattr(v, assign, np.zeros(shape))
    with pytest.raises(ValueError, match=re.escape(f"gradient of shape {shape} does not fit")):
        v.backward(np.zeros(shape))
    s = Value(1.0)
    for assign in ("data", "grad"):
        with pytest.raises(TypeError, match=f"{assign} must be a number, not numpy.ndarray"):
            setattr(s, assign, np.zeros(shape))


def test_deleting_is_refused() -> None:
    v = Value([1.0])
    for name in ("data", "grad"):
        with pytest.raises(AttributeError, match=name):
            delattr(v, name)


def test_gradients_of_a_sum_belong_to_each_operand() -> None:
    x, y = Value([1.0, 2.0]), Value([3.0, 4.0])
    s = x + y
    t = s + 1.0
    t.backward([5.0, 6.0])
    for v in (x, y, s, t):
        assert v.grad.tolist() == [5.0, 6.0]
    x.grad[0] = 100.0
    y.grad += 1.0
    assert (y.grad.tolist(), s.grad.tolist(), t.grad.tolist()) == ([6.0, 7.0], [5.0, 6.0], [5.0, 6.0])
    assert x.grad.tolist() == [100.0, 6.0]
    look = t.grad
    t.backward()
    assert look.tolist() == [5.0, 6.0]  # the numbers of then: a new seed is a new gradient
    assert s.grad.tolist() == [6.0, 7.0]
    assert x.grad.tolist() == [106.0, 13.0]


# ---- showing


def test_repr(V: Any) -> None:
    v = V([1.0, 2.0])
    fresh = ", grad=[0. 0.]" if V is engine.Value else ""
    assert repr(v) == str(v) == f"{v}" == f"Value(data=[1. 2.]{fresh})"
    assert "..." in repr(V(np.zeros(5000)))
    assert repr(V([])) == ("Value(data=[], grad=[])" if V is engine.Value else "Value(data=[])")


def test_labels_and_attributes() -> None:
    v = Value([1.0, 2.0], label="x")
    v.momentum = np.zeros(2)
    assert v.label == "x"
    assert vars(v)["momentum"] is v.momentum
    v.shape = "round"  # the program's own attribute, as for any other name
    assert v.shape == "round"
    del v.shape
    assert v.shape == (2,)


# ---- one answer from an array


def test_truth_float_int() -> None:
    one = Value([[2.5]])
    assert bool(one) is True
    assert (float(one), int(one)) == (2.5, 2)
    assert not Value([0.0])
    many = Value([1.0, 2.0])
    with pytest.raises(ValueError, match=r"the truth of a Value of shape \(2,\) is not one answer but 2"):
        bool(many)
    for convert in (float, int):
        with pytest.raises(TypeError, match=r"of a Value of shape \(2,\) is not one answer but 2"):
            convert(many)
    with pytest.raises(ValueError, match="not one answer but 0"):
        bool(Value([]))


def test_comparisons_give_truth_values() -> None:
    v, w = Value([1.0, 2.0, 3.0]), Value([3.0, 2.0, 1.0])
    assert (v < w).tolist() == [True, False, False]
    assert (v <= 2).tolist() == [True, True, False]
    assert (Value(2) < v).tolist() == [False, False, True]
    assert (v > [0, 5, 0]).tolist() == [True, False, True]
    assert (Value(2.0) >= w).tolist() == [False, True, True]
    assert (np.array([0, 5, 0]) < v).tolist() == [True, False, True]
    assert (Value(2.0) < np.array([1, 3])).tolist() == [False, True]
    assert v == v  # identity, as for numbers
    assert v != w
    assert v in [w, v]
    assert {v: 1}[v] == 1
    with pytest.raises(ValueError, match="broadcast"):
        assert v < Value([1.0, 2.0])
    with pytest.raises(TypeError):
        assert v < "a"


# ---- copies


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(V: Any, protocol: int) -> None:
    x, w = V(np.arange(6.0).reshape(2, 3), label="x"), V(0.5)
    y = ((x * w).tanh()[:, ::2] @ V([1.0, 2.0])).sum()
    y.backward()
    again = pickle.loads(pickle.dumps((x, w, y), protocol))
    for old, new in zip((x, w, y), again, strict=True):
        assert type(new) is type(old)
        assert np.array_equal(new.data, old.data)
        assert np.array_equal(new.grad, old.grad)
    assert again[0].label == "x"
    for v in (x, w, *again[:2]):
        v.grad = 0.0
    for out in (y, again[2]):
        out.backward()
        out.backward()  # the graph is there, intermediates with their gradients
    assert np.array_equal(again[0].grad, x.grad)
    assert again[1].grad == w.grad
    assert again[2]._op == y._op


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copies_are_apart(how: Any) -> None:
    x = Value([1.0, 2.0])
    y = x * 3.0
    other = how(x)
    other.data[0] = 9.0
    assert x.data.tolist() == [1.0, 2.0]
    z = how(y)
    z.backward()
    assert z.data.tolist() == [3.0, 6.0]
    z.data[:] = 0.0
    assert y.data.tolist() == [3.0, 6.0]
    # A copy stands on the same operands, a deep copy on copies of them.
    assert x.grad.tolist() == ([3.0, 3.0] if how is copy.copy else [0.0, 0.0])
