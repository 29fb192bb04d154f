"""Leaks: every public operation, 3 x 1,000 times, errors included, leaves live nodes, allocated blocks and reference
counts where they were; memory stays flat over thousands of training steps."""

from __future__ import annotations

import contextlib
import copy
import gc
import math
import operator
import os
import pickle
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapegrad
from tapegrad import MLP, Layer, Neuron, Value, draw_dot, live_nodes, trace
from tapegrad.gradcheck import GradcheckError, gradcheck
from tapegrad.micrograd import engine as published
from tapegrad.micrograd import nn as published_nn

A, B, C = Value(0.6, label="a"), Value(-0.3), published.Value(2)
NAME, NOTE = "a name of this file only", ["a list"]
MODEL, PUBLISHED = MLP(2, [3, 1]), published_nn.MLP(2, [3, 1])
DEEP = A
for _ in range(20):
    DEEP = DEEP * 0.5 + B


class Special(Value):
    """A subclass with a constructor of its own."""

    def __init__(self, x: float, note: Any = None) -> None:
        super().__init__(x)
        self.note = note


def rule() -> None:
    """A backward rule that does nothing."""


def failing_rule() -> None:
    raise KeyError("planted")


def with_rule(one: Callable[[], None]) -> Value:
    out = Value(1.0, (A, B), NAME)
    out._backward = one
    return out


