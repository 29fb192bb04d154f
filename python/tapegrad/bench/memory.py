"""Bytes of a graph, by how much a fresh process grows that builds it; this module run as a program is that process."""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

from tapegrad.bench.engines import ENGINES
from tapegrad.bench.workloads import WORKLOADS

TIMEOUT = 60.0  # seconds
PR_SET_THP_DISABLE = 41


def graph_bytes(engine: str, workload: str, size: int) -> int | None:
    """Bytes that the live graph of one step takes, or None where they cannot be told."""
    command = [sys.executable, "-m", "tapegrad.bench.memory", engine, workload, str(size)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def resident_bytes() -> int:
    """What the process has in memory now; where the system does not say, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(engine_name: str, workload_name: str, size: int) -> int:
    """Build a small graph, so that code and pools are there, then the one of ``size``, and return what that added."""
    _use_small_pages()
    engine = next(e for e in ENGINES if e.name == engine_name)
    workload = next(w for w in WORKLOADS if w.name == workload_name)
    adapter = engine.load()
    for wanted in (workload.check_size, size):
        program, parameters = workload.scalar_program(adapter, wanted)
        gc.collect()
        before = resident_bytes()
        root = adapter.graph(program, parameters)
        after = resident_bytes()
        del root
    return after - before


def _use_small_pages() -> None:
    """Keep Linux from handing out memory in blocks of 2 MiB, which would count as used from the first byte on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


if __name__ == "__main__":
    print(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
