"""tapegrad: a scalar autograd engine with micrograd's interface and a C++ core.

`Value` is the whole interface: see its docstring and the README. `Neuron`, `Layer` and `MLP` are the lectures'
networks, `draw_dot` draws a graph, `compile` and `vmap` make functions that run without Python, `tapegrad.micrograd`
is the published package's dialect, `tapegrad.reference` the same in plain Python.
"""

from tapegrad._core import Value, live_nodes
from tapegrad.compiled import Program, clip, compile, grad, maximum, minimum, value_and_grad, vmap, where
from tapegrad.drawing import draw_dot, trace
from tapegrad.gradcheck import GradcheckError, gradcheck
from tapegrad.modes import AnomalyError, anomaly_enabled, detect_anomaly, enable_grad, grad_enabled, no_grad
from tapegrad.nn import MLP, Layer, Neuron
from tapegrad.statistics import GraphStats, Memory, graph_stats, memory

__all__ = [
    "MLP",
    "AnomalyError",
    "GradcheckError",
    "GraphStats",
    "Layer",
    "Memory",
    "Neuron",
    "Program",
    "Value",
    "anomaly_enabled",
    "clip",
    "compile",
    "detect_anomaly",
    "draw_dot",
    "enable_grad",
    "grad",
    "grad_enabled",
    "gradcheck",
    "graph_stats",
    "live_nodes",
    "maximum",
    "memory",
    "minimum",
    "no_grad",
    "trace",
    "value_and_grad",
    "vmap",
    "where",
]
__version__ = "0.1.0"
