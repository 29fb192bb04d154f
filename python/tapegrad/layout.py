"""Layered layout of directed graphs: sizes and edges in, places out; deterministic, and quick at any size.

The method is Sugiyama's (Sugiyama, Tagawa, Toda, 1981): ranks by longest path to the result, orders by barycentres,
places by least squares. Edges that leave one vertex for several far ones share a track, so that a parameter used a
thousand times costs one line across the picture and not a thousand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

SWEEPS = 8
MAX_POINTS = 50_000  # on all tracks together; an edge that would need more runs straight
MAX_ORDERED = 30_000  # links; where there are more, no one can follow them, and crossings are left as they are
BEND = 26.0  # least distance between ranks, in the unit of the sizes; more where edges climb


def longest_paths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Rank of each of ``count`` vertices: the longest path from it to a vertex that nothing leaves.

    Tails come before heads in the numbering; an edge that goes back, and so may close a cycle, has no say.
    """
    ranks = [0] * count
    for tail, head in sorted(edges, key=lambda edge: -edge[1]):
        if tail < head:
            ranks[tail] = max(ranks[tail], ranks[head] + 1)
    return ranks


class Layout:
    """Where the vertices stand, along the direction of the edges (``along``) and across it (``across``): their middles.

    The first ``len(sizes)`` vertices are those given, with their (length, breadth); the rest are points of tracks and
    have no size. ``links`` are the edges cut into pieces between neighbouring ranks; ``straight`` are edges left whole.
    ``strip`` is the interval along that each rank takes up.
    """

    def __init__(self, sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]], gap: float) -> None:
        self.count = len(sizes)
        self.rank = longest_paths(self.count, edges)
        self.links: list[tuple[int, int]] = []
        self.straight: list[tuple[int, int]] = []
        self._lay_tracks(edges)
        n = len(self.rank)
        self.length = [size[0] for size in sizes] + [0.0] * (n - self.count)
        self.breadth = [size[1] for size in sizes] + [0.0] * (n - self.count)
        self._before: list[list[int]] = [[] for _ in range(n)]  # neighbours one rank further from the result
        self._after: list[list[int]] = [[] for _ in range(n)]
        for tail, head in self.links:
            self._before[head].append(tail)
            self._after[tail].append(head)
        self._layers = self._order()
        self.across = self._place_across(gap)
        self.strip = [(0.0, 0.0)] * len(self._layers)
        self.along = [0.0] * n
        self._place_along()

    @property
    def extent(self) -> tuple[float, float]:
        """Size of the whole, along and across."""
        ends = [a + b / 2 for a, b in zip(self.across, self.breadth, strict=True)]
        return max((end for _, end in self.strip), default=0.0), max(ends, default=0.0)

    def _lay_tracks(self, edges: Sequence[tuple[int, int]]) -> None:
        tracks: dict[tuple[int, int], int] = {}  # (tail, rank) -> vertex
        for tail, head in sorted(edges, key=lambda edge: self.rank[edge[0]] - self.rank[edge[1]]):
            top, bottom = self.rank[tail], self.rank[head]
            if bottom >= top or len(tracks) + top - bottom > MAX_POINTS:
                self.straight.append((tail, head))
                continue
            last = tail
            for rank in range(top - 1, bottom, -1):
                point = tracks.get((tail, rank))
                if point is None:
                    point = tracks[tail, rank] = len(self.rank)
                    self.rank.append(rank)
                    self.links.append((last, point))
                last = point
            self.links.append((last, head))

    def _order(self) -> list[list[int]]:
        """The vertices of each rank from 0 up: first as a depth-first walk meets them, then with fewer crossings."""
        layers: list[list[int]] = [[] for _ in range(max(self.rank, default=-1) + 1)]
        seen = [False] * len(self.rank)
        for root in sorted(range(len(self.rank)), key=self.rank.__getitem__):
            stack = [root]
            while stack:
                v = stack.pop()
                if not seen[v]:
                    seen[v] = True
                    layers[self.rank[v]].append(v)
                    stack.extend(reversed(self._before[v]))
        best = [list(layer) for layer in layers]
        fewest = self._crossings(layers) if len(self.links) <= MAX_ORDERED else 0
        for sweep in range(SWEEPS):
            if fewest == 0:
                break
            outwards = sweep % 2 == 0
            near = self._after if outwards else self._before
            place = self._places(layers)
            for layer in layers if outwards else reversed(layers):
                centre = {v: sum(place[u] for u in near[v]) / len(near[v]) if near[v] else place[v] for v in layer}
                layer.sort(key=centre.__getitem__)
                for i, v in enumerate(layer):
                    place[v] = i
            crossings = self._crossings(layers)
            if crossings < fewest:
                best, fewest = [list(layer) for layer in layers], crossings
        return best

    def _places(self, layers: list[list[int]]) -> list[int]:
        place = [0] * len(self.rank)
        for layer in layers:
            for i, v in enumerate(layer):
                place[v] = i
        return place

    def _crossings(self, layers: list[list[int]]) -> int:
        place, crossings = self._places(layers), 0
        for layer in layers:
            passed: list[int] = []
            for v in layer:
                for p in sorted(place[u] for u in self._before[v]):
                    at = bisect_right(passed, p)
                    crossings += len(passed) - at
                    passed.insert(at, p)
        return crossings

    def _place_across(self, gap: float) -> list[float]:
        """Each vertex near the mean of its neighbours, but ``gap`` away from the next in its rank; the least is 0."""
        across = [0.0] * len(self.rank)
        rows: list[tuple[list[int], list[float]]] = []  # vertices, and how far each is from the first at least
        for layer in self._layers:
            offsets = [0.0]
            for u, v in pairwise(layer):
                between = gap if u < self.count and v < self.count else gap / 2
                offsets.append(offsets[-1] + (self.breadth[u] + self.breadth[v]) / 2 + between)
            for v, offset in zip(layer, offsets, strict=True):
                across[v] = offset - offsets[-1] / 2
            rows.append((layer, offsets))
        pulls = [[(u, self._pull(u, v)) for u in self._before[v] + self._after[v]] for v in range(len(self.rank))]
        for sweep in range(3 * SWEEPS):
            for layer, offsets in rows if sweep % 2 else reversed(rows):
                wanted, weights = [], []
                for v, offset in zip(layer, offsets, strict=True):
                    weight = sum(pull for _, pull in pulls[v])
                    mean = sum(across[u] * pull for u, pull in pulls[v]) / weight if weight else across[v]
                    wanted.append(mean - offset)
                    weights.append(weight or 1.0)
                for v, offset, place in zip(layer, offsets, isotonic(wanted, weights), strict=True):
                    across[v] = place + offset
        least = min((a - b / 2 for a, b in zip(across, self.breadth, strict=True)), default=0.0)
        return [a - least for a in across]

    def _pull(self, u: int, v: int) -> float:
        """How strongly neighbours attract each other: tracks, and pairs with no other neighbour, are level first."""
        tail, head = (u, v) if self.rank[u] > self.rank[v] else (v, u)
        if u >= self.count and v >= self.count:
            return 8.0
        return 8.0 if len(self._after[tail]) == 1 == len(self._before[head]) else 1.0

    def _place_along(self) -> None:
        at = 0.0
        for rank in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[rank]
            length = max(self.length[v] for v in layer)
            self.strip[rank] = (at, at + length)
            for v in layer:
                self.along[v] = at + length / 2
            climb = max((abs(self.across[u] - self.across[v]) for u in layer for v in self._after[u]), default=0.0)
            at += length + BEND + min(60.0, climb / 6)


def isotonic(wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to ``wanted`` in weighted least squares, by pooling adjacent violators."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for mean, weight in zip(wanted, weights, strict=True):
        count = 1
        while pools and pools[-1][0] > mean:
            m, w, c = pools.pop()
            mean, weight, count = (m * w + mean * weight) / (w + weight), w + weight, count + c
        pools.append((mean, weight, count))
    return [mean for mean, _, count in pools for _ in range(count)]
