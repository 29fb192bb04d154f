"""Garbage: cycles through rules and attributes go in one collection, and nothing goes that a live graph needs."""

from __future__ import annotations

import gc
import math
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tapegrad
from tapegrad import live_nodes
from tapegrad.micrograd import engine, nn


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Start and end each test without garbage, and count nodes over it: whatever a test makes is gone after it."""
    gc.collect()
    before = live_nodes()
    yield
    gc.collect()
    assert live_nodes() == before


@pytest.fixture(params=[tapegrad.Value, engine.Value], ids=["tapegrad", "dialect"])
def Value(request: pytest.FixtureRequest) -> Any:
    return request.param


class Canary:
    """Dies visibly: an object to hang on a Value."""


def exp(x: Any, Value: Any) -> Any:
    out = Value(math.exp(x.data), (x,), "exp")

    def _backward() -> None:
        x.grad += out.data * out.grad

    out._backward = _backward
    return out


# Ways to make a cycle. Each takes the class and a canary to be reached from the cycle, and drops all references.


def rule_captures_output(Value: Any, canary: Any) -> None:
    x = Value(1.0)
    out = Value(2.0, (x,), "op")

    def _backward() -> None:
        x.grad += out.grad + len(str(canary))

    out._backward = _backward


def rule_captures_output_of_a_chain(Value: Any, canary: Any) -> None:
    v = Value(0.5)
    v.canary = canary
    for _ in range(10):
        v = exp(v * 0.1, Value) - 1
    v.backward()


def attribute_points_at_itself(Value: Any, canary: Any) -> None:
    v = Value(1.0)
    v.me, v.canary = v, canary


def attribute_points_at_consumer(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    a.canary = canary
    b = a * 2
    a.child = b


def attribute_points_far_down(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    a.canary = canary
    v = a
    for _ in range(300):
        v = v * 2 + 1
    a.child = v


def attribute_points_down_over_a_composite(Value: Any, canary: Any) -> None:
    a = Value(2.0)
    a.canary = canary
    a.child = (1 - a) / a - (-a)


def attribute_points_down_over_a_layer(Value: Any, canary: Any) -> None:
    n = nn.Layer(2, 2)
    a, b = engine.Value(1.0), engine.Value(2.0)
    a.canary = canary
    outs = n([a, b])
    n.neurons[0].w[0].seen = outs
    a.child = outs[1]


def attribute_in_a_container(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    a.canary = canary
    a.children = {"list": [(a * 2,), {a + 1}]}


def siblings_point_at_each_other(Value: Any, canary: Any) -> None:
    a, b = Value(1.0), Value(2.0)
    a.other, b.other, a.canary = b, a, canary
    c = a * b
    c.backward()


def two_graphs_point_at_each_other(Value: Any, canary: Any) -> None:
    a, b = Value(1.0), Value(2.0)
    p, q = (a * 2 + 1).relu(), (b * 3 + 1).relu()
    a.other, b.other, a.canary = q, p, canary


def local_gradients_and_a_late_attribute(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    out = Value(2.0, (a, a * 3), (0.5, 0.25))
    a.child, a.canary = out, canary


def prev_set_is_asked_for(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    b = a * 2
    kept = b._prev
    kept.add(b)
    a.canary = canary


def prev_set_assigned(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    b = Value(2.0)
    b._prev = {a}
    a.child, a.canary = b, canary


def bound_method_as_rule(Value: Any, canary: Any) -> None:
    class Owner:
        def __init__(self) -> None:
            self.canary = canary
            self.x = Value(1.0)
            self.out = Value(1.0, (self.x,), "op")
            self.out._backward = self.rule

        def rule(self) -> None:
            self.x.grad += self.out.grad

    Owner().out.backward()


def default_rule_stored_on_operand(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    b = a * 2
    a.rule, a.canary = b._backward, canary


def rule_of_a_node_put_back_on_it(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    b = a * 2
    b._backward = b._backward
    b.canary = canary


def subclass_with_slots(Value: Any, canary: Any) -> None:
    class Sub(Value):
        __slots__ = ("canary", "child")

    s = Sub(1.0)
    s.child, s.canary = s * 2, canary


def subclass_made_in_a_function(Value: Any, canary: Any) -> None:
    class Sub(Value):
        held = canary

    Sub.instance = Sub(1.0) * 2


def generator_over_a_graph(Value: Any, canary: Any) -> None:
    a = Value(1.0)

    def walk() -> Iterator[Any]:
        yield a * 2
        yield canary

    a.walk = walk()
    next(a.walk)


def frame_of_an_exception(Value: Any, canary: Any) -> None:
    a = Value(1.0)
    try:
        raise ValueError((a * 2, canary))
    except ValueError as error:
        a.error = error


def network_with_a_back_reference(Value: Any, canary: Any) -> None:
    model = nn.MLP(2, [3, 1])
    for p in model.parameters():
        p.owner = model
    model.canary = canary  # type: ignore[attr-defined]
    model([1.0, 2.0]).backward()


CYCLES = [
    rule_captures_output,
    rule_captures_output_of_a_chain,
    attribute_points_at_itself,
    attribute_points_at_consumer,
    attribute_points_far_down,
    attribute_points_down_over_a_composite,
    attribute_points_down_over_a_layer,
    attribute_in_a_container,
    siblings_point_at_each_other,
    two_graphs_point_at_each_other,
    local_gradients_and_a_late_attribute,
    prev_set_is_asked_for,
    prev_set_assigned,
    bound_method_as_rule,
    default_rule_stored_on_operand,
    rule_of_a_node_put_back_on_it,
    subclass_with_slots,
    subclass_made_in_a_function,
    generator_over_a_graph,
    frame_of_an_exception,
    network_with_a_back_reference,
]


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda cycle: cycle.__name__)
@pytest.mark.parametrize("repeat", [1, 50])
def test_a_cycle_goes_in_one_collection(cycle: Callable[[Any, Any], None], repeat: int, Value: Any) -> None:
    canaries = []
    before = live_nodes()
    gc.disable()
    try:
        for _ in range(repeat):
            canary = Canary()
            canaries.append(weakref.ref(canary))
            cycle(Value, canary)
            del canary
        gc.collect()
        assert [ref() for ref in canaries] == [None] * repeat
        assert live_nodes() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda cycle: cycle.__name__)
def test_the_collector_runs_at_any_allocation(cycle: Callable[[Any, Any], None], Value: Any) -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(20):
            cycle(Value, Canary())
    finally:
        gc.set_threshold(*threshold)


def test_a_live_cycle_is_not_collected(Value: Any) -> None:
    a = Value(2.0)
    canary = Canary()
    a.canary = canary
    ref = weakref.ref(canary)
    b = a * 3
    a.child = b
    out = exp(b * 0.1, Value) + 1
    del a, b, canary
    for _ in range(3):
        gc.collect()
    assert ref() is not None
    (e,) = [v for v in out._prev if v._op == "exp"]
    (scaled,) = e._prev
    b = next(v for v in scaled._prev if v._op == "*")
    a = next(v for v in b._prev if hasattr(v, "canary"))
    assert a.child is b
    out.backward()
    assert a.grad == pytest.approx(math.exp(0.6) * 0.3)
    del a, b, e, scaled, out
    gc.collect()
    assert ref() is None


def test_a_handle_that_comes_back_carries_what_was_on_it(Value: Any) -> None:
    """Only the graph holds `a` and its late attribute, through consumers that were made before the attribute."""
    a = Value(2.0)
    root = (a * 3 + 1).relu()
    a.note = note = ["kept"]
    ref = weakref.ref(a)
    del a
    gc.collect()
    assert ref() is not None
    assert ref().note is note
    plus = root._children[0]
    times = plus._children[0]
    assert times._children[0] is ref()
    del plus, times, root
    gc.collect()
    assert ref() is None


def test_collecting_between_every_two_operations_of_training() -> None:
    """A training step with rules of its own gives the same bits with a collection between any two operations."""

    def tanh(v: Any) -> Any:
        t = math.tanh(v.data)
        out = engine.Value(t, (v,), "tanh")

        def _backward() -> None:
            pause()
            v.grad += (1 - t * t) * out.grad
            pause()

        out._backward = _backward
        pause()
        return out

    pause: Callable[[], object] = lambda: None  # noqa: E731
    losses = []
    before = live_nodes()
    for collect in (False, True):
        pause = gc.collect if collect else (lambda: None)
        random.seed(3)
        w = [engine.Value(random.uniform(-1, 1)) for _ in range(4)]
        for p in w:
            p.momentum = [0.0]
        trace = []
        for _ in range(3):
            total: Any = 0
            for x, y in ((0.5, 1), (-1, -1), (2, 0)):
                pause()
                h = w[0] * x
                pause()
                h = h + w[1]
                pause()
                h = tanh(h)
                pause()
                h = h * w[2] - w[3] / 3
                pause()
                h = tanh(h)
                pause()
                d = h - y
                pause()
                d = d**2
                pause()
                total = total + d
                pause()
                del h
            for p in w:
                p.grad = 0.0
                pause()
            total.backward()
            pause()
            for p in w:
                p.momentum[0] = 0.9 * p.momentum[0] + p.grad
                p.data -= 0.1 * p.momentum[0]
                pause()
            trace.append((total.data.hex(), [p.grad.hex() for p in w]))
            del total, d
            pause()
        if collect:
            assert live_nodes() == before + len(w)
        losses.append(trace)
        del w, p
        gc.collect()
    assert losses[0] == losses[1]


def test_live_nodes_return_after_each_step_with_rules() -> None:
    random.seed(0)
    model = nn.MLP(2, [4, 1])
    for p in model.parameters():
        p.state = {"m": 0.0, "self": p}
    gc.collect()
    before = live_nodes()
    for _ in range(20):
        loss = exp(model([0.5, -0.25]) * 0.1, engine.Value) - 1
        loss.backward()
        for p in model.parameters():
            p.data -= 0.01 * p.grad
            p.grad = 0
        del loss
        gc.collect()
        assert live_nodes() == before
    del model, p


def test_plain_graphs_need_no_collector(Value: Any) -> None:
    """Values without attributes and rules are freed at once and are not seen by the collector."""
    gc.disable()
    try:
        before = live_nodes()
        tracked = len(gc.get_objects())
        a = Value(1.0)
        v = a
        for _ in range(1000):
            v = v * 0.5 + a
        values = [Value(float(i)) * a for i in range(1000)]
        assert not any(map(gc.is_tracked, values))
        assert not gc.is_tracked(v)
        assert len(gc.get_objects()) - tracked < 50
        v.backward()
        assert not gc.is_tracked(v)
        assert not gc.is_tracked(a)
        del a, v, values
        assert live_nodes() == before
    finally:
        gc.enable()


def test_plain_attributes_do_not_need_the_collector(Value: Any) -> None:
    gc.disable()
    try:
        before = live_nodes()
        a = Value(1.0)
        a.label, a.momentum = "a", 0.5
        b = a * 2
        assert not gc.is_tracked(a)
        assert not gc.is_tracked(b)
        del a, b
        assert live_nodes() == before
    finally:
        gc.enable()


def test_a_rule_that_is_dropped_leaves_no_cycle(Value: Any) -> None:
    gc.disable()
    try:
        before = live_nodes()
        x = Value(1.0)
        out = exp(x, Value)
        out._backward = lambda: None
        del out
        assert live_nodes() == before + 1
        del x
        assert live_nodes() == before
    finally:
        gc.enable()


def test_weak_references_and_finalizers(Value: Any) -> None:
    died = []
    a = Value(1.0)
    b = a * 2
    refs = [weakref.ref(v, lambda _, i=i: died.append(i)) for i, v in enumerate((a, b))]
    weakref.finalize(b, died.append, "final")
    keys = weakref.WeakKeyDictionary({a: "a", b: "b"})
    values = weakref.WeakValueDictionary({"a": a})
    everything = weakref.WeakSet([a, b])
    del a
    gc.collect()
    assert (died, len(keys), len(values), len(everything)) == ([], 2, 1, 2)
    assert refs[0]() is values["a"]
    assert values["a"] in b._prev
    del b
    gc.collect()
    assert sorted(map(str, died)) == ["0", "1", "final"]
    assert (len(keys), len(values), len(everything)) == (0, 0, 0)


def test_weak_references_in_cycles(Value: Any) -> None:
    a = Value(1.0)
    a.child = a * 2
    seen = []
    ref = weakref.ref(a.child, lambda _: seen.append(1))
    keep = ref
    del a
    gc.collect()
    assert keep() is None
    assert seen == [1]


def test_a_deep_graph_in_a_cycle_is_collected() -> None:
    before = live_nodes()
    a = tapegrad.Value(1.0)
    v = a
    for _ in range(200_000):
        v = v + 1.0
    a.child = v
    del v, a
    gc.collect()
    assert live_nodes() == before


def test_a_deep_chain_of_rules_is_collected() -> None:
    before = live_nodes()

    def run() -> None:
        v = tapegrad.Value(1.0)
        for _ in range(20_000):
            v = exp(v * 1e-3, tapegrad.Value)
        v.backward()

    threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)
    gc.collect()
    assert live_nodes() == before


def test_a_deep_chain_of_attributes_dies_without_recursion() -> None:
    v = None
    for i in range(50_000):
        w = tapegrad.Value(float(i))
        w.before = v
        v = w
    del v, w


def test_a_wide_graph_with_one_late_attribute() -> None:
    a = tapegrad.Value(1.0)
    total = sum([a * float(i) for i in range(20_000)])
    a.total = total
    del total
    gc.collect()
    assert a.total.data == sum(range(20_000))
    del a


def test_finalizers_that_resurrect(Value: Any) -> None:
    saved = []

    class Phoenix:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __del__(self) -> None:
            saved.append(self.value)

    a = Value(2.0)
    a.phoenix = Phoenix(a * 3)
    a.phoenix.value.back = a
    del a
    gc.collect()
    assert len(saved) == 1
    v = saved.pop()
    v.backward()
    assert v.back.grad == 3
    w = v * 2
    assert w.data == 12
    del v, w
    gc.collect()


def test_a_value_with_del(Value: Any) -> None:
    log = []

    class Loud(Value):
        def __del__(self) -> None:
            log.append((self.data, (self * 2).data))

    v = Loud(4.0)
    w = v + 1
    del v
    gc.collect()
    assert log == []
    w.backward()
    del w
    gc.collect()
    assert log == [(4.0, 8.0)]


def test_clearing_in_mid_sweep(Value: Any) -> None:
    """A rule drops the last references to the graph that is being swept."""
    holder = {}
    x = Value(1.0)
    y = x * 2
    out = Value(y.data, (y,), "op")

    def _backward() -> None:
        holder.clear()
        gc.collect()
        y.grad += out.grad

    out._backward = _backward
    holder["root"] = out * 3 + 1
    holder["root"].backward()
    assert (x.grad, y.grad) == (6, 3)


def test_referents_are_those_of_the_graph(Value: Any) -> None:
    a = Value(1.0)
    a.items = []
    b = a * 2
    gc.collect()
    assert any(o is a for o in gc.get_referents(b))
    assert a.items in gc.get_referents(a) or any(a.items in gc.get_referents(o) for o in gc.get_referents(a))


def test_threads_collect_each_others_cycles() -> None:
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            rng = random.Random(seed)
            for _ in range(60):
                a = tapegrad.Value(rng.random())
                v = a
                for _ in range(20):
                    v = exp(v * 0.1, tapegrad.Value)
                a.child = v
                v.backward()
                if rng.random() < 0.2:
                    gc.collect()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "import sys; sys.exit(3)",
        "raise SystemExit(3)",
        "import atexit; atexit.register(lambda: print(b.child.data))",
        "del a",
        "import gc; gc.disable()",
        "import gc; gc.callbacks.clear()",
        "import gc; gc.freeze()",
        "import sys; sys.modules.clear()",
    ],
)
def test_cycles_at_interpreter_exit(ending: str) -> None:
    program = f"""
import math
from tapegrad import Value
a = Value(1.0)
b = Value(2.0, (a,), "op")
def _backward():
    a.grad += b.grad
b._backward = _backward
b.child = (a * b) - 1
a.label = [b]
class Sub(Value):
    def __del__(self):
        self.data
keep = Sub(1.0) * b
keep.backward()
cell = [keep, lambda: keep]
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == (3 if "3" in ending else 0), done.stderr
    assert done.stderr == ""
