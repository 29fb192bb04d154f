"""The harness on engines of known cost: what it measures is that cost, whatever the machine or an engine does."""

import gc

import pytest

from tapegrad.bench.engines.base import Outcome
from tapegrad.bench.stats import cores_used, ratio, ratios, summarise


def test_a_known_cost_shows_up(lab, row_of):
    report = lab.run(lab.engine("tapegrad", 2e-6), lab.engine("peer", 6e-6))
    ours, peer = row_of(report, "tapegrad"), row_of(report, "peer")
    assert ours.status == peer.status == "ok"
    assert summarise(ours.seconds).median == pytest.approx(2e-3, rel=1e-9)
    assert summarise(peer.seconds).minimum == pytest.approx(6e-3, rel=1e-9)
    assert ratio(peer, ours) == pytest.approx(3.0, rel=1e-9)
    assert report.failures() == []


def test_a_sample_is_as_many_steps_as_fill_its_time(lab, row_of):
    row = row_of(lab.run(lab.engine("tapegrad", 1e-6)), "tapegrad")
    assert row.loops == 10
    assert len(row.seconds) == 12
    assert sum(size == 1000 for _, size, _ in lab.steps) == 3 + 12 * 10  # warm-up, then samples


def test_warm_up_is_not_in_the_samples(lab, row_of):
    compiling = lab.engine("tapegrad", lambda size, n: size * (1e-3 if n <= 2 else 4e-6))
    row = row_of(lab.run(compiling), "tapegrad")
    assert row.seconds == pytest.approx([0.004] * 12, rel=1e-9)


def test_engines_take_turns_and_the_first_turn_goes_round(lab):
    lab.run(*(lab.engine(name, 2e-5) for name in ("tapegrad", "b", "c")))
    timed = [name for name, size, _ in lab.steps if size == 1000][9:]
    rounds = [timed[i : i + 3] for i in range(0, len(timed), 3)]
    assert [sorted(r) for r in rounds] == [["b", "c", "tapegrad"]] * 12
    assert [r[0] for r in rounds[:4]] == ["tapegrad", "b", "c", "tapegrad"]


def test_a_drifting_machine_does_not_change_the_ratio(lab, row_of):
    """The machine gets ever slower in the course of the run; every engine meets all of it."""

    def drifting(cost):
        return lambda size, n: size * cost * (1 + lab.now / 0.5)

    report = lab.run(lab.engine("tapegrad", drifting(1e-5)), lab.engine("peer", drifting(2e-5)))
    ours, peer = row_of(report, "tapegrad"), row_of(report, "peer")
    assert max(ours.seconds) > 1.9 * min(ours.seconds)
    assert ratio(peer, ours) == pytest.approx(2.0, rel=0.05)


def test_the_ratio_is_taken_round_by_round(lab, row_of):
    """One round in three is disturbed for both; totals of unequal numbers of rounds would be off."""
    report = lab.run(lab.engine("tapegrad", 1e-5), lab.engine("slow", 2e-4), case_seconds=2.0)
    ours, slow = row_of(report, "tapegrad"), row_of(report, "slow")
    assert len(slow.rounds) < len(ours.rounds)
    assert set(slow.rounds) < set(ours.rounds)
    assert ratios(slow, ours) == pytest.approx([20.0] * len(slow.rounds), rel=1e-9)


def test_the_collector_is_on_and_nothing_stays_frozen(lab):
    before = gc.get_freeze_count()
    lab.run(lab.engine("tapegrad"))
    assert all(enabled for _, _, enabled in lab.steps)
    assert gc.get_freeze_count() == before


def test_an_engine_pays_for_its_own_garbage(lab, row_of):
    """A cycle whose end takes a second: it is on the clock of the one who left it, not on the next one's."""

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            lab.spend(1.0)

    def litter(size, n):
        if size == 1000 and n > 3:  # after the warm-up
            Cycle()
        return size * 1e-5

    report = lab.run(lab.engine("tapegrad", 1e-5), lab.engine("litterer", litter))
    assert max(row_of(report, "tapegrad").seconds) == pytest.approx(0.01, rel=1e-9)
    assert min(row_of(report, "litterer").seconds) == pytest.approx(1.01, rel=1e-9)


def test_unequal_results_fail_the_run_with_both_values_shown(lab):
    wrong = lab.engine("wrong", outcome=lambda size: Outcome([1.0, 2.0], [3.0000001]))
    report = lab.run(lab.engine("tapegrad"), wrong)
    [failure] = report.failures()
    assert "gradient 0 differs: wrong gives 3.0000001, tapegrad gives 3.0" in failure
    assert [row.engine for row in report.workloads[0].cases[0].rows] == ["tapegrad"], "a wrong result is not timed"


