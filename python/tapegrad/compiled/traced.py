"""Numbers and truth values that a function gets from its Values while it is recorded: they remember where they come
from.

Arithmetic on such a number makes nodes, so that it is computed anew at each call; what decides Python's course becomes
a guard. Whatever can be neither recorded nor decided once (formatting, `math` functions) becomes a guard on the exact
number. To Python code they are the int, float or bool that they stand for, except to `type(x) is float`.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegrad.compiled.tracing import Observer

TRUTH, WHOLE, EXACT = range(3)  # kinds of guards, as the core numbers them


def is_traced(x: Any) -> bool:
    return issubclass(type(x), TracedNumber)


def node_of(x: Any) -> Value:
    """The node of a number: a traced one's own, a constant for any other."""
    if is_traced(x):
        node: Value = x._value
        return node
    return x if isinstance(x, Value) else Value(x)


def unsigned_zero(value: Value) -> Value:
    """A node for an int's number: the int 0 has no sign, but the float that stands for it may have one."""
    return _core.apply("add", [value, Value(0.0)]) if isinstance(_core.peek(value), int) else value


def is_number(x: Any) -> bool:
    return isinstance(x, (int, float, np.integer, np.floating, np.bool_))


def _binary(name: str, reverse: bool = False) -> Callable[[TracedNumber, Any], Any]:
    """The method that records the operation `name` between a traced number and another number."""
    dunder = {"add": "__add__", "mul": "__mul__", "div": "__truediv__", "pow": "__pow__"}[name]

    def method(self: TracedNumber, other: Any) -> Any:
        if isinstance(other, (Value, np.ndarray)):  # back into the graph, as a number without a gradient
            detached = _core.detach(self._value)
            return getattr(other, dunder)(detached) if reverse else getattr(detached, dunder)(other)
        if not is_number(other):
            return NotImplemented
        if not self._live(other):
            x, y = self._plain(), _plain(other)
            return getattr(y, dunder)(x) if reverse else getattr(x, dunder)(y)
        operands = [node_of(other), self._value] if reverse else [self._value, node_of(other)]
        return traced(self._observer, _core.apply(name, operands))

    return method


def _comparison(name: str, swap: bool, negate: bool = False) -> Callable[[TracedNumber, Any], Any]:
    dunder = {
        ("less", False): "__lt__",
        ("less", True): "__gt__",
        ("less_equal", False): "__le__",
        ("less_equal", True): "__ge__",
        ("equal", False): "__ne__" if negate else "__eq__",
    }[name, swap]

    def method(self: TracedNumber, other: Any) -> Any:
        if not (is_number(other) or isinstance(other, Value)):
            return NotImplemented
        if isinstance(other, Value) and name == "equal":
            return NotImplemented  # equality of Values is identity
        if not self._live(other):
            return getattr(float(self._plain()), dunder)(float(_plain(other)))
        operands = [node_of(other), self._value] if swap else [self._value, node_of(other)]
        result = _core.apply(name, operands)
        if negate:
            result = _core.apply("equal", [result, Value(0.0)])
        return TracedBool(self._observer, result)

    return method


def _plain(x: Any) -> Any:
    return x._plain() if is_traced(x) else x


def _exactly(x: Any) -> Any:
    return x._exact() if is_traced(x) else x


def _by_exact_value(name: str) -> Callable[..., Any]:
    """A method that Python's own number does, after a guard on the exact number."""

    def method(self: TracedNumber, *arguments: Any) -> Any:
        return getattr(self._exact(), name)(*map(_exactly, arguments))

    return method


class _Like(type):
    """Makes `type(x) == float` and `type(x) in (int, float)` say what they say of the number that x stands for."""

    _like: type

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls._like

    def __hash__(cls) -> int:
        return hash(cls._like)


