"""Whole client programs, written for micrograd, print the same text by `python` on micrograd and by `tapegrad run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
RUN = [sys.executable, "-m", "tapegrad", "run"]


def output(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=300, env={**os.environ, **environment}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_there_are_programs_in_many_styles() -> None:
    assert len(PROGRAMS) >= 10
    assert all("micrograd" in program.read_text() for program in PROGRAMS)
    assert not any("tapegrad" in program.read_text() for program in PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_prints_the_same_on_both(program: Path) -> None:
    expected = output([sys.executable, str(program)])
    assert len(expected.splitlines()) >= 5
    assert output([*RUN, str(program)]) == expected


@pytest.mark.parametrize("name", ["char_rnn", "drawing", "patching"])
def test_a_program_prints_the_same_in_every_process(name: str) -> None:
    program = next(program for program in PROGRAMS if program.stem == name)
    texts = {output([*RUN, str(program)], PYTHONHASHSEED=seed) for seed in ("0", "1", "12345")}
    assert len(texts) == 1
