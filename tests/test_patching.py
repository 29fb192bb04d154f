"""Methods, operators and properties assigned to the class: obeyed, also by the operators made of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import micrograd.engine
import pytest

import tapegrad
from tapegrad.micrograd import engine

PURE, OURS = micrograd.engine.Value, engine.Value


@pytest.fixture(params=[PURE, OURS, tapegrad.Value], ids=["micrograd", "dialect", "tapegrad"])
def Value(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Value class that a test may patch: it is put back as it was."""
    cls = request.param
    before = dict(vars(cls))
    yield cls
    for name in vars(cls).keys() - before.keys():
        delattr(cls, name)
    for name, attribute in before.items():
        if vars(cls).get(name) is not attribute:
            setattr(cls, name, attribute)


OPERATIONS = ["p * q", "2 * p", "p / q", "p / 2", "3 / q", "-p", "p - q", "p - 1", "1 - p", "p + q", "1 + p"]
OPERATIONS += ["sum([p, q])", "p ** 2", "p.relu()"]
REPLACEABLE = ["add", "mul", "pow", "neg", "sub", "truediv", "radd", "rmul", "rsub", "rtruediv"]


@pytest.mark.parametrize("name", [f"__{name}__" for name in REPLACEABLE])
def test_composite_operators_follow_a_replaced_one(name: str) -> None:
    """Each operation calls the replaced one as often as micrograd's code does, with the same result."""
    counts = []
    for cls in (PURE, OURS):
        before = vars(cls).get(name)
        original = getattr(cls, name)
        calls: list[str] = []

        def counted(self: Any, *args: Any, original: Any = original, calls: Any = calls) -> Any:
            calls.append(name)
            out = original(self, *args)
            return (
                out * 1
                if name not in ("__mul__", "__rmul__", "__neg__") and not isinstance(out, type(NotImplemented))
                else out
            )

        setattr(cls, name, counted)
        try:
            rows = []
            for text in OPERATIONS:
                p, q = cls(6.0), cls(4.0)
                calls.clear()
                r = eval(text, {"p": p, "q": q})
                made = len(calls)
                r.backward()
                rows.append((text, made, r.data, r._op, p.grad, q.grad))
            counts.append(rows)
        finally:
            if before is None:
                delattr(cls, name)
            else:
                setattr(cls, name, before)
    assert counts[1] == counts[0]
    p = OURS(6.0)
    assert (-p / 2 - 1)._op == "+"


def test_functions_and_properties_assigned_to_the_class(Value: Any) -> None:
    def sin(self: Any) -> Any:
        out = Value(math.sin(self.data), (self,), "sin")

        def _backward() -> None:
            self.grad += math.cos(self.data) * out.grad

        out._backward = _backward
        return out

    Value.sin = sin
    Value.item = property(lambda self: self.data)
    Value.make = staticmethod(lambda x: Value(x))
    Value.of = classmethod(lambda cls, x: cls(x))
    Value.constant = 7
    x = Value(0.5)
    y = (x.sin() * 2).sin()
    y.backward()
    assert x.grad == pytest.approx(math.cos(2 * math.sin(0.5)) * 2 * math.cos(0.5), rel=1e-14)
    assert (x.item, Value.make(3).data, Value.of(4).data, x.constant) == (0.5, 3, 4, 7)
    x.constant = 8
    assert (x.constant, Value.constant) == (8, 7)
    with pytest.raises(AttributeError):
        x.item = 3


def test_new_operators_assigned_to_the_class(Value: Any) -> None:
    Value.__mod__ = lambda self, other: self - other * math.floor(self.data / other)
    Value.__matmul__ = lambda self, other: self * other + 1
    Value.__rmatmul__ = lambda self, other: self * other - 1
    Value.__invert__ = lambda self: 1 - self
    Value.__getitem__ = lambda self, i: self * i
    Value.__len__ = lambda self: 3
    Value.__call__ = lambda self, x: self * x
    Value.__contains__ = lambda self, x: self.data == x
    Value.__iadd__ = lambda self, other: (setattr(self, "data", self.data + other), self)[1]
    Value.__enter__ = lambda self: self
    Value.__exit__ = lambda self, *exc: None
    v = Value(7.5)
    assert ((v % 2).data, (v @ v).data, (2.0 @ v).data, (~v).data) == (1.5, 57.25, 14.0, -6.5)
    assert (v[2].data, len(v), v(3).data, 7.5 in v) == (15.0, 3, 22.5, True)
    with v as w:
        w += 1
    assert w is v
    assert v.data == 8.5


