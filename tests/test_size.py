"""Depth, width and partial release: graphs of millions of nodes on a stack of 256 KiB, with the number of live nodes
known beforehand at every step."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tapegrad import Value, live_nodes

MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _no_leftovers():
    """Garbage of earlier tests (tracebacks hold Values) must not die in the middle of a count."""
    gc.collect()


def on_a_small_stack(function: Callable[[], None]) -> None:
    """Runs function() on a thread with 256 KiB of stack; what it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if raised:
        raise raised[0]


def test_a_million_steps_with_skip_connections():
    base = live_nodes()

    def work():
        x = Value(1.0)
        s, before = x * 1.0, x
        for _ in range(MILLION):
            s, before = (s + before) * 0.5, s
        assert live_nodes() == base + 1 + 2 + 3 * MILLION  # x; x * 1.0 with its constant; +, * and the constant
        s.backward()
        assert s.data == pytest.approx(1.0, rel=1e-9)
        assert x.grad == pytest.approx(1.0, rel=1e-9)
        del s
        assert live_nodes() == base + 1 + 2 + 3 * (MILLION - 1)
        del before
        assert live_nodes() == base + 1

    on_a_small_stack(work)
    assert live_nodes() == base


def test_far_skip_connections():
    """Every step also takes in a node from far back, as residual networks do."""
    base = live_nodes()

    def work():
        x = Value(1.0)
        kept = [x]
        s = x
        for i in range(MILLION):
            s = s + kept[i // 2 % len(kept)]
            if i % 1000 == 0:
                kept.append(s)
        assert live_nodes() == base + 1 + MILLION
        kept[1].backward()  # a sweep from near the bottom touches nothing above it
        assert (x.grad, s.grad, len(kept)) == (2.0, 0.0, 1001)
        del s
        last = kept.pop()
        assert live_nodes() == base + 1 + (MILLION - 1000) + 1
        del last, kept
        assert live_nodes() == base + 1

    on_a_small_stack(work)
    assert live_nodes() == base


def test_a_leaf_with_a_million_consumers():
    base = live_nodes()

    def work():
        a = Value(2.0)
        many = [a * a for _ in range(MILLION)]
        assert live_nodes() == base + 1 + MILLION
        top = Value(0.0, many, [1.0] * MILLION)
        top.backward()
        assert a.grad == 4.0 * MILLION
        del many
        assert live_nodes() == base + 2 + MILLION
        del top
        assert live_nodes() == base + 1

    on_a_small_stack(work)
    assert live_nodes() == base


def test_ten_million_nodes():
    base = live_nodes()

    def work():
        a, s = Value(1.0), Value(0.0)
        for _ in range(10 * MILLION):
            s = s + a
        assert live_nodes() == base + 2 + 10 * MILLION
        s.backward()
        assert a.grad == s.data == 10 * MILLION
        del s
        assert live_nodes() == base + 1

    on_a_small_stack(work)
    assert live_nodes() == base


def needed(operands: list[tuple[int, ...]], held: Iterable[int]) -> int:
    """How many nodes the held ones lead to, themselves included; operands come before their consumers."""
    marked = bytearray(len(operands))
    for i in held:
        marked[i] = 1
    for i in range(len(operands) - 1, -1, -1):
        if marked[i]:
            for k in operands[i]:
                marked[k] = 1
    return sum(marked)


@pytest.mark.parametrize("seed", range(4))
def test_random_interior_nodes_are_kept(seed):
    rng = random.Random(seed)
    base = live_nodes()

    def work():
        values = [Value(rng.uniform(-1, 1)) for _ in range(50)]
        operands: list[tuple[int, ...]] = [()] * 50
        for i in range(50, 150_000):
            near, far = rng.randrange(max(0, i - 40), i), rng.randrange(i)
            kind = rng.randrange(8)
            if kind < 4:
                made: Any = values[near] + values[far if kind == 0 else near - near % 7]
                operands.append((near, far if kind == 0 else near - near % 7))
            elif kind < 7:
                made = values[near].tanh()
                operands.append((near,))
            else:
                made = Value(0.5, (values[near], values[far], values[near]), (1.0, 2.0, 3.0))
                operands.append((near, far))
            values.append(made)
        del made
        assert live_nodes() == base + len(operands)
        held = {i: values[i] for i in rng.sample(range(len(values)), 30)}
        del values
        while held:
            assert live_nodes() == base + needed(operands, held)
            root = held[max(held)]
            root.backward()
            del root
            for i in rng.sample(sorted(held), min(5, len(held))):
                del held[i]
        assert live_nodes() == base

    on_a_small_stack(work)
    assert live_nodes() == base
