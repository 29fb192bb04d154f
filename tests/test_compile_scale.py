"""Compiled functions at size: a million nodes, small stacks, other threads at work meanwhile, memory given back."""

import gc
import sys
import threading

import numpy as np
import pytest

import tapegrad
from tapegrad import Value
from tapegrad.compiled import Program, compile, vmap

SMALL_STACK = 256 * 1024


def on_a_small_stack(work):
    """What `work` returns on a thread with a stack of 256 KiB."""
    results = []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    before = threading.stack_size(SMALL_STACK)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def chain(x, turns, w=0.999999):
    for _ in range(turns):
        x = x * w + 0.000001
    return x


def chain_in_floats(x, turns):
    slope = 1.0
    for _ in range(turns):
        x, slope = x * 0.999999 + 0.000001, slope * 0.999999
    return x, slope


def test_a_million_nodes_on_a_small_stack(tmp_path):
    turns = 250_000  # four nodes each

    def work():
        w = Value(0.999999)
        f = compile(lambda x: chain(x, turns, w))
        value, slope = f.value_and_grad(0.5)
        assert f.backward(0.5) == value
        program = f.program
        assert program.nodes >= 750_000
        lanes = vmap(f)(np.array([0.5, 0.25]))
        program.save(tmp_path / "p.txt")
        loaded = Program.load(tmp_path / "p.txt")
        again = loaded.value_and_grad(0.5)
        pieces = str(program).count("\n")
        assert f.cache_info()[0].nodes == program.nodes
        return value, slope, lanes.tolist(), again, pieces, w.grad

    nodes = tapegrad.live_nodes()
    value, slope, lanes, again, lines, gradient = on_a_small_stack(work)
    assert tapegrad.live_nodes() == nodes
    expected, expected_slope = chain_in_floats(0.5, turns)
    assert value == expected
    assert slope == pytest.approx(expected_slope, rel=1e-9)
    assert again == (value, slope)
    assert lanes == pytest.approx([expected, chain_in_floats(0.25, turns)[0]], rel=1e-12)
    assert lines > 750_000
    h = 1e-6
    w_up, w_down = (chain(0.5, 1000, 0.999999 + d) for d in (h, -h))  # finite differences of a shorter one
    short = Value(0.999999)
    compile(lambda x: chain(x, 1000, short)).backward(0.5)
    assert short.grad == pytest.approx((w_up - w_down) / (2 * h), rel=1e-6)
    assert gradient != 0


def test_wide_and_branching_programs_on_a_small_stack():
    def wide(x):
        terms = [x * float(i % 7) for i in range(100_000)]
        return sum(terms) + sum(t * t for t in terms[:1000])

    value, slope = on_a_small_stack(lambda: compile(wide).value_and_grad(1.5))
    weights = [float(i % 7) for i in range(100_000)]
    squares = sum(w * w for w in weights[:1000])
    assert value == pytest.approx(1.5 * sum(weights) + 1.5**2 * squares, rel=1e-12)
    assert slope == pytest.approx(sum(weights) + 3.0 * squares, rel=1e-12)


def test_other_threads_work_while_a_large_program_runs():
    f = compile(lambda x: chain(x.tanh(), 100_000))
    f(0.5)
    for run in (lambda: f(0.5), lambda: vmap(f)(np.linspace(0, 1, 64))):
        run()
        steps, stop = [0], threading.Event()

        def count(steps=steps, stop=stop):
            while not stop.is_set():
                steps[0] += 1

        counter = threading.Thread(target=count)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # whoever has the lock between two bytecodes soon has to hand it on
        counter.start()
        try:
            for _ in range(200):
                before = steps[0]
                run()
                if steps[0] - before > 1000:  # too many for the time between bytecodes
                    break
            else:
                pytest.fail("no other thread worked while the program ran")
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            counter.join()


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_results_do_not_depend_on_threads(reduce):
    w = [Value(0.3), Value(-0.7)]

    def fn(x, y):
        return (w[0] * x[0] + w[1] * x[1]).tanh() * (w[0] * w[1]).exp() + (x[0] - y) ** 2

    rng = np.random.default_rng(0)
    for lanes in (1, 63, 1000, 30_011):
        x, y = rng.normal(size=(lanes, 2)), rng.normal(size=lanes)
        outcomes = []
        for threads in (1, 2, 3, 8, 0):
            for p in w:
                p.grad = 0.25
            g = vmap(fn, threads=threads)
            total = g.backward(x, y, reduce=reduce)
            values, (gx, gy) = g.value_and_grad(x, y)
            outcomes.append(
                (total, [p.grad for p in w], values.tobytes(), gx.tobytes(), gy.tobytes(), g(x, y).tobytes())
            )
        assert all(outcome == outcomes[0] for outcome in outcomes)


def test_memory_is_given_back():
    def once(n):
        ws = [Value(1.0) for _ in range(10)]
        f = compile(lambda x: sum(w * x for w in ws) * n)
        f(1.0)
        f.backward(1.0)
        f.value_and_grad(2.0)
        vmap(f).backward(np.ones(4))
        assert f.program.nodes
        assert tapegrad.live_nodes() - nodes == 10

    nodes = tapegrad.live_nodes()
    for n in range(20):
        once(float(n))
        gc.collect()
        assert tapegrad.live_nodes() == nodes


def test_recordings_of_changing_surroundings_do_not_pile_up():
    numbers = [0]
    kept = []

    def fn(x):
        return x * numbers[0] + kept[-1]

    f = compile(fn)
    nodes = tapegrad.live_nodes()
    for n in range(50):
        numbers[0] = n
        kept[:] = [Value(1.0)]
        assert f(2.0) == 2.0 * n + 1.0
    assert len(f.cache_info()) <= 5
    f.cache_clear()
    kept.clear()
    assert tapegrad.live_nodes() == nodes
