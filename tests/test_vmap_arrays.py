"""Arrays that are given to mapped functions and that they return: of every layout, type and size, again and again."""

import signal
import threading
import time

import numpy as np
import pytest

import tapegrad
from tapegrad import Value


def formula(x, y, z):
    return (x * y).tanh() * z + x / y


def oracle(x, y, z):
    """Value and gradients, in NumPy."""
    x, y, z = (np.asarray(a, dtype=np.float64) for a in (x, y, z))
    t = np.tanh(x * y)
    slope = (1 - t * t) * z
    return t * z + x / y, (slope * y + 1 / y, slope * x - x / y**2, t)


def close(a, b):
    return np.allclose(a, b, rtol=1e-12, atol=1e-13)


def columns(n, seed=0):
    return list(np.random.default_rng(seed).uniform(0.5, 1.5, (3, n)))


def agrees(f, *arrays):
    """One call of each kind, and another that has seen the first."""
    before = [np.array(a) for a in arrays]
    value, gradients = oracle(*arrays)
    for _ in range(2):
        got = f.value_and_grad(*arrays)
        assert close(f(*arrays), value)
        assert close(got[0], value)
        assert all(close(g, wanted) for g, wanted in zip(got[1], gradients, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 4095, 4096, 4097, 8191, 20_000])
def test_sizes(n):
    agrees(tapegrad.vmap(formula), *columns(n))


@pytest.mark.parametrize("shift", range(9))
def test_places_in_memory(shift):
    rooms = [np.empty(9000) for _ in range(3)]
    places = [room[shift : shift + 8191] for room in rooms]
    for place, numbers in zip(places, columns(8191), strict=True):
        place[:] = numbers
    agrees(tapegrad.vmap(formula), *places)
    agrees(tapegrad.vmap(formula), places[0], columns(8191, 1)[1], rooms[2][(shift * 5) % 9 :][:8191] * 0 + 1.25)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: np.repeat(a, 2)[::2],
        lambda a: a[::-1],
        lambda a: np.stack([a, a], axis=1)[:, 1],
        lambda a: a.astype(np.float32),
        lambda a: a.astype(">f8"),
        lambda a: np.frombuffer(b"x" + a.tobytes(), dtype=np.float64, offset=1),
        lambda a: a.tolist(),
        lambda a: np.asarray(a).view(type("Sub", (np.ndarray,), {})),
    ],
    ids=["every other", "backwards", "a column", "float32", "byte order", "odd address", "list", "subclass"],
)
@pytest.mark.parametrize("n", [40, 5000])
def test_kinds_of_arrays(change, n):
    f = tapegrad.vmap(formula)
    x, y, z = columns(n)
    agrees(f, x, y, z)  # so that the direct way is there, and must not be taken
    agrees(f, change(x), y, z)
    agrees(f, x, y, z)
    agrees(f, *(change(a) for a in (x, y, z)))


def test_ints_and_read_only():
    f = tapegrad.vmap(formula)
    x, y, z = columns(5000)
    for a in (x, y, z):
        a.flags.writeable = False
    agrees(f, x, y, z)
    agrees(f, np.arange(1, 5001), y, z)
    agrees(f, x, y, z)


@pytest.mark.parametrize("n", [100, 6000])
def test_arrays_that_overlap(n):
    room = np.random.default_rng(3).uniform(0.5, 1.5, n + 2)
    f = tapegrad.vmap(formula)
    agrees(f, room[:-2], room[1:-1], room[2:])
    agrees(f, room, room, room)


@pytest.mark.parametrize("n", [100, 6000])
def test_results_are_arrays_of_their_own(n):
    f = tapegrad.vmap(formula)
    arrays = columns(n)
    kept = []
    for seed in range(6):
        inputs = columns(n, seed)
        value, gradients = f.value_and_grad(*inputs)
        kept.append((inputs, [value, *gradients]))
        kept.append((inputs, [f(*inputs)]))
    results = [result for _, all_of_a_call in kept for result in all_of_a_call]
    for i, result in enumerate(results):
        assert result.flags.writeable
        assert result.flags.c_contiguous
        assert result.shape == (n,)
        assert not any(np.shares_memory(result, other) for other in (*results[:i], *arrays))
    for inputs, got in kept:  # later calls have not written to them
        value, gradients = oracle(*inputs)
        assert all(close(a, b) for a, b in zip(got, (value, *gradients), strict=False))
    for result in results:
        result[:] = np.nan  # the caller's to do with as they like
    agrees(f, *arrays)


@pytest.mark.parametrize("off", tapegrad.compiled.PASSES)
def test_gradients_with_a_pass_left_out(off):
    agrees(tapegrad.vmap(tapegrad.compile(formula, disable=(off,))), *columns(1000))


def test_argnums_come_and_go():
    f = tapegrad.vmap(formula)
    arrays = columns(1000)
    value, gradients = oracle(*arrays)
    both = (0, 2)
    for argnums in (0, 0, both, both, None, None, 1, both, (2, 0), [0, 1], [0, 1], -1, (1, 1), None, np.int64(2), True):
        if isinstance(argnums, np.int64):
            with pytest.raises(ValueError, match="argnums"):
                f.value_and_grad(*arrays, argnums=argnums)
            continue
        got_value, got = f.value_and_grad(*arrays, argnums=argnums)
        assert close(got_value, value)
        if isinstance(argnums, int):
            assert close(got, gradients[argnums])
        else:
            wanted = range(3) if argnums is None else argnums
            assert isinstance(got, tuple)
            assert all(close(a, gradients[i]) for a, i in zip(got, wanted, strict=True))
    with pytest.raises(ValueError, match="argument 3"):
        f.value_and_grad(*arrays, argnums=3)


