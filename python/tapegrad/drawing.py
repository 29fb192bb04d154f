"""Graphs as pictures: `trace` and `draw_dot` as in the lectures, at any depth, with or without Graphviz's `dot`.

Whatever has ``data``, ``grad``, ``_op`` and ``_prev`` can be drawn, and the program of a compiled function. A class may
choose what its nodes show by an attribute ``_record_fields``, a tuple of attribute names; otherwise it is the label if
there is one, data and grad.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import graphviz  # type: ignore[import-untyped]

from tapegrad.compiled.program import Program
from tapegrad.svg import Box, Picture

MAX_NODES = 2000
MAX_LANES = 12  # up to which an array is written out
EASY, HARD = 1e5, 1e8  # Picture.crowding() up to which `dot` draws in seconds, with curves and with straight lines

_NO_DOT = (graphviz.ExecutableNotFound, graphviz.CalledProcessError, OSError)  # missing, broken or not allowed
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # XML or dot would choke on them
_INSTALL = (
    "Install it with `apt install graphviz`, `brew install graphviz`, `conda install graphviz` or `winget install "
    "graphviz`, or write the picture without it: tapegrad.drawing.save_svg(root, 'graph.svg')."
)


def trace(root: Any) -> tuple[set[Any], set[tuple[Any, Any]]]:
    """All nodes that ``root`` was made of, itself included, and all edges (operand, result) between them.

    Raises TypeError if ``root`` is not a Value.
    """
    operands, _ = _collect(root, None)
    nodes = [node for node, _ in operands.values()]
    return set(nodes), {(child, node) for node, children in operands.values() for child in children}


def draw_dot(
    root: Any,
    format: str = "svg",
    rankdir: str = "LR",
    *,
    max_nodes: int | None = MAX_NODES,
    on_large: str = "error",
    number: Callable[[Any], str] | None = None,
) -> Drawing:
    """The graph that ``root`` came out of, as a `graphviz.Digraph`: a notebook shows it, ``render`` makes a file.

    Each node is a record, each operation an ellipse before it, exactly as in the lectures; nodes come in a fixed order,
    operands first. ``format`` is what ``render`` and ``pipe`` produce, ``rankdir`` the direction of the edges (LR, RL,
    TB or BT), ``number`` gives the text for data and gradients (four decimals; of an array with more
    than 12 lanes its shape and range).

    A graph of more than ``max_nodes`` nodes is an error; with ``on_large="cut"`` the nodes nearest to the root are
    drawn, with a note. None stands for no limit. Raises TypeError if ``root`` is not a Value, ValueError for a bad
    option or a graph that is too large.
    """
    if rankdir not in ("LR", "RL", "TB", "BT"):
        raise ValueError(f"rankdir is LR, RL, TB or BT, not {rankdir!r}")
    if on_large not in ("error", "cut"):
        raise ValueError(f"on_large is 'error' or 'cut', not {on_large!r}")
    if max_nodes is not None and (not isinstance(max_nodes, int) or max_nodes < 1):
        raise ValueError(f"max_nodes is a whole number from 1 up, or None for no limit, not {max_nodes!r}")
    operands, complete = _collect(root, max_nodes)
    if not complete and on_large == "error":
        raise ValueError(
            f"the graph has more than {max_nodes} nodes, too many to look at: draw a smaller part, "
            f"cut it with draw_dot(root, on_large='cut'), or raise max_nodes"
        )
    drawing = Drawing(format=format, graph_attr={"rankdir": rankdir}, picture=Picture(rankdir=rankdir))
    if not complete:
        drawing.note(f"cut: the {max_nodes} nodes nearest to the result are drawn, dots stand for the rest")
    drawing.add(operands, number or format_number)
    return drawing


def save_svg(root: Any, path: str | os.PathLike[str], rankdir: str = "LR", **options: Any) -> Path:
    """Write the graph of ``root`` to an SVG file, laid out by `dot` where it is installed and without it otherwise.

    Takes the options of `draw_dot`. Raises OSError if the file cannot be written; returns its path.
    """
    svg = draw_dot(root, rankdir=rankdir, **options).to_svg()
    path = Path(path)
    path.write_text(svg, encoding="utf-8")
    return path


def format_number(x: Any) -> str:
    """Four decimals for a number; a small array on one line, in the same way; a large one by its shape and range."""
    try:
        if not hasattr(x, "__len__"):
            return "%.4f" % x  # noqa: UP031  the lectures' format; unlike an f-string it takes whatever has __float__
    except (TypeError, OverflowError):
        pass
    import numpy as np

    array = np.asarray(x)
    if array.size > MAX_LANES and array.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):
            low, high = (format_number(float(bound)) for bound in (array.min(), array.max()))
        return f"shape {array.shape} from {low} to {high}"
    text = np.array2string(array, precision=4, separator=", ", suppress_small=True, threshold=MAX_LANES, edgeitems=2)
    return " ".join(text.split())


class DotNotFoundError(graphviz.ExecutableNotFound):  # type: ignore[misc]
    """Graphviz's `dot` is needed and not installed; the message says how to install it."""

    def __init__(self, program: str) -> None:
        RuntimeError.__init__(self, f"cannot run {program!r}: Graphviz is not installed or not on PATH. {_INSTALL}")


