"""What a program says of blocks that almost repeat: the first thing that breaks the pattern, by its label, its path in
an argument and its line, and what the others have there."""

from __future__ import annotations

import inspect
import pickle
import random
import threading
from typing import Any

import numpy as np
import pytest

import tapegrad
from tapegrad import Value
from tapegrad.compiled import Program

HERE = __file__


def weights(rng: random.Random, count: int, name: str = "w") -> list[Value]:
    return [Value(rng.gauss(0, 0.5), label=f"{name}{i}") for i in range(count)]


def numbers(rng: random.Random, *shape: int) -> Any:
    return np.array([rng.gauss(0, 1) for _ in range(int(np.prod(shape)))]).reshape(shape)


def line_of(fn: Any, text: str) -> str:
    """'file:line: text' of the line of a function that contains the text."""
    lines, first = inspect.getsourcelines(fn)
    found = [(first + k, line.strip()) for k, line in enumerate(lines) if text in line]
    assert len(found) == 1
    return f"{HERE}:{found[0][0]}: {found[0][1]}"


def test_another_operation_in_one_repeat() -> None:
    rng = random.Random(1)
    w = weights(rng, 4)

    def loss(x: Any) -> Any:
        total = Value(0.0)
        for k, row in enumerate(x):
            term = sum(a * c for a, c in zip(w, row, strict=True)).tanh()
            if k == 57:
                last = term + w[2]  # the odd one
            else:
                last = term * row[1]  # the others
                last = -last
            total = total + last.exp()
        return total

    f = tapegrad.compile(loss)
    f(numbers(rng, 90, 4))
    assert f.program.found[0].startswith("89 repeats")
    (words,) = f.program.near_misses
    assert words == (
        f"repeat 58 is computed by itself: its operation 10 is tanh(…) + 'w2' (at {line_of(loss, '# the odd one')}); "
        f"the others have tanh(…) * x[0, 1] (at {line_of(loss, '# the others')}) there"
    )
    assert f"near miss: {words}\n" in str(f.program)


def test_a_repeat_that_goes_on_and_one_that_ends_early() -> None:
    rng = random.Random(2)
    w = weights(rng, 3)

    def loss(rows: Any, odd: str) -> Any:
        total = Value(0.0)
        for k, row in enumerate(rows):
            term = (row[0] * w[0] + row[1] * w[1]).tanh()
            term = term * w[2] if not (odd == "ends" and k == 5) else term
            if odd == "goes on" and k == 6:
                term = term.exp()  # one more
            total = total + term
        return total

    data = numbers(rng, 200, 2).tolist()
    f = tapegrad.compile(loss)
    f(data, "goes on")
    (words,) = f.program.near_misses
    assert words == (
        "repeat 7 is computed by itself: it goes on after 5 operations, where the others end, with exp((… * …)) "
        f"(at {line_of(loss, '# one more')})"
    )
    f(data, "ends")
    (words,) = f.program.near_misses
    assert words == (
        "repeat 6 is computed by itself: it ends after 4 operations, where the others go on with tanh(…) * 'w2' "
        f"(at {line_of(loss, 'ends')})"
    )


