"""Arguments and results as flat lists of numbers: nests of tuples, lists, dicts and NumPy arrays, taken apart and put
together again."""

from __future__ import annotations

from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad._core import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A structure is a nested tuple: a kind, then what belongs to it. It can be compared and hashed, and is the key of a
# recording.
FLOAT = ("float",)
INT = ("int",)
Structure = tuple[Any, ...]


class HoldsValues(Exception):
    """An argument holds Values: the call is part of a graph and has to run as ordinary Python."""


def take_apart(x: Any, numbers: list[Any]) -> Structure:
    """The structure of an argument; its numbers are appended in order. Raises HoldsValues, or TypeError for what
    cannot be an argument."""
    kind = type(x)
    if kind is float:
        numbers.append(x)
        return FLOAT
    if kind is int:
        numbers.append(x)
        return INT
    if isinstance(x, Value):
        raise HoldsValues
    if isinstance(x, bool) or x is None:
        return ("static", kind, x)
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "fiu":
            if x.dtype.kind == "O" and any(isinstance(item, Value) for item in x.flat):
                raise HoldsValues
            raise TypeError(
                f"an array argument must hold real numbers, not {x.dtype} (shape {x.shape}): convert it with "
                "astype(float), or let the function close over it"
            )
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError("a masked array cannot be an argument: fill it, and pass the mask as numbers")
        numbers.extend(np.asarray(x).ravel().tolist())
        return ("array", x.shape, x.dtype.kind == "f")
    if isinstance(x, (np.integer, int)):
        numbers.append(int(x))
        return INT
    if isinstance(x, Number) and not isinstance(x, np.bool_):
        if isinstance(x, (complex, np.complexfloating)):
            raise TypeError(f"an argument must be real, not {kind.__name__}: {x!r:.100}")
        numbers.append(float(x))  # type: ignore[arg-type]
        return FLOAT
    if isinstance(x, (list, tuple)):
        return ("list" if isinstance(x, list) else "tuple", kind, *[take_apart(item, numbers) for item in x])
    if isinstance(x, dict):
        return ("dict", kind, tuple(x), *[take_apart(item, numbers) for item in x.values()])
    try:
        hash(x)
    except TypeError:
        raise TypeError(
            f"cannot pass {kind.__name__} {x!r:.100} to a compiled function: "
            "arguments are numbers, lists, tuples, dicts and arrays of them, or anything hashable"
        ) from None
    return ("static", kind, x)


def put_together(structure: Structure, numbers: Iterator[Any], array: Callable[[list[Any]], Any]) -> Any:
    """The argument again, with other things in place of its numbers; `array` makes an array from a list of them."""
    kind = structure[0]
    if kind in ("float", "int"):
        return next(numbers)
    if kind == "static":
        return structure[2]
    if kind == "array":
        shape = structure[1]
        count = int(np.prod(shape, dtype=np.int64))
        return array([next(numbers) for _ in range(count)]).reshape(shape)
    if kind == "dict":
        items = [put_together(part, numbers, array) for part in structure[3:]]
        return dict(zip(structure[2], items, strict=True))
    items = [put_together(part, numbers, array) for part in structure[2:]]
    return _sequence(structure[1], items)


def _sequence(kind: type, items: list[Any]) -> Any:
    if kind is list or kind is tuple:
        return kind(items)
    if hasattr(kind, "_fields"):  # a named tuple
        return kind(*items)
    return kind(items)


def object_array(items: list[Any]) -> Any:
    """A one-dimensional array that holds the items themselves."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def number_count(structure: Structure) -> int:
    """How many numbers a structure holds."""
    kind = structure[0]
    if kind in ("float", "int"):
        return 1
    if kind == "static":
        return 0
    if kind == "array":
        return int(np.prod(structure[1], dtype=np.int64))
    return sum(map(number_count, structure[3:] if kind == "dict" else structure[2:]))


def gradient_like(structure: Structure, numbers: Iterator[float]) -> Any:
    """Gradients in the shape of an argument; None in place of what is not a number."""
    kind = structure[0]
    if kind == "static":
        return None
    if kind == "dict":
        items = [gradient_like(part, numbers) for part in structure[3:]]
        return dict(zip(structure[2], items, strict=True))
    if kind in ("list", "tuple"):
        return _sequence(structure[1], [gradient_like(part, numbers) for part in structure[2:]])
    return put_together(structure, numbers, np.array)


def gradient_like_lanes(structure: Structure, arrays: Iterator[Any], lanes: int) -> Any:
    """Gradients over lanes in the shape of an argument, from one array of shape (lanes, numbers) for each of its
    leaves."""
    kind = structure[0]
    if kind == "static":
        return None
    if kind in ("float", "int", "array"):
        array = next(arrays)  # None where it was not wanted
        return None if array is None else array.reshape(lanes, *(structure[1] if kind == "array" else ()))
    if kind == "dict":
        items = [gradient_like_lanes(part, arrays, lanes) for part in structure[3:]]
        return dict(zip(structure[2], items, strict=True))
    return _sequence(structure[1], [gradient_like_lanes(part, arrays, lanes) for part in structure[2:]])


def wanted_gradients(
    positional: tuple[Structure, ...], argnums: int | tuple[int, ...] | None, count: int
) -> tuple[list[bool], int | tuple[int, ...]]:
    """Which flat inputs to differentiate by ([] for all), and which arguments' gradients to hand back."""
    sizes = [number_count(part) for part in positional]
    if argnums is None:
        numeric = tuple(i for i, part in enumerate(positional) if part[0] != "static")
        chosen = numeric[0] if len(numeric) == 1 else tuple(range(len(positional)))
        if sum(sizes) != count:  # keyword arguments are not differentiated by
            return [True] * sum(sizes) + [False] * (count - sum(sizes)), chosen
        return [], chosen
    asked = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)
    for i in asked:
        if not isinstance(i, int) or not -len(sizes) <= i < len(sizes):
            raise ValueError(
                f"argnums names argument {i!r}, but there are {len(sizes)} positional arguments, from 0 on"
            )
        if positional[i][0] == "static":
            raise TypeError(f"argument {i} is not a number: {positional[i][2]!r:.100}")
    asked = tuple(i % len(sizes) for i in asked)
    wanted = [i in asked for i, size in enumerate(sizes) for _ in range(size)]
    return wanted + [False] * (count - len(wanted)), asked[0] if isinstance(argnums, int) else asked


def statics_of(structure: Structure) -> Iterator[Any]:
    """The static arguments in a structure."""
    kind = structure[0]
    if kind == "static":
        yield structure[2]
    elif kind in ("list", "tuple", "dict"):
        for part in structure[3 if kind == "dict" else 2 :]:
            yield from statics_of(part)


def describe(structure: Structure) -> str:
    """A structure in words: 'float', 'array (100, 2)', '[int, ...]'."""
    kind = structure[0]
    if kind == "static":
        return f"{structure[2]!r:.40}"
    if kind == "array":
        return f"array {structure[1]}"
    if kind == "dict":
        return (
            "{"
            + ", ".join(f"{key!r}: {describe(part)}" for key, part in zip(structure[2], structure[3:], strict=True))
            + "}"
        )
    if kind in ("list", "tuple"):
        parts = [describe(part) for part in structure[2:6]] + (["..."] if len(structure) > 6 else [])
        return ("[%s]" if kind == "list" else "(%s)") % ", ".join(parts)
    return str(kind)
