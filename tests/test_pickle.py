"""pickle, copy, deepcopy and weak references of Values, graphs and networks, at any depth and in other processes."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tapegrad
from tapegrad import live_nodes, runner
from tapegrad.micrograd import engine, nn

PROTOCOLS = [2, 3, 4, 5]


def by_pickle(protocol: int) -> Callable[[Any], Any]:
    def duplicate(x: Any) -> Any:
        return pickle.loads(pickle.dumps(x, protocol))

    duplicate.__name__ = f"pickle-{protocol}"
    return duplicate


def by_python_pickle(x: Any) -> Any:
    file = io.BytesIO()
    pickle._Pickler(file, 4).dump(x)  # type: ignore[attr-defined]
    return pickle._Unpickler(io.BytesIO(file.getvalue())).load()  # type: ignore[attr-defined]


DUPLICATES = [*map(by_pickle, PROTOCOLS), by_python_pickle, copy.deepcopy]


@pytest.fixture(params=DUPLICATES, ids=lambda f: f.__name__)
def duplicate(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return request.param


@pytest.fixture(params=[tapegrad.Value, engine.Value], ids=["tapegrad", "dialect"])
def Value(request: pytest.FixtureRequest) -> Any:
    return request.param


def outline(root: Any) -> list[Any]:
    """Describe a graph: every node once, with its operands as places in the list."""
    order: list[Any] = []
    places: dict[int, int] = {}
    todo = [root]
    while todo:
        v = todo[-1]
        waiting = [u for u in v._children if id(u) not in places]
        if waiting:
            todo.extend(waiting)
            continue
        todo.pop()
        if id(v) not in places:
            places[id(v)] = len(order)
            order.append(v)
    return [
        (v._op, v.data, type(v.data), v.grad, type(v.grad), v.label, type(v), [places[id(u)] for u in v._children])
        for v in order
    ]


class Named(engine.Value):
    """A subclass with another constructor."""

    def __init__(self, name: str, data: float) -> None:
        super().__init__(data)
        self.name = name


class Slotted(engine.Value):
    __slots__ = ("unit",)


class WithState(engine.Value):
    """A subclass that says itself what is saved."""

    def __getstate__(self) -> dict[str, Any]:
        return {"twice": self.data * 2}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.data = state["twice"] / 2
        self.restored = True


class WithReduce(engine.Value):
    def __reduce__(self) -> tuple[Any, ...]:
        return WithReduce, (self.data + 100,)


class WithReduceEx(engine.Value):
    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return WithReduceEx, (self.data + 200,)


class WithCopies(engine.Value):
    def __copy__(self) -> str:
        return "copied"

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        return "copied deep"


def half(v: Any) -> Any:
    """An operation whose rule is picklable."""
    out = type(v)(v.data / 2, (v,), "half")
    out._backward = Half(v, out)
    return out


class Half:
    def __init__(self, v: Any, out: Any) -> None:
        self.v, self.out = v, out

    def __call__(self) -> None:
        self.v.grad += self.out.grad / 2


def test_leaves_keep_data_grad_and_label(duplicate: Callable[[Any], Any], Value: Any) -> None:
    for data in (3, -2.5, 0, -0.0, math.inf, 2**53, 1e-320):
        v = Value(data)
        v.grad = 7
        v.label = "w"
        w = duplicate(v)
        assert w is not v
        assert (type(w), w.data, type(w.data), w.grad, type(w.grad), w.label) == (
            type(v),
            data,
            type(data),
            7,
            int,
            "w",
        )
        assert math.copysign(1, w.data) == math.copysign(1, data)
    assert math.isnan(duplicate(Value(math.nan)).data)
    assert type(duplicate(Value(1)).grad) is type(Value(1).grad)


def test_a_graph_keeps_its_shape_and_sweeps(duplicate: Callable[[Any], Any], Value: Any) -> None:
    a, b = Value(2), Value(-3.5)
    a.label = "a"
    c = (a * b + b**2 - 1 / a).relu()
    d = c.exp() if c.data < 5 else c.log()
    e = d + Value(d.data, (d, a), (2.0, 0.5)) + a + a
    e.backward()
    f = duplicate(e)
    assert outline(f) == outline(e)
    before = outline(e)
    f.backward()
    e.backward()
    assert outline(f) == outline(e) != before


def test_values_saved_together_share_their_graph(duplicate: Callable[[Any], Any], Value: Any) -> None:
    a, b = Value(2.0), Value(3.0)
    c = a * b
    d = c + a
    for group in ([a, b, c, d], [d, c, b, a], [c, a, d, b, c]):
        twins = duplicate({"values": group, "again": group[0]})
        assert twins["again"] is twins["values"][0]
        by_data = {v.data: v for v in twins["values"]}
        a2, b2, c2, d2 = (by_data[x] for x in (2.0, 3.0, 6.0, 8.0))
        assert c2._children == (a2, b2)
        assert d2._children == (c2, a2)
        assert a2 in c2._prev
        d2.backward()
        assert (a2.grad, b2.grad) == (4.0, 2.0)
        assert (a.grad, b.grad) == (0, 0)


def test_attributes_and_cycles(duplicate: Callable[[Any], Any], Value: Any) -> None:
    a = Value(2.0)
    a.momentum, a.state = 0.5, {"m": [1, 2]}
    b = a * 3
    a.child, b.parent, a.me = b, [a], a
    b._op = "renamed"
    for start in (a, b):
        twin = duplicate(start)
        a2, b2 = (twin, twin.child) if start is a else (twin.parent[0], twin)
        assert (a2.momentum, a2.state, b2._op) == (0.5, {"m": [1, 2]}, "renamed")
        assert a2.me is a2
        assert a2.child is b2
        assert b2.parent == [a2]
        assert b2._children[0] is a2
        assert a2.state is not a.state
        b2.backward()
        assert a2.grad == 3
    del a, b, twin, a2, b2, start
    gc.collect()


def test_rules_that_pickle(duplicate: Callable[[Any], Any], Value: Any) -> None:
    x = Value(8.0)
    y = half(half(x * 3) + 1) * 2
    z = duplicate(y)
    z.backward()
    y.backward()
    assert outline(z) == outline(y)
    assert x.grad == 1.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rules_that_do_not_pickle_say_so(protocol: int, Value: Any) -> None:
    x = Value(1.0)
    y = Value(2.0, (x,), "op")
    y._backward = lambda: None
    z = y * 3
    gc.collect()
    before = live_nodes()
    for _ in range(3):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError), match=r"lambda|local"):
            pickle.dumps(z, protocol)
    gc.collect()
    assert live_nodes() == before
    z.backward()
    y._backward = Half(x, y)
    assert pickle.loads(pickle.dumps(z, protocol)).data == 6


def test_networks(duplicate: Callable[[Any], Any]) -> None:
    random.seed(4)
    model = nn.MLP(3, [4, 4, 2])
    for i, p in enumerate(model.parameters()):
        p.grad = i
        p.velocity = i / 2
    twin = duplicate(model)
    assert repr(twin) == repr(model)
    pairs = list(zip(twin.parameters(), model.parameters(), strict=True))
    assert all(p is not q for p, q in pairs)
    assert [(p.data, p.grad, p.velocity) for p, _ in pairs] == [(q.data, q.grad, q.velocity) for _, q in pairs]
    x = [1.0, -2.0, 0.5]
    assert [v.data for v in twin(x)] == [v.data for v in model(x)]
    sum(twin(x)).backward()
    assert all(q.grad == i for i, (_, q) in enumerate(pairs))


def test_a_network_with_its_outputs(duplicate: Callable[[Any], Any]) -> None:
    random.seed(4)
    model = nn.MLP(2, [3, 1])
    out = model([1.0, 2.0])
    model2, out2 = duplicate((model, out))
    out2.backward()
    out.backward()
    assert [p.grad for p in model2.parameters()] == [p.grad for p in model.parameters()]
    assert out2.data == out.data


def test_subclasses(duplicate: Callable[[Any], Any]) -> None:
    n = Named("n", 2.0)
    n.grad = 3
    s = Slotted(5)
    s.unit = "kg"
    root = n * s
    twin = duplicate([root, n, s])
    root2, n2, s2 = twin
    assert (type(n2), n2.name, n2.data, n2.grad, vars(n2)["name"]) == (Named, "n", 2.0, 3, "n")
    assert (type(s2), s2.unit, s2.data) == (Slotted, "kg", 5)
    assert root2._children == (n2, s2)
    root2.backward()
    assert n2.grad == 8


def test_subclasses_that_save_themselves(duplicate: Callable[[Any], Any]) -> None:
    v = duplicate(WithState(4.0))
    assert (type(v), v.data, v.restored) == (WithState, 4.0, True)
    assert duplicate(WithReduce(1.0)).data == 101
    assert duplicate(WithReduceEx(1.0)).data == 201


def test_subclasses_with_copies_of_their_own() -> None:
    assert copy.copy(WithCopies(1.0)) == "copied"
    assert copy.deepcopy([WithCopies(1.0)]) == ["copied deep"]


def test_getstate_assigned_to_the_class(duplicate: Callable[[Any], Any]) -> None:
    """What programs do to make micrograd's Values picklable."""

    def getstate(self: Any) -> dict[str, Any]:
        return {"data": self.data, "grad": self.grad}

    def setstate(self: Any, state: dict[str, Any]) -> None:
        self.data, self.grad = state["data"], state["grad"]
        self._prev, self._op, self._backward = set(), "", Half

    saved = {name: vars(engine.Value).get(name) for name in ("__getstate__", "__setstate__")}
    engine.Value.__getstate__, engine.Value.__setstate__ = getstate, setstate
    try:
        v = engine.Value(3.0)
        v.grad = 0.5
        w = duplicate(v)
        assert (w.data, w.grad, w._backward) == (3.0, 0.5, Half)
    finally:
        for name, attribute in saved.items():
            if attribute is None:
                delattr(engine.Value, name)
            else:
                setattr(engine.Value, name, attribute)


