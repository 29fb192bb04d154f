"""no_grad, detach and detect_anomaly: what they change, that they end, and that contexts do not see each other's."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import math
import pickle
import sys
import threading

import numpy as np
import pytest

import tapegrad
from tapegrad import MLP, AnomalyError, Value, detect_anomaly, enable_grad, grad_enabled, live_nodes, no_grad
from tapegrad.micrograd import engine as published


class Tagged(Value):
    """A subclass whose constructor takes children."""

    def __init__(self, x, children=()):
        super().__init__(x, children, "tag")


def is_leaf(v):
    return (v._children, v._op, v._prev) == ((), "", set())


# ---- no_grad


def test_operations_make_leaves():
    a, b = Value(2.0), Value(3.0)
    array = Value(np.array([1.0, 2.0]))
    base = live_nodes()
    with no_grad():
        made = [a + b, a - b, 1 - a, a / b, 2 / a, a**2, a**b, -a, abs(a), a.tanh(), sum([a, b]), a + 1, 2 * a]
        made += [Value(5.0, (a, b), "mine"), Value(5.0, (a,), (2.0,)), Tagged(1.0, (a, b)), published.Value(2) * 3]
        made += [array * 2, array.sum(), array[0], tapegrad.where(array, a, b), tapegrad.maximum(a, b)]
        assert all(map(is_leaf, made))
        assert live_nodes() <= base + len(made)
        expected = [5.0, -1.0, -1.0, 2 / 3, 1.0, 4.0, 8.0, -2.0, 2.0, math.tanh(2.0), 5.0, 3.0, 4.0, 5.0, 5.0, 1.0, 6]
        assert [v.data for v in made[:17]] == pytest.approx(expected, rel=1e-15)
        assert made[17].data.tolist() == [2.0, 4.0]
        assert [np.max(v.data) for v in made[18:]] == [3.0, 1.0, 2.0, 3.0]
        assert type(made[16]) is published.Value
        assert type(made[16].data) is int
        for v in made:
            v.backward()
    assert (a.grad, b.grad, array.grad.tolist()) == (0.0, 0.0, [0.0, 0.0])
    assert (a * b)._children == (a, b)
    del v, made
    assert live_nodes() == base


def test_a_network_without_a_graph():
    model = MLP(3, [4, 4, 1])
    base = live_nodes()
    expected = model([1.0, 2.0, 3.0]).data
    with no_grad():
        out = model([1.0, 2.0, 3.0])
    assert out.data == expected
    assert is_leaf(out)
    assert live_nodes() == base + 1


def test_tracked_operands():
    a = Value(2.0)
    a.me = a
    base = live_nodes()
    with no_grad():
        b = a * 3 + 1
        assert is_leaf(b)
        assert live_nodes() == base + 1
    c = Value(1.0, (a,), "mine")
    c._backward = lambda: None
    with no_grad():
        d = c.tanh()
        assert is_leaf(d)
    assert live_nodes() == base + 3


def test_what_is_no_operation_keeps_its_graph():
    a = Value(2.0)
    b = a * 3 + 1
    with no_grad():
        for twin in (copy.deepcopy(b), pickle.loads(pickle.dumps(b))):
            twin.backward()
            assert twin._op == "+"
        assert copy.copy(b)._children == b._children
        b.backward()  # sweeps what was made outside
    assert a.grad == 3.0


def test_nesting_and_exceptions():
    a = Value(2.0)
    assert grad_enabled()
    with no_grad():
        assert not grad_enabled()
        with no_grad():
            assert not grad_enabled()
        assert not grad_enabled()
        with enable_grad():
            assert grad_enabled()
            assert (a * a)._children == (a, a)
        assert is_leaf(a * a)
    with pytest.raises(KeyError), no_grad():
        raise KeyError("planted")
    assert grad_enabled()
    assert (a * a)._children == (a, a)
    mode = no_grad()
    with mode, mode:
        assert not grad_enabled()
    assert grad_enabled()


def test_as_a_decorator():
    a = Value(2.0)

    @no_grad()
    def predict(n):
        """Docstring."""
        assert not grad_enabled()
        out = a * n
        return [out] if n == 0 else [out, *predict(n - 1)]

    assert all(map(is_leaf, predict(3)))
    assert (predict.__name__, predict.__doc__) == ("predict", "Docstring.")
    assert grad_enabled()
    with pytest.raises(TypeError, match="write 'with' inside it"):

        @no_grad()
        def later():
            yield a * 2


def test_threads_and_tasks_have_modes_of_their_own():
    a = Value(2.0)
    inside, outside = threading.Event(), threading.Event()
    seen = []

    def other():
        inside.wait()
        seen.append((grad_enabled(), (a * a)._children))
        outside.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        outside.wait()
        assert is_leaf(a * a)
    thread.join()
    assert seen == [(True, (a, a))]

    async def task(quiet):
        out = []
        for _ in range(3):
            if quiet:
                with no_grad():
                    await asyncio.sleep(0)
                    out.append((a * a)._op)
            else:
                await asyncio.sleep(0)
                out.append((a * a)._op)
        return out

    async def both():
        return await asyncio.gather(task(True), task(False))

    assert asyncio.run(both()) == [["", "", ""], ["*", "*", "*"]]
    with no_grad():
        assert contextvars.copy_context().run(grad_enabled) is False


def test_many_threads_enter_and_leave():
    a = Value(2.0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    wrong = []

    def work(seed):
        for i in range(300):
            if (i + seed) % 3:
                with no_grad():
                    wrong.extend([1] * (not is_leaf((a * a).tanh())))
            else:
                wrong.extend([2] * ((a * a)._op != "*"))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    sys.setswitchinterval(before)
    assert wrong == []
    assert (a * a)._op == "*"


def test_compiled_functions_and_modes():
    a = Value(2.0)
    b = a * 3.0

    @tapegrad.compile
    def f(x):
        return x * a + b

    with no_grad():  # recorded here
        assert f.value_and_grad(3.0) == (12.0, 2.0)
        f.backward(3.0)
    assert a.grad == 6.0
    assert b.grad == 1.0
    with detect_anomaly():
        assert tapegrad.compile(lambda x: x * a)(3.0) == 6.0

    @tapegrad.compile
    def enters(x):
        with no_grad():
            return x * 2

    with pytest.raises(TypeError, match=r"no_grad\(\) is not possible inside a compiled function"):
        enters(1.0)
    assert grad_enabled()


# ---- detach


def test_detach():
    for v in (Value(2.5), published.Value(3), Tagged(1.5), Value(2.0) * 3):
        v.label, v.grad = "x", 4.0
        d = v.detach()
        assert (d.data, type(d.data), d.grad, is_leaf(d)) == (v.data, type(v.data), 0.0, True)
        assert d is not v
    assert type(published.Value(3).detach()) is published.Value
    assert type(Tagged(1.5).detach()) is Value
    a = Value(2.0)
    (a.detach() * a).backward()
    assert a.grad == 2.0
    array = Value(np.array([[1.0, 2.0]]))
    d = array.detach()
    d.data[0, 0] = 9.0
    assert (array.data.tolist(), d.data.tolist(), d.shape) == ([[1.0, 2.0]], [[9.0, 2.0]], (1, 2))
    assert tapegrad.compile(lambda x: x.detach() * x).value_and_grad(3.0) == (9.0, 3.0)


def test_programs_may_use_the_names():
    class Own(Value):
        def detach(self):
            return "mine"

        def zero_grad(self):
            return "mine too"

    v = Own(1.0)
    assert (v.detach(), v.zero_grad()) == ("mine", "mine too")
    w = Value(2.0)
    w.detach = w.zero_grad = 5
    assert (w.detach, w.zero_grad) == (5, 5)


# ---- detect_anomaly


def line_of(text):
    with open(__file__, encoding="utf-8") as source:
        return next(i for i, line in enumerate(source, 1) if text in line and "line_of" not in line)


def test_forward_anomalies_name_the_operation():
    a, b = Value(2.0, label="a"), Value(1e308)
    base = live_nodes()

    def work():
        c = (a + 1.0) * b  # first infinity
        (c - c).tanh()

    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        work()
    text = str(caught.value)
    assert "the operation '*' made inf of (3.0, 1e+308)" in text
    assert f"{__file__}:{line_of('# first infinity')}: c = (a + 1.0) * b  # first infinity" in text
    del caught
    assert live_nodes() == base
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"'\*' made inf of \('a' = 2.0, 1e\+308\)"):
        a * b
    assert ((a * b) * 10).data == math.inf  # and outside nobody looks


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (lambda v, inf: inf - inf, r"'\+' made nan of \(inf, -inf\)"),
        (lambda v, inf: inf * 0.0, r"'\*' made nan of \(inf, 0.0\)"),
        (lambda v, inf: (v - 5e307) - (v * -1e308), r"'\*' made -inf of"),
        (lambda v, inf: v / (v * 1e-320), r"'\*\*-1' made inf|too large for a float"),
        (lambda v, inf: Value(np.array([1.0, 2.0])) * 1e308, r"made array\(\[1.e\+308, +inf\]\)"),
        (lambda v, inf: (Value(np.array([1.0, 2.0])) * 1e308 * 0.9).sum(), r"made array\(\[1.e\+308, +inf\]\)"),
        (lambda v, inf: Value(math.nan, (v,), "mine"), r"'mine' made nan of \(100.0\)"),
        (lambda v, inf: MLP(1, [2, 1])([v * 1e300 * 1e7]), r"made -?(inf|nan)"),
    ],
)
def test_forward_anomalies_of_many_kinds(operation, words):
    v, inf = Value(2.0), Value(math.inf)
    with detect_anomaly(), pytest.raises((AnomalyError, OverflowError), match=words) as caught:
        operation(v, inf).data = operation(v * 50, inf).data
    assert "test_modes.py" in str(caught.value) or caught.type is OverflowError


def test_what_is_no_anomaly():
    inf, nan = Value(math.inf), Value(math.nan)
    with detect_anomaly():
        assert (inf * 2 + 1).data == math.inf  # the program's own infinity travels
        assert math.isnan((nan * 2 - inf).data)
        assert (1 / inf).data == 0.0
        assert (inf * -1).exp().data == 0.0
        a = Value(3.0)
        ((a * 2).tanh() + a**2).backward()
        assert a.grad == pytest.approx(6.0 + 2 * (1 - math.tanh(6.0) ** 2))


def test_backward_anomalies_name_the_rule_and_the_line():
    x = Value(0.0, label="x")
    with detect_anomaly():
        y = x.sqrt()  # made here
        y.label = "y"
        z = y * 3.0
        with pytest.raises(AnomalyError) as caught:
            z.backward()
    text = str(caught.value)
    assert "the backward rule of 'sqrt' labelled 'y' made the gradient of operand 0 of ('x' = 0.0) inf" in text
    assert "from a gradient of 3.0" in text
    assert f"{__file__}:{line_of('# made here')}: y = x.sqrt()  # made here" in text


def test_backward_anomalies_of_other_rules():
    x = Value(2.0, label="x")
    local = Value(4.0, (x,), (math.inf,))
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"before detect_anomaly\(\) was entered"):
        (local * 2.0).backward()

    def rule():
        x.grad += out.grad * math.nan

    with detect_anomaly():
        out = Value(4.0, (x,), "mine")
        out._backward = rule
        x.grad = 0.0
        with pytest.raises(AnomalyError, match=r"'mine' made the gradient of operand 0 of \('x' = 2.0\) nan, from"):
            (out * 2.0).backward()

        def fails():
            raise KeyError("planted")

        out._backward = fails
        with pytest.raises(KeyError):
            out.backward()
    array = Value(np.array([0.0, 1.0]))
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"'sqrt' made .* array\(\[inf, 0.5\]\)"):
        array.sqrt().sum().backward()


def test_gradients_given_by_the_program_are_no_anomaly():
    a = Value(2.0)
    with detect_anomaly():
        (a * 3.0).backward(math.inf)
    assert a.grad == math.inf


def test_sweeps_under_the_mode_have_the_same_bits():
    def run():
        model_inputs = [Value(0.1 * i) for i in range(6)]
        s = Value(0.0)
        for i, v in enumerate(model_inputs):
            s = (s * 0.5 + v * v).tanh() + v / (1.5 + i)
        out = Value(s.data * 2, (s,), "twice")

        def rule():
            s.grad += 2 * out.grad

        out._backward = rule
        out.backward()
        return [v.grad.hex() for v in model_inputs]

    expected = run()
    with detect_anomaly():
        assert run() == expected


def test_both_modes_at_once():
    a = Value(1e308, label="a")
    with detect_anomaly(), no_grad():
        assert is_leaf(a * 0.5)
        with pytest.raises(AnomalyError, match=r"'\*' made inf of \('a' = 1e\+308, 10"):
            a * 10
    assert tapegrad.anomaly_enabled() is False


def test_lines_of_nodes_whose_pages_were_used_again():
    x = Value(0.0, label="x")
    with detect_anomaly():
        for _ in range(5):
            s = Value(1.0)
            for _ in range(3000):
                s = s * 0.5
            del s
        y = x.sqrt()  # after much that died
        with pytest.raises(AnomalyError, match="after much that died"):
            y.backward()
