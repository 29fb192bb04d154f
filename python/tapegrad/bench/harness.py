"""Measuring: engines are checked against each other, then take turns round by round; none can stop the others.

pyperf's runner starts worker processes for one benchmark after another, so a machine that drifts favours whichever was
measured at the better moment. Here all engines are in one process and a round is one sample of each, in an order that
rotates. What is pyperf's own is used as such: its clock and, in ``machine``, its knowledge of the system.
"""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tapegrad.bench.clock import Clock
from tapegrad.bench.contestants import Contestant, Settings, first_line, gather, oracle
from tapegrad.bench.engines import BASELINE
from tapegrad.bench.engines.base import Adapter, Engine, Outcome
from tapegrad.bench.equality import difference
from tapegrad.bench.results import CaseResult, Report, Row, WorkloadResult
from tapegrad.bench.workloads.base import Case, Prepared, Workload

MemoryProbe = Callable[[str, str, int], int | None]


@dataclass
class Turn:
    """An engine on one case: its row, and what is needed to take the next sample."""

    row: Row
    prepared: Prepared
    contestant: Contestant
    outcome: Outcome | None = None
    rounds: frozenset[int] = frozenset()
    step_seconds: float = 0.0


@dataclass
class Harness:
    """One run. Results go into ``report`` as they arrive, so that an interruption keeps what there is."""

    engines: Sequence[Engine]
    settings: Settings
    report: Report
    clock: Clock = field(default_factory=Clock)
    memory: MemoryProbe = lambda engine, workload, size: None
    count_nodes: Callable[[], int] | None = None
    progress: Callable[[str], None] = lambda text: None
    finished: Callable[[WorkloadResult], None] = lambda result: None
    adapters: dict[str, Adapter | Exception] = field(default_factory=dict)
    deadline: float = math.inf

    def run(self, workloads: Sequence[Workload]) -> None:
        """Measure all workloads; Ctrl-C ends the run early with what was measured so far."""
        self.deadline = self.clock.wall() + self.settings.total_seconds
        for workload in workloads:
            result = WorkloadResult(workload.name, workload.about, workload.unit)
            self.report.workloads.append(result)
            try:
                self._measure(workload, result)
            except KeyboardInterrupt:
                self.report.interrupted = True
                return
            finally:
                self.finished(result)

    def _measure(self, workload: Workload, result: WorkloadResult) -> None:
        self.progress(f"{workload.name}: checking that all engines compute the same")
        contestants = gather(workload, self.engines, self.adapters, result.absent)
        _set_aside()
        try:
            contestants = self._check(workload, contestants, result.absent)
            for case in workload.cases(self.settings.quick):
                self.progress(f"{workload.name}: {case.label}")
                if self.clock.wall() > self.deadline:
                    self.settings, self.deadline = self.settings.hurried(), math.inf
                case_result = CaseResult(case.label, case.size, case.part)
                result.cases.append(case_result)
                self._count(workload, case, case_result, contestants)
                self._measure_case(workload, case, case_result, contestants)
        finally:
            gc.unfreeze()

    def _check(self, workload: Workload, contestants: list[Contestant], absent: list[Row]) -> list[Contestant]:
        """A few steps of each engine at a small size; those that raise or compute something else are sorted out."""
        case = Case("check", workload.check_size)
        outcomes: dict[str, Outcome] = {}
        for contestant in contestants:
            try:
                start = self.clock.wall()
                prepared = workload.prepare(contestant.adapter, contestant.form, case)
                contestant.recording_rate = (self.clock.wall() - start) / case.size
                _set_aside()
                self._seconds_of(prepared, 1)
                self._seconds_of(prepared, 1)  # JAX compiles once more for the second
                contestant.step_rate = self._seconds_of(prepared, 1)[0] / case.size
                outcomes[contestant.name] = prepared.outcome()
            except Exception as error:
                absent.append(Row(contestant.name, "failed", first_line(error)))
        absent += _unequal(outcomes)
        out = {row.engine for row in absent}
        return [contestant for contestant in contestants if contestant.name not in out]

    def _count(self, workload: Workload, case: Case, result: CaseResult, contestants: list[Contestant]) -> None:
        adapter = next((c.adapter for c in contestants if c.name == BASELINE), None)
        if adapter is not None and self.count_nodes is not None:
            result.nodes = workload.nodes(adapter, self.count_nodes, case.size)
        result.items = workload.items(case.size, result.nodes)

    def _measure_case(self, workload: Workload, case: Case, result: CaseResult, contestants: list[Contestant]) -> None:
        turns = [t for c in contestants if (t := self._prepare(workload, case, result, c)) is not None]
        self._take_rounds(turns, self._plan(turns))
        for turn in turns:
            if turn.row.status == "ok" and turn.row.seconds:
                turn.contestant.step_rate = min(turn.row.seconds) / turn.row.size
                measured = case.memory == "everybody" or (case.memory == "tapegrad" and turn.row.engine == BASELINE)
                if measured and turn.contestant.has_graph:
                    turn.row.bytes = self.memory(turn.row.engine, workload.name, case.size)

    def _prepare(self, workload: Workload, case: Case, result: CaseResult, contestant: Contestant) -> Turn | None:
        """Set an engine up for a case, unless that would take too long; a quick one is warmed up."""
        size, reason = contestant.affordable(case.size, workload.divisible, workload.check_size, self.settings)
        row = Row(contestant.name, "skipped" if reason else "ok", reason, size=size)
        result.rows.append(row)
        if reason:
            return None
        resized = Case(case.label, size, case.part)
        turn = None
        try:
            turn = Turn(row, workload.prepare(contestant.adapter, contestant.form, resized), contestant)
            turn.step_seconds = contestant.step_rate * size
            _set_aside()
            if contestant.is_vectorised or turn.step_seconds < self.settings.warm_up_below:
                self._warm_up(turn)
        except Exception as error:
            _fail(row, error)
            return None
        return turn

    def _warm_up(self, turn: Turn) -> None:
        """Three steps: one to compare, one in case the second compiles anew (JAX's does), one to time."""
        self._seconds_of(turn.prepared, 1)
        turn.outcome = turn.prepared.outcome()
        self._seconds_of(turn.prepared, 1)
        turn.step_seconds, _ = self._seconds_of(turn.prepared, 1)

    def _plan(self, turns: list[Turn]) -> float:
        """Fix the steps of a sample and the rounds of each engine: all start together, slow ones sit out in between.

        Returns:
            The seconds that all samples should take.
        """
        if not turns:
            return 0.0
        share = self.settings.case_seconds / len(turns)
        wanted: dict[str, int] = {}
        for turn in turns:
            step = max(turn.step_seconds, 1e-9)
            turn.row.loops = 1 if turn.prepared.setup else max(1, math.ceil(self.settings.sample_seconds / step))
            wanted[turn.row.engine] = self.settings.rounds_in(share, step * turn.row.loops)
        total = wanted.get(BASELINE, max(wanted.values()))
        planned = 0.0
        for turn in turns:
            n = min(wanted[turn.row.engine], total)
            turn.rounds = frozenset(i * total // n for i in range(n))
            planned += n * turn.row.loops * turn.step_seconds
        return planned

    def _take_rounds(self, turns: list[Turn], planned: float) -> None:
        """Take the samples, but no more rounds than needed once that lasts far longer than planned."""
        deadline = self.clock.wall() + 2 * planned + self.settings.case_seconds
        for number in range(1 + max((max(turn.rounds) for turn in turns), default=-1)):
            shift = number % len(turns)
            for turn in turns[shift:] + turns[:shift]:
                if number in turn.rounds and turn.row.status == "ok":
                    self._sample(turn, number)
            if number == 0:
                self._compare(turns)
            if number + 1 >= self.settings.fewest_rounds and self.clock.wall() > deadline:
                break

    def _sample(self, turn: Turn, number: int) -> None:
        row = turn.row
        try:
            wall, cpu = self._seconds_of(turn.prepared, row.loops)
            if turn.outcome is None:
                turn.outcome = turn.prepared.outcome()
        except Exception as error:
            _fail(row, error)
            return
        row.rounds.append(number)
        row.seconds.append(wall / row.loops)
        row.cpu_seconds.append(cpu / row.loops)

    def _compare(self, turns: list[Turn]) -> None:
        """The check once more, at the size that is timed, between the engines that did all of it."""
        largest = max(turn.row.size for turn in turns)
        outcomes = {
            turn.row.engine: turn.outcome
            for turn in turns
            if turn.outcome is not None and turn.row.status == "ok" and turn.row.size == largest
        }
        wrong = {row.engine: row for row in _unequal(outcomes)}
        for turn in turns:
            if turn.row.engine in wrong:
                turn.row.status, turn.row.message = "unequal", wrong[turn.row.engine].message
                turn.row.rounds, turn.row.seconds, turn.row.cpu_seconds = [], [], []

    def _seconds_of(self, prepared: Prepared, steps: int) -> tuple[float, float]:
        """Wall and processor seconds of ``steps`` steps with the collector on, as users have it.

        Whoever leaves garbage pays for it: others' is collected before the clock starts, one's own before it stops. A
        graph held together by cycles is not free before that, and waiting would pass the bill to the next engine.
        """
        gc.collect()
        if prepared.setup is not None:
            prepared.setup()
        step, clock = prepared.step, self.clock
        cpu, wall = clock.cpu(), clock.wall()
        for _ in range(steps):
            step()
        gc.collect()
        return clock.wall() - wall, clock.cpu() - cpu


def _set_aside() -> None:
    """Take all that lives now out of the collector's sight, or each engine would pay for the others' modules."""
    gc.collect()
    gc.freeze()


def _fail(row: Row, error: Exception) -> None:
    row.status, row.message = "failed", first_line(error)
    row.rounds, row.seconds, row.cpu_seconds = [], [], []


def _unequal(outcomes: dict[str, Outcome]) -> list[Row]:
    """A row for every engine whose outcome is not that of the most trusted one."""
    if not outcomes:
        return []
    trusted = oracle(outcomes)
    return [
        Row(name, "unequal", message)
        for name, outcome in outcomes.items()
        if (message := difference(name, outcome, trusted, outcomes[trusted])) is not None
    ]
