"""The two-moons generator: on its half circles without noise, blurred as asked with it, the same points every time."""

import math
import random
import statistics

import pytest

from tapegrad.data import make_moons


def distance_to_moon(point, label):
    """Distance from the half circle that the label names: upper around (0, 0), lower around (1, 0.5)."""
    centre, side = ((0.0, 0.0), 1) if label == -1 else ((1.0, 0.5), -1)
    assert side * (point[1] - centre[1]) >= -1e-12, "on the wrong half"
    return math.dist(point, centre) - 1.0


@pytest.mark.parametrize("n_samples", [2, 3, 10, 101])
def test_points_without_noise_lie_on_the_half_circles(n_samples):
    X, y = make_moons(n_samples, noise=0.0)
    assert [len(row) for row in X] == [2] * n_samples
    assert y.count(-1) == n_samples // 2
    assert y.count(1) == n_samples - n_samples // 2
    for point, label in zip(X, y, strict=True):
        assert distance_to_moon(point, label) == pytest.approx(0.0, abs=1e-12)


def test_moons_are_sampled_at_equal_angles_with_both_ends():
    X, y = make_moons(20, noise=0)
    upper = sorted(math.atan2(v, u) for (u, v), label in zip(X, y, strict=True) if label == -1)
    assert upper == pytest.approx([math.pi * i / 9 for i in range(10)], abs=1e-12)


def test_noise_is_a_standard_deviation():
    clean, _ = make_moons(4000, noise=0.0, seed=3)
    noisy, _ = make_moons(4000, noise=0.25, seed=3)
    errors = [b - a for p, q in zip(clean, noisy, strict=True) for a, b in zip(p, q, strict=True)]
    assert statistics.fmean(errors) == pytest.approx(0.0, abs=0.02)
    assert statistics.pstdev(errors) == pytest.approx(0.25, rel=0.05)


def test_classes_are_interleaved_by_the_shuffle():
    _, y = make_moons(200)
    assert y != sorted(y)
    assert y != sorted(y, reverse=True)


def test_same_arguments_give_the_same_points_and_leave_the_global_random_alone():
    random.seed(5)
    state = random.getstate()
    first = make_moons(50, 0.2, 7)
    assert random.getstate() == state
    random.seed(6)
    assert make_moons(50, 0.2, 7) == first
    assert make_moons(50, 0.2, 8) != first


def test_types_are_plain_python():
    X, y = make_moons(7, noise=1)
    assert {type(v) for row in X for v in row} == {float}
    assert {type(v) for v in y} == {int}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_samples": 1}, ValueError, "at least 2.*got 1"),
        ({"n_samples": 10.0}, TypeError, r"n_samples must be an int, got 10\.0 \(float\)"),
        ({"n_samples": True}, TypeError, "got True"),
        ({"noise": -0.1}, ValueError, r"got -0\.1"),
        ({"noise": math.nan}, ValueError, "got nan"),
        ({"noise": math.inf}, ValueError, "got inf"),
        ({"noise": "0.1"}, TypeError, r"noise must be a number, got '0\.1' \(str\)"),
        ({"seed": None}, TypeError, r"seed must be an int, got None \(NoneType\)"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        make_moons(**arguments)
