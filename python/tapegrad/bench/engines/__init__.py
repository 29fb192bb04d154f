"""The engines, in the order of the table. A new engine, or a new way of running tapegrad, is one line here."""

from tapegrad.bench.engines.base import Engine
from tapegrad.bench.engines.compiled import COMPILED, LANES
from tapegrad.bench.engines.floats import FLOATS
from tapegrad.bench.engines.values import MICROGRAD, REFERENCE, TAPEGRAD
from tapegrad.bench.engines.with_autograd import AUTOGRAD
from tapegrad.bench.engines.with_c import INTERPRETER, INTERPRETER_FAST
from tapegrad.bench.engines.with_casadi import CASADI
from tapegrad.bench.engines.with_jax import JAX
from tapegrad.bench.engines.with_numpy import NUMPY
from tapegrad.bench.engines.with_torch import TORCH_SCALARS, TORCH_TENSORS
from tapegrad.bench.engines.with_xad import XAD

ENGINES: tuple[Engine, ...] = (
    TAPEGRAD,
    COMPILED,
    LANES,
    REFERENCE,
    MICROGRAD,
    TORCH_SCALARS,
    TORCH_TENSORS,
    JAX,
    CASADI,
    XAD,
    INTERPRETER,
    INTERPRETER_FAST,
    AUTOGRAD,
    NUMPY,
    FLOATS,
)

#: The engine that all ratios are taken to.
BASELINE = TAPEGRAD.name
