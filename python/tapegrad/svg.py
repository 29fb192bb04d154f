"""Pictures of graphs as SVG without Graphviz; the same picture gives the same bytes, and any text is drawn as it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from tapegrad.layout import Layout, longest_paths

# Pixels: size of letters, height of a line, between boxes, beside a text, around the picture.
FONT, LINE, GAP, PAD, MARGIN = 13.0, 24.0, 16.0, 7.0, 12.0


@dataclass(frozen=True, slots=True)
class Box:
    """One vertex: a record of several fields, an operation ("op"), or dots for what is not drawn ("more")."""

    fields: tuple[str, ...]
    shape: str = "record"


@dataclass(slots=True)
class Picture:
    """A directed graph to draw: edges are (tail, head) indices into boxes, and tails come before heads.

    ``rankdir`` is the direction of the edges, as in DOT: LR, RL, TB or BT. ``caption`` is a note put above the graph.
    """

    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    rankdir: str = "LR"
    caption: str = ""

    def crowding(self) -> float:
        """How hard this is for `dot`: a figure of 10^5 takes it some 2 seconds, and time grows faster than the figure.

        Nearly all of that goes into edges that pass other ranks, which it cuts at each, and into a great many edges.
        """
        ranks = longest_paths(len(self.boxes), self.edges)
        cuts = sum(max(0, ranks[tail] - ranks[head] - 1) for tail, head in self.edges)
        return (cuts + max(0, len(self.edges) - 2 * len(self.boxes))) ** 2 / max(1, len(self.boxes))

    def svg(self) -> str:
        """The text of an SVG file."""
        return "\n".join(_Drawing(self).lines()) + "\n"


def text_width(text: str) -> float:
    """Pixels to leave for a text, on the generous side, since nobody knows which font will be used."""
    return sum(FONT * (1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6) for c in text)


class _Drawing:
    """A picture with the places of everything in it."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.upright = picture.rankdir in ("TB", "BT")
        self.extents = [self._extent(box) for box in picture.boxes]
        sizes = [(h, w) if self.upright else (w, h) for w, h in self.extents]
        self.layout = Layout(sizes, picture.edges, GAP)
        self.length, breadth = self.layout.extent
        self.top = MARGIN + (LINE + GAP if picture.caption else 0.0)
        width, height = (breadth, self.length) if self.upright else (self.length, breadth)
        self.caption_width = text_width(picture.caption) + 2 * PAD if picture.caption else 0.0
        self.width = max(width, self.caption_width) + 2 * MARGIN
        self.height = self.top + height + MARGIN

    def _extent(self, box: Box) -> tuple[float, float]:
        """Width and height. As with `dot`, fields stand side by side if edges run sideways, else one below another."""
        widths = [text_width(text) + 2 * PAD for text in box.fields]
        if box.shape != "record":
            return max(38.0, widths[0] + PAD), LINE + 4
        return (max(widths), LINE * len(widths)) if self.upright else (sum(widths), LINE)

    def _place(self, along: float, across: float) -> tuple[float, float]:
        if self.picture.rankdir in ("RL", "BT"):
            along = self.length - along
        return (across + MARGIN, along + self.top) if self.upright else (along + MARGIN, across + self.top)

    def _point(self, along: float, across: float) -> str:
        return "{:.1f},{:.1f}".format(*self._place(along, across))

    def lines(self) -> Iterator[str]:
        size = f'width="{self.width:.0f}" height="{self.height:.0f}"'
        view = f'viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        font = f'font-family="Helvetica,Arial,sans-serif" font-size="{FONT:g}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {view} {font}>'
        yield "<title>computation graph</title>"
        shape = 'viewBox="0 0 8 6" refX="8" refY="3" markerWidth="8" markerHeight="6" orient="auto"'
        yield f'<defs><marker id="tapegrad-arrow" {shape}><path d="M0,0L8,3L0,6z" fill="#555"/></marker></defs>'
        yield f'<rect {size} fill="white"/>'
        if self.picture.caption:
            yield _rect(MARGIN, MARGIN, self.caption_width, LINE, 'fill="#fff3c4" stroke="#b58900"')
            yield _text(MARGIN + self.caption_width / 2, MARGIN + LINE / 2, self.picture.caption)
        yield '<g fill="none" stroke="#555">'
        yield from self._edges()
        yield "</g>"
        for v, box in enumerate(self.picture.boxes):
            yield from self._box(box, *self.extents[v], *self._place(self.layout.along[v], self.layout.across[v]))
        yield "</svg>"

    def _edges(self) -> Iterator[str]:
        boxes, layout, arrow = self.picture.boxes, self.layout, ' marker-end="url(#tapegrad-arrow)"'
        for u, v in layout.links:
            dashes = ' stroke-dasharray="4 3"' if u < len(boxes) and boxes[u].shape == "more" else ""
            yield f'<path d="{self._link(u, v)}"{arrow if v < len(boxes) else ""}{dashes}/>'
        for u, v in layout.straight:
            start = self._point(layout.along[u] + layout.length[u] / 2, layout.across[u])
            end = self._point(layout.along[v] - layout.length[v] / 2, layout.across[v])
            yield f'<path d="M{start}L{end}" opacity="0.5"{arrow}/>'

    def _link(self, u: int, v: int) -> str:
        """SVG path from u to v in the next rank: level within the strips of both, a curve between them."""
        layout, count = self.layout, self.layout.count
        (near, leave), (enter, _) = layout.strip[layout.rank[u]], layout.strip[layout.rank[v]]
        start = layout.along[u] + layout.length[u] / 2 if u < count else near
        end = layout.along[v] - layout.length[v] / 2 if v < count else enter
        y, z, middle = layout.across[u], layout.across[v], (leave + enter) / 2
        path = f"M{self._point(start, y)}L{self._point(leave, y)}"
        path += f"C{self._point(middle, y)} {self._point(middle, z)} {self._point(enter, z)}"
        return path + (f"L{self._point(end, z)}" if end > enter else "")

    def _box(self, box: Box, width: float, height: float, x: float, y: float) -> Iterator[str]:
        """The box with its middle at (x, y)."""
        if box.shape != "record":
            if box.shape == "op":
                size = f'rx="{width / 2:.1f}" ry="{height / 2:.1f}"'
                yield f'<ellipse cx="{x:.1f}" cy="{y:.1f}" {size} fill="#e8f0fb" stroke="#3b6ea8"/>'
            yield _text(x, y, box.fields[0])
            return
        left, top = x - width / 2, y - height / 2
        yield _rect(left, top, width, height, 'rx="3" fill="#fbfbf8" stroke="#444"')
        for i, text in enumerate(box.fields):
            if i:
                side = f"h{width:.1f}" if self.upright else f"v{height:.1f}"
                yield f'<path d="M{left:.1f},{top:.1f}{side}" stroke="#444"/>'
            span = width if self.upright else text_width(text) + 2 * PAD
            yield _text(left + span / 2, top + LINE / 2, text)
            left, top = (left, top + LINE) if self.upright else (left + span, top)


def _rect(left: float, top: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" {style}/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + FONT * 0.35:.1f}" text-anchor="middle">{escape(text)}</text>'
