"""The picture is drawn from what there is, in the format that the file's ending says."""

import pytest

from tapegrad.bench import plot
from tapegrad.bench.results import CaseResult, Row

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def report(make_report):
    report = make_report({"tapegrad": [25e-6, 26e-6], "micrograd": [0.0085, 0.0086], "absent": []})
    row = Row("tapegrad", size=10_000, rounds=[0], seconds=[3e-4], cpu_seconds=[3e-4])
    report.workloads[0].cases.append(CaseResult("10,000 nodes", 10_000, items=10_000, nodes=10_000, rows=[row]))
    return report


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_formats(report, tmp_path, ending, start):
    plot.draw(report, tmp_path / f"a.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes().startswith(start)


def test_engines_workloads_and_machine_are_named(report, tmp_path):
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text, not as outlines
        plot.draw(report, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for words in ("tapegrad", "micrograd", "chain, 1,000 nodes", "chain, time over size", "Abacus 3000", "ns per node"):
        assert words in text
    assert "absent" not in text


def test_nothing_measured(make_report, tmp_path):
    with pytest.raises(ValueError, match="nothing was measured"):
        plot.draw(make_report({"tapegrad": []}), tmp_path / "a.png")


def test_unknown_units_are_drawn_as_time_of_a_step(make_report, tmp_path):
    report = make_report({"tapegrad": [25e-6]})
    report.workloads[0].cases[0].items = None
    plot.draw(report, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
