"""`vmap`: a compiled function over many lanes at once, each lane one call of the function."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tapegrad import _core
from tapegrad.compiled.environment import Transform
from tapegrad.compiled.function import Owner, compile
from tapegrad.compiled.lanes import Batch, check_axes
from tapegrad.compiled.recordings import Recording, name_of, require_single
from tapegrad.compiled.results import restore_lanes
from tapegrad.compiled.transforms import Gradient
from tapegrad.compiled.trees import gradient_like_lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegrad.compiled.trees import Structure


@dataclass(slots=True, eq=False)
class _Ready:
    """A call that the next one may be like: what it was, and the program, environment and shapes it ran with."""

    used: tuple[Structure, Recording]
    recording: Recording
    lookup: tuple[_core.Program, tuple[Any, ...], tuple[tuple[int, ...], ...]]
    argnums: int | tuple[int, ...] | None
    chosen: int | tuple[int, ...]


class Mapped(Transform):
    """What `vmap` returns: callable, with `value_and_grad` and `backward` like the function, over arrays with a lane
    axis."""

    def __init__(self, function: _core.CompiledFunction, in_axes: Any, threads: int) -> None:
        self._owner: Owner = function._owner
        self._function = function
        self._in_axes = in_axes
        self._threads = threads
        self._ready: dict[str, _Ready] = {}  # by the way to call
        functools.update_wrapper(self, function.__wrapped__)
        self.__wrapped__ = function.__wrapped__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, with an array of lanes in place of each number."""
        ready = self._find_ready("call", kwargs)
        if ready is not None:
            rows = _core.values_over_lanes(*ready.lookup, args, self._threads)
            if rows is not None:
                self._note(ready)
                return restore_lanes(ready.recording.result, iter(rows), args[0].shape[0])
        batch = Batch(args, kwargs, self._in_axes)
        recording, out = self._run(batch, lambda program: program.run_lanes(batch.leaves, batch.lanes, self._threads))
        self._remember("call", batch, recording, args, kwargs)
        return restore_lanes(recording.result, iter(out), batch.lanes)

    def value_and_grad(
        self, *args: Any, argnums: int | tuple[int, ...] | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """The value in each lane and its gradients, an array of lanes in place of each number; see the function's
        own."""
        ready = self._find_ready("gradient", kwargs)
        if ready is not None and ready.argnums is argnums:
            asked = ready.chosen if isinstance(ready.chosen, tuple) else (ready.chosen,)
            done = _core.gradients_over_lanes(*ready.lookup, args, asked, self._threads)
            if done is not None:
                self._note(ready)
                return done if asked is ready.chosen else (done[0], done[1][0])
        batch = Batch(args, kwargs, self._in_axes)
        wanted, chosen = batch.wanted(argnums)
        recording, (values, flat) = self._run(
            batch,
            lambda program: program.run_lanes_gradients(batch.leaves, batch.lanes, self._threads, wanted),
            single=True,
        )
        if argnums is None or isinstance(argnums, (int, tuple)):
            self._remember("gradient", batch, recording, args, kwargs, argnums, chosen)
        gradients = iter(flat)
        shaped = [gradient_like_lanes(part, gradients, batch.lanes) for part in batch.structure[2][2:]]
        return values, shaped[chosen] if isinstance(chosen, int) else tuple(shaped[i] for i in chosen)

    def backward(self, *args: Any, reduce: str = "mean", **kwargs: Any) -> float:
        """Adds the gradients of the lanes' mean (or sum, with reduce="sum") into the grad of every Value closed over;
        returns that."""
        if reduce not in ("mean", "sum"):
            raise ValueError(f"reduce must be 'mean' or 'sum', not {reduce!r}")
        ready = self._find_ready("backward", kwargs)
        if ready is not None:
            done = _core.backward_over_lanes(*ready.lookup, args, reduce == "mean", self._threads)
            if done is not None:
                self._note(ready)
                return done
        batch = Batch(args, kwargs, self._in_axes)
        if not batch.lanes and reduce == "mean":
            raise ValueError("the mean over no lanes is not defined; give at least one")
        seed = 1.0 / batch.lanes if reduce == "mean" else 1.0
        recording, total = self._run(
            batch,
            lambda program: program.run_lanes_backward(batch.leaves, batch.lanes, self._threads, seed),
            single=True,
        )
        self._remember("backward", batch, recording, args, kwargs)
        value: float = total
        return value

    def _find_ready(self, way: str, kwargs: dict[str, Any]) -> _Ready | None:
        ready = None if kwargs else self._ready.get(way)
        return ready if ready is not None and ready.recording.kept else None

    def _note(self, ready: _Ready) -> None:
        ready.recording.calls += 1
        self._owner.recordings.last_used = ready.used

    def _remember(
        self,
        way: str,
        batch: Batch,
        recording: Recording,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: int | tuple[int, ...] | None = None,
        chosen: int | tuple[int, ...] = (),
    ) -> None:
        """Lets calls like this one go straight to the program, if its arguments are what the native code takes."""
        if kwargs or type(self._in_axes) is not int or self._in_axes or self._owner.options["check"]:
            return
        if all(isinstance(arg, np.ndarray) and arg.dtype == np.float64 for arg in args):
            lookup = recording.program, recording.checks, tuple(arg.shape[1:] for arg in args)
            self._ready[way] = _Ready((batch.structure, recording), recording, lookup, argnums, chosen)

    def _run(self, batch: Batch, run: Callable[[_core.Program], Any], single: bool = False) -> tuple[Recording, Any]:
        if _core.is_recording():
            raise TypeError(
                "a function mapped over lanes cannot be called inside a compiled function; write the loop out"
            )
        recordings = self._owner.recordings
        reasons: list[str] = []
        sample = 0
        for recording in recordings.standing(batch.structure, reasons):
            done, out = self._try(recording, batch, run, single)
            if done:
                recordings.used(batch.structure, recording)
                return recording, out
            line, sample = out
            reasons.append(f"another course at {line}")
        recording = self._record(batch, sample, reasons[-1])
        recordings.keep(batch.structure, recording)
        done, out = self._try(recording, batch, run, single)
        if not done:  # the lane that was recorded passes, another one does not
            self._refuse(out[0], batch.lanes - 1, batch.lanes, out[1])
        recordings.used(batch.structure, recording)
        return recording, out

    def _try(
        self, recording: Recording, batch: Batch, run: Callable[[_core.Program], Any], single: bool
    ) -> tuple[bool, Any]:
        """Whether the recording stands for the lanes, and what it gave: results, or the line of the guard in which all
        lanes differ from it and the first of them. ValueError where lanes differ from each other."""
        if single:
            require_single(recording.result, self.__wrapped__)
        if self._owner.options["check"]:
            batch.check(recording.program)
        out = run(recording.program)
        if type(out) is not tuple or type(out[0]) is not int:
            return True, out
        guard, failures, first = out
        line = recording.program.guards[guard][2]
        if failures < batch.lanes:  # all guards before hold in all lanes: here the lanes part
            self._refuse(line, failures, batch.lanes, first)
        return False, (line, first)

    def _record(self, batch: Batch, lane: int, reason: str) -> Recording:
        """A recording made with the numbers of one lane. The function is not called for the others, so it must not
        depend on having been called."""
        recordings = self._owner.recordings
        for _ in range(2):  # the first call may prepare something for those after it
            recording = recordings.record(batch.structure, batch.sample(lane), reason)
            change = recording.change()
            if not change:
                return recording
        raise ValueError(
            f"{name_of(self.__wrapped__)} cannot be mapped over lanes: it would be another function in each of them, "
            f"because {change} when it is called. Do that outside and pass the result as an argument"
        )

    def _refuse(self, line: str, failures: int, lanes: int, first: int) -> None:
        raise ValueError(
            f"the lanes of {name_of(self.__wrapped__)} take different courses at {line}: {failures} of {lanes} "
            f"lanes (the first is lane {first}) differ from the recording. Python can take one course only: "
            "use tapegrad.where(condition, a, b), maximum or clip"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Mapped, (self._function, self._in_axes, self._threads)

    def __repr__(self) -> str:
        return f"<{self._owner!r} over lanes>"


class MappedGradient(Transform):
    """What `vmap` makes of `grad(f)` and `value_and_grad(f)`."""

    def __init__(self, gradient: Gradient, in_axes: Any, threads: int) -> None:
        functools.update_wrapper(self, gradient.compiled.__wrapped__)
        self.__wrapped__ = gradient
        self._gradient = gradient
        self._mapped = Mapped(gradient.compiled, in_axes, threads)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient in each lane; with the values first from `value_and_grad`."""
        both = self._mapped.value_and_grad(*args, argnums=self._gradient.argnums, **kwargs)
        return both if self._gradient.with_value else both[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedGradient, (self._gradient, self._mapped._in_axes, self._mapped._threads)

    def __repr__(self) -> str:
        return f"<{self._gradient!r} over lanes>"


@overload
def vmap(  # type: ignore[overload-overlap]
    f: Gradient, in_axes: Any = 0, *, threads: int = 1
) -> MappedGradient: ...
@overload
def vmap(f: Callable[..., Any], in_axes: Any = 0, *, threads: int = 1) -> Mapped: ...
def vmap(f: Any, in_axes: Any = 0, *, threads: int = 1) -> Mapped | MappedGradient:
    """The function over many lanes at once: array arguments get a lane axis, results too.

    Args:
        f: a compiled function, or a function that `compile` takes; or what `grad` or `value_and_grad` returned.
        in_axes: which axis of the arrays holds the lanes, as in JAX: one number for all arguments, or a tuple with an
            entry for each positional argument, a number, None (the same in all lanes), or a list, tuple or dict of
            them like the argument. Lists of numbers count as arrays; numbers are the same in all lanes. Keyword
            arguments have their lanes first.
        threads: how many threads share the lanes; results do not depend on it. 0 for as many as there are processors.

    The result has ``__call__``, ``value_and_grad`` and ``backward(..., reduce="mean")``. A guard that holds in some
    lanes and not in others is a ValueError that names the line: use `where` there.

    Raises:
        TypeError: `f` is not callable, or what `vmap` returned.
        ValueError: `threads` or `in_axes` is not as above.
    """
    if not isinstance(threads, int) or threads < 0:
        raise ValueError(f"threads must be a whole number, 0 for all processors, not {threads!r}")
    check_axes(in_axes)
    if isinstance(f, (Mapped, MappedGradient)):
        raise TypeError("vmap of vmap: write one function over the inner lanes, with its loop or sum, and map that")
    if isinstance(f, Gradient):
        return MappedGradient(f, in_axes, threads or os.cpu_count() or 1)
    if not isinstance(f, _core.CompiledFunction):
        f = compile(f)
    return Mapped(f, in_axes, threads or os.cpu_count() or 1)
