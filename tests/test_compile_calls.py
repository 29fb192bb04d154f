"""How compiled functions are called: as methods, with every kind of argument, over lanes of any layout; what they look
like from outside, and what they say when something is wrong."""

import copy
import decimal
import fractions
import functools
import inspect
import math
import pydoc
import weakref

import numpy as np
import pytest

import tapegrad
from tapegrad import Value
from tapegrad.compiled import clip, compile, grad, maximum, minimum, value_and_grad, vmap, where


@compile
def documented(x, y=2.0, *, z=1.0):
    """What it is for."""
    return x * y * z


def cube(x):
    return x * x * x


class Model:
    def __init__(self, w):
        self.w = Value(w)

    @compile
    def loss(self, x):
        """The loss."""
        return self.w * x

    @classmethod
    @compile
    def of_class(cls, x):
        return x * 2

    @staticmethod
    @compile
    def of_none(x):
        return x * 3

    @property
    @compile
    def five(self):
        return self.w * 5


class Derived(Model):
    @compile
    def loss(self, x):
        return super().loss(x) * 10


class Slots:
    __slots__ = ("w",)

    @compile
    def loss(self, x):
        return self.w * x


def test_it_looks_like_the_function():
    assert (documented.__name__, documented.__doc__) == ("documented", "What it is for.")
    assert documented.__module__ == __name__
    assert list(inspect.signature(documented).parameters) == ["x", "y", "z"]
    assert "What it is for." in pydoc.render_doc(documented)
    assert functools.wraps(documented)(lambda: 1).__doc__ == "What it is for."
    assert "documented" in repr(documented) + repr(vmap(documented))
    assert vmap(documented).__doc__ == grad(documented).__doc__ == "What it is for."
    assert {"program", "cache_info", "cache_clear", "backward", "value_and_grad"} <= set(dir(documented))
    f = compile(cube)
    ref = weakref.ref(f)
    f(1.0)
    del f
    assert ref() is None


def test_keyword_arguments_and_defaults():
    assert (documented(1.0), documented(1.0, 3.0), documented(1.0, z=3.0), documented(x=2.0)) == (2.0, 3.0, 6.0, 4.0)
    assert documented.value_and_grad(1.0, z=3.0) == (6.0, 6.0)
    assert documented.value_and_grad(1.0, 4.0, z=3.0) == (12.0, (12.0, 3.0))
    for call in (lambda: documented(), lambda: documented(1.0, 2.0, 3.0), lambda: documented(1.0, q=1.0)):
        with pytest.raises(TypeError, match="argument"):
            call()


def test_methods():
    a, b, derived = Model(2.0), Model(3.0), Derived(2.0)
    assert (a.loss(3.0), b.loss(3.0), Model.loss(a, 3.0)) == (6.0, 9.0, 6.0)
    assert (derived.loss(3.0), derived.loss(4.0)) == (60.0, 80.0)
    assert a.loss is a.loss
    assert a.loss.__doc__ == "The loss."
    assert (Model.of_class(2.0), a.of_class(2.0), Model.of_none(2.0), a.of_none(2.0), a.five) == (4, 4, 6, 6, 10.0)
    for twin in (copy.copy(a), copy.deepcopy(a)):
        twin.w = Value(7.0)
        assert (twin.loss(1.0), a.loss(1.0)) == (7.0, 2.0)
    s = Slots()
    for w in (2.0, 3.0):
        s.w = Value(w)
        assert s.loss(2.0) == 2 * w


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i1", "u1", "i8", "u8", "longdouble"])
def test_numpy_numbers_of_every_type(dtype):
    array = np.array([1, 2]).astype(dtype)
    value, gradient = compile(lambda x: x.sum() * 2).value_and_grad(array)
    assert (value, gradient.tolist(), gradient.dtype) == (6, [2.0, 2.0], np.float64)
    value, slope = compile(lambda x: x * 2).value_and_grad(array[1])
    assert (value, slope, type(value)) == (4, 2.0, float if array.dtype.kind == "f" else int)


