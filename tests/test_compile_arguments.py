"""Calls of compiled functions with arguments like those of an earlier call: whatever way they take, the result is the
same, and only arguments of the same shape take the short one."""

import collections
import gc
import math

import numpy as np
import pytest

import tapegrad
from tapegrad import Value

Point = collections.namedtuple("Point", "x y")


def weigh(x):
    """A number made of all numbers in a nest, each with a weight of its own."""
    if isinstance(x, np.ndarray):
        x = list(x.flat)
    if isinstance(x, dict):
        return sum(weigh(item) * (i + 1) for i, item in enumerate(x.values()))
    if isinstance(x, (list, tuple)):
        return sum((weigh(item) * (i + 2) for i, item in enumerate(x)), 0.5)
    if x is None or isinstance(x, (str, bool)):
        return len(str(x))
    return x * x


def direct(f):
    return f._calls(f.program._core)


NESTS = [
    [(1.5,), (2.5,)],
    [(1.5, 2.0), (0.25, -3.0)],
    [(2,), (3,)],
    [([1.0, 2.0, 3.0],), ([4.0, 5.0, 6.0],)],
    [([1.0, [2.0, (3.0, 4)]],), ([4.0, [5.0, (6.0, -7)]],)],
    [({"a": 1.0, "b": [2.0]},), ({"a": 3.0, "b": [4.0]},)],
    [([],), ([],)],
    [(1.0, "sum", None, True), (2.0, "sum", None, True)],
    [(np.arange(6.0).reshape(2, 3),), (np.ones((2, 3)),)],
    [(np.arange(6).reshape(2, 3), 1.0), (np.arange(6)[::-1].reshape(2, 3), 2.0)],
    [(np.array(3.0),), (np.array(4.0),)],
    [(np.zeros((0, 3)), 1.0), (np.zeros((0, 3)), 2.0)],
    [([np.float64(2.0), np.float64(3.0)],), ([np.float64(4.0), 5.0],)],
    [([np.int64(2), 3],), ([np.int64(4), np.int64(5)],)],
]


@pytest.mark.parametrize(("first", "second"), NESTS)
def test_the_short_way_gives_what_the_function_gives(first, second):
    f = tapegrad.compile(lambda *args: weigh(args) * 1.0)
    for args in (first, second, second):
        assert f(*args) == pytest.approx(float(weigh(args)), rel=1e-14)
    assert direct(f) == 2
    assert f.cache_info()[0].calls == 3


@pytest.mark.parametrize(("first", "second"), [pair for pair in NESTS if repr(pair[0]) != "([],)"])
def test_gradients_of_the_short_way_have_the_shape_of_the_long_one(first, second):
    f = tapegrad.compile(lambda *args: weigh(args) * 1.0)
    f.value_and_grad(*first)
    value, short = f.value_and_grad(*second)
    assert direct(f) == 1
    again = tapegrad.compile(lambda *args: weigh(args) * 1.0)
    same_value, long = again.value_and_grad(*second)
    assert value == same_value
    assert repr(short) == repr(long)


def test_backward_takes_nests():
    w = Value(2.0)
    f = tapegrad.compile(lambda xs: sum((w * x for x in xs), 0.0))
    for xs in ([1.0, 2.0], [3.0, 4.0]):
        w.grad = 0.0
        assert f.backward(xs) == 2.0 * sum(xs)
        assert w.grad == sum(xs)
    assert direct(f) == 1


@pytest.mark.parametrize(
    "other",
    [
        [1.0, 2.0, 3.0],
        [1.0],
        (1.0, 2.0),
        [1, 2.0],
        [True, 2.0],
        [np.float32(1.0), 2.0],
        [[1.0], 2.0],
        {"a": 1.0},
        np.array([1.0, 2.0]),
        Point(1.0, 2.0),
    ],
)
def test_other_shapes_take_the_long_way(other):
    f = tapegrad.compile(lambda x: weigh(x) * 1.0)
    f([1.0, 2.0])
    assert f(other) == pytest.approx(float(weigh(other)))
    assert sum(info.calls for info in f.cache_info()) == 2


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(4, 3)[::2],
        np.arange(6.0)[::-1].reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0, dtype=">f8").reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3),
    ],
    ids=["strided", "backwards", "columns", "swapped", "float32"],
)
def test_arrays_in_any_layout(array):
    f = tapegrad.compile(lambda x: weigh(x) * 1.0)
    f(np.zeros((2, 3)))
    assert f(array) == weigh(array.astype(float))


