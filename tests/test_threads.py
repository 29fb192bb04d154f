"""Threads, processes and interpreters: separate graphs do not disturb each other, graphs die anywhere, and a process
ends cleanly whatever it still holds. What could crash runs in a process of its own."""

from __future__ import annotations

import gc
import os
import queue
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

import tapegrad
from tapegrad import Value, live_nodes

THREADS = 8


@pytest.fixture(autouse=True)
def _switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    gc.collect()
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """work(0) ... work(7), each on a thread of its own, all started together."""
    results: list[Any] = [None] * THREADS
    barrier = threading.Barrier(THREADS)

    def run(seed: int) -> None:
        barrier.wait()
        try:
            results[seed] = work(seed)
        except BaseException as error:
            results[seed] = error

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def random_work(seed: int) -> list[str]:
    """Builds, sweeps and frees graphs with every kind of node, and gives the bits of all gradients."""
    rng = random.Random(seed)
    parameters = [Value(rng.uniform(-1, 1)) for _ in range(5)]
    bits = []
    for _ in range(30):
        values: list[Value] = list(parameters)
        for _ in range(80):
            a, b = rng.choice(values), rng.choice(values)
            kind = rng.randrange(7)
            if kind == 0:
                v = (a - b) / (b * b + 1.0)
            elif kind == 1:
                v = (a * b).tanh()
            elif kind == 2:
                v = Value(a.data * b.data, (a, b), (b.data, a.data))
            elif kind == 3:
                v = Value(2.0 * a.data, (a,), "twice")

                def rule(a: Value = a, v: Value = v) -> None:
                    a.grad += 2.0 * v.grad

                v._backward = rule
                v = v.tanh()
            elif kind == 4:
                v = (a * 0.5).sigmoid()
                v.note = [b]
            else:
                v = a * 0.5 + b * 0.25
            values.append(v)
        loss = sum(values[-10:])
        for p in parameters:
            p.grad = 0.0
        loss.backward()
        bits.extend(float(p.grad).hex() for p in parameters)
    return bits


def test_threads_with_graphs_of_their_own():
    base = live_nodes()
    alone = [random_work(seed) for seed in range(THREADS)]
    gc.collect()
    assert live_nodes() == base
    assert in_threads(random_work) == alone
    gc.collect()
    assert live_nodes() == base


def test_threads_share_leaves():
    base = live_nodes()
    shared = [Value(float(i)) for i in range(4)]

    def work(seed: int) -> None:
        for i in range(300):
            s = shared[seed % 4] * 2.0
            for k in range(40):
                s = s + shared[k % 4]
            if i % 3 == 0:
                s.backward()  # whole numbers: sums do not depend on the order

    in_threads(work)
    assert [v.grad for v in shared] == [THREADS * 100 * 10.0 + 2 * 100 * 2.0] * 4
    assert live_nodes() == base + 4
    shared.clear()
    assert live_nodes() == base


def test_graphs_die_on_another_thread():
    base = live_nodes()
    made: queue.Queue[Any] = queue.Queue()

    def make(seed: int) -> None:
        for i in range(20):
            s = Value(1.0)
            for k in range(2000):
                s = s * 0.5 + 1.0
                if k % 500 == 0:
                    s.note = [s]  # a cycle, for the collector
            made.put([s, Value(float(i))])

    makers = [threading.Thread(target=make, args=(seed,)) for seed in range(4)]
    for t in makers:
        t.start()
    for _ in range(40):  # while their makers live
        made.get()[0].backward()
    for t in makers:
        t.join()
    while not made.empty():  # and after
        made.get()
    gc.collect()
    assert live_nodes() == base


def test_compiled_functions_in_threads():
    weights = [Value(0.1 * i) for i in range(10)]

    @tapegrad.compile
    def f(x, y):
        s = x
        for w in weights:
            s = (s * w + y).tanh()
        return s

    def work(seed: int) -> list[Any]:
        out = []
        for i in range(200):
            x = 0.01 * i + seed
            out.append((f(x, 0.5), f.value_and_grad(x, 0.5)))
        return out

    alone = [work(seed) for seed in range(THREADS)]
    assert in_threads(work) == alone