class Drawing(graphviz.Digraph):  # type: ignore[misc]
    """A `graphviz.Digraph` of Values that can also be shown where `dot` is missing.

    It holds texts, not Values, so it keeps no graph alive. What is added to it by hand is drawn by `dot` only.
    """

    def __init__(self, *args: Any, picture: Picture | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.picture = picture if picture is not None else Picture()

    def _copy_kwargs(self, **options: Any) -> Any:
        return {**super()._copy_kwargs(**options), "picture": self.picture}

    def note(self, text: str) -> None:
        """Put a note on the picture."""
        self.picture.caption = text
        self.node("note", label=_escape_text(text), shape="note", style="filled", fillcolor="#fff3c4")

    def add(self, operands: dict[int, tuple[Any, list[Any]]], number: Callable[[Any], str]) -> None:
        """Add nodes, operands first, then edges; operands that are not among the nodes become dots."""
        picture, index, targets = self.picture, {}, []
        for node, children in _operands_first(operands):
            uid, op = str(id(node)), _clean(str(node._op))
            fields = tuple(_clean(text) for text in _fields(node, number))
            hidden = any(id(child) not in operands for child in children)
            self.node(name=uid, label=f"{{ {' | '.join(map(_escape_record, fields))} }}", shape="record")
            target, target_index = uid, len(picture.boxes) + hidden
            if op:
                target = uid + re.sub(r"[:\\]", "_", op)  # a colon would make a port of it, a backslash an escape
                self.node(name=target, label=_escape_text(op))
                self.edge(target, uid)
            if hidden:
                self.node(name=f"{uid} more", label="...", shape="plaintext")
                self.edge(f"{uid} more", target, style="dashed")
                picture.boxes.append(Box(("...",), "more"))
                picture.edges.append((target_index - 1, target_index))
            if op:
                picture.boxes.append(Box((op,), "op"))
                picture.edges.append((target_index, target_index + 1))
            index[id(node)] = len(picture.boxes)
            picture.boxes.append(Box(fields))
            targets.append((target, target_index, [id(child) for child in children if id(child) in operands]))
        for target, target_index, children_ids in targets:
            for child_id in children_ids:
                self.edge(str(child_id), target)
                picture.edges.append((index[child_id], target_index))
        if picture.crowding() > EASY:  # many long edges: curves around everything would take dot hours
            self.graph_attr.update(splines="line", nslimit="0.2", nslimit1="0.2", mclimit="0.1")

    def pipe(self, *args: Any, **options: Any) -> Any:
        """As `graphviz.Digraph.pipe`, with an error that says what to install where `dot` is missing."""
        with self._dot():
            return super().pipe(*args, **options)

    def render(self, *args: Any, **options: Any) -> Any:
        """As `graphviz.Digraph.render`, with an error that says what to install where `dot` is missing."""
        with self._dot():
            return super().render(*args, **options)

    @contextmanager
    def _dot(self) -> Iterator[None]:
        if self.engine == "dot" and self.picture.crowding() > HARD:
            raise ValueError(
                "dot would take too long over this graph, since many of its edges are very long: write it with "
                "tapegrad.drawing.save_svg(root, 'graph.svg'), which does not need dot, or draw fewer nodes (max_nodes)"
            )
        try:
            yield
        except DotNotFoundError:
            raise
        except graphviz.ExecutableNotFound as error:
            raise DotNotFoundError(self.engine) from error

    def to_svg(self) -> str:
        """The picture as SVG: laid out by `dot` if it is installed and up to it, otherwise by `tapegrad.svg`."""
        if self.picture.crowding() <= EASY:
            try:
                return str(self.pipe(format="svg", encoding="utf-8"))
            except _NO_DOT:
                pass
        return self.picture.svg()

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def _repr_image_svg_xml(self) -> str:
        return self.to_svg()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, bytes | str]:
        """What a notebook shows: what `graphviz` would give, or SVG where that takes a `dot` that is missing."""
        try:
            return dict(super()._repr_mimebundle_(include, exclude, **options))
        except _NO_DOT:
            return {"image/svg+xml": self.to_svg()}