def test_results_are_compared_again_at_the_size_that_is_timed(lab, row_of):
    wrong = lab.engine("wrong", outcome=lambda size: Outcome([1.0, 2.0 if size < 1000 else 2.1], [3.0]))
    report = lab.run(lab.engine("tapegrad"), wrong)
    assert row_of(report, "wrong").status == "unequal"
    assert row_of(report, "wrong").seconds == []
    assert "value 1 differs: wrong gives 2.1, tapegrad gives 2.0" in report.failures()[0]
    assert row_of(report, "tapegrad").seconds


def test_a_slow_engine_is_compared_at_the_size_that_is_timed_too(lab, row_of):
    wrong = lab.engine("wrong", 1e-3, outcome=lambda size: Outcome([1.0, float(size > 10)], [3.0]))
    good = lab.engine("tapegrad", outcome=lambda size: Outcome([1.0, 0.0], [3.0]))
    assert row_of(lab.run(good, wrong), "wrong").status == "unequal"


def test_an_engine_without_gradients_is_held_to_its_values(lab, row_of):
    floats = lab.engine("floats", outcome=lambda size: Outcome([1.0, 2.0], None))
    assert row_of(lab.run(floats, lab.engine("tapegrad")), "floats").status == "ok"
    wrong = lab.engine("floats", outcome=lambda size: Outcome([1.0, 2.5], None))
    assert "floats gives 2.5, tapegrad gives 2.0" in lab.run(wrong, lab.engine("tapegrad")).failures()[0]


def boom(size, n):
    raise RuntimeError("no luck\nsecond line")


def boom_later(size, n):
    if size == 1000 and n > 20:
        boom(size, n)


def boom_at_full_size(size, n):
    if size == 1000:
        boom(size, n)


@pytest.mark.parametrize("raises", [boom, boom_at_full_size, boom_later])
def test_an_engine_that_raises_is_reported_and_the_rest_goes_on(lab, row_of, raises):
    report = lab.run(lab.engine("broken", raises=raises), lab.engine("tapegrad"))
    broken = [*report.workloads[0].absent, *report.workloads[0].cases[0].rows][0]
    assert (broken.engine, broken.status, broken.message) == ("broken", "failed", "RuntimeError: no luck")
    assert broken.seconds == []
    assert len(row_of(report, "tapegrad").seconds) == 12
    assert report.failures() == [], "another engine's failure is not ours"


def test_tapegrad_raising_fails_the_run(lab):
    report = lab.run(lab.engine("tapegrad", raises=boom), lab.engine("peer"))
    assert report.failures() == ["work: tapegrad failed: RuntimeError: no luck"]


def test_an_import_that_raises_is_reported(lab):
    def load():
        raise OSError("libm.so.99: cannot open shared object file")

    report = lab.run(lab.engine("broken", load=load), lab.engine("tapegrad"))
    assert report.workloads[0].absent[0].message == "OSError: libm.so.99: cannot open shared object file"


def test_a_peer_that_is_not_installed_is_listed_with_its_pip_command(lab):
    def load():
        raise ModuleNotFoundError("No module named 'absent_engine'")

    absent = lab.engine("absent", load=load, module="absent_engine.sub", pip="absent-engine")
    [row] = lab.run(absent, lab.engine("tapegrad")).workloads[0].absent
    assert (row.engine, row.status, row.message) == ("absent", "missing", "not installed: pip install absent-engine")


def test_a_module_missing_inside_an_installed_engine_is_a_failure_not_an_absence(lab):
    def load():
        raise ModuleNotFoundError("No module named 'scipy'")

    assert lab.run(lab.engine("half", load=load), lab.engine("tapegrad")).workloads[0].absent[0].status == "failed"


def test_engines_stay_out_of_what_their_entries_say(lab):
    report = lab.run(
        lab.engine("tapegrad"),
        lab.engine("elsewhere", only=frozenset({"other"})),
        lab.engine("never", never={"work": "it would take a year"}),
    )
    assert [row.engine for row in report.workloads[0].cases[0].rows] == ["tapegrad"]
    assert [(r.engine, r.status, r.message) for r in report.workloads[0].absent] == [
        ("never", "unable", "it would take a year")
    ]


