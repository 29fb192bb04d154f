"""Reports go to JSON and come back unchanged; anything else is refused with the file's name."""

import json

import pytest

from tapegrad.bench.results import Report, Row


def test_round_trip(make_report, tmp_path):
    report = make_report({"tapegrad": [1.0, 1.5], "torch scalars": [0.1 + 0.2]})
    report.workloads[0].absent.append(Row("JAX", "missing", "not installed: pip install jax"))
    report.workloads[0].cases[0].rows[0].bytes = 48_000
    report.save(tmp_path / "a.json")
    assert Report.load(tmp_path / "a.json") == report


def test_the_file_holds_machine_versions_and_all_samples(make_report, tmp_path):
    make_report({"tapegrad": [1.0, 1.5]}).save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["machine"]["cpu_model_name"] == "Abacus 3000"
    assert content["versions"]["tapegrad"] == "0.1.0"
    assert content["workloads"][0]["cases"][0]["rows"][0]["seconds"] == [1.0, 1.5]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": "other"}',
        '{"format": "tapegrad-bench/1"}',
        '{"format": "tapegrad-bench/1", "workloads": 3}',
        "\x00\xff",
    ],
)
def test_what_is_not_a_report(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.json is not a report"):
        Report.load(tmp_path / "a.json")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path / "a.json")
