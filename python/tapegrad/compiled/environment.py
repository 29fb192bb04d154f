"""What a function reads beside its arguments: a snapshot that tells later whether a recording still stands for the
function.

Followed are closure cells, defaults, the global names that the code uses, the functions and methods called, and the
contents of lists,
dicts, sets, arrays and instances reached that way (of instances and modules only attributes whose name occurs in the
code). Values are
compared by identity: their numbers are read at each call. Not seen are state inside C extensions, files, clocks and
random generators.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

CELL, NAMES, ITEMS, LIST, ARRAY, TYPE, CALL = range(7)
_ATOMS = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), Value, np.generic, types.CodeType)
_FOREIGN = sys.stdlib_module_names | {
    "numpy",
    "tapegrad",
    "scipy",
    "pandas",
    "matplotlib",
    "torch",
    "jax",
    "jaxlib",
    "joblib",
    "dask",
    "pytest",
}

Check = list[Any]


def snapshot(roots: Iterable[Any]) -> tuple[Check, ...]:
    """The checks that hold as long as everything that the functions and objects in `roots` read is as it is now."""
    roots = [Value, *roots]  # arguments are shown to the function as Values
    names: set[str] = set()
    while True:
        walk = _Walk(set(names))
        walk.run(roots)
        if walk.names == names:
            return tuple(walk.checks)
        names = walk.names


class _Walk:
    """One pass over all that can be reached; `names` grows by the names that the code met on the way uses."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.checks: list[Check] = []
        self._seen: dict[int, Any] = {}
        self._todo: list[Any] = []

    def run(self, roots: list[Any]) -> None:
        self._todo = list(reversed(roots))
        while self._todo:
            x = self._todo.pop()
            if isinstance(x, _ATOMS):
                if not isinstance(x, Value):
                    continue
                x = type(x)  # its number is read at each call, but its operators may be replaced
            if id(x) in self._seen:
                continue
            self._seen[id(x)] = x  # also keeps temporary objects alive, so that their id stays theirs
            self._visit(x)

    def _visit(self, x: Any) -> None:
        if isinstance(x, types.FunctionType):
            self._function(x)
        elif isinstance(x, types.MethodType):
            self._todo += [x.__func__, x.__self__]
        elif isinstance(x, types.CellType):
            content = _content(x)
            self.checks.append([CELL, x, content])
            self._todo.append(content)
        elif isinstance(x, list):
            items = tuple(x)
            self.checks.append([LIST, x, items])
            self._todo += reversed(items)
        elif isinstance(x, tuple):
            self._todo += reversed(x)
        elif isinstance(x, dict):
            self.checks.append([ITEMS, x, tuple(x), tuple(x.values()), _core.dict_version(x), None])
            self._todo += x.values()
        elif isinstance(x, (set, frozenset)):
            items = tuple(x)
            self.checks.append([CALL, _same_set, x, items])
            self._todo += items
        elif isinstance(x, np.ndarray):
            self._array(x)
        elif isinstance(x, types.ModuleType):
            if not _is_foreign(x.__name__):
                self._some(x.__dict__, self.names)
        elif isinstance(x, type):
            self._type(x)
        elif isinstance(x, functools.partial):
            self._todo += [x.func, x.args, x.keywords]
        elif isinstance(x, (staticmethod, classmethod)):
            self._todo.append(x.__func__)
        elif isinstance(x, property):
            self._todo += [f for f in (x.fget, x.fset) if f is not None]
        elif isinstance(x, _core.CompiledFunction):
            self._todo.append(x.__wrapped__)
        else:
            self._instance(x)

    def _function(self, f: types.FunctionType) -> None:
        if _is_foreign(f.__globals__.get("__name__") or ""):
            return
        used = _names_in(f.__code__)
        self.names |= used
        self.checks.append([CALL, _same_function, f, f.__code__, f.__defaults__, f.__kwdefaults__])
        self._todo += [f.__closure__ or (), f.__defaults__ or (), f.__kwdefaults__ or {}]
        self._some(f.__globals__, set(_globals_in(f.__code__)))

    def _some(self, holder: dict[str, Any], names: set[str], owner: Any = None) -> None:
        """Checks some names of a dict, those that are missing included, and follows what they stand for."""
        ordered = tuple(sorted(names))
        values = tuple(holder.get(name, _core.missing) for name in ordered)
        if ordered:
            self.checks.append([NAMES, holder, ordered, values, _core.dict_version(holder), owner])
        self._todo += [value for value in values if value is not _core.missing]

    def _array(self, x: Any) -> None:
        if x.dtype.kind == "O":
            items = tuple(x.flat)
            self.checks.append([CALL, _same_objects, x, items])
            self._todo += items
        elif x.flags.c_contiguous and x.dtype.kind in "biufc":
            self.checks.append([ARRAY, x, x.tobytes()])
        else:
            self.checks.append([CALL, _same_array, x, x.tobytes()])

    def _type(self, cls: type) -> None:
        if not cls.__flags__ & (1 << 9):  # not a class statement's: nothing can be assigned to it
            return
        self.checks.append([TYPE, cls, _core.type_version(cls), _same_type, _contents(cls), self.names])
        for base in cls.__mro__:
            items = [item for name, item in vars(base).items() if name in self.names or _is_called_implicitly(name)]
            if _is_foreign(base.__module__):  # its own methods are not read, but those that a program put there are
                items = [item for item in items if isinstance(item, types.FunctionType)]
            self._todo += items

    def _instance(self, x: Any) -> None:
        cls = type(x)
        if cls.__module__ in ("builtins", "_thread") or (
            _is_foreign(cls.__module__) and not cls.__module__.startswith("tapegrad")
        ):
            return
        self._todo.append(cls)
        own = getattr(x, "__dict__", None)
        if isinstance(own, dict):
            # Of classes whose code is not read, and where the code asks for all, every attribute may matter.
            everything = cls.__module__.startswith("tapegrad") or "__dict__" in self.names or "vars" in self.names
            self._some(own, self.names | own.keys() if everything else self.names, x)
        for base in cls.__mro__:
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType):
                    value = getattr(x, name, _core.missing)
                    self.checks.append([CALL, _same_attribute, x, name, value])
                    if value is not _core.missing:
                        self._todo.append(value)
        if isinstance(x, (list, tuple, dict, set)):
            return
        if hasattr(cls, "__iter__") and hasattr(cls, "__len__") and not isinstance(own, dict):
            self.checks.append([CALL, _same_iteration, x, tuple(x)])


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _core.missing


