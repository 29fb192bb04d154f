"""What a function sees of its Values' numbers while it is recorded: numbers and truth values that remember where they
come from.

Arithmetic on such a number makes nodes, so that it is computed anew at each call; what decides Python's course
becomes a guard. Whatever
can be neither recorded nor decided once (formatting, `math` functions) becomes a guard on the exact number.
"""

from __future__ import annotations

import builtins
import linecache
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

TRUTH, WHOLE, EXACT = range(3)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def source_line() -> str:
    """'file:line: code' of the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    name, line = frame.f_code.co_filename, frame.f_lineno
    return f"{name}:{line}: {linecache.getline(name, line).strip()}".replace("\n", " ")


class Observer:
    """Records the looks of one function: a context manager around the call. `looks` are (kind, Value, expected,
    source line)."""

    def __init__(self) -> None:
        self.looks: list[tuple[int, Value, float, str]] = []
        self.since = 0

    def __enter__(self) -> Observer:
        _Builtins.patch()
        self.since = _core.begin_recording(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core.end_recording()
        _Builtins.restore()

    def note(self, kind: int, value: Value, expected: float) -> None:
        """Keeps a look, if this recording is still the one going on."""
        if _core.current_observer() is self:
            self.looks.append((kind, value, expected, source_line()))

    # ---- what the core asks when Python reads a Value
    # --------------------------------------------------------------------------------

    def data(self, value: Value) -> TracedNumber:
        return TracedNumber(self, value)

    def truth(self, value: Value) -> bool:
        seen = _core.peek(value) != 0
        self.note(TRUTH, value, float(seen))
        return bool(seen)

    def real(self, value: Value) -> float:
        seen = float(_core.peek(value))
        self.note(EXACT, value, seen)
        return seen

    def whole(self, value: Value) -> int:
        seen = int(_core.peek(value))
        self.note(WHOLE, value, float(seen))
        return seen

    def construct(self, data: Any, children: Any, local_grads: Any) -> Value | None:
        """`Value(data, children, local_grads)` where a number was read from a Value; None where none was."""
        grads = () if local_grads is None else tuple(local_grads)
        if not any(_is_traced(number) or isinstance(number, Value) for number in (data, *grads)):
            return None
        operands = () if children is None else tuple(children)
        if not operands:
            return _core.detach(_node(data))
        if len(operands) != len(grads) or not all(isinstance(operand, Value) for operand in operands):
            return None
        return _core.linear(operands, _core.detach(_node(data)), [_core.detach(_node(number)) for number in grads])


def _is_traced(x: Any) -> bool:
    return issubclass(type(x), TracedNumber)


def _node(x: Any) -> Value:
    """The node of a number: a traced one's own, a constant for any other."""
    if _is_traced(x):
        node: Value = x._value
        return node
    return x if isinstance(x, Value) else Value(x)


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float, np.integer, np.floating, np.bool_))


def _binary(name: str, reverse: bool = False) -> Callable[[TracedNumber, Any], Any]:
    """The method that records the operation `name` between a traced number and another number."""
    dunder = {"add": "__add__", "mul": "__mul__", "div": "__truediv__", "pow": "__pow__"}[name]

    def method(self: TracedNumber, other: Any) -> Any:
        if isinstance(other, (Value, np.ndarray)):  # back into the graph, as a number without a gradient
            detached = _core.detach(self._value)
            return getattr(other, dunder)(detached) if reverse else getattr(detached, dunder)(other)
        if not _is_number(other):
            return NotImplemented
        if not self._live(other):
            x, y = self._plain(), _plain(other)
            return getattr(y, dunder)(x) if reverse else getattr(x, dunder)(y)
        operands = [_node(other), self._value] if reverse else [self._value, _node(other)]
        return TracedNumber(self._observer, _core.apply(name, operands))

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
        if not (_is_number(other) or isinstance(other, Value)):
            return NotImplemented
        if isinstance(other, Value) and name == "equal":
            return NotImplemented  # equality of Values is identity
        if not self._live(other):
            return getattr(float(self._plain()), dunder)(float(_plain(other)))
        operands = [_node(other), self._value] if swap else [self._value, _node(other)]
        result = _core.apply(name, operands)
        if negate:
            result = _core.apply("equal", [result, Value(0.0)])
        return TracedBool(self._observer, result)

    return method


