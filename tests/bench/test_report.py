"""The tables, in rich and in plain text: the same figures, and a word on whoever has none."""

import io
import re

import pytest

from tapegrad.bench import report as report_module
from tapegrad.bench.engines import ENGINES
from tapegrad.bench.results import CaseResult, Row
from tapegrad.bench.table import duration, number


def tables(report, plain, threads=1):
    out = io.StringIO()
    show = report_module.printer(out, threads, plain)
    for workload in report.workloads:
        show(workload)
    return out.getvalue()


@pytest.fixture(params=[False, True], ids=["rich", "plain"])
def plain(request):
    if not request.param:
        pytest.importorskip("rich")
    return request.param


def words(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_figures(make_report, plain):
    report = make_report({"tapegrad": [25e-6, 27e-6, 26e-6], "micrograd": [0.0085, 0.0086, 0.0084]})
    report.workloads[0].cases[0].rows[0].bytes = 48_000
    found = words(tables(report, plain))
    assert "min median ns/node / tapegrad n B/node" in found
    assert "tapegrad 25.0 us 26.0 us 26.0 1.00 3 48.0" in found
    assert "micrograd 8.40 ms 8.50 ms 8,500 323 3 -" in found  # the middle one of 340, 318.5 and 323.1


def test_rich_and_plain_say_the_same(make_report):
    pytest.importorskip("rich")
    report = make_report({"tapegrad": [25e-6], "torch scalars": [0.0085]})
    report.workloads[0].absent.append(Row("XAD", "failed", "OSError: [bold]no[/bold]"))
    assert sorted(words(tables(report, False))) == sorted(words(tables(report, True)))  # titles stand elsewhere


def test_without_tapegrad_there_is_no_ratio(make_report, plain):
    assert "micrograd 8.50 ms 8.50 ms 8,500 - 1" in words(tables(make_report({"micrograd": [0.0085]}), plain))


def test_where_tapegrad_runs_alone_cases_are_lines(make_report, plain):
    assert "1,000 nodes 25.0 us 25.0 us 25.0 1.00 1" in words(tables(make_report({"tapegrad": [25e-6]}), plain))


def test_remarks(make_report, plain):
    report = make_report({"tapegrad": [1e-3], "slow": [1e-3], "greedy": [1.0], "late": []})
    workload = report.workloads[0]
    slow, greedy, late = workload.cases[0].rows[1:]
    slow.size = 100
    greedy.cpu_seconds = [1.9]
    late.status, late.message = "skipped", "a step would take about 9.0 s"
    workload.absent += [Row("JAX", "missing", "not installed: pip install jax"), Row("XAD", "failed", "OSError: [no]")]
    workload.absent += [Row("wrong", "unequal", "value 0 differs: wrong gives 1.0, tapegrad gives 2.0")]
    text = tables(report, plain)
    assert "slow did 100 of the 1,000 nodes; its time per step is for these" in text
    assert "greedy used 1.9 cores, 1,000 nodes, though told to use one" in text
    assert "late skipped, 1,000 nodes: a step would take about 9.0 s" in text
    assert "XAD failed: OSError: [no]" in text
    assert "NOT EQUAL: value 0 differs: wrong gives 1.0, tapegrad gives 2.0" in text
    assert "JAX" not in text, "what is not installed is said once, below all tables"
    assert "greedy used" not in tables(report, plain, threads=2)


def test_an_engine_that_skips_is_said_to_once(make_report, plain):
    report = make_report({"tapegrad": [1e-3], "late": []})
    case = report.workloads[0].cases[0]
    case.rows[1].status, case.rows[1].message = "skipped", "a step would take about 9.00 s"
    larger = CaseResult("10,000 nodes", 10_000, rows=[Row("late", "skipped", "a step would take about 90.0 s")])
    report.workloads[0].cases.append(larger)
    text = tables(report, plain)
    assert "late skipped, 1,000 nodes: a step would take about 9.00 s" in text
    assert "90.0 s" not in text


def test_footer_lists_what_is_not_installed_once(make_report):
    report = make_report({"tapegrad": [1e-3]})
    report.workloads *= 2
    report.workloads[0].absent.append(Row("JAX", "missing", "not installed: pip install jax"))
    footer = report_module.footer(report, ENGINES, 12.4)
    assert footer.count("JAX: not installed: pip install jax") == 1
    assert footer.endswith("Took 12 s.")
    report.interrupted = True
    assert report_module.footer(report, ENGINES, 12.4).endswith("Interrupted after 12 s.")


def test_a_workload_without_figures_prints_no_table(make_report, plain):
    report = make_report({"tapegrad": []})
    assert not re.search(r"median", tables(report, plain))
    assert "tapegrad ok, 1,000 nodes: interrupted" in tables(report, plain)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.50 s"), (0.0123, "12.3 ms"), (1e-6, "1.00 us"), (2.6e-8, "26.0 ns"), (123.4, "123 s")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"),
        (float("nan"), "-"),
        (8550.4, "8,550"),
        (1.0, "1.00"),
        (0.0123, "0.0123"),
        (99.96, "100"),
        (-2.5, "-2.50"),
    ],
)
def test_number(x, text):
    assert number(x) == text
