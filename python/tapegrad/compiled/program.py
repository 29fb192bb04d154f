"""What was recorded, to be read, drawn, saved, loaded and sent to other processes."""

from __future__ import annotations

import base64
import os
import pickle
from typing import Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled.results import restore
from tapegrad.compiled.trees import Structure, gradient_like, take_apart

_HEADER = "# tapegrad "


class Program:
    """A recorded computation: callable with arguments of the recorded shapes, and picklable, with its parameters'
    numbers.

    Its text has one line an instruction, ``%3 = mul %0 %1``. Unlike a compiled function it cannot record another
    course: a guard that
    does not hold is a ValueError.
    """

    def __init__(self, core: _core.Program, structure: Structure, result: Structure, options: dict[str, Any]) -> None:
        self._core = core
        self._structure = structure
        self._result = result
        self._options = options

    @property
    def text(self) -> str:
        """The program as recorded, before any pass."""
        return self._core.text

    @property
    def simplified(self) -> str:
        """The program after the passes."""
        return self._core.simplified

    @property
    def nodes(self) -> int:
        """How many instructions were recorded, inputs, parameters and constants included."""
        return self._core.nodes

    @property
    def inputs(self) -> int:
        """How many numbers the arguments hold."""
        return self._core.inputs

    @property
    def parameters(self) -> list[Value]:
        """The Values that are read at each call, in the order of their numbers in the text."""
        return self._core.params

    @property
    def passes(self) -> dict[str, int]:
        """How many instructions each pass removed or replaced."""
        return self._core.passes

    @property
    def found(self) -> list[str]:
        """What larger structure the passes found, in words: ``["33 dot products in 3 layers"]``.

        A dot product is a sum of products of a parameter (or a constant) and another value, however it was added up.
        Those over the same values are a layer: a matrix times a vector.
        """
        dots, layers = self._core.layers
        if not dots:
            return []
        words = _count(dots, "dot product")
        return [words if layers == dots else f"{words} in {_count(layers, 'layer')}"]

    @property
    def guards(self) -> list[tuple[str, float, str]]:
        """(kind, expected, source line) of each look at a number that steered Python."""
        return self._core.guards

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return restore(self._result, iter(self._checked(self._core.run(self._numbers(args, kwargs))).tolist()))

    def value_and_grad(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        """The value and a tuple of gradients, one for each positional argument."""
        value, flat = self._checked(self._core.run_gradients(self._numbers(args, kwargs), []))
        gradients = iter(flat.tolist())
        return value, tuple(gradient_like(part, gradients) for part in self._structure[2][2:])

    def _numbers(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        numbers: list[Any] = []
        parts = take_apart(args, numbers), take_apart(dict(sorted(kwargs.items())), numbers)
        if ("tuple", tuple, *parts) != self._structure:
            from tapegrad.compiled.function import describe

            raise TypeError(
                f"the program was recorded for {describe(self._structure[2])}, not for {describe(parts[0])}"
            )
        return np.array(numbers, dtype=np.float64)

    def _checked(self, out: Any) -> Any:
        if type(out) is int:
            raise ValueError(
                f"the program does not stand for these arguments: the guard at {self.guards[out][2]} differs"
            )
        return out

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the program, its parameters' numbers and the shapes of arguments and result to a text file."""
        state = base64.b64encode(pickle.dumps(self.__getstate__()[1:])).decode("ascii")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.text + _HEADER + state + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Reads what save() wrote. ValueError for anything else. Load only files you trust: shapes and static
        arguments are pickled."""
        with open(path, encoding="utf-8") as file:
            text, found, state = file.read().rpartition(_HEADER)
        if not found:
            raise ValueError(f"{os.fspath(path)!r} is not a saved program: its last line should start with {_HEADER!r}")
        program = cls.__new__(cls)
        program.__setstate__((text, *pickle.loads(base64.b64decode(state))))
        return program

    def __getstate__(self) -> tuple[Any, ...]:
        parameters = [(_core.peek(p), getattr(p, "label", "")) for p in self.parameters]
        return self.text, parameters, self._structure, self._result, self._options

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        text, parameters, self._structure, self._result, self._options = state
        values = []
        for number, label in parameters:
            value = Value(number)
            if label:
                value.label = label
            values.append(value)
        options = self._options
        self._core = _core.read_program(
            text, values, not options["fastmath"], list(options["disable"]), options["check"]
        )

    def graph(self) -> Value:
        """The first output as a graph of Values with the parameters at its leaves and zeros for the inputs: what
        `draw_dot` shows."""
        values: list[Value] = []
        parameters = self.parameters
        output = 0
        for line in self.text.splitlines()[3:]:
            words = line.split()
            if words[0] == "return":
                output = int(words[1][1:])
                break
            if words[0] == "guard":
                continue
            name, operands = words[2], [values[int(word[1:])] for word in words[3:] if word[0] == "%"]
            values.append(_instruction(name, words, operands, parameters))
        return values[output]

    def __repr__(self) -> str:
        sizes = f"{self.inputs} inputs, {len(self.parameters)} parameters, {len(self.guards)} guards"
        return f"<program of {self.nodes} nodes, {sizes}>"

    def __str__(self) -> str:
        done = ", ".join(f"{name} {count}" for name, count in self.passes.items())
        found = "".join(f"found: {words}\n" for words in self.found)
        return f"{self!r}\npasses: {done}\n{found}{self.text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _instruction(name: str, words: list[str], operands: list[Value], parameters: list[Value]) -> Value:
    if name == "input":
        return Value(0.0, label=f"input {words[3]}")
    if name == "param":
        return parameters[int(words[3])]
    if name == "constant":
        return Value(float(words[3]))
    if name == "powc":
        return operands[0] ** float(words[4])
    if name in ("detach", "select", "linear", "sum"):
        return Value(_core.peek(operands[0]), operands, name)
    return _core.apply(name, operands)
