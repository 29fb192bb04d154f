"""NumPy both ways: its scalars on either side of every operator, object arrays of Values, and data from arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import micrograd.engine
import numpy as np
import pytest

import tapegrad
from tapegrad.micrograd import engine, nn

PURE = micrograd.engine.Value
SCALARS = [
    np.float64(1.5),
    np.float64(-0.0),
    np.int64(3),
    np.int32(-2),
    np.uint8(4),
    np.int8(1),
    np.float32(0.5),
    np.float16(2.0),
    np.longdouble(2.5),
    np.bool_(True),
]
BINARY: list[Callable[[Any, Any], Any]] = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.fixture(params=[tapegrad.Value, engine.Value], ids=["tapegrad", "dialect"])
def Value(request: pytest.FixtureRequest) -> Any:
    return request.param


def values(numbers: Any, Value: Any) -> Any:
    """Return an object array of Values in the shape of an array of numbers."""
    numbers = np.asarray(numbers)
    out = np.empty(numbers.shape, dtype=object)
    for place, number in np.ndenumerate(numbers):
        out[place] = Value(float(number))
    return out


def data(array: Any) -> Any:
    """Return the data of an object array of Values, or of one Value."""
    if not isinstance(array, np.ndarray):
        return array.data
    return np.array([v.data for v in array.ravel()]).reshape(array.shape)


def grads(array: Any) -> Any:
    return np.array([float(v.grad) for v in array.ravel()]).reshape(array.shape)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}({s})")
@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_scalars_on_either_side(scalar: Any, op: Callable[[Any, Any], Any], Value: Any) -> None:
    number = scalar.item() if not isinstance(scalar, np.longdouble) else float(scalar)
    a, b = Value(2.0), Value(2.0)
    if not (op is operator.truediv and scalar == 0):
        right, expected = op(a, scalar), op(b, number)
        assert type(right) is Value
        assert (right.data, right._op) == (expected.data, expected._op)
        right.backward()
        expected.backward()
        assert a.grad == b.grad
    a, b = Value(2.0), Value(2.0)
    left, expected = op(scalar, a), op(number, b)
    assert type(left) is Value
    assert (left.data, left._op) == (expected.data, expected._op)
    left.backward()
    expected.backward()
    assert a.grad == b.grad


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}({s})")
def test_scalars_as_data_grad_exponent_and_in_comparisons(scalar: Any, Value: Any) -> None:
    number = float(scalar)
    v = Value(scalar)
    assert type(v.data) in (int, float)
    assert v.data == number
    v.data = scalar
    v.grad = scalar
    assert type(v.grad) in (int, float)
    assert v.grad == number
    v.grad -= scalar
    assert v.grad == 0
    assert (Value(2.0) ** scalar).data == 2.0**number
    assert (Value(100.0) > scalar) is True
    assert scalar < Value(100.0)
    assert not scalar >= Value(100.0)
    assert (Value(scalar) == scalar) is False
    assert bool(scalar == Value(scalar)) is False
    w = Value(1.0)
    w += scalar
    w -= scalar
    w *= scalar
    assert w.data == number


def test_scalar_powers(Value: Any) -> None:
    a = Value(3.0)
    out = np.float64(2.0) ** a
    assert type(out) is Value
    assert out.data == 8.0
    out.backward()
    assert a.grad == pytest.approx(8 * math.log(2), rel=1e-15)
    assert type(np.int64(2) ** a) is Value


def test_whole_scalars_stay_whole(Value: Any) -> None:
    v = Value(np.int64(3))
    assert (repr(v.data), repr((v * np.int64(2)).data), repr((np.int64(2) + v).data)) == ("3", "6", "5")
    assert repr((v * np.float64(2)).data) == "6.0"
    assert repr(Value(np.uint64(2**63)).data) == "9.223372036854776e+18"


def test_arrays_without_axes_are_scalars(Value: Any) -> None:
    zero_d = np.array(2.5)
    assert Value(zero_d).data == 2.5
    v = Value(2.0)
    assert data_of(v * zero_d) == 5.0
    assert data_of(zero_d * v) == 5.0


def data_of(x: Any) -> Any:
    return x.item().data if isinstance(x, np.ndarray) else x.data


@pytest.mark.parametrize("bad", [np.array([1j, 2.0]), np.array(["1.0"]), np.complex128(1j), np.str_("x"),
                                 np.datetime64("2020-01-01"), np.array([None])], ids=repr)  # fmt: skip
def test_what_is_no_number_is_refused(bad: Any, Value: Any) -> None:
    before = tapegrad.live_nodes()
    kind = "date" if isinstance(bad, np.datetime64) else type(bad).__name__
    with pytest.raises(TypeError, match=kind):
        Value(bad)
    v = Value(1.0)
    with pytest.raises(TypeError, match=kind):
        v.data = bad
    with pytest.raises(TypeError, match=kind):
        v.grad = bad
    del v
    assert tapegrad.live_nodes() == before


# --- arrays


def test_an_array_of_values(Value: Any) -> None:
    vs = [Value(1.0), Value(2), Value(-3.0)]
    for array in (np.array(vs), np.asarray(vs), np.array(vs, dtype=object)):
        assert (array.dtype, array.shape) == (np.dtype(object), (3,))
        assert all(a is v for a, v in zip(array, vs, strict=True))
    assert np.array([vs, vs]).shape == (2, 3)
    assert np.array(vs[0]).shape == ()
    assert np.array(vs[0]).item() is vs[0]
    mixed = np.array([vs[0], 2.0, 3])
    assert mixed.dtype == object
    assert np.array(vs, dtype=float).tolist() == [1.0, 2.0, -3.0]
    assert np.array(vs).astype(float).tolist() == [1.0, 2.0, -3.0]
    assert np.float64(vs[0]) == 1.0


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_arrays_of_numbers_with_a_value(op: Callable[[Any, Any], Any], Value: Any) -> None:
    numbers = np.array([[1.0, 2.0, 4.0], [-1.0, 0.5, 8.0]])
    for array in (numbers, numbers.astype(np.float32), numbers.astype(int)[:, :1] + 1, numbers.tolist() and numbers[0]):
        v = Value(2.0)
        if op is not operator.truediv or np.all(array):
            right = op(v, array)
            assert type(right) is Value
            assert right.shape == array.shape
            assert np.array_equal(right.data, op(2.0, array.astype(float)))
        left = op(array, v)
        assert type(left) is Value
        assert np.array_equal(left.data, op(array.astype(float), 2.0))
        left.sum().backward()
        h = 1e-6
        exact = array.astype(float)
        slope = (op(exact, 2 + h).sum() - op(exact, 2 - h).sum()) / (2 * h)
        assert v.grad == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_arrays_of_values_with_everything(op: Callable[[Any, Any], Any], Value: Any) -> None:
    x = np.array([[1.0, -2.0, 4.0], [3.0, 0.5, 8.0]])
    others = [x * 2, x[0], x[:, :1], 2.0, 3, np.float64(1.5), np.int64(2), np.float32(0.25)]
    for other in others:
        a = values(x, Value)
        assert np.array_equal(data(op(a, other)), op(x, np.asarray(other, dtype=float)))
        assert np.array_equal(data(op(other, a)), op(np.asarray(other, dtype=float), x))
    a, b = values(x, Value), values(x[0], Value)
    out = op(a, b)
    assert np.array_equal(data(out), op(x, x[0]))
    np.sum(out).backward()
    h = 1e-6
    for i in range(3):
        up, down = x[0].copy(), x[0].copy()
        up[i] += h
        down[i] -= h
        slope = (op(x, up).sum() - op(x, down).sum()) / (2 * h)
        assert b[i].grad == pytest.approx(slope, rel=1e-5)
    single = Value(0.5)
    assert np.array_equal(data(op(a, single)), op(x, 0.5))
    assert np.array_equal(data(op(single, a)), op(0.5, x))


def test_negative_power_absolute(Value: Any) -> None:
    x = np.array([1.0, -2.0, 3.0])
    a = values(x, Value)
    assert np.array_equal(data(-a), -x)
    assert np.array_equal(data(+a), x)
    assert np.array_equal(data(abs(a)), abs(x))
    assert np.array_equal(data(a**2), x**2)
    assert np.array_equal(data(2.0 ** values([1.0, 2.0], Value)), [2.0, 4.0])
    assert np.array_equal(data(np.square(a)), x**2)
    assert np.array_equal(data(np.negative(a)), -x)
    assert np.array_equal(data(np.abs(a)), abs(x))


def test_in_place(Value: Any) -> None:
    x = np.array([1.0, -2.0, 4.0])
    a = values(x, Value)
    same = a
    a -= 0.5
    a *= 2
    a += np.array([1.0, 2.0, 3.0])
    a /= 4
    a **= 2
    assert a is same
    assert np.allclose(data(a), (((x - 0.5) * 2 + [1, 2, 3]) / 4) ** 2, rtol=1e-15)
    w = values([1.0, 2.0], Value)
    (w * w).sum().backward()
    w -= 0.1 * grads(w)
    assert np.allclose(data(w), [0.8, 1.6])
    w /= 2
    assert [v._op for v in w] == ["*", "*"]
    M = values(np.ones((2, 2)), Value)
    M[0] -= 3
    M[:, 1] /= 2.0
    assert np.array_equal(data(M), [[-2.0, -1.0], [1.0, 0.5]])


def test_products(Value: Any) -> None:
    rng = np.random.default_rng(0)
    A, B, x, y = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), rng.normal(size=4), rng.normal(size=3)
    VA, VB, Vx, Vy = (values(m, Value) for m in (A, B, x, y))
    cases = [
        (VA @ VB, A @ B),
        (VA @ B, A @ B),
        (A @ VB, A @ B),
        (VA @ Vx, A @ x),
        (VA @ x, A @ x),
        (A @ Vx, A @ x),
        (Vy @ VA, y @ A),
        (Vx @ Vx, x @ x),
        (Vx @ x, x @ x),
        (np.dot(VA, VB), A @ B),
        (np.dot(Vx, x), x @ x),
        (np.dot(x, Vx), x @ x),
        (np.matmul(VA, VB), A @ B),
        (np.inner(Vx, Vx), x @ x),
        (np.outer(Vx, Vy), np.outer(x, y)),
        (np.outer(x, Vy), np.outer(x, y)),
        (np.tensordot(VA, VB, axes=1), A @ B),
        (VA.T @ Vy, A.T @ y),
        (np.kron(Vx[:2], Vy[:2]), np.kron(x[:2], y[:2])),
    ]
    for ours, expected in cases:
        assert np.allclose(data(ours), expected, rtol=1e-13)
    loss = ((VA @ VB) ** 2).sum()
    loss.backward()
    assert np.allclose(grads(VA), 2 * (A @ B) @ B.T, rtol=1e-12)
    assert np.allclose(grads(VB), 2 * A.T @ (A @ B), rtol=1e-12)


def test_sums_and_means(Value: Any) -> None:
    x = np.arange(12.0).reshape(3, 4) - 3
    a = values(x, Value)
    for ours, expected in [
        (a.sum(), x.sum()),
        (np.sum(a), x.sum()),
        (a.sum(axis=0), x.sum(axis=0)),
        (np.sum(a, axis=1), x.sum(axis=1)),
        (np.sum(a, axis=1, keepdims=True), x.sum(axis=1, keepdims=True)),
        (a.mean(), x.mean()),
        (np.mean(a, axis=0), x.mean(axis=0)),
        (np.average(a), x.mean()),
        (np.prod(a[0]), x[0].prod()),
        (np.cumsum(a[0]), x[0].cumsum()),
        (np.diff(a[0]), np.diff(x[0])),
        (np.trace(a[:, :3]), np.trace(x[:, :3])),
        (sum(a.ravel()), x.sum()),
        (np.add.reduce(a, axis=0), x.sum(axis=0)),
        (np.multiply.outer(a[0], a[1]), np.multiply.outer(x[0], x[1])),
    ]:
        assert np.allclose(data(ours), expected, rtol=1e-14)
    np.mean(a**2).backward()
    assert np.allclose(grads(a), 2 * x / 12)


def test_order_and_selection(Value: Any) -> None:
    x = np.array([3.0, -1.0, 2.0, 0.5])
    a = values(x, Value)
    assert a.max() is a[0]
    assert np.max(a) is a[0]
    assert a.min() is a[1]
    assert (a.argmax(), np.argmin(a)) == (0, 1)
    assert data(np.sort(a)).tolist() == sorted(x)
    assert np.argsort(a).tolist() == np.argsort(x).tolist()
    assert (a > 1).tolist() == (x > 1).tolist()
    assert (a <= values(x, Value)).tolist() == [True] * 4
    assert data(np.maximum(a, 1.0 * a)).tolist() == x.tolist()
    assert data(a[a > 0]).tolist() == x[x > 0].tolist()
    assert data(np.where(x > 0, a, -a)).tolist() == abs(x).tolist()
    b = a.copy()
    b.sort()
    assert b[-1] is a[0]
    assert np.max(a.reshape(2, 2), axis=0).tolist() == [a[0], a[3]]
    assert (a == a).all()
    assert not (a == values(x, Value)).any()
    assert a[0] in a.tolist()


FUNCTIONS = ["exp", "log", "tanh", "sqrt", "sin", "cos", "log1p", "expm1", "exp2", "log2", "log10", "tan", "sinh"]
FUNCTIONS += ["cosh", "arcsin", "arccos", "arctan", "arcsinh", "arctanh", "absolute", "fabs"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_by_their_numpy_names(name: str, Value: Any) -> None:
    function = getattr(np, name)
    x = np.array([0.25, 0.5, 0.75])
    a = values(x, Value)
    if name == "fabs":
        with pytest.raises(TypeError):
            function(a)
        return
    out = function(a)
    assert out.dtype == object
    assert np.allclose(data(out), function(x), rtol=1e-14)
    out.sum().backward()
    h = 1e-6
    assert np.allclose(grads(a), (function(x + h) - function(x - h)) / (2 * h), rtol=1e-7)
    single = function(Value(0.5))
    assert type(single) is Value
    assert single.data == pytest.approx(function(0.5), rel=1e-14)


def test_stacking_and_shapes(Value: Any) -> None:
    x = np.array([1.0, 2.0, 3.0])
    a, b = values(x, Value), values(x + 10, Value)
    for function in (np.dstack, np.vstack, np.hstack, np.column_stack, np.stack, np.concatenate):
        out = function([a, b])
        assert out.dtype == object
        assert np.array_equal(data(out), function([x, x + 10]))
    assert np.array_equal(data(np.dstack([a, x])[0, :, 0]), x)
    assert a.reshape(3, 1).T[0, 1] is a[1]
    assert np.array_equal(data(np.broadcast_to(a, (2, 3))), [x, x])
    assert np.array_equal(data(np.repeat(a, 2)), np.repeat(x, 2))
    assert np.array_equal(data(np.flip(a)), x[::-1])
    assert np.array_equal(data(np.pad(a, 1, constant_values=0)[1:-1]), x)
    assert data(np.vectorize(lambda v: v * 2, otypes=[object])(a)).tolist() == [2.0, 4.0, 6.0]
    assert np.array_equal(np.vectorize(lambda v: v.data)(a), x)
    assert [float(v) for v in a] == x.tolist()
    assert np.fromiter((v.data for v in a), float).tolist() == x.tolist()
    assert np.apply_along_axis(lambda row: row.sum(), 0, np.stack([a, b]))[0].data == 12.0
    assert np.einsum("i,i->", a, b, optimize=False).data == x @ (x + 10)


def test_the_manner_of_the_published_demo(Value: Any) -> None:
    X = np.array([[0.5, -1.0], [2.0, 0.25], [-1.0, 1.0]])
    y = np.array([1, -1, 1])
    w = np.array([Value(0.5), Value(-0.25)])
    inputs = [list(map(Value, row)) for row in X]
    scores = [row @ w for row in map(np.array, inputs)]
    losses = [(1 + -yi * score).relu() for yi, score in zip(y, scores, strict=True)]
    loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * (w * w).sum()
    accuracy = [(yi > 0) == (score.data > 0) for yi, score in zip(y, scores, strict=True)]
    assert all(type(value) is Value for value in losses)
    loss.backward()
    margins = 1 - y * (X @ [0.5, -0.25])
    assert loss.data == pytest.approx(np.maximum(margins, 0).mean() + 1e-4 * (0.25 + 0.0625), rel=1e-14)
    slope = -(y[:, None] * X * (margins > 0)[:, None]).mean(axis=0) + 2e-4 * np.array([0.5, -0.25])
    assert np.allclose(grads(w), slope, rtol=1e-13)
    assert sum(accuracy) == (np.sign(X @ [0.5, -0.25]) == y).sum()


def test_rows_of_arrays_go_into_layers() -> None:
    X = np.array([[0.5, -1.0], [2.0, 0.25]])
    model = nn.MLP(2, [3, 1])
    for row in (X[0], X[0].astype(np.float32), np.array([1, 2]), np.array([engine.Value(1.0), 2.0], dtype=object)):
        listed = [v if isinstance(v, engine.Value) else float(v) for v in row]
        assert model(row).data == model(listed).data
    assert [model(row).data for row in X] == [model(list(row)).data for row in X]
    out = np.array([model(row) for row in X])
    np.mean((out - np.array([1.0, -1.0])) ** 2).backward()
    assert any(p.grad for p in model.parameters())


def test_arrays_in_updates(Value: Any) -> None:
    p = Value(1.0)
    p.data -= np.float64(0.5) * np.float64(2)
    assert repr(p.data) == "0.0"
    p.data = np.clip(5.0, -1, 1)
    assert p.data == 1.0
    p.data = np.array([3.0, 4.0]).mean()
    assert repr(p.data) == "3.5"
    p.momentum = np.zeros(2)
    p.momentum += 0.5
    assert p.momentum.tolist() == [0.5, 0.5]
    parameters = [Value(float(i)) for i in range(3)]
    flat = np.array([p.data for p in parameters]) * 2
    for p, number in zip(parameters, flat, strict=True):
        p.data = number
    assert [repr(p.data) for p in parameters] == ["0.0", "2.0", "4.0"]


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
def test_the_same_graph_as_micrograd_with_scalars(op: Callable[[Any, Any], Any]) -> None:
    def outline(cls: Any, make: Callable[[Any], tuple[Any, Any]]) -> Any:
        try:
            out = op(*make(cls(3.0)))
        except ValueError:
            return "integers to negative powers"
        return out._op, out.data, sorted(u.data for u in out._prev)

    makes = [lambda v, o=other: (o, v) for other in [np.float64(2.5), np.int64(4)]]
    makes += [lambda v, o=other: (v, o) for other in [np.float64(2.5), np.int64(4)]]
    for make in makes:
        pure, ours = outline(PURE, make), outline(engine.Value, make)
        if pure == "integers to negative powers":
            # Deviation: micrograd divides by other ** -1, which NumPy refuses for np.int64(4).
            assert op is operator.truediv
            assert ours[1] == 0.75
        else:
            assert ours == pure


def test_a_value_with_an_array_is_one_value_on_either_side() -> None:
    # Deviation: micrograd makes one Value with the array as its data where the Value is on the left, but with a
    # gradient of another shape for the number; NumPy makes an array of Values where it is on the right.
    array = np.array([1.0, 2.0])
    assert isinstance((PURE(3.0) * array).data, np.ndarray)
    assert isinstance(array * PURE(3.0), np.ndarray)
    v = engine.Value(3.0)
    for out in (v * array, array * v):
        assert type(out) is engine.Value
        assert out.data.tolist() == [3.0, 6.0]
        v.grad = 0
        out.backward()
        assert v.grad == 3.0
        assert [lane.data for lane in out] == [3.0, 6.0]
