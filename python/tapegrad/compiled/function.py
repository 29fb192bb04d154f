"""`tapegrad.compile`: records a function when it is first called with arguments of some shape, and replays the
recording afterwards."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tapegrad import _core
from tapegrad.compiled.recordings import Recording, RecordingInfo, Recordings, name_of, require_single
from tapegrad.compiled.results import restore
from tapegrad.compiled.trees import (
    HoldsValues,
    Structure,
    gradient_like,
    number_count,
    take_apart,
    wanted_gradients,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tapegrad.compiled.program import Program

CALL, GRADIENT, BACKWARD = range(3)
_COMPILED = _core.CompiledFunction


class Owner:
    """What is behind a compiled function: its options and recordings. Calls that the fast path cannot take end up
    here."""

    def __init__(self, fn: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, fn)  # type: ignore[arg-type]
        self.__wrapped__ = fn
        self.options = options
        self.recordings = Recordings(fn, options)
        self._self: weakref.ref[_core.CompiledFunction] | None = None

    # ---- the three ways to call --------------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if _core.is_recording():
            return self.__wrapped__(*args, **kwargs)
        try:
            structure, numbers = take_arguments(args, kwargs)
        except HoldsValues:
            return self.__wrapped__(*args, **kwargs)  # part of a graph: the caller wants nodes
        recording, out = self._run(structure, numbers, lambda program, x: program.run(x))
        self._arm(CALL, recording, structure)
        return restore(recording.result, iter(out.tolist()))

    def value_and_grad(
        self, *args: Any, argnums: int | tuple[int, ...] | None = None, **kwargs: Any
    ) -> tuple[float, Any]:
        structure, numbers = self._take_numbers("value_and_grad", args, kwargs)
        positional = structure[2][2:]
        wanted, chosen = wanted_gradients(positional, argnums, number_count(structure))
        recording, out = self._run(structure, numbers, lambda program, x: program.run_gradients(x, wanted), single=True)
        if argnums is None:
            self._arm(GRADIENT, recording, structure)
        value, flat = out
        gradients = iter(flat.tolist())
        shaped = [gradient_like(part, gradients) for part in positional]
        return restore(recording.result, iter([value])), (
            shaped[chosen] if isinstance(chosen, int) else tuple(shaped[i] for i in chosen)
        )

    def backward(self, *args: Any, **kwargs: Any) -> float:
        structure, numbers = self._take_numbers("backward", args, kwargs)
        recording, out = self._run(structure, numbers, lambda program, x: program.run_backward(x), single=True)
        self._arm(BACKWARD, recording, structure)
        value: float = restore(recording.result, iter([out]))
        return value

    def _take_numbers(self, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Structure, list[Any]]:
        if _core.is_recording():
            raise TypeError(
                f"{what}() inside a compiled function is not possible: "
                "gradients of gradients are not recorded; call it outside"
            )
        try:
            return take_arguments(args, kwargs)
        except HoldsValues:
            raise TypeError(
                f"{what}() takes numbers, not Values; call the function itself to build a graph of them, "
                "or let the function close over them as parameters"
            ) from None

    def _run(
        self, structure: Structure, numbers: list[Any], run: Callable[[_core.Program, Any], Any], single: bool = False
    ) -> tuple[Recording, Any]:
        """Finds the recording that stands for this call, or makes it; runs it."""
        inputs = np.array(numbers, dtype=np.float64)
        reasons: list[str] = []
        for recording in self.recordings.standing(structure, reasons):
            if single:
                require_single(recording.result, self.__wrapped__)
            out = run(recording.program, inputs)
            if type(out) is not int:
                self.recordings.used(structure, recording)
                return recording, out
            reasons.append(f"another course at {recording.program.guards[out][2]}")
        recording = self.recordings.record(structure, numbers, reasons[-1])
        if single:
            require_single(recording.result, self.__wrapped__)
        self.recordings.keep(structure, recording)
        out = run(recording.program, inputs)
        if type(out) is int:
            line = recording.program.guards[out][2]
            raise RuntimeError(
                f"the recording of {name_of(self.__wrapped__)} does not reproduce its own run: the guard at {line} "
                "differs; was a Value changed by another thread meanwhile?"
            )
        self.recordings.used(structure, recording)
        return recording, out

    def _arm(self, way: int, recording: Recording, structure: Structure) -> None:
        """Lets the fast path use this recording for calls like this one, if it can take them."""
        function = self._self() if self._self is not None else None
        if function is not None and len(structure[3]) == 3 and self.recordings.keeps(structure, recording):
            plain = recording.result == ("value",)
            finish = None if plain else functools.partial(restore, recording.result)
            function._arm(way, recording.program, recording.checks, structure[2][2:], finish)

    # ---- what users look at ------------------------------------------------------------------------------------------

    @property
    def program(self) -> Program:
        """The program last used, as a `tapegrad.compiled.Program`: print it, draw it, save it. RuntimeError before the
        first call."""
        from tapegrad.compiled.program import Program

        structure, recording = self.recordings.last()
        return Program(
            recording.program, structure, recording.result, dict(self.options), argument_names(self.__wrapped__)
        )

    def cache_info(self) -> list[RecordingInfo]:
        """What was recorded and why, one entry a recording."""
        function = self._self() if self._self is not None else None
        return self.recordings.info(lambda r: function._calls(r.program) if function is not None else 0)

    def cache_clear(self) -> None:
        """Forgets all recordings."""
        self.recordings.clear()
        function = self._self() if self._self is not None else None
        if function is not None:
            function._disarm()

    def bind(self, instance: Any) -> _core.CompiledFunction:
        """The compiled function as a method of an instance; kept in the instance, so that it is recorded once."""
        key = f"<compiled {name_of(self.__wrapped__)}>"
        own = getattr(instance, "__dict__", None)
        kept = own.get(key) if isinstance(own, dict) else None
        # A copy of an instance has the original's methods in its dict.
        if isinstance(kept, _core.CompiledFunction) and getattr(kept.__wrapped__, "__self__", None) is instance:
            return kept
        bound = make(types.MethodType(self.__wrapped__, instance), self.options)
        if isinstance(own, dict):
            own[key] = bound
        return bound

    def reduce(self) -> str | tuple[Any, ...]:
        """For pickle: a decorated function goes by its name, as functions do; a method by its instance."""
        fn = self.__wrapped__
        if isinstance(fn, types.MethodType) and isinstance(getattr(type(fn.__self__), fn.__name__, None), _COMPILED):
            return getattr, (fn.__self__, fn.__name__)
        found: Any = sys.modules.get(getattr(fn, "__module__", None) or "")
        for part in getattr(fn, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        if found is not None and self._self is not None and found is self._self():
            return str(fn.__qualname__)
        return make, (fn, self.options)

    def __repr__(self) -> str:
        return f"<compiled {self.__wrapped__!r}>"


def take_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Structure, list[Any]]:
    """The structure of a call's arguments and their numbers, in order."""
    numbers: list[Any] = []
    parts = take_apart(args, numbers), take_apart(dict(sorted(kwargs.items())), numbers)
    return ("tuple", tuple, *parts), numbers


