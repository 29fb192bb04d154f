"""What a function reads beside its arguments: a snapshot that tells later whether a recording still stands for the
function.

Followed are closure cells, defaults, the global names that the code uses, modules that it imports, the functions and
methods called, and the contents of containers, arrays and instances reached that way (of instances and modules of the
program only attributes whose name occurs in the code). Values are compared by identity: their numbers are read at each
call. What cannot be compared, an iterator or a generator of random numbers that was drawn from, makes a recording that
stands for one call only. Not seen are clocks, files and state inside C extensions.
"""

from __future__ import annotations

import dis
import functools
import operator
import random
import sys
import sysconfig
import types
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled import checks as same
from tapegrad.compiled.checks import ARRAY, BARE, CALL, CELL, ITEMS, LIST, NAMES, TYPE, Check, Draws

if TYPE_CHECKING:
    from collections.abc import Iterable

_ATOMS = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), Value, np.generic, types.CodeType)
_PACKAGES = {"numpy", "tapegrad", "scipy", "pandas", "matplotlib", "torch", "jax", "jaxlib", "joblib", "dask", "pytest"}
_ANY_ATTRIBUTE = {"__dict__", "vars", "getattr", "__getattribute__", "setattr"}  # the code may ask for any attribute
_ANY_GLOBAL = {"globals", "eval", "exec", "__globals__", "modules"}
_NAMESPACES = {("types", "SimpleNamespace"), ("argparse", "Namespace")}
_MAY_APPEAR = {"__dict__", "vars", "getattr", "hasattr", "label", "_op", "_prev", "AttributeError"}


class Transform:
    """Base of what is made of a function, ``__wrapped__``, and reads nothing else."""

    __wrapped__: Any


class Snapshot:
    """The checks that hold as long as everything that the functions and objects in `roots` read is as it is now."""

    def __init__(self, roots: Iterable[Any]) -> None:
        roots = [Value, *roots]  # arguments are shown to the function as Values
        names: set[str] = set()
        plain = _Plain()
        while True:
            walk = _Walk(set(names), plain)
            walk.run(roots)
            if walk.names == names:
                break
            names = walk.names
        self._checks = walk.checks
        dialects = walk.dialects - {Value}
        self.dialect = dialects.pop() if len(dialects) == 1 else Value
        """The kind of Value that the function works with, where it works with one beside tapegrad's own."""
        self._draws = [Draws(generator) for generator in [None, *walk.generators]]

    def finish(self) -> tuple[Check, ...]:
        """The checks, now that the function has run: it may have drawn random numbers."""
        drawn = [draws for draws in self._draws if draws.changed()]
        return (*self._checks, *([CALL, same.never, draws.what] for draws in drawn))


class _Plain:
    """What containers hold, followed without Python as far as it is plain, and once for all passes."""

    def __init__(self) -> None:
        self._contents = _core.Contents()
        self._known: dict[int, tuple[Any, list[Check], list[Value], list[Any]]] = {}

    def follow(self, x: Any, items: tuple[Any, ...]) -> tuple[list[Check], list[Value], list[Any]]:
        """Checks, Values without attributes and all else in the items of the container `x`; nothing of what another
        container told."""
        known = self._known.get(id(x))
        if known is None:
            known = self._known[id(x)] = (x, *self._contents.follow(items))
        return known[1:]