@functools.cache
def _globals_in(code: types.CodeType) -> frozenset[str]:
    """Names that the code and the functions defined in it look up among the globals."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_in(constant)
    return frozenset(names)


def _names_in(code: types.CodeType) -> set[str]:
    """Names of globals and attributes in the code and in the functions defined in it; texts too, for getattr."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            names.add(constant)
    return names


def _is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _FOREIGN and top != "__main__" and not module.startswith("tapegrad.examples")


def _is_called_implicitly(name: str) -> bool:
    return name.startswith("__") and name not in ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__")


def _contents(cls: type) -> dict[type, dict[str, Any]]:
    return {base: dict(vars(base)) for base in cls.__mro__ if base is not object}


def _same_type(check: Check) -> bool:
    """Whether a class whose version changed still has the same attributes where the code or Python itself looks for
    them."""
    _, cls, _, _, then, names = check
    now = _contents(cls)
    if now.keys() != then.keys():
        return False
    for base, items in now.items():
        for name in items.keys() | then[base].keys():
            if name in names or _is_called_implicitly(name):
                a, b = items.get(name, _core.missing), then[base].get(name, _core.missing)
                if a is not b and not (type(a) is type(b) and isinstance(a, (int, float, str, tuple)) and a == b):
                    return False
    check[2] = _core.type_version(cls)
    return True


def _same_function(check: Check) -> bool:
    f = check[2]
    return f.__code__ is check[3] and f.__defaults__ is check[4] and f.__kwdefaults__ is check[5]


def _same_objects(check: Check) -> bool:
    now = tuple(check[2].flat)
    return len(now) == len(check[3]) and all(map(_same, now, check[3]))


def _same_array(check: Check) -> bool:
    return bool(check[2].tobytes() == check[3])


def _same_set(check: Check) -> bool:
    return len(check[2]) == len(check[3]) and all(item in check[2] for item in check[3])


def _same_iteration(check: Check) -> bool:
    now = tuple(check[2])
    return len(now) == len(check[3]) and all(map(_same, now, check[3]))


def _same_attribute(check: Check) -> bool:
    return _same(getattr(check[2], check[3], _core.missing), check[4])


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str)) and a == b)


def describe(check: Check) -> str:
    """What a check that does not hold any more is about, in words."""
    kind, holder = check[0], check[1]
    if kind == CELL:
        return "a variable of the enclosing function was assigned"
    if kind in (NAMES, ITEMS):
        names = [n for n, v in zip(check[2], check[3], strict=True) if not _same(holder.get(n, _core.missing), v)]
        return f"{names[0]!r:.60} was assigned" if names else "a dict was added to"
    if kind == LIST:
        return f"a list of {len(check[2])} items changed"
    if kind == ARRAY:
        return f"the numbers in an array of shape {holder.shape} changed"
    if kind == TYPE:
        return f"class {holder.__name__} changed"
    return f"{type(check[2]).__name__} changed"
