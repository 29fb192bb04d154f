"""The results as rows of text, the same for the terminal, for plain text and for the README."""

import math
from collections.abc import Iterable

from tapegrad.bench.engines import BASELINE
from tapegrad.bench.results import CaseResult, Row, WorkloadResult
from tapegrad.bench.stats import cores_used, per_unit, ratio, summarise

NOTHING = "-"
#: More processor time than this per wall time is more than one thread.
ONE_THREAD = 1.3
#: What part of the engines are most of them.
MOST = 0.75


def header(workload: WorkloadResult) -> list[str]:
    """The column titles for the times of a workload."""
    titles = ["", "min", "median", f"ns/{workload.unit}", f"/ {BASELINE}", "n"]
    return [*titles, "B/node"] if _has_bytes(workload) else titles


def sections(workload: WorkloadResult) -> list[tuple[str, list[list[str]]]]:
    """The lines of the table by case, each with its title; where tapegrad runs alone, cases are lines instead."""
    measured = [(case, [row for row in case.rows if row.seconds]) for case in workload.cases]
    measured = [(case, rows) for case, rows in measured if rows]
    with_bytes = _has_bytes(workload)
    if not measured:
        return []
    if all(row.engine == BASELINE for case in workload.cases for row in case.rows):
        return [("", [_line(title(case), row, case, with_bytes) for case, rows in measured for row in rows])]
    return [(title(case), [_line(row.engine, row, case, with_bytes) for row in rows]) for case, rows in measured]


def title(case: CaseResult) -> str:
    """The case's label, with the number of nodes unless that is what the label says."""
    return f"{case.label}, {case.nodes:,} nodes" if case.nodes and "nodes" not in case.label else case.label


def headline(workload: WorkloadResult) -> list[CaseResult]:
    """The cases to show where room is short: the largest that most engines did, or all where tapegrad is alone."""
    measured = [(case, {row.engine for row in case.rows if row.seconds}) for case in workload.cases]
    measured = [(case, engines) for case, engines in measured if engines]
    if all(engines == {BASELINE} for _, engines in measured):
        return [case for case, _ in measured]
    most = max(len(engines) for _, engines in measured)
    return [case for case, engines in measured if len(engines) >= MOST * most][-1:]


def _has_bytes(workload: WorkloadResult) -> bool:
    return any(row.bytes for case in workload.cases for row in case.rows)


def _line(name: str, row: Row, case: CaseResult, with_bytes: bool) -> list[str]:
    summary = summarise(row.seconds)
    cells = [
        name,
        duration(summary.minimum),
        duration(summary.median),
        number(per_unit(row, case, summary.median) * 1e9),
        ratio_to_baseline(row, case),
        str(len(row.seconds)),
    ]
    return [*cells, number(row.bytes / case.nodes) if row.bytes and case.nodes else NOTHING] if with_bytes else cells


def ratio_to_baseline(row: Row, case: CaseResult) -> str:
    """How many times longer than tapegrad, as the median over the rounds that both took part in."""
    baseline = next((r for r in case.rows if r.engine == BASELINE), None)
    times = ratio(row, baseline) if baseline else None
    return NOTHING if times is None else number(times)


def remarks(workload: WorkloadResult, threads: int) -> list[str]:
    """What a reader has to know beyond the figures: who did less, who used more threads, who failed and why."""
    found = []
    skipping: set[str] = set()  # cases go from small to large: who skips one skips the next
    for case in workload.cases:
        for row in case.rows:
            if row.status == "unequal":
                found.append(f"NOT EQUAL, {case.label}: {row.message}")
            elif not row.seconds:
                if row.status != "skipped" or row.engine not in skipping:
                    found.append(f"{row.engine} {row.status}, {case.label}: {row.message or 'interrupted'}")
                if row.status == "skipped":
                    skipping.add(row.engine)
                continue
            if row.size != case.size:
                found.append(f"{row.engine} did {row.size:,} of the {case.label}; its time per step is for these")
            if row.seconds and threads == 1 and cores_used(row) > ONE_THREAD:
                found.append(f"{row.engine} used {cores_used(row):.1f} cores, {case.label}, though told to use one")
    for row in workload.absent:
        if row.status == "missing":
            continue  # said once, for all workloads
        found.append(
            f"NOT EQUAL: {row.message}" if row.status == "unequal" else f"{row.engine} {row.status}: {row.message}"
        )
    return found


def missing(workloads: Iterable[WorkloadResult]) -> list[str]:
    """The engines that are not installed, each with the command that installs it, once."""
    absent = (row for workload in workloads for row in workload.absent if row.status == "missing")
    return list(dict.fromkeys(f"{row.engine}: {row.message}" for row in absent))


def duration(seconds: float) -> str:
    """Seconds in the unit that suits, with three digits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{number(seconds / scale)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def number(x: float) -> str:
    """Three significant digits, without an exponent; a dash for NaN."""
    if math.isnan(x):
        return NOTHING
    if x == 0:
        return "0"
    x = float(f"{x:.3g}")  # 9.996 is 10.0
    decimals = max(0, 2 - math.floor(math.log10(abs(x))))
    return f"{x:,.{decimals}f}"
