"""Drawing: the lectures' structure, exact texts, any size, with `dot` and without, over both kinds of Value."""

from __future__ import annotations

import copy
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path
from typing import Any

import graphviz
import micrograd.engine
import numpy as np
import pytest

import tapegrad
from tapegrad import reference
from tapegrad.drawing import DotNotFoundError, Drawing, draw_dot, format_number, save_svg, trace

LECTURES = Path(__file__).resolve().parents[1] / ".." / "shared" / "lectures"
TEXT = "{http://www.w3.org/2000/svg}text"

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's dot is not installed")


@pytest.fixture(params=[reference.Value, tapegrad.Value], ids=["reference", "compiled"])
def value(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def no_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Graphviz."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))


def neuron(value: Any) -> Any:
    """The lectures' neuron, with labels, after its backward pass."""
    x1, x2 = value(2.0, label="x1"), value(0.0, label="x2")
    w1, w2 = value(-3.0, label="w1"), value(1.0, label="w2")
    b = value(6.8813735870195432, label="b")
    x1w1, x2w2 = x1 * w1, x2 * w2
    x1w1.label, x2w2.label = "x1*w1", "x2*w2"
    both = x1w1 + x2w2
    both.label = "x1*w1 + x2*w2"
    n = both + b
    n.label = "n"
    o = n.tanh()
    o.label = "o"
    o.backward()
    return o


def chain(value: Any, n: int) -> Any:
    s = value(0.5)
    for _ in range(n):
        s = s * 0.5
    return s


def shared_chain(value: Any, n: int) -> Any:
    s, a, b = value(0.5), value(0.5, label="a"), value(0.25, label="b")
    for _ in range(n):
        s = s * a + b
    return s


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ET.fromstring(svg).iter(TEXT)]


# --- the lectures' structure ---

PROGRAM = """
from graphviz import Digraph

def trace(root):
    nodes, edges = set(), set()
    def visit(v):
        if v not in nodes:
            nodes.add(v)
            for operand in v._prev:
                edges.add((operand, v))
                visit(operand)
    visit(root)
    return nodes, edges

def draw_dot(root):
    dot = Digraph(format='svg', graph_attr={'rankdir': 'LR'})
    nodes, edges = trace(root)
    for n in nodes:
        name = str(id(n))
        dot.node(name=name, label='{ %s | data %.4f | grad %.4f }' % (n.label, n.data, n.grad), shape='record')
        if n._op:
            dot.node(name=name + n._op, label=n._op)
            dot.edge(name + n._op, name)
    for a, b in edges:
        dot.edge(str(id(a)), str(id(b)) + b._op)
    return dot
"""


def lecture_programs() -> list[str]:
    """Definitions of trace and draw_dot as users have them: one in the lectures' manner, and the lectures' own."""
    programs = [PROGRAM]
    for name in ("reverse_engineering_a_neural_network.txt", "building_out_the_neural_network.txt"):
        path = LECTURES / name
        if path.exists():
            text = path.read_text("utf-8", "replace")
            definitions = re.findall(r"^def (?:trace|draw_dot)\(root\):\n(?:(?:[ \t].*)?\n)+", text, re.MULTILINE)
            assert len(definitions) == 2
            programs.append("from graphviz import Digraph\n\n" + "\n".join(definitions))
    return programs


@pytest.mark.parametrize("program", lecture_programs(), ids=lambda p: f"{len(p)}-characters")
def test_user_code_draws_the_same_graph(value: Any, program: str) -> None:
    names: dict[str, Any] = {}
    exec(program, names)
    a = value(-4.0, label="a")
    for root in (neuron(value), (a + a) ** 2 / 3 - a.relu(), value(1.0)):
        theirs, ours = names["draw_dot"](root), draw_dot(root)
        assert isinstance(theirs, graphviz.Digraph)
        lines = [line.replace("0 }", "0}") for line in theirs.source.splitlines()]  # one lecture leaves this space out
        assert sorted(lines) == sorted(line.replace("0 }", "0}") for line in ours.source.splitlines())
        assert names["trace"](root) == trace(root)


def test_trace_gives_the_nodes_and_edges_of_the_graph(value: Any) -> None:
    a, b = value(2.0), value(3.0)
    c = a * b
    d = c + c
    nodes, edges = trace(d)
    assert nodes == {a, b, c, d}
    assert edges == {(a, c), (b, c), (c, d)}
    assert trace(a) == ({a}, set())


