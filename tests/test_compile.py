"""tapegrad.compile: values, gradients, shapes of arguments and results, parameters, errors, threads, saving."""

import concurrent.futures
import math
import multiprocessing
import pickle
import threading
from collections import namedtuple

import numpy as np
import pytest

import tapegrad
from tapegrad import Value
from tapegrad.compiled import PASSES, Program, clip, compile, grad, maximum, minimum, value_and_grad, vmap, where


def eager_gradients(fn, *numbers):
    values = [Value(float(n)) for n in numbers]
    out = fn(*values)
    out.backward()
    return out.data, tuple(v.grad for v in values)


def test_value_and_gradients_are_those_of_eager_code():
    def fn(x, y):
        return (x * y + 1).tanh() / x - y**3

    f = compile(fn)
    value, grads = eager_gradients(fn, 0.7, -1.2)
    assert f(0.7, -1.2) == value
    assert f.value_and_grad(0.7, -1.2) == (value, grads)
    assert value_and_grad(fn)(0.7, -1.2) == (value, grads)
    assert grad(fn)(0.7, -1.2) == grads
    assert grad(fn, argnums=1)(0.7, -1.2) == grads[1]
    assert grad(fn, argnums=(1, 0))(0.7, -1.2) == grads[::-1]
    assert grad(lambda x: x * x)(3.0) == 6.0


def test_parameters_are_read_at_each_call_and_gradients_accumulate():
    w, b = Value(2.0), Value(0.5)
    f = compile(lambda x: (w * x + b) ** 2)
    assert f(3.0) == 42.25
    w.data = 1.0
    assert f(3.0) == 12.25
    assert f.backward(3.0) == 12.25
    assert (w.grad, b.grad) == (21.0, 7.0)
    f.backward(3.0)
    assert (w.grad, b.grad) == (42.0, 14.0)
    assert len(f.cache_info()) == 1


def test_a_parameter_that_was_computed_passes_its_gradient_on():
    w = Value(2.0)
    scaled = w * 3
    f = compile(lambda x: scaled * x)
    f.backward(5.0)
    assert (scaled.grad, w.grad) == (5.0, 15.0)


def test_arguments_of_every_kind():
    Pair = namedtuple("Pair", "a b")

    @compile
    def f(a, b, c, d, flag, *, scale=1.0):
        total = sum(x * x for x in b) + c["k"] * d.a - d.b
        return (a @ a + total) * scale if flag == "on" else total

    a, b, c, d = np.array([1.0, 2.0]), [3.0, 4.0], {"k": 5.0}, Pair(6.0, 7.0)
    assert f(a, b, c, d, "on") == 5 + 25 + 30 - 7
    assert f(a, b, c, d, "on", scale=2.0) == 2 * (5 + 25 + 30 - 7)
    assert f(a, b, c, d, "off") == 25 + 30 - 7
    value, (ga, gb, gc, gd, gflag) = f.value_and_grad(a, b, c, d, "on")
    assert value == 53
    assert ga.tolist() == [2.0, 4.0]
    assert gb == [6.0, 8.0]
    assert gc == {"k": 6.0}
    assert gd == Pair(5.0, -1.0)
    assert gflag is None


def test_arrays_index_and_slice_as_usual():
    @compile
    def f(x):
        return x[1:, 0].sum() + x[0] @ x[1]

    x = np.arange(6.0).reshape(3, 2)
    assert f(x) == x[1:, 0].sum() + x[0] @ x[1]
    _, g = f.value_and_grad(x)
    assert g.tolist() == [[2.0, 3.0], [1.0, 1.0], [1.0, 0.0]]


def test_results_keep_their_nesting():
    @compile
    def f(x):
        return {"a": [x * 2, (x + 1, "text", 7)], "b": np.array([x, x * x])}

    out = f(3.0)
    assert out["a"] == [6.0, (4.0, "text", 7)]
    assert out["b"].tolist() == [3.0, 9.0]
    assert type(out["a"][0]) is float


def test_called_with_values_it_is_the_plain_function():
    f = compile(lambda x: x * x)
    v = Value(3.0)
    f(v).backward()
    assert v.grad == 6.0
    g = compile(lambda x: f(x) + 1)  # one compiled function within another
    assert g.value_and_grad(3.0) == (10.0, 6.0)


