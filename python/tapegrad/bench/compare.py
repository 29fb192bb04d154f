"""Two reports side by side: what changed beyond the noise of both runs, and what did not."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tapegrad.bench.engines import BASELINE, ENGINES
from tapegrad.bench.machine import one_line
from tapegrad.bench.report import aligned
from tapegrad.bench.results import CaseResult, Report, Row
from tapegrad.bench.stats import ratios, summarise
from tapegrad.bench.table import duration, number

#: However alike two runs are, less than this is noise; and so is less than the second where there is nothing to go by.
FLOOR = 0.03
FLOOR_UNKNOWN = 0.10
#: Peers of the same version needed to tell what the noise between the runs was.
CONTROLS = 5


class Verdict(Enum):
    """What became of a time from the first report to the second."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "within noise"


@dataclass(frozen=True)
class Change:
    """One engine on one case in both reports. Times are seconds a step, per unit of size where one did fewer."""

    workload: str
    case: str
    engine: str
    before: float
    after: float
    verdict: Verdict
    #: Ratio to tapegrad in each report, None where it cannot be taken; it does not depend on the machine's speed.
    ratio_before: float | None
    ratio_after: float | None


@dataclass(frozen=True)
class Noise:
    """What changed between two runs although nothing was changed, as told by the peers that are the same in both.

    ``drift`` is the factor common to all of them, as from a faster machine; ``floor`` how far nine in ten of them are
    from it at most. Without enough peers, there is no drift and a floor that is on the safe side.
    """

    drift: float
    floor: float
    controls: int


def noise_between(a: Report, b: Report) -> Noise:
    """The noise between two reports, from all engines but tapegrad that have the same version in both."""
    factors = []
    for _, old_case, old, case, row in _pairs(a, b):
        pip = next((e.pip for e in ENGINES if e.name == row.engine), "")
        if pip != "tapegrad" and a.versions.get(pip) == b.versions.get(pip):
            factors.append(math.log(_median(row, case) / _median(old, old_case)))
    if len(factors) < CONTROLS:
        return Noise(1.0, FLOOR_UNKNOWN, len(factors))
    drift = statistics.median(factors)
    spread = statistics.quantiles([abs(f - drift) for f in factors], n=10, method="inclusive")[-1]
    return Noise(math.exp(drift), max(FLOOR, math.expm1(spread)), len(factors))


def compare(a: Report, b: Report) -> list[Change]:
    """All engines and cases that both reports measured, in the order of the second."""
    noise = noise_between(a, b)
    changes = []
    for key, old_case, old, case, row in _pairs(a, b):
        before, after = _seconds(old, old_case), _seconds(row, case)
        changes.append(
            Change(
                *key,
                before=_median(old, old_case),
                after=_median(row, case),
                verdict=verdict([s * noise.drift for s in before], after, noise.floor),
                ratio_before=_to_baseline(old, old_case),
                ratio_after=_to_baseline(row, case),
            )
        )
    return changes


def _pairs(a: Report, b: Report) -> list[tuple[tuple[str, str, str], CaseResult, Row, CaseResult, Row]]:
    """Every workload, case and engine that has samples in both, with what each report has of it."""
    old = {(w.name, c.label, r.engine): (c, r) for w in a.workloads for c in w.cases for r in c.rows if r.seconds}
    new = {(w.name, c.label, r.engine): (c, r) for w in b.workloads for c in w.cases for r in c.rows if r.seconds}
    return [(key, *old[key], *new[key]) for key in new if key in old]


def _seconds(row: Row, case: CaseResult) -> list[float]:
    """The samples, as of the whole case where the engine did fewer units."""
    return [s * case.size / row.size for s in row.seconds]


def _median(row: Row, case: CaseResult) -> float:
    return summarise(_seconds(row, case)).median


def missing(a: Report, b: Report) -> list[str]:
    """What only one of the reports measured."""
    keys = [
        {(w.name, c.label, r.engine) for w in x.workloads for c in w.cases for r in c.rows if r.seconds} for x in (a, b)
    ]
    return [
        f"only in {name}: {', '.join(key)}"
        for name, mine, other in zip("AB", keys, keys[::-1], strict=True)
        for key in sorted(mine - other)
    ]


def verdict(before: Sequence[float], after: Sequence[float], floor: float) -> Verdict:
    """Slower or faster only if three things agree, else the same.

    The quartile ranges do not overlap, and both the medians and the minimums, which other programs on the machine
    disturb least, are further apart than the factor ``1 + floor``.
    """
    old, new = summarise(before), summarise(after)
    factor = 1 + floor
    if new.lower > old.upper and new.median > old.median * factor and new.minimum > old.minimum * factor:
        return Verdict.SLOWER
    if new.upper < old.lower and new.median * factor < old.median and new.minimum * factor < old.minimum:
        return Verdict.FASTER
    return Verdict.SAME


def text(a: Report, b: Report) -> str:
    """The comparison as text: what changed first, then how much did not."""
    changes = compare(a, b)
    parts = []
    if a.machine.get("cpu_model_name") != b.machine.get("cpu_model_name") or a.options != b.options:
        parts.append(f"Not the same machine or options, so compare the ratios to {BASELINE} rather than the times:")
        parts += [f"  {name}: {one_line(x.machine)}; {x.options}" for name, x in (("A", a), ("B", b))]
    changed = [change for change in changes if change.verdict is not Verdict.SAME]
    if changed:
        head = ["work", "engine", "A", "B", "B/A", "", f"/ {BASELINE}: A", "B"]
        parts.append(aligned([head, *map(_cells, sorted(changed, key=lambda c: c.after / c.before, reverse=True))]))
    noise = noise_between(a, b)
    if noise.controls >= CONTROLS:
        known = f"{noise.controls} times of peers that are the same in both: x{number(noise.drift)} as a whole, "
        parts.append(f"Noise between the runs, from {known}and {100 * noise.floor:.0f}% about that.")
    else:
        parts.append(f"Too few peers in both to tell the noise between the runs; taken as {100 * noise.floor:.0f}%.")
    parts.append(f"{len(changed)} of {len(changes)} times changed beyond the noise.")
    return "\n".join([*parts, *missing(a, b)])


def _cells(change: Change) -> list[str]:
    factor = number(change.after / change.before)
    both = [number(r) if r is not None else "-" for r in (change.ratio_before, change.ratio_after)]
    times = [duration(change.before), duration(change.after)]
    return [f"{change.workload}, {change.case}", change.engine, *times, factor, change.verdict.value, *both]


def _to_baseline(row: Row, case: CaseResult) -> float | None:
    baseline = next((r for r in case.rows if r.engine == BASELINE), None)
    pairs = ratios(row, baseline) if baseline and baseline is not row else []
    return summarise(pairs).median if pairs else None