def _collect(root: Any, limit: int | None) -> tuple[dict[int, tuple[Any, list[Any]]], bool]:
    """By id, in order of distance from the root: (node, its distinct operands); and whether that is all of them.

    The dict holds the nodes, so no id can be used twice while it lives.
    """
    if isinstance(root, Program):
        root = root.graph()
    if not _is_value(root):
        raise TypeError(f"only the graph of a Value can be drawn, not {type(root).__name__}: {reprlib.repr(root)}")
    found: dict[int, tuple[Any, list[Any]]] = {}
    waiting, seen = deque([root]), {id(root)}
    complete = True
    while waiting:
        node = waiting.popleft()
        found[id(node)] = node, (children := _operands(node))
        for child in children:
            if id(child) in seen:
                continue
            if limit is not None and len(seen) == limit:
                complete = False
                break
            if not _is_value(child):
                raise TypeError(
                    f"an operand in the graph is not a Value but {type(child).__name__}: {reprlib.repr(child)}"
                )
            seen.add(id(child))
            waiting.append(child)
    return found, complete


def _operands_first(operands: dict[int, tuple[Any, list[Any]]]) -> Iterator[tuple[Any, list[Any]]]:
    """The collected nodes in topological order, from a depth-first walk that keeps its own stack."""
    root = next(iter(operands))
    seen, stack = {root}, [(root, iter(operands[root][1]))]
    while stack:
        key, children = stack[-1]
        for child in children:
            if id(child) in operands and id(child) not in seen:
                seen.add(id(child))
                stack.append((id(child), iter(operands[id(child)][1])))
                break
        else:
            yield operands[key]
            stack.pop()


def _is_value(x: Any) -> bool:
    return not isinstance(x, type) and all(hasattr(x, name) for name in ("data", "grad", "_op", "_prev"))


def _operands(node: Any) -> list[Any]:
    """Distinct operands, in order where the class keeps one: a set's order changes from process to process."""
    children = getattr(node, "_children", None)
    return list({id(child): child for child in (children if isinstance(children, tuple) else node._prev)}.values())


def _fields(node: Any, number: Callable[[Any], str]) -> Iterator[str]:
    default = ("label", "data", "grad") if hasattr(node, "label") else ("data", "grad")
    for name in getattr(type(node), "_record_fields", default):
        value = getattr(node, name)
        yield f"{name} {number(value)}" if name in ("data", "grad") else str(value)


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)


def _escape_record(text: str) -> str:
    text = re.sub(r"([\\{}|<>])", r"\\\1", text.replace("&", "&amp;"))
    return re.sub(r" (?=[ \x80-\U0010ffff])", "&#160;", text)  # dot's records lose a plain space there


def _escape_text(text: str) -> Any:
    return graphviz.escape(text.replace("&", "&amp;"))