def test_numbers_of_other_kinds():
    double = compile(lambda x: x * 2)
    assert double.value_and_grad(fractions.Fraction(1, 2)) == (1.0, 2.0)
    assert double.value_and_grad(decimal.Decimal("0.5")) == (1.0, 2.0)
    assert len(double.cache_info()) == 1
    for whole in (2**52, 2**53, 2**60):
        assert (double(whole), type(double(whole))) == ((Value(whole) * 2).data, type((Value(whole) * 2).data))
    with pytest.raises(OverflowError):
        double(10**400)


def test_arrays_without_axes_and_without_numbers():
    value, gradient = compile(lambda x: x * 2).value_and_grad(np.array(3.0))
    assert (value, gradient.shape, float(gradient)) == (6.0, (), 2.0)
    assert compile(lambda x, y: y + x.sum()).value_and_grad(np.empty((0, 2)), 2.0)[0] == 2.0
    assert compile(lambda x, y: y + sum(x)).value_and_grad([], 2.0) == (2.0, ([], 1.0))
    assert compile(lambda: Value(2.0) * 3)() == 6.0


def test_results_hold_inputs_and_constants():
    f = compile(lambda x, y: (x, y, {"a": [x, None, True, 3, "t", np.float32(2)], 1: (y * 1.0, x.data, y.data)}))
    assert f(1.0, 2) == (1.0, 2, {"a": [1.0, None, True, 3, "t", 2], 1: (2.0, 1.0, 2)})
    assert [type(x) for x in (f(1.0, 2)[1], f(1.0, 2)[2][1][0], f(1.0, 2)[2][1][2])] == [int, float, int]
    assert compile(lambda x: None)(1.0) is None


def test_ints_that_may_become_floats_are_not_cut():
    for fn in (lambda x: x.relu(), lambda x: x.relu().data, lambda x: max(x.data, 0), lambda x: maximum(x, -1)):
        f = compile(fn)
        for number in (-1.0, 2.75):
            expected = fn(Value(number))
            assert f(number) == (expected.data if isinstance(expected, Value) else expected)
    p = Value(2)
    f = compile(lambda: p * 3)
    assert f() == 6
    p.data = 2.5
    assert f() == 7.5


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: compile(cube)(1j), TypeError, "real"),
        (lambda: compile(cube)(np.ones(2, dtype=bool)), TypeError, "astype"),
        (lambda: compile(cube)(np.ma.masked_array([1.0], [True])), TypeError, "masked"),
        (lambda: compile(lambda x: 3.0).value_and_grad(1.0), TypeError, "depends on no Value"),
        (lambda: compile(lambda x: x.data).backward(1.0), TypeError, "return the Value itself"),
        (lambda: compile(lambda x: np.array([x])).backward(1.0), TypeError, "array of shape"),
        (lambda: compile(cube).backward(Value(1.0)), TypeError, "numbers, not Values"),
        (lambda: compile(cube).program, RuntimeError, "call it once"),
        (lambda: grad(cube, argnums=1.5)(1.0), ValueError, "argnums names argument 1.5"),
        (lambda: grad(3), TypeError, "takes a function"),
        (lambda: vmap(vmap(cube)), TypeError, "vmap of vmap"),
        (lambda: vmap(cube, in_axes="0"), ValueError, "whole numbers and None"),
        (lambda: vmap(cube, in_axes=(True,)), ValueError, "whole numbers and None"),
        (lambda: vmap(lambda p: p[0], in_axes=((0, 0),))((np.ones(2),)), ValueError, "one length"),
        (lambda: vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": np.ones(2)}), ValueError, "keys"),
        (lambda: vmap(lambda x, w: x * w)(np.ones(2), Value(1.0)), TypeError, "close over them"),
        (lambda: vmap(cube)(np.array(1.0)), ValueError, "no lane axis"),
        (lambda: compile(lambda x: vmap(cube)(np.ones(2)).sum() * x)(1.0), TypeError, "write the loop out"),
        (lambda: maximum("a", 1), TypeError, "number"),
        (lambda: compile(lambda x: vars(x))(1.0), TypeError, "not possible inside"),
        (lambda: compile(lambda x: copy.copy(x))(1.0), TypeError, "not possible inside"),
    ],
)
def test_errors_say_what_to_do(call, error, words):
    with pytest.raises(error, match=words):
        call()
    assert not tapegrad._core.is_recording()