def _plain(x: Any) -> Any:
    return x._plain() if _is_traced(x) else x


def _by_exact_value(name: str) -> Callable[..., Any]:
    """A method that Python's own number does, after a guard on the exact number."""

    def method(self: TracedNumber, *arguments: Any) -> Any:
        return getattr(self._exact(), name)(*(a._exact() if _is_traced(a) else a for a in arguments))

    return method


class TracedNumber:
    """A number read from a Value while a function is recorded. To Python code it looks like the int or float that it
    stands for."""

    __slots__ = ("_observer", "_value")
    __array_ufunc__ = None  # NumPy's scalars leave the arithmetic to this class

    def __init__(self, observer: Observer, value: Value) -> None:
        self._observer = observer
        self._value = value

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(_core.peek(self._value))

    def _live(self, other: Any = None) -> bool:
        """Whether the recording that both numbers belong to is going on; a number kept for longer is an ordinary
        one."""
        same = not _is_traced(other) or other._observer is self._observer
        return same and _core.current_observer() is self._observer

    def _plain(self) -> Any:
        return _core.peek(self._value)

    def _exact(self) -> Any:
        seen = self._plain()
        self._observer.note(EXACT, self._value, float(seen))
        return seen

    __add__, __radd__ = _binary("add"), _binary("add", reverse=True)
    __mul__, __rmul__ = _binary("mul"), _binary("mul", reverse=True)
    __truediv__, __rtruediv__ = _binary("div"), _binary("div", reverse=True)
    __pow__, __rpow__ = _binary("pow"), _binary("pow", reverse=True)

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, (Value, np.ndarray)):
            return _core.detach(self._value) - other
        return self + (-other) if _is_number(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        if isinstance(other, (Value, np.ndarray)):
            return other - _core.detach(self._value)
        return other + (-self) if _is_number(other) else NotImplemented

    def __abs__(self) -> Any:
        return TracedNumber(self._observer, _core.apply("abs", [self._value])) if self._live() else abs(self._plain())

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


class TracedBool(TracedNumber):
    """The outcome of a comparison while a function is recorded: a guard only once Python acts on it."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return bool

    def _plain(self) -> Any:
        return _core.peek(self._value) != 0

    def _logic(self, other: Any, name: str) -> Any:
        if not (isinstance(other, (bool, np.bool_)) and self._live(other)):
            return NotImplemented
        return TracedBool(self._observer, _core.apply(name, [self._value, _node(other)]))

    def __and__(self, other: Any) -> Any:
        return self._logic(other, "minimum")

    def __or__(self, other: Any) -> Any:
        return self._logic(other, "maximum")

    def __xor__(self, other: Any) -> Any:
        return self != other

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __index__(self) -> int:
        return int(self._observer.truth(self._value))

    __int__ = __trunc__ = __index__


_core.set_traced_type(TracedNumber)


class _Builtins:
    """While anything is recorded, the built-in max and min choose among traced numbers without a guard; for all else
    they are as ever."""

    _lock = threading.Lock()
    _users = 0
    _saved: tuple[Any, Any] | None = None

    @classmethod
    def patch(cls) -> None:
        with cls._lock:
            cls._users += 1
            if cls._users == 1:
                cls._saved = builtins.max, builtins.min
                builtins.max = _extreme(builtins.max, larger=True)
                builtins.min = _extreme(builtins.min, larger=False)

    @classmethod
    def restore(cls) -> None:
        with cls._lock:
            cls._users -= 1
            if cls._users == 0 and cls._saved is not None:
                builtins.max, builtins.min = cls._saved


def _extreme(original: Any, larger: bool) -> Any:
    def choose(*args: Any, **options: Any) -> Any:
        if not _core.is_recording() or not args or options:
            return original(*args, **options)
        items: Sequence[Any] = list(args[0]) if len(args) == 1 else args
        observer = _core.current_observer()
        traced = any(_is_traced(item) and item._observer is observer for item in items)
        if not traced or not all(_is_number(item) for item in items):
            return original(items) if len(args) == 1 else original(*args)
        best = _node(items[0])
        for item in items[1:]:
            node = _node(item)
            better = _core.apply("less", [best, node] if larger else [node, best])
            best = _core.select(better, node, best)
        return TracedNumber(observer, best)

    choose.__name__ = choose.__qualname__ = original.__name__
    choose.__doc__ = original.__doc__
    return choose
