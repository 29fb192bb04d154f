"""A hand-written C interpreter, compiled where there is a C compiler: the yardstick for replaying scalar programs."""

import ctypes
import importlib.resources
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapegrad.bench.engines.base import Adapter, Engine, Operations, functions

KINDS = ("softplus", "sum", "product", "softmax")


class CompilerMissing(ModuleNotFoundError):
    """There is no C compiler on this machine."""


def compiler() -> str:
    """The C compiler's path. Raises CompilerMissing where there is none."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise CompilerMissing("no C compiler: neither cc, gcc nor clang is on the path")
    return found


class CAdapter(Adapter):
    """Whole operations of a workload, a softmax being one, in a list that C code goes through."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.math = functions(np, "exp log")
        source = importlib.resources.files(__package__) / "interpreter.c"
        # Once loaded, a library needs its file no longer.
        with importlib.resources.as_file(source) as path, tempfile.TemporaryDirectory(prefix="tapegrad-") as folder:
            unit, library = Path(folder) / "interpreter.o", Path(folder) / "interpreter.so"
            # Linked without the options: -ffast-math there adds code that cuts subnormals off in the whole process.
            for command in (
                [compiler(), "-O3", *options, "-fPIC", "-c", str(path), "-o", str(unit)],
                [compiler(), "-shared", str(unit), "-o", str(library), "-lm"],
            ):
                made = subprocess.run(command, capture_output=True, text=True, check=False)
                if made.returncode:
                    raise RuntimeError(f"{' '.join(command)}: {made.stderr.strip()}")
            self._library: Any = ctypes.CDLL(str(library))

    def operations(self, program: Operations, parameters: list[Any]) -> Callable[[], float]:
        steps = np.zeros((len(program.steps), 6), dtype=np.int32)  # kind, first result, operands
        for row, (kind, result, operands) in zip(steps, program.steps, strict=True):
            row[:2] = KINDS.index(kind), result
            row[2 : 2 + len(operands)] = operands
        values, gradients = np.zeros(program.nodes), np.zeros(program.nodes)
        summed, inputs = np.array(program.summed), len(parameters)
        forward, backward = self._library.forward, self._library.backward
        count = len(steps)
        # Each pointer keeps its array alive.
        code, data, grad = (array.ctypes.data_as(ctypes.c_void_p) for array in (steps, values, gradients))

        def run() -> float:
            values[:inputs] = [p.data for p in parameters]
            forward(code, count, data)
            gradients[:] = 0.0
            np.add.at(gradients, summed, 1.0)
            backward(code, count, data, grad)
            for p, g in zip(parameters, gradients[:inputs].tolist(), strict=True):
                p.grad += g
            return float(values[summed].sum())

        return run


@dataclass(frozen=True)
class CompilerEngine(Engine):
    """An engine that needs a C compiler in place of a Python package."""

    def missing(self) -> str:
        return "no C compiler found (cc, gcc or clang)"

    def version(self) -> str:
        try:
            said = subprocess.run([compiler(), "-dumpfullversion"], capture_output=True, text=True, check=False)
        except CompilerMissing:
            return ""
        return said.stdout.strip()


INTERPRETER = CompilerEngine(
    name="C",
    module="tapegrad_bench_needs_a_compiler",
    pip="C compiler",
    load=CAdapter,
    how="hand-written interpreter for one workload, cc -O3",
    only=frozenset({"west"}),
)

INTERPRETER_FAST = CompilerEngine(
    name="C -ffast-math",
    module="tapegrad_bench_needs_a_compiler",
    pip="C compiler",
    load=lambda: CAdapter(["-ffast-math"]),
    how="the same, cc -O3 -ffast-math",
    only=frozenset({"west"}),
)