def test_record_and_operation_nodes(value: Any) -> None:
    a = value(2.0, label="a")
    b = a**2
    b.backward()
    i, j = id(a), id(b)
    assert draw_dot(b).source.splitlines() == [
        "digraph {",
        "\tgraph [rankdir=LR]",
        f'\t{i} [label="{{ a | data 2.0000 | grad 4.0000 }}" shape=record]',
        f'\t{j} [label="{{  | data 4.0000 | grad 1.0000 }}" shape=record]',
        f'\t"{j}**2" [label="**2"]',
        f'\t"{j}**2" -> {j}',
        f'\t{i} -> "{j}**2"',
        "}",
    ]


def test_a_node_without_operation_name_joins_its_operands_directly(value: Any) -> None:
    a, b = value(2.0), value(3.0)
    c = value(6.0, (a, b), (3.0, 2.0))
    source = draw_dot(c).source
    assert f"\t{id(a)} -> {id(c)}\n" in source
    assert f"\t{id(b)} -> {id(c)}\n" in source
    assert draw_dot(c).picture.svg().count("<ellipse") == 0


def test_a_class_may_choose_what_its_nodes_show(value: Any) -> None:
    a = micrograd.engine.Value(2.0)
    out = a * 3
    out.backward()
    assert '[label="{ data 2.0000 | grad 3.0000 }" shape=record]' in draw_dot(out).source

    class Plain(value):  # type: ignore[misc]
        _record_fields = ("data", "grad")

    assert '[label="{ data 1.0000 | grad 0.0000 }" shape=record]' in draw_dot(Plain(1.0)).source


def test_order_is_operands_first_and_the_same_in_every_process() -> None:
    program = (
        "import sys, random; random.seed(1); keep = [object() for _ in range(int(sys.argv[1]))]\n"
        "import tapegrad, tapegrad.reference as r\nfrom tapegrad.drawing import draw_dot\n"
        "net = r.MLP(2, [3, 1]); x = tapegrad.Value(2.0); y = (x * 3 + x).tanh() * (x - 1)\n"
        "for root in (net([1.0, 2.0]), y):\n"
        "    d = draw_dot(root); names = {}\n"
        "    import re; print(re.sub(r'\\d{6,}', lambda m: f'n{names.setdefault(m[0], len(names))}', d.source))\n"
        "    print(d.picture.svg())\n"
    )
    outputs = set()
    for seed in range(4):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", program, str(seed * 1000)]
        outputs.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(outputs) == 1
    heads = re.findall(r"^\tn(\d+) \[", outputs.pop(), re.MULTILINE)
    assert heads


# --- texts ---

HOSTILE = ["a  b", "{a|b}", "<b>bold</b>", "a\\nb", "\\", 'say "x"', "&amp; &lt;", "<", "日本語 é", "a:b", "tail\\"]


@pytest.mark.parametrize("label", HOSTILE)
@pytest.mark.parametrize("engine", ["own", pytest.param("dot", marks=needs_dot)])
def test_labels_and_operations_are_drawn_as_they_are(value: Any, label: str, engine: str) -> None:
    a = value(1.0, label=label)
    out = value(2.0, (a,), label)
    drawing = draw_dot(out)
    svg = drawing.picture.svg() if engine == "own" else drawing.pipe(encoding="utf-8")
    drawn = [t.replace("\xa0", " ") for t in texts(svg)]
    assert drawn.count(label) == 2  # in the record and in the ellipse


def test_record_characters_are_escaped(value: Any) -> None:
    assert r'label="{ \{a\|b\}\<c\>\\ | data 1.0000 | grad 0.0000 }"' in draw_dot(value(1.0, label="{a|b}<c>\\")).source


def test_control_characters_become_spaces(value: Any) -> None:
    drawing = draw_dot(value(1.0, label="a\x00b\nc\x1bd\ud800e"))
    assert "a b c d e" in texts(drawing.picture.svg())
    assert "{ a b c d e |" in drawing.source


def test_label_of_another_type_is_drawn_as_text() -> None:
    assert "{ 7 | data 1.0000" in draw_dot(reference.Value(1.0, label=7)).source  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1, "1.0000"),
        (-0.00004, "-0.0000"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Fraction(1, 3), "0.3333"),
        (np.float32(0.5), "0.5000"),
        (np.array([1.0, 2.5]), "[1. , 2.5]"),
        (np.array([1.5]), "[1.5]"),
        (10**400, str(10**400)),
    ],
    ids=lambda x: str(x)[:12],
)
def test_numbers(x: Any, text: str) -> None:
    assert format_number(x) == text


def test_large_arrays_are_told_by_shape_and_range() -> None:
    assert format_number(np.linspace(0, 1, 1000).reshape(10, 100)) == "shape (10, 100) from 0.0000 to 1.0000"
    words = format_number(np.array(["a"] * 1000))
    assert "..." in words
    assert len(words) < 200


