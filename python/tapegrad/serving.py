"""The import hook that serves `import micrograd` from tapegrad, in this process and in the workers that it starts."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

_SERVED = "micrograd"
_ENGINE = _SERVED + ".engine"
PACKAGE_ROOT = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(PACKAGE_ROOT, _SERVED)


class MicrogradFinder(importlib.abc.MetaPathFinder):
    """Finds `micrograd` in tapegrad's own package and nothing else.

    The package is loaded under the name `micrograd`, so classes show and pickle as `micrograd.engine.Value` and so
    on. The folders of a `micrograd` that `sys.path` holds stay on the package's search path, behind ours: a fork's
    extra submodules are still found, and get our `engine` when they import it. A single file `micrograd.py` is some
    other module, with classes that we do not know: it is left alone.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _ENGINE and path and path[0] == FOLDER:
            file = os.path.join(FOLDER, "engine.py")
            return importlib.util.spec_from_file_location(_ENGINE, file, loader=_EngineLoader(_ENGINE, file))
        if fullname != _SERVED:
            return None
        theirs = importlib.machinery.PathFinder.find_spec(_SERVED)
        folders = theirs.submodule_search_locations if theirs is not None else []
        ours = importlib.machinery.PathFinder.find_spec(_SERVED, [PACKAGE_ROOT])
        if folders is None or ours is None or ours.submodule_search_locations is None:
            return None
        ours.submodule_search_locations.extend(folders)
        return ours


class _EngineLoader(importlib.machinery.SourceFileLoader):
    """Loads the served engine once and afterwards gives out the same module, its `Value` as it was before any patch.

    A process has room for a few dialects only, so a notebook that runs scripts all day must not make one a run.
    """

    _loaded: types.ModuleType | None = None
    _untouched: dict[str, Any]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loaded

    def exec_module(self, module: types.ModuleType) -> None:
        if module is not self._loaded:
            super().exec_module(module)
            type(self)._loaded, type(self)._untouched = module, dict(vars(module.Value))
            return
        for name in vars(module.Value).keys() - self._untouched.keys():
            delattr(module.Value, name)
        for name, attribute in self._untouched.items():
            if vars(module.Value).get(name) is not attribute:
                setattr(module.Value, name, attribute)


class _ServeOnArrival:
    """Travels to a worker process of multiprocessing and serves micrograd there as soon as it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return serve_micrograd, ()


def serve_micrograd() -> None:
    """Serve every later `import micrograd` of this process from tapegrad, until `stop_serving_micrograd`.

    Worker processes that multiprocessing starts get the same. A published micrograd that was imported before is
    forgotten by `sys.modules`; names already bound to its classes keep them. Calling this twice changes nothing.
    """
    if is_serving():
        return
    take_modules()
    sys.meta_path.insert(0, MicrogradFinder())
    # A spawned worker imports the program's __main__ before it looks at its task, so the hook must reach it earlier:
    # it rides in the preparation data, which the worker unpickles first and whose unknown keys it ignores.
    from multiprocessing import spawn

    if not hasattr(spawn.get_preparation_data, "__wrapped__"):
        original = spawn.get_preparation_data

        def get_preparation_data(name: str) -> dict[str, Any]:
            data = original(name)
            if is_serving():
                data["serve_micrograd"] = _ServeOnArrival()
            return data

        get_preparation_data.__wrapped__ = original  # type: ignore[attr-defined]
        spawn.get_preparation_data = get_preparation_data


def is_serving() -> bool:
    """Say whether this process serves micrograd."""
    return any(isinstance(finder, MicrogradFinder) for finder in sys.meta_path)


def stop_serving_micrograd() -> None:
    """Undo `serve_micrograd`: the next `import micrograd` finds the published package, if it is installed."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, MicrogradFinder)]
    take_modules()


def take_modules() -> dict[str, types.ModuleType]:
    """Remove micrograd and its submodules from `sys.modules` and return them."""
    names = [name for name in sys.modules if name == _SERVED or name.startswith(_SERVED + ".")]
    return {name: sys.modules.pop(name) for name in names}