def test_shallow_copies(Value: Any) -> None:
    a = Value(2.0)
    a.tags = ["x"]
    b = copy.copy(a)
    assert b is not a
    assert b.tags is a.tags
    assert (b.data, b.grad, b.label) == (a.data, a.grad, a.label)
    b.data = 5.0
    b.extra = 1
    assert a.data == 2.0
    assert not hasattr(a, "extra")
    c = a * 3
    c.label = "c"
    d = copy.copy(c)
    assert (d.data, d._op, d.label, d._children) == (6.0, "*", "c", c._children)
    d.backward()
    assert (a.grad, c.grad, d.grad) == (3, 0, 1)
    n = copy.copy(Named("n", 1.0))
    assert (type(n), n.name) == (Named, "n")


def test_deepcopy_and_its_memo(Value: Any) -> None:
    a = Value(2.0)
    b = a * 3
    memo: dict[int, Any] = {}
    b2 = copy.deepcopy(b, memo)
    a2 = copy.deepcopy(a, memo)
    assert b2._children[0] is a2
    assert copy.deepcopy(b, memo) is b2
    kept = copy.deepcopy(b, {id(a): a})
    assert kept._children[0] is a


def test_deep_graphs_in_little_stack() -> None:
    results: list[bool] = []

    def work() -> None:
        v = a = tapegrad.Value(1.0)
        for _ in range(200_000):
            v = v * 0.999999 + a
        for twin in (pickle.loads(pickle.dumps(v)), copy.deepcopy(v), copy.copy(v)):
            twin.backward()
            results.append(twin.data == v.data)

    threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
    assert results == [True] * 3


