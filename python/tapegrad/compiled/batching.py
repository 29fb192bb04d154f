"""`vmap`: a compiled function over many lanes at once, each lane one call of the function."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import _core
from tapegrad.compiled import environment
from tapegrad.compiled.function import Owner, Recording, _require_single, compile
from tapegrad.compiled.results import restore_lanes
from tapegrad.compiled.trees import Structure, gradient_like_lanes

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = (int, float, np.integer, np.floating)


class Mapped:
    """What `vmap` returns: callable, with `value_and_grad` and `backward` like the function, over arrays with a lane
    axis."""

    def __init__(self, function: _core.CompiledFunction, in_axes: Any, threads: int) -> None:
        self._owner: Owner = function._owner
        self._function = function
        self._in_axes = in_axes
        self._threads = threads
        self.__wrapped__ = function.__wrapped__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, with an array of lanes in place of each number."""
        batch = _Batch(args, kwargs, self._in_axes)
        recording, out = self._run(batch, lambda program: program.run_lanes(batch.leaves, batch.lanes, self._threads))
        return restore_lanes(recording.result, iter(out), batch.lanes)

    def value_and_grad(
        self, *args: Any, argnums: int | tuple[int, ...] | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """The value in each lane and its gradients, an array of lanes in place of each number; see the function's
        own."""
        batch = _Batch(args, kwargs, self._in_axes)
        wanted, chosen = batch.wanted(argnums)
        _, (values, flat) = self._run(
            batch,
            lambda program: program.run_lanes_gradients(batch.leaves, batch.lanes, self._threads, wanted),
            single=True,
        )
        gradients = iter(flat)
        shaped = [gradient_like_lanes(part, gradients, batch.lanes) for part in batch.structure[2][2:]]
        return values, shaped[chosen] if isinstance(chosen, int) else tuple(shaped[i] for i in chosen)

    def backward(self, *args: Any, reduce: str = "mean", **kwargs: Any) -> float:
        """Adds the gradients of the lanes' mean (or sum, with reduce="sum") into the grad of every Value closed over;
        returns that."""
        if reduce not in ("mean", "sum"):
            raise ValueError(f"reduce must be 'mean' or 'sum', not {reduce!r}")
        batch = _Batch(args, kwargs, self._in_axes)
        if not batch.lanes and reduce == "mean":
            raise ValueError("the mean over no lanes is not defined; give at least one")
        seed = 1.0 / batch.lanes if reduce == "mean" else 1.0
        _, total = self._run(
            batch,
            lambda program: program.run_lanes_backward(batch.leaves, batch.lanes, self._threads, seed),
            single=True,
        )
        value: float = total
        return value

    def _run(self, batch: _Batch, run: Callable[[_core.Program], Any], single: bool = False) -> tuple[Recording, Any]:
        if _core.is_recording():
            raise TypeError(
                "a function mapped over lanes cannot be called inside a compiled function; write the loop out"
            )
        owner = self._owner
        if owner.options["check"]:
            raise ValueError("check=True is for single calls; under vmap results follow IEEE 754")
        reason, sample = "first call", 0
        for attempt in range(2):
            for recording in list(owner._recordings.get(batch.structure, [])):
                changed = _core.unchanged(recording.checks)
                if changed:
                    reason = environment.describe(recording.checks[changed - 1])
                    continue
                if single:
                    _require_single(recording.result, self.__wrapped__)
                out = run(recording.program)
                if type(out) is not tuple or type(out[0]) is not int:
                    recording.calls += 1
                    return recording, out
                guard, failures, sample = out
                line = recording.program.guards[guard][2]
                if failures < batch.lanes:  # all guards before hold: here the lanes part
                    self._refuse(line, failures, batch.lanes, sample)
                reason = f"another course at {line}"
            if attempt == 0:
                owner._keep(batch.structure, owner._record(batch.structure, batch.sample(sample), reason))
        self._refuse(line, failures, batch.lanes, sample)
        raise AssertionError

    def _refuse(self, line: str, failures: int, lanes: int, first: int) -> None:
        raise ValueError(
            f"the lanes of {self.__wrapped__.__qualname__} take different courses at {line}: {failures} of {lanes} "
            f"lanes (the first is lane {first}) differ from the recording. Python can take one course only: "
            "use tapegrad.where(condition, a, b), maximum or clip"
        )

    def __repr__(self) -> str:
        return f"<{self._owner!r} over lanes>"


class _Batch:
    """The arguments of one call over lanes: arrays with the lane axis first, and the structure of one lane."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], in_axes: Any) -> None:
        self.leaves: list[tuple[Any, bool, int]] = []
        self.lanes = -1
        if isinstance(in_axes, (tuple, list)):
            axes = tuple(in_axes)
            if len(axes) != len(args):
                raise ValueError(f"in_axes names {len(axes)} arguments, but {len(args)} were given")
        else:
            axes = (in_axes,) * len(args)
        parts = [self._take(arg, axis) for arg, axis in zip(args, axes, strict=True)]
        default = None if isinstance(in_axes, (tuple, list)) else in_axes
        named = [self._take(kwargs[name], default) for name in sorted(kwargs)]
        if self.lanes < 0:
            raise ValueError("no argument has a lane axis: in_axes is None for all of them")
        self.structure: Structure = (
            "tuple",
            tuple,
            ("tuple", tuple, *parts),
            ("dict", dict, tuple(sorted(kwargs)), *named),
        )

    def _take(self, x: Any, axis: Any) -> Structure:
        if axis is not None and isinstance(x, (list, tuple)) and _is_nest_of_numbers(x):
            x = np.asarray(x)
        if isinstance(x, np.ndarray):
            return self._array(x, axis)
        if isinstance(x, (list, tuple)):
            return ("list" if isinstance(x, list) else "tuple", type(x), *[self._take(item, axis) for item in x])
        if isinstance(x, dict):
            return ("dict", type(x), tuple(x), *[self._take(item, axis) for item in x.values()])
        if isinstance(x, _NUMBERS) and not isinstance(x, bool):
            whole = isinstance(x, (int, np.integer))
            self.leaves.append((np.array([x], dtype=np.float64), False, 1))  # a number is the same in all lanes
            return ("int",) if whole else ("float",)
        hash(x)
        return ("static", type(x), x)

    def _array(self, x: Any, axis: Any) -> Structure:
        kind = x.dtype.kind
        if kind not in "fiu":
            raise TypeError(f"an array argument must hold real numbers, not {x.dtype}; shape {x.shape}")
        if axis is None:
            self.leaves.append((np.ascontiguousarray(x, dtype=np.float64), False, x.size))
            return ("array", x.shape, kind == "f")
        if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
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
        for array, batched, count in self.leaves:
            row = array[lane] if batched and self.lanes else (np.zeros(count) if batched else array)
            numbers.extend(np.ravel(row).tolist())
        kinds = list(_kinds(self.structure))
        return [int(x) if whole else x for x, whole in zip(numbers, kinds, strict=True)]

    def wanted(self, argnums: int | tuple[int, ...] | None) -> tuple[list[bool], int | tuple[int, ...]]:
        from tapegrad.compiled.function import _wanted
        from tapegrad.compiled.trees import number_count

        count = number_count(self.structure)
        wanted, chosen = _wanted(self.structure[2][2:], argnums, count)
        return wanted or [True] * count, chosen


def _is_nest_of_numbers(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return bool(x) and all(map(_is_nest_of_numbers, x))
    return isinstance(x, _NUMBERS) and not isinstance(x, bool)


def _kinds(structure: Structure) -> Any:
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


def vmap(f: Any, in_axes: Any = 0, *, threads: int = 1) -> Mapped:
    """The function over many lanes at once: array arguments get a lane axis, results too.

    Args:
        f: a compiled function, or a function that `compile` takes.
        in_axes: which axis of the arrays holds the lanes, as in JAX: one number for all arguments, or a tuple with a
        number or None
            (the same in all lanes) for each positional argument. Lists of numbers count as arrays.
        threads: how many threads share the lanes; results do not depend on it. 0 for as many as there are processors.

    A guard that holds in some lanes and not in others is a ValueError that names the line: use `where` there.
    """
    if not isinstance(f, _core.CompiledFunction):
        f = compile(f)
    if not isinstance(threads, int) or threads < 0:
        raise ValueError(f"threads must be a whole number, 0 for all processors, not {threads!r}")
    return Mapped(f, in_axes, threads or os.cpu_count() or 1)
