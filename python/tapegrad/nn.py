"""Neuron, Layer and MLP as the lectures write them: the same graph, bit for bit, built by one call into C++ a layer."""

import operator
import random
from collections.abc import Iterable, Sequence
from typing import Any

from tapegrad._arrays import features, input_count
from tapegrad._core import Value
from tapegrad._core import layer as _core_layer
from tapegrad._core import neuron as _core_neuron

_ACTIVATION = "tanh"


class Neuron:
    """``tanh(w . x + b)`` with trainable weights and bias.

    ``w`` is a list of ``nin`` Values and ``b`` a Value, all drawn uniformly from -1 to 1: ``random.seed(n)`` before the
    construction fixes them. Both may be replaced at any time, whole or one by one.

    Args:
        nin: number of inputs.

    Raises:
        TypeError: ``nin`` is not a whole number.
        ValueError: ``nin`` is negative.
    """

    w: list[Value]
    b: Value

    def __init__(self, nin: int) -> None:
        nin = _count("nin", nin)
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(random.uniform(-1, 1))

    def __call__(self, x: Iterable[Value | float] | Value) -> Value:
        """The neuron's output for the inputs ``x``, shape (nin,): numbers, Values, or arrays over many samples.

        As in the lectures, weights and inputs are paired up to the shorter of the two. Inputs that are arrays, or one
        matrix of shape (samples, nin), give an array Value with the output for each sample.
        """
        if type(x) is not list and type(x) is not tuple:
            x = _inputs(features(x, len(self.w)))
        out = _core_neuron(self.w, x, self.b, _ACTIVATION)
        if out is None:  # patched operators or Values of a subclass: Python's own dispatch decides
            out = sum((wi * xi for wi, xi in zip(self.w, x, strict=False)), self.b).tanh()
        return out

    def parameters(self) -> list[Value]:
        """The weights in order, then the bias: ``nin + 1`` Values."""
        return [*self.w, self.b]

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to zero, as is due before each ``backward()``."""
        _zero_grad(self.parameters())


_NEURON_CALL = Neuron.__call__


class Layer:
    """``nout`` neurons that read the same inputs; ``neurons`` is the list of them.

    Args:
        nin: number of inputs of each neuron.
        nout: number of neurons.

    Raises:
        TypeError: ``nin`` or ``nout`` is not a whole number.
        ValueError: ``nin`` or ``nout`` is negative.
    """

    neurons: list[Neuron]

    def __init__(self, nin: int, nout: int) -> None:
        nin, nout = _count("nin", nin), _count("nout", nout)
        self.neurons = [Neuron(nin) for _ in range(nout)]

    def __call__(self, x: Iterable[Value | float] | Value) -> list[Value] | Any:
        """The outputs for the inputs ``x``, shape (nin,): ``nout`` Values in a list, or the only one itself.

        Inputs that are arrays over many samples, or one matrix of shape (samples, nin), give array Values.
        Plain neurons are computed in one call into C++; where there is one of a subclass, each neuron is called.
        """
        if type(x) is not list and type(x) is not tuple:
            x = _inputs(features(x, input_count(self.neurons)))
        outs = None
        if Neuron.__call__ is _NEURON_CALL:
            outs = _core_layer(self.neurons, x, Neuron, _ACTIVATION, None)
        if outs is None:
            outs = [n(x) for n in self.neurons]
        return outs[0] if len(outs) == 1 else outs

    def parameters(self) -> list[Value]:
        """The parameters of every neuron in order: ``nout * (nin + 1)`` Values."""
        return [p for neuron in self.neurons for p in neuron.parameters()]

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to zero, as is due before each ``backward()``."""
        _zero_grad(self.parameters())


class MLP:
    """A multi-layer perceptron: layers one after the other, tanh on each, the last too; ``layers`` is the list of them.

    Args:
        nin: number of inputs.
        nouts: number of neurons of each layer, for example ``[16, 16, 1]``.

    Raises:
        TypeError: ``nin`` is not a whole number, ``nouts`` is not a sequence of whole numbers.
        ValueError: a number is negative.
    """

    layers: list[Layer]

    def __init__(self, nin: int, nouts: Sequence[int]) -> None:
        sizes = [_count("nin", nin), *_counts("nouts", nouts)]
        self.layers = [Layer(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)]

    def __call__(self, x: Iterable[Value | float] | Value) -> list[Value] | Any:
        """The output for the inputs ``x``, shape (nin,): one Value if the last layer has one neuron, else a list.

        Inputs that are arrays over many samples, or one matrix of shape (samples, nin), give array Values.
        """
        out: Any = x
        for i, layer in enumerate(self.layers):
            # Between layers an array is the one feature of all samples, whatever its length.
            out = layer([out] if i and isinstance(out, Value) and out.ndim else out)
        return out

    def parameters(self) -> list[Value]:
        """The parameters of every layer in order, neuron by neuron, weights before the bias."""
        return [p for layer in self.layers for p in layer.parameters()]

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to zero, as is due before each ``backward()``."""
        _zero_grad(self.parameters())


def _inputs(x: Iterable[Value | float] | Value) -> Sequence[Value | float]:
    """``x`` as something that every neuron of a layer can walk through: an iterator would be empty after the first.

    A single Value stands for a list of one, as a layer of one neuron returns it.
    """
    if isinstance(x, Value):
        return [x]
    try:
        items = iter(x)
    except TypeError:
        kind = type(x).__name__
        raise TypeError(f"x must be a sequence of numbers or Values such as [2.0, 3.0], got {x!r} ({kind})") from None
    return list(items)


def _count(name: str, value: int) -> int:
    """``value`` as an int that counts something, or an error that names the argument."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r} ({type(value).__name__})") from None
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}")
    return count


def _counts(name: str, values: Sequence[int]) -> list[int]:
    """``values`` as a list of layer widths, or an error that names the argument and the place in it."""
    try:
        items = iter(values)
    except TypeError:
        kind = type(values).__name__
        raise TypeError(f"{name} must be a list of layer widths such as [16, 16, 1], got {values!r} ({kind})") from None
    return [_count(f"{name}[{i}]", item) for i, item in enumerate(items)]


def _zero_grad(parameters: Iterable[Value]) -> None:
    for p in parameters:
        p.grad = 0.0