def test_deep_graphs_with_attributes_and_rules() -> None:
    """Every node of the chain carries something, so that each is an object of its own to pickle."""
    v = tapegrad.Value(1.0)
    for i in range(3000):
        v = half(v + 1)
        v.label = f"step {i}"
    twin = pickle.loads(pickle.dumps(v))
    assert (twin.label, twin.data) == (v.label, v.data)
    twin.backward()
    other = copy.deepcopy(v)
    other.backward()
    assert other.grad == twin.grad == 1


def test_lists_of_all_nodes_of_a_deep_graph() -> None:
    nodes = [tapegrad.Value(1.0)]
    for _ in range(5000):
        nodes.append(nodes[-1] + 1)
    twins = pickle.loads(pickle.dumps(nodes))
    assert all(t._children[0] is s for s, t in pairwise(twins))
    backwards = copy.deepcopy(nodes[::-1])
    assert all(t._children[0] is s for t, s in pairwise(backwards))
    twins[-1].backward()
    assert twins[0].grad == 1


def test_nothing_is_left_behind(duplicate: Callable[[Any], Any], Value: Any) -> None:
    gc.collect()
    before = live_nodes()
    a = Value(2.0)
    a.state = {"v": a}
    b = (a * 3 - 1) / a
    for _ in range(20):
        duplicate([a, b])
    gc.collect()
    assert live_nodes() == before + 7
    del a, b
    gc.collect()
    assert live_nodes() == before


