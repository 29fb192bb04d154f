"""What `vars(value)` returns: a dict of a Value's fields and attributes that writes through to the Value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tapegrad import Value

_FIELDS = ("data", "grad", "_backward", "_prev", "_op", "label")
_MISSING = object()


class Attributes(dict[str, Any]):
    """A Value's `__dict__`: its fields and the attributes assigned to it, as they were when it was asked for.

    Assigning and deleting items does the same to the Value, so `v.__dict__.update(momentum=0.0)` sets `v.momentum`.
    """

    def __init__(self, value: Value, own: Mapping[str, Any]) -> None:
        super().__init__({name: getattr(value, name) for name in _FIELDS})
        super().update(own)
        self._value = value

    def __setitem__(self, name: str, item: Any) -> None:
        setattr(self._value, name, item)
        super().__setitem__(name, item)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        delattr(self._value, name)
        super().__delitem__(name)

    def update(self, *others: Mapping[str, Any] | Iterable[tuple[str, Any]], **items: Any) -> None:  # type: ignore[override]
        for name, item in dict(*others, **items).items():
            self[name] = item

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, default: Any = _MISSING) -> Any:
        if name not in self:
            if default is _MISSING:
                raise KeyError(name)
            return default
        item = self[name]
        del self[name]
        return item

    def popitem(self) -> tuple[str, Any]:
        raise TypeError("the attributes of a Value cannot be popped in no particular order; use pop(name)")

    def clear(self) -> None:
        raise TypeError("the attributes of a Value cannot be cleared all at once; delete them one by one")

    def __ior__(self, other: Any) -> Attributes:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
