"""`memory` and `graph_stats`: what the engine holds, and what a graph is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapegrad import _core

if TYPE_CHECKING:
    from tapegrad._core import Value


@dataclass(frozen=True)
class Memory:
    """Memory of the whole process, in bytes but for `live_nodes`."""

    live_nodes: int
    """Nodes alive: exactly those that a living Value needs."""
    reserved_bytes: int
    """What the arena of nodes has from the system; it keeps some for the next graph."""
    array_bytes: int
    """What the data and gradients of array Values take, and what views of them keep alive."""


@dataclass(frozen=True)
class GraphStats:
    """What a graph is made of."""

    nodes: int
    """Nodes, leaves included."""
    leaves: int
    """Nodes without operands: parameters, inputs, constants."""
    depth: int
    """Operations on the longest way from the root to a leaf."""
    bytes: int
    """Memory of its nodes, operand lists and arrays; Python's objects are not counted."""
    operations: dict[str, int]
    """Nodes by what `_op` says, the most frequent first."""

    def __str__(self) -> str:
        lines = [f"{self.nodes} nodes ({self.leaves} leaves), depth {self.depth}, {self.bytes} bytes"]
        lines += [f"{count:10d}  {name}" for name, count in self.operations.items()]
        return "\n".join(lines)


def memory() -> Memory:
    """What the engine holds just now."""
    return Memory(_core.live_nodes(), _core.reserved_bytes(), _core.array_bytes())


def graph_stats(root: Value) -> GraphStats:
    """What the graph of `root` is made of, at any depth: it takes no recursion, and time linear in the graph.

    TypeError if `root` is no Value.
    """
    labels, leaves, depth, size = _core.graph_stats(root)
    operations = dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    return GraphStats(leaves + sum(labels.values()), leaves, depth, size, operations)