def refused(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, which must raise."""

    def run() -> None:
        try:
            call()
        except (
            ArithmeticError,
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            RuntimeError,
            EOFError,
            pickle.PickleError,
        ):
            return
        raise AssertionError("it did not raise")

    return run


def cycle() -> None:
    v = A * 2.0
    v.me = v
    v._backward = lambda: v.grad


def weak() -> None:
    v = A * 2.0
    r = weakref.ref(v)
    w = v + 1.0
    del v
    assert r() is not None
    del w
    assert r() is None


def assign() -> None:
    v = A * B
    v.data, v.grad, v.label, v.note = 3, 2.5, NAME, NOTE
    v._prev = {A}
    v._backward = rule
    v._backward = rule
    del v.note
    vars(v)


def array() -> None:
    xs = np.array([A, B, A * B])
    (np.float64(2) * A + B * np.int64(3) + np.exp(xs).sum() + xs @ xs).backward()


def without_graph() -> None:
    with tapegrad.no_grad():
        A * B + DEEP.tanh()
        assert not tapegrad.grad_enabled()
        with tapegrad.enable_grad():
            A * B


def looked_at(call: Callable[[], Any]) -> None:
    with tapegrad.detect_anomaly():
        assert tapegrad.anomaly_enabled()
        call()


ARRAY = Value(np.array([1.0, 2.0, 3.0]))
F = tapegrad.compile(lambda x, y: (x * A + y).tanh() if x > 0 else y)
CHECKED = tapegrad.compile(lambda x: x.log(), check=True)
LANES = tapegrad.vmap(F)
STRAIGHT = tapegrad.compile(lambda x: x * A)
STRAIGHT(2.0)
ROWS = np.array([0.1, 0.2, 0.3])


def raises(x: Any) -> Any:
    raise KeyError("planted")


OPERATIONS: dict[str, Callable[[], Any]] = {
    **{f"Value.{n}": (lambda n=n: getattr(A * 1.0 + (1 if n == "arccosh" else 0), n)()) for n in dir(Value)
       if "makes one node" in (getattr(Value, n).__doc__ or "")},
    **{f"{op.__name__}, {kind}": (lambda op=op, x=x, y=y: op(x, y))
       for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow,
                  operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
       for kind, x, y in (("values", A, B), ("right", A, 2.5), ("left", 2.5, A), ("int", C, 3), ("mixed", C, A))},
    "unary operators": lambda: (-A, +A, abs(A), bool(A), float(A), int(A), hash(A)),
    "constructors": lambda: (Value(1.0), Value(2, label=NAME), Value(1.0, (A, B), "+"), Value(1.0, (A,), (2.0,)),
                             Value(data=1.0, children=[A], op=NAME), Special(1.0, NOTE), published.Value(3)),
    "wrong constructors": refused(lambda: Value("no")),
    "wrong children": refused(lambda: Value(1.0, (A, 5))),
    "wrong local gradients": refused(lambda: Value(1.0, (A, B), (1.0,))),
    "wrong keywords": refused(lambda: Value(1.0, labels=NAME)),
    "wrong operands": refused(lambda: A + None),
    "wrong data": refused(lambda: setattr(A, "data", NAME)),
    "division by zero": refused(lambda: A / 0.0),
    "overflow": refused(lambda: (A * 1e4).exp()),
    "domain": refused(lambda: (A * -1.0).log()),
    "power": refused(lambda: (A - 5.0) ** 0.5),
    "no such attribute": refused(lambda: A.nothing),
    "looks": lambda: (A.data, A.grad, A.label, DEEP._prev, DEEP._children, DEEP._op, DEEP._local_grads),
    "bound rules": lambda: DEEP._backward(),
    "assignments": assign,
    "text": lambda: (repr(A), str(C), f"{A:.3f}", format(A)),
    "weak references": weak,
    "backward": lambda: DEEP.backward(),
    "rules": lambda: (with_rule(rule) * A).backward(),
    "failing rules": refused(lambda: (with_rule(failing_rule) * A).backward()),
    "pickle": lambda: [pickle.loads(pickle.dumps([DEEP, Special(1.0, A)], p)) for p in (2, 5)],
    "copies": lambda: (copy.copy(DEEP), copy.deepcopy(DEEP), copy.copy(Special(1.0, NOTE))),
    "cut pickles": refused(lambda: pickle.loads(pickle.dumps(DEEP)[:-20] + b".")),
    "networks": lambda: (MODEL([1.0, A]), PUBLISHED([1.0, C]), Neuron(2)([A, 2.0]), Layer(2, 3), MODEL.parameters()),
    "training": lambda: ((MODEL([1.0, 2.0]) - 1.0) ** 2).backward(),
    "wrong inputs": refused(lambda: MODEL([1.0, NAME])),
    "numpy": array,
    "choices": lambda: (tapegrad.where(A > 0, A, B), tapegrad.maximum(A, B), tapegrad.minimum(A, 2.0),
                        tapegrad.clip(A, -1.0, 0.5)),
    "compiled calls": lambda: (F(0.5, 2.0), F(-0.5, 2.0), F.value_and_grad(0.5, 2.0), F.backward(0.5, 2.0)),
    "compiled calls with Values": lambda: F(A, B),
    "compiled errors": refused(lambda: CHECKED(-1.0)),
    "compiled wrong arguments": refused(lambda: F(0.5, object())),
    "lanes": lambda: (LANES(ROWS, ROWS), LANES.value_and_grad(ROWS, ROWS), LANES.backward(ROWS, ROWS)),
    "lanes that part": refused(lambda: LANES(-1 * ROWS + 0.15, ROWS)),
    "no_grad": without_graph,
    "detach": lambda: (A.detach(), DEEP.detach(), ARRAY.detach()),
    "zero_grad": lambda: (DEEP.zero_grad(), DEEP.backward(zero_grad=True), DEEP.backward(2.0)),
    "wrong seeds": refused(lambda: DEEP.backward(NAME)),
    "autograd.grad": lambda: tapegrad.autograd.grad(DEEP, [A, B, ARRAY]),
    "autograd.grad with a failing rule": refused(lambda: tapegrad.autograd.grad(with_rule(failing_rule), A)),
    "detect_anomaly": lambda: looked_at(lambda: (A * B).tanh().backward()),
    "forward anomalies": refused(lambda: looked_at(lambda: A * 1e308 * 1e10)),
    "backward anomalies": refused(lambda: looked_at(lambda: ((A - A.data) * 1.0).sqrt().backward())),
    "statistics": lambda: (tapegrad.graph_stats(DEEP), tapegrad.memory()),
    "arrays": lambda: ((ARRAY * 2 + A).tanh().sum().backward(), ARRAY.grad, ARRAY.data, ARRAY[0], repr(ARRAY)),
    "wrong arrays": refused(lambda: ARRAY + Value(np.ones(7))),
    "live_nodes": live_nodes,
}  # fmt: skip
SLOW: dict[str, Callable[[], Any]] = {
    "cycles": cycle,
    "drawing": lambda: (trace(DEEP), draw_dot(DEEP).source),
    "recordings": lambda: tapegrad.compile(lambda x: x * A + B)(2.0),
    "recordings that fail": refused(lambda: tapegrad.compile(raises)(2.0)),
    "transformed": lambda: (tapegrad.grad(lambda x: x * x)(3.0), tapegrad.value_and_grad(lambda x: x * A)(3.0)),
    "programs": lambda: (
        STRAIGHT.program.text,
        pickle.loads(pickle.dumps(STRAIGHT.program))(2.0),
        STRAIGHT.program.graph(),
    ),
    "gradcheck": lambda: gradcheck(lambda x: x * A, 2.0),
    "gradcheck that fails": refused(lambda: gradcheck(lambda x: Value(x.data, (x,), (2.0,)), 2.0)),
}
WITNESSES = [
    Value,
    published.Value,
    Special,
    A,
    B,
    C,
    NAME,
    NOTE,
    rule,
    failing_rule,
    F,
    ROWS,
    KeyError,
    tapegrad.AnomalyError,
    ARRAY,
    GradcheckError,
]


def state() -> tuple[int, int, list[int]]:
    gc.collect()
    return live_nodes(), sys.getallocatedblocks(), [sys.getrefcount(w) for w in WITNESSES]


def check(operation: Callable[[], Any], times: int) -> None:
    """Runs it until caches are full, then three times as often; a cache may still fill up in a few rounds more, but a
    leak never ends."""
    for _ in range(max(20, times // 10)):
        operation()
    nodes, blocks, counts = state()
    grown: list[int] = []
    allowed = times // 100 + 5
    while len(grown) < 3 or (min(grown) > allowed and len(grown) < 30):
        for _ in range(times):
            operation()
        nodes_now, blocks_now, counts_now = state()
        assert nodes_now == nodes
        assert counts_now == counts
        grown.append(blocks_now - blocks)
        blocks = blocks_now
    assert min(grown) <= allowed, f"{grown} blocks more after each {times} calls"


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_is_left(name):
    check(OPERATIONS[name], 1000)


@pytest.mark.parametrize("name", SLOW)
def test_nothing_is_left_by_what_takes_longer(name):
    gc.disable()  # the collector runs between the rounds
    try:
        check(SLOW[name], {"cycles": 1000, "drawing": 40}.get(name, 200))
    finally:
        gc.enable()


def test_the_check_sees_a_leak():
    kept: list[Any] = []
    for leak in (lambda: kept.append(Value(1.0)), lambda: kept.append([NAME]), lambda: kept.append(object())):
        with pytest.raises(AssertionError):
            check(leak, 1000)


def test_every_public_name_is_used():
    text = Path(__file__).read_text(encoding="utf-8")
    for name in set(tapegrad.__all__) - {"GraphStats", "Memory"}:  # what graph_stats() and memory() give
        assert name in text, name


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_is_flat_over_steps_of_a_graph_of_ten_thousand_nodes():
    parameters = [Value(0.01 * i) for i in range(100)]

    def step() -> None:
        total = Value(0.0)
        for p in parameters:
            s = p
            for _ in range(33):
                s = s * 0.5 + p  # three nodes
            total = total + s
        assert live_nodes() - nodes >= 10_000
        for p in parameters:
            p.grad = 0.0
        total.backward()
        for p in parameters:
            p.data -= 1e-3 * p.grad

    nodes = live_nodes()
    for _ in range(50):
        step()
    before = resident()
    for _ in range(2_000):
        step()
    assert live_nodes() == nodes
    assert resident() <= before + 2**20
    assert math.isfinite(sum(p.data for p in parameters))


def test_temporary_files_are_closed(tmp_path):
    descriptors = Path("/proc/self/fd")
    count = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for _ in range(50):
        STRAIGHT.program.save(tmp_path / "f")
        assert tapegrad.Program.load(tmp_path / "f")(2.0) == STRAIGHT(2.0)
        with contextlib.suppress(ValueError):
            tapegrad.Program.load(Path(__file__))
    assert not descriptors.exists() or len(list(descriptors.iterdir())) == count
