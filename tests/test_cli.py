"""The command line: the right module gets the arguments untouched, wrong usage ends with a sentence and code 2."""

import importlib.metadata
import os
import subprocess
import sys
import types

import pytest

from tapegrad import cli


def python(*arguments, stdout=subprocess.PIPE):
    command = [sys.executable, *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


@pytest.fixture
def commands(monkeypatch):
    """Each command's module replaced by one that keeps the arguments it was called with, and returns 7."""
    calls = []
    for name, (module, _) in cli.COMMANDS.items():
        fake = types.ModuleType(module)
        fake.main = lambda argv, name=name: calls.append((name, argv)) or 7
        monkeypatch.setitem(sys.modules, module, fake)
    return calls


@pytest.mark.parametrize("command", ["demo", "bench", "run"])
@pytest.mark.parametrize("rest", ["", "--help", "--version", "-m module --steps 3", "a.py -- -x -- b", "-- a"])
def test_everything_after_the_command_reaches_it_untouched(commands, command, rest):
    assert cli.main([command, *rest.split()]) == 7
    assert commands == [(command, rest.split())]


def test_arguments_are_those_of_the_process_by_default(commands, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tapegrad", "run", "script.py"])
    assert cli.main() == 7
    assert commands == [("run", ["script.py"])]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tapegrad {importlib.metadata.version('tapegrad')}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(capsys, option):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([option])
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and about in out for name, (_, about) in cli.COMMANDS.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a command is needed: demo, bench, run"),
        (["dmeo"], "there is no command 'dmeo'; did you mean 'demo'?"),
        (["train"], "there is no command 'train'; choose from demo, bench, run"),
        (["--verbose"], "unrecognized arguments: --verbose"),
    ],
)
def test_wrong_usage_ends_with_a_sentence_and_code_2(commands, capsys, arguments, words):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(arguments)
    assert words in capsys.readouterr().err
    assert commands == []


def test_python_m_tapegrad_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "tapegrad", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("usage: tapegrad [-h] [--version] COMMAND ...")


def test_only_the_given_command_is_imported():
    program = (
        "import sys; from tapegrad import cli; cli.main(['--version']);"
        "print(sorted({module for module, _ in cli.COMMANDS.values()} & set(sys.modules)))"
    )
    done = python("-c", program)
    assert done.stdout.splitlines()[-1] == "[]"


def test_console_script_is_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="tapegrad")
    assert [script.load() for script in scripts] == [cli.main]


@pytest.mark.skipif(os.name != "posix", reason="closes a pipe as a shell does")
def test_a_reader_that_goes_away_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = python("-m", "tapegrad", "demo", "--steps", "1", "--output", str(tmp_path), stdout=gone)
    assert (done.returncode, done.stderr) == (cli.BROKEN_PIPE, "")
