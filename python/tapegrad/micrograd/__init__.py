"""The published micrograd package's dialect, version 0.1.0, on tapegrad's engine: `engine.Value` and `nn`'s layers."""

from . import engine, nn

__all__ = ["engine", "nn"]
