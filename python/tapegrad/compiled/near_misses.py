"""Words on what almost repeats in a program: the first operation or operand that breaks the pattern, by its label, its
path in an argument or the line that made it, and what the other repeats have there."""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tapegrad import _core
    from tapegrad.compiled.trees import Structure


_INFIX = {"add": "+", "mul": "*", "div": "/", "pow": "**", "less": "<", "less_equal": "<=", "equal": "=="}


def describe_misses(core: _core.Program, structure: Structure, names: tuple[str, ...]) -> list[str]:
    """One sentence for each near miss. `names` are those of the positional arguments, as far as they are known."""
    words = _Words(core, structure, names)
    return [words.sentence(miss) for miss in core.near_misses]


def input_path(structure: Structure, names: tuple[str, ...], which: int) -> str:
    """Where a flat input is: 'x[3][1]'; 'argument 0[3][1]' where the argument's name is not known."""
    _, _, positional, keywords = structure
    for position, part in enumerate(positional[2:]):
        rest = names[-1][1:] if names and names[-1].startswith("*") else ""
        plain = len(names) - bool(rest)
        if position < plain:
            name = names[position]
        else:
            name = f"{rest}[{position - plain}]" if rest else f"argument {position}"
        path = _path(part, which)
        if isinstance(path, str):
            return name + path
        which = path
    for key, part in zip(keywords[2], keywords[3:], strict=True):
        path = _path(part, which)
        if isinstance(path, str):
            return f"{key}{path}"
        which = path
    return f"input {which}"


def _path(structure: Structure, which: int) -> str | int:
    """The path of input `which` of those in the structure; how many inputs further on it is if it is none of them."""
    kind = structure[0]
    if kind in ("float", "int"):
        return which - 1 if which else ""
    if kind == "static":
        return which
    if kind == "array":
        size = int(np.prod(structure[1], dtype=np.int64))
        if which >= size:
            return which - size
        index = np.unravel_index(which, structure[1])
        return f"[{', '.join(str(i) for i in index)}]" if index else ""
    keys = structure[2] if kind == "dict" else range(len(structure) - 2)
    for key, part in zip(keys, structure[3 if kind == "dict" else 2 :], strict=True):
        path = _path(part, which)
        if isinstance(path, str):
            return f"[{key!r}]{path}"
        which = path
    return which


