"""The options of ``tapegrad bench`` and what is wrong with them, told before anything is measured."""

import argparse
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tapegrad.bench import readme
from tapegrad.bench.engines import ENGINES
from tapegrad.bench.report import EXTRA
from tapegrad.bench.workloads import WORKLOADS

DESCRIPTION = """\
Time tapegrad, its pure-Python reference and every other engine that is installed on the same work, side by side.
All engines are first checked to compute the same; then they take turns, round by round. Takes about a minute."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``tapegrad bench [options]`` and ``tapegrad bench compare A.json B.json``."""
    parser = argparse.ArgumentParser(
        prog="tapegrad bench",
        description=DESCRIPTION,
        epilog="'tapegrad bench compare A.json B.json' says what changed between two reports beyond the noise.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command="measure")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, under 20 s")
    parser.add_argument(
        "--only",
        metavar="WORKLOADS",
        type=_names("workload", [w.name for w in WORKLOADS]),
        help=f"only these, separated by commas: {', '.join(w.name for w in WORKLOADS)}",
    )
    parser.add_argument(
        "--engines",
        metavar="ENGINES",
        type=_names("engine", [e.name for e in ENGINES]),
        help=f"only these, separated by commas: {', '.join(e.name for e in ENGINES)}",
    )
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads each library may use (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and all samples to FILE")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the results; the ending says how (.svg, .png, .pdf)"
    )
    parser.add_argument("--readme", type=Path, metavar="FILE", help="replace the figures between the markers in FILE")
    parser.add_argument("--plain", action="store_true", help="tables in plain text, without rich")
    parser.add_argument("--list", action="store_true", help="list workloads and engines, and what is installed")
    return parser


def make_compare_parser() -> argparse.ArgumentParser:
    """The parser of what follows ``tapegrad bench compare``."""
    parser = argparse.ArgumentParser(
        prog="tapegrad bench compare", description="What changed from one report to another beyond the noise of both."
    )
    parser.set_defaults(command="compare")
    parser.add_argument("before", type=Path, metavar="A.json", help="written by 'tapegrad bench --json A.json'")
    parser.add_argument("after", type=Path, metavar="B.json", help="the same, later or elsewhere")
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; ``command`` is "measure" or "compare". A wrong one ends the program (status 2)."""
    if argv and argv[0] == "compare":
        return make_compare_parser().parse_args(argv[1:])
    parser = make_parser()
    options = parser.parse_args(argv)
    for problem in _problems(options):
        parser.error(problem)
    return options


def _problems(options: argparse.Namespace) -> list[str]:
    """What would only come up after the measuring."""
    found = []
    for name in ("json", "plot"):
        path = getattr(options, name)
        if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
            found.append(f"--{name}: cannot write {path}; name a file in a folder that exists and may be written to")
    if options.plot is not None:
        if importlib.util.find_spec("matplotlib") is None:
            found.append(f"--plot needs matplotlib: {EXTRA}")
        elif options.plot.suffix.lower() not in (".svg", ".png", ".pdf"):
            found.append(f"--plot: {options.plot} should end in .svg, .png or .pdf")
    if options.readme is not None:
        try:
            readme.check(options.readme.read_text(encoding="utf-8"), options.readme)
        except (OSError, ValueError) as error:
            found.append(f"--readme: {error}")
    return found


def _names(kind: str, known: list[str]) -> Callable[[str], list[str]]:
    def parse_names(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {kind} is called {name!r}; there are {', '.join(known)}")
        return names

    return parse_names


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number
