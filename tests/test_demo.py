"""The main job: trains as micrograd does, reaches every point, writes its pictures and keeps them whatever happens."""

import random
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib.image
import micrograd.engine
import micrograd.nn
import numpy as np
import pytest

from tapegrad import demo, reference
from tapegrad.data import make_moons
from tapegrad.micrograd import engine, nn


def run(folder, *options):
    return demo.main(["--output", str(folder), *options])


def assert_drawn(folder):
    pixels = matplotlib.image.imread(folder / "two_moons.png")
    assert pixels.shape == (750, 1650, 4)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 100
    assert ElementTree.parse(folder / "neuron.svg").getroot().tag.endswith("svg")


def test_default_training_reaches_every_point(tmp_path, capsys):
    assert run(tmp_path / "new" / "folder", "--reference-steps", "0") == 0
    out = capsys.readouterr().out
    assert "Two moons, 100 points; 337 parameters" in out
    assert "step   1/100   loss" in out
    assert "accuracy 100%" in next(line for line in out.splitlines() if line.startswith("step 100/100"))
    assert "plain Python" not in out
    assert_drawn(tmp_path / "new" / "folder")


def test_times_the_same_steps_in_plain_python(tmp_path, capsys):
    assert run(tmp_path, "--steps", "4", "--samples", "20", "--reference-steps", "3") == 0
    table = [line.split() for line in capsys.readouterr().out.partition("step   loss")[2].splitlines()[1:]]
    assert [row[0] for row in table[:3]] == ["1", "2", "3"]
    assert all(row[1] == row[2] for row in table[:3])
    ours, theirs, ratio = (next(row for row in table if row[0] == name) for name in ("tapegrad", "plain", "ratio"))
    assert float(theirs[2]) / float(ours[1]) == pytest.approx(float(ratio[1]), rel=0.2)


def losses(module_nn, value, steps):
    X, y = make_moons(20, seed=4)
    random.seed(4)
    return list(demo.train(module_nn.MLP(2, demo.WIDTHS), value, X, y, steps))


def test_training_is_that_of_the_published_package():
    ours, theirs = losses(nn, engine.Value, 6), losses(micrograd.nn, micrograd.engine.Value, 6)
    assert [step.loss for step in ours] == pytest.approx([step.loss for step in theirs], rel=1e-9)
    assert [step.accuracy for step in ours] == [step.accuracy for step in theirs]
    assert ours[-1].loss < ours[0].loss


def test_stopping_early_keeps_the_schedule():
    X, y = make_moons(10)
    random.seed(1)
    model = nn.MLP(2, demo.WIDTHS)
    plain = demo.plain_copy(model)
    whole = list(demo.train(model, engine.Value, X, y, 5))
    start = list(demo.train(plain, reference.Value, X, y, 5, 3))
    assert [step.loss for step in start] == pytest.approx([step.loss for step in whole[:3]], rel=1e-12)


def test_the_plain_copy_is_equal_and_independent():
    model = nn.MLP(2, demo.WIDTHS)
    plain = demo.plain_copy(model)
    assert [p.data for p in plain.parameters()] == [p.data for p in model.parameters()]
    assert {type(p) for p in plain.parameters()} == {reference.Value}
    for point in ([0.3, -0.7], [2.0, 1.0]):
        assert plain(point).data == pytest.approx(model(point).data, rel=1e-12)


def test_other_losses_are_reported(capsys):
    X, y = make_moons(10)
    model = nn.MLP(2, demo.WIDTHS)
    plain = demo.plain_copy(model)
    (step,) = demo.train(model, engine.Value, X, y, 1)
    assert not demo.compare(plain, X, y, 1, [step._replace(loss=step.loss * (1 + 1e-6))])
    assert "losses differ by up to 1.0e-06" in capsys.readouterr().err


def test_without_matplotlib_the_rest_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(tmp_path, "--steps", "2", "--samples", "10", "--reference-steps", "1") == 0
    out = capsys.readouterr().out
    assert "matplotlib is not installed: pip install 'tapegrad[demo]'" in out
    assert "ratio" in out
    assert [path.name for path in tmp_path.iterdir()] == ["neuron.svg"]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path, capsys):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine")
    for folder in (in_the_way, in_the_way / "below"):
        assert run(folder) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"tapegrad demo: cannot write to {str(folder)!r}: ")
        assert "--output" in captured.err
    assert in_the_way.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "0"], "argument --steps: '0' is not a whole number of at least 1"),
        (["--steps", "many"], "argument --steps: 'many' is not a whole number of at least 1"),
        (["--samples", "1"], "argument --samples: '1' is not a whole number of at least 2"),
        (["--reference-steps", "-1"], "argument --reference-steps: '-1' is not a whole number of at least 0"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ],
)
def test_wrong_options_are_named(options, words, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        demo.main(options)
    assert words in capsys.readouterr().err


def interrupt_at(monkeypatch, name, call):
    """Let the function ``name`` of the demo raise KeyboardInterrupt in its ``call``-th call."""
    original, calls = getattr(demo, name), []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(demo, name, interrupted)


def test_interrupted_training_is_drawn(tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, "report", 3)
    assert run(tmp_path, "--steps", "9", "--samples", "10") == 130
    out = capsys.readouterr().out
    assert "Interrupted after 3 of 9 steps" in out
    assert "plain Python" not in out
    assert_drawn(tmp_path)


def test_interrupt_before_the_first_step_draws_the_untrained_network(tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, "train", 1)
    assert run(tmp_path, "--samples", "10") == 130
    assert "Interrupted after 0 of 100 steps" in capsys.readouterr().out
    assert_drawn(tmp_path)


def test_interrupted_comparison_keeps_the_pictures(tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, "plain_copy", 2)
    interrupt_at(monkeypatch, "compare", 1)
    assert run(tmp_path, "--steps", "2", "--samples", "10") == 130
    assert f"Interrupted; {tmp_path} keeps two_moons.png and neuron.svg." in capsys.readouterr().out
    assert_drawn(tmp_path)


def test_interrupted_drawing_says_what_there_is(tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, "draw_picture", 1)
    assert run(tmp_path, "--steps", "2", "--samples", "10") == 130
    assert f"Interrupted; {tmp_path} keeps no pictures." in capsys.readouterr().out


def test_ctrl_c_from_outside(tmp_path):
    command = [sys.executable, "-u", "-m", "tapegrad", "demo", "--steps", "1000000", "--output", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not process.stdout.readline().startswith("step "):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "")
    assert "of 1000000 steps: drawing what is there" in out
    assert_drawn(tmp_path)
