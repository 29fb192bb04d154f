"""NumPy's functions called with a Value (NEP 18): those that array Values give a meaning, a clear refusal else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value


def _dot(a: Any, b: Any, out: None = None) -> Value:
    return a.dot(b) if isinstance(a, Value) else _core.dot(a, b)


def _where(condition: Any, x: Any, y: Any) -> Value:
    return _core.where(condition, x, y)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, out: None = None, **bounds: Any) -> Value:
    return _core.clip(a, bounds.get("min", a_min), bounds.get("max", a_max))


def _ravel(a: Value, order: str = "C") -> Value:
    return a.reshape(-1, order=order)


# What NumPy's own code makes of a Value is right for these: it asks the Value's method or attribute of that name.
_BY_METHOD = frozenset({"sum", "mean", "max", "min", "amax", "amin", "reshape", "transpose", "shape", "ndim", "size"})
_OWN: dict[str, Callable[..., Any]] = {"clip": _clip, "dot": _dot, "where": _where, "ravel": _ravel}


def _has_array(items: Iterable[Any]) -> bool:
    """Whether an array Value is among the arguments, or among the items of one that is a list or a tuple."""
    return any(
        (isinstance(item, Value) and item.ndim > 0) or (isinstance(item, list | tuple) and _has_array(item))
        for item in items
    )


def array_function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Value.__array_function__`: NumPy's own code for Values that hold numbers, which are objects to it.

    Raises TypeError for a function that takes no array Values.
    """
    name = function.__name__
    if not _has_array([*args, *kwargs.values()]) or (name in _BY_METHOD and function.__module__ == "numpy"):
        return function._implementation(*args, **kwargs)
    if name in _OWN and function is getattr(np, name):
        return _OWN[name](*args, **kwargs)
    raise TypeError(
        f"{function.__module__}.{name}() is not defined for a Value that holds an array: use the Value's operators and "
        f"methods, or give it v.data where no gradient is wanted"
    )