def test_a_step_that_would_take_too_long_is_skipped_with_the_estimate(lab, row_of):
    report = lab.run(lab.engine("tapegrad"), lab.engine("slow", 1e-3), sizes=(1000, 10_000))
    assert row_of(report, "slow", 0).status == "ok"
    assert (row_of(report, "slow", 1).status, row_of(report, "slow", 1).message) == (
        "skipped",
        "a step would take about 10.0 s",
    )


def test_where_units_are_independent_a_slow_engine_does_fewer(lab, row_of):
    report = lab.run(lab.engine("tapegrad"), lab.engine("slow", 1e-3), divisible=True, divided_step=0.35)
    slow = row_of(report, "slow")
    assert slow.size == 300
    assert slow.seconds == pytest.approx([0.3] * 2, rel=1e-9)
    assert ratio(slow, row_of(report, "tapegrad")) == pytest.approx(1000.0, rel=1e-9), "by the unit"


def test_recording_that_would_take_too_long_is_skipped(lab, row_of):
    recorder = lab.engine("recorder", recording=1e-2)
    row = row_of(lab.run(lab.engine("tapegrad"), recorder), "recorder")
    assert (row.status, row.message) == ("skipped", "recording would take about 10.0 s")


def test_a_changing_program_is_not_for_engines_that_record(lab):
    report = lab.run(lab.engine("tapegrad"), lab.engine("recorder", recording=0.0), changes=True)
    assert report.workloads[0].absent[0].message == "would record anew for every step"


def test_a_slow_engine_runs_fewer_rounds_from_the_first_on(lab, row_of):
    row = row_of(lab.run(lab.engine("tapegrad"), lab.engine("slow", 1e-4), most_rounds=20), "slow")
    assert len(row.rounds) == 5  # half of a second for each of the two
    assert row.rounds == [0, 4, 8, 12, 16]


def test_set_up_is_not_timed(lab, row_of):
    row = row_of(lab.run(lab.engine("tapegrad", 1e-6, setup_cost=0.5)), "tapegrad")
    assert row.loops == 1
    assert row.seconds == pytest.approx([1e-3] * len(row.seconds), rel=1e-9)


def test_processor_time_tells_how_many_cores_were_used(lab, row_of):
    report = lab.run(lab.engine("tapegrad"), lab.engine("greedy", cores=2.0))
    assert cores_used(row_of(report, "greedy")) == pytest.approx(2.0)
    assert cores_used(row_of(report, "tapegrad")) == pytest.approx(1.0)


def test_interruption_keeps_what_there_is(lab, row_of):
    def interrupt(size, n):
        if size == 1000 and n == 3 + 10 * 4 + 5:
            raise KeyboardInterrupt

    report = lab.run(lab.engine("tapegrad"), lab.engine("b", raises=interrupt), sizes=(1000, 2000))
    assert report.interrupted
    assert len(row_of(report, "b").seconds) == 4
    assert len(row_of(report, "tapegrad").seconds) in (4, 5)
    assert len(report.workloads[0].cases) == 1, "the next case is not begun"
    assert lab.finished == report.workloads, "its tables are printed all the same"


def test_interruption_during_the_check_ends_the_run(lab):
    def interrupt(size, n):
        raise KeyboardInterrupt

    report = lab.run(lab.engine("tapegrad", raises=interrupt))
    assert report.interrupted
    assert lab.finished == report.workloads


def test_when_time_is_short_slow_engines_drop_out_and_fast_ones_hurry(lab, row_of):
    engines = (lab.engine("tapegrad", 2e-5), lab.engine("slow", 4e-4))
    report = lab.run(*engines, sizes=(1000, 1001, 1002), total_seconds=0.5)
    assert [row_of(report, "slow", case).status for case in range(3)] == ["ok", "skipped", "skipped"]
    assert row_of(report, "slow", 1).message == "a step would take about 400 ms"
    assert [len(row_of(report, "tapegrad", case).seconds) for case in range(3)] == [12, 4, 4]


def test_an_engine_that_gets_slower_than_planned_is_cut_short(lab, row_of):
    report = lab.run(lab.engine("tapegrad", lambda size, n: 0.001 if n < 20 else 5.0))
    assert 3 <= len(row_of(report, "tapegrad").seconds) < 12


def test_the_median_of_a_noisy_engine_is_its_median(lab, row_of):
    factors = [1.0, 3.0, 1.1, 1.2, 50.0]
    report = lab.run(lab.engine("tapegrad", lambda size, n: size * 1e-5 * factors[n % 5]), most_rounds=10)
    summary = summarise(row_of(report, "tapegrad").seconds)
    assert summary.n == 10
    assert (summary.minimum, summary.median) == pytest.approx((0.010, 0.012))
