"""One thread for every library: the environment variables that say so, and a process that starts with them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

# OpenMP (torch), OpenBLAS and Intel's and Apple's BLAS (NumPy), numexpr; NPROC sizes the thread pool of JAX's runtime.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NPROC",
)
XLA_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def environment(threads: int, current: Mapping[str, str]) -> dict[str, str]:
    """``current`` with every library told to use ``threads`` threads."""
    pinned = dict(current) | dict.fromkeys(VARIABLES, str(threads))
    flags = pinned.get("XLA_FLAGS", "")
    if threads == 1 and XLA_ONE_THREAD not in flags:
        pinned["XLA_FLAGS"] = f"{flags} {XLA_ONE_THREAD}".strip()
    return pinned


def is_pinned(threads: int, current: Mapping[str, str] = os.environ) -> bool:
    """Whether ``current`` is such an environment already."""
    return environment(threads, current) == dict(current)


def run_pinned(threads: int, arguments: Sequence[str]) -> int:
    """Run ``python`` with these arguments and pinned threads, for libraries read the variables only when first loaded.

    The process has a session of its own, so that Ctrl-C reaches it once: through here.

    Returns:
        Its exit status, 128 + the signal's number if a signal ended it.
    """
    command = [sys.executable, *arguments]
    child = subprocess.Popen(command, env=environment(threads, os.environ), start_new_session=True)

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    in_main = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    previous = {number: signal.signal(number, forward) for number in FORWARDED} if in_main else {}
    try:
        status = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status
