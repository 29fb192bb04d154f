"""`tapegrad run` against `python` itself: a program prints, sees and ends the same under both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tapegrad import runner, serving

RUN = [sys.executable, "-m", "tapegrad", "run"]


def shell(command: Sequence[str], cwd: Path, stdin: str | None = None) -> tuple[str, str, int]:
    """Run a command and return what it printed on both streams and its exit code."""
    done = subprocess.run(command, cwd=cwd, input=stdin or "", capture_output=True, encoding="utf-8", timeout=120)
    return done.stdout, done.stderr, done.returncode


def both(args: Sequence[str], cwd: Path, stdin: str | None = None) -> tuple[tuple[str, str, int], tuple[str, str, int]]:
    """Run the same program by `python` and by `tapegrad run`."""
    return shell([sys.executable, *args], cwd, stdin), shell([*RUN, *args], cwd, stdin)


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


# Programs that must look the same from outside: name -> (source, arguments, standard input).
PROGRAMS: dict[str, tuple[str, list[str], str]] = {
    "names": (
        """
        import sys, types
        print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__, __doc__)
        print(sorted(globals()), type(__builtins__), type(__loader__).__name__, __loader__.name)
        print(sys.modules["__main__"].__dict__ is globals(), isinstance(sys.modules["__main__"], types.ModuleType))
        """,
        ["a", "--help", "-m", "--", "b c", ""],
        "",
    ),
    "docstring": ('"""Says what it is."""\nprint(__doc__)\n', [], ""),
    "argparse": (
        """
        import argparse
        parser = argparse.ArgumentParser(description="a program with options of its own")
        parser.add_argument("--steps", type=int, default=3)
        print(parser.parse_args().steps)
        """,
        ["--help"],
        "",
    ),
    "argparse error": ("import argparse; argparse.ArgumentParser().parse_args()", ["--nope"], ""),
    "uncaught": (
        """
        def inner(x):
            return 1 / x

        def outer():
            return inner(0)

        print("before")
        outer()
        """,
        [],
        "",
    ),
    "chained": (
        """
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("no such key") from error
        """,
        [],
        "",
    ),
    "context": ("try:\n    [][0]\nexcept IndexError:\n    None + 1\n", [], ""),
    "group with a note": (
        """
        error = ExceptionGroup("several", [ValueError("one"), TypeError("two")])
        error.add_note("seen while training")
        raise error
        """,
        [],
        "",
    ),
    "long text in exception": ("raise RuntimeError('line one\\nline two: \\u03bb')", [], ""),
    "syntax error": ("print('not reached')\ndef f(:\n    pass\n", [], ""),
    "indentation error": ("if True:\nprint(1)\n", [], ""),
    "tab error": ("if True:\n        x = 1\n\ty = 2\n", [], ""),
    "missing module": ("import no_such_module_anywhere\n", [], ""),
    "syntax error in import": (
        "import pathlib, sys\n"
        "pathlib.Path(sys.path[0], 'broken.py').write_text('x = = 1')\n"
        "sys.dont_write_bytecode = True\nimport broken\n",
        [],
        "",
    ),
    "exit none": ("import sys; print(1); sys.exit()", [], ""),
    "exit number": ("import sys; sys.exit(3)", [], ""),
    "exit zero": ("import sys; sys.exit(0)", [], ""),
    "exit large": ("import sys; sys.exit(256 + 7)", [], ""),
    "exit negative": ("import sys; sys.exit(-1)", [], ""),
    "exit text": ("import sys; sys.exit('gave up')", [], ""),
    "exit bool": ("import sys; sys.exit(True)", [], ""),
    "exit tuple": ("raise SystemExit((1, 2))", [], ""),
    "exit builtin": ("exit(4)", [], ""),
    "exit from finally": ("import sys\ntry:\n    1 / 0\nfinally:\n    sys.exit(5)\n", [], ""),
    "exit at once": ("import os; os._exit(9)", [], ""),
    "exit in except": ("import sys\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    sys.exit('bad')\n", [], ""),
    "abort": ("import os; os.abort()", [], ""),
    "keyboard interrupt": ("print('x', flush=True)\nraise KeyboardInterrupt", [], ""),
    "interrupt signal": (
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(10)\n",
        [],
        "",
    ),
    "caught interrupt": (
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(10)\n"
        "except KeyboardInterrupt:\n    print('kept')\n",
        [],
        "",
    ),
    "own excepthook": (
        """
        import sys, traceback

        def hook(kind, value, trace):
            frames = traceback.extract_tb(trace)
            print("hook", kind.__name__, value, [f.name for f in frames], frames[0].lineno)

        sys.excepthook = hook

        def fail():
            raise LookupError("gone")

        fail()
        """,
        [],
        "",
    ),
    "last traceback at exit": (
        """
        import atexit, sys, traceback

        atexit.register(lambda: print(sys.last_type, [f.name for f in traceback.extract_tb(sys.last_traceback)]))

        def fail():
            raise LookupError("gone")

        fail()
        """,
        [],
        "",
    ),
    "atexit": (
        "import atexit\natexit.register(print, 'last')\nvalue = 5\natexit.register(lambda: print(value))\n1 / 0\n",
        [],
        "",
    ),
    "pickle": (
        """
        import pickle
        from dataclasses import dataclass

        @dataclass
        class Config:
            lr: float = 0.1

        def f():
            return 7

        again = pickle.loads(pickle.dumps((Config(0.5), f)))
        print(again[0], again[1](), Config.__module__, type(again[0]) is Config)
        """,
        [],
        "",
    ),
    "thread outlives main": (
        """
        import pickle, threading, time

        class Late:
            pass

        def work():
            time.sleep(0.2)
            print(type(pickle.loads(pickle.dumps(Late()))).__name__, __name__)
            raise ValueError("in a thread")

        thread = threading.Thread(target=work, name="worker")
        threading.excepthook = lambda args: print(args.exc_type.__name__, args.exc_value)
        thread.start()
        """,
        [],
        "",
    ),
    "type hints": (
        """
        import typing

        class Node:
            def child(self) -> "Node": ...

        print(typing.get_type_hints(Node.child)["return"] is Node)

        def later(x: print("evaluated")): ...
        """,
        [],
        "",
    ),
    "getsource": ("import inspect\n\ndef f():\n    return 1  # kept\n\nprint(inspect.getsource(f))\n", [], ""),
    "warnings": (
        "import warnings\nwarnings.warn('old', DeprecationWarning)\nwarnings.warn('note')\n",
        [],
        "",
    ),
    "reads input": ("name = input('name? ')\nprint(f'hello {name}')\nprint(input())\n", [], "emma\nolivia\n"),
    "input ends": ("input()\n", [], ""),
    "unicode": ("λ = 'ναί'\nprint(λ, 'ß')\n", [], ""),
    "annotations": ("x: int = 3\nprint(__annotations__)\n", [], ""),
    "globals after main": (
        "def main():\n    global done\n    done = True\nif __name__ == '__main__':\n    main()\nprint(done)\n",
        [],
        "",
    ),
    "name error": ("print(undefind)\n", [], ""),
    "assertion": ("assert 1 == 2, 'no'\n", [], ""),
    "print to closed": ("import sys\nsys.stdout.write('partial')\nsys.stderr.write('err')\n", [], ""),
    "async": ("import asyncio\n\nasync def f():\n    raise OSError('inside')\n\nasyncio.run(f())\n", [], ""),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_script_looks_the_same_under_both(name: str, tmp_path: Path) -> None:
    source, args, stdin = PROGRAMS[name]
    write(tmp_path / "program.py", source)
    expected, ours = both(["program.py", *args], tmp_path, stdin)
    assert ours == expected


def test_errors_raised_by_the_engine_show_only_the_scripts_frames(tmp_path: Path) -> None:
    for statement in (
        "Value(2.0) + 'x'",
        "Neuron(1)(['x'])",
        "Layer(1, 2)(['x'])",
        "MLP(1, [2, 1])(['x'])",
        "MLP(1, [1])(5)",
    ):
        write(
            tmp_path / "program.py",
            f"from micrograd.engine import Value\nfrom micrograd.nn import *\n\n"
            f"def main():\n    {statement}\n\nmain()\n",
        )
        stdout, stderr, code = shell([*RUN, "program.py"], tmp_path)
        assert (stdout, code) == ("", 1)
        frames = [line for line in stderr.splitlines() if line.startswith("  File ")]
        place = f'  File "{tmp_path / "program.py"}", line '
        assert frames == [place + "7, in <module>", place + "5, in main"], statement
        assert stderr.splitlines()[-1].startswith("TypeError: ")


@pytest.mark.parametrize(
    "spelling", ["program.py", "./program.py", "sub/../program.py", "{folder}/program.py", "link.py"]
)
def test_the_way_a_path_is_spelt_shows_as_in_python(spelling: str, tmp_path: Path) -> None:
    write(tmp_path / "real" / "program.py", "import sys\nprint(sys.argv, sys.path[0], __file__)\n1 / 0\n")
    (tmp_path / "real" / "sub").mkdir()
    (tmp_path / "real" / "link.py").symlink_to(tmp_path / "real" / "program.py")
    folder = tmp_path / "real"
    expected, ours = both([spelling.format(folder=folder)], folder)
    assert ours == expected
    assert expected[2] == 1


def test_a_link_from_another_folder_finds_the_scripts_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "real" / "program.py", "import neighbour\n")
    write(tmp_path / "real" / "neighbour.py", "print('here', __name__)\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.py").symlink_to(tmp_path / "real" / "program.py")
    expected, ours = both(["link.py"], tmp_path / "elsewhere")
    assert ours == expected == ("here neighbour\n", "", 0)


@pytest.mark.parametrize(
    "content",
    [
        b"# -*- coding: latin-1 -*-\nprint('caf\xe9', len('\xe9'))\n",
        b"\xef\xbb\xbfprint('byte order mark')\n",
        b"print('carriage')\r\nprint('returns')\r\n",
        b"print('no newline at the end')",
        b"",
        b"\n\n# only a comment",
        b"#!/usr/bin/env python\nprint('a first line for the shell')\n",
    ],
)
def test_source_text_is_decoded_as_python_decodes_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_bytes(content)
    expected, ours = both(["program.py"], tmp_path)
    assert ours == expected
    assert expected[2] == 0


@pytest.mark.parametrize("content", [b"x = 1\0\n", b"x = '\xff'\n", b"# coding: no-such-codec\n"])
def test_undecodable_source_is_a_syntax_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_bytes(content)
    expected, ours = both(["program.py"], tmp_path)
    assert (ours[0], ours[2]) == (expected[0], expected[2]) == ("", 1)
    assert "SyntaxError" in expected[1]
    assert "SyntaxError" in ours[1]
    assert "runner.py" not in ours[1]


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nprint(sys.argv, repr(sys.path[0]), __name__, __file__, sorted(globals()), __loader__)\n",
        "def f():\n    raise ValueError('from standard input')\nf()\n",
        "x = (\n",
        "print(input())\n",
        "import sys; sys.exit(6)\n",
        "",
    ],
)
def test_standard_input_as_the_script(source: str, tmp_path: Path) -> None:
    expected, ours = both(["-", "x", "--help"], tmp_path, source)
    assert ours == expected


def test_modules_run_as_by_python_m(tmp_path: Path) -> None:
    show = "import sys\nprint(sys.argv, sys.path[0], __name__, __package__, __spec__.name, __file__)\n"
    write(tmp_path / "single.py", show)
    write(tmp_path / "package" / "__init__.py", "print('package', __name__)\n")
    write(tmp_path / "package" / "__main__.py", show + "from . import part\n")
    write(
        tmp_path / "package" / "part.py", show.replace("__spec__.name, ", "") + "from .deep import word\nprint(word)\n"
    )
    write(tmp_path / "package" / "deep.py", "word = 'relative'\n")
    write(tmp_path / "fails.py", "def f():\n    1 / 0\nf()\n")
    write(tmp_path / "leaves.py", "raise SystemExit('leaving')\n")
    write(tmp_path / "empty" / "__init__.py", "")
    write(tmp_path / "bad.py", "x = = 1\n")
    for args in (
        ["single", "--help", "-m", "x"],
        ["package"],
        ["package.part", "1"],
        ["package.deep"],
        ["fails"],
        ["leaves"],
        ["empty"],
        ["no_such_module"],
        ["package.no_such_module"],
        ["single.py"],
        ["bad"],
    ):
        expected, ours = both(["-B", "-m", *args], tmp_path)[0], shell([*RUN, "-m", *args], tmp_path)
        assert ours == expected, args


def test_a_folder_and_a_zip_file_run_by_their_main(tmp_path: Path) -> None:
    body = "import sys, helper\nprint(sys.argv, sys.path[0], __name__, __spec__ is None)\nhelper.fail()\n"
    help_text = "def fail():\n    raise ValueError('in a helper')\n"
    write(tmp_path / "app" / "__main__.py", body)
    write(tmp_path / "app" / "helper.py", help_text)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", body)
        archive.writestr("helper.py", help_text)
    (tmp_path / "hollow").mkdir()
    for target in ("app", "app.zip", "hollow", "."):
        expected, ours = both([target, "1"], tmp_path)
        assert ours == expected
        assert expected[2] == 1


def test_a_missing_or_unreadable_script_is_reported_as_python_reports_it(tmp_path: Path) -> None:
    expected, ours = both(["nowhere.py"], tmp_path)
    assert ours == ("", expected[1].replace(sys.executable, "tapegrad run"), 2)
    assert expected[2] == 2
    stdout, stderr, code = shell([*RUN, "missing/folder/x.py"], tmp_path)
    assert (stdout, code) == ("", 2)
    assert str(tmp_path / "missing/folder/x.py") in stderr


def test_wrong_use_of_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    stdout, stderr, code = shell(RUN, tmp_path)
    assert (stdout, code) == ("", 2)
    assert stderr.startswith("usage: tapegrad run ")
    stdout, stderr, code = shell([*RUN, "-m"], tmp_path)
    assert (stdout, code) == ("", 2)
    assert "name of a module" in stderr
    stdout, stderr, code = shell([*RUN, "--fast", "x.py"], tmp_path)
    assert (stdout, code) == ("", 2)
    assert "'--fast'" in stderr
    stdout, stderr, code = shell([*RUN, "--help"], tmp_path)
    assert (stderr, code) == ("", 0)
    assert "usage: tapegrad run " in stdout


SERVED = """
import micrograd
import micrograd.engine
import micrograd.nn as nn
from micrograd import engine, nn as again
from micrograd.engine import Value
from micrograd.nn import MLP, Layer, Module, Neuron
import importlib, sys
import tapegrad

