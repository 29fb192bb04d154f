"""The example and the README's section on compiled functions run, and what they say is true."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tapegrad.data import make_moons
from tapegrad.examples import compiled

README = Path(__file__).resolve().parents[1] / "README.md"


def test_three_ways_of_training_agree():
    points = make_moons(12)
    eager, _ = compiled.eagerly(points, 4)
    assert compiled.decorated(points, 4)[0] == pytest.approx(eager, rel=1e-12)
    assert compiled.over_lanes(points, 4)[0] == pytest.approx(eager, rel=1e-11)
    assert eager[-1] < eager[0]


def test_its_functions():
    for x in (-3.0, -1.0, 0.5, 2.0):
        assert compiled.huber(x) == (0.5 * x * x if abs(x) < 1 else abs(x) - 0.5)
    e = np.exp(np.array([1.0, 2.0, 0.5]) - 2.0)
    np.testing.assert_allclose(compiled.softmax([1.0, 2.0, 0.5]), e / e.sum(), rtol=1e-15)
    assert [compiled.steps_to_one(x) for x in (0.5, 3.0, 100.0)] == [0.0, 1.5, 100.0 / 2**7 * 7]


def test_it_runs():
    command = [sys.executable, "-m", "tapegrad.examples.compiled", "--steps", "3", "--points", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "over lanes: the lanes of steps_to_one take different courses" in done.stdout
    assert done.stdout.count("from another process") == 2
    losses = re.findall(r"loss (.*)", done.stdout)
    assert len(losses) == 3
    assert len(set(losses)) == 1


def test_the_readme_tells_the_truth(capsys, tmp_path, monkeypatch):
    if not README.exists():
        pytest.skip("no README beside the tests")
    section = README.read_text(encoding="utf-8").partition("\n## Compiled functions\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    source = "\n".join(blocks)
    names = {"__name__": "readme"}
    exec(compile(source, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"print\(.*\)  # (.*)", source)
    assert printed == promised
