"""The recordings of one compiled function: made when none stands for a call, kept within a bound, and told about."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled import checks
from tapegrad.compiled.environment import Snapshot
from tapegrad.compiled.results import settle, take_results
from tapegrad.compiled.tracing import Observer
from tapegrad.compiled.trees import Structure, describe, object_array, put_together, statics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_STALE = 4  # recordings of an environment that is no more, kept in case it comes back


class RecordingLimit(RuntimeError):
    """A compiled function takes more different courses than `max_recordings` allows."""


class Recording:
    """One course of the function: a program, the shape of arguments and result, and what it was recorded under."""

    def __init__(
        self, program: _core.Program, result: Structure, checks: tuple[checks.Check, ...], reason: str
    ) -> None:
        self.program = program
        self.result = result
        self.checks = checks
        self.reason = reason
        self.calls = 0
        self.kept = False  # among those that later calls may use

    def change(self) -> str:
        """What the function reads and is no longer as it was, in words; nothing while the recording stands."""
        changed = _core.unchanged(self.checks)
        return checks.describe(self.checks[changed - 1]) if changed else ""


class RecordingInfo(NamedTuple):
    """One line of `cache_info()`: what was recorded, why, how large it is and how often it was used."""

    arguments: str
    """Shapes of the positional arguments, and of the keyword arguments if there are any."""
    reason: str
    """Why no earlier recording stood for the call: 'first call', what changed, or the line whose guard differed."""
    nodes: int
    """Instructions, with inputs, parameters and constants."""
    guards: list[str]
    """Source line of each look at a number that steered Python."""
    calls: int
    """How many calls it served."""


class Recordings:
    """All recordings of a function, by the structure of the arguments; the one last used first."""

    def __init__(self, fn: Callable[..., Any], options: dict[str, Any]) -> None:
        self.fn = fn
        self.options = options
        self._groups: OrderedDict[Structure, list[Recording]] = OrderedDict()
        self.last_used: tuple[Structure, Recording] | None = None
        self._passing: Recording | None = None  # the last one that went past the bound
        self._lock = threading.Lock()  # for changes of the lists

    def standing(self, structure: Structure, reasons: list[str]) -> Iterator[Recording]:
        """The recordings that stand for such arguments as things are now. Why others do not goes to `reasons`."""
        reasons.append("new shapes or static arguments" if any(self._groups.values()) else "first call")
        for recording in list(self._groups.get(structure, ())):
            change = recording.change()
            if change:
                reasons.append(change)
            else:
                yield recording

    def used(self, structure: Structure, recording: Recording) -> None:
        """Notes that a recording served a call, and looks at it first next time."""
        recording.calls += 1
        self.last_used = structure, recording
        with self._lock:
            group = self._groups.get(structure, [])
            if group and group[0] is not recording and recording in group:
                group.remove(recording)
                group.insert(0, recording)

    def record(self, structure: Structure, numbers: list[Any], reason: str) -> Recording:
        """Runs the function once and copies out what it did. Not yet kept."""
        snapshot = Snapshot([self.fn, *statics_of(structure)])
        inputs = [snapshot.dialect(number) for number in numbers]
        args, kwargs = put_together(structure, iter(inputs), object_array)
        with Observer() as observer:
            out = self.fn(*args, **kwargs)
            del args, kwargs
            nodes: list[Value] = []
            result = take_results(out, nodes, self.fn)
            del out
            program = _core.record_program(
                nodes,
                inputs,
                observer.looks,
                observer.since,
                not self.options["fastmath"],
                list(self.options["disable"]),
                self.options["check"],
            )
        return Recording(program, settle(result, iter(program.whole_outputs)), snapshot.finish(), reason)

    def keep(self, structure: Structure, recording: Recording) -> None:
        """Puts a new recording first, within the bound; what belongs to an environment that is no more goes first."""
        with self._lock:
            group = self._groups.get(structure, [])
            stale = [old for old in group if old.change()]
            for old in stale[_MAX_STALE - 1 :]:
                group.remove(old)
                old.kept = False
            count = sum(map(len, self._groups.values())) - len(stale[: _MAX_STALE - 1])
            if count >= self.options["max_recordings"] and not recording.change():
                if self.options["on_limit"] == "eager":
                    recording.calls = self._passing.calls if self._passing else 0
                    recording.reason = f"past max_recordings, recorded for each call; last: {recording.reason}"
                    self._passing = recording
                    return
                raise RecordingLimit(
                    f"{name_of(self.fn)} was recorded {count} times and now needs another: {recording.reason}. Numbers "
                    "that steer Python make one recording for each course: use tapegrad.where, maximum or clip "
                    "instead, raise max_recordings=, or say on_limit='eager' to record such calls anew each time"
                )
            self._groups.setdefault(structure, group).insert(0, recording)
            recording.kept = True

    def keeps(self, structure: Structure, recording: Recording) -> bool:
        return any(recording is other for other in self._groups.get(structure, ()))

    def last(self) -> tuple[Structure, Recording]:
        """The recording last used and the structure of its arguments. RuntimeError before the first call."""
        if self.last_used is None:
            raise RuntimeError(f"{name_of(self.fn)} has not been recorded yet; call it once")
        return self.last_used

    def info(self, other_calls: Callable[[Recording], int]) -> list[RecordingInfo]:
        """What `cache_info()` says; `other_calls` tells of calls that were not noted by used()."""
        all_of_them = [(describe_arguments(structure), r) for structure, group in self._groups.items() for r in group]
        if self._passing is not None:
            all_of_them.append(("(...)", self._passing))
        return [
            RecordingInfo(
                arguments,
                r.reason,
                r.program.nodes,
                [line for _, _, line in r.program.guards],
                r.calls + other_calls(r),
            )
            for arguments, r in all_of_them
        ]

    def clear(self) -> None:
        for group in self._groups.values():
            for recording in group:
                recording.kept = False
        self._groups.clear()
        self.last_used = self._passing = None


def describe_arguments(structure: Structure) -> str:
    """'(float, array (3, 2))', and keyword arguments behind it if there are any."""
    _, _, args, kwargs = structure
    return describe(args) + (f" {describe(kwargs)}" if len(kwargs) > 3 else "")


def require_single(result: Structure, fn: Any) -> None:
    """TypeError unless the function returned one Value, whose gradient can be taken."""
    if result not in (("value",), ("whole value",)):
        raise TypeError(f"the gradient is that of one Value, but {name_of(fn)} returns {describe_result(result)}")


def describe_result(result: Structure) -> str:
    """What a function returned, in words."""
    if result[0] == "static":
        return f"{result[2]!r:.100}, which depends on no Value"
    if result[0] in ("number", "int", "bool"):
        return "a number read from a Value, which has no gradient; return the Value itself"
    return f"a {result[0]}" if result[0] != "array" else f"an array of shape {result[1]}"


def name_of(fn: Any) -> str:
    """What to call a function in a message."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else f"{type(fn).__qualname__} object"
