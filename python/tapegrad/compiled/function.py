"""`tapegrad.compile`: records a function when it is first called with arguments of some shape, and replays the
recording afterwards."""

from __future__ import annotations

import functools
import types
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled import environment
from tapegrad.compiled.results import restore, take_results
from tapegrad.compiled.tracing import Observer
from tapegrad.compiled.trees import (
    FLOAT,
    HoldsValues,
    Structure,
    gradient_like,
    number_count,
    object_array,
    put_together,
    take_apart,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CALL, GRADIENT, BACKWARD = range(3)
_MAX_STALE = 4  # recordings of an environment that is no more, kept in case it comes back


class RecordingLimit(RuntimeError):
    """A compiled function takes more different courses than `max_recordings` allows."""


class Recording:
    """One course of the function: a program, the shape of arguments and result, and what it was recorded under."""

    def __init__(self, program: _core.Program, result: Structure, checks: tuple[Any, ...], reason: str) -> None:
        self.program = program
        self.result = result
        self.checks = checks
        self.reason = reason
        self.calls = 0


class RecordingInfo(NamedTuple):
    """One line of `cache_info()`: what was recorded, why, how large it is and how often it was used."""

    arguments: str
    reason: str
    nodes: int
    guards: list[str]
    calls: int


class Owner:
    """What is behind a compiled function: its options and recordings. Calls that the fast path cannot take end up
    here."""

    def __init__(self, fn: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, fn)  # type: ignore[arg-type]
        self.__wrapped__ = fn
        self.options = options
        self._recordings: OrderedDict[Structure, list[Recording]] = OrderedDict()
        self._self: weakref.ref[_core.CompiledFunction] | None = None

    # ---- the three ways to call
    # ------------------------------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        try:
            structure, numbers = self._take_apart(args, kwargs)
        except HoldsValues:
            return self.__wrapped__(*args, **kwargs)  # part of a graph: the caller wants nodes
        if _core.is_recording():
            return self.__wrapped__(*args, **kwargs)
        recording, out = self._run(structure, numbers, lambda program, x: program.run(x))
        self._arm(CALL, recording, structure)
        return restore(recording.result, iter(out.tolist()))

    def value_and_grad(
        self, *args: Any, argnums: int | tuple[int, ...] | None = None, **kwargs: Any
    ) -> tuple[float, Any]:
        structure, numbers = self._take_apart_for("value_and_grad", args, kwargs)
        positional = structure[2][2:]
        wanted, chosen = _wanted(positional, argnums, number_count(structure))
        recording, out = self._run(structure, numbers, lambda program, x: program.run_gradients(x, wanted), single=True)
        if argnums is None:
            self._arm(GRADIENT, recording, structure)
        value, flat = out
        gradients = iter(flat.tolist())
        shaped = [gradient_like(part, gradients) for part in positional]
        return value, shaped[chosen] if isinstance(chosen, int) else tuple(shaped[i] for i in chosen)

    def backward(self, *args: Any, **kwargs: Any) -> float:
        structure, numbers = self._take_apart_for("backward", args, kwargs)
        recording, out = self._run(structure, numbers, lambda program, x: program.run_backward(x), single=True)
        self._arm(BACKWARD, recording, structure)
        value: float = out
        return value

    # ---- recordings --------------------------------------------------------------------------------------------------
    # ------------------

    @staticmethod
    def _take_apart(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Structure, list[Any]]:
        numbers: list[Any] = []
        parts = take_apart(args, numbers), take_apart(dict(sorted(kwargs.items())), numbers)
        return ("tuple", tuple, *parts), numbers

    def _take_apart_for(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Structure, list[Any]]:
        if _core.is_recording():
            raise TypeError(
                f"{what}() inside a compiled function is not possible: "
                "gradients of gradients are not recorded; call it outside"
            )
        try:
            return self._take_apart(args, kwargs)
        except HoldsValues:
            raise TypeError(
                f"{what}() takes numbers, not Values; call the function itself to build a graph of them"
            ) from None

    def _run(
        self, structure: Structure, numbers: list[Any], run: Callable[[_core.Program, Any], Any], single: bool = False
    ) -> tuple[Recording, Any]:
        """Finds the recording that stands for this call, or makes it; runs it."""
        known = self._recordings.get(structure, [])
        inputs = np.array(numbers, dtype=np.float64)
        reason = "first call" if not any(self._recordings.values()) else "new shapes or static arguments"
        for recording in list(known):
            changed = _core.unchanged(recording.checks)
            if changed:
                reason = environment.describe(recording.checks[changed - 1])
                continue
            if single:
                _require_single(recording.result, self.__wrapped__)
            out = run(recording.program, inputs)
            if type(out) is not int:
                recording.calls += 1
                if known[0] is not recording:
                    known.remove(recording)
                    known.insert(0, recording)
                return recording, out
            line = recording.program.guards[out][2]
            reason = f"another course at {line}"
        recording = self._record(structure, numbers, reason)
        if single:
            _require_single(recording.result, self.__wrapped__)
        self._keep(structure, recording)
        out = run(recording.program, inputs)
        if type(out) is int:
            line = recording.program.guards[out][2]
            raise RuntimeError(
                f"the recording of {self.__wrapped__!r} does not reproduce its own run: the guard at {line} differs"
            )
        recording.calls += 1
        return recording, out

    def _record(self, structure: Structure, numbers: list[Any], reason: str) -> Recording:
        inputs = [Value(number) for number in numbers]
        args, kwargs = put_together(structure, iter(inputs), object_array)
        statics = [item for item in _statics(structure) if not isinstance(item, str)]
        checks = environment.snapshot([self.__wrapped__, *statics])
        with Observer() as observer:
            out = self.__wrapped__(*args, **kwargs)
            del args, kwargs
            nodes: list[Value] = []
            result = take_results(out, nodes, self.__wrapped__)
            del out
            options = self.options
            program = _core.record_program(
                nodes,
                inputs,
                observer.looks,
                observer.since,
                not options["fastmath"],
                list(options["disable"]),
                options["check"],
            )
        return Recording(program, result, checks, reason)

    def _keep(self, structure: Structure, recording: Recording) -> None:
        """Puts a new recording first, within the bound; what belongs to an environment that is no more goes first."""
        known = self._recordings.get(structure, [])
        stale = [old for old in known if _core.unchanged(old.checks)]
        for old in stale[_MAX_STALE:]:
            known.remove(old)
        count = sum(len(group) for group in self._recordings.values()) - len(stale[:_MAX_STALE])
        if count >= self.options["max_recordings"]:
            if self.options["on_limit"] == "eager":
                return  # recorded for this one call
            raise RecordingLimit(
                f"{self.__wrapped__.__qualname__} was recorded {count} times and now needs another: "
                f"{recording.reason}. Numbers that steer Python make one recording for each course: use "
                "tapegrad.where, maximum or clip instead, raise max_recordings=, or say on_limit='eager' to record "
                "such calls anew each time"
            )
        self._recordings.setdefault(structure, known).insert(0, recording)

    def _arm(self, way: int, recording: Recording, structure: Structure) -> None:
        """Lets the fast path use this recording for calls like this one, if it can take them."""
        function = self._self() if self._self is not None else None
        positional = structure[2][2:]
        kept = any(recording is other for other in self._recordings.get(structure, ()))
        plain = all(part is FLOAT for part in positional) and len(structure[3]) == 3 and recording.result == ("value",)
        if function is not None and plain and kept:
            function._arm(way, recording.program, recording.checks, len(positional))

    # ---- what users look at
    # ------------------------------------------------------------------------------------------------------------

    @property
    def program(self) -> Any:
        """The program last used, as a `tapegrad.Program`: print it, draw it, save it. RuntimeError before the first
        call."""
        from tapegrad.compiled.program import Program

        for structure, group in reversed(self._recordings.items()):
            for recording in group:
                return Program(recording.program, structure, recording.result, dict(self.options))
        raise RuntimeError(f"{self.__wrapped__.__qualname__} has not been recorded yet; call it once")

    def cache_info(self) -> list[RecordingInfo]:
        """What was recorded and why, one entry a recording."""
        function = self._self() if self._self is not None else None
        out = []
        for structure, group in self._recordings.items():
            for r in group:
                fast = function._calls(r.program) if function is not None else 0
                guards = [line for _, _, line in r.program.guards]
                out.append(RecordingInfo(describe(structure), r.reason, r.program.nodes, guards, r.calls + fast))
        return out

    def cache_clear(self) -> None:
        """Forgets all recordings."""
        self._recordings.clear()
        function = self._self() if self._self is not None else None
        if function is not None:
            for way in (CALL, GRADIENT, BACKWARD):
                function._arm(way, None, (), 0)

    def bind(self, instance: Any) -> _core.CompiledFunction:
        """The compiled function as a method of an instance; kept in the instance, so that it is recorded once."""
        name = self.__wrapped__.__name__
        own = getattr(instance, "__dict__", None)
        if isinstance(own, dict) and isinstance(own.get(name), _core.CompiledFunction):
            kept: _core.CompiledFunction = own[name]
            return kept
        bound = make(types.MethodType(self.__wrapped__, instance), self.options)
        if isinstance(own, dict):
            own[name] = bound
        return bound

    def reduce(self) -> tuple[Any, ...]:
        return make, (self.__wrapped__, self.options)

    def __repr__(self) -> str:
        return f"<compiled {self.__wrapped__!r}>"


def make(fn: Callable[..., Any], options: dict[str, Any]) -> _core.CompiledFunction:
    owner = Owner(fn, options)
    function = _core.CompiledFunction(owner)
    owner._self = weakref.ref(function)
    return function


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    fastmath: bool = False,
    check: bool = False,
    max_recordings: int = 64,
    on_limit: str = "error",
    disable: Iterable[str] = (),
) -> Any:
    """Turns a function over numbers and Values into one that is recorded once and then runs without Python.

    ``f(*args)`` gives what ``fn`` returns, as plain numbers; ``f.value_and_grad(*args)`` the value and its gradients
    by the arguments;
    ``f.backward(*args)`` does as ``fn(*args).backward()`` and returns the loss. Also usable as a decorator, with or
    without options.

    Args:
        fn: a function of numbers, nested lists, tuples and dicts of numbers, NumPy arrays, and hashable static
        arguments. Inside it
            numbers are Values and arrays are object arrays of Values. Values that it closes over are parameters: they
            are read at
            each call. What else it does (printing, appending, drawing random numbers) happens only when it is recorded.
        fastmath: allow sums to be formed in another order. Otherwise a call has the bits of eager code.
        check: raise as eager code does on overflow and outside a function's domain. Otherwise such results are inf
        and nan (IEEE 754).
        max_recordings: how many courses of the function may be kept.
        on_limit: past that bound ``"error"`` raises RecordingLimit, ``"eager"`` records such calls anew each time.
        disable: names of passes to leave out, of those in ``tapegrad.compiled.PASSES``.

    Raises:
        TypeError: `fn` is not callable. ValueError: an option has no such value.
    """
    if fn is None:
        return functools.partial(
            compile, fastmath=fastmath, check=check, max_recordings=max_recordings, on_limit=on_limit, disable=disable
        )
    if not callable(fn):
        raise TypeError(f"compile() takes a function, not {type(fn).__name__}: {fn!r:.100}")
    if isinstance(fn, _core.CompiledFunction):
        fn = fn.__wrapped__
    if on_limit not in ("error", "eager"):
        raise ValueError(f"on_limit must be 'error' or 'eager', not {on_limit!r}")
    if not isinstance(max_recordings, int) or max_recordings < 1:
        raise ValueError(f"max_recordings must be a whole number of at least 1, not {max_recordings!r}")
    off = tuple(disable)
    for name in off:
        if name not in _core.passes:
            raise ValueError(f"there is no pass {name!r}; the passes are {', '.join(map(repr, _core.passes))}")
    options = {
        "fastmath": bool(fastmath),
        "check": bool(check),
        "max_recordings": max_recordings,
        "on_limit": on_limit,
        "disable": off,
    }
    return make(fn, options)