def test_total_ordering_and_other_comparisons(Value: Any) -> None:
    Value.__lt__ = lambda self, other: self.data < (other.data if isinstance(other, Value) else other)
    for name in ("__gt__", "__le__", "__ge__"):
        if name in vars(Value):
            delattr(Value, name)
    functools.total_ordering(Value)
    a, b = Value(1.0), Value(2.0)
    assert a < b
    assert b > a
    assert a <= b
    assert b >= a
    assert a < 5
    assert not a > 5
    assert sorted([b, a]) == [a, b]
    assert max(a, b) is b


def test_equality_and_hash_assigned_to_the_class(Value: Any) -> None:
    Value.__eq__ = lambda self, other: isinstance(other, Value) and self.data == other.data
    Value.__hash__ = lambda self: hash(self.data)
    a, b = Value(1.5), Value(1.5)
    assert a == b
    assert hash(a) == hash(1.5)
    assert len({a, b, Value(2)}) == 2
    assert {a: "x"}[b] == "x"


def test_equality_by_value_does_not_break_the_sweep() -> None:
    # Where nodes of equal data are equal, pure Python's visited set skips some: ours tells nodes apart by themselves.
    before = dict(vars(OURS))
    try:
        OURS.__eq__ = lambda self, other: isinstance(other, OURS) and self.data == other.data
        OURS.__hash__ = lambda self: hash(self.data)
        x = OURS(2.0)
        y = (x * 1) * 1 + 0
        y.backward()
        assert x.grad == 1
    finally:
        for name in ("__eq__", "__hash__"):
            if name in before:
                setattr(OURS, name, before[name])
            else:
                delattr(OURS, name)
    assert OURS(1) != OURS(1)


def test_repr_str_and_format_assigned_to_the_class(Value: Any) -> None:
    Value.__repr__ = lambda self: f"<{self.data:g}>"
    assert (repr(Value(2.5)), str(Value(2)), f"{Value(1)}", [Value(3)].__repr__()) == ("<2.5>", "<2>", "<1>", "[<3>]")
    Value.__str__ = lambda self: "text"
    assert (repr(Value(2.5)), str(Value(2)), f"{Value(1)}", f"{Value(1)!s} {Value(2)!r}") == (
        "<2.5>",
        "text",
        "text",
        "text <2>",
    )
    Value.__format__ = lambda self, spec: f"{spec}!"
    assert f"{Value(1):abc}" == "abc!"


def test_constructor_and_backward_assigned_to_the_class(Value: Any) -> None:
    old_init, old_backward = Value.__init__, Value.backward
    made = []

    def init(self: Any, data: Any, _children: Any = (), _op: str = "") -> None:
        old_init(self, data, _children, _op)
        made.append(data)

    def backward(self: Any) -> str:
        old_backward(self)
        return "done"

    Value.__init__ = init
    Value.backward = backward
    v = Value(3.0)
    assert made == [3.0]
    w = v * 2
    assert w.backward() == "done"
    assert v.grad == 2
    u = Value(1.0, (v, w), "op")
    assert u._prev == {v, w}
    assert u._op == "op"


def test_a_relu_replaced_on_the_class_reaches_old_values(Value: Any) -> None:
    v = Value(-4.0)
    assert v.relu().data == 0
    Value.relu = lambda self: self * 0.1 if self.data < 0 else self
    assert v.relu().data == -0.4
    assert v.relu()._op == "*"


def test_deleting_a_patch_brings_the_native_operator_back() -> None:
    a, b = OURS(2.0), OURS(3.0)
    OURS.__mul__ = lambda self, other: "patched"
    assert a * b == "patched"
    del OURS.__mul__
    assert (a * b).data == 6
    assert (-a).data == -2
    with pytest.raises(AttributeError):
        del OURS.__mul__


def test_patching_the_base_reaches_the_dialect_and_not_the_other_way_round() -> None:
    tapegrad.Value.double = lambda self: self * 2
    try:
        assert OURS(2).double().data == 4
        OURS.triple = lambda self: self * 3
        try:
            assert not hasattr(tapegrad.Value(1), "triple")
        finally:
            del OURS.triple
        old = tapegrad.Value.__add__
        tapegrad.Value.__add__ = lambda self, other: "added"
        try:
            assert OURS(2) + 1 == "added"
            assert OURS(2) - 1 == "added"
            assert sum([OURS(2)]) == "added"
        finally:
            tapegrad.Value.__add__ = old
    finally:
        del tapegrad.Value.double
    assert (OURS(2) + 1).data == 3
