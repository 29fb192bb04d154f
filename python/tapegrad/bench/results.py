"""What a run measured: plain records, with every sample kept, that go to JSON and come back unchanged."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = "tapegrad-bench/1"


@dataclass
class Row:
    """One engine on one case. Times are seconds of one step; ``rounds`` says in which round each was taken."""

    engine: str
    #: "ok", or why there are no samples: "skipped", "failed", "unequal", "missing", "unable".
    status: str = "ok"
    message: str = ""
    #: The size that was run: the case's own, or less where a slow engine did fewer units.
    size: int = 0
    #: Steps per sample.
    loops: int = 1
    rounds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    #: Processor seconds of the same steps, all threads together.
    cpu_seconds: list[float] = field(default_factory=list)
    #: Bytes of memory that the live graph takes, None where not measured.
    bytes: int | None = None


@dataclass
class CaseResult:
    """One size of a workload with the engines that took part."""

    label: str
    size: int
    part: str = "whole"
    #: Units that a time is divided by; None where they could not be counted.
    items: int | None = None
    #: Scalar nodes of the graph that tapegrad builds.
    nodes: int | None = None
    rows: list[Row] = field(default_factory=list)


@dataclass
class WorkloadResult:
    """One workload: its cases, and the engines that never got to them, each with the reason."""

    name: str
    about: str
    unit: str
    cases: list[CaseResult] = field(default_factory=list)
    absent: list[Row] = field(default_factory=list)


@dataclass
class Report:
    """A whole run, with what is needed to judge it later."""

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    options: dict[str, Any]
    workloads: list[WorkloadResult] = field(default_factory=list)
    interrupted: bool = False

    def failures(self) -> list[str]:
        """Why the run has failed, if it has: results that were not equal, or tapegrad itself raising an error."""
        found = []
        for workload in self.workloads:
            for row in (*workload.absent, *(row for case in workload.cases for row in case.rows)):
                if row.status == "unequal" or (row.status == "failed" and row.engine.startswith("tapegrad")):
                    found += [f"{workload.name}: {row.engine} {row.status}: {row.message}"]
        return found

    def save(self, path: Path) -> None:
        """Write the report as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Report":
        """Read what :meth:`save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a report of this format; the message names the file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            workloads = [
                WorkloadResult(
                    **{
                        **w,
                        "cases": [CaseResult(**{**c, "rows": [Row(**r) for r in c["rows"]]}) for c in w["cases"]],
                        "absent": [Row(**r) for r in w["absent"]],
                    }
                )
                for w in content.pop("workloads")
            ]
            return cls(**content, workloads=workloads)
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path} is not a report written by 'tapegrad bench --json' ({FORMAT}): {error!r}"
            ) from error
