"""Breaks compiled functions on purpose, one place at a time, and sees a test fail each time.

    python tests/mutation/compiled.py [--only WORD] [--keep FOLDER]

Works on a copy of the sources, which it builds and tests with the Python it runs under: that needs cmake, ninja,
pybind11 and what the tests need; ccache is used if it is there. Takes about half an hour, of which ``--only loops``,
the mutations of loops.py, takes the larger part. Exit code 1 if a mutant survived or a mutation no longer fits the
source.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import loops

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("test_compile_random", "test_compile", "test_vmap", "test_compile_guards", "test_compile_looks")
TESTS += ("test_compile_environment", "test_compile_saving")
LOOP_TESTS = ("core/test_repeats", "core/test_layers", "test_repeats", "test_layers_compiled")


class Mutation(NamedTuple):
    """In `file`, the first `old` becomes `new`. One of `tests` has to fail: programs of the core's tests and files of
    pytest's."""

    file: str
    what: str
    old: str
    new: str
    tests: tuple[str, ...] = TESTS
    group: str = "passes"


PASSES = "csrc/core/program/passes/"
MUTATIONS = [
    Mutation(PASSES + "cheap_powers.cpp", "x**2 is 2 x", "{Code::mul, i.a, i.a}", "{Code::add, i.a, i.a}"),
    Mutation(PASSES + "cheap_powers.cpp", "x**-1 is x", "{Code::div, one, i.a}", "{Code::div, i.a, one}"),
    Mutation(PASSES + "cheap_powers.cpp", "x**0.5 is relu", "{Code::sqrt, i.a}", "{Code::relu, i.a}"),
    Mutation(PASSES + "cheap_powers.cpp", "powers replaced where bits count", "if (exact) return 0;", ""),
    Mutation(
        PASSES + "constant_folding.cpp",
        "parameters folded",
        "p.code[operand].code == Code::constant",
        "(p.code[operand].code == Code::constant || p.code[operand].code == Code::param)",
    ),
    Mutation(PASSES + "constant_folding.cpp", "another number", "0, 0, 0, values[n]}", "0, 0, 0, values[n] + 1}"),
    Mutation(
        PASSES + "common_subexpressions.cpp",
        "second operand overlooked",
        "key.second = number_of(i.b);",
        "key.second = 0;",
    ),
    Mutation(
        PASSES + "common_subexpressions.cpp",
        "else-branch overlooked",
        "if (i.code == Code::select) key.third = number_of(i.c);",
        "",
    ),
    Mutation(
        PASSES + "common_subexpressions.cpp",
        "every operation commutes",
        "if ((i.code == Code::add || i.code == Code::mul) && key.first",
        "if (i.code != Code::select && i.code != Code::powc && key.second && key.first",
    ),
    Mutation(
        PASSES + "common_subexpressions.cpp",
        "detached values are their like",
        "return exact ? draft.same[operand] : operand;",
        "return draft.same[operand];",
    ),
    Mutation(PASSES + "common_subexpressions.cpp", "all constants are one", "i.a, i.b, bits}", "i.a, i.b, 0}"),
    Mutation(
        PASSES + "common_subexpressions.cpp",
        "results left behind",
        "for (std::uint32_t& o : p.outputs) o = replaced[o];",
        "",
    ),
    Mutation(PASSES + "sum_chains.cpp", "shared links merged", "uses[n] == 1", "uses[n] >= 1"),
    Mutation(
        PASSES + "sum_chains.cpp",
        "chains not cut where bits count",
        "if (exact && (next_a[inner] < n || next_b[inner] < n)) break;",
        "",
    ),
    Mutation(PASSES + "sum_chains.cpp", "terms in reverse", "std::reverse(terms.begin(), terms.end());", ""),
    Mutation(PASSES + "dead_code.cpp", "guards dropped", "for (const Guard& g : p.guards) place[g.value] = 1;", ""),
    Mutation(PASSES + "dead_code.cpp", "first of equal values dropped", "place[draft.same[n]] = 1;", ""),
    Mutation(
        PASSES + "dead_code.cpp", "results not renumbered", "for (std::uint32_t& o : p.outputs) o = place[o];", ""
    ),
    Mutation(
        PASSES + "uniform.cpp",
        "what varies taken for uniform",
        "any = any || varies[operand];",
        "any = any && varies[operand];",
    ),
    Mutation(
        PASSES + "uniform.cpp",
        "inputs not renumbered",
        "if (i.code == Code::input) i.a = place_of_input[i.a];",
        "",
    ),
    Mutation(
        "csrc/python/compiled/program_lanes.cpp",
        "uniform gradients doubled",
        "m[v.uniform.seed] = 1.0;",
        "m[v.uniform.seed] = 2.0;",
    ),
    Mutation(
        "csrc/core/replay/lower.cpp",
        "first writer adds to what was there",
        "written_[operand] ||\n        !how_.first_writer_stores)",
        "true)",
    ),
    Mutation("csrc/core/program/record.cpp", "Python rules ignored", "if (n->flags & kHasRule)", "if (false)"),
    Mutation(
        "csrc/core/program/record.cpp",
        "whole results where exponents vary",
        "} else if (n->op == Op::pow) {\n      all = false;",
        "} else if (false) {",
    ),
    Mutation(
        "csrc/core/program/record.cpp", "held leaves are constants", "is_new(n) : !n->handle", "is_new(n) : is_new(n)"
    ),
    Mutation("csrc/core/program/program.cpp", "-0 is 0", " && std::signbit(x) == std::signbit(expected)", ""),
    Mutation(
        "csrc/core/program/program.cpp", "truth guards hold", "return (x != 0) == (expected != 0);", "return true;"
    ),
    Mutation("csrc/core/program/program.cpp", "whole guards hold", "return std::trunc(x) == expected;", "return true;"),
    Mutation(
        "csrc/core/program/program.cpp",
        "values used before they are there",
        "if (i >= limit) fail(",
        "if (false) fail(",
    ),
    Mutation(
        "csrc/python/compiled/environment.cpp",
        "cells never change",
        "return same(PyCell_GET(holder), item(2));",
        "return true;",
    ),
    Mutation(
        "csrc/python/compiled/environment.cpp",
        "lists never change",
        "if (!same(now[i], PyTuple_GET_ITEM(then, i))) return false;",
        "",
    ),
    Mutation(
        "csrc/python/compiled/environment.cpp",
        "names never change",
        "if (!same(now, PyTuple_GET_ITEM(values, i))) return false;",
        "",
    ),
    Mutation("csrc/python/compiled/environment.cpp", "arrays keep their shape", "equal && k < now.ndim", "false"),
    Mutation(
        "csrc/python/compiled/environment.cpp", "Values stay bare", "->dict) return false;", "->dict) return true;"
    ),
    Mutation(
        "csrc/python/compiled/environment.cpp",
        "classes never change",
        "const bool yes = equal == Py_True;",
        "const bool yes = equal != nullptr;",
    ),
    Mutation(
        "csrc/python/arrays/array_ufunc.cpp", "comparisons by NumPy unseen", "(single && !compares(args[0]))", "single"
    ),
    Mutation("python/tapegrad/compiled/environment.py", "drawing unseen", "if draws.changed()", "if False"),
    Mutation("python/tapegrad/compiled/environment.py", "defaults not followed", "f.__defaults__ or (),", "(),"),
    Mutation(
        "python/tapegrad/compiled/traced.py",
        "formatting unseen",
        "return format(self._exact(), spec)",
        "return format(self._plain(), spec)",
    ),
    Mutation(
        "python/tapegrad/compiled/traced.py", "gradients through .data", "_core.detach(self._value)\n", "self._value\n"
    ),
    Mutation("python/tapegrad/compiled/recordings.py", "no bound", 'count >= self.options["max_recordings"]', "False"),
    Mutation(
        "python/tapegrad/compiled/storage.py",
        "checksums not compared",
        "hexdigest() != checksum.strip()",
        "hexdigest() == 0",
    ),
]


