"""`gradcheck`: compares the gradients of a function with central differences; for users' own functions and rules, and
for the tests of this project."""

from __future__ import annotations

import math
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad._core import CompiledFunction, Value
from tapegrad.autograd import grad
from tapegrad.compiled import Mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class GradcheckError(RuntimeError):
    """What `gradcheck` raises: a gradient is wrong, or two sweeps differ."""


@dataclass
class _Input:
    """One number that may be nudged: an item of the list or of the Value `at`, or, without a key, that Value's data."""

    name: str
    at: Any
    key: Any

    @property
    def number(self) -> Any:
        data = self.at.data if isinstance(self.at, Value) else self.at
        return data if self.key is None else data[self.key]

    @number.setter
    def number(self, x: Any) -> None:
        if self.key is None:
            self.at.data = x
        else:
            (self.at.data if isinstance(self.at, Value) else self.at)[self.key] = x


class _Eager:
    """A function over Values: floats become fresh Values in each call, Values are the caller's own."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn, self.args = fn, args
        self.numbers: list[float] = []
        self.inputs: list[_Input] = []
        self.leaves: list[Value] = []
        for i, arg in enumerate(args):
            self._find(arg, f"args[{i}]")

    def _find(self, x: Any, name: str) -> None:
        if isinstance(x, Value):
            if not any(known.at is x for known in self.inputs):
                self.inputs.extend(_inputs_of(x, _called(name, x)))
        elif isinstance(x, float | np.floating):
            self.inputs.append(_Input(name, self.numbers, len(self.numbers)))
            self.numbers.append(float(x))
        else:
            for part, item in _parts(x):
                self._find(item, name + part)

    def _put(self, x: Any, numbers: Iterator[float]) -> Any:
        if isinstance(x, float | np.floating):
            self.leaves.append(Value(next(numbers)))
            return self.leaves[-1]
        if isinstance(x, np.ndarray) and x.dtype.kind in "fO":
            array = np.empty(x.shape, dtype=object)
            for index in np.ndindex(x.shape):
                array[index] = self._put(x[index], numbers)
            return array
        return _rebuild(x, lambda item: self._put(item, numbers))

    def call(self) -> list[Any]:
        self.leaves.clear()
        numbers = iter(self.numbers)
        return _flat(self.fn(*(self._put(arg, numbers) for arg in self.args)))

    def values(self) -> list[float]:
        return [float(x) for out in self.call() for x in np.ravel(out.data if isinstance(out, Value) else out)]

    def gradients(self) -> list[tuple[float, list[float]]]:
        """For each output its value and its gradients by the inputs, from a sweep over a graph of its own."""
        found = []
        for k, first in enumerate(self.call()):
            count = np.size(first.data) if isinstance(first, Value) else 1
            for lane in range(count):
                out = self.call()[k]
                if not isinstance(out, Value):
                    found.append((float(out), [0.0] * len(self.inputs)))
                    continue
                leaves = [i.at if isinstance(i.at, Value) else self.leaves[i.key] for i in self.inputs]
                seed: Any = 1
                if isinstance(out.data, np.ndarray):
                    seed = np.zeros(out.data.shape)
                    seed.ravel()[lane] = 1.0
                of_leaf = dict(zip(map(id, leaves), grad(out, leaves, seed), strict=True))
                numbers = [_item(of_leaf[id(v)], i) for v, i in zip(leaves, self.inputs, strict=True)]
                found.append((float(np.ravel(out.data)[lane]), numbers))
        return found


class _Compiled:
    """A compiled function, by `value_and_grad`, and by `backward` for the Values that it closes over."""

    def __init__(self, fn: Any, args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.given = [self._plain(arg) for arg in args]
        self.numbers: list[float] = []
        self.inputs: list[_Input] = []
        self.places: list[tuple[Any, ...]] = []  # of each input among the arguments: the keys that lead to it
        for i, arg in enumerate(self.given):
            self._find(arg, f"args[{i}]", (i,))
        fn(*self.args)
        owner = fn._owner
        parameters = owner.program.parameters
        # One that was computed passes its gradient on to others, which nudging cannot show.
        if not any(p._children for p in parameters):
            for i, p in enumerate(parameters):
                self.inputs.extend(_inputs_of(p, _called(f"parameter {i}", p)))

    def _plain(self, x: Any) -> Any:
        """An argument with numbers in place of Values; lists as arrays where vmap takes them so."""
        if isinstance(x, Value):
            return float(x)
        if isinstance(x, np.ndarray):
            return np.array([float(v) for v in x.flat]).reshape(x.shape) if x.dtype == object else x
        if isinstance(self.fn, Mapped) and isinstance(x, list | tuple):
            return np.array(x)
        return _rebuild(x, self._plain)

    def _find(self, x: Any, name: str, place: tuple[Any, ...]) -> None:
        if isinstance(x, float | np.floating):
            self.inputs.append(_Input(name, self.numbers, len(self.numbers)))
            self.places.append(place)
            self.numbers.append(float(x))
        else:
            for part, key in _keys(x):
                self._find(x[key], name + part, (*place, key))

    @property
    def args(self) -> list[Any]:
        numbers = iter(self.numbers)

        def put(x: Any) -> Any:
            if isinstance(x, float | np.floating):
                return next(numbers)
            if isinstance(x, np.ndarray) and x.dtype.kind == "f":
                return np.array([next(numbers) for _ in range(x.size)]).reshape(x.shape)
            return _rebuild(x, put)

        return [put(x) for x in self.given]

    def values(self) -> list[float]:
        out = self.fn(*self.args)
        return [float(np.sum(out))] if isinstance(self.fn, Mapped) else [float(x) for x in _flat(out)]

    def gradients(self) -> list[tuple[float, list[float]]]:
        [value] = self.values()  # a gradient is that of one number
        found = []
        if self.places:
            chosen = tuple(sorted({place[0] for place in self.places}))
            value, shaped = self.fn.value_and_grad(*self.args, argnums=chosen)
            by_argument = dict(zip(chosen, shaped, strict=True))
            if isinstance(self.fn, Mapped):
                value = float(np.sum(value))
                by_argument = {i: self._over_lanes(i, g) for i, g in by_argument.items()}
            for first, *rest in self.places:
                g = by_argument[first]
                for key in rest:
                    g = g[key]
                found.append(float(g))
        parameters = self.inputs[len(self.places) :]
        if parameters:
            with _kept_gradients([i.at for i in parameters]):
                if isinstance(self.fn, Mapped):
                    self.fn.backward(*self.args, reduce="sum")
                else:
                    self.fn.backward(*self.args)
                found.extend(_item(i.at.grad, i) for i in parameters)
        return [(value, found)]

    def _over_lanes(self, i: int, gradient: Any) -> Any:
        """The gradient of the lanes' sum by an argument, in the argument's shape."""
        if np.ndim(gradient) == np.ndim(self.given[i]) + 1:  # the same in all lanes
            return np.sum(gradient, axis=0)
        axes = self.fn._in_axes
        return np.moveaxis(gradient, 0, axes[i] if isinstance(axes, list | tuple) else axes)


def gradcheck(
    fn: Callable[..., Any],
    *args: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Checks the gradients of a function, as torch.autograd.gradcheck does: the reverse sweep against central
    differences, for every input and every output. The sweep is run twice, and must give the same bits.

    Inputs are the floats and Values among the arguments, also within lists, tuples, dicts and NumPy arrays. Floats are
    passed on as fresh Values (a float array as an object array of Values), Values as they are, also such that hold
    arrays, so that a function may close over them; their data and grad are put back. Ints and everything else pass
    unchanged. Compiled functions are given numbers; Values that they close over are inputs too. Of a function mapped by
    `vmap` the sum over the lanes is checked.

    Args:
        fn: a function whose result is a Value or a nest of Values, or one made by `tapegrad.compile` or `vmap`.
        args: the point at which it is checked. Stay away from kinks, such as relu at 0.
        eps: how far inputs are nudged to either side.
        atol, rtol: a gradient g and a difference d agree if ``abs(g - d) <= atol + rtol * abs(d)``.
        raise_exception: if False, return False instead of raising.

    Returns:
        True if all agree.

    Raises:
        GradcheckError: names the input, the output and both numbers. ValueError: there is no input, or `eps` is lost
        next to one. What `fn` raises passes through.
    """
    check: _Eager | _Compiled
    check = _Compiled(fn, args) if isinstance(fn, CompiledFunction | Mapped) else _Eager(fn, args)
    if not check.inputs:
        raise ValueError(f"gradcheck() found no input: give floats or Values (2.0, not 2), not {args!r:.200}")
    try:
        _compare(check, eps, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _compare(check: _Eager | _Compiled, eps: float, atol: float, rtol: float) -> None:
    first, second = check.gradients(), check.gradients()
    for k, ((value, gradients), (value_again, gradients_again)) in enumerate(zip(first, second, strict=True)):
        if _bits(value) != _bits(value_again):
            raise GradcheckError(
                f"not deterministic: output {k} is {value!r} in one call and {value_again!r} in the next"
            )
        for i, one, other in zip(check.inputs, gradients, gradients_again, strict=True):
            if _bits(one) != _bits(other):
                raise GradcheckError(
                    f"not deterministic: the gradient of output {k} by {i.name} is {one!r} in one sweep and {other!r} "
                    "in the next"
                )
    for n, i in enumerate(check.inputs):
        differences = _differences(check, i, eps)
        if len(differences) != len(first):
            raise GradcheckError(
                f"the function has {len(first)} outputs, but {len(differences)} when {i.name} is nudged"
            )
        for k, (numeric, (_, gradients)) in enumerate(zip(differences, first, strict=True)):
            if not abs(gradients[n] - numeric) <= atol + rtol * abs(numeric):
                raise GradcheckError(
                    f"the gradient of output {k} by {i.name} (= {float(i.number)!r}) is {gradients[n]!r} by the sweep, "
                    f"but {numeric!r} by central differences; allowed are atol={atol:g} + rtol={rtol:g} of the latter "
                    f"(eps={eps:g})"
                )


def _differences(check: _Eager | _Compiled, i: _Input, eps: float) -> list[float]:
    """Central differences of every output by one input, which is put back whatever happens."""
    before = i.number
    above, below = float(before) + eps, float(before) - eps
    if not above > below:
        raise ValueError(f"eps={eps!r} is lost next to {i.name} = {before!r}; give a larger one, or a finite input")
    try:
        i.number = above
        high = check.values()
        i.number = below
        low = check.values()
    finally:
        i.number = before
    if len(high) != len(low):
        return []
    return [(h - l) / (above - below) for h, l in zip(high, low, strict=True)]  # noqa: E741


def _bits(x: float) -> bytes:
    return b"nan" if math.isnan(x) else struct.pack("<d", x)


def _called(name: str, value: Value) -> str:
    label = getattr(value, "label", "")
    return f"{name} {label!r}" if label else name


def _inputs_of(value: Value, name: str) -> list[_Input]:
    """The number, or the numbers, that a Value holds."""
    data = value.data
    if not isinstance(data, np.ndarray):
        return [_Input(name, value, None)]
    return [_Input(name + str(list(index)), value, index) for index in np.ndindex(data.shape)]


def _item(gradient: Any, i: _Input) -> float:
    """The part of a gradient that belongs to an input."""
    return float(gradient if i.key is None or not isinstance(gradient, np.ndarray) else gradient[i.key])


def _keys(x: Any) -> list[tuple[str, Any]]:
    """How the items of a container are named, and the key of each."""
    if isinstance(x, list | tuple):
        return [(f"[{i}]", i) for i in range(len(x))]
    if isinstance(x, dict):
        return [(f"[{key!r}]", key) for key in x]
    if isinstance(x, np.ndarray) and x.dtype.kind in "fO":
        return [(str(list(index)), index) for index in np.ndindex(x.shape)]
    return []


def _parts(x: Any) -> list[tuple[str, Any]]:
    return [(name, x[key]) for name, key in _keys(x)]


def _rebuild(x: Any, each: Callable[[Any], Any]) -> Any:
    """The same container, with each(item) in place of every item; what is no container comes back as it is."""
    if isinstance(x, dict):
        return {key: each(item) for key, item in x.items()}
    if isinstance(x, list):
        return [each(item) for item in x]
    if isinstance(x, tuple):
        items = [each(item) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else tuple(items)
    return x


def _flat(x: Any) -> list[Any]:
    """The outputs of a function, one after the other."""
    if isinstance(x, Value | int | float | np.floating | np.integer):
        return [x]
    if isinstance(x, np.ndarray):
        return [item for part in x.ravel().tolist() for item in _flat(part)]
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, list | tuple):
        return [item for part in x for item in _flat(part)]
    raise TypeError(f"gradcheck() takes functions of Values that return Values, not {type(x).__name__}: {x!r:.200}")


@contextmanager
def _kept_gradients(values: list[Value]) -> Iterator[None]:
    """Sets gradients to zero, and puts back what they were."""
    before = [np.copy(v.grad) if isinstance(v.grad, np.ndarray) else v.grad for v in values]
    try:
        for v in values:
            v.grad = 0.0
        yield
    finally:
        for v, grad in zip(values, before, strict=True):
            v.grad = grad