def test_choices_without_guards():
    @compile
    def f(x, y):
        return where(x > y, x * 2, y * 3) + maximum(x, y) + minimum(x, 1.0) + clip(y, 0.0, 1.0)

    for x, y in [(1.5, 0.5), (0.25, 4.0), (-1.0, -2.0)]:
        expected = (x * 2 if x > y else y * 3) + max(x, y) + min(x, 1.0) + min(max(y, 0.0), 1.0)
        assert f(x, y) == expected
    assert f.value_and_grad(1.5, 0.5)[1] == (3.0, 1.0)
    assert len(f.cache_info()) == 1


def test_stable_softmax_is_one_recording():
    @compile
    def softmax(logits):
        top = max(v.data for v in logits)
        exps = [(v - top).exp() for v in logits]
        total = sum(exps)
        return [e / total for e in exps]

    rng = np.random.default_rng(0)
    for _ in range(20):
        x = (rng.normal(size=5) * 300).tolist()
        e = [math.exp(v - max(x)) for v in x]
        assert softmax(x) == pytest.approx([v / sum(e) for v in e], rel=1e-14)
    assert len(softmax.cache_info()) == 1


def test_accuracy_beside_a_loss_needs_no_guard():
    @compile
    def f(xs):
        scores = [x * 2 - 1 for x in xs]
        accuracy = [(x > 0) == (s.data > 0) for x, s in zip(xs, scores, strict=True)]
        return sum(scores), sum(accuracy) / len(accuracy), accuracy[0]

    assert f([1.0, 0.25, -3.0, 2.0]) == (-3.5, 0.75, True)
    assert f([0.25, 0.25, -3.0, 2.0]) == (-5.0, 0.5, False)
    assert len(f.cache_info()) == 1


def test_numbers_that_were_looked_up_have_no_gradient():
    f = compile(lambda x: x * x.data + Value(x.data) * 3 + (x.data / 2) ** 2)
    assert f.value_and_grad(4.0) == (32.0, 4.0)
    assert f.value_and_grad(3.0) == (20.25, 3.0)


def test_local_gradients_given_by_hand():
    def square(v):
        return Value(v.data * v.data, (v,), (2 * v.data,))

    f = compile(lambda x: square(x) * 3)
    assert f.value_and_grad(4.0) == (48.0, 24.0)
    assert f.value_and_grad(5.0) == (75.0, 30.0)
    assert len(f.cache_info()) == 1


def test_ieee_by_default_errors_on_request():
    def fn(x):
        return 1 / x + x.log() + (x * 1000).exp()

    f, checked = compile(fn), compile(fn, check=True)
    assert math.isnan(f(-1.0))
    assert f(1.0) == math.inf
    assert f(0.0) != f(0.0) or math.isinf(f(0.0))
    assert f.value_and_grad(0.5)[0] == checked(0.5)
    for x, error in [(-1.0, ValueError), (1.0, OverflowError), (0.0, ZeroDivisionError)]:
        with pytest.raises(error):
            checked(x)
        with pytest.raises(error):
            fn(Value(x))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: compile(3), TypeError, "takes a function"),
        (lambda: compile(lambda x: x, disable=["speed"]), ValueError, "no pass 'speed'"),
        (lambda: compile(lambda x: x, max_recordings=0), ValueError, "at least 1"),
        (lambda: compile(lambda x: x, on_limit="no"), ValueError, "'error' or 'eager'"),
        (lambda: compile(lambda x: {1})(1.0), TypeError, "returns set"),
        (lambda: compile(lambda x: [x, x]).backward(1.0), TypeError, "one Value"),
        (lambda: compile(lambda x: x).value_and_grad(1.0, argnums=3), ValueError, "argument 3"),
        (lambda: compile(lambda x, y: x).value_and_grad(1.0, "a", argnums=1), TypeError, "not a number"),
        (lambda: compile(lambda x: x)({1, 2}), TypeError, "set"),
        (lambda: compile(lambda x: x)(np.array(["a"])), TypeError, "real numbers"),
        (lambda: compile(lambda x: x * grad(lambda y: y * y)(2.0))(1.0), TypeError, "gradients of gradients"),
        (lambda: compile(lambda x: x.backward())(1.0), TypeError, "inside a compiled function"),
        (lambda: compile(lambda x: x * x.grad)(1.0), TypeError, "inside a compiled function"),
        (lambda: compile(lambda x: setattr(x, "data", 1.0))(1.0), TypeError, "inside a compiled function"),
    ],
)
def test_errors_say_what_to_do(call, error, words):
    with pytest.raises(error, match=words):
        call()
    assert not tapegrad._core.is_recording()


