"""Choices between numbers that a compiled function can make anew at each call, without a guard: where, maximum,
minimum, clip."""

from __future__ import annotations

from typing import Any

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled.tracing import TracedNumber, _node


def _traced(x: Any) -> bool:
    return issubclass(type(x), TracedNumber)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`; the gradient goes to the one chosen.

    Args:
        condition: a truth value such as ``x > 0``, a number or a Value (true unless zero).
        a, b: numbers, Values, or arrays of numbers.

    With an array, or a Value that holds one, the choice is made lane by lane, with NumPy's broadcasting; the result is
    a Value if an argument is, else a NumPy array. Raises ValueError where shapes do not broadcast, TypeError for what
    is no real number. Inside a compiled function the choice is made at each call and, under `vmap`, in each lane.
    """
    if _core.is_recording() and (_traced(condition) or isinstance(condition, Value)):
        chosen = _core.select(_node(condition), _node(a), _node(b))
        if isinstance(a, Value) or isinstance(b, Value):
            return chosen
        return TracedNumber(_core.current_observer(), chosen)
    if _has_lanes(condition, a, b):
        return _core.where(condition, a, b) if _has_value(condition, a, b) else _numpy("where", condition, a, b)
    return a if condition else b


def _has_lanes(*operands: Any) -> bool:
    """Whether one is an array, or a Value that holds one. Compiled functions know only numbers."""
    if _core.is_recording():
        return False
    return any(isinstance(x, list | tuple) or getattr(x, "ndim", 0) > 0 for x in operands)


def _has_value(*operands: Any) -> bool:
    return any(isinstance(x, Value) for x in operands)


def _numpy(name: str, *operands: Any) -> Any:
    """The choice between plain arrays."""
    import numpy as np

    return getattr(np, name)(*operands)


def _extreme(name: str, a: Any, b: Any) -> Any:
    if _has_lanes(a, b):
        return getattr(_core, name)(a, b) if _has_value(a, b) else _numpy(name, a, b)
    if isinstance(a, Value) or isinstance(b, Value):
        return _core.apply(name, [_detached(a), _detached(b)])
    if _core.is_recording() and (_traced(a) or _traced(b)):
        return TracedNumber(_core.current_observer(), _core.apply(name, [_node(a), _node(b)]))
    return _core.peek(_core.apply(name, [Value(a), Value(b)]))


def _detached(x: Any) -> Value:
    return _core.detach(x._value) if _traced(x) else _node(x)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two numbers or Values, or of arrays lane by lane, with NumPy's broadcasting; NaN if either is.

    Where both are equal, each gets half of the gradient. Raises ValueError where shapes do not broadcast.
    """
    return _extreme("maximum", a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two numbers or Values, or of arrays lane by lane, with NumPy's broadcasting; NaN if either is.

    Where both are equal, each gets half of the gradient. Raises ValueError where shapes do not broadcast.
    """
    return _extreme("minimum", a, b)


def clip(x: Any, low: Any, high: Any) -> Any:
    """`x` limited to [low, high], lane by lane where there are arrays: ``minimum(maximum(x, low), high)``.

    None stands for no bound. At a bound `x` gets half of the gradient. Raises ValueError where shapes do not broadcast.
    """
    if low is not None:
        x = maximum(x, low)
    return x if high is None else minimum(x, high)
