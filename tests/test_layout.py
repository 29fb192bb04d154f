"""Layered layout: no overlaps, edges that point one way, every edge drawn, and few crossings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegrad.layout import MAX_POINTS, Layout, isotonic, longest_paths

GAP = 10.0


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    """Sizes and edges of an acyclic graph in which tails have lower numbers."""
    n = draw(st.integers(1, 14))
    sizes = draw(st.lists(st.tuples(st.floats(5, 90), st.floats(5, 40)), min_size=n, max_size=n))
    pairs = list(itertools.combinations(range(n), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=25)) if pairs else []
    return sizes, edges


@settings(deadline=None)
@given(graphs())
def test_vertices_of_a_rank_keep_their_distance(graph: tuple[list[tuple[float, float]], list[tuple[int, int]]]) -> None:
    sizes, edges = graph
    layout = Layout(sizes, edges, GAP)
    for a, b in itertools.combinations(range(len(sizes)), 2):
        if layout.rank[a] == layout.rank[b]:
            apart = abs(layout.across[a] - layout.across[b])
            assert apart >= (sizes[a][1] + sizes[b][1]) / 2 + GAP / 2 - 1e-6
    length, breadth = layout.extent
    for v, (long, broad) in enumerate(sizes):
        assert layout.along[v] - long / 2 >= -1e-6
        assert layout.along[v] + long / 2 <= length + 1e-6
        assert layout.across[v] - broad / 2 >= -1e-6
        assert layout.across[v] + broad / 2 <= breadth + 1e-6


@settings(deadline=None)
@given(graphs())
def test_every_edge_is_a_path_of_links_that_go_forward(
    graph: tuple[list[tuple[float, float]], list[tuple[int, int]]],
) -> None:
    sizes, edges = graph
    layout = Layout(sizes, edges, GAP)
    n = len(sizes)
    for u, v in layout.links:
        assert layout.rank[u] == layout.rank[v] + 1
        assert layout.along[u] + layout.length[u] / 2 < layout.along[v] - layout.length[v] / 2
    sources = {v: u for u, v in layout.links if v >= n}  # a point of a track has one source
    drawn = []
    for u, v in layout.links:
        while u >= n:
            u = sources[u]
        if v < n:
            drawn.append((u, v))
    assert sorted(drawn) == sorted(edges)
    assert layout.straight == []


@given(graphs())
def test_ranks_are_longest_paths(graph: tuple[list[tuple[float, float]], list[tuple[int, int]]]) -> None:
    sizes, edges = graph
    heads = {v: [h for t, h in edges if t == v] for v in range(len(sizes))}

    def longest(v: int) -> int:
        return max((longest(h) + 1 for h in heads[v]), default=0)

    assert longest_paths(len(sizes), edges) == [longest(v) for v in range(len(sizes))]


def crossings(layout: Layout) -> int:
    """Pairs of links between the same ranks that run over each other, counted one by one."""
    return sum(
        (layout.across[a] - layout.across[c]) * (layout.across[b] - layout.across[d]) < 0
        for (a, b), (c, d) in itertools.combinations(layout.links, 2)
        if layout.rank[a] == layout.rank[c]
    )


@pytest.mark.parametrize(
    "edges",
    [
        [(0, 2), (1, 2), (3, 5), (4, 5), (2, 6), (5, 6)],  # a tree
        [(0, 5), (1, 4), (2, 3), (3, 6), (4, 6), (5, 6)],  # numbered the other way round
        [(0, 3), (0, 4), (1, 3), (2, 4), (3, 5), (4, 5)],  # a depth-first order crosses
    ],
)
def test_graphs_that_can_be_drawn_without_crossings_are(edges: list[tuple[int, int]]) -> None:
    assert crossings(Layout([(20.0, 10.0)] * 7, edges, GAP)) == 0


def test_a_cycle_is_drawn_all_the_same() -> None:
    layout = Layout([(20.0, 10.0)] * 3, [(0, 1), (1, 2), (2, 0)], GAP)
    assert layout.straight == [(2, 0)]
    assert layout.rank == [2, 1, 0]


def test_nothing_is_laid_out_as_nothing() -> None:
    assert Layout([], [], GAP).extent == (0.0, 0.0)


def test_shared_tracks_keep_many_long_edges_cheap() -> None:
    n = 1000  # a chain, and one vertex that goes to each of it: half a million pieces if every edge had its own
    edges = [(0, i) for i in range(2, n)] + [(i, i + 1) for i in range(1, n - 1)]
    layout = Layout([(20.0, 10.0)] * n, edges, GAP)
    assert layout.straight == []
    assert len(layout.links) < 3 * n


def test_beyond_the_limit_edges_run_straight() -> None:
    n = 800  # every vertex of a chain goes to its end too: tracks of all lengths
    edges = [(i, i + 1) for i in range(n - 1)] + [(i, n - 1) for i in range(n - 2)]
    layout = Layout([(20.0, 10.0)] * n, edges, GAP)
    assert layout.straight
    assert len(layout.along) <= n + MAX_POINTS


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 4)), min_size=1, max_size=8))
def test_isotonic_is_the_weighted_least_squares_fit(pairs: list[tuple[int, int]]) -> None:
    wanted, weights = [float(w) for w, _ in pairs], [float(w) for _, w in pairs]
    n = len(pairs)

    def mean(i: int, j: int) -> float:
        return sum(wanted[k] * weights[k] for k in range(i, j + 1)) / sum(weights[i : j + 1])

    # The min-max formula for isotonic regression (Barlow and others, 1972).
    expected = [max(min(mean(i, j) for j in range(k, n)) for i in range(k + 1)) for k in range(n)]
    fitted = isotonic(wanted, weights)
    assert all(abs(a - b) < 1e-9 for a, b in zip(fitted, expected, strict=True))
