"""What a recorded function returns: its Values become outputs of the program and, at each call, plain numbers again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad._core import Value
from tapegrad.compiled.traced import TracedBool, TracedNumber

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegrad.compiled.trees import Structure

_CONSTANTS = (int, float, complex, str, bytes, bool, type(None), np.generic)


def take_results(x: Any, nodes: list[Value], fn: Any) -> Structure:
    """The structure of a result; its Values are appended in order. TypeError for what cannot be a result."""
    kind = type(x)
    if issubclass(kind, TracedNumber):
        nodes.append(x._value)
        return ("bool",) if kind is TracedBool else ("number",)
    if isinstance(x, Value):
        nodes.append(x)
        return ("value",)
    if isinstance(x, _CONSTANTS):
        return ("static", kind, x)
    if isinstance(x, (list, tuple)):
        return ("list" if isinstance(x, list) else "tuple", kind, *[take_results(item, nodes, fn) for item in x])
    if isinstance(x, dict):
        return ("dict", kind, tuple(x), *[take_results(item, nodes, fn) for item in x.values()])
    if isinstance(x, np.ndarray):
        if x.dtype.kind != "O":
            return ("copy", x.shape, x.copy())
        return ("array", x.shape, *[take_results(item, nodes, fn) for item in x.flat])
    name = getattr(fn, "__qualname__", type(fn).__name__)
    raise TypeError(
        f"{name} returns {kind.__name__} {x!r:.100}: a compiled function returns numbers, Values, "
        "or lists, tuples, dicts and arrays of them"
    )


def settle(structure: Structure, whole: Iterator[bool]) -> Structure:
    """The structure again, with the numbers marked that Python shows as ints whatever the arguments are."""
    kind = structure[0]
    if kind in ("value", "number", "bool"):
        if not next(whole) or kind == "bool":
            return structure
        return ("whole value",) if kind == "value" else ("int",)
    if kind in ("list", "tuple", "dict", "array"):
        first = 3 if kind == "dict" else 2
        return (*structure[:first], *[settle(part, whole) for part in structure[first:]])
    return structure


def _whole(x: float) -> int | float:
    """As a Value shows it: an int past 2**53 becomes a float."""
    return int(x) if abs(x) <= 2**53 else x


def restore(structure: Structure, numbers: Iterator[float]) -> Any:
    """The result with its numbers filled in."""
    kind = structure[0]
    if kind in ("value", "number"):
        return next(numbers)
    if kind in ("int", "whole value"):
        return _whole(next(numbers))
    if kind == "bool":
        return next(numbers) != 0
    if kind == "static":
        return structure[2]
    if kind == "copy":
        return structure[2].copy()
    if kind == "array":
        return np.array([restore(part, numbers) for part in structure[2:]]).reshape(structure[1])
    if kind == "dict":
        items = [restore(part, numbers) for part in structure[3:]]
        return dict(zip(structure[2], items, strict=True))
    items = [restore(part, numbers) for part in structure[2:]]
    sequence: Any = structure[1]
    return sequence(*items) if hasattr(sequence, "_fields") else sequence(items)


def restore_lanes(structure: Structure, rows: Iterator[Any], lanes: int) -> Any:
    """The result over lanes: an array of lanes in place of each number, repeated where the function returned a
    constant."""
    kind = structure[0]
    if kind in ("value", "number"):
        return next(rows)
    if kind in ("int", "whole value"):
        row = next(rows)
        return row.astype(np.int64) if np.all(np.abs(row) <= 2**53) else row
    if kind == "bool":
        return next(rows) != 0
    if kind == "static":
        constant = structure[2]
        return np.full(lanes, constant) if isinstance(constant, (int, float, np.number)) else constant
    if kind == "copy":
        return np.broadcast_to(structure[2], (lanes, *structure[1])).copy()
    if kind == "array":
        parts = [restore_lanes(part, rows, lanes) for part in structure[2:]]
        return np.stack(parts, axis=-1).reshape(lanes, *structure[1]) if parts else np.empty((lanes, *structure[1]))
    if kind == "dict":
        items = [restore_lanes(part, rows, lanes) for part in structure[3:]]
        return dict(zip(structure[2], items, strict=True))
    items = [restore_lanes(part, rows, lanes) for part in structure[2:]]
    sequence: Any = structure[1]
    return sequence(*items) if hasattr(sequence, "_fields") else sequence(items)
