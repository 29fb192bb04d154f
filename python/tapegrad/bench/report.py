"""Tables on the terminal: by rich where it is installed, in plain text with the same content where it is not."""

import importlib.util
from collections.abc import Callable, Iterable
from typing import TextIO

from tapegrad.bench.engines import BASELINE
from tapegrad.bench.engines.base import Engine
from tapegrad.bench.results import Report, WorkloadResult
from tapegrad.bench.table import header, missing, remarks, sections

EXTRA = "pip install 'tapegrad[bench]'"

Printer = Callable[[WorkloadResult], None]


def have_rich() -> bool:
    """Whether tables can be drawn by rich."""
    return importlib.util.find_spec("rich") is not None


def printer(out: TextIO, threads: int, plain: bool) -> Printer:
    """What prints the tables of one workload to ``out``."""
    show = _plain if plain else _rich
    return lambda workload: show(out, workload, threads)


def _rich(out: TextIO, workload: WorkloadResult, threads: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False, soft_wrap=True)
    console.print()
    console.print(Text.assemble((workload.name, "bold"), "  ", workload.about))
    for place, (heading, table_lines) in enumerate(sections(workload)):
        table = Table(box=None, show_header=place == 0, padding=(0, 2, 0, 0), pad_edge=False)
        for i, column in enumerate(header(workload)):
            width = max(len(column), (20, 8, 8, 8, 8, 3, 6)[i])  # the same in all tables, whatever is in them
            table.add_column(Text(column), justify="right" if i else "left", no_wrap=True, min_width=width)
        for line in table_lines:
            table.add_row(*map(Text, line), style="bold" if line[0] == BASELINE else "")
        if heading:
            console.print(Text(f"\n{heading}", style="italic"))
        console.print(table)
    for remark in remarks(workload, threads):
        console.print(Text("  " + remark, style="red" if remark.startswith("NOT EQUAL") else "dim"))


def _plain(out: TextIO, workload: WorkloadResult, threads: int) -> None:
    print(f"\n{workload.name}  {workload.about}", file=out)
    table = [header(workload)]
    for heading, table_lines in sections(workload):
        table += [[heading] + [""] * (len(table[0]) - 1)] * bool(heading) + table_lines
    if len(table) > 1:
        print(aligned(table), file=out)
    found = remarks(workload, threads)
    print("".join(f"\n  {remark}" for remark in found) + "\n" * bool(found), end="", file=out)


def footer(report: Report, engines: Iterable[Engine], seconds: float) -> str:
    """What the tables mean, which engines are not installed, and how long all took."""
    absent = "".join(f"  {line}\n" for line in missing(report.workloads))
    ran = {row.engine for w in report.workloads for c in w.cases for row in c.rows if row.seconds}
    how = aligned([[e.name, e.how] for e in engines if e.name in ran], right=False) if ran else ""
    return (
        f"Times are of one step; / {BASELINE} is how many times as long, the median over rounds; n is samples.\n"
        f"{how}\n{'Not measured:' * bool(absent)}\n{absent}"
        f"{'Interrupted after' if report.interrupted else 'Took'} {seconds:.0f} s."
    )


def aligned(table: list[list[str]], right: bool = True) -> str:
    """Columns padded to their widest cell, the first to the left and the others to the right if asked so."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = (
        [cell.rjust(w) if i and right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in table
    )
    return "\n".join("  " + "  ".join(row).rstrip() for row in padded)