class _Walk:
    """One pass over all that can be reached; `names` grows by the names that the code met on the way uses."""

    def __init__(self, names: set[str], plain: _Plain) -> None:
        self.names = names
        self._plain = plain
        self.checks: list[Check] = []
        self.generators: list[Any] = []  # of random numbers
        self.dialects: set[type[Value]] = set()
        self._seen: dict[int, Any] = {}
        self._todo: list[Any] = []
        self._bare: list[Value] = []  # Values without attributes

    def run(self, roots: list[Any]) -> None:
        self._todo = list(reversed(roots))
        while self._todo:
            x = self._todo.pop()
            if isinstance(x, _ATOMS) and not isinstance(x, Value):
                continue
            if id(x) in self._seen:
                continue
            self._seen[id(x)] = x  # also keeps temporary objects alive, so that their id stays theirs
            self._visit(x)
        if self._bare and self.names & _MAY_APPEAR:
            self.checks.append([BARE, tuple(self._bare)])

    def _visit(self, x: Any) -> None:
        if isinstance(x, Value):
            self._value(x)
        elif isinstance(x, types.FunctionType):
            self._function(x)
        elif isinstance(x, types.MethodType):
            self._todo += [x.__func__, x.__self__]
        elif isinstance(x, types.BuiltinMethodType):
            if not isinstance(x.__self__, types.ModuleType):
                self._todo.append(x.__self__)
        elif isinstance(x, types.CellType):
            content = _content(x)
            self.checks.append([CELL, x, content])
            self._todo.append(content)
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
        elif isinstance(x, (_core.CompiledFunction, Transform)):
            self._todo.append(x.__wrapped__)  # not what it remembers: recordings lead to all that the program knows
        else:
            self._contents(x)
            self._instance(x)

    def _value(self, x: Value) -> None:
        self._todo.append(type(x))  # its number is read at each call, but its operators may be replaced
        own = _core.attributes_of(x)
        if own is None:
            self._bare.append(x)
        else:
            self._some(own, self.names | own.keys() if self.names & _ANY_ATTRIBUTE else self.names)

    def _contents(self, x: Any) -> None:
        """Checks on what a container holds, whatever its class."""
        if isinstance(x, list):
            items = tuple(x)
            self.checks.append([LIST, x, items])
            self._follow(x, items)
        elif isinstance(x, tuple):
            self._follow(x, tuple(x))
        elif isinstance(x, dict):
            values = tuple(x.values())
            self.checks.append([ITEMS, x, tuple(x), values, _core.dict_version(x), None])
            self._follow(x, values)
            if isinstance(x, OrderedDict):  # its order is its own
                self.checks.append([CALL, same.iteration, x, tuple(x)])
        elif isinstance(x, (set, frozenset)):
            items = tuple(x)
            self.checks.append([CALL, same.members, x, items])
            self._follow(x, items)
        elif isinstance(x, np.ndarray):
            self._array(x)

    def _follow(self, x: Any, items: tuple[Any, ...]) -> None:
        checks, bare, others = self._plain.follow(x, items)
        self.checks += checks
        self._bare += bare
        self._todo += reversed(others)

    def _function(self, f: types.FunctionType) -> None:
        if _is_foreign(f.__globals__.get("__name__") or ""):
            return
        used = _names_in(f.__code__)
        self.names |= used
        self.checks.append([CALL, same.function, f, f.__code__, f.__defaults__, f.__kwdefaults__])
        self._todo += [f.__closure__ or (), f.__defaults__ or (), f.__kwdefaults__ or {}]
        self._some(f.__globals__, set(_globals_in(f.__code__)))
        if used & _ANY_GLOBAL:
            self._some(f.__globals__, set(f.__globals__), follow=False)
        self._some(sys.modules, set(_imports_in(f.__code__)))

    def _some(self, holder: dict[str, Any], names: set[str], owner: Any = None, follow: bool = True) -> None:
        """Checks some names of a dict, those that are missing included, and follows what they stand for."""
        ordered = tuple(sorted(names))
        values = tuple(holder.get(name, _core.missing) for name in ordered)
        if ordered:
            self.checks.append([NAMES, holder, ordered, values, _core.dict_version(holder), owner])
        if follow:
            self._todo += [value for value in values if value is not _core.missing]

    def _array(self, x: Any) -> None:
        if x.dtype.kind == "O":
            items = tuple(x.flat)
            self.checks.append([CALL, same.objects, x, x.shape, items])
            self._follow(x, items)
        elif x.flags.c_contiguous and x.dtype.kind in "biufc":
            self.checks.append([ARRAY, x, x.tobytes(), x.shape, memoryview(x).format])
        else:
            self.checks.append([CALL, same.array, x, same.numbers(x)])

    def _type(self, cls: type) -> None:
        if not cls.__flags__ & (1 << 9):  # not a class statement's: nothing can be assigned to it
            return
        dialect = _core.dialect_of(cls)
        if dialect is not None:
            self.dialects.add(dialect)
        if type(cls) is not type:
            self._todo.append(type(cls))
        every = bool(self.names & _ANY_ATTRIBUTE) and not _is_foreign(_module_of(cls))
        names = None if every else self.names
        self.checks.append([TYPE, cls, _core.type_version(cls), same.type_, same.type_contents(cls), names])
        for base in cls.__mro__:
            items = [item for name, item in vars(base).items() if same.matters(name, names)]
            if _is_foreign(_module_of(base)):  # its own methods are not read, but those that a program put there are
                items = [item for item in items if isinstance(item, types.FunctionType)]
            self._todo += items

    def _instance(self, x: Any) -> None:
        cls = type(x)
        module = _module_of(cls)
        ours = module.startswith("tapegrad")
        foreign = module in ("builtins", "_thread") or _is_foreign(module)
        own = getattr(x, "__dict__", None)
        if foreign and not ours:
            if isinstance(x, local):  # each thread has a dict of its own
                own = dict(vars(x))
                self.checks.append([CALL, same.attributes, x, own])
                self._todo += own.values()
            else:
                self._foreign(x, isinstance(own, dict))
        else:
            self._todo.append(cls)
            self._slots(x, cls)
        if isinstance(own, dict):
            # Of classes whose code is not read, and where the code asks for all, every attribute may matter.
            every = foreign or ours or bool(self.names & _ANY_ATTRIBUTE)
            if (module, cls.__name__) in _NAMESPACES:
                every = bool(self.names & _ANY_ATTRIBUTE)
            self._some(own, self.names | own.keys() if every else self.names, x)

    def _slots(self, x: Any, cls: type) -> None:
        for base in cls.__mro__:
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType):
                    value = getattr(x, name, _core.missing)
                    self.checks.append([CALL, same.attribute, x, name, value])
                    if value is not _core.missing:
                        self._todo.append(value)

    def _foreign(self, x: Any, has_attributes: bool) -> None:
        """Checks on an object of a class whose code is not read, by what can be done with it."""
        cls = type(x)
        if isinstance(x, (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)):
            self.generators.append(x)
        elif hasattr(cls, "__next__"):
            self.checks.append([CALL, same.never, f"{cls.__name__} is read, which cannot be read again"])
        elif isinstance(x, ContextVar):
            self.checks.append([CALL, same.context, x, x.get(_core.missing)])
        elif isinstance(x, weakref.ref):
            self.checks.append([CALL, same.target, x, x()])
            self._todo.append(x())
        elif isinstance(x, operator.attrgetter):
            self.names |= {part for name in x.__reduce__()[1] for part in name.split(".")}
        elif hasattr(x, "__wrapped__"):
            self._todo.append(x.__wrapped__)
        elif isinstance(x, (list, tuple, dict, set, frozenset, np.ndarray)):
            return  # _contents() saw to it
        elif same.buffer_of(x) is not None:
            self.checks.append([CALL, same.buffer, x, same.buffer_of(x)])
        elif hasattr(cls, "__array__"):
            self.checks.append([CALL, same.array, x, same.numbers(np.asarray(x))])
        elif isinstance(x, Mapping):
            items = tuple(x.items())
            self.checks.append([CALL, same.mapping, x, items])
            self._todo += [value for _, value in items]
        elif not has_attributes and hasattr(cls, "__iter__") and hasattr(cls, "__len__"):
            items = tuple(x)
            self.checks.append([CALL, same.iteration, x, items])
            self._todo += items


def _module_of(cls: type) -> str:
    module = cls.__module__
    return module if isinstance(module, str) else ""


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _core.missing


@functools.cache
def _globals_in(code: types.CodeType) -> frozenset[str]:
    """Names that the code and the functions defined in it look up among the globals."""
    return _arguments_of(code, ("LOAD_GLOBAL", "LOAD_NAME"))


@functools.cache
def _imports_in(code: types.CodeType) -> frozenset[str]:
    """Modules of the program that the code and the functions defined in it import, with their packages."""
    found = set()
    for name in _arguments_of(code, ("IMPORT_NAME",)):
        parts = name.split(".")
        found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return frozenset(name for name in found if not _is_foreign(name))


def _arguments_of(code: types.CodeType, operations: tuple[str, ...]) -> frozenset[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in operations}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _arguments_of(constant, operations)
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


_STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def _is_foreign(name: str) -> bool:
    """Whether a module belongs to Python or to a package whose code is not read. A program's own file that happens to
    be called like one does not."""
    top = name.partition(".")[0]
    if top in _PACKAGES:
        return not name.startswith("tapegrad.examples")
    if top not in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or (file.startswith(_STANDARD_LIBRARY) and not file.startswith(_INSTALLED))
