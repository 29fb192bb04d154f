"""`no_grad` and `detect_anomaly`: what operations do while one of them is on. Both belong to the current context, that
is to a thread or an asyncio task, and cost nothing while no context is in them."""

from __future__ import annotations

import inspect
import linecache
import os
from collections import deque
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tapegrad import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegrad._core import Value

_NO_GRAD, _ANOMALY = 0, 1


class AnomalyError(FloatingPointError):
    """Raised under `detect_anomaly` by the operation that first makes a NaN or an infinity."""


class _Mode(ContextDecorator):
    """A context manager that may be entered several times, also by several threads, and a decorator."""

    _mode: int
    _on = True

    def __init__(self) -> None:
        self._before: deque[list[object]] = deque()  # unlike a list, it shrinks without asking for memory

    def _recreate_cm(self) -> Self:
        return type(self)()  # each call of a decorated function has one of its own

    def __call__(self, func: Callable[..., Any]) -> Any:
        if inspect.isgeneratorfunction(func) or inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
            raise TypeError(
                f"{type(self).__name__}() cannot decorate {func.__qualname__}, which runs later than it is called; "
                "write 'with' inside it"
            )
        return super().__call__(func)

    def __enter__(self) -> Self:
        before: list[object] = [False]
        self._before.append(before)
        try:
            before[0] = _core.enter_mode(self._mode, self._on)
        except BaseException:
            self._before.pop()
            raise
        return self

    # Takes no memory: a mode that could not be left would be on for good.
    def __exit__(self, kind: object, error: object, traceback: object, /) -> None:
        _core.leave_mode(self._mode, self._before.pop()[0])


class no_grad(_Mode):
    """Within it operations make leaves: numbers without a graph, through which no gradient goes.

    ``with tapegrad.no_grad():`` or, over a whole function, ``@tapegrad.no_grad()``. TypeError inside a compiled
    function: use ``v.detach()`` there.
    """

    _mode = _NO_GRAD


class enable_grad(_Mode):
    """Within it operations make graphs again, inside a `no_grad`."""

    _mode = _NO_GRAD
    _on = False


class detect_anomaly(_Mode):
    """Within it the operation that first makes a NaN or an infinity raises AnomalyError, forward as well as backward,
    with its name, label, operands and the line of the program that made it.

    Operations from before are reported without their line. NaNs and infinities that the program puts in itself, as
    leaves, are not reported. Everything takes several times as long; TypeError inside a compiled function.
    """

    _mode = _ANOMALY


_FOLDER = os.path.dirname(os.path.abspath(__file__))
_core.set_package_folders(
    os.path.join(_FOLDER, ""),
    tuple(os.path.join(_FOLDER, programs, "") for programs in ("examples", os.path.join("bench", "workloads"))),
)


def grad_enabled() -> bool:
    """Whether operations make graphs here: False within `no_grad`."""
    return not _core.mode_is_on(_NO_GRAD)


def anomaly_enabled() -> bool:
    """Whether `detect_anomaly` is on here."""
    return _core.mode_is_on(_ANOMALY)


def _described(value: Value) -> str:
    """'(0.5, 'x' = inf)': the operands with their labels."""
    return "(" + ", ".join(_number(v) for v in value._children) + ")"


def _number(value: Value, what: str = "data") -> str:
    label = getattr(value, "label", "")
    text = f"{getattr(value, what)!r:.200}"
    return f"{label!r} = {text}" if label else text


def _operation(value: Value) -> str:
    label = getattr(value, "label", "")
    return f"{value._op!r} labelled {label!r}" if label else f"{value._op!r}"


def _place(origin: tuple[str | None, int]) -> str:
    file, line = origin
    if file is None:
        return "before detect_anomaly() was entered"
    source = linecache.getline(file, line).strip()
    return f"{file}:{line}" + (f": {source}" if source else "")


def raise_forward(value: Value, origin: tuple[str | None, int], _: int) -> NoReturn:
    """Called by the core for the node whose number is not finite."""
    raise AnomalyError(
        f"the operation {_operation(value)} made {value.data!r:.200} of {_described(value)}, at {_place(origin)}"
    )


def raise_backward(value: Value, origin: tuple[str | None, int], i: int) -> NoReturn:
    """Called by the core for the node whose rule made the gradient of operand `i` what it is."""
    operand = value._children[i]
    raise AnomalyError(
        f"the backward rule of {_operation(value)} made the gradient of operand {i} of {_described(value)} "
        f"{operand.grad!r:.200}, from a gradient of {value.grad!r:.200}; the operation was made at {_place(origin)}"
    )
