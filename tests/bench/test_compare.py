"""Comparing reports: what changed is said, what the peers changed by as well is noise."""

import random

import pytest

from tapegrad.bench.compare import FLOOR, Verdict, compare, noise_between, text, verdict

PEERS = ("micrograd", "torch scalars", "torch tensors", "CasADi", "XAD", "autograd", "NumPy")


def samples(median, spread=0.01, n=15, seed=1):
    generator = random.Random(seed)
    return [median * (1 + generator.uniform(-spread, spread)) for _ in range(n)]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, Verdict.SAME), (1.02, Verdict.SAME), (1.10, Verdict.SLOWER), (0.9, Verdict.FASTER), (3.0, Verdict.SLOWER)],
)
def test_verdict(factor, expected):
    assert verdict(samples(1.0), samples(factor, seed=2), FLOOR) is expected


def test_a_wide_spread_hides_a_small_change():
    assert verdict(samples(1.0, 0.3), samples(1.1, 0.3, seed=2), FLOOR) is Verdict.SAME


def test_a_few_disturbed_samples_are_not_a_change():
    assert verdict(samples(1.0), [*samples(1.0, seed=2)[:9], *[5.0] * 6], FLOOR) is Verdict.SAME


def test_a_median_moved_by_other_programs_is_not_a_change():
    """All but one sample are disturbed; the minimum shows that the work is what it was."""
    assert verdict(samples(1.0), [1.0, *samples(1.5, n=14)], FLOOR) is Verdict.SAME


def reports(make_report, *, ours=1.0, peers=None, machine=None):
    factors = peers or dict.fromkeys(PEERS, 1.0)
    a = make_report({"tapegrad": samples(1e-3), **{name: samples(1e-2, seed=i) for i, name in enumerate(factors)}})
    b = make_report(
        {
            "tapegrad": samples(1e-3 * ours, seed=50),
            **{name: samples(1e-2 * f, seed=99 + i) for i, (name, f) in enumerate(factors.items())},
        }
    )
    if machine:
        b.machine = {**b.machine, "cpu_model_name": machine}
    return a, b


def changed(a, b):
    return {change.engine: change.verdict for change in compare(a, b) if change.verdict is not Verdict.SAME}


def test_what_changed_is_found(make_report):
    a, b = reports(make_report, ours=1.2)
    assert changed(a, b) == {"tapegrad": Verdict.SLOWER}
    assert "slower" in text(a, b)
    assert "1 of 8 times changed beyond the noise" in text(a, b)


def test_nothing_changed(make_report):
    a, b = reports(make_report)
    assert changed(a, b) == {}
    assert "0 of 8 times changed beyond the noise" in text(a, b)


def test_a_machine_that_is_slower_as_a_whole_is_no_change(make_report):
    a, b = reports(make_report, ours=1.3, peers=dict.fromkeys(PEERS, 1.3))
    assert noise_between(a, b).drift == pytest.approx(1.3, rel=0.02)
    assert changed(a, b) == {}


def test_getting_slower_with_the_peers_staying_put_on_a_faster_machine(make_report):
    a, b = reports(make_report, ours=1.0, peers=dict.fromkeys(PEERS, 0.7))
    assert changed(a, b) == {"tapegrad": Verdict.SLOWER}


def test_peers_that_scatter_raise_the_noise(make_report):
    scattered = dict(zip(PEERS, (0.8, 0.85, 0.95, 1.0, 1.05, 1.2, 1.25), strict=True))
    a, b = reports(make_report, ours=1.15, peers=scattered)
    assert noise_between(a, b).floor > 0.15
    assert "tapegrad" not in changed(a, b)
    assert "tapegrad" in changed(*reports(make_report, ours=1.6, peers=scattered))


def test_a_peer_of_another_version_tells_nothing_of_the_noise(make_report):
    a, b = reports(make_report)
    assert noise_between(a, b).controls == 7
    b.versions = {**b.versions, "torch": "3.0"}
    assert noise_between(a, b).controls == 5


def test_without_peers_the_floor_is_on_the_safe_side(make_report):
    a, b = reports(make_report, ours=1.08, peers={"micrograd": 1.0})
    assert changed(a, b) == {}
    assert "Too few peers in both" in text(a, b)
    assert changed(*reports(make_report, ours=1.2, peers={"micrograd": 1.0})) == {"tapegrad": Verdict.SLOWER}


def test_ratios_are_given_for_peers(make_report):
    a, b = reports(make_report, ours=2.0)
    change = next(c for c in compare(a, b) if c.engine == "micrograd")
    assert change.ratio_before == pytest.approx(10, rel=0.05)
    assert change.ratio_after == pytest.approx(5, rel=0.05)


def test_another_machine_is_pointed_out(make_report):
    a, b = reports(make_report, machine="Difference Engine")
    assert "Not the same machine" in text(a, b)
    assert "Difference Engine" in text(a, b)


def test_what_only_one_report_has_is_listed(make_report):
    a, b = make_report({"tapegrad": [1.0], "XAD": [1.0]}), make_report({"tapegrad": [1.0], "JAX": [1.0]})
    assert "only in A: chain, 1,000 nodes, XAD" in text(a, b)
    assert "only in B: chain, 1,000 nodes, JAX" in text(a, b)
