"""The same Value and MLP in some 160 lines of plain Python, to read and to compare with.

Slow, and generic: data may be of any real number type. With ``fractions.Fraction`` throughout, ``+ - * /``, whole
powers, ``relu`` and ``abs`` have exact results and exact gradients; the other functions return floats.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Number = Any  # int, float, Fraction, Decimal, a NumPy scalar: whatever has arithmetic and __float__
Method = Callable[..., "Value"]


def is_number(x: object) -> bool:
    return hasattr(x, "__float__") and not hasattr(x, "__len__")  # an array has both


def unary(op: str, f: Callable[[Number], Number], dx: Callable[[Number, Number], Number]) -> Method:
    """Method for z = f(x); dx(x, z) is the local derivative."""

    def partials(x: Number, z: Number) -> tuple[Number, ...]:
        return (dx(x, z),)

    def method(self: Value) -> Value:
        out = Value(f(self.data), (self,), op)
        out._partials = partials
        return out

    return method


def binary(op: str, f: Callable[..., Number], partials: Callable[..., tuple[Number, ...]]) -> Method:
    """Method for z = f(x, y); partials(x, y, z) are the two local derivatives. A number y becomes a leaf."""

    def method(self: Value, other: Value | Number) -> Any:
        if not isinstance(other, Value):
            if not is_number(other):
                return NotImplemented
            other = Value(other)
        out = Value(f(self.data, other.data), (self, other), op)
        out._partials = partials
        return out

    return method


def composite(f: Callable[..., Any]) -> Method:
    """Method that is written in terms of other methods and makes no node of its own."""
    return f


def comparison(f: Callable[[Number, Number], bool]) -> Callable[..., bool]:
    def method(self: Value, other: Value | Number) -> Any:
        if not is_number(other):
            return NotImplemented
        return f(self.data, other.data if isinstance(other, Value) else other)

    return method


def power(x: Number, y: Number) -> Number:
    if -math.inf < x < 0 < y % 1:
        raise ValueError(f"{x} ** {y} is not a real number")
    return x**y


def power_dx(x: Number, y: Number) -> Number:
    """y x**(y-1); 0 for y = 0, and infinite rather than an error, for the power itself exists where this is asked."""
    try:
        return y * x ** (y - 1) if y else 0
    except (ZeroDivisionError, OverflowError):
        return y * math.copysign(math.inf, x if (y - 1) % 2 == 1 else 1)


def tanh(x: Number) -> Number:
    """The lectures' formula, but the library's tanh where that cancels (near zero) or overflows."""
    if not 1e-5 <= abs(x) < 354.5:
        return math.tanh(x)
    return (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)


def sigmoid(x: Number) -> Number:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


class Value:
    """A number that remembers its operands: ``_children`` in order, ``_prev`` as a set, ``_op`` the operation's name.

    In third place may stand, as in one-file GPT scripts, a tuple of local gradients, one for each operand.
    """

    def __init__(
        self,
        data: Number,
        _children: Iterable[Value] = (),
        _op: str | Iterable[Number] = "",
        label: str = "",
        *,
        children: Iterable[Value] = (),
        local_grads: Iterable[Number] = (),
    ) -> None:
        if not is_number(data):
            raise TypeError(f"a Value holds a real number, not {type(data).__name__}")
        self.data = data
        # 0.0 + Fraction would be a float; the int 0 takes the type of whatever is added to it.
        self.grad: Number = 0.0 if isinstance(data, int | float) else 0
        self.label = label
        self._children = tuple(_children) or tuple(children)
        self._prev = set(self._children)
        self._op = _op if isinstance(_op, str) else ""
        self._partials: tuple[Number, ...] | Callable[..., tuple[Number, ...]]
        self._partials = tuple(local_grads if isinstance(_op, str) else _op)

    def _backward(self) -> None:
        """Add to each operand's gradient: the local derivative, at the data of this moment, times this gradient."""
        partials = self._partials
        if callable(partials):
            partials = partials(*[child.data for child in self._children], self.data)
        for child, partial in zip(self._children, partials, strict=False):
            child.grad += partial * self.grad

    def backward(self) -> None:
        """Set this gradient to 1 and add d self / d node to the gradient of every node below; nothing is zeroed first.

        A node passes its gradient on after all that use it. The sort keeps a stack of its own: any depth will do.
        """
        order, seen, stack = [], {self}, [(self, iter(self._children))]
        while stack:
            node, children = stack[-1]
            for child in children:
                if child not in seen:
                    seen.add(child)
                    stack.append((child, iter(child._children)))
                    break
            else:
                order.append(node)
                stack.pop()
        self.grad = 1.0 if isinstance(self.data, int | float) else 1
        for node in reversed(order):
            node._backward()

    __add__ = binary("+", operator.add, lambda x, y, z: (1, 1))
    __mul__ = binary("*", operator.mul, lambda x, y, z: (y, x))
    _pow = binary("**", power, lambda x, y, z: (power_dx(x, y), z * math.log(x) if x > 0 else math.nan))
    __abs__ = abs = unary("abs", abs, lambda x, z: (x > 0) - (x < 0))
    relu = unary("ReLU", lambda x: 0 if x < 0 else x, lambda x, z: int(z > 0))
    tanh = unary("tanh", tanh, lambda x, z: 1 - z * z)
    sigmoid = unary("sigmoid", sigmoid, lambda x, z: z * (1 - z))
    softplus = unary("softplus", lambda x: max(x, 0) + math.log1p(math.exp(-abs(x))), lambda x, z: sigmoid(x))
    exp = unary("exp", math.exp, lambda x, z: z)
    expm1 = unary("expm1", math.expm1, lambda x, z: z + 1)
    log = unary("log", math.log, lambda x, z: 1 / x)
    log1p = unary("log1p", math.log1p, lambda x, z: 1 / (1 + x))
    sqrt = unary("sqrt", math.sqrt, lambda x, z: 0.5 / z if z else math.copysign(math.inf, z))
    sin = unary("sin", math.sin, lambda x, z: math.cos(x))
    cos = unary("cos", math.cos, lambda x, z: -math.sin(x))

    def __pow__(self, other: Value | Number) -> Value:
        if isinstance(other, Value) or not is_number(other):
            return self._pow(other)
        return unary(f"**{other}", lambda x: power(x, other), lambda x, z: power_dx(x, other))(self)

    # Built of the above, node for node as micrograd builds them.
    __neg__ = composite(lambda a: a * -1)
    __sub__ = composite(lambda a, b: a + -b)
    __truediv__ = composite(lambda a, b: a * b**-1)
    __radd__ = composite(lambda a, b: a + b)
    __rsub__ = composite(lambda a, b: -a + b)
    __rmul__ = composite(lambda a, b: a * b)
    __rtruediv__ = composite(lambda a, b: a**-1 * b)
    __rpow__ = composite(lambda a, b: Value(b) ** a)

    # Comparison and conversion look at the data; == and hash are identity.
    __lt__, __le__ = comparison(operator.lt), comparison(operator.le)
    __gt__, __ge__ = comparison(operator.gt), comparison(operator.ge)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __repr__(self) -> str:
        return f"Value(data={self.data})"


