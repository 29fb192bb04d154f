"""Compiled functions: recorded once from ordinary Python over Values, replayed without Python, for one input or for
many at once."""

from tapegrad import _core
from tapegrad.compiled.batching import Mapped, vmap
from tapegrad.compiled.function import compile
from tapegrad.compiled.program import Program
from tapegrad.compiled.recordings import RecordingInfo, RecordingLimit
from tapegrad.compiled.select import clip, maximum, minimum, where
from tapegrad.compiled.transforms import grad, value_and_grad

PASSES: tuple[str, ...] = _core.passes
"""Names of the passes, as `compile(disable=...)` takes them."""

__all__ = [
    "PASSES",
    "Mapped",
    "Program",
    "RecordingInfo",
    "RecordingLimit",
    "clip",
    "compile",
    "grad",
    "maximum",
    "minimum",
    "value_and_grad",
    "vmap",
    "where",
]
