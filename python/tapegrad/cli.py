"""The ``tapegrad`` command: finds the subcommand and hands it every argument that follows, untouched."""

import argparse
import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence

# Command: the module whose main(argv) runs it, and what it does. A module is imported only when its command is given.
COMMANDS = {
    "demo": ("tapegrad.demo", "train a network on two moons, draw it, and time the same steps in plain Python"),
    "bench": ("tapegrad.bench.cli", "compare speed with plain Python and with other engines"),
    "run": ("tapegrad.runner", "run a script written for micrograd, unchanged"),
}
BROKEN_PIPE = 141  # exit code of a program whose reader went away: 128 + SIGPIPE


def make_parser() -> argparse.ArgumentParser:
    """The parser of everything before the command; what follows belongs to the command."""
    lines = [f"  {name:<8}{about}" for name, (_, about) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="tapegrad",
        usage="tapegrad [-h] [--version] COMMAND ...",
        description="A scalar autograd engine for Python with a C++ core.",
        epilog="\n".join(["commands:", *lines, "", "tapegrad COMMAND --help says more about each."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tapegrad`` with the arguments ``argv``, by default those of the process.

    Returns:
        The exit code of the command.

    Raises:
        SystemExit: after ``--help`` (code 0) and after wrong usage (code 2, message on stderr).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    if not arguments or arguments[0].startswith("-"):
        if parser.parse_args(arguments).version:
            print(f"tapegrad {importlib.metadata.version('tapegrad')}")
            return 0
        parser.error(f"a command is needed: {', '.join(COMMANDS)}")
    command, *rest = arguments
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(COMMANDS)}"
        parser.error(f"there is no command {command!r}; {hint}")
    run: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[command][0]).main
    if command == "run":
        return run(rest)  # the process belongs to the script: its errors pass as they are
    try:
        try:
            return run(rest)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush complains
        return BROKEN_PIPE
