"""tapegrad: a scalar autograd engine with micrograd's interface and a C++ core."""

from tapegrad._core import Value, live_nodes

__all__ = ["Value", "live_nodes"]
__version__ = "0.1.0"
