"""Depth, width and memory: what must not depend on the stack, grow without bound, or differ from run to run."""

from __future__ import annotations

import copy
import gc
import resource
import subprocess
import sys
import threading

import pytest

from tapegrad import Value, _core, live_nodes

DEPTH = 1_000_000


@pytest.fixture(autouse=True)
def _no_leftovers():
    """Garbage of earlier tests (tracebacks hold Values) must not die in the middle of a count."""
    gc.collect()


def on_a_small_stack(function):
    """Runs function() on a thread with 256 KiB of stack and returns what it returns."""
    result = []
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: result.append(function()))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return result[0]


def test_million_nodes_deep_on_a_small_stack():
    base = live_nodes()

    def work():
        a, s = Value(1.0), Value(0.0)
        for _ in range(DEPTH):
            s = s + a
        s.backward()
        grads = [a.grad]
        twin = copy.deepcopy(s)
        assert twin.data == s.data == DEPTH
        del s
        assert live_nodes() == base + DEPTH + 3  # the twin's nodes and leaves, and a
        twin.backward()
        repr(twin)
        del twin
        return grads

    assert on_a_small_stack(work) == [DEPTH]
    assert live_nodes() == base


def test_skip_connections_deep():
    def work():
        x = Value(1.0)
        s, before = x * 1.0, x
        for _ in range(100_000):
            s, before = (s + before) * 0.5, s
        s.backward()
        return x.grad

    assert on_a_small_stack(work) == pytest.approx(1.0, rel=1e-9)


def test_a_leaf_with_a_million_consumers():
    base = live_nodes()
    a = Value(2.0)
    many = [a * a for _ in range(DEPTH)]
    total = sum(many)
    total.backward()
    assert a.grad == 4.0 * DEPTH
    del many, total
    assert live_nodes() == base + 1


def test_partial_release_keeps_what_is_held():
    base = live_nodes()
    s, b = Value(0.0), Value(1.0)
    kept = []
    for i in range(50_000):
        s = s + b
        if i % 9_973 == 0:
            kept.append(s)
    del s
    assert kept[-1].data == 9_973 * 5 + 1
    kept[-1].backward()
    assert b.grad == kept[-1].data
    for node in kept:
        assert float(node) > 0
    del node
    kept.clear()
    assert live_nodes() == base + 1


def test_at_most_64_bytes_a_node():
    before = _core.reserved_bytes()
    s, b = Value(0.0), Value(1.0)
    for _ in range(1_000_000):
        s = s + b
    assert _core.reserved_bytes() - before <= 64 * 1_000_000


def test_memory_is_flat_over_many_steps():
    parameters = [Value(0.1 * i) for i in range(50)]

    def step():
        loss = sum((p * p * 0.5 + p for p in parameters), Value(0.0))
        for _ in range(40):
            loss = loss * 0.9 + sum(parameters)
        for p in parameters:
            p.grad = 0.0
        loss.backward()
        for p in parameters:
            p.data -= 1e-6 * p.grad

    for _ in range(20):
        step()
    reserved, peak = _core.reserved_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nodes = live_nodes()
    for _ in range(2_000):
        step()
    assert live_nodes() == nodes
    assert _core.reserved_bytes() == reserved
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= peak + 1024  # KiB


PROGRAM = """
import random
from tapegrad import Value
random.seed(7)
w = [Value(random.uniform(-1, 1)) for _ in range(30)]
s = Value(0.0)
for k in range(200):
    a, b = random.choice(w), random.choice(w)
    s = (s + a * b).tanh() + (a - b) / (1.5 + b * b)
seen, order = set(), []
def visit(v):
    if v not in seen:
        seen.add(v)
        for c in v._prev:
            visit(c)
        order.append(v)
visit((w[0] * w[1] + w[2]).exp())
s.backward()
print([x.grad.hex() for x in w], s.data.hex(), [x.data for x in order])
"""


def test_same_bits_in_twenty_processes():
    outputs = set()
    for _ in range(10):
        pair = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for process in pair:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            outputs.add(out)
    assert len(outputs) == 1


AT_EXIT = """
import threading
from tapegrad import Value
s, b = Value(0.0), Value(1.0)
for _ in range(300_000):
    s = s + b
cycle = Value(1.0); cycle.me = cycle; cycle.more = [s, cycle * 2]
def rule(): cycle.grad += 1
out = Value(2.0, (cycle,), "mine"); out._backward = rule
import atexit
atexit.register(lambda: (s + 1).backward())
print("fine")
"""


def test_interpreter_exit_with_live_graphs():
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_graphs_of_several_threads():
    base = live_nodes()

    def work(seed: int) -> float:
        x, s = Value(0.1 * seed), Value(0.0)
        for _ in range(20_000):
            s = s * 0.5 + x
        s.backward()
        return x.grad

    expected = [work(seed) for seed in range(8)]
    results: list[float | None] = [None] * 8

    def run(seed: int) -> None:
        results[seed] = work(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == expected
    assert live_nodes() == base
