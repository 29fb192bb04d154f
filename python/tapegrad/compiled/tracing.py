"""Recording a function: who notes what it looks at, and the built-in functions that have to know of it."""

from __future__ import annotations

import builtins
import functools
import linecache
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled.traced import (
    EXACT,
    TRUTH,
    WHOLE,
    TracedNumber,
    is_number,
    is_traced,
    node_of,
    traced,
    unsigned_zero,
)

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_EXAMPLES = os.path.join(_PACKAGE, "examples", "")


def source_line() -> str:
    """'file:line: code' of the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_own(frame.f_code.co_filename):
        frame = frame.f_back
    name, line = frame.f_code.co_filename, frame.f_lineno
    return _describe_line(name, line, linecache.getline(name, line))


@functools.cache
def _is_own(file: str) -> bool:
    return file.startswith(_PACKAGE) and not file.startswith(_EXAMPLES)


@functools.lru_cache(1000)
def _describe_line(name: str, line: int, code: str) -> str:
    text = " ".join(f"{name}:{line}: {code}".split())
    return text.encode("utf-8", "backslashreplace").decode()


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
        return traced(self, value)

    def truth(self, value: Value) -> bool:
        seen = _core.peek(value) != 0
        self.note(TRUTH, value, float(seen))
        return bool(seen)

    def real(self, value: Value) -> float:
        seen = float(_core.peek(value))
        self.note(EXACT, unsigned_zero(value), seen)
        return seen

    def whole(self, value: Value) -> int:
        seen = int(_core.peek(value))
        self.note(WHOLE, value, float(seen))
        return seen

    def construct(self, data: Any, children: Any, local_grads: Any) -> Value | None:
        """`Value(data, children, local_grads)` where a number was read from a Value; None where none was."""
        grads = () if local_grads is None else tuple(local_grads)
        if not any(is_traced(number) or isinstance(number, Value) for number in (data, *grads)):
            return None
        operands = () if children is None else tuple(children)
        if not operands:
            return _core.detach(node_of(data))
        if len(operands) != len(grads) or not all(isinstance(operand, Value) for operand in operands):
            return None
        return _core.linear(operands, _core.detach(node_of(data)), [_core.detach(node_of(number)) for number in grads])


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
        if options or not args:
            return original(*args, **options)
        if len(args) > 1 and not _core.meets_traced(args):
            return original(*args)
        items: list[Any] | tuple[Any, ...] = list(args[0]) if len(args) == 1 else args
        if not _core.meets_traced(items):
            return original(items) if len(args) == 1 else original(*args)
        observer = _core.current_observer()
        found = any(is_traced(item) and item._observer is observer for item in items)
        if not found or not all(is_number(item) for item in items):
            return original(items) if len(args) == 1 else original(*args)
        best = node_of(items[0])
        for item in items[1:]:
            node = node_of(item)
            better = _core.apply("less", [best, node] if larger else [node, best])
            best = _core.select(better, node, best)
        return traced(observer, best)

    choose.__name__ = choose.__qualname__ = original.__name__
    choose.__doc__ = original.__doc__
    return choose