def test_names_of_operands() -> None:
    """Labels of Values that the function made and of parameters, paths in every kind of argument, numbers."""
    rng = random.Random(3)
    w = Value(0.5, label="slope")
    plain = Value(0.25)

    def loss(x: Any, pairs: Any, *rest: Any, table: Any) -> Any:
        total = Value(0.0)
        for k in range(80):
            inner = (x[k] * w).tanh()
            inner.label = "inner"
            term = {
                3: lambda v: v + pairs[1]["b"],
                5: lambda v: v + rest[1],
                7: lambda v: v + table["t"][2][0],
                9: lambda v: v + plain,
                11: lambda v: v + 2.5,
            }.get(k, lambda v: v * w)(inner)
            total = total + (term.exp() * w).sin()
        return total

    f = tapegrad.compile(loss)
    f(numbers(rng, 80), ({"a": 1.0}, {"b": 2.0}), 3.0, 4.0, table={"t": [1.0, 2.0, (5.0,)]})
    words = f.program.near_misses
    assert [text.partition(" is ")[2].partition(" (at")[0] for text in words[:4]] == [
        "computed by itself: its operation 3 is 'inner' + pairs[1]['b']",
        "computed by itself: its operation 3 is 'inner' + rest[1]",
        "computed by itself: its operation 3 is 'inner' + table['t'][2][0]",
        "computed by itself: its operation 3 is 'inner' + parameter 1",
    ]
    assert all("the others have 'inner' * 'slope' (at " in text for text in words)

    sent = pickle.loads(pickle.dumps(f.program))  # without the function, its lines and its names
    assert (
        "its operation 3 is tanh(…) + argument 1[1]['b']; the others have tanh(…) * 'slope' there"
        in (sent.near_misses[0])
    )


def test_a_recurrence() -> None:
    a, b = Value(0.5, label="a"), Value(0.99, label="b")

    def steps(n: int) -> Any:
        s = Value(0.0)
        for _ in range(n):
            s = s * b + a  # from the one before
        return s

    f = tapegrad.compile(lambda: steps(300))
    f()
    assert f.program.found == []
    (words,) = f.program.near_misses
    assert words.startswith("300 steps of 2 operations are a recurrence: each starts from what the step before made, ")
    assert line_of(steps, "# from the one before") in words
    assert "in order" in words
    assert "vmap" in words


def test_a_wide_recurrence() -> None:
    rng = random.Random(4)
    state = [weights(rng, 6, f"u{i}_") for i in range(6)]

    def steps() -> Any:
        h = [Value(0.1)] * 6
        for _ in range(40):
            h = [sum(a * c for a, c in zip(row, h, strict=True)).tanh() for row in state]  # the step
        return sum(h)

    f = tapegrad.compile(steps)
    f()
    words = [text for text in f.program.near_misses if "recurrence" in text]
    assert len(words) == 1
    assert line_of(steps, "# the step") in words[0]
    assert " steps of 78 operations" in words[0]


def test_no_recurrence_where_repeats_are_independent() -> None:
    rng = random.Random(5)
    w = weights(rng, 3)
    f = tapegrad.compile(lambda x: sum((w[0] * v + w[1]).tanh() * w[2] for v in x))
    f(numbers(rng, 200))
    assert f.program.found[0].startswith("200 repeats")
    assert f.program.near_misses == []
    net = tapegrad.MLP(4, [8] * 6 + [1])  # deep, but its layers are no steps of a loop
    f = tapegrad.compile(lambda x: net(list(x)))
    f([0.1, 0.2, 0.3, 0.4])
    assert f.program.near_misses == []


def test_values_carried_on() -> None:
    rng = random.Random(6)
    w = weights(rng, 3)

    def loss(x: Any) -> Any:
        total, state = Value(0.0), Value(0.0)
        for v in x:
            state = (state * w[0] + v * w[1]).tanh()  # carried on
            state.label = "state"
            total = total + (state * w[2] - v).sin() * (state + v).exp() * w[0].tanh().exp() * v
        return total

    f = tapegrad.compile(loss)
    f(numbers(rng, 100))
    words = [text for text in f.program.near_misses if "carried on from repeat to repeat" in text]
    assert len(words) == 1
    assert "is used by its own repeat and by later ones" in words[0]
    assert line_of(loss, "# carried on") in words[0]


def test_too_little_work() -> None:
    rng = random.Random(7)
    w = weights(rng, 2)
    f = tapegrad.compile(lambda x: sum(v * w[0] + w[1] for v in x[:60]) + sum(w[0] * w[1] for _ in range(3)))
    f(numbers(rng, 100))
    assert f.program.found == ["61 dot products"] or all("repeats" not in text for text in f.program.found)
    assert all("recurrence" not in text for text in f.program.near_misses)


