"""The instruction guard: it counts what is known beforehand, and fails for growth beyond 5% and for nothing less."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "instructions"


@pytest.fixture(scope="module")
def guard():
    spec = importlib.util.spec_from_file_location("guard", HERE / "guard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ENVIRONMENT = {"compiler": "cc 1", "python": "3.11", "machine": "abacus"}


def kept(**counts):
    return {"environment": ENVIRONMENT, "counts": counts}


def test_start_up_cancels(guard):
    assert guard.per_one({100: 5_000 + 100 * 7, 200: 5_000 + 200 * 7}) == 7


def test_the_first_of_three_is_warm_up(guard):
    assert guard.per_one({1: 99_999, 2: 100 + 2 * 7, 4: 100 + 4 * 7}) == 7


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"create": 100.0}, 0),
        ({"create": 105.0}, 0),
        ({"create": 105.1}, 1),
        ({"create": 90.0}, 0),
        ({"create": 300.0}, 1),
    ],
)
def test_growth(guard, found, status):
    assert guard.check(kept(create=100.0), kept(**found)) == status


def test_both_counts_are_shown(guard, capsys):
    guard.check(kept(create=100.0, sweep=50.0), kept(create=120.0, sweep=40.0))
    out = capsys.readouterr().out
    assert "create: 100 -> 120 instructions (+20.0%)" in out
    assert "sweep: 50 -> 40 instructions (-20.0%)" in out


def test_names_must_match(guard, capsys):
    assert guard.check(kept(create=100.0), kept(create=100.0, sweep=5.0)) == 1
    assert "sweep: 5 instructions, not in the file yet" in capsys.readouterr().out
    assert guard.check(kept(create=100.0, sweep=5.0), kept(create=100.0)) == 1
    assert "sweep: in the file, but no longer counted" in capsys.readouterr().out


def test_something_out_of_nothing_is_growth(guard):
    assert guard.check(kept(create=0.0), kept(create=1.0)) == 1
    assert guard.check(kept(create=0.0), kept(create=0.0)) == 0


def test_other_tools_are_not_compared(guard, capsys):
    other = kept(create=100.0) | {"environment": ENVIRONMENT | {"compiler": "cc 2"}}
    assert guard.check(kept(create=100.0), other) == 2
    assert "cannot be compared" in capsys.readouterr().out


def test_a_missing_tool_is_named(guard, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert guard.main(["check"]) == 3
    assert "is not installed: apt-get install" in capsys.readouterr().err


def test_the_kept_file_covers_what_the_drivers_count(guard):
    content = json.loads(guard.COUNTS.read_text())
    assert set(content) == {"environment", "counts"}
    names = set(content["counts"])
    spec = importlib.util.spec_from_file_location("python_driver", HERE / "python_driver.py")
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    assert {f"python: {name}" for name in driver.OPERATIONS} <= names
    assert {f"python: chain: {part}" for part in ("create", "backward", "free")} <= names
    for kind in ("multiply", "relu"):
        assert {f"core: {part} a node, {kind}" for part in ("create", "sweep", "free")} <= names
    assert all(count > 0 for count in content["counts"].values())


KNOWN = """
#include <valgrind/callgrind.h>
int main() {
  for (int times = 1000; times <= 2000; times += 1000) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    asm volatile("mov %0, %%ecx\\n1: .rept 20\\nnop\\n.endr\\ndec %%ecx\\njnz 1b" : : "r"(times) : "ecx", "cc");
    CALLGRIND_DUMP_STATS_AT(times == 1000 ? "known|1000" : "known|2000");
    CALLGRIND_STOP_INSTRUMENTATION;
  }
}
"""


def test_a_loop_of_known_length_is_counted_exactly(guard, tmp_path):
    """Twenty nops, a decrement and a jump."""
    compiler = shutil.which("c++")
    if compiler is None or shutil.which("valgrind") is None or guard.platform.machine() != "x86_64":
        pytest.skip("needs valgrind and a compiler on x86-64")
    (tmp_path / "known.cpp").write_text(KNOWN)
    subprocess.run([compiler, str(tmp_path / "known.cpp"), "-o", str(tmp_path / "known")], check=True)
    assert guard.counts_of([str(tmp_path / "known")], tmp_path, "test") == {"test: known": 22.0}
