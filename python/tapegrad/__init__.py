"""tapegrad: a scalar autograd engine with micrograd's interface and a C++ core.

`Value` is the whole interface: see its docstring and the README. `Neuron`, `Layer` and `MLP` are the lectures'
networks, `draw_dot` draws a graph, `tapegrad.micrograd` is the published package's dialect, `tapegrad.reference` the
same in plain Python.
"""

from tapegrad._core import Value, live_nodes
from tapegrad.drawing import draw_dot, trace
from tapegrad.nn import MLP, Layer, Neuron

__all__ = ["MLP", "Layer", "Neuron", "Value", "draw_dot", "live_nodes", "trace"]
__version__ = "0.1.0"