MUTATIONS += [Mutation(*row, tests=LOOP_TESTS, group="loops") for row in loops.ROWS]


class Workshop:
    """A copy of the project with a build of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        if not self.source.exists():
            keep = shutil.ignore_patterns("*.so", "__pycache__", ".git")
            for part in ("csrc", "python", "tests"):
                shutil.copytree(ROOT / part, self.source / part, ignore=keep)
            for part in ("CMakeLists.txt", "pyproject.toml", "README.md"):
                shutil.copy(ROOT / part, self.source / part)

    def build(self, tests: tuple[str, ...]) -> bool:
        """Builds the module and those of the core's tests that are among `tests`."""
        build = self.folder / "build"
        if not (build / "build.ninja").exists():
            import pybind11

            subprocess.run(
                [
                    *("cmake", "-G", "Ninja", "-S", self.source, "-B", build, "-DTAPEGRAD_PYTHON=ON"),
                    *(["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []),
                    "-DTAPEGRAD_TESTS=ON",
                    f"-DPython_EXECUTABLE={sys.executable}",
                    f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                    f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={build / 'out'}",
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        targets = ["_core", *(name.removeprefix("core/") for name in tests if name.startswith("core/"))]
        done = subprocess.run(["ninja", "-C", build, "-j2", *targets], stdout=subprocess.PIPE, text=True)
        module = "_core" + sysconfig.get_config_var("EXT_SUFFIX")
        if done.returncode == 0:
            shutil.copy(build / "out" / module, self.source / "python" / "tapegrad" / module)
        return done.returncode == 0

    def failing_test(self, tests: tuple[str, ...]) -> str:
        """The first test that fails, or an empty string."""
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        for name in tests:
            core = name.startswith("core/")
            try:
                done = subprocess.run(
                    [str(self.folder / "build" / "tests" / name)] if core else [*pytest, f"tests/{name}.py"],
                    cwd=self.source,
                    env={**os.environ, "PYTHONPATH": str(self.source / "python")},
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
            except subprocess.TimeoutExpired:
                return f"{name} (does not end)"
            if done.returncode:
                found = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
                return found[0].removeprefix("FAILED ") if found else f"{name} (exit code {done.returncode})"
        return ""

    def try_out(self, mutation: Mutation) -> str:
        """What the tests say of the mutation: which one fails, or why it could not be tried."""
        path = self.source / mutation.file
        original = path.read_text(encoding="utf-8")
        if mutation.old not in original:
            return "!! no longer fits the source"
        try:
            path.write_text(original.replace(mutation.old, mutation.new, 1), encoding="utf-8")
            if path.suffix != ".py" and not self.build(mutation.tests):
                return "!! does not compile"
            return self.failing_test(mutation.tests) or "!! SURVIVED"
        finally:
            path.write_text(original, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose file, group or description contains this")
    parser.add_argument("--keep", type=Path, help="a folder for sources and build, to be used again")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if any(options.only in text for text in (m.file, m.group, m.what))]
    tests = tuple(dict.fromkeys(itertools.chain.from_iterable(m.tests for m in chosen)))
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(options.keep or Path(scratch))
        if not workshop.build(tests) or workshop.failing_test(tests):
            print("the tests fail before anything is broken")
            return 1
        for mutation in chosen:
            start = time.monotonic()
            outcome = workshop.try_out(mutation)
            bad += outcome.startswith("!!")
            seconds = time.monotonic() - start
            print(f"{mutation.file}: {mutation.what}: {outcome[:100]} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen)} mutations, {bad} not caught")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
