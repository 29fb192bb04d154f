"""`tapegrad.autograd.grad`: gradients handed back, with every `.grad` left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


def grad(output: Value, inputs: Value | Sequence[Value], gradient: Any = 1) -> tuple[Any, ...]:
    """The gradients of `output` by each of the inputs, from a sweep that leaves no trace.

    Unlike ``output.backward()`` it neither adds to what ``.grad`` holds nor reads it, so that calling it twice gives
    the same twice. Backward rules written in Python are called as in any sweep; they see gradients that start at zero.

    Args:
        output: the Value that is differentiated.
        inputs: a Value, or several, leaves or not. Of one that `output` does not depend on the gradient is zero.
        gradient: what the sweep starts from; for an array, in its shape.

    Returns:
        A tuple with one number, or array in the shape of the input, for each of the inputs.

    Raises:
        TypeError: an argument is no Value; or inside a compiled function. What a Python rule raises passes through.
    """
    wanted = [inputs] if isinstance(inputs, Value) else list(inputs)
    found = _core.gradients(output, wanted, gradient)
    return tuple(_zero_like(v) if g is None else g for v, g in zip(wanted, found, strict=True))


def _zero_like(value: Value) -> Any:
    data = value.data
    return np.zeros_like(data, dtype=np.float64) if isinstance(data, np.ndarray) else 0.0
