"""Arguments of a call over lanes: which numbers differ from lane to lane, and the structure of one lane's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad._core import Value
from tapegrad.compiled.trees import Structure, number_count, take_apart, wanted_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegrad import _core

_NUMBERS = (int, float, np.integer, np.floating)


def check_axes(axes: Any) -> None:
    """ValueError unless `axes` is a whole number, None, or a list, tuple or dict of such."""
    if isinstance(axes, (list, tuple, dict)):
        for axis in axes.values() if isinstance(axes, dict) else axes:
            check_axes(axis)
    elif axes is not None and (isinstance(axes, bool) or not isinstance(axes, (int, np.integer))):
        raise ValueError(f"in_axes is made of whole numbers and None, not {axes!r:.100}")


class Batch:
    """The arguments of one call over lanes: arrays with the lane axis first, and the structure of one lane."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], in_axes: Any) -> None:
        self.leaves: list[tuple[Any, bool, int]] = []
        self.lanes = -1
        check_axes(in_axes)
        if isinstance(in_axes, (tuple, list)):
            axes = tuple(in_axes)
            if len(axes) != len(args):
                raise ValueError(f"in_axes names {len(axes)} arguments, but {len(args)} were given")
        else:
            axes = (in_axes,) * len(args)
        parts = [self._take(arg, axis) for arg, axis in zip(args, axes, strict=True)]
        named = [self._take(kwargs[name], 0) for name in sorted(kwargs)]
        if self.lanes < 0:
            raise ValueError("no argument has a lane axis: give at least one array whose in_axes is not None")
        self.structure: Structure = (
            "tuple",
            tuple,
            ("tuple", tuple, *parts),
            ("dict", dict, tuple(sorted(kwargs)), *named),
        )

    def _take(self, x: Any, axis: Any) -> Structure:
        if isinstance(axis, (list, tuple, dict)):
            return self._container(x, axis)
        if isinstance(x, Value):
            raise TypeError(
                "a function over lanes takes numbers and arrays, not Values; let the function close over them"
            )
        if axis is not None and isinstance(x, (list, tuple)) and _is_nest_of_numbers(x):
            x = np.asarray(x)
        if isinstance(x, np.ndarray):
            return self._array(x, axis)
        if isinstance(x, (list, tuple)):
            return self._container(x, [axis] * len(x))
        if isinstance(x, dict):
            return self._container(x, dict.fromkeys(x, axis))
        numbers: list[Any] = []
        structure = take_apart(x, numbers)
        for number in numbers:  # the same in all lanes
            self.leaves.append((np.array([number], dtype=np.float64), False, 1))
        return structure

    def _container(self, x: Any, axes: Any) -> Structure:
        """A list, tuple or dict whose items have axes of their own."""
        if isinstance(axes, dict):
            if not isinstance(x, dict) or x.keys() != axes.keys():
                raise ValueError(f"in_axes has a dict with keys {list(axes)!r:.100} for {x!r:.100}")
            return ("dict", type(x), tuple(x), *[self._take(item, axes[key]) for key, item in x.items()])
        if not isinstance(x, (list, tuple)) or len(x) != len(axes):
            raise ValueError(f"in_axes has {axes!r:.100} for {x!r:.100}: lists and tuples have to be of one length")
        parts = [self._take(item, axis) for item, axis in zip(x, axes, strict=True)]
        return ("list" if isinstance(x, list) else "tuple", type(x), *parts)

    def _array(self, x: Any, axis: Any) -> Structure:
        kind = x.dtype.kind
        take_apart(x[:0] if x.ndim else x, [])  # TypeError for arrays that hold no numbers
        if axis is None:
            self.leaves.append((np.ascontiguousarray(x, dtype=np.float64), False, x.size))
            return ("array", x.shape, kind == "f")
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"an array of shape {x.shape} has no lane axis {axis!r}")
        if axis:
            x = np.moveaxis(x, axis, 0)
        lanes, shape = x.shape[0], x.shape[1:]
        if self.lanes >= 0 and lanes != self.lanes:
            raise ValueError(f"arrays differ in their number of lanes: {self.lanes} and {lanes} (shape {x.shape})")
        self.lanes = lanes
        count = 1
        for extent in shape:
            count *= extent
        self.leaves.append((np.ascontiguousarray(x, dtype=np.float64), True, count))
        if shape:
            return ("array", shape, kind == "f")
        return ("float",) if kind == "f" else ("int",)

    def sample(self, lane: int) -> list[Any]:
        """The numbers of one lane, for recording: ints where the structure says so."""
        numbers: list[Any] = []
        for array, batched, count in self.leaves:  # over no lanes anything will do, and zeros do
            row = array[lane] if batched and self.lanes else (np.zeros(count) if batched else array)
            numbers.extend(np.ravel(row).tolist())
        kinds = list(_kinds(self.structure))
        return [int(x) if whole else x for x, whole in zip(numbers, kinds, strict=True)]

    def check(self, program: _core.Program) -> None:
        """Runs lane by lane, so that an operation that fails raises as it does in a single call; the error tells the
        lane."""
        for lane in range(self.lanes):
            try:
                program.run(np.array(self.sample(lane), dtype=np.float64))
            except (ArithmeticError, ValueError) as error:
                error.add_note(f"in lane {lane} of {self.lanes}")
                raise

    def wanted(self, argnums: int | tuple[int, ...] | None) -> tuple[list[bool], int | tuple[int, ...]]:
        count = number_count(self.structure)
        wanted, chosen = wanted_gradients(self.structure[2][2:], argnums, count)
        return wanted or [True] * count, chosen


def _is_nest_of_numbers(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return bool(x) and all(map(_is_nest_of_numbers, x))
    return isinstance(x, _NUMBERS) and not isinstance(x, bool)


def _kinds(structure: Structure) -> Iterator[bool]:
    """For each number of the structure whether it is an int."""
    kind = structure[0]
    if kind in ("float", "int"):
        yield kind == "int"
    elif kind == "array":
        for _ in range(int(np.prod(structure[1], dtype=np.int64))):
            yield not structure[2]
    elif kind != "static":
        for part in structure[3 if kind == "dict" else 2 :]:
            yield from _kinds(part)
