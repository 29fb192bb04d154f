"""The figures in the README: one Markdown table between two markers, with machine and date, replaced as a whole."""

from pathlib import Path

from tapegrad.bench.engines import BASELINE
from tapegrad.bench.machine import one_line
from tapegrad.bench.results import CaseResult, Report, WorkloadResult
from tapegrad.bench.stats import per_unit, summarise
from tapegrad.bench.table import duration, headline, number, ratio_to_baseline

BEGIN = "<!-- tapegrad bench: begin -->"
END = "<!-- tapegrad bench: end -->"


def update(path: Path, report: Report) -> None:
    """Put the report's figures between the markers of the file.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: it does not hold both markers once each and in order.
    """
    text = path.read_text(encoding="utf-8")
    check(text, path)
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{figures(report)}{END}{after}", encoding="utf-8")


def check(text: str, path: Path) -> None:
    """Raise the ValueError of :func:`update` unless the text has a place for the figures."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path} must hold the lines '{BEGIN}' and '{END}', once each and in this order")


def figures(report: Report) -> str:
    """Machine, date and a table of one case of each workload (of all for tapegrad alone), a line for each engine."""
    threads = f"{report.options['threads']} thread" + "s" * (report.options["threads"] > 1)
    head = f"Taken on {report.date[:10]}: {one_line(report.machine)}; {_versions(report)}; {threads}.\n\n"
    table = [f"| work | engine | time of a step | ns a unit | / {BASELINE} |", "|---|---|---:|---:|---:|"]
    for workload in report.workloads:
        for case in headline(workload):
            table += _lines(workload, case)
    return head + "\n".join(table) + "\n"


def _lines(workload: WorkloadResult, case: CaseResult) -> list[str]:
    title = f"{workload.name}, {case.label}"
    found = []
    for row in case.rows:
        if not row.seconds:
            continue
        median = summarise(row.seconds).median
        whole = duration(median * case.size / row.size)
        if row.size != case.size:
            whole += f" (from {row.size:,})"
        unit = number(per_unit(row, case, median) * 1e9) + f" ({workload.unit})" if case.items else "-"
        found.append(f"| {title} | {row.engine} | {whole} | {unit} | {ratio_to_baseline(row, case)} |")
        title = ""
    return found


def _versions(report: Report) -> str:
    return ", ".join(f"{name} {version}" for name, version in report.versions.items() if name != "python")