def test_python_rules_are_refused():
    def fn(x):
        out = Value(x.data * 2, (x,), "twice")

        def rule():
            x.grad += 2 * out.grad

        out._backward = rule
        return out

    with pytest.raises(ValueError, match="_backward rule"):
        compile(fn)(1.0)


def test_an_exception_in_the_function_leaves_no_trace():
    def fn(x):
        if x > 1:
            raise KeyError("mine")
        return x * 2

    f = compile(fn)
    nodes = tapegrad.live_nodes()
    with pytest.raises(KeyError, match="mine"):
        f(2.0)
    assert tapegrad.live_nodes() == nodes
    assert f(0.5) == 1.0
    assert max(1, 2) == 2
    assert max.__name__ == "max"
    assert type(max).__name__ == "builtin_function_or_method"


def test_recursion_and_reentrance():
    @compile
    def power(x, n):
        return x if n == "" else x * power(x, n[1:])

    assert power(2.0, "xxx") == 16.0
    calls = []

    @compile
    def outer(x):
        calls.append(power(3.0, "x"))
        return x * calls[-1]

    assert outer(2.0) == 18.0


def test_a_compiled_method_belongs_to_its_instance():
    class Model:
        def __init__(self, w):
            self.w = Value(w)

        @compile
        def loss(self, x):
            return self.w * x * x

    a, b = Model(2.0), Model(3.0)
    assert (a.loss(2.0), b.loss(2.0)) == (8.0, 12.0)
    assert a.loss.backward(2.0) == 8.0
    assert (a.w.grad, b.w.grad) == (4.0, 0.0)


