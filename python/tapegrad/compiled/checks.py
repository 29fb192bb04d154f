"""The checks of a snapshot: each says whether one object still is what it was when a function was recorded.

A check is a list: its kind, what is checked, and what was seen. The commonest kinds are compared in C++
(`_core.unchanged`); the others, of kind CALL, name a function of this module, which gets the whole check.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from tapegrad import _core

CELL, NAMES, ITEMS, LIST, ARRAY, TYPE, BARE, CALL = range(8)
Check = list[Any]


def same(a: Any, b: Any) -> bool:
    """The same object, or an equal number or text."""
    if a is b:
        return True
    return type(a) is type(b) and isinstance(a, (int, float, str)) and a == b and repr(a) == repr(b)


def all_same(now: tuple[Any, ...], then: tuple[Any, ...]) -> bool:
    return len(now) == len(then) and all(map(same, now, then))


def never(check: Check) -> bool:
    return False


def function(check: Check) -> bool:
    f = check[2]
    return f.__code__ is check[3] and f.__defaults__ is check[4] and f.__kwdefaults__ is check[5]


def objects(check: Check) -> bool:
    return bool(check[2].shape == check[3]) and all_same(tuple(check[2].flat), check[4])


def numbers(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """All that can be looked at in an array of numbers or texts."""
    return array.dtype, array.shape, array.tobytes()


def array(check: Check) -> bool:
    return bool(numbers(np.asarray(check[2])) == check[3])


def members(check: Check) -> bool:
    return len(check[2]) == len(check[3]) and all(item in check[2] for item in check[3])


def iteration(check: Check) -> bool:
    return all_same(tuple(check[2]), check[3])


def mapping(check: Check) -> bool:
    now = tuple(check[2].items())
    return len(now) == len(check[3]) and all(map(all_same, now, check[3]))


def attribute(check: Check) -> bool:
    return same(getattr(check[2], check[3], _core.missing), check[4])


def attributes(check: Check) -> bool:
    now = vars(check[2])
    return now.keys() == check[3].keys() and all(same(value, check[3][name]) for name, value in now.items())


def context(check: Check) -> bool:
    return same(check[2].get(_core.missing), check[3])


def target(check: Check) -> bool:
    return bool(check[2]() is check[3])


def buffer_of(x: Any) -> bytes | None:
    """The bytes behind a bytearray, an array.array or the like; None for what has none."""
    try:
        return bytes(memoryview(x))
    except (TypeError, ValueError, BufferError):
        return None


def buffer(check: Check) -> bool:
    return bool(buffer_of(check[2]) == check[3])


def matters(name: str, names: set[str] | None) -> bool:
    """Whether an attribute of a class is looked at: by the code (None: any may be) or by Python itself."""
    if name.startswith("__") and name not in ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__"):
        return True
    return names is None or name in names


def type_contents(cls: type) -> dict[type, dict[str, Any]]:
    return {base: dict(vars(base)) for base in cls.__mro__ if base is not object}


def type_(check: Check) -> bool:
    """Whether a class whose version changed still has the same attributes where the code or Python itself looks for
    them."""
    _, cls, _, _, then, names = check
    now = type_contents(cls)
    if now.keys() != then.keys():
        return False
    for base, items in now.items():
        for name in items.keys() | then[base].keys():
            a, b = items.get(name, _core.missing), then[base].get(name, _core.missing)
            if matters(name, names) and not (same(a, b) or (type(a) is type(b) is tuple and a == b)):
                return False
    check[2] = _core.type_version(cls)
    return True


class Draws:
    """Whether a generator of random numbers was drawn from; None stands for the global ones of `random` and NumPy."""

    what = "random numbers are drawn"

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._before = self._state()

    def _state(self) -> Any:
        g = self._generator
        if g is None:
            return random.getstate(), _parts(np.random.get_state())  # noqa: NPY002
        if isinstance(g, random.Random):
            return g.getstate()
        if isinstance(g, np.random.RandomState):
            return _parts(g.get_state())
        bits = g if isinstance(g, np.random.BitGenerator) else g.bit_generator
        with np.printoptions(threshold=10_000):
            return repr(bits.state)

    def changed(self) -> bool:
        return bool(self._state() != self._before)


def _parts(state: Any) -> tuple[Any, ...]:
    return tuple(part.tobytes() if isinstance(part, np.ndarray) else part for part in state)


def describe(check: Check) -> str:
    """What a check that does not hold any more is about, in words."""
    kind, holder = check[0], check[1]
    if kind == CELL:
        return "a variable of the enclosing function was assigned"
    if kind in (NAMES, ITEMS):
        names = [n for n, v in zip(check[2], check[3], strict=True) if not same(holder.get(n, _core.missing), v)]
        return f"{names[0]!r:.60} was assigned" if names else "a dict was added to"
    if kind == LIST:
        return f"a list of {len(check[2])} items changed"
    if kind == ARRAY:
        return f"the numbers in an array of shape {holder.shape} changed"
    if kind == TYPE:
        return f"class {holder.__name__} changed"
    if kind == BARE:
        return "a Value got a label or another attribute"
    if holder is never:
        return str(check[2])
    return f"{type(check[2]).__name__} changed"