def test_numbers_may_be_written_otherwise(value: Any) -> None:
    assert "data 0.5, grad 0.0" in draw_dot(value(0.5), number=str).source.replace(" | ", ", ")


# --- size ---


def test_a_million_nodes_are_an_error_or_cut(value: Any) -> None:
    n = 1_000_000 if value is tapegrad.Value else 20_000
    root = chain(value, n)
    with pytest.raises(ValueError, match=r"more than 2000 nodes.*on_large='cut'.*max_nodes"):
        draw_dot(root)
    drawing = draw_dot(root, max_nodes=51, on_large="cut")
    assert drawing.source.count("shape=record") == 51
    assert drawing.source.count("shape=plaintext") == 1
    assert "51 nodes nearest to the result" in drawing.source
    svg = drawing.picture.svg()
    assert "cut: the 51 nodes nearest to the result are drawn, dots stand for the rest" in texts(svg)
    assert texts(svg).count("...") == 1


def test_cut_keeps_what_is_nearest(value: Any) -> None:
    a, b, c = (value(float(i), label=name) for i, name in enumerate("abc"))
    d = a * b
    d.label = "d"
    e = d + c
    e.label = "e"
    drawing = draw_dot(e, max_nodes=3, on_large="cut")
    assert {box.fields[0] for box in drawing.picture.boxes} == {"c", "d", "e", "*", "+", "..."}
    assert f'\t"{id(d)} more" -> "{id(d)}*" [style=dashed]\n' in drawing.source
    assert str(id(a)) not in drawing.source
    assert draw_dot(e, max_nodes=5).source == draw_dot(e, max_nodes=None).source


def test_one_node_with_very_many_operands(value: Any) -> None:
    leaves = [value(1.0) for _ in range(50_000)]
    wide = value(50_000.0, tuple(leaves), "sum")
    with pytest.raises(ValueError, match="more than 2000 nodes"):
        draw_dot(wide)
    assert draw_dot(wide, max_nodes=10, on_large="cut").source.count("shape=record") == 10
    nodes, edges = trace(wide)
    assert (len(nodes), len(edges)) == (50_001, 50_000)


def test_a_small_stack_is_enough(value: Any) -> None:
    root = chain(value, 20_000)
    sizes = []

    def work() -> None:
        sizes.append(len(trace(root)[0]))
        drawing = draw_dot(root, max_nodes=None)
        sizes.append(drawing.source.count("shape=record"))

    old = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert sizes == [40_001, 40_001]


@pytest.mark.usefixtures("no_dot")
def test_graphs_that_dot_would_take_hours_over_are_still_drawn(value: Any) -> None:
    drawing = draw_dot(shared_chain(value, 200))
    assert "splines=line" in drawing.source
    assert "splines" not in draw_dot(shared_chain(value, 5)).source
    assert texts(drawing.to_svg()).count("a") == 1
    hopeless = draw_dot(shared_chain(value, 600))
    with pytest.raises(ValueError, match=r"dot would take too long.*save_svg"):
        hopeless.render()
    assert texts(hopeless.to_svg()).count("b") == 1


def test_a_picture_keeps_no_graph_alive() -> None:
    before = tapegrad.live_nodes()
    root = neuron(tapegrad.Value)
    drawing = draw_dot(root)
    trace(root)
    del root
    assert tapegrad.live_nodes() == before
    assert "x1*w1" in drawing.picture.svg()


# --- with and without dot ---


@pytest.mark.usefixtures("no_dot")
def test_without_dot_errors_say_what_to_install(value: Any, tmp_path: Path) -> None:
    drawing = draw_dot(neuron(value))
    for attempt in (
        lambda: drawing.render(tmp_path / "graph"),
        lambda: drawing.pipe(),
        lambda: drawing.view(tmp_path / "graph"),
    ):
        with pytest.raises(
            DotNotFoundError, match=r"cannot run 'dot'.*apt install.*brew install.*conda install"
        ) as info:
            attempt()
        assert isinstance(info.value, graphviz.ExecutableNotFound)


