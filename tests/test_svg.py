"""Own SVG: well-formed for any text, every text in it, boxes where the direction puts them, always the same bytes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegrad.svg import Box, Picture, text_width

TEXT = "{http://www.w3.org/2000/svg}text"


def neuron(rankdir: str = "LR", caption: str = "") -> Picture:
    """x and w into a product y."""
    boxes = [Box(("x", "data 2")), Box(("w", "data 3")), Box(("*",), "op"), Box(("y", "data 6"))]
    return Picture(boxes, [(0, 2), (1, 2), (2, 3)], rankdir, caption)


def places(picture: Picture) -> dict[str, tuple[float, float]]:
    root = ET.fromstring(picture.svg())
    return {t.text or "": (float(t.attrib["x"]), float(t.attrib["y"])) for t in root.iter(TEXT)}


@pytest.mark.parametrize(("rankdir", "axis", "sign"), [("LR", 0, 1), ("RL", 0, -1), ("TB", 1, 1), ("BT", 1, -1)])
def test_edges_run_in_the_direction_asked_for(rankdir: str, axis: int, sign: int) -> None:
    at = places(neuron(rankdir))
    x, op, y = (sign * at[name][axis] for name in ("x", "*", "y"))
    assert x < op < y
    across = 1 - axis
    assert abs(at["x"][across] - at["w"][across]) >= 24


@pytest.mark.parametrize(("rankdir", "same"), [("LR", 1), ("TB", 0)])
def test_fields_stand_as_dot_puts_them(rankdir: str, same: int) -> None:
    at = places(neuron(rankdir))
    assert at["y"][same] == at["data 6"][same]
    assert at["y"][1 - same] < at["data 6"][1 - same]


def test_everything_lies_on_the_picture() -> None:
    root = ET.fromstring(neuron(caption="a note that is a good deal wider than the little graph under it: " * 3).svg())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for t in root.iter(TEXT):
        half = text_width(t.text or "") / 2
        assert half <= float(t.attrib["x"]) <= width - half
        assert 0 < float(t.attrib["y"]) < height


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12))
)
def test_any_text_is_drawn_as_it_is(texts: list[str]) -> None:
    root = ET.fromstring(Picture([Box(tuple(texts) or ("",))]).svg())
    assert [t.text or "" for t in root.iter(TEXT)] == (texts or [""])


def test_an_empty_picture_is_a_picture() -> None:
    assert ET.fromstring(Picture().svg()).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_picture_gives_the_same_bytes() -> None:
    assert neuron().svg() == neuron().svg()


def test_crowding_grows_with_long_edges_and_with_many() -> None:
    chain = [(i, i + 1) for i in range(49)]
    plain = Picture([Box(("x",))] * 50, chain)
    long = Picture([Box(("x",))] * 50, [*chain, *((0, i) for i in range(2, 50))])
    dense = Picture([Box(("x",))] * 50, [(i, j) for i in range(25) for j in range(25, 50)])
    assert plain.crowding() == 0
    assert long.crowding() == (48 * 49 // 2) ** 2 / 50  # cuts: 1 + 2 + ... + 48
    assert dense.crowding() == (625 - 100) ** 2 / 50
