"""Choices between numbers that a compiled function can make anew at each call, without a guard: where, maximum,
minimum, clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled.traced import is_traced, node_of, traced
from tapegrad.compiled.trees import object_array


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`; the gradient goes to the one chosen.

    Args:
        condition: a truth value such as ``x > 0``, a number or a Value (true unless zero).
        a, b: numbers, Values, or arrays of numbers.

    With an array, or a Value that holds one, the choice is made lane by lane, with NumPy's broadcasting; the result is
    a Value if an argument is, else a NumPy array. Raises ValueError where shapes do not broadcast, TypeError for what
    is no real number. Inside a compiled function the choice is made at each call and, under `vmap`, in each lane.
    """
    if _core.is_recording() and _any_array(condition, a, b):
        return _elementwise(where, condition, a, b)
    if _core.is_recording() and (is_traced(condition) or isinstance(condition, Value)):
        if isinstance(a, Value) or isinstance(b, Value):
            return _core.select(node_of(condition), _detached(a), _detached(b))
        return traced(_core.current_observer(), _core.select(node_of(condition), node_of(a), node_of(b)))
    if _has_lanes(condition, a, b):
        return _core.where(condition, a, b) if _has_value(condition, a, b) else np.where(condition, a, b)
    return a if condition else b


def _any_array(*arguments: Any) -> bool:
    return any(isinstance(x, np.ndarray) for x in arguments)


def _elementwise(function: Any, *arguments: Any) -> Any:
    """The function over arrays of Values, as a compiled function has them."""
    arrays = np.broadcast_arrays(
        *(x if isinstance(x, np.ndarray) else object_array([x]).reshape(()) for x in arguments), subok=False
    )
    out = object_array([function(*items) for items in zip(*(array.flat for array in arrays), strict=True)])
    return out.reshape(arrays[0].shape)


def _has_lanes(*operands: Any) -> bool:
    """Whether one is an array, or a Value that holds one. Compiled functions know only numbers."""
    if _core.is_recording():
        return False
    return any(isinstance(x, list | tuple) or getattr(x, "ndim", 0) > 0 for x in operands)


def _has_value(*operands: Any) -> bool:
    return any(isinstance(x, Value) for x in operands)


def _extreme(name: str, a: Any, b: Any) -> Any:
    if _core.is_recording() and _any_array(a, b):
        return _elementwise(maximum if name == "maximum" else minimum, a, b)
    if _has_lanes(a, b):
        return getattr(_core if _has_value(a, b) else np, name)(a, b)
    if isinstance(a, Value) or isinstance(b, Value):
        return _core.apply(name, [_detached(a), _detached(b)])
    if _core.is_recording() and (is_traced(a) or is_traced(b)):
        return traced(_core.current_observer(), _core.apply(name, [node_of(a), node_of(b)]))
    return _core.peek(_core.apply(name, [Value(a), Value(b)]))


def _detached(x: Any) -> Value:
    return _core.detach(x._value) if is_traced(x) else node_of(x)


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
