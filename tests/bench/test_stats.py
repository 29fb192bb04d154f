"""Order statistics and ratios, by hand."""

import math

import pytest

from tapegrad.bench.results import CaseResult, Row
from tapegrad.bench.stats import cores_used, per_unit, ratio, ratios, summarise


def test_summary():
    summary = summarise([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (summary.minimum, summary.lower, summary.median, summary.upper, summary.n) == (1.0, 2.0, 3.0, 4.0, 5)


def test_quartiles_of_few_samples_are_the_extremes():
    summary = summarise([3.0, 1.0])
    assert (summary.lower, summary.median, summary.upper) == (1.0, 2.0, 3.0)


def test_no_samples():
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


def test_ratio_pairs_samples_by_round():
    ours = Row("tapegrad", size=10, rounds=[0, 1, 2], seconds=[1.0, 2.0, 4.0])
    peer = Row("peer", size=10, rounds=[0, 2], seconds=[3.0, 12.0])
    assert ratios(peer, ours) == pytest.approx([3.0, 3.0])
    assert ratio(peer, ours) == pytest.approx(3.0)  # the ratio of medians is 3.75, of totals 2.14


def test_ratio_of_different_sizes_is_by_unit():
    ours = Row("tapegrad", size=100, rounds=[0], seconds=[1.0])
    peer = Row("peer", size=10, rounds=[0], seconds=[1.0])
    assert ratio(peer, ours) == 10.0


def test_no_common_round():
    assert ratio(Row("a", size=1, rounds=[1], seconds=[1.0]), Row("b", size=1, rounds=[0], seconds=[1.0])) is None


def test_per_unit():
    case = CaseResult("x", size=100, items=5000)
    assert per_unit(Row("a", size=100), case, 1.0) == 1 / 5000
    assert per_unit(Row("a", size=20), case, 1.0) == 1 / 1000
    assert math.isnan(per_unit(Row("a", size=20), CaseResult("x", size=100), 1.0))


def test_cores_used():
    assert cores_used(Row("a", seconds=[1.0, 1.0], cpu_seconds=[1.0, 3.0])) == 2.0
    assert cores_used(Row("a")) == 0.0
