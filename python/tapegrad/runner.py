"""Runs micrograd programs unchanged: `tapegrad run`, the same for notebooks, and the hook behind both.

A program that runs here sees what `python` would show it: its own `__main__`, `sys.argv` and `sys.path[0]`, exit
codes, and tracebacks that begin at its own first frame. The one difference is that `micrograd` is always tapegrad's,
also where the published package is installed or a folder of that name lies beside the script, and in worker processes
of multiprocessing.
"""

from __future__ import annotations

import argparse
import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tapegrad.serving import FOLDER, is_serving, serve_micrograd, stop_serving_micrograd, take_modules

__all__ = ["main", "run", "run_module", "serve_micrograd", "stop_serving_micrograd"]

_OUR_FILES = (__file__, FOLDER + os.sep)


def run(script: str | os.PathLike[str], *args: str) -> dict[str, Any]:
    """Run a script with micrograd served by tapegrad and return its globals; for notebooks and other programs.

    Args:
        script: path of a Python file, or of a folder or zip file with a `__main__.py`.
        *args: the script's own arguments, its `sys.argv[1:]`.

    While it runs, `sys.argv`, `sys.path`, `sys.modules["__main__"]` and the import of micrograd are the script's; all
    are put back afterwards, so a `micrograd` that the caller imported before is still the same. A script that ends
    by `sys.exit()` or `sys.exit(0)` returns normally.

    Raises:
        OSError: the script cannot be read; FileNotFoundError if there is none.
        SystemExit: the script ended by `sys.exit` with a failure, or the folder has no `__main__.py`.
        BaseException: whatever else the script raised; below this call the traceback is the script's.
    """
    path = os.fspath(script) if isinstance(script, os.PathLike) else script
    if not isinstance(path, str):
        raise TypeError(f"script must be a str or a path, not {type(script).__name__}: {script!r}")
    return _run_and_restore([path, *args], _script_runner(path))


def run_module(module: str, *args: str) -> dict[str, Any]:
    """Run a module as `python -m` does, with micrograd served by tapegrad, and return its globals; see `run`.

    Raises:
        SystemExit: there is no such module (the message says so), or it ended by `sys.exit` with a failure.
        BaseException: whatever else the module raised.
    """
    if not isinstance(module, str):
        raise TypeError(f"module must be a str, not {type(module).__name__}: {module!r}")
    return _run_and_restore(["-m", *args], _module_runner(module))


def _run_and_restore(argv: list[str], runner: Callable[[], None]) -> dict[str, Any]:
    _check_arguments(argv[1:])
    __tracebackhide__ = True  # IPython and pytest leave such frames out
    with _restored():
        serve_micrograd()
        sys.argv = argv
        namespace = _fresh_main()
        try:
            runner()
        except SystemExit as stop:
            if stop.code not in (None, 0):
                raise
        return namespace


def _check_arguments(args: Sequence[object]) -> None:
    for arg in args:
        if not isinstance(arg, str):
            raise TypeError(f"a script's arguments must be str, not {type(arg).__name__}: {arg!r}")


@contextmanager
def _restored() -> Iterator[None]:
    """Put back what a run changes: arguments, search path, `__main__`, the hook and the micrograd modules."""
    argv, path, main = sys.argv, sys.path[:], sys.modules.get("__main__")
    served = is_serving()
    modules = {} if served else take_modules()
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
        if main is not None:
            sys.modules["__main__"] = main
        if not served:
            stop_serving_micrograd()
            sys.modules.update(modules)