assert again is nn and engine is sys.modules["micrograd.engine"] is importlib.import_module("micrograd.engine")
assert issubclass(Value, tapegrad.Value) and nn.Value is Value
assert Value.__module__ == "micrograd.engine" and repr(Value) == "<class 'micrograd.engine.Value'>"
assert issubclass(MLP, Module) and MLP.__module__ == "micrograd.nn"
assert type(MLP(2, [3, 1])([1.0, 2.0])) is Value
print(micrograd.__file__)
"""


def test_every_way_to_import_micrograd_is_served(tmp_path: Path) -> None:
    write(tmp_path / "program.py", SERVED)
    stdout, stderr, code = shell([*RUN, "program.py"], tmp_path)
    assert (stderr, code) == ("", 0)
    assert Path(stdout.strip()) == Path(runner.__file__).parent / "micrograd" / "__init__.py"


def test_a_micrograd_folder_beside_the_script_gives_way_but_lends_its_extra_modules(tmp_path: Path) -> None:
    write(tmp_path / "micrograd" / "__init__.py", "raise ImportError('the folder itself was imported')\n")
    write(tmp_path / "micrograd" / "engine.py", "class Value: pass\n")
    write(
        tmp_path / "micrograd" / "optim.py",
        """
        from micrograd.engine import Value

        class SGD:
            def __init__(self, parameters): self.parameters = parameters
            def step(self):
                for p in self.parameters: p.data -= 0.5 * p.grad
        """,
    )
    write(
        tmp_path / "program.py",
        SERVED + "from micrograd.optim import SGD\nw = Value(3.0)\n(w * w).backward()\nSGD([w]).step()\nprint(w)\n",
    )
    stdout, stderr, code = shell([*RUN, "program.py"], tmp_path)
    assert (stderr, code) == ("", 0)
    assert stdout.splitlines()[1:] == ["Value(data=0.0, grad=6.0)"]


def test_the_finder_needs_no_published_package(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = serving.MicrogradFinder()
    monkeypatch.setattr(sys, "path", [])
    spec = finder.find_spec("micrograd", None)
    assert spec is not None
    assert spec.submodule_search_locations == [serving.FOLDER]
    assert finder.find_spec("micrograds", None) is finder.find_spec("numpy", None) is None


def test_a_single_file_of_that_name_is_another_module_and_stays(tmp_path: Path) -> None:
    write(tmp_path / "micrograd.py", "class Value:\n    pass\n")
    write(tmp_path / "program.py", "from micrograd import Value\nprint(Value.__module__)\n")
    expected, ours = both(["program.py"], tmp_path)
    assert ours == expected == ("micrograd\n", "", 0)


def test_a_test_suite_runs_on_tapegrad_by_python_m_pytest(tmp_path: Path) -> None:
    write(
        tmp_path / "test_engine.py",
        """
        import tapegrad
        from micrograd.engine import Value

        def test_product():
            a, b = Value(-4.0), Value(2.0)
            (a * b + b).backward()
            assert (a.grad, b.grad) == (2.0, -3.0)

        def test_engine():
            assert issubclass(Value, tapegrad.Value)
        """,
    )
    stdout, _, code = shell([*RUN, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_engine.py"], tmp_path)
    assert code == 0, stdout
    assert "2 passed" in stdout


WORKERS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import micrograd.engine
from micrograd.engine import Value

class Job:
    def __init__(self, x):
        self.x = x

def work(job):
    x = Value(job.x)
    (x * x + x).backward()
    return type(job).__name__, __name__, x.grad, micrograd.__file__ == sys.argv[2], sys.argv[1:2]

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        print(pool.map(work, [Job(1.0), Job(2.5)]))
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        print(list(executor.map(work, [Job(3.0)])))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("way", [["program.py"], ["-m", "program"]])
def test_worker_processes_are_served_too(method: str, way: list[str], tmp_path: Path) -> None:
    write(tmp_path / "program.py", WORKERS)
    served = str(Path(runner.__file__).parent / "micrograd" / "__init__.py")
    stdout, stderr, code = shell([*RUN, *way, method, served], tmp_path)
    assert (stderr, code) == ("", 0)
    name = "__main__" if method == "fork" else "__mp_main__"
    rows = [("Job", name, 2 * x + 1, True, [method]) for x in (1.0, 2.5, 3.0)]
    assert stdout.splitlines() == [repr(rows[:2]), repr(rows[2:])]


# --- the same as a function
# -------------------------------------------------------------------------------------------------


def test_run_returns_the_globals_and_puts_everything_back(tmp_path: Path) -> None:
    script = write(
        tmp_path / "program.py",
        """
        import sys, pickle
        from micrograd.engine import Value

        class Kept:
            pass

        again = pickle.loads(pickle.dumps(Kept()))
        seen = sys.argv, sys.path[0], __name__, __file__
        x = Value(3.0)
        (x * x).backward()

        def gradient():
            return x.grad
        """,
    )
    import micrograd.engine

    before = sys.argv, sys.path[:], sys.modules["__main__"], sys.meta_path[:], micrograd.engine
    result = runner.run(script, "--steps", "5")
    import micrograd.engine as after

    assert (sys.argv, sys.path, sys.modules["__main__"], sys.meta_path, after) == before
    assert result["seen"] == ([str(script), "--steps", "5"], str(tmp_path), "__main__", str(script))
    assert type(result["again"]) is result["Kept"]
    assert result["gradient"]() == 6.0
    assert result["Value"].__module__ == "micrograd.engine"
    assert result["Value"] is not after.Value


def test_runs_do_not_see_each_others_patches(tmp_path: Path) -> None:
    script = write(
        tmp_path / "program.py",
        """
        import micrograd.engine, micrograd.nn
        from micrograd.engine import Value

        before = hasattr(Value, "cube"), "__mul__" in vars(Value), repr(Value(2) * 3), micrograd.nn.Neuron.__name__
        Value.cube = lambda self: self ** 3
        old = Value.__mul__
        Value.__mul__ = lambda self, other: old(old(self, other), 2)
        Value.__repr__ = lambda self: "patched"
        micrograd.nn.Neuron.__name__ = "Other"
        after = repr(Value(2) * 3), (Value(2) * 3).data, Value(2).cube().data
        """,
    )
    # More runs than a process has room for dialects.
    for _ in range(40):
        result = runner.run(script)
        assert result["before"] == (False, False, "Value(data=6, grad=0)", "Neuron")
        assert result["after"] == ("patched", 12, 8)


def test_run_from_a_relative_path_and_a_path_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "program.py", "import sys\nname = sys.argv[0]\n")
    monkeypatch.chdir(tmp_path)
    assert runner.run("program.py")["name"] == "program.py"
    assert runner.run(Path("program.py"))["name"] == "program.py"
    assert runner.run_module("program")["name"] == str(tmp_path / "program.py")


def test_run_treats_a_successful_exit_as_success(tmp_path: Path) -> None:
    script = write(
        tmp_path / "program.py", "import sys\nx = 1\nsys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else None)\n"
    )
    assert runner.run(script)["x"] == 1
    assert runner.run(script, "0")["x"] == 1
    with pytest.raises(SystemExit) as stop:
        runner.run(script, "3")
    assert stop.value.code == 3


def test_run_raises_what_the_script_raises_and_restores(tmp_path: Path) -> None:
    script = write(tmp_path / "program.py", "def f():\n    raise LookupError('gone')\nf()\n")
    before = sys.argv, sys.path[:], sys.modules["__main__"], sys.meta_path[:]
    with pytest.raises(LookupError, match="gone") as caught:
        runner.run(script)
    assert (sys.argv, sys.path, sys.modules["__main__"], sys.meta_path) == before
    assert [entry.name for entry in caught.traceback][-2:] == ["<module>", "f"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runner.run(tmp_path / "nowhere.py")
    with pytest.raises(SystemExit, match="No module named no_such_module"):
        runner.run_module("no_such_module")
    assert (sys.argv, sys.path, sys.modules["__main__"], sys.meta_path) == before


def test_run_inside_a_run(tmp_path: Path) -> None:
    write(tmp_path / "inner.py", "from micrograd.engine import Value\nname = __name__, __file__\n")
    outer = write(
        tmp_path / "outer.py",
        """
        import sys
        from micrograd.engine import Value
        from tapegrad.runner import run

        inner = run(sys.path[0] + "/inner.py")
        same = inner["Value"] is Value
        main = sys.modules["__main__"].__dict__ is globals()
        from micrograd.engine import Value as later
        """,
    )
    result = runner.run(outer)
    assert result["inner"]["name"] == ("__main__", str(tmp_path / "inner.py"))
    assert result["main"] is True
    assert result["later"] is result["Value"]


@pytest.mark.parametrize("bad", [3, None, b"bytes.py", ["a.py"]])
def test_run_names_a_wrong_argument(bad: object) -> None:
    with pytest.raises(TypeError, match=type(bad).__name__):
        runner.run(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=type(bad).__name__):
        runner.run_module(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"arguments must be str, not {type(bad).__name__}"):
        runner.run(os.devnull, bad)  # type: ignore[arg-type]


def test_serving_can_be_switched_on_and_off() -> None:
    code = """
import micrograd.engine
published = micrograd.engine
from tapegrad import runner, serving
runner.serve_micrograd()
runner.serve_micrograd()
import sys
assert sum(type(f).__name__ == 'MicrogradFinder' for f in sys.meta_path) == 1
import micrograd.engine
assert micrograd.engine is not published
runner.stop_serving_micrograd()
runner.stop_serving_micrograd()
import micrograd.engine
assert micrograd.engine.__file__ == published.__file__
from multiprocessing import spawn
assert "serve_micrograd" not in spawn.get_preparation_data("x")
"""
    assert shell([sys.executable, "-c", code], Path.cwd()) == ("", "", 0)


def test_an_interrupted_program_dies_of_the_signal(tmp_path: Path) -> None:
    write(tmp_path / "program.py", "import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [*RUN, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "runner.py" not in stderr
