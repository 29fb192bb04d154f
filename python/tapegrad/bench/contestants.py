"""Who takes part in a workload and what may be spent on whom: loading engines, limits of time, the trusted engine."""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tapegrad.bench.engines.base import Adapter, Engine, Outcome
from tapegrad.bench.engines.values import REFERENCE
from tapegrad.bench.results import Row
from tapegrad.bench.table import duration
from tapegrad.bench.workloads.base import Workload


@dataclass(frozen=True)
class Settings:
    """What a run may spend, in seconds unless said otherwise."""

    quick: bool = False
    #: For one case, all engines together.
    case_seconds: float = 2.0
    #: A sample is at least this long, by doing several steps.
    sample_seconds: float = 0.01
    #: An engine whose step would be longer skips the case.
    longest_step: float = 2.5
    #: Or, where units are independent, does as many as fit into this.
    divided_step: float = 0.4
    #: The same for recording a program beforehand.
    longest_recording: float = 5.0
    #: A longer step gets no warm-up: it has no need of one.
    warm_up_below: float = 0.2
    #: Cases begun later than this are hurried through.
    total_seconds: float = math.inf
    fewest_rounds: int = 3
    most_rounds: int = 25

    def hurried(self) -> "Settings":
        """The same with a tenth of the time for everything: slow engines drop out, fast ones take fewer rounds."""
        return replace(
            self,
            case_seconds=self.case_seconds / 10,
            longest_step=self.longest_step / 10,
            divided_step=self.divided_step / 10,
            longest_recording=self.longest_recording / 10,
        )

    def rounds_in(self, share: float, sample: float) -> int:
        """How many samples of ``sample`` seconds fit into ``share``, within the limits; of very long ones, two do."""
        fewest = min(self.fewest_rounds, 2) if sample > self.case_seconds / 5 else self.fewest_rounds
        return max(fewest, min(self.most_rounds, int(share / sample)))


FULL = Settings()
QUICK = Settings(
    quick=True,
    case_seconds=0.25,
    sample_seconds=0.003,
    longest_step=0.25,
    divided_step=0.1,
    longest_recording=0.5,
    warm_up_below=0.05,
    total_seconds=13.0,
    fewest_rounds=2,
    most_rounds=9,
)


@dataclass
class Contestant:
    """An engine that is able to run a workload, and how long it takes for one unit of its size."""

    name: str
    adapter: Adapter
    form: str
    step_rate: float = 0.0
    recording_rate: float = 0.0

    @property
    def is_vectorised(self) -> bool:
        """Whether the time of a small size says little of a large one: a call costs more than what it computes."""
        return self.form in ("arrays", "columns", "lanes", "rows")

    @property
    def has_graph(self) -> bool:
        """Whether the engine can hold the workload's graph for its memory to be measured."""
        return self.form == "scalars" and self.adapter.offers("graph")

    def affordable(self, size: int, divisible: bool, smallest: int, settings: Settings) -> tuple[int, str]:
        """The size to run in place of ``size``, and the reason if it is none at all."""
        if self.form == "scalars" and self.adapter.replays:
            recording = self.recording_rate * size
            if recording > settings.longest_recording:
                return size, f"recording would take about {duration(recording)}"
        step = self.step_rate * size
        if self.is_vectorised or step <= (settings.divided_step if divisible else settings.longest_step):
            return size, ""
        if not divisible:
            return size, f"a step would take about {duration(step)}"
        fitting = int(settings.divided_step / self.step_rate)
        digits = 10 ** max(len(str(fitting)) - 1, 0)
        return max(smallest, fitting // digits * digits), ""


def gather(
    workload: Workload, engines: Sequence[Engine], adapters: dict[str, Adapter | Exception], absent: list[Row]
) -> list[Contestant]:
    """The engines able to run ``workload``; others go to ``absent`` with the reason. ``adapters`` keeps the imports."""
    contestants = []
    for engine in engines:
        if (workload.engines and engine.name not in workload.engines) or (
            engine.only and workload.name not in engine.only
        ):
            continue
        if workload.name in engine.never:
            absent.append(Row(engine.name, "unable", engine.never[workload.name]))
            continue
        adapter = _load(engine, adapters)
        if isinstance(adapter, ModuleNotFoundError) and not _installed(engine):
            absent.append(Row(engine.name, "missing", engine.missing()))
        elif isinstance(adapter, Exception):
            absent.append(Row(engine.name, "failed", first_line(adapter)))
        elif (form := workload.form_for(adapter)) is None:
            continue
        elif form == "scalars" and adapter.replays and workload.changes and not adapter.keeps_programs:
            absent.append(Row(engine.name, "unable", "would record anew for every step"))
        else:
            contestants.append(Contestant(engine.name, adapter, form))
    return contestants


def _load(engine: Engine, adapters: dict[str, Adapter | Exception]) -> Adapter | Exception:
    if engine.name not in adapters:
        try:
            adapters[engine.name] = engine.load()
        except Exception as error:
            adapters[engine.name] = error
    return adapters[engine.name]


def _installed(engine: Engine) -> bool:
    try:
        return importlib.util.find_spec(engine.module) is not None
    except ModuleNotFoundError:
        return False


def oracle(outcomes: dict[str, Outcome]) -> str:
    """Whom the others are compared with: the reference, else the first engine with gradients, else the first."""
    if REFERENCE.name in outcomes:
        return REFERENCE.name
    return next((name for name, outcome in outcomes.items() if outcome.gradients is not None), next(iter(outcomes)))


def first_line(error: Exception) -> str:
    """The kind of the exception and the first line of what it says."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