@pytest.mark.usefixtures("no_dot")
def test_without_dot_a_notebook_shows_the_graph(value: Any, tmp_path: Path) -> None:
    drawing = draw_dot(neuron(value))
    bundle = drawing._repr_mimebundle_()
    expected = {"x1", "w1", "x1*w1 + x2*w2", "o", "tanh", "data 0.7071", "grad 1.0000", "+", "*"}
    for svg in (bundle["image/svg+xml"], drawing._repr_svg_(), drawing.copy()._repr_svg_()):
        assert expected <= set(texts(svg))
    assert drawing._repr_mimebundle_(include=["image/png"]).keys() == {"image/svg+xml"}
    path = save_svg(neuron(value), tmp_path / "graph.svg")
    assert path == tmp_path / "graph.svg"
    assert expected <= set(texts(path.read_text("utf-8")))


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for dot is a shell script")
def test_with_a_broken_dot_a_notebook_shows_the_graph(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "dot"
    script.write_text("#!/bin/sh\ncat > /dev/null\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    drawing = draw_dot(neuron(value))
    with pytest.raises(graphviz.CalledProcessError):
        drawing.pipe()
    assert "tanh" in texts(drawing._repr_mimebundle_()["image/svg+xml"])


@needs_dot
def test_with_dot_pictures_are_laid_out_by_it(value: Any, tmp_path: Path) -> None:
    drawing = draw_dot(neuron(value))
    rendered = drawing.render(tmp_path / "graph")
    svg = Path(rendered).read_text("utf-8")
    assert "graphviz" in svg
    expected = {"x1", "x1*w1 + x2*w2", "o", "tanh", "data 0.7071", "grad 1.0000"}
    assert expected <= {t.replace("\xa0", " ") for t in texts(svg)}
    assert "graphviz" in drawing._repr_mimebundle_()["image/svg+xml"]
    assert "graphviz" in save_svg(neuron(value), tmp_path / "other.svg").read_text("utf-8")
    assert draw_dot(neuron(value), format="png").pipe().startswith(b"\x89PNG")


@needs_dot
def test_dot_draws_what_is_cut_and_what_is_crowded(value: Any) -> None:
    cut = draw_dot(chain(value, 100), max_nodes=10, on_large="cut").pipe(encoding="utf-8")
    assert "..." in texts(cut)
    assert any("10 nodes nearest" in t.replace("\xa0", " ") for t in texts(cut))
    assert draw_dot(shared_chain(value, 40)).pipe(encoding="utf-8").count("<polygon") > 80


def test_the_result_is_a_digraph(value: Any) -> None:
    drawing = draw_dot(neuron(value), "pdf", "TB")
    assert isinstance(drawing, graphviz.Digraph)
    assert drawing.format == "pdf"
    assert "rankdir=TB" in drawing.source
    drawing.node("mine", label="mine")
    assert copy.copy(drawing).source == drawing.copy().source == drawing.source
    assert Drawing().picture.boxes == []


# --- errors ---


@pytest.mark.parametrize("draw", [trace, draw_dot, lambda root: save_svg(root, "never.svg")])
@pytest.mark.parametrize(
    "bad",
    [None, 3.0, "x", [reference.Value(1.0)], reference.Value, tapegrad.Value, reference.MLP(1, [1]), object()],
    ids=str,
)
def test_what_is_not_a_value_is_named(draw: Any, bad: Any) -> None:
    with pytest.raises(TypeError, match=f"graph of a Value can be drawn, not {type(bad).__name__}: "):
        draw(bad)


def test_an_operand_that_is_not_a_value_is_named() -> None:
    with pytest.raises(TypeError, match="an operand in the graph is not a Value but int: 7"):
        draw_dot(reference.Value(1.0, (7,), "+"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rankdir": "left"}, "rankdir is LR, RL, TB or BT, not 'left'"),
        ({"format": "gif89"}, "unknown format: 'gif89'"),
        ({"on_large": "hang"}, "on_large is 'error' or 'cut', not 'hang'"),
        ({"max_nodes": 0}, "max_nodes is a whole number from 1 up, or None for no limit, not 0"),
        ({"max_nodes": "many"}, "not 'many'"),
    ],
)
def test_bad_options_are_named(value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_dot(value(1.0), **options)


@pytest.mark.usefixtures("no_dot")
def test_a_file_that_cannot_be_written_is_an_oserror(value: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_svg(value(1.0), tmp_path / "nowhere" / "graph.svg")


def test_nothing_of_the_graph_is_missing(value: Any) -> None:
    random.seed(5)
    net = reference.MLP(2, [4, 1])
    out = (
        net([value(1.0), value(2.0)]) if value is reference.Value else sum(value(random.random()) * i for i in range(9))
    )
    nodes, edges = trace(out)
    drawing = draw_dot(out)
    operations = sum(1 for n in nodes if n._op)
    assert drawing.source.count("shape=record") == len(nodes)
    assert drawing.source.count(" -> ") == len(edges) + operations
    assert len(drawing.picture.boxes) == len(nodes) + operations
    assert len(drawing.picture.edges) == len(edges) + operations
