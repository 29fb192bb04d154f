"""What a run was taken on: the machine as pyperf describes it, or as the standard library does, and all versions."""

import importlib
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tapegrad.bench.engines.base import Engine

# Of pyperf's metadata, what bears on speed; names of hosts and paths of people stay out of published files.
KEPT = [
    *("aslr", "boot_time", "cpu_affinity", "cpu_config", "cpu_count", "cpu_freq", "cpu_model_name", "load_avg_1min"),
    *("platform", "python_cflags", "python_compiler", "python_implementation", "python_version", "timer"),
]


def describe() -> dict[str, Any]:
    """The machine and the interpreter; from pyperf where it is installed, which knows far more."""
    basic = {
        "platform": platform.platform(),
        "cpu_model_name": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "python_implementation": platform.python_implementation().lower(),
        "python_version": platform.python_version(),
        "python_compiler": platform.python_compiler(),
    }
    try:
        pyperf = importlib.import_module("pyperf")
    except ImportError:
        return basic
    metadata = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    return basic | {name: metadata[name] for name in KEPT if name in metadata}


def versions(engines: Iterable[Engine]) -> dict[str, str]:
    """The version of Python, of every installed engine and of what measures them."""
    found = {"python": platform.python_version()}
    for engine in engines:
        if engine.pip and (number := engine.version()):
            found[engine.pip] = number
    for name in ("numpy", "pyperf"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def one_line(machine: dict[str, Any]) -> str:
    """Processor, system and Python in a line, for titles."""
    cores = f"{machine['cpu_count']} cores" if machine.get("cpu_count") else "cores unknown"
    python = str(machine.get("python_version", "")).partition(" ")[0]
    return (
        f"{machine.get('cpu_model_name', 'unknown processor')}, {cores}, {machine.get('platform', '')}, Python {python}"
    )