def python(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *options, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_with_live_graphs():
    done = python(
        """
        import os
        from tapegrad import Value, compile, live_nodes, vmap

        base = live_nodes()
        a = Value(0.5)
        s = a
        for _ in range(100_000):
            s = s * 0.999 + a
        s.backward()
        before = a.grad
        f = compile(lambda x: (x * a).tanh())
        f(1.0)
        vmap(f, threads=2)([1.0, 2.0, 3.0])
        child = os.fork()
        if child == 0:  # sweeps, frees and builds in its own copy
            ok = live_nodes() == base + 1 + 300_000
            s.backward()
            ok = ok and a.grad != before
            del s
            ok = ok and live_nodes() == base + 1
            ok = ok and list(vmap(f, threads=2)([1.0, 2.0])) == [f(1.0), f(2.0)]
            t = a
            for _ in range(50_000):
                t = t + a
            t.backward()
            os._exit(0 if ok else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert a.grad == before and live_nodes() == base + 1 + 300_000
        del s
        assert live_nodes() == base + 1
        print("fine")
        """,
        "-W",
        "ignore::DeprecationWarning",  # newer Pythons warn of fork() in a process with threads
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


AT_EXIT = {
    "deep graphs in globals": "",
    "deep graphs in cycles": """
        class Box: pass
        for v in (s, a):
            box = Box()
            box.me, box.v, v.box = box, v, box
    """,
    "rules that hold the graph": """
        out = Value(1.0, (s,), "mine")
        def rule():
            s.grad += out.grad
        out._backward = rule
    """,
    "atexit": """
        import atexit
        @atexit.register
        def last(s=s):
            t = s * 2.0
            t.backward()
            assert a.grad
    """,
    "a thread still at work": """
        import threading, time
        def work():
            while True:
                t = Value(1.0)
                for _ in range(1000):
                    t = t * 0.5 + a
                t.backward()
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
    """,
    "a thread that ends later": """
        import threading, time
        def work():
            time.sleep(0.1)
            t = s * 2.0
            t.backward()
        threading.Thread(target=work).start()
    """,
    "graphs kept by modules and by finalizers": """
        import sys, math, weakref
        math.kept = s
        sys.kept = [a]
        class Late:
            def __del__(self, s=s):
                (s * 2.0).backward()
        sys.late = Late()
        weakref.finalize(a, print, end="")
    """,
    "compiled functions": """
        f = tapegrad.compile(lambda x: x * a + s)
        f(2.0); f.backward(2.0)
        tapegrad.vmap(f, threads=2)([1.0, 2.0])
        a.f = f
    """,
    "an exception on the way out": """
        import atexit
        def last():
            t = Value(1.0, (s,), "raises")
            def rule():
                raise KeyError("planted")
            t._backward = rule
            try:
                t.backward()
            except KeyError:
                pass
        atexit.register(last)
    """,
}


@pytest.mark.parametrize("ending", AT_EXIT)
def test_interpreter_exit(ending):
    program = """
import tapegrad
from tapegrad import Value
s, a = Value(0.0), Value(1.0)
for _ in range(200_000):
    s = s + a
""" + textwrap.dedent(AT_EXIT[ending])
    done = python(program + '\nprint("fine")')
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_subinterpreters_are_refused_or_work():
    """Both kinds, with the interpreter lock shared or not: an ImportError or the right answer, and the main interpreter
    goes on as before."""
    done = python(
        """
        import sys
        from tapegrad import Value, live_nodes

        a = Value(3.0)
        base = live_nodes()
        program = "\\n".join([
            "try:",
            "    from tapegrad import Value",
            "except ImportError as error:",
            "    assert 'interpreter' in str(error), error",
            "else:",
            "    b = Value(2.0)",
            "    c = b * b",
            "    c.backward()",
            "    assert b.grad == 4.0",
        ])
        try:
            import _interpreters as interpreters
            kinds = ["isolated", "legacy"]
        except ImportError:
            import _xxsubinterpreters as interpreters
            kinds = [True, False]
        for kind in kinds:
            one = interpreters.create(kind) if isinstance(kind, str) else interpreters.create(isolated=kind)
            failed = interpreters.run_string(one, program)
            assert failed is None, failed
            interpreters.destroy(one)
        assert live_nodes() == base
        c = a * a
        c.backward()
        assert a.grad == 6.0
        print("fine")
        """,
        "-W",
        "ignore::DeprecationWarning",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