def _fresh_main() -> dict[str, Any]:
    """Put an empty `__main__` module in place, with the names that `python` gives it, and return its namespace."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __annotations__={}, __cached__=None)
    sys.modules["__main__"] = main
    return main.__dict__


def _script_runner(path: str) -> Callable[[], None]:
    """Return a function that runs the script at `path` in the current `__main__`.

    Raises:
        OSError: the file cannot be read.
    """
    if path == "-":
        return lambda: _execute(sys.stdin.buffer.read(), "<stdin>", "", importlib.machinery.BuiltinImporter)
    absolute = os.getcwd() if path in ("", ".") else os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(absolute) is not None and os.path.exists(absolute):
        return lambda: _run_as_main("__main__", absolute, alter_argv=False)
    with io.open_code(absolute) as file:
        source = file.read()
    loader = importlib.machinery.SourceFileLoader("__main__", absolute)
    return lambda: _execute(source, absolute, os.path.dirname(os.path.realpath(path)), loader)


def _module_runner(module: str) -> Callable[[], None]:
    """Return a function that runs `module` in the current `__main__` as `python -m` does."""
    return lambda: _run_as_main(module, os.getcwd(), alter_argv=True)


def _execute(source: bytes, filename: str, folder: str, loader: object) -> None:
    namespace = sys.modules["__main__"].__dict__
    namespace.update(__file__=filename, __loader__=loader)
    if not sys.flags.safe_path:
        sys.path.insert(0, folder)
    exec(compile(source, filename, "exec", dont_inherit=True), namespace)


def _run_as_main(module: str, folder: str, *, alter_argv: bool) -> None:
    if not sys.flags.safe_path or not alter_argv:
        sys.path.insert(0, folder)
    # The interpreter itself calls this function for `-m`, folders and zip files: its messages and frames are then
    # python's.
    runpy._run_module_as_main(module, alter_argv)  # type: ignore[attr-defined]


def _parser() -> argparse.ArgumentParser:
    """The parser that prints the help. It does not parse: argparse drops a `--` that is the program's own."""
    parser = argparse.ArgumentParser(
        usage="tapegrad run [-h] (SCRIPT | -m MODULE) [ARGS ...]",
        description="Run a Python script, module, folder or zip file as `python` would, with `import micrograd` served "
        "by tapegrad. Everything after SCRIPT or MODULE goes to the program, options too.",
    )
    parser.add_argument("-m", metavar="MODULE", help="run a module, as python -m")
    parser.add_argument("script", metavar="SCRIPT", help="the program; - for standard input")
    parser.add_argument("args", metavar="ARGS", nargs="*", help="the program's own arguments")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run `tapegrad run` with the arguments after `run`; returns the exit code, or leaves by the program's own
    exception.

    An exception of the program propagates to the interpreter, which prints it by `sys.excepthook` without our frames
    and sets the exit code as it does for `python`: 1, what `sys.exit` was given, or the interrupt signal. The
    process belongs to the program from here on; nothing is put back.
    """
    args = list(argv)
    if not args or args[0] in ("-h", "--help"):
        parser = _parser()
        print(parser.format_help() if args else parser.format_usage(), end="", file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] == "-m" and len(args) == 1:
        print("tapegrad run: -m expects the name of a module", file=sys.stderr)
        return 2
    if args[0] == "-m":
        args, runner = ["-m", *args[2:]], _module_runner(args[1])
    elif args[0].startswith("-") and args[0] != "-":
        print(f"tapegrad run: unknown option {args[0]!r} before the script; see tapegrad run --help", file=sys.stderr)
        return 2
    else:
        try:
            runner = _script_runner(args[0])
        except OSError as error:
            where = os.path.join(os.getcwd(), args[0])
            print(f"tapegrad run: can't open file {where!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
            return 2
    if not sys.flags.safe_path and sys.path:
        del sys.path[0]  # the place of the `tapegrad` command; the script's own comes instead
    serve_micrograd()
    sys.argv = args
    _fresh_main()
    try:
        runner()
    except BaseException as error:
        _hide_frames(error)
        raise
    return 0


def _hide_frames(error: BaseException) -> None:
    """Make the interpreter report `error` by the current `sys.excepthook`, without frames of ours."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OUR_FILES):
            frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        frame.tb_next = trace
        trace = frame
    hook = sys.excepthook

    def report(kind: type[BaseException], value: BaseException, _: types.TracebackType | None) -> None:
        sys.last_traceback = trace
        hook(kind, value.with_traceback(trace), trace)

    sys.excepthook = report
