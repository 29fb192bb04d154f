"""Instruction counts of the hot paths under callgrind, against those kept in counts.json: a guard that needs no clock.

``python guard.py check`` fails if one has grown by more than 5%; ``update`` writes the file anew; ``show`` only prints.
Counts are of one compiler and one Python; with others, ``check`` refuses rather than compare what cannot be compared.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
COUNTS = HERE / "counts.json"
TOLERANCE = 0.05
SUMMARY = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
TRIGGER = re.compile(r"^desc: Trigger: Client Request: (.*)\|(\d+)$", re.MULTILINE)


class GuardError(Exception):
    """Counting is not possible here; the message says why and what to do."""


def tool(name: str, package: str) -> str:
    """The program's path."""
    path = shutil.which(name)
    if path is None:
        raise GuardError(f"{name} is not installed: apt-get install {package}")
    return path


def run(command: list[str], **variables: str) -> str:
    """Run a program to its end and return what it wrote."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)
    if done.returncode:
        raise GuardError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path, built: Path | None) -> None:
    """Build the drivers with the project's own CMake files, and with the core of another build if there is one."""
    cmake = tool("cmake", "cmake")
    core = [f"-DTAPEGRAD_BUILT={built.resolve()}"] if built else []
    run([cmake, "-S", str(HERE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *core])
    run([cmake, "--build", str(folder), "--parallel", "2"])


def counts_of(command: list[str], folder: Path, prefix: str) -> dict[str, float]:
    """Instructions of one of each part that the program marks, from its dumps after N and after 2N of them."""
    out = folder / f"callgrind.{prefix}"
    valgrind = [tool("valgrind", "valgrind"), "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    run([*valgrind, *command], PYTHONHASHSEED="0")
    totals: dict[str, dict[int, int]] = {}
    for dump in folder.glob(f"callgrind.{prefix}.*"):
        text = dump.read_text()
        trigger, summary = TRIGGER.search(text), SUMMARY.search(text)
        if trigger and summary:
            totals.setdefault(trigger[1], {})[int(trigger[2])] = int(summary[1])
    return {f"{prefix}: {name}": per_one(by_times) for name, by_times in totals.items()}


def per_one(by_times: dict[int, int]) -> float:
    """What one takes, from the two largest numbers of times."""
    less, more = sorted(by_times)[-2:]
    return round((by_times[more] - by_times[less]) / (more - less), 2)


def environment(folder: Path) -> dict[str, str]:
    """What counts depend on besides the sources."""
    cache = (folder / "CMakeCache.txt").read_text()
    found = re.search(r"^CMAKE_CXX_COMPILER:[A-Z]+=(.*)$", cache, re.MULTILINE)
    compiler = run([found[1] if found else "c++", "--version"]).splitlines()[0]
    python = f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"
    return {"compiler": compiler, "python": python, "machine": platform.machine()}


def measure(built: Path | None) -> dict[str, object]:
    """Count everything, as it is kept in the file; of the core, what was built there."""
    with tempfile.TemporaryDirectory(prefix="tapegrad-instructions-") as name:
        folder = Path(name)
        build(folder, built)
        marks = str(next(folder.glob("libmarks.*")))
        counts = counts_of([str(folder / "core_driver")], folder, "core")
        counts |= counts_of([sys.executable, str(HERE / "python_driver.py"), marks], folder, "python")
        return {"environment": environment(folder), "counts": dict(sorted(counts.items()))}


def compare(kept: dict[str, float], found: dict[str, float]) -> tuple[list[str], list[str]]:
    """What is wrong, and what is worth a word: growth beyond 5% and unknown names, and what has shrunk as much."""
    wrong, notes = [], []
    for name in sorted(kept.keys() | found.keys()):
        if name not in kept:
            wrong.append(f"{name}: {found[name]:g} instructions, not in the file yet")
        elif name not in found:
            wrong.append(f"{name}: in the file, but no longer counted")
        else:
            growth = found[name] / kept[name] - 1 if kept[name] else float(found[name] > 0)
            line = f"{name}: {kept[name]:g} -> {found[name]:g} instructions ({growth:+.1%})"
            if growth > TOLERANCE + 1e-9:
                wrong.append(line)
            elif growth < -TOLERANCE:
                notes.append(line)
    return wrong, notes


def check(kept: dict[str, dict], found: dict[str, dict]) -> int:
    """Print the verdict: 0 if nothing has grown, 1 if something has, 2 if the two cannot be compared."""
    if kept["environment"] != found["environment"]:
        print(f"counts.json is of {kept['environment']}\nthis is        {found['environment']}")
        print("Counts of different tools cannot be compared: check there, or update the file here.")
        return 2
    wrong, notes = compare(kept["counts"], found["counts"])
    if notes:
        print("Fewer instructions; update the file to hold on to that:", *notes, sep="\n  ")
    if wrong:
        print("More instructions; if that is meant, run 'guard.py update' and commit the file:", *wrong, sep="\n  ")
        return 1
    print(f"{len(found['counts'])} counts, none grown by more than {TOLERANCE:.0%}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run a command of the guard and return its exit status; 3 if counting is not possible here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "update", "show"])
    parser.add_argument("--build", type=Path, help="an optimised CMake build of the core, to be used")
    options = parser.parse_args(argv)
    command = options.command
    try:
        found = measure(options.build)
    except GuardError as error:
        print(error, file=sys.stderr)
        return 3
    if command == "check":
        return check(json.loads(COUNTS.read_text()), found)
    text = json.dumps(found, indent=1) + "\n"
    if command == "update":
        COUNTS.write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
