"""The README's figures are replaced between their markers, and nothing else is touched."""

from dataclasses import replace

import pytest

from tapegrad.bench import readme


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{readme.BEGIN}\nold figures\n{readme.END}\n\nThe end, für heute.\n", encoding="utf-8")
    return path


def test_figures_are_replaced_with_machine_and_date(make_report, page):
    readme.update(page, make_report({"tapegrad": [25e-6, 27e-6, 26e-6], "micrograd": [0.0085] * 3}))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nThe end, für heute.\n")
    assert "old figures" not in text
    assert (
        "Taken on 2026-01-02: Abacus 3000, 2 cores, Babbage, Python 3.11.7; tapegrad 0.1.0, torch 2.0; 1 thread."
        in text
    )
    assert "| chain, 1,000 nodes | tapegrad | 26.0 us | 26.0 (node) | 1.00 |" in text
    assert "|  | micrograd | 8.50 ms | 8,500 (node) | 327 |" in text


def test_of_several_sizes_the_largest_that_most_engines_did(make_report, page):
    report = make_report({"tapegrad": [25e-6], "micrograd": [0.0085]})
    cases = report.workloads[0].cases
    cases += [replace(cases[0], label="10,000 nodes"), replace(cases[0], label="100,000 nodes", rows=cases[0].rows[:1])]
    readme.update(page, report)
    text = page.read_text(encoding="utf-8")
    assert "| chain, 10,000 nodes | tapegrad |" in text
    assert "1,000 nodes |" not in text.replace("10,000 nodes |", "")
    assert "100,000 nodes" not in text


def test_a_time_that_was_taken_on_fewer_units_says_so(make_report, page):
    report = make_report({"tapegrad": [25e-6], "slow": [0.01]})
    report.workloads[0].cases[0].rows[1].size = 100
    readme.update(page, report)
    assert "|  | slow | 100 ms (from 100) | 100,000 (node) | 4,000 |" in page.read_text(encoding="utf-8")


def test_of_tapegrad_alone_all_sizes_are_shown(make_report, page):
    report = make_report({"tapegrad": [25e-6]})
    report.workloads[0].cases.append(replace(report.workloads[0].cases[0], label="10,000 nodes"))
    readme.update(page, report)
    text = page.read_text(encoding="utf-8")
    assert "| chain, 1,000 nodes |" in text
    assert "| chain, 10,000 nodes |" in text


def test_doing_it_twice_changes_nothing(make_report, page):
    report = make_report({"tapegrad": [25e-6]})
    readme.update(page, report)
    once = page.read_text(encoding="utf-8")
    readme.update(page, report)
    assert page.read_text(encoding="utf-8") == once


@pytest.mark.parametrize(
    "text",
    ["", readme.BEGIN, readme.END, f"{readme.END} {readme.BEGIN}", f"{readme.BEGIN} {readme.BEGIN} {readme.END}"],
)
def test_a_page_without_the_markers_is_left_alone(make_report, tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"README\.md must hold the lines"):
        readme.update(path, make_report({"tapegrad": [25e-6]}))
    assert path.read_text() == text
