"""The published package's layers: ReLU neurons, a linear last layer, zero biases, and micrograd's reprs and random
draws.

A forward call is one call into the core for each layer. It builds the very graph that a Python operation per node
builds; where a program has changed what those operations do, the core declines (returns None) and the Python code
below runs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from tapegrad import _core
from tapegrad._arrays import features, input_count

from .engine import Value

__all__ = ["MLP", "Layer", "Module", "Neuron", "Value"]


class Module:
    """Anything with parameters."""

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        for p in self.parameters():
            p.grad = 0

    def parameters(self) -> list[Value]:
        """Return the trainable Values; a Module by itself has none."""
        return []


class Neuron(Module):
    """A weighted sum of its inputs and a bias, through ReLU unless `nonlin` is false.

    Args:
        nin: number of inputs. The weights are drawn from `random.uniform(-1, 1)` in order; the bias starts at 0.
        nonlin: whether the sum goes through ReLU.
    """

    def __init__(self, nin: int, nonlin: bool = True) -> None:
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(0)
        self.nonlin = nonlin

    def __call__(self, x: Iterable[Any]) -> Value:
        """Return the activation for the inputs `x`, Values or numbers; of unequal lengths the shorter one counts.

        Inputs that are arrays over many samples, or one matrix of shape (samples, nin), give an array Value.
        """
        x = features(x, len(self.w))
        if not hasattr(x, "__next__"):
            out = _core.neuron(self.w, x, self.b, "relu" if self.nonlin else "")
            if out is not None:
                return out
        act = sum((wi * xi for wi, xi in zip(self.w, x)), self.b)  # noqa: B905
        return act.relu() if self.nonlin else act

    def parameters(self) -> list[Value]:
        """Return the weights, then the bias."""
        return self.w + [self.b]  # noqa: RUF005

    def __repr__(self) -> str:
        return f"{'ReLU' if self.nonlin else 'Linear'}Neuron({len(self.w)})"


# What the core stands in for: this very class, with this very call.
_Neuron = Neuron
_neuron_call = Neuron.__call__


class Layer(Module):
    """Neurons that share their inputs.

    Args:
        nin: number of inputs.
        nout: number of neurons, drawn one after the other.
        **kwargs: handed to every Neuron: `nonlin`.
    """

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]

    def __call__(self, x: Iterable[Any]) -> Any:
        """Return the neurons' activations: a list of Values, or the one Value of a single neuron.

        Inputs that are arrays over many samples, or one matrix of shape (samples, nin), give array Values.
        """
        x = features(x, input_count(self.neurons))
        out = None
        # An iterator is used up by the first neuron, as in micrograd; a Neuron whose call was replaced gets that call.
        if not hasattr(x, "__next__") and _Neuron.__call__ is _neuron_call:
            out = _core.layer(self.neurons, x, _Neuron, "relu", "nonlin")
        if out is None:
            out = [n(x) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        """Return the parameters of the neurons in order."""
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(str(n) for n in self.neurons)}]"


class MLP(Module):
    """A multi-layer perceptron: ReLU on every layer but the last, which is linear.

    Args:
        nin: number of inputs.
        nouts: number of neurons of each layer.
    """

    def __init__(self, nin: int, nouts: Sequence[int]) -> None:
        sizes = [nin] + nouts  # type: ignore[operator]  # noqa: RUF005
        last = len(nouts) - 1
        self.layers = [Layer(sizes[i], sizes[i + 1], nonlin=i != last) for i in range(len(nouts))]

    def __call__(self, x: Any) -> Any:
        """Return the last layer's activations for the inputs `x`: a list of Values, or a single Value."""
        for i, layer in enumerate(self.layers):
            x = layer([x] if i and isinstance(x, Value) and x.ndim else x)
        return x

    def parameters(self) -> list[Value]:
        """Return the parameters of the layers in order."""
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"
