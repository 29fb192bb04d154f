"""Function transforms over plain numbers: gradients of a function, compiled underneath."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tapegrad.compiled.function import compile

if TYPE_CHECKING:
    from collections.abc import Callable


def value_and_grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] | None = None, **options: Any
) -> Callable[..., Any]:
    """The function that returns (fn(*args), gradients by the arguments); see `tapegrad.compile` for arguments and
    options."""
    compiled = compile(fn, **options)

    @functools.wraps(fn)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        return (
            compiled.value_and_grad(*args, argnums=argnums, **kwargs)
            if argnums is not None
            else compiled.value_and_grad(*args, **kwargs)
        )

    return transformed


def grad(fn: Callable[..., Any], argnums: int | tuple[int, ...] | None = None, **options: Any) -> Callable[..., Any]:
    """The function that returns the gradient of fn by its arguments: one for one numeric argument, a tuple for
    several."""
    compiled = value_and_grad(fn, argnums, **options)

    @functools.wraps(fn)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        return compiled(*args, **kwargs)[1]

    return transformed
