"""memory and graph_stats against graphs whose sizes are known, at any depth."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tapegrad
from tapegrad import Value, graph_stats, live_nodes, memory

NODE = 48  # bytes


def test_a_small_graph():
    a, b = Value(2.0), Value(3.0)
    c = (a * b + a**2).tanh() / b
    stats = graph_stats(c)
    assert stats.operations == {"*": 2, "**-1": 1, "**2": 1, "+": 1, "tanh": 1}
    assert (stats.nodes, stats.leaves, stats.depth) == (8, 2, 4)
    assert stats.bytes == 8 * NODE
    assert str(stats).splitlines()[:2] == ["8 nodes (2 leaves), depth 4, 384 bytes", "         2  *"]
    assert graph_stats(a) == tapegrad.GraphStats(1, 1, 0, NODE, {})


def test_shared_nodes_count_once():
    a = Value(1.0)
    s = a
    for _ in range(50):
        s = s + s
    stats = graph_stats(s)
    assert (stats.nodes, stats.depth, stats.operations) == (51, 50, {"+": 50})


def test_labels_of_custom_operations_and_arrays():
    a = Value(2.0)
    out = Value(1.0, (a, a, Value(5.0, (a,), "other")), "mine") ** 2.0 + a**2
    stats = graph_stats(out)
    assert stats.operations == {"+": 1, "**2": 1, "**2.0": 1, "mine": 1, "other": 1}
    assert stats.bytes == 6 * NODE + 2 * 16 + 4 * 8  # two lists of operands
    x = Value(np.ones(1000))
    loss = (x * 2.0).sum()
    stats = graph_stats(loss)
    assert stats.operations == {"*": 1, "sum": 1}
    assert (stats.nodes, stats.leaves, stats.depth) == (4, 2, 2)
    assert stats.bytes >= 4 * NODE + 2 * 8000


def test_depth_is_the_longest_way_in_any_order_of_operands():
    a = Value(1.0)
    long = a
    for _ in range(30):
        long = long.tanh()
    for s, depth in ((a + long, 31), (long + a, 31), ((a + long) * a + a, 33), (a + a * (long + a), 33)):
        assert graph_stats(s).depth == depth


def test_a_million_nodes_deep_on_a_small_stack():
    seen = []

    def work():
        a, s = Value(1.0), Value(0.0)
        for _ in range(1_000_000):
            s = s + a
        seen.append(graph_stats(s))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert seen == [tapegrad.GraphStats(1_000_002, 2, 1_000_000, 1_000_002 * NODE, {"+": 1_000_000})]


def test_memory():
    before = memory()
    assert before.live_nodes == live_nodes()
    kept = [Value(0.0) for _ in range(100)]
    array = Value(np.ones(100_000))
    now = memory()
    assert now.live_nodes == before.live_nodes + 101
    assert now.array_bytes >= before.array_bytes + 800_000
    assert now.reserved_bytes >= now.live_nodes * NODE
    del kept, array
    assert memory().live_nodes == before.live_nodes
    assert memory().array_bytes == before.array_bytes


def test_wrong_arguments():
    with pytest.raises(TypeError, match="takes a Value"):
        graph_stats(5)
    with pytest.raises(TypeError, match="not possible inside a compiled function"):
        tapegrad.compile(lambda x: x * graph_stats(x).nodes)(2.0)
