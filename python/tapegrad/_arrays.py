"""What a layer makes of arrays: one feature a weight, each over all the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapegrad._core import Value


def features(x: Any, count: int | None) -> Any:
    """The input of a layer as a list of its `count` features where `x` is a matrix or a Value, else `x` itself.

    A matrix, an array or a Value, has shape (samples, features): its columns are the features, arrays over the samples.
    A Value over one axis holds the features of one sample, or, for a layer with a single input, that input for all
    samples.

    `count` is None where the neurons are not ours and may take any number of features.

    Raises ValueError where the number of features is not `count`.
    """
    ndim = getattr(x, "ndim", None)
    if not isinstance(ndim, int) or not hasattr(x, "shape"):
        return x
    if isinstance(x, Value):
        if ndim == 0:
            return x
        if count == 1 and x.shape[-1] != 1:
            return [x]
    elif ndim != 2 or getattr(x.dtype, "kind", "O") not in "biuf":
        return x
    if ndim > 2 or (count is not None and x.shape[-1] != count):
        some = "nin" if count is None else count
        wanted = f"({some},) or (samples, {some})" if ndim == 1 else f"(samples, {some})"
        raise ValueError(f"the input of a layer with {some} inputs has shape {wanted}, not {x.shape}")
    return [x[..., i] for i in range(x.shape[-1])]


def input_count(neurons: Sequence[Any]) -> int | None:
    """How many inputs the neurons of a layer take, None where the first, which may be any callable, does not say."""
    weights: Any = getattr(neurons[0], "w", None) if neurons else ()
    return len(weights) if hasattr(weights, "__len__") else None