class TracedNumber(metaclass=_Like):
    """A number read from a Value while a function is recorded."""

    __slots__ = ("_observer", "_value")
    _like = object

    def __init__(self, observer: Observer, value: Value) -> None:
        self._observer = observer
        self._value = value

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self)._like

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            inputs = tuple(x.item() if isinstance(x, np.ndarray) and not x.ndim else x for x in inputs)
            if any(isinstance(x, (Value, np.ndarray)) for x in inputs):
                return ufunc(*(_core.detach(x._value) if is_traced(x) else x for x in inputs))
            if ufunc.__name__ in _UFUNCS and all(map(is_number, inputs)):
                return _UFUNCS[ufunc.__name__](*(x.item() if isinstance(x, np.generic) else x for x in inputs))
        return getattr(ufunc, method)(*(x._exact() if is_traced(x) else x for x in inputs), **options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*map(_exactly, args), **{name: _exactly(x) for name, x in kwargs.items()})

    def _live(self, other: Any = None) -> bool:
        """Whether the recording that both numbers belong to is going on; a number kept for longer is an ordinary
        one."""
        same = not is_traced(other) or other._observer is self._observer
        return same and _core.current_observer() is self._observer

    def _plain(self) -> Any:
        return _core.peek(self._value)

    def _exact(self) -> Any:
        seen = self._plain()
        if self._live():
            self._observer.note(EXACT, unsigned_zero(self._value), float(seen))
        return seen

    __add__, __radd__ = _binary("add"), _binary("add", reverse=True)
    __mul__, __rmul__ = _binary("mul"), _binary("mul", reverse=True)
    __truediv__, __rtruediv__ = _binary("div"), _binary("div", reverse=True)
    _pow, __rpow__ = _binary("pow"), _binary("pow", reverse=True)

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        return self._pow(other) if modulus is None else pow(self._exact(), _exactly(other), _exactly(modulus))

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, (Value, np.ndarray)):
            return _core.detach(self._value) - other
        return self + (-other) if is_number(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        if isinstance(other, (Value, np.ndarray)):
            return other - _core.detach(self._value)
        return other + (-self) if is_number(other) else NotImplemented

    def __abs__(self) -> Any:
        return traced(self._observer, _core.apply("abs", [self._value])) if self._live() else abs(self._plain())

    __lt__, __gt__ = _comparison("less", swap=False), _comparison("less", swap=True)
    __le__, __ge__ = _comparison("less_equal", swap=False), _comparison("less_equal", swap=True)
    __eq__ = _comparison("equal", swap=False)
    __ne__ = _comparison("equal", swap=False, negate=True)

    def __hash__(self) -> int:
        return hash(self._exact())

    def __bool__(self) -> bool:
        return self._observer.truth(self._value)

    def __float__(self) -> float:
        return float(self._exact())

    def __complex__(self) -> complex:
        return complex(self._exact())

    def __int__(self) -> int:
        return self._observer.whole(self._value)

    __trunc__ = __int__

    def __index__(self) -> int:
        if isinstance(self._plain(), float):
            raise TypeError("'float' object cannot be interpreted as an integer")
        return self._observer.whole(self._value)

    def __str__(self) -> str:
        return str(self._exact())

    def __repr__(self) -> str:
        return repr(self._exact())

    def __format__(self, spec: str) -> str:
        return format(self._exact(), spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._exact(), dtype=dtype)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        seen = self._exact()
        return type(seen), (seen,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exact(), name)

    __round__, __floor__, __ceil__ = map(_by_exact_value, ("__round__", "__floor__", "__ceil__"))
    __floordiv__, __rfloordiv__ = map(_by_exact_value, ("__floordiv__", "__rfloordiv__"))
    __mod__, __rmod__ = map(_by_exact_value, ("__mod__", "__rmod__"))
    __divmod__, __rdivmod__ = map(_by_exact_value, ("__divmod__", "__rdivmod__"))
    __lshift__, __rlshift__ = map(_by_exact_value, ("__lshift__", "__rlshift__"))
    __rshift__, __rrshift__ = map(_by_exact_value, ("__rshift__", "__rrshift__"))
    __and__, __rand__ = map(_by_exact_value, ("__and__", "__rand__"))
    __or__, __ror__ = map(_by_exact_value, ("__or__", "__ror__"))
    __xor__, __rxor__ = map(_by_exact_value, ("__xor__", "__rxor__"))
    __invert__ = _by_exact_value("__invert__")


class TracedFloat(TracedNumber):
    """A float read from a Value while a function is recorded."""

    __slots__ = ()
    _like = float


class TracedInt(TracedNumber):
    """An int read from a Value while a function is recorded."""

    __slots__ = ()
    _like = int


class TracedBool(TracedNumber):
    """The outcome of a comparison while a function is recorded: a guard only once Python acts on it."""

    __slots__ = ()
    _like = bool

    def _plain(self) -> Any:
        return _core.peek(self._value) != 0

    def _logic(self, other: Any, name: str) -> Any:
        if not (isinstance(other, (bool, np.bool_)) and self._live(other)):
            return getattr(super(), "__and__" if name == "minimum" else "__or__")(other)
        return TracedBool(self._observer, _core.apply(name, [self._value, node_of(other)]))

    def __and__(self, other: Any) -> Any:
        return self._logic(other, "minimum")

    def __or__(self, other: Any) -> Any:
        return self._logic(other, "maximum")

    def __xor__(self, other: Any) -> Any:
        return self != other if isinstance(other, (bool, np.bool_)) else super().__xor__(other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __index__(self) -> int:
        return int(self._observer.truth(self._value))

    __int__ = __trunc__ = __index__


def traced(observer: Observer, value: Value) -> TracedNumber:
    """The number of a Value, as the observer's function gets to see it."""
    return (TracedInt if isinstance(_core.peek(value), int) else TracedFloat)(observer, value)


# What NumPy calls on one of its scalars and one of these; all of them are rounded correctly, and so the same here.
_UFUNCS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "negative": operator.neg,
    "positive": operator.pos,
    "absolute": operator.abs,
    "square": lambda x: x * x,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}

_core.set_traced_type(TracedNumber)