def _require_single(result: Structure, fn: Any) -> None:
    if result != ("value",):
        raise TypeError(f"the gradient is that of one Value, but {fn.__qualname__} returns {describe(result)}")


def _wanted(
    positional: tuple[Structure, ...], argnums: int | tuple[int, ...] | None, count: int
) -> tuple[list[bool], int | tuple[int, ...]]:
    """Which flat inputs to differentiate by ([] for all), and which arguments' gradients to hand back."""
    sizes = [number_count(part) for part in positional]
    if argnums is None:
        numeric = tuple(i for i, part in enumerate(positional) if part[0] != "static")
        if sum(sizes) != count:  # keyword arguments are not differentiated by
            return [True] * sum(sizes) + [False] * (count - sum(sizes)), numeric[0] if len(numeric) == 1 else numeric
        return [], numeric[0] if len(numeric) == 1 else tuple(range(len(positional)))
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in chosen:
        if not isinstance(i, int) or not -len(sizes) <= i < len(sizes):
            raise ValueError(f"argnums names argument {i!r}, but there are {len(sizes)} positional arguments")
        if positional[i][0] == "static":
            raise TypeError(f"argument {i} is not a number: {positional[i][2]!r:.100}")
    chosen = tuple(i % len(sizes) for i in chosen)
    wanted = [i in chosen for i, size in enumerate(sizes) for _ in range(size)]
    return wanted + [False] * (count - len(wanted)), chosen[0] if isinstance(argnums, int) else chosen


def _statics(structure: Structure) -> Iterator[Any]:
    kind = structure[0]
    if kind == "static":
        yield structure[2]
    elif kind in ("list", "tuple", "dict"):
        for part in structure[3 if kind == "dict" else 2 :]:
            yield from _statics(part)


def describe(structure: Structure) -> str:
    """A structure in words: 'float', 'float64 (100, 2)', '[int, ...]'."""
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
