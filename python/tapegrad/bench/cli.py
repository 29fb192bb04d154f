"""The ``tapegrad bench`` command: runs in a process with pinned threads, prints as it goes, writes what was asked."""

import argparse
import datetime
import sys
import time
from collections.abc import Sequence

import tapegrad
from tapegrad.bench import compare, machine, options, plot, readme, report, threads
from tapegrad.bench.contestants import FULL, QUICK
from tapegrad.bench.engines import ENGINES
from tapegrad.bench.harness import Harness
from tapegrad.bench.memory import graph_bytes
from tapegrad.bench.results import Report
from tapegrad.bench.workloads import WORKLOADS

INTERRUPTED = 130  # exit status of a program ended by Ctrl-C: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tapegrad bench`` with the arguments ``argv``, by default those of the process.

    Returns:
        0; 1 if an engine's results were wrong, tapegrad itself failed or a file could not be read or written; 130 after
        Ctrl-C.

    Raises:
        SystemExit: the arguments are wrong (status 2), or help was asked for (0).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = options.parse(arguments)
    try:
        if chosen.command == "compare":
            return _compare(chosen)
        if chosen.list:
            return _list()
        if not threads.is_pinned(chosen.threads):
            return threads.run_pinned(chosen.threads, ["-m", "tapegrad.bench", *arguments])
        return _measure(chosen)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, ValueError) as error:
        print(f"tapegrad bench: {error}", file=sys.stderr)
        return 1


def _measure(chosen: argparse.Namespace) -> int:
    engines = [e for e in ENGINES if chosen.engines is None or e.name in chosen.engines]
    workloads = [w for w in WORKLOADS if chosen.only is None or w.name in chosen.only]
    plain = chosen.plain or not report.have_rich()
    result = Report(
        date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=machine.describe(),
        versions=machine.versions(ENGINES),
        options={"quick": chosen.quick, "threads": chosen.threads},
    )
    start = time.monotonic()
    print(f"{machine.one_line(result.machine)}; {chosen.threads} thread{'s' * (chosen.threads > 1)}")
    harness = Harness(
        engines,
        QUICK if chosen.quick else FULL,
        result,
        memory=graph_bytes,
        count_nodes=tapegrad.live_nodes,
        progress=_progress,
        finished=report.printer(sys.stdout, chosen.threads, plain),
    )
    harness.run(workloads)
    _progress("")
    print("\n" + report.footer(result, engines, time.monotonic() - start))
    if plain and not chosen.plain:
        print(f"For nicer tables, more peers and pictures: {report.EXTRA}")
    if chosen.json is not None:
        result.save(chosen.json)
    if chosen.plot is not None and any(r.seconds for w in result.workloads for c in w.cases for r in c.rows):
        plot.draw(result, chosen.plot)
    if result.interrupted:
        return INTERRUPTED
    if failures := result.failures():
        print("FAILED:\n  " + "\n  ".join(failures), file=sys.stderr)
        return 1
    if chosen.readme is not None:
        readme.update(chosen.readme, result)
    return 0


def _progress(text: str) -> None:
    """What is being done now, in a line that the next one replaces; nothing unless a person is watching."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _compare(chosen: argparse.Namespace) -> int:
    print(compare.text(Report.load(chosen.before), Report.load(chosen.after)))
    return 0


def _list() -> int:
    print("workloads")
    print(report.aligned([[w.name, w.about] for w in WORKLOADS], right=False))
    print("engines")
    print(report.aligned([[e.name, e.version() or e.missing(), e.how] for e in ENGINES], right=False))
    return 0