def argument_names(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the positional arguments, '*rest' last where there are any number; () where they are not known."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (*names, *(f"*{p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL))


def make(fn: Callable[..., Any], options: dict[str, Any]) -> _core.CompiledFunction:
    owner = Owner(fn, options)
    function = _core.CompiledFunction(owner)
    owner._self = weakref.ref(function)
    return function


@overload
def compile(
    fn: Callable[..., Any],
    *,
    fastmath: bool = ...,
    check: bool = ...,
    max_recordings: int = ...,
    on_limit: str = ...,
    disable: Iterable[str] = ...,
) -> _core.CompiledFunction: ...
@overload
def compile(
    fn: None = None,
    *,
    fastmath: bool = ...,
    check: bool = ...,
    max_recordings: int = ...,
    on_limit: str = ...,
    disable: Iterable[str] = ...,
) -> Callable[[Callable[..., Any]], _core.CompiledFunction]: ...
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

    ``f(*args)`` gives what ``fn`` returns, as plain numbers; ``f.value_and_grad(*args, argnums=)`` the value and its
    gradients by the arguments; ``f.backward(*args)`` does as ``fn(*args).backward()``, adding into ``grad`` of every
    Value closed over, and returns the loss. ``f.program`` is what was recorded, ``f.cache_info()`` says why,
    ``f.cache_clear()`` forgets it. Also usable as a decorator, with or without options, on methods too.

    Args:
        fn: a function of numbers, nested lists, tuples and dicts of numbers, NumPy arrays of real numbers, and
            hashable static arguments. Inside it numbers are Values and arrays are object arrays of Values. Values that
            it closes over are parameters: they are read at each call. Numbers, lists, attributes and functions that it
            reads are watched: where one changed, it is recorded anew. What else it does (printing, writing files,
            looking at a clock) happens only when it is recorded.
        fastmath: allow sums to be formed in another order. Otherwise a call has the bits of eager code, except where a
            loop was found and runs over lanes (``program.found`` tells): there values agree to 1e-12 and gradients to
            1e-11, relative to the largest of them; ``disable=("repeats",)`` gives the bits of eager code there too.
        check: raise as eager code does on overflow and outside a function's domain. Otherwise such results are inf
            and nan (IEEE 754).
        max_recordings: how many courses of the function may be kept, for all shapes of arguments together.
        on_limit: past that bound ``"error"`` raises RecordingLimit, ``"eager"`` records such calls anew each time.
        disable: names of passes to leave out, of those in ``tapegrad.compiled.PASSES``.

    Raises:
        TypeError: `fn` is not callable.
        ValueError: an option has no such value.
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
    off = (disable,) if isinstance(disable, str) else tuple(disable)
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
