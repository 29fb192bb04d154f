"""Where mutants are tried out: a copy of the project with a build of its own. A mutant never meets what an earlier one
left: each build starts from sources of which one is changed, and Python keeps no bytecode."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("csrc", "python", "tests", "CMakeLists.txt", "pyproject.toml", "README.md")


class Mutation(NamedTuple):
    """In `file`, the first `old` becomes `new`. One of `tests` has to fail: programs of the core's tests and files of
    pytest's."""

    file: str
    what: str
    old: str
    new: str
    tests: tuple[str, ...]
    group: str


class Workshop:
    """A copy of the project with a build of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.module = self.source / "python" / "tapegrad" / ("_core" + sysconfig.get_config_var("EXT_SUFFIX"))
        self.refresh()

    def refresh(self) -> None:
        """Makes the copy equal to the project. Files that are equal keep their times, so that a build that is there
        already compiles the others only."""
        wanted = set()
        for part in PARTS:
            for path in [ROOT / part, *sorted((ROOT / part).rglob("*"))]:
                if path.is_dir() or path.suffix == ".so" or "__pycache__" in path.parts:
                    continue
                copy = self.source / path.relative_to(ROOT)
                wanted.add(copy)
                if not (copy.exists() and filecmp.cmp(path, copy, shallow=False)):
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
        for path in self.source.rglob("*"):
            if path.is_file() and path not in wanted:
                path.unlink()

    def build(self, tests: tuple[str, ...]) -> bool:
        """Builds what `tests` are run with: programs of the core's tests, and for files of pytest's the module. Where
        it does not compile no module is left."""
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
        targets = [name.removeprefix("core/") for name in tests if name.startswith("core/")]
        with_module = len(targets) < len(tests)
        self.module.unlink(missing_ok=True)
        command = ["ninja", "-C", str(build), "-j2", *(["_core"] if with_module else []), *targets]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode == 0 and with_module:
            shutil.copy(build / "out" / self.module.name, self.module)
        return done.returncode == 0

    def environment(self) -> dict[str, str]:
        """Of the tests. A file that is put back may have the size and, in seconds, the time of its mutant, which is
        all that bytecode is compared by."""
        return {**os.environ, "PYTHONPATH": str(self.source / "python"), "PYTHONDONTWRITEBYTECODE": "1"}

    def is_imported(self) -> bool:
        """Whether tests import the package of this copy: one that is installed may hide it."""
        found = subprocess.run(
            [sys.executable, "-c", "import tapegrad._core as c; print(c.__file__)"],
            cwd=self.source,
            env=self.environment(),
            capture_output=True,
            text=True,
        )
        return found.returncode == 0 and Path(found.stdout.strip()).resolve() == self.module.resolve()

    def failing_test(self, tests: tuple[str, ...]) -> str:
        """The first test that fails, or an empty string."""
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        for name in tests:
            core = name.startswith("core/")
            try:
                done = subprocess.run(
                    [str(self.folder / "build" / "tests" / name)] if core else [*pytest, f"tests/{name}.py"],
                    cwd=self.source,
                    env=self.environment(),
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
            except subprocess.TimeoutExpired:
                return f"{name} (does not end)"
            if done.returncode:
                found = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
                found += [line for line in done.stderr.splitlines() if "CHECK" in line or " is " in line]
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
            # Python files need it as well: what is built may be the mutant before.
            if not self.build(mutation.tests):
                return "!! does not compile"
            return self.failing_test(mutation.tests) or "!! SURVIVED"
        finally:
            path.write_text(original, encoding="utf-8")
