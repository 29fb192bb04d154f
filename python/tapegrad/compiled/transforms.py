"""Function transforms over plain numbers: gradients of a function, compiled underneath."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tapegrad.compiled.environment import Transform
from tapegrad.compiled.function import compile

if TYPE_CHECKING:
    from collections.abc import Callable


class Gradient(Transform):
    """What `grad` and `value_and_grad` return: the gradient of a function, or its value too, as a function. `vmap`
    takes it, and it can be pickled if the function can."""

    def __init__(
        self, fn: Callable[..., Any], argnums: int | tuple[int, ...] | None, with_value: bool, options: dict[str, Any]
    ) -> None:
        self.compiled = compile(fn, **options)
        functools.update_wrapper(self, self.compiled.__wrapped__)
        self.__wrapped__ = fn
        self.argnums = argnums
        self.with_value = with_value
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient by the arguments, shaped like them; with its value first from `value_and_grad`."""
        if self.argnums is None:  # the form that the fast path knows
            both = self.compiled.value_and_grad(*args, **kwargs)
        else:
            both = self.compiled.value_and_grad(*args, argnums=self.argnums, **kwargs)
        return both if self.with_value else both[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Gradient, (self.__wrapped__, self.argnums, self.with_value, self._options)

    def __repr__(self) -> str:
        return f"<gradient of {self.compiled!r}>"


def value_and_grad(fn: Callable[..., Any], argnums: int | tuple[int, ...] | None = None, **options: Any) -> Gradient:
    """The function that returns (fn(*args), gradients by the arguments).

    Args:
        fn: as for `tapegrad.compile`; it returns one Value.
        argnums: the position of the argument to differentiate by, or a tuple of positions. Without it, by all numeric
            arguments: the gradient itself if there is one, otherwise a tuple with None for static arguments.
        options: as for `tapegrad.compile`.

    Raises:
        TypeError: `fn` is not callable; when called, `fn` returns something other than one Value, or an argument
            that `argnums` names is not a number.
        ValueError: an option has no such value; when called, `argnums` names an argument that is not there.
    """
    return Gradient(fn, argnums, True, options)


def grad(fn: Callable[..., Any], argnums: int | tuple[int, ...] | None = None, **options: Any) -> Gradient:
    """The function that returns the gradient of fn by its arguments: one for one numeric argument, a tuple for
    several. Arguments and errors as for `value_and_grad`."""
    return Gradient(fn, argnums, False, options)