def test_rows_and_columns():
    """An argument with numbers next to each other in a lane, one with none, and gradients in their shapes."""

    def inner(x, w, nothing):
        return x[0] * w + x[1] * x[2] * w

    f = tapegrad.vmap(inner)
    for n in (3, 500, 9000):
        x = np.random.default_rng(n).normal(size=(n, 3))
        w = np.random.default_rng(n + 1).normal(size=n)
        empty = np.empty((n, 0))
        for _ in range(2):
            value, (gx, gw, gn) = f.value_and_grad(x, w, empty)
            assert close(value, (x[:, 0] + x[:, 1] * x[:, 2]) * w)
            assert close(gx, np.stack([w, x[:, 2] * w, x[:, 1] * w], axis=1))
            assert close(gw, x[:, 0] + x[:, 1] * x[:, 2])
            assert gn.shape == (n, 0)


def test_several_results():
    f = tapegrad.vmap(lambda x, y: {"sum": x + y, "pair": (x, x * y), "constant": 3.0, "whole": 2})
    x, y, _ = columns(4500)
    for _ in range(2):
        out = f(x, y)
        assert np.array_equal(out["sum"], x + y)
        assert np.array_equal(out["pair"][0], x)
        assert not np.shares_memory(out["pair"][0], x)
        assert np.array_equal(out["pair"][1], x * y)
        assert np.array_equal(out["constant"], np.full(4500, 3.0))
        assert np.array_equal(out["whole"], np.full(4500, 2))


def test_shapes_change():
    f = tapegrad.vmap(lambda x: sum(v * v for v in x))
    for shape in ((10, 2), (10, 2), (10, 3), (7, 2), (10, 3), (10, 3)):
        x = np.random.default_rng(1).normal(size=shape)
        assert close(f(x), (x * x).sum(axis=1))
        assert close(f.value_and_grad(x)[1], 2 * x)
    with pytest.raises(ValueError, match="lanes"):
        tapegrad.vmap(formula)(np.ones(3), np.ones(4), np.ones(3))


def test_what_is_closed_over_may_change():
    w, factor = Value(2.0), [3.0]
    f = tapegrad.vmap(lambda x: x * w * factor[0])
    x = np.linspace(1, 2, 50)
    for _ in range(2):
        assert close(f(x), 6 * x)
        assert close(f.value_and_grad(x)[1], 6.0)
    w.data = 5.0
    assert close(f(x), 15 * x)
    assert close(f.value_and_grad(x)[1], 15.0)
    factor[0] = 1.0
    assert close(f(x), 5 * x)
    assert close(f.value_and_grad(x)[1], 5.0)


def test_guards_after_the_first_call():
    f = tapegrad.vmap(lambda x: x * 2.0 if x > 0 else x * 3.0)
    x = np.linspace(1, 2, 5000)
    for _ in range(2):
        assert close(f(x), 2 * x)
        assert close(f.value_and_grad(x)[1], 2.0)
    for _ in range(2):
        assert close(f(-x), -3 * x)
        assert close(f.value_and_grad(-x)[1], 3.0)
    mixed = x.copy()
    mixed[4321] = -1
    with pytest.raises(ValueError, match="different courses"):
        f.value_and_grad(mixed)
    assert close(f(x), 2 * x)


def test_calls_are_counted():
    compiled = tapegrad.compile(formula)
    f = tapegrad.vmap(compiled)
    arrays = columns(10)
    for _ in range(5):
        f(*arrays)
        f.value_and_grad(*arrays)
    assert sum(info.calls for info in compiled.cache_info()) == 10
    compiled.cache_clear()
    assert close(f(*arrays), oracle(*arrays)[0])
    assert sum(info.calls for info in compiled.cache_info()) == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads):
    arrays = columns(50_021)
    one = tapegrad.vmap(formula).value_and_grad(*arrays)
    many = tapegrad.vmap(formula, threads=threads)
    for _ in range(2):
        got = many.value_and_grad(*arrays)
        assert np.array_equal(got[0], one[0])
        assert all(np.array_equal(a, b) for a, b in zip(got[1], one[1], strict=True))


def test_calls_from_several_threads():
    f = tapegrad.vmap(formula)
    failures = []

    def work(seed):
        arrays = columns(30_000, seed)
        value, gradients = oracle(*arrays)
        for _ in range(10):
            got = f.value_and_grad(*arrays)
            if not (close(got[0], value) and all(close(a, b) for a, b in zip(got[1], gradients, strict=True))):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
@pytest.mark.parametrize("way", ["call", "gradient", "backward"])
def test_a_long_run_is_interrupted(way):
    w = Value(0.5)

    def long(x):
        for _ in range(100):
            x = (x * w).sin()
        return x

    f = tapegrad.vmap(long)
    run = {"call": f, "gradient": f.value_and_grad, "backward": f.backward}[way]
    run(np.linspace(0, 1, 200))
    run(np.linspace(0, 1, 200))  # this and later ones take the direct way
    x = np.linspace(0, 1, 3_000_000)

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    grads = []

    def run_for_a_minute():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            grads.append(w.grad)
            run(x)

    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with pytest.raises(KeyboardInterrupt):
            run_for_a_minute()
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if way == "backward":
        assert w.grad == grads[-1]  # nothing of the run that was given up
    small = np.linspace(0, 1, 64)
    expected = small
    for _ in range(100):
        expected = np.sin(expected * 0.5)
    assert close(f(small), expected)
