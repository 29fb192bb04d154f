"""What time is read from, in one place, so that tests can run the harness on a clock of their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Wall time (the clock that pyperf uses too) and processor time of all threads, both in seconds."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