def test_several_threads():
    w = Value(2.0)
    f = compile(lambda x: sum((w * x).tanh() for _ in range(50)))
    expected = [eager_gradients(lambda x: sum((w * x).tanh() for _ in range(50)), i / 7)[0] for i in range(40)]
    barrier = threading.Barrier(4)

    def work(_):
        barrier.wait()
        return [f(i / 7) for i in range(40)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for got in pool.map(work, range(4)):
            assert got == expected


def test_a_recording_keeps_no_nodes_but_the_parameters():
    w = Value(2.0)
    nodes = tapegrad.live_nodes()
    f = compile(lambda x: sum(w * x * i for i in range(100)))
    f.backward(2.0)
    assert tapegrad.live_nodes() == nodes
    del f
    assert tapegrad.live_nodes() == nodes


def run_program(program, x):
    return program(x), program.value_and_grad(x)


def test_programs_are_text_and_travel_between_processes(tmp_path):
    w = Value(2.0, label="w")
    f = compile(lambda x: (w * x[0]).tanh() + x[1] ** 2)
    f([0.5, 3.0])
    program = f.program
    assert "tanh" in program.text
    assert "12 nodes" not in str(program)
    expected = f([0.25, 1.5]), f.value_and_grad([0.25, 1.5])
    program.save(tmp_path / "p.txt")
    loaded = Program.load(tmp_path / "p.txt")
    assert loaded.text == program.text
    assert [(p.data, p.label) for p in loaded.parameters] == [(2.0, "w")]
    for one in (loaded, pickle.loads(pickle.dumps(program))):
        assert run_program(one, [0.25, 1.5]) == expected
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(program, [0.25, 1.5]).result() == expected[0]
    assert "tanh" in tapegrad.draw_dot(program).source
    with pytest.raises(TypeError, match="was recorded for"):
        loaded([1.0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tapegrad program 2\nreturn",
        "tapegrad program 1\ninputs 1\nparams 0\n%0 = input 1\nreturn %0",
        "tapegrad program 1\ninputs 1\nparams 0\n%0 = input 0\n%1 = mul %0 %1\nreturn %0",
        "tapegrad program 1\ninputs 1\nparams 0\n%0 = input 0\n%1 = fly %0\nreturn %0",
        "tapegrad program 1\ninputs 1\nparams 0\n%0 = input 0\nreturn %7",
        "tapegrad program 1\ninputs 1\nparams 0\n%0 = input 0\n%1 = sum\nreturn %0",
        "tapegrad program 1\ninputs 1\nparams 0\n%0 = input 0\n",
    ],
)
def test_damaged_programs_are_refused(text):
    with pytest.raises(ValueError, match="damaged program"):
        tapegrad._core.read_program(text, [], True, [], False)


def test_a_million_nodes():
    def fn(x):
        for _ in range(500_000):
            x = x * 0.999999 + 0.000001
        return x

    f = compile(fn)
    value, slope = f.value_and_grad(0.5)
    assert f.program.nodes > 1_000_000
    x, d = 0.5, 1.0
    for _ in range(500_000):
        x, d = x * 0.999999 + 0.000001, d * 0.999999
    assert value == x
    assert slope == pytest.approx(d, rel=1e-9)


def test_passes_are_named():
    f = compile(lambda x: x * 2 + x * 2 + x * 2)
    f(1.0)
    assert set(f.program.passes) <= set(PASSES)
    assert f.program.passes["common subexpressions"] > 0
    g = vmap(f)
    assert g(np.array([1.0, 2.0])).tolist() == [6.0, 12.0]


def test_results_that_are_the_same_are_computed_once():
    f = compile(lambda x: (x.sin() * 2.0, x.sin() * 2.0), fastmath=True)
    assert f(0.5) == (math.sin(0.5) * 2.0,) * 2
    assert [str(f.program.simplified).count(code) for code in ("sin", "mul")] == [1, 1]


def test_a_power_of_ints_is_whole_only_for_some_exponents():
    power = compile(lambda x, y: x**y)
    assert power(2, 3) == 8
    assert power(2, -1) == 0.5


@pytest.mark.parametrize("exponent", [2, -1, 0.5, 3, -0.5, 1.5, 1, 0])
def test_powers_in_other_forms(exponent):
    for number in (0.25, 2.5, 4.0):
        value, slope = number**exponent, exponent * number ** (exponent - 1)
        for f in (compile(lambda x: x**exponent, fastmath=True), compile(lambda x: x**exponent)):
            assert f.value_and_grad(number) == pytest.approx((value, slope), rel=1e-14)
        values, slopes = vmap(lambda x: x**exponent).value_and_grad(np.array([number] * 9))
        np.testing.assert_allclose(values, value, rtol=1e-13)
        np.testing.assert_allclose(slopes, slope, rtol=1e-13)


def test_constants_are_computed_beforehand():
    def fn(x):
        return x * (Value(2.0) * 3.0 + 1.0).exp() + Value(0.5).tanh() ** 2 + (Value(4.0) - 1.0) * x

    expected, slope = 2.0 * (math.exp(7.0) + 3.0) + math.tanh(0.5) ** 2, math.exp(7.0) + 3.0
    for options in ({}, {"fastmath": True}, {"disable": ["constant folding"]}):
        f = compile(fn, **options)
        assert f.value_and_grad(2.0) == pytest.approx((expected, slope), rel=1e-14)
        np.testing.assert_allclose(vmap(f)(np.array([2.0] * 9)), expected, rtol=1e-13)
    assert f.program.passes.get("constant folding", 0) == 0
    f = compile(fn)
    f(2.0)
    assert f.program.passes["constant folding"] >= 5


def test_choices_that_differ_in_one_operand_only():
    def fn(x, y):
        doubled, positive = 2 * y, x > 0  # the condition is the newest operand of all
        chosen = where(positive, x, y) + 10 * where(positive, x, doubled) + 100 * where(positive, y, doubled)
        return chosen + where(y > 0, x, y) + 1000 * where(x > 0, x, 3 * y)

    for f in (compile(fn), compile(fn, fastmath=True)):
        for x, y in [(1.0, 2.0), (-1.0, 2.0), (1.0, -2.0), (-1.0, -2.0)]:
            assert f.value_and_grad(x, y) == eager_gradients(fn, x, y)
            assert vmap(f)(np.array([x] * 9), np.array([y] * 9)).tolist() == [f(x, y)] * 9
