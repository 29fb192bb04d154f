"""The few statistics of the tables: minimum, median, spread, and the ratio of two engines round by round.

They come from the standard library. pyperf's own (mean and standard deviation over worker processes, a t-test) assume
samples that are normal and taken one engine after the other; here engines take turns in one process, so that a round
is a pair of samples from the same moment, and minimum and quartiles say more about a machine that others use too.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tapegrad.bench.results import CaseResult, Row


@dataclass(frozen=True)
class Summary:
    """Order statistics of one row, in seconds a step."""

    minimum: float
    lower: float
    median: float
    upper: float
    n: int


def summarise(seconds: Sequence[float]) -> Summary:
    """Minimum, quartiles and number of the samples; with fewer than four, the quartiles are the extremes.

    Raises:
        ValueError: there are no samples.
    """
    if not seconds:
        raise ValueError("there are no samples to summarise: give at least one")
    lower, upper = min(seconds), max(seconds)
    if len(seconds) >= 4:
        lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Summary(min(seconds), lower, statistics.median(seconds), upper, len(seconds))


def per_unit(row: Row, case: CaseResult, seconds: float) -> float:
    """``seconds`` of the row's step divided by the units it worked on; NaN where these are unknown."""
    if not case.items:
        return math.nan
    return seconds / (case.items * row.size / case.size)


def ratios(row: Row, baseline: Row) -> list[float]:
    """How many times longer ``row`` took than ``baseline`` for the same work, for each round in which both ran.

    Where one of them did fewer units, the times are those of a unit.
    """
    per_round = dict(zip(baseline.rounds, baseline.seconds, strict=True))
    return [
        (seconds / row.size) / (per_round[number] / baseline.size)
        for number, seconds in zip(row.rounds, row.seconds, strict=True)
        if number in per_round
    ]


def ratio(row: Row, baseline: Row) -> float | None:
    """The median of :func:`ratios`, or None if the two never ran in the same round."""
    pairs = ratios(row, baseline)
    return statistics.median(pairs) if pairs else None


def cores_used(row: Row) -> float:
    """Processor time over wall time: about 1 for one thread, more if a library did not keep to it."""
    return sum(row.cpu_seconds) / sum(row.seconds) if sum(row.seconds) else 0.0
