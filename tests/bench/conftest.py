"""A laboratory for the harness: engines of known cost on a clock that only they advance; no test depends on time."""

import gc
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tapegrad.bench.clock import Clock
from tapegrad.bench.contestants import Settings
from tapegrad.bench.engines.base import Adapter, Engine, Outcome
from tapegrad.bench.harness import Harness
from tapegrad.bench.results import CaseResult, Report, Row, WorkloadResult
from tapegrad.bench.workloads.base import Case, Prepared, Workload

SETTINGS = Settings(case_seconds=1.0, sample_seconds=0.01, longest_step=2.0, most_rounds=12)


class Work(Workload):
    """Work that takes whatever its engine says."""

    name = "work"
    about = "nothing real"
    unit = "op"
    forms = ("scalars",)
    check_size = 10

    def __init__(self, sizes: tuple[int, ...], divisible: bool, changes: bool) -> None:
        self.sizes, self.divisible, self.changes = sizes, divisible, changes

    def cases(self, quick: bool) -> tuple[Case, ...]:
        return tuple(Case(f"{size} ops", size) for size in self.sizes)

    def prepare(self, adapter: Any, form: str, case: Case) -> Prepared:
        return adapter.prepare(case.size)


class Laboratory:
    """Makes engines and runs them. ``steps`` lists (engine, size, collector is on) of every step ever taken."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cpu = 0.0
        self.steps: list[tuple[str, int, bool]] = []
        self.finished: list[WorkloadResult] = []

    def spend(self, seconds: float, cores: float = 1.0) -> None:
        """Let time pass."""
        self.now += seconds
        self.cpu += seconds * cores

    def engine(
        self,
        name: str,
        cost: float | Callable[[int, int], float] = 1e-6,
        *,
        outcome: Callable[[int], Outcome] = lambda size: Outcome([1.0, 2.0], [3.0]),
        raises: Callable[[int, int], None] = lambda size, step: None,
        setup_cost: float | None = None,
        cores: float = 1.0,
        recording: float | None = None,
        **entry: Any,
    ) -> Engine:
        """An engine whose n-th step at a size takes ``size * cost``, or ``cost(size, n)`` seconds."""
        lab = self

        class Fake(Adapter):
            math = SimpleNamespace()
            replays = recording is not None

            def scalars(self, program: Any, parameters: Any) -> Any:
                raise AssertionError("the fake workload prepares fake engines itself")

            def prepare(self, size: int) -> Prepared:
                lab.spend((recording or 0.0) * size)
                count = [0]

                def step() -> None:
                    count[0] += 1
                    lab.steps.append((name, size, gc.isenabled()))
                    raises(size, count[0])
                    lab.spend(cost(size, count[0]) if callable(cost) else size * cost, cores)

                setup = None if setup_cost is None else lambda: lab.spend(setup_cost)
                return Prepared(step, lambda: outcome(size), setup)

        return Engine(**{"name": name, "module": "math", "pip": "fake", "load": Fake, "how": "fake", **entry})

    def run(
        self,
        *engines: Engine,
        sizes: tuple[int, ...] = (1000,),
        divisible: bool = False,
        changes: bool = False,
        **settings: Any,
    ) -> Report:
        """The report of one workload on these engines."""
        report = Report("2026-01-01", {}, {}, {"threads": 1})
        harness = Harness(
            engines,
            replace(SETTINGS, **settings),
            report,
            clock=Clock(lambda: self.now, lambda: self.cpu),
            finished=self.finished.append,
        )
        harness.run([Work(sizes, divisible, changes)])
        return report


@pytest.fixture
def lab() -> Laboratory:
    """A laboratory at time zero."""
    return Laboratory()


@pytest.fixture
def row_of() -> Callable[..., Row]:
    """Finds an engine's row in a report of one workload."""

    def find(report: Report, engine: str, case: int = 0) -> Row:
        return next(row for row in report.workloads[0].cases[case].rows if row.engine == engine)

    return find


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """Builds a report of one case from {engine: samples}, for what only reads reports."""

    def make(samples: dict[str, list[float]], *, items: int = 1000, **fields: Any) -> Report:
        rows = [
            Row(engine, size=items, rounds=list(range(len(s))), seconds=s, cpu_seconds=list(s))
            for engine, s in samples.items()
        ]
        case = CaseResult("1,000 nodes", items, items=items, nodes=items, rows=rows)
        given = {
            "date": "2026-01-02T03:04:05+00:00",
            "machine": {
                "cpu_model_name": "Abacus 3000",
                "cpu_count": 2,
                "platform": "Babbage",
                "python_version": "3.11.7",
            },
            "versions": {"python": "3.11.7", "tapegrad": "0.1.0", "torch": "2.0"},
            "options": {"quick": False, "threads": 1},
        }
        return Report(**(given | fields), workloads=[WorkloadResult("chain", "a chain", "node", [case])])

    return make
