"""Operations of a program's own, in every style, mixed with native nodes in one sweep: results as on micrograd."""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Callable
from typing import Any

import micrograd.engine
import pytest

import tapegrad
from tapegrad.micrograd import engine

PURE, OURS = micrograd.engine.Value, engine.Value


@pytest.fixture(params=[PURE, OURS, tapegrad.Value], ids=["micrograd", "dialect", "tapegrad"])
def Value(request: pytest.FixtureRequest) -> Any:
    return request.param


def exp_by_closure(Value: Any) -> Callable[[Any], Any]:
    def exp(x: Any) -> Any:
        out = Value(math.exp(x.data), (x,), "exp")

        def _backward() -> None:
            x.grad += out.data * out.grad

        out._backward = _backward
        return out

    return exp


def exp_by_lambda(Value: Any) -> Callable[[Any], Any]:
    def exp(x: Any) -> Any:
        out = Value(math.exp(x.data), (x,), "exp")
        out._backward = lambda: setattr(x, "grad", x.grad + out.data * out.grad)
        return out

    return exp


def exp_by_partial(Value: Any) -> Callable[[Any], Any]:
    def rule(x: Any, out: Any) -> None:
        x.grad += out.data * out.grad

    def exp(x: Any) -> Any:
        out = Value(math.exp(x.data), (x,), "exp")
        out._backward = functools.partial(rule, x, out)
        return out

    return exp


def exp_by_method_of_an_object(Value: Any) -> Callable[[Any], Any]:
    class Rule:
        def __init__(self, x: Any) -> None:
            self.x = x
            self.out = Value(math.exp(x.data), (x,), "exp")
            self.out._backward = self.apply

        def apply(self) -> None:
            self.x.grad += self.out.data * self.out.grad

    return lambda x: Rule(x).out


def exp_by_callable_object(Value: Any) -> Callable[[Any], Any]:
    class Rule:
        def __init__(self, x: Any, out: Any) -> None:
            self.x, self.out = x, out

        def __call__(self) -> None:
            self.x.grad += self.out.data * self.out.grad

    def exp(x: Any) -> Any:
        out = Value(math.exp(x.data), (x,), "exp")
        out._backward = Rule(x, out)
        return out

    return exp


def exp_through_prev(Value: Any) -> Callable[[Any], Any]:
    def exp(x: Any) -> Any:
        out = Value(math.exp(x.data), (x,), "exp")

        def _backward() -> None:
            for child in out._prev:
                child.grad += out.data * out.grad

        out._backward = _backward
        return out

    return exp


def exp_by_children_assigned_later(Value: Any) -> Callable[[Any], Any]:
    def exp(x: Any) -> Any:
        out = Value(math.exp(x.data))
        out._prev = {x}
        out._op = "exp"

        def _backward() -> None:
            x.grad += out.data * out.grad

        out._backward = _backward
        return out

    return exp


def exp_by_native_pieces(Value: Any) -> Callable[[Any], Any]:
    """A rule around a composite: the inner graph is built of native nodes and swept by the rule itself."""

    def exp(x: Any) -> Any:
        inner = Value(x.data)
        series, term = Value(1.0), Value(1.0)
        for k in range(1, 40):
            term = term * inner / k
            series = series + term
        out = Value(series.data, (x,), "exp")

        def _backward() -> None:
            inner.grad = 0.0
            series.backward()
            x.grad += inner.grad * out.grad

        out._backward = _backward
        return out

    return exp


STYLES = [
    exp_by_closure,
    exp_by_lambda,
    exp_by_partial,
    exp_by_method_of_an_object,
    exp_by_callable_object,
    exp_through_prev,
    exp_by_children_assigned_later,
    exp_by_native_pieces,
]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_every_style_of_rule_mixes_with_native_nodes(style: Callable[[Any], Any], Value: Any) -> None:
    exp = style(Value)
    a, b = Value(0.5), Value(-0.25)
    e = exp(a * b + 1)
    sigmoid = 1 / (1 + exp(-e))
    out = sigmoid * a + exp(b) ** 2
    out.backward()

    def f(x: float, y: float) -> float:
        return x / (1 + math.exp(-math.exp(x * y + 1))) + math.exp(y) ** 2

    h = 1e-6
    assert out.data == pytest.approx(f(0.5, -0.25), rel=1e-12)
    assert a.grad == pytest.approx((f(0.5 + h, -0.25) - f(0.5 - h, -0.25)) / (2 * h), rel=1e-8)
    assert b.grad == pytest.approx((f(0.5, -0.25 + h) - f(0.5, -0.25 - h)) / (2 * h), rel=1e-8)


