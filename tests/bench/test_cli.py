"""The command as users call it: options and their errors, files written, what is installed and what is not, Ctrl-C."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tapegrad.bench import cli, readme
from tapegrad.bench.engines import ENGINES
from tapegrad.bench.results import Report
from tapegrad.bench.workloads import WORKLOADS


def bench(*arguments, **kwargs):
    command = [sys.executable, "-m", "tapegrad.bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short run with everything that can be written."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "README.md").write_text(f"before\n{readme.BEGIN}\n{readme.END}\nafter\n")
    files = ["--json", folder / "a.json", "--readme", folder / "README.md"]
    if importlib.util.find_spec("matplotlib"):
        files += ["--plot", folder / "a.svg"]
    done = bench("--quick", "--only", "size,west", "--engines", "tapegrad,tapegrad.reference", *files)
    return done, folder


def test_tables(run):
    done, _ = run
    assert done.returncode == 0, done.stderr
    assert "1 thread" in done.stdout
    assert "west" in done.stdout
    assert "2,000 operations" in done.stdout
    assert "tapegrad.reference" in done.stdout
    assert "Took" in done.stdout
    assert done.stderr == "", "progress is for people at a terminal"


def test_json_has_every_sample(run):
    _, folder = run
    report = Report.load(folder / "a.json")
    assert [w.name for w in report.workloads] == ["west", "size"]
    assert report.options == {"quick": True, "threads": 1}
    assert report.versions["tapegrad"]
    assert report.machine["cpu_count"] == os.cpu_count()
    rows = [row for w in report.workloads for case in w.cases for row in case.rows]
    assert all(row.seconds and len(row.seconds) == len(row.rounds) == len(row.cpu_seconds) for row in rows)
    assert json.loads((folder / "a.json").read_text())["format"] == "tapegrad-bench/1"
    assert "hostname" not in report.machine


def test_plot_and_readme(run):
    _, folder = run
    text = (folder / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| west, 2,000 operations | tapegrad |" in text
    if importlib.util.find_spec("matplotlib"):
        assert "<svg" in (folder / "a.svg").read_text()


def test_compare_with_itself(run, capsys):
    _, folder = run
    assert cli.main(["compare", str(folder / "a.json"), str(folder / "a.json")]) == 0
    assert "0 of 8 times changed beyond the noise" in capsys.readouterr().out


def test_compare_with_what_is_no_report(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}")
    assert cli.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 1
    assert "a.json is not a report written by 'tapegrad bench --json'" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path / "b.json"), str(tmp_path / "a.json")]) == 1
    assert "b.json" in capsys.readouterr().err


def test_list(capsys):
    assert cli.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(w.name in out for w in WORKLOADS)
    assert all(e.name in out for e in ENGINES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "chian"], "no workload is called 'chian'; there are chain,"),
        (["--engines", "numpy"], "no engine is called 'numpy'; there are tapegrad,"),
        (["--threads", "0"], "must be a whole number of at least 1, got '0'"),
        (["--threads", "two"], "must be a whole number of at least 1, got 'two'"),
        (["--json", "no/such/folder/a.json"], "--json: cannot write no/such/folder/a.json"),
        (["--json", "."], "--json: cannot write ."),
        (["--plot", "a.xyz"], "--plot: a.xyz should end in"),
        (["--readme", "nowhere.md"], "nowhere.md"),
        (["compare", "a.json"], "B.json"),
        (["--fast"], "--fast"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_measured(arguments, says, capsys, tmp_path, monkeypatch):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err


def test_help_is_about_the_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    assert "tapegrad bench compare A.json B.json" in capsys.readouterr().out


BLOCKER = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_unblocked(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked!r} else find(name, path, target)
PathFinder.find_spec = find_unblocked
"""


@pytest.fixture
def without(tmp_path):
    """The environment of a process in which these modules are not installed."""

    def make(*blocked):
        (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    return make


def test_a_wheel_without_the_extra(without):
    env = without("rich", "pyperf", "matplotlib", "torch", "micrograd", "autograd", "jax", "casadi", "xad")
    done = bench("--quick", "--only", "chain", env=env)
    assert done.returncode == 0, done.stderr
    assert "pip install 'tapegrad[bench]'" in done.stdout
    for name, pip in (("micrograd", "micrograd"), ("torch scalars", "torch"), ("CasADi", "casadi"), ("XAD", "xad")):
        assert f"{name}: not installed: pip install {pip}" in done.stdout
    assert "tapegrad.reference" in done.stdout
    assert "Python floats" in done.stdout


def test_a_plot_without_matplotlib(without, tmp_path):
    done = bench("--plot", tmp_path / "a.png", env=without("matplotlib"))
    assert done.returncode == 2
    assert "--plot needs matplotlib: pip install 'tapegrad[bench]'" in done.stderr


def test_ctrl_c_prints_what_there_is(tmp_path):
    command = [sys.executable, "-m", "tapegrad.bench", "--only", "size,gpt", "--json", str(tmp_path / "a.json")]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--engines", "tapegrad,tapegrad.reference"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "gpt" not in process.stdout.readline():  # its table is printed; size is being measured
        assert process.poll() is None
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted after" in out
    assert "Traceback" not in err
    report = Report.load(tmp_path / "a.json")
    assert report.interrupted
    assert report.workloads[0].name == "gpt"
    assert report.workloads[0].cases[0].rows[0].seconds