def test_arrays_of_other_shapes_and_kinds_are_recorded_anew():
    f = tapegrad.compile(lambda x: weigh(x) * 1.0)
    for x in (np.ones((2, 3)), np.ones((3, 2)), np.ones(6), np.ones((2, 3), dtype=int), np.ones((2, 3))):
        assert f(x) == weigh(np.asarray(x, dtype=float))
    assert len(f.cache_info()) == 4


def test_static_arguments_choose_the_recording():
    f = tapegrad.compile(lambda x, how: x * 2.0 if how == "double" else x * 3.0)
    for _ in range(3):
        assert f(1.0, "double") == 2.0
        assert f(1.0, "".join(["tri", "ple"])) == 3.0
    assert len(f.cache_info()) == 2


def test_keys_in_another_order_are_another_shape():
    f = tapegrad.compile(lambda d: weigh(d) * 1.0)
    assert f({"a": 1.0, "b": 2.0}) == 9.0
    assert f({"a": 1.0, "b": 3.0}) == 19.0
    assert f({"b": 2.0, "a": 1.0}) == 6.0


def test_more_shapes_than_are_kept_ready():
    f = tapegrad.compile(lambda xs: weigh(xs) * 1.0)
    for _ in range(2):
        for n in range(1, 14):
            assert f([1.0] * n) == weigh([1.0] * n)
    assert [info.calls for info in f.cache_info()] == [2] * 13


def test_several_courses_of_one_shape_stay_ready():
    f = tapegrad.compile(lambda xs: xs[0] * 2.0 if xs[0] > 0 else xs[0] * 3.0)
    for x in (1.0, -1.0) * 3:
        assert f([x]) == (2.0 * x if x > 0 else 3.0 * x)
    assert len(f.cache_info()) == 2
    assert sum(info.calls for info in f.cache_info()) == 6


def test_results_of_any_shape():
    f = tapegrad.compile(lambda xs: {"sum": xs[0] + xs[1], "both": [xs[0] * 2.0, (xs[1], "b")], "n": len(xs)})
    for xs in ([1.0, 2.0], [3.0, 4.0]):
        assert f(xs) == {"sum": sum(xs), "both": [xs[0] * 2.0, (xs[1], "b")], "n": 2}
    assert f._calls(f.program._core) == 1


def test_ints_stay_ints_the_short_way():
    f = tapegrad.compile(lambda xs: xs[0] * xs[1] + 1)
    for xs in ([2, 3], [4, 5]):
        assert repr(f(xs)) == repr(xs[0] * xs[1] + 1)


def test_ints_past_the_range_of_floats_are_refused_as_in_the_first_call():
    f = tapegrad.compile(lambda x: x * 1.0)
    f(1)
    with pytest.raises(OverflowError):
        f(10**400)


def test_what_the_function_reads_is_still_watched():
    scale = [2.0]
    f = tapegrad.compile(lambda xs: xs[0] * scale[0])
    assert [f([1.0]), f([1.0])] == [2.0, 2.0]
    scale[0] = 5.0
    assert [f([1.0]), f([3.0])] == [5.0, 15.0]


def test_masked_arrays_are_refused_after_plain_ones():
    f = tapegrad.compile(lambda x: weigh(x) * 1.0)
    f(np.ones(2))
    with pytest.raises(TypeError, match="masked"):
        f(np.ma.MaskedArray([1.0, 2.0], mask=[True, False]))


def test_an_argument_that_holds_values_makes_a_graph():
    f = tapegrad.compile(lambda xs: xs[0] * xs[1])
    f([2.0, 3.0])
    a = Value(2.0)
    out = f([a, 3.0])
    out.backward()
    assert (out.data, a.grad) == (6.0, 3.0)


def test_nothing_is_left_of_forgotten_functions():
    def use():
        w = Value(1.0)
        f = tapegrad.compile(lambda xs: {"a": sum((w * x for x in xs), 0.0)})
        for n in (2, 3, 4):
            f([1.0] * n)
            f([math.pi] * n)

    use()
    gc.collect()
    before = tapegrad.live_nodes()
    for _ in range(5):
        use()
    gc.collect()
    assert tapegrad.live_nodes() == before
