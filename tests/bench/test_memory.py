"""Bytes of a graph, measured in a process of its own."""

import sys

import pytest

from tapegrad.bench.memory import graph_bytes, resident_bytes

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the peak is known")


@linux
def test_a_node_of_tapegrad():
    """48 bytes a node by its layout, in pages that are filled before the next is begun."""
    found = graph_bytes("tapegrad", "chain", 300_000)
    assert found is not None
    assert 45 < found / 300_000 < 60


@linux
def test_it_grows_with_the_graph():
    small, large = (graph_bytes("tapegrad.reference", "chain", n) for n in (10_000, 30_000))
    assert small is not None
    assert large is not None
    assert 2.5 < large / small < 3.5


def test_what_cannot_be_measured_is_none(capfd):
    assert graph_bytes("no such engine", "chain", 10) is None


def test_resident_bytes_follow_an_allocation():
    before = resident_bytes()
    block = b"\x01" * 50_000_000
    assert resident_bytes() - before > 40_000_000
    assert len(block) == 50_000_000
