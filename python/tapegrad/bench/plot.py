"""The picture: a bar per engine for each workload on a logarithmic scale, and the time of a node over size."""

import math
from pathlib import Path
from typing import Any

from tapegrad.bench.engines import BASELINE
from tapegrad.bench.machine import one_line
from tapegrad.bench.results import CaseResult, Report, WorkloadResult
from tapegrad.bench.stats import per_unit, summarise
from tapegrad.bench.table import headline, number

# Colour-blind-safe qualitative colours (Okabe and Ito, 2008); tapegrad stands out, peers share one.
OURS, PEER, LINES = (
    "#D55E00",
    "#0072B2",
    ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"),
)
COLUMNS = 3


def draw(report: Report, path: Path) -> None:
    """Write the picture to ``path``; its ending chooses the format.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: the file cannot be written.
        ValueError: the report has no samples, or the ending is not one that matplotlib knows.
    """
    from matplotlib.figure import Figure

    bars = [(w, c) for w in report.workloads if w.name != "size" for c in headline(w)]
    curves = [w for w in report.workloads if len(_sizes(w)) > 1]
    panels = len(bars) + len(curves)
    if not panels:
        raise ValueError(f"nothing was measured, so there is nothing to draw in {path}")
    columns = min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for workload, case in bars:
        _bars(axes.pop(0), workload, case)
    for workload in curves:
        _curves(axes.pop(0), workload)
    for unused in axes:
        unused.set_axis_off()
    figure.suptitle(f"tapegrad bench, {report.date[:10]}\n{one_line(report.machine)}", fontsize=9)
    figure.savefig(path)


def _measured(case: CaseResult) -> int:
    return sum(bool(row.seconds) for row in case.rows)


def _sizes(workload: WorkloadResult) -> list[CaseResult]:
    return [case for case in workload.cases if case.part == "whole" and _measured(case) and case.items]


def _bars(ax: Any, workload: WorkloadResult, case: CaseResult) -> None:
    rows = [row for row in case.rows if row.seconds]
    scale = 1e9 / case.items if case.items else 1e3
    times = [summarise([s * case.size / row.size for s in row.seconds]) for row in rows]
    medians = [t.median * scale for t in times]
    ax.barh(
        range(len(rows)),
        medians,
        xerr=[[(t.median - t.minimum) * scale for t in times], [(t.upper - t.median) * scale for t in times]],
        color=[OURS if row.engine == BASELINE else PEER for row in rows],
        error_kw={"linewidth": 0.8},
    )
    ax.set_xscale("log")
    ax.set_xlim(min(medians) / 4, max(medians) * 10)
    ax.set_yticks(range(len(rows)), [row.engine for row in rows], fontsize=8)
    ax.invert_yaxis()
    for y, (t, median) in enumerate(zip(times, medians, strict=True)):
        end = (t.upper * scale, y)
        ax.annotate(number(median), end, xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    ax.set_xlabel(f"ns per {workload.unit}" if case.items else "ms per step", fontsize=8)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_title(f"{workload.name}, {case.label}", fontsize=9)


def _curves(ax: Any, workload: WorkloadResult) -> None:
    points: dict[str, list[tuple[int, float]]] = {}
    for case in _sizes(workload):
        for row in case.rows:
            if row.seconds:
                time = per_unit(row, case, summarise(row.seconds).median) * 1e9
                points.setdefault(row.engine, []).append((case.size, time))
    for i, (engine, line) in enumerate(points.items()):
        ax.plot(*zip(*line, strict=True), marker="o", markersize=3, label=engine, color=LINES[i % len(LINES)])
    ax.set_xscale("log")
    times = [time for line in points.values() for _, time in line]
    if max(times) > 10 * min(times):
        ax.set_yscale("log")
        ax.set_ylim(min(times) / 2, max(times) * 2)
    else:
        ax.set_ylim(0, max(times) * 1.2)
    ax.set_xlabel("nodes in the graph", fontsize=8)
    ax.set_ylabel(f"ns per {workload.unit}", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=6, ncols=2)
    ax.set_title(f"{workload.name}, time over size", fontsize=9)