@pytest.mark.parametrize("Value", [OURS, tapegrad.Value], ids=["dialect", "tapegrad"])
def test_local_gradients_given_by_the_program(Value: Any) -> None:
    def sin(x: Any) -> Any:
        return Value(math.sin(x.data), (x,), (math.cos(x.data),))

    def product(*xs: Any) -> Any:
        total = math.prod(x.data for x in xs)
        return Value(total, xs, tuple(total / x.data for x in xs))

    x, y, z = Value(0.3), Value(2.0), Value(-4.0)
    out = sin(x * y) * product(x, y, z, x) + sin(x)
    out.backward()
    s, c = math.sin(0.6), math.cos(0.6)
    assert out.data == pytest.approx(s * 0.3 * 2 * -4 * 0.3 + math.sin(0.3), rel=1e-15)
    assert x.grad == pytest.approx(2 * c * -0.72 + s * 2 * (0.3 * 2 * -4) + math.cos(0.3), rel=1e-13)
    assert y.grad == pytest.approx(0.3 * c * -0.72 + s * (0.3 * 0.3 * -4), rel=1e-13)
    assert z.grad == pytest.approx(s * 0.3 * 2 * 0.3, rel=1e-13)
    assert Value(1.0, (x, y), (2, 3))._children == (x, y)
    assert Value(1.0, [x, y], [2, 3])._local_grads == (2.0, 3.0)
    assert Value(1.0, children=(x,), local_grads=(0.5,))._local_grads == (0.5,)
    with pytest.raises(ValueError, match=r"1 .*2|2 .*1"):
        Value(1.0, (x, y), (2,))
    with pytest.raises(TypeError, match="str"):
        Value(1.0, (x,), ("a",))


def test_local_gradients_with_a_repeated_child() -> None:
    x = tapegrad.Value(3.0)
    tapegrad.Value(9.0, (x, x), (3.0, 3.0)).backward()
    assert x.grad == 6.0


# --- how often and when rules run


def test_rules_run_once_a_sweep_after_all_consumers(Value: Any) -> None:
    calls: list[str] = []

    def node(name: str, *children: Any) -> Any:
        out = Value(sum(c.data for c in children), children, name)

        def _backward() -> None:
            calls.append(name)
            for c in children:
                c.grad += out.grad

        out._backward = _backward
        return out

    x = Value(1.0)
    a = node("a", x)
    b = node("b", a)
    c = node("c", a, b)
    d = c + a * b + node("d", b, c)
    d.backward()
    assert sorted(calls) == ["a", "b", "c", "d"]
    assert calls.index("d") < calls.index("c") < calls.index("b") < calls.index("a")
    assert x.grad == a.grad
    calls.clear()
    d.backward()
    assert sorted(calls) == ["a", "b", "c", "d"]


def test_a_rule_on_a_leaf_and_on_the_root(Value: Any) -> None:
    seen: list[Any] = []
    x = Value(2.0)
    x._backward = lambda: seen.append(("leaf", x.grad))
    y = x * 3
    y.backward()
    assert seen == [("leaf", 3.0)]
    x._backward = lambda: seen.append("only the root")
    x.backward()
    assert seen[-1] == "only the root"
    assert x.grad == 1


def test_a_native_rule_replaced_and_called_through(Value: Any) -> None:
    x = Value(3.0)
    y = x * x
    z = y + 1
    original = y._backward

    def clipped() -> None:
        y.grad = max(-0.5, min(0.5, y.grad))
        original()

    y._backward = clipped
    z.backward()
    assert (x.grad, y.grad) == (3.0, 0.5)


def test_a_rule_taken_from_another_node(Value: Any) -> None:
    a, b = Value(2.0), Value(5.0)
    p, q = a * 3, b * 7
    p._backward = q._backward
    q.grad = 10
    p.backward()
    assert (a.grad, b.grad) == (0, 70.0)


def test_a_rule_put_on_an_inner_node_after_its_consumers_were_made(Value: Any) -> None:
    x = Value(2.0)
    y = x * 3
    z = y * y + y
    seen = []

    def rule() -> None:
        seen.append(y.grad)
        x.grad += 100

    y._backward = rule
    z.backward()
    assert seen == [13.0]
    assert x.grad == 100


