"""The guide's three examples as they are shipped, and how graphs of arrays are drawn."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tapegrad import Value, draw_dot
from tapegrad.drawing import format_number
from tapegrad.examples import arrays


def test_the_numbers_are_those_of_the_lectures() -> None:
    neuron = arrays.example_2()
    assert neuron.out.data == pytest.approx(math.sqrt(0.5), rel=1e-12)
    gradients = {"x1": -1.5, "x2": 0.5, "w1": 1.0, "w2": 0.0, "b": 0.5}
    assert neuron.gradients() == pytest.approx(gradients, rel=1e-12)


def test_arrays_numbers_and_torch_agree() -> None:
    over_arrays, numbers, torch = arrays.example_1(), arrays.example_2(), arrays.example_3()
    assert over_arrays.out.shape == (2, 2)
    assert (over_arrays.out.data == numbers.out.data).all()
    np.testing.assert_allclose(over_arrays.out.data, torch.out.detach().numpy(), rtol=1e-14)
    for name, grad in numbers.gradients().items():
        assert over_arrays.gradients()[name].tolist() == [[grad, grad], [grad, grad]]
        np.testing.assert_allclose(over_arrays.gradients()[name], torch.gradients()[name], rtol=1e-13, atol=1e-15)


def test_the_exponents_gradient_has_the_factor_that_the_guide_lacks() -> None:
    ours, guide = arrays.exponent_gradients()
    base, exponent, h = np.array([2.0, 3.0, 0.5]), np.array([3.0, 0.5, -1.0]), 1e-6
    difference = (base ** (exponent + h) - base ** (exponent - h)) / (2 * h)
    np.testing.assert_allclose(ours, difference, rtol=1e-8)
    assert not np.isclose(guide, difference).any()


def test_the_example_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tapegrad.examples.arrays", "--pictures", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "o = [[0.7071, 0.7071], [0.7071, 0.7071]]" in done.stdout
    assert "d o / d x1 = [[-1.5, -1.5], [-1.5, -1.5]]" in done.stdout
    assert "the gradients of the arrays are those of the numbers, lane by lane" in done.stdout
    assert "torch agrees" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "arrays_forward.svg", "arrays_backward.svg", "numbers_backward.svg"
    }  # fmt: skip
    assert "[[0.7071, 0.7071], [0.7071, 0.7071]]" in (tmp_path / "arrays_forward.svg").read_text(encoding="utf-8")
    gradient_of_b = "grad [[0.5, 0.5], [0.5, 0.5]]"
    assert gradient_of_b in (tmp_path / "arrays_backward.svg").read_text(encoding="utf-8")
    assert gradient_of_b not in (tmp_path / "arrays_forward.svg").read_text(encoding="utf-8")


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        arrays.main(["--pictures", str(tmp_path / "none")])
    assert "is no folder; name one that exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([1.0, 2.0], "[1., 2.]"),
        ([[0.123456, -2.0]], "[[ 0.1235, -2. ]]"),
        ([1e-9, 1.0], "[0., 1.]"),
        ([], "[]"),
        (np.zeros((0, 3)), "[]"),
        (np.arange(12.0).reshape(3, 4), "[[ 0., 1., 2., 3.], [ 4., 5., 6., 7.], [ 8., 9., 10., 11.]]"),
        (np.arange(13.0), "shape (13,) from 0.0000 to 12.0000"),
        (np.linspace(-1, 2.5, 600).reshape(200, 3), "shape (200, 3) from -1.0000 to 2.5000"),
        (np.array([np.nan] * 20), "shape (20,) from nan to nan"),
        (np.array([np.inf, -np.inf] * 20), "shape (40,) from -inf to inf"),
    ],
    ids=str,
)
def test_arrays_in_drawings(numbers: object, text: str) -> None:
    assert format_number(Value(numbers).data) == text
    label = f"{{ v | data {text} | grad"
    assert label in draw_dot(Value(numbers, label="v")).source.replace("\\", "")


def test_the_readme_section_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path(__file__).resolve().parents[1] / "README.md"
    if not readme.exists():
        pytest.skip("no README beside the tests")
    section = readme.read_text(encoding="utf-8").partition("\n## Arrays: one program over many lanes\n")[2]
    program = section.partition("```python\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    random.seed(4)
    exec(compile(program, "README.md", "exec"), names)
    printed = capsys.readouterr().out.strip()
    assert f"print(v.shape, v.grad.tolist())  # {printed}\n" in program
    loss = names["loss"]
    assert isinstance(loss, Value)
    assert loss.data < 0.8  # it has learned something: 1 is what a model without an opinion pays
