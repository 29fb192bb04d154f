"""What was recorded, to be read, drawn, saved, loaded and sent to other processes."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled import storage
from tapegrad.compiled.function import take_arguments
from tapegrad.compiled.near_misses import describe_misses
from tapegrad.compiled.recordings import describe_arguments, require_single
from tapegrad.compiled.results import restore
from tapegrad.compiled.trees import HoldsValues, Structure, gradient_like, number_count, wanted_gradients


class Program:
    """A recorded computation: callable with arguments of the recorded shapes, and picklable, with its parameters'
    numbers.

    Its text has one line an instruction, ``%3 = mul %0 %1``. Unlike a compiled function it cannot record another
    course: a guard that
    does not hold is a ValueError.
    """

    _names: tuple[str, ...] = ()  # of the arguments; not known of a program that was loaded or sent

    def __init__(
        self,
        core: _core.Program,
        structure: Structure,
        result: Structure,
        options: dict[str, Any],
        names: tuple[str, ...] = (),
    ) -> None:
        self._core = core
        self._structure = structure
        self._result = result
        self._options = options
        self._names = names

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
        """What larger structure the passes found, in words: ``["100 repeats of a block of 605 nodes, run as 100
        lanes", "33 dot products in 3 layers"]``.

        Repeats are what a loop left behind: the same operations again and again. They run side by side, one lane a
        repeat. A dot product is a sum of products of a parameter (or a constant) and another value, however it was
        added up. Those over the same values are a layer: a matrix times a vector. What is repeated is counted once.
        """
        words = list(self._core.repeats)
        dots, layers = self._core.layers
        if dots:
            count = _count(dots, "dot product")
            words.append(count if layers == dots else f"{count} in {_count(layers, 'layer')}")
        return words

    @property
    def near_misses(self) -> list[str]:
        """Why blocks that almost repeat do not run side by side: the first operation or operand that differs, by its
        label, the argument's path or the line that made it, and what is there in the other repeats.

        Lines are those of the recorded function, of its first 131,072 Values made by Python; a program that was loaded
        has none.
        """
        return describe_misses(self._core, self._structure, self._names)

    @property
    def guards(self) -> list[tuple[str, float, str]]:
        """(kind, expected, source line) of each look at a number that steered Python."""
        return self._core.guards

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, as plain numbers. TypeError for arguments of other shapes, ValueError where a
        guard does not hold."""
        _, numbers = self._numbers(args, kwargs)
        return restore(self._result, iter(self._checked(self._core.run(numbers)).tolist()))

    def value_and_grad(
        self, *args: Any, argnums: int | tuple[int, ...] | None = None, **kwargs: Any
    ) -> tuple[float, Any]:
        """The value and its gradients by the arguments, as the compiled function gives them."""
        require_single(self._result, self)
        structure, numbers = self._numbers(args, kwargs)
        positional = structure[2][2:]
        wanted, chosen = wanted_gradients(positional, argnums, number_count(structure))
        value, flat = self._checked(self._core.run_gradients(numbers, wanted))
        gradients = iter(flat.tolist())
        shaped = [gradient_like(part, gradients) for part in positional]
        return restore(self._result, iter([value])), (
            shaped[chosen] if isinstance(chosen, int) else tuple(shaped[i] for i in chosen)
        )

    def backward(self, *args: Any, **kwargs: Any) -> float:
        """Adds into the grad of each of `parameters`; returns the value."""
        require_single(self._result, self)
        _, numbers = self._numbers(args, kwargs)
        value: float = restore(self._result, iter([self._checked(self._core.run_backward(numbers))]))
        return value

    def _numbers(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Structure, Any]:
        try:
            structure, numbers = take_arguments(args, kwargs)
        except HoldsValues:
            raise TypeError("a program takes numbers, not Values") from None
        if structure != self._structure and storage.portable(structure) != storage.portable(self._structure):
            raise TypeError(
                f"the program was recorded for {describe_arguments(self._structure)}, "
                f"not for {describe_arguments(structure)}"
            )
        return structure, np.array(numbers, dtype=np.float64)

    def _checked(self, out: Any) -> Any:
        if type(out) is int:
            raise ValueError(
                f"the program does not stand for these arguments: the guard at {self.guards[out][2]} differs"
            )
        return out

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the program, its parameters' numbers and labels and the shapes of arguments and result to a text file.

        TypeError where a static argument, a key or a constant in the result is not plain data: None, a number, text
        or bytes.
        """
        content = storage.write(self.text, self._structure, self._result, self.__getstate__()[3], self._options)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Reads what save() wrote, with new Values as parameters. ValueError for anything else: all of the file is
        checked, and nothing in it is executed."""
        with open(path, encoding="utf-8", newline="\n") as file:
            content = file.read()
        program = cls.__new__(cls)
        try:
            program.__setstate__(storage.read(content))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r}: {error}") from None
        return program

    def __getstate__(self) -> tuple[str, Structure, Structure, list[tuple[Any, str]], dict[str, Any]]:
        parameters = [(_core.peek(p), getattr(p, "label", "")) for p in self.parameters]
        return self.text, self._structure, self._result, parameters, self._options

    def __setstate__(self, state: tuple[str, Structure, Structure, list[tuple[Any, str]], dict[str, Any]]) -> None:
        self._core = storage.restored(state)
        _, self._structure, self._result, _, self._options = state

    def graph(self) -> Value:
        """The result as a graph of Values with the parameters at its leaves and zeros for the inputs: what `draw_dot`
        shows. Several results are the operands of one more node."""
        values: list[Value] = []
        parameters = self.parameters
        outputs: list[Value] = []
        for line in self.text.splitlines()[3:]:
            words = line.split()
            if words[0] == "return":
                outputs = [values[int(word[1:])] for word in words[1:]]
                break
            if words[0] == "guard":
                continue
            name, operands = words[2], [values[int(word[1:])] for word in words[3:] if word[0] == "%"]
            values.append(_instruction(name, words, operands, parameters))
        return outputs[0] if len(outputs) == 1 else Value(0.0, outputs, "results")

    def __repr__(self) -> str:
        sizes = f"{self.inputs} inputs, {len(self.parameters)} parameters, {len(self.guards)} guards"
        return f"<program of {self.nodes} nodes, {sizes}>"

    def __str__(self) -> str:
        done = ", ".join(f"{name} {count}" for name, count in self.passes.items())
        found = "".join(f"found: {words}\n" for words in self.found)
        found += "".join(f"near miss: {words}\n" for words in self.near_misses)
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
        exponent = float(words[4])
        try:
            return operands[0] ** exponent
        except (ArithmeticError, ValueError):  # it is drawn, whatever its number is
            return Value(math.nan, operands, f"**{exponent:g}")
    if name in ("detach", "select", "linear", "sum"):
        return Value(_core.peek(operands[0]), operands, name)
    return _core.apply(name, operands)