def test_one_pickler_many_dumps() -> None:
    a = tapegrad.Value(1.0)
    b = a * 2
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    for v in (a, b, b + a):
        pickler.dump(v)
    pickler.clear_memo()
    b.data = 50.0
    pickler.dump(b)
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    first, second, third = (unpickler.load() for _ in range(3))
    fourth = pickle.load(file)
    assert second._children[0] is first
    assert set(third._children) == {first, second}
    assert fourth.data == 50.0


def test_pickles_made_while_the_graph_grows() -> None:
    """A pickler that is kept must not give out places in a graph as it was before."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    v = tapegrad.Value(1.0)
    for _ in range(5):
        v = v * 2 + 1
        pickler.dump(v)
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    values = [unpickler.load() for _ in range(5)]
    assert [w.data for w in values] == [3.0, 7.0, 15.0, 31.0, 63.0]
    values[-1].backward()
    assert values[0].grad == 16


def test_a_pickle_is_of_the_present() -> None:
    """A pickler or a memo that is kept alive elsewhere must not lend its old picture of the graph to another."""
    a = tapegrad.Value(1.0)
    b = a * 2
    kept = pickle.Pickler(io.BytesIO())
    kept.dump(b)
    memo: dict[int, Any] = {}
    twin = copy.deepcopy(b, memo)
    b.data, b.grad = 50.0, 7.0
    for other in (pickle.loads(pickle.dumps(b)), copy.deepcopy(b)):
        assert (other.data, other.grad) == (50.0, 7.0)
    assert twin.data == 2.0
    assert copy.deepcopy(b, memo) is twin


def test_threads_pickle_the_same_graph() -> None:
    a = tapegrad.Value(1.0)
    v = a
    for _ in range(300):
        v = v * 1.001 + a
    expected = outline(v)
    results = []

    def work() -> None:
        results.extend(outline(pickle.loads(pickle.dumps(v))) == expected for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert results == [True] * 40


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("module", ["tapegrad", "tapegrad.micrograd.engine"])
def test_another_process_reads_it(protocol: int, module: str, tmp_path: Path) -> None:
    make = f"""
import pickle, sys
from {module} import Value
import tapegrad.micrograd.nn as nn
a = Value(2)
a.label, a.m = "a", 0.5
root = (a * 3.5 + 1).tanh() ** 2
root.backward()
pickle.dump((root, a, nn.MLP(2, [1])), open(sys.argv[1], "wb"), {protocol})
print(root.data.hex(), a.grad.hex())
"""
    read = """
