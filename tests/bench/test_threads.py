"""Threads are pinned by the environment of a fresh process, which keeps its arguments, its status and its signals."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tapegrad.bench import threads


def test_every_variable_is_set():
    pinned = threads.environment(3, {"PATH": "/bin", "OMP_NUM_THREADS": "8"})
    assert {pinned[name] for name in threads.VARIABLES} == {"3"}
    assert pinned["PATH"] == "/bin"
    assert "XLA_FLAGS" not in pinned


def test_jax_is_told_too_and_other_flags_stay():
    pinned = threads.environment(1, {"XLA_FLAGS": "--xla_dump_to=/tmp"})
    assert pinned["XLA_FLAGS"] == "--xla_dump_to=/tmp --xla_cpu_multi_thread_eigen=false"


@pytest.mark.parametrize("n", [1, 2])
def test_pinning_twice_is_pinning_once(n):
    pinned = threads.environment(n, {})
    assert threads.is_pinned(n, pinned)
    assert not threads.is_pinned(3 - n, pinned)
    assert not threads.is_pinned(n, {})


def test_the_process_has_the_variables_and_its_status_comes_back(tmp_path):
    code = f"import json, os, sys; json.dump(dict(os.environ), open({str(tmp_path / 'env')!r}, 'w')); sys.exit(7)"
    assert threads.run_pinned(1, ["-c", code]) == 7
    seen = json.loads((tmp_path / "env").read_text())
    assert {seen[name] for name in threads.VARIABLES} == {"1"}


def test_a_process_ended_by_a_signal():
    assert threads.run_pinned(1, ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]) == 128 + 9


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    threads.run_pinned(1, ["-c", ""])
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_reaches_the_process_exactly_once(tmp_path):
    """A whole process group is interrupted, as by the terminal; the pinned process hears of it from its parent."""
    child = textwrap.dedent("""
        import pathlib, sys, time
        log = pathlib.Path(sys.argv[1])
        count = 0
        log.write_text("ready")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                time.sleep(0.3)
                if count:
                    break
            except KeyboardInterrupt:
                count += 1
        log.write_text(str(count))
        sys.exit(130)
    """)
    (tmp_path / "child.py").write_text(child)
    parent = f"""
from tapegrad.bench.threads import run_pinned
raise SystemExit(run_pinned(1, [{str(tmp_path / "child.py")!r}, {str(tmp_path / "log")!r}]))
"""
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    log = tmp_path / "log"
    while not (log.exists() and log.read_text() == "ready"):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert log.read_text() == "1"