def test_repeats_of_many_kinds() -> None:
    rng = random.Random(8)
    w = weights(rng, 2)
    functions = ("tanh", "exp", "sin", "cos", "sigmoid", "softplus", "relu", "abs")

    def loss(x: Any) -> Any:
        draw = random.Random(0)
        total = Value(0.0)
        for v in x:
            term = v * w[0]
            for _ in range(12):
                name = draw.choice(functions)
                term = (abs(term) if name == "abs" else getattr(term, name)()) * w[1]  # a kind of its own
            total = total + term
        return total

    f = tapegrad.compile(loss)
    f(numbers(rng, 40))
    assert all("repeats" not in text for text in f.program.found)
    (words,) = f.program.near_misses
    assert words.startswith("40 repeats are of 40 kinds, too few of each to run side by side; repeat 2, say, is not ")
    assert words.count(line_of(loss, "# a kind of its own")) == 2


def test_lines_are_those_of_the_program_not_of_the_layers() -> None:
    rng = random.Random(9)
    random.seed(0)
    net, odd = tapegrad.MLP(2, [6, 1]), Value(1.5, label="odd")

    def loss(x: Any) -> Any:
        losses = []
        for k, row in enumerate(x):
            score = net(row)  # by our own layers
            losses.append((score * odd if k == 7 else score.relu()) ** 2)  # the two ends
        return sum(losses)

    f = tapegrad.compile(loss)
    f(numbers(rng, 60, 2))
    (words,) = f.program.near_misses
    assert "* 'odd'" in words
    assert words.count(line_of(loss, "# the two ends")) == 2


def test_lines_beyond_what_is_noted() -> None:
    a, b = Value(0.5, label="a"), Value(0.99, label="b")

    def steps() -> Any:
        s = Value(0.0)
        for _ in range(150_000):
            s = s * b + a
        return s

    f = tapegrad.compile(steps)
    f()
    (words,) = f.program.near_misses
    assert words.startswith("150000 steps of 2 operations")


def test_other_threads_make_nodes_meanwhile() -> None:
    """Whoever does not record is not noted, gets its handles back, and is no slower for good."""
    rng = random.Random(10)
    w = weights(rng, 2)
    stop, sums = threading.Event(), []

    def busy() -> None:
        while not stop.is_set():
            v = Value(0.5)
            for _ in range(50):
                v = v * 0.5 + 1.0
            sums.append(v.data)

    def loss(x: Any) -> Any:
        total = Value(0.0)
        for k, v in enumerate(x):
            term = (v * w[0]).tanh()
            total = total + (term.exp() if k == 11 else term.sin()) * w[1]  # here
        return total

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(10):
            f = tapegrad.compile(loss)
            f(numbers(rng, 300))
            (words,) = f.program.near_misses
            assert "its operation 3 is exp(tanh(…))" in words
            assert words.count(line_of(loss, "# here")) == 2
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert set(sums) == {sums[0]}


def test_a_loaded_program_has_no_lines(tmp_path: Any) -> None:
    a, b = Value(0.5, label="a"), Value(0.99, label="b")

    def steps() -> Any:
        s = Value(0.0)
        for _ in range(300):
            s = s * b + a
        return s

    f = tapegrad.compile(steps)
    f()
    f.program.save(tmp_path / "steps.txt")
    (words,) = Program.load(tmp_path / "steps.txt").near_misses
    assert words.startswith("300 steps of 2 operations are a recurrence")
    assert HERE not in words


@pytest.mark.parametrize("fails", [True, False])
def test_recordings_leave_nothing_behind(fails: bool) -> None:
    w = Value(0.5)

    def loss(x: Any) -> Any:
        total = Value(0.0)
        for v in x:
            total = total + (v * w).tanh()
        if fails:
            raise ArithmeticError("no")
        return total

    before = tapegrad.live_nodes()
    for _ in range(3):
        f = tapegrad.compile(loss)
        if fails:
            with pytest.raises(ArithmeticError):
                f(np.ones(50))
        else:
            f(np.ones(50))
        del f
    assert tapegrad.live_nodes() == before
