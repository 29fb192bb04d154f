"""Pickling and copying of Values: graphs are saved flat, so depth does not matter, and shared parts stay shared.

A Value is saved as an empty one of its type plus a state: data and grad for a leaf, a place in a `Graph` for any
other. Objects are made before their states are read, so cycles through attributes work as for ordinary objects.
"""

from __future__ import annotations

import copyreg
from typing import Any

from tapegrad import _core
from tapegrad._core import NodeList, Value

_FIELDS = frozenset({"data", "grad", "_prev", "_backward"})


class Graph:
    """The nodes below one Value, in a flat form that pickles. Members find it again while it is being written."""

    __slots__ = ("__weakref__", "_arrays", "_externals", "_nodes", "_waiting")

    def __init__(self) -> None:
        self._nodes: NodeList | None = None
        self._waiting: list[tuple[Value, int] | Graph] = []

    @classmethod
    def of(cls, root: Value) -> Graph:
        """The graph below `root`, but for parts that are being written already."""
        graph = cls()
        _core.list_nodes(root, graph)
        return graph

    def __reduce__(self) -> tuple[Any, ...]:
        # Read at this moment: a graph may be written more than once while a pickler or a memo keeps it.
        assert self._nodes is not None
        return Graph, (), _core.export_nodes(self._nodes)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._arrays, self._externals, _ = state
        self._build()

    def _build(self) -> None:
        for value in self._externals:
            awaited = _unbuilt.get(id(value))
            if awaited is not None:  # an operand's own graph is not there yet: its cycle is being read just now
                awaited._waiting.append(self)
                return
        self._nodes = _core.import_graph(self._arrays, self._externals)
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if isinstance(item, Graph):
                item._build()
            else:
                value, index = item
                del _unbuilt[id(value)]
                self._nodes.adopt(value, index)

    def adopt(self, value: Value, index: int) -> None:
        """Makes `value` the handle of node `index`, now or as soon as the nodes are there."""
        if self._nodes is None:
            self._waiting.append((value, index))
            _unbuilt[id(value)] = self
        else:
            self._nodes.adopt(value, index)


_unbuilt: dict[int, Graph] = {}


def _new(cls: type[Value]) -> Value:
    return Value.__new__(cls)


def _attributes(value: Value, fields: bool = False) -> dict[str, Any]:
    """What the program assigned, without the fields that the node itself holds unless these are asked for."""
    own = value.__dict__
    leave = {"_backward"} if fields else set(_FIELDS)
    if not own["label"]:
        leave.add("label")
    if own["_op"] == _core.native_op(value):
        leave.add("_op")
    attributes = {name: item for name, item in own.items() if name not in leave}
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        if hasattr(value, name):
            attributes[name] = getattr(value, name)
    rule = _core.assigned_rule(value)
    if rule is not None:
        attributes["_backward"] = rule
    return attributes


def _saves_itself(cls: type[Value]) -> bool:
    """Whether the class has its own idea of its state."""
    own = any("__getstate__" in vars(base) for base in cls.__mro__ if base is not object)
    return own or cls.__setstate__ is not _setstate


def reduce_value(value: Value, protocol: int = 4) -> tuple[Any, ...] | str:
    """`Value.__reduce_ex__`."""
    cls = type(value)
    if cls.__reduce__ is not object.__reduce__:
        return value.__reduce__()
    if _saves_itself(cls):
        own = any("__getstate__" in vars(base) for base in cls.__mro__ if base is not object)
        return _new, (cls,), value.__getstate__() if own else _attributes(value, fields=True)
    if not value._children and not value._op:
        return _new, (cls,), (None, value.data, value.grad, _attributes(value))
    # Another thread may list the same nodes between our look and our listing, or drop its list right afterwards.
    while (found := _core.find_exported(value)) is None:
        graph = Graph.of(value)  # noqa: F841 - has to live until it was found
    return _new, (cls,), (*found, None, _attributes(value))


def restore_value(value: Value, state: Any) -> None:
    """`Value.__setstate__`: of what `reduce_value` gives, or a dict of attributes, or (dict, slots)."""
    if isinstance(state, dict):
        _assign(value, state)
        return
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        _assign(value, state[0] or {})
        _assign(value, state[1])
        return
    try:
        graph, place, grad, attributes = state
    except (TypeError, ValueError):
        raise ValueError(f"damaged Value: its state should have four parts, not {state!r:.200}") from None
    if graph is None:
        _assign(value, {"data": place, "grad": grad})
    elif isinstance(graph, Graph) and isinstance(place, int) and place >= 0:
        graph.adopt(value, place)
    else:
        raise ValueError(f"damaged Value: no graph with a place in it, but {graph!r:.100} and {place!r:.100}")
    _assign(value, attributes)


_setstate = Value.__setstate__


def _assign(value: Value, attributes: dict[str, Any]) -> None:
    if not isinstance(attributes, dict):
        raise ValueError(f"damaged Value: its attributes should be a dict, not {attributes!r:.200}")
    for name, item in attributes.items():
        if name == "data" and getattr(item, "ndim", None):
            _core.hold_array(value, item)
        else:
            setattr(value, name, item)


def copy_value(value: Value) -> Value:
    """`Value.__copy__`: a new node over the same operands."""
    new = _new(type(value))
    _core.clone(value).adopt(new, 0)
    for name, item in _attributes(value).items():
        setattr(new, name, item)
    return new
