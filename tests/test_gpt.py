"""The GPT example: its size, its gradients, the same losses on the reference, and its command line."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tapegrad
import tapegrad.reference
from tapegrad.examples import gpt


def model_of(Value: Any, words: Sequence[str], seed: int = 1) -> tuple[gpt.GPT, gpt.Vocabulary]:
    vocabulary = gpt.Vocabulary(words)
    return gpt.GPT(len(vocabulary), Value, random.Random(seed)), vocabulary


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tapegrad.examples.gpt", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_workload_is_the_one_described() -> None:
    words = gpt.read_words(None)
    model, vocabulary = model_of(tapegrad.Value, words)
    assert (gpt.CHANNELS, gpt.HEADS, gpt.CONTEXT, len(vocabulary)) == (16, 4, 16, 27)
    assert len(model.parameters()) == 4192
    before = tapegrad.live_nodes()
    loss = model.loss(vocabulary.encode("sparrow"))
    assert 45_000 < tapegrad.live_nodes() - before < 75_000
    assert loss.data == pytest.approx(math.log(27), abs=0.3)  # close to even odds before any training
    del loss
    assert tapegrad.live_nodes() == before


def test_words_and_tokens() -> None:
    words = gpt.read_words(None)
    assert len(set(words)) == len(words) > 200
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    vocabulary = gpt.Vocabulary(["ab", "cab"])
    assert vocabulary.characters == ["a", "b", "c"]
    assert vocabulary.encode("cab") == [3, 2, 0, 1, 3]
    assert len(vocabulary.encode("abc" * 20)) == gpt.CONTEXT + 1


def test_gradients_against_finite_differences() -> None:
    model, vocabulary = model_of(tapegrad.Value, ["abc", "cab"])
    tokens = vocabulary.encode("abca")
    model.loss(tokens).backward()
    rng = random.Random(0)
    for p in [*rng.sample(model.parameters(), 25), model.value[0][0], model.narrow[3][5]]:
        at, h = p.data, 1e-5
        p.data = at + h
        up = model.loss(tokens).data
        p.data = at - h
        down = model.loss(tokens).data
        p.data = at
        assert p.grad == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-9)


def test_a_position_does_not_see_later_ones() -> None:
    model, _ = model_of(tapegrad.Value, ["abc"])

    def scores(tokens: Sequence[int]) -> list[list[float]]:
        keys: list[Any] = []
        values: list[Any] = []
        return [[v.data for v in model.logits(t, i, keys, values)] for i, t in enumerate(tokens)]

    first, second = scores([3, 0, 1, 2]), scores([3, 0, 2, 1])
    assert first[:2] == second[:2]
    assert first[2] != second[2]


def test_probabilities() -> None:
    scores = [tapegrad.Value(x) for x in (1000.0, 999.0, -1000.0)]
    probabilities = [p.data for p in gpt.softmax(scores)]
    assert sum(probabilities) == pytest.approx(1.0, rel=1e-15)
    assert probabilities[0] / probabilities[1] == pytest.approx(math.e, rel=1e-14)
    h = gpt.normalise([tapegrad.Value(x) for x in (3.0, -4.0)])
    assert [v.data for v in h] == pytest.approx([3 / math.sqrt(12.5), -4 / math.sqrt(12.5)], rel=1e-5)


def test_adam_follows_its_formula() -> None:
    p = tapegrad.Value(1.0)
    optimiser = gpt.Adam([p], rate=0.1, steps=4)
    x = m = s = 0.0
    x = 1.0
    for t, grad in enumerate([0.5, -2.0, 0.25, 1.0], 1):
        p.grad = grad
        optimiser.step()
        m, s = 0.9 * m + 0.1 * grad, 0.99 * s + 0.01 * grad**2
        rate = 0.1 * (1 - (t - 1) / 4)
        x -= rate * (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.99**t)) + 1e-8)
        assert p.data == pytest.approx(x, rel=1e-13)
        assert p.grad == 0.0


def test_the_reference_gives_the_same_losses() -> None:
    args = ["--steps", "4", "--samples", "2", "--seed", "7"]
    ours, reference = run(*args), run(*args, "--engine", "reference")
    assert (ours.returncode, ours.stderr) == (0, "")
    assert reference.stdout == ours.stdout
    lines = ours.stdout.splitlines()
    assert lines[0] == "251 words, 27 tokens, 4,192 parameters"
    assert len(lines) == 1 + 4 + 2


def test_losses_agree_far_beyond_the_digits_printed() -> None:
    traces = []
    for Value in (tapegrad.Value, tapegrad.reference.Value):
        model, vocabulary = model_of(Value, ["ab", "ba", "abba"])
        optimiser = gpt.Adam(model.parameters(), 0.01, 6)
        trace = []
        for step in range(6):
            loss = model.loss(vocabulary.encode(["ab", "ba", "abba"][step % 3]))
            loss.backward()
            optimiser.step()
            trace.append(loss.data)
        traces.append(trace)
    assert traces[0][0] == traces[1][0]
    assert traces[0] == pytest.approx(traces[1], rel=1e-10)


def test_it_learns(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\n\nabcabcabc\n  abcabcabc \n")
    done = run("--text", str(file), "--steps", "60", "--samples", "3", "--temperature", "0.1")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 words, 4 tokens, ")
    assert float(lines[60].rsplit(" ", 1)[1]) < 0.3 < float(lines[1].rsplit(" ", 1)[1])
    assert lines[-3:] == ["abcabcabc"] * 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--text", "nowhere.txt"], ["nowhere.txt", "--text", "No such file"]),
        (["--text", "empty.txt"], ["empty.txt", "no line of text"]),
        (["--text", "binary.txt"], ["binary.txt", "--text", "utf-8"]),
        (["--steps", "0"], ["--steps", "'0'"]),
        (["--steps", "x"], ["--steps", "'x'"]),
        (["--temperature", "0"], ["--temperature", "'0'"]),
        (["--rate", "nan"], ["--rate", "'nan'"]),
        (["--engine", "other"], ["--engine", "'other'"]),
    ],
)
def test_wrong_arguments_are_named(
    args: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SystemExit) as stop:
        gpt.main(args)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_the_names_file_of_the_benchmark() -> None:
    names = Path(__file__).parent.parent.parent / "shared" / "data" / "names.txt"
    if not names.exists():
        pytest.skip("the list of names is not here")
    words = gpt.read_words(str(names))
    model, vocabulary = model_of(tapegrad.Value, words)
    assert len(vocabulary) == 27
    assert len(model.parameters()) == 4192