def test_axes_in_containers():
    a, m = np.arange(3.0), np.arange(6.0).reshape(2, 3)
    g = vmap(lambda d, k: d["a"] * d["b"] * k, in_axes=({"a": 0, "b": None}, None))
    assert g({"a": a, "b": 2.0}, 5.0).tolist() == [0.0, 10.0, 20.0]
    g = vmap(lambda p, k: p[0] * p[1][0][1] * k, in_axes=((0, [1]), -1))
    assert g((a, [m]), np.ones(3)).tolist() == (a * m[1]).tolist()
    assert vmap(lambda x: x.sum(), in_axes=-1)(m).tolist() == m.sum(axis=0).tolist()
    _, (first, second) = vmap(lambda p, k: p[0] * k, in_axes=([0], None)).value_and_grad([a], 3.0)
    assert (first[0].tolist(), second.tolist()) == ([3.0, 3.0, 3.0], a.tolist())
    assert vmap(lambda x, k=1.0: x * k)(a, k=a).tolist() == [0.0, 1.0, 4.0]
    assert vmap(lambda x, k=1.0: x * k)(a, k=3).tolist() == [0.0, 3.0, 6.0]
    assert vmap(lambda x, word: x * len(word))(a, "two").tolist() == [0.0, 3.0, 6.0]
    assert vmap(lambda x: x * 2)(np.array([1, 2])).dtype == np.int64
    whole, half, truth = vmap(lambda x: (x * 2, x / 2, x > 1))(np.array([1, 2]))
    assert (whole.dtype, half.dtype, truth.dtype) == (np.int64, np.float64, np.bool_)


def test_gradients_over_lanes():
    x, y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    assert vmap(grad(cube))(x).tolist() == [3.0, 12.0]
    values, slopes = vmap(value_and_grad(lambda a, b: a * b, argnums=1), in_axes=(0, 0))(x, y)
    assert (values.tolist(), slopes.tolist()) == ([3.0, 10.0], [1.0, 2.0])
    assert [s.tolist() for s in vmap(grad(lambda a, b: a * b))(x, y)] == [[3.0, 5.0], [1.0, 2.0]]


def test_checks_over_lanes_and_backward_raise_as_eager_code_does():
    for fn, good, bad in [
        (lambda x: x.log(), 1.0, -1.0),
        (lambda x: (x * 1000).exp(), 0.1, 1.0),
        (lambda x: 1 / x, 1.0, 0.0),
        (lambda x: x**0.5, 1.0, -1.0),
        (lambda x: x ** (x * 3), 1.0, -0.5),
        (lambda x: x * (1 / x.data), 1.0, 0.0),
    ]:
        with pytest.raises((ArithmeticError, ValueError), match=r".") as eager:
            fn(Value(bad))
        f = compile(fn, check=True)
        assert f.backward(good) == fn(Value(good)).data
        for call in (f, f.value_and_grad, f.backward):
            with pytest.raises(eager.type) as compiled:
                call(bad)
            assert str(compiled.value) == str(eager.value)
        g = vmap(f)
        np.testing.assert_allclose(g(np.array([good] * 3)), fn(Value(good)).data, rtol=1e-13)
        for over in (g, g.value_and_grad, g.backward):
            with pytest.raises(eager.type) as compiled:
                over(np.array([good, bad, good]))
            assert str(compiled.value) == str(eager.value)
            assert "in lane 1 of 3" in compiled.value.__notes__


def test_choices_over_arrays():
    f = compile(
        lambda x: where(x > 0, x, 0).sum() + maximum(x, 1.0).sum() + minimum(0.5, x).sum() + clip(x, 0, 2).sum()
    )
    x = np.array([0.25, 0.75, 3.0])
    assert f(x) == x.sum() + np.maximum(x, 1).sum() + np.minimum(x, 0.5).sum() + np.clip(x, 0, 2).sum()
    g = compile(lambda x, y: where(y > 0, x.data, y) * 2)  # what .data shows has no gradient
    assert g.value_and_grad(3.0, 1.0) == (6.0, (0.0, 0.0))
    assert g.value_and_grad(3.0, -1.0) == (-2.0, (0.0, 2.0))
    assert math.isnan(compile(lambda x: maximum(x, 1.0), check=True)(math.nan))