class _Words:
    """Names the values of one program."""

    def __init__(self, core: _core.Program, structure: Structure, names: tuple[str, ...]) -> None:
        self._named = core.named
        self._origins = core.origins
        self._params = core.params
        self._structure = structure
        self._names = names

    def sentence(self, miss: dict[str, Any]) -> str:
        words: str = getattr(self, f"_{miss['kind']}")(miss)
        return words

    # ---- values ------------------------------------------------------------------------------------------------------

    def name(self, value: int) -> str:
        """What a learner would call an operand: its label, its path, its number, or the operation that made it, as
        in '(… + …)'."""
        operation, which, number, _ = self._named[value]
        if operation == "param":
            label = getattr(self._params[which], "label", "")
            return f"'{label}'" if label and isinstance(label, str) else f"parameter {which}"
        if operation == "input":
            return input_path(self._structure, self._names, which)
        if operation == "constant":
            return f"{number:.6g}"
        _, _, label = self._origins.get(value, (None, 0, ""))
        if label:
            return f"'{label}'"
        if operation == "powc":
            return f"(… ** {number:g})"
        return f"(… {_INFIX[operation]} …)" if operation in _INFIX else f"{operation}(…)"

    def expression(self, value: int) -> str:
        """An operation and its operands: "'w1' * x[3][1]"."""
        operation, _, number, operands = self._named[value]
        if not operands:
            return self.name(value)
        shown = [self.name(o) for o in operands[:3]] + ["…"] * (len(operands) > 3)
        if operation == "powc":
            return f"{shown[0]} ** {number:g}"
        if operation in _INFIX:
            return f" {_INFIX[operation]} ".join(shown)
        return f"{operation}({', '.join(shown)})"

    def place(self, value: int | None) -> str:
        """' at file:line: text' of the line that made a value; '' where it is not known."""
        file, line, _ = self._origins.get(-1 if value is None else value, (None, 0, ""))
        if file is None:
            return ""
        text = linecache.getline(file, line).strip()
        return f" at {file}:{line}" + (f": {text}" if text else "")

    def operand(self, value: int) -> str:
        """An operand and, where an operation made it, the line."""
        made = self.place(value)
        return f"{self.name(value)} (made{made})" if made else self.name(value)

    # ---- sentences ---------------------------------------------------------------------------------------------------

    def _operation(self, miss: dict[str, Any]) -> str:
        value, expected = miss["value"], miss["expected"]
        return (
            f"{self._which(miss)}: its operation {miss['operation'] + 1} is {self.expression(value)}"
            f"{self._line(value)}; the others have {self.expression(expected)}{self._line(expected)} there"
        )

    def _length(self, miss: dict[str, Any]) -> str:
        value, expected, count = miss["value"], miss["expected"], miss["operation"]
        if value is None:
            more = f"it ends after {count} operations, where the others go on with "
            return f"{self._which(miss)}: {more}{self.expression(expected)}{self._line(expected)}"
        more = f"it goes on after {count} operations, where the others end, with "
        return f"{self._which(miss)}: {more}{self.expression(value)}{self._line(value)}"

    def _which(self, miss: dict[str, Any]) -> str:
        repeat = miss["repeat"] + 1
        if miss["count"]:
            kinds = f"{miss['repeats']} repeats are of {miss['count']} kinds, too few of each to run side by side"
            return f"{kinds}; repeat {repeat}, say, is not like the first"
        return f"repeat {repeat} is computed by itself"

    def _operand(self, miss: dict[str, Any]) -> str:
        value = miss["value"]
        return (
            f"{self._block(miss)} are not run as lanes: operand {miss['operand'] + 1} of operation "
            f"{miss['operation'] + 1} ({self.expression(value)}{self._line(value)}) is another value of the block in "
            f"most repeats: {self.operand(miss['pattern'])} in the first, {self.operand(miss['taken'])} in repeat "
            f"{miss['repeat'] + 1}"
        )

    def _gathered(self, miss: dict[str, Any]) -> str:
        words = (
            f"{self._block(miss)} are not run as lanes: they read {miss['count']} values that differ from repeat to "
            "repeat, and to collect those costs more than lanes save"
        )
        if miss["value"] is None:
            return words
        return (
            f"{words}. The first is operand {miss['operand'] + 1} of operation {miss['operation'] + 1}: "
            f"{self.name(miss['pattern'])} in the first repeat, {self.name(miss['taken'])} in repeat "
            f"{miss['repeat'] + 1}{self._line(miss['value'])}"
        )

    def _carried(self, miss: dict[str, Any]) -> str:
        value = miss["value"]
        return (
            f"{self.expression(value)}{self._line(value)} is used by its own repeat and by later ones: what is carried "
            "on from repeat to repeat is computed in order, one after the other; only the rest runs side by side"
        )

    def _small(self, miss: dict[str, Any]) -> str:
        return f"{self._block(miss)} are too little work to gain from lanes"

    def _recurrence(self, miss: dict[str, Any]) -> str:
        value = miss["value"]
        return (
            f"{miss['repeats']} steps of {miss['size']} operations are a recurrence: each starts from what the step "
            f"before made, {self.expression(value)}{self._line(value)}, so they are computed in order, not side by "
            "side. Several such sequences would run side by side: as the repeats of a loop around this one, or by vmap"
        )

    def _block(self, miss: dict[str, Any]) -> str:
        return f"{miss['repeats']} repeats of a block of {miss['size']} operations"

    def _line(self, value: int) -> str:
        made = self.place(value)
        return f" ({made.strip()})" if made else ""