class Module:
    """Something with parameters."""

    def parameters(self) -> list[Value]:
        return []

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.grad = 0.0


class Neuron(Module):
    """tanh(w . x + b); ``random`` draws the ``nin`` weights, then the bias, uniformly from [-1, 1]."""

    def __init__(self, nin: int) -> None:
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(random.uniform(-1, 1))

    def __call__(self, x: Sequence[Value | Number]) -> Value:
        return sum((wi * xi for wi, xi in zip(self.w, x, strict=False)), self.b).tanh()

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]


class Layer(Module):
    """``nout`` neurons on the same ``nin`` inputs; a call gives the list of their outputs, or the only one."""

    def __init__(self, nin: int, nout: int) -> None:
        self.neurons = [Neuron(nin) for _ in range(nout)]

    def __call__(self, x: Sequence[Value | Number]) -> Any:
        outs = [neuron(x) for neuron in self.neurons]
        return outs[0] if len(outs) == 1 else outs

    def parameters(self) -> list[Value]:
        return [p for neuron in self.neurons for p in neuron.parameters()]


class MLP(Module):
    """``nin`` inputs, then layers of the sizes ``nouts``; tanh on every layer, the last too."""

    def __init__(self, nin: int, nouts: Sequence[int]) -> None:
        self.layers = [Layer(n, m) for n, m in zip([nin, *nouts], nouts, strict=False)]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]