def test_rules_replaced_while_the_sweep_runs(Value: Any) -> None:
    seen: list[str] = []
    x = Value(1.0)
    a = x * 1
    b = a * 1
    c = b * 1

    def first() -> None:
        seen.append("c")
        b._backward = lambda: seen.append("new b")
        c._backward = lambda: seen.append("new c")

    b._backward = lambda: seen.append("old b")
    c._backward = first
    c.backward()
    assert seen == ["c", "new b"]
    c.backward()
    assert seen == ["c", "new b", "new c", "new b"]


def test_the_default_rule_kept_for_later(Value: Any) -> None:
    x = Value(3.0)
    rules = []
    v = x
    for _ in range(3):
        v = v * 2
        rules.append(v._backward)
    v.grad = 1
    for rule in reversed(rules):
        rule()
    assert x.grad == 8
    del v
    gc.collect()
    rules[0]()
    assert x.grad == 16


def test_rules_that_make_and_drop_values_and_sweep_other_graphs(Value: Any) -> None:
    x = Value(2.0)
    kept = []

    def node(v: Any) -> Any:
        out = Value(v.data, (v,), "id")

        def _backward() -> None:
            garbage = [Value(i) * out for i in range(2000)]
            kept.append(garbage[7])
            side = Value(3.0)
            (side * side).backward()
            del garbage
            gc.collect()
            v.grad += out.grad * side.grad

        out._backward = _backward
        return out

    y = node(node(x * 5) * 2)
    y.backward()
    assert x.grad == 5 * 2 * 36
    assert [v.data for v in kept] == [140.0, 70.0]


def test_a_rule_that_sweeps_its_own_graph_again(Value: Any) -> None:
    x = Value(2.0)
    y = x * 3
    depth = [0]
    out = Value(y.data, (y,), "again")

    def _backward() -> None:
        depth[0] += 1
        if depth[0] < 3:
            out.backward()
        y.grad += out.grad

    out._backward = _backward
    out.backward()
    assert depth[0] == 3
    # Whatever the order, three sweeps ran, each through y's rule.
    assert (y.grad, x.grad) == (3, 3 * (1 + 2 + 3))


def test_a_rule_that_changes_the_graph_while_it_is_swept(Value: Any) -> None:
    x = Value(2.0)
    y = x * 3
    out = Value(y.data, (y,), "cut")

    def _backward() -> None:
        y.grad += out.grad
        out._prev = set()
        if hasattr(out, "_children") and Value is not PURE:
            assert out._children == ()

    out._backward = _backward
    z = out * 2
    z.backward()
    assert x.grad == 6
    assert out._prev == set()


# --- failures


def test_an_exception_from_a_rule_leaves_the_engine_usable(Value: Any) -> None:
    x = Value(2.0)
    y = x * 3
    bad = Value(y.data, (y,), "bad")

    def _backward() -> None:
        raise LookupError("in the rule")

    bad._backward = _backward
    z = bad * 5 + x
    with pytest.raises(LookupError, match="in the rule"):
        z.backward()
    assert (z.grad, bad.grad, y.grad) == (1, 5, 0)
    for v in (x, y, bad, *z._prev):
        v.grad = 0

    def mended() -> None:
        y.grad += bad.grad

    bad._backward = mended
    z.backward()
    assert x.grad == 16
    w = x * x
    w.grad = x.grad = 0
    w.backward()
    assert x.grad == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, StopIteration, RecursionError])
def test_every_kind_of_exception_travels(error: type[BaseException], Value: Any) -> None:
    out = Value(1.0, (Value(1.0),), "bad")

    def _backward() -> None:
        raise error("from a rule")

    out._backward = _backward
    with pytest.raises(error, match="from a rule"):
        (out * 2).backward()


def test_a_failing_rule_frees_what_the_sweep_held() -> None:
    gc.collect()
    before = tapegrad.live_nodes()
    x = OURS(1.0)
    for _ in range(50):
        v = x
        for i in range(20):
            v = v * 1.5
            if i == 10:
                inner = v

                def _backward() -> None:
                    raise ValueError("no")

                inner._backward = _backward
        with pytest.raises(ValueError, match="no"):
            v.backward()
        del v, inner, _backward
    gc.collect()
    assert tapegrad.live_nodes() == before + 1


def test_a_rule_with_the_wrong_arguments_says_so(Value: Any) -> None:
    out = Value(1.0, (Value(1.0),), "bad")
    out._backward = lambda self: None
    with pytest.raises(TypeError, match="self"):
        out.backward()
    if Value is not PURE:
        for bad in (5, "text", None, [1]):
            with pytest.raises(TypeError, match=f"_backward must be callable.*{type(bad).__name__}"):
                out._backward = bad