import pickle, sys
root, a, model = pickle.load(open(sys.argv[1], "rb"))
assert (a.label, a.m, a.data) == ("a", 0.5, 2)
print(root.data.hex(), a.grad.hex())
for v in (root, *root._children): v.grad = 0
model([1, 2]).backward()
"""
    file = str(tmp_path / "values.pickle")
    outputs = [
        subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, timeout=60, check=False)
        for code in (make, read)
    ]
    assert [(done.returncode, done.stderr) for done in outputs] == [(0, "")] * 2
    assert outputs[0].stdout == outputs[1].stdout


def test_a_dialect_that_is_not_in_the_graph_is_not_in_the_pickle(tmp_path: Path) -> None:
    """A script run under the name micrograd must not make the pickles of other Values depend on it."""
    script = tmp_path / "program.py"
    script.write_text("from micrograd.engine import Value\nv = Value(1) * 2\n")
    kept = runner.run(script)
    for Value in (tapegrad.Value, engine.Value):
        v = Value(2.0) * 3
        text = pickle.dumps(v)
        assert b"micrograd.engine" not in text.replace(Value.__module__.encode(), b"")
        assert pickle.loads(text).data == 6
        assert copy.deepcopy(v).data == 6
    assert copy.deepcopy(kept["v"]).data == 2


def test_values_of_a_script_pickle_within_the_script(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import copy, pickle\nfrom micrograd.engine import Value\nfrom micrograd.nn import MLP\n"
        "v = Value(2) * 3\nw = pickle.loads(pickle.dumps(v))\n"
        "model = pickle.loads(pickle.dumps(MLP(2, [2, 1])))\n"
        "same = type(w) is Value and type(model) is MLP\n"
        "twin = copy.deepcopy(model)([1, 2]).data == model([1, 2]).data\n"
    )
    result = runner.run(script)
    assert (result["w"].data, result["same"], result["twin"]) == (6, True, True)


@pytest.mark.parametrize(
    "state",
    [
        None,
        (),
        (1, 2, 3),
        (None, 1.0, 0.0),
        ("graph", 0, None, {}),
        (None, "x", 0.0, {}),
        (None, 1.0, None, {}),
        (None, 1.0, 0.0, {1: 2}),
        (None, 1.0, 0.0, None),
    ],
)
def test_damaged_states_are_refused(state: Any) -> None:
    v = tapegrad.Value(1.0)
    with pytest.raises((ValueError, TypeError, AttributeError)):
        v.__setstate__(state)
    assert (v * 2).data in (2.0, 2)


def test_damaged_pickles_do_not_crash() -> None:
    """The bytes of the arrays of a graph are changed in every place: an exception or a graph, but no crash."""
    a = tapegrad.Value(2.0)
    v = tapegrad.Value(3.0, (a, a * 2), (1.0, 2.0)) * a**2 + 1
    whole = v.__reduce_ex__(4)
    graph = whole[2][0]
    function, arguments, (arrays, externals, heavy) = graph.__reduce__()
    rng = random.Random(5)
    outcomes = set()
    for _ in range(3000):
        damaged = list(arrays)
        i = rng.randrange(len(damaged))
        item = damaged[i]
        if isinstance(item, bytes) and item:
            at = rng.randrange(len(item))
            damaged[i] = rng.choice(
                [item[:at] + bytes([rng.randrange(256)]) + item[at + 1 :], item[:at], item + item[: at + 1], b""]
            )
        else:
            damaged[i] = rng.choice([(), None, "x", 5, item])
        ends = externals if rng.random() < 0.8 else externals[:-1]
        try:
            new = function(*arguments)
            new.__setstate__((tuple(damaged), ends, heavy))
            w = tapegrad.Value.__new__(tapegrad.Value)
            w.__setstate__((new, rng.randrange(8), None, {}))
            w.backward()
            repr(w)
            outcomes.add("read")
        except (ValueError, TypeError, OverflowError, MemoryError, AttributeError) as error:
            outcomes.add(type(error).__name__)
    assert "ValueError" in outcomes
    assert (v * 2).data == 26.0


def test_weak_references(Value: Any) -> None:
    a = Value(1.0)
    ref = weakref.ref(a)
    proxy = weakref.proxy(a)
    assert ref() is a
    assert (proxy.data, (proxy * 2).data, (2 + proxy).data) == (1.0, 2.0, 3.0)
    b = a * 2
    del a
    assert ref() is not None
    assert b._children[0] is ref()
    del b
    assert ref() is None
    with pytest.raises(ReferenceError):
        proxy.data  # noqa: B018
    assert weakref.getweakrefcount(Value(1)) == 0
