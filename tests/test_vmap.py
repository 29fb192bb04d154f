"""vmap: each lane agrees with a call of its own, for every instruction set, block size and number of threads."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from tapegrad import Value
from tapegrad.compiled import PASSES, compile, maximum, vmap, where


def setup():
    w = [Value(0.3), Value(-0.7), Value(1.1)]

    def fn(x, y):
        scale = (w[0] * w[1]).exp() + 1  # the same in all lanes
        hidden = [(w[0] * x[0] + w[1] * x[1] + b).tanh() for b in (w[2], scale)]
        out = where(y > 0, hidden[0] * scale, hidden[1] / (x[0] * x[0] + 1)) + maximum(x[1], y) - (x[0] - y) ** 3
        return out + sum(h * h for h in hidden) + (hidden[0] * 0.5).softplus().log()

    return w, fn


def data(lanes):
    rng = np.random.default_rng(lanes)
    return rng.normal(size=(lanes, 2)), rng.normal(size=lanes)


@pytest.mark.parametrize("lanes", [1, 7, 8, 64, 100, 1000, 5003])
def test_lanes_agree_with_single_calls(lanes):
    w, fn = setup()
    f = compile(fn)
    x, y = data(lanes)
    single = [f.value_and_grad(row.tolist(), t) for row, t in zip(x, y.tolist(), strict=True)]
    g = vmap(compile(fn))
    np.testing.assert_allclose(g(x, y), [value for value, _ in single], rtol=1e-12, atol=1e-13)
    values, (gx, gy) = g.value_and_grad(x, y)
    np.testing.assert_allclose(values, [value for value, _ in single], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gx, [grad[0] for _, grad in single], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gy, [grad[1] for _, grad in single], rtol=1e-11, atol=1e-12)
    for row, t in zip(x, y.tolist(), strict=True):
        f.backward(row.tolist(), t)
    expected = [p.grad for p in w]
    for reduce, factor in (("sum", 1), ("mean", lanes)):
        for p in w:
            p.grad = 0.0
        total = g.backward(x, y, reduce=reduce)
        assert total * factor == pytest.approx(sum(value for value, _ in single), rel=1e-11)
        assert [p.grad * factor for p in w] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("off", [(), *[(name,) for name in PASSES], PASSES], ids=str)
def test_passes_left_out(off):
    w, fn = setup()
    x, y = data(50)
    f, g = compile(fn), vmap(compile(fn, disable=off))
    np.testing.assert_allclose(
        g(x, y), [f(r.tolist(), t) for r, t in zip(x, y.tolist(), strict=True)], rtol=1e-12, atol=1e-13
    )
    g.backward(x, y)
    got = [p.grad for p in w]
    for p in w:
        p.grad = 0.0
    vmap(f).backward(x, y)
    assert got == pytest.approx([p.grad for p in w], rel=1e-11)


def test_threads_do_not_change_a_bit():
    w, fn = setup()
    x, y = data(20_000)
    results = []
    for threads in (1, 2, 5):
        for p in w:
            p.grad = 0.0
        g = vmap(compile(fn), threads=threads)
        results.append((g.backward(x, y), [p.grad for p in w], g(x, y).tolist()))
    assert results[0] == results[1] == results[2]


CODE = """
import sys, json; sys.path[:0] = {path!r}
import importlib.util
spec = importlib.util.spec_from_file_location("t", {file!r}); t = importlib.util.module_from_spec(spec);
spec.loader.exec_module(t)
from tapegrad.compiled import compile, vmap
w, fn = t.setup(); x, y = t.data(203); g = vmap(compile(fn)); total = g.backward(x, y)
print(json.dumps([total, *[p.grad for p in w], *g(x, y).tolist()]))
"""


def test_instruction_sets_agree():
    results = []
    for name in ("baseline", "avx2", "avx512"):
        code = CODE.format(path=[p for p in sys.path if p], file=__file__)
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TAPEGRAD_SIMD": name},
            capture_output=True,
            text=True,
            check=True,
        )
        results.append(eval(run.stdout))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-12, atol=1e-13)


def test_axes():
    g = vmap(compile(lambda a, b: a[0] * b + a[1]), in_axes=(None, 0))
    assert g(np.array([2.0, 1.0]), np.array([1.0, 2.0, 3.0])).tolist() == [3.0, 5.0, 7.0]
    _, (ga, gb) = g.value_and_grad(np.array([2.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    assert ga.tolist() == [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]
    assert gb.tolist() == [2.0, 2.0, 2.0]
    h = vmap(compile(lambda a, k: a.sum() * k), in_axes=(1, None))
    a = np.arange(6.0).reshape(2, 3)
    assert h(a, 2.0).tolist() == (a.sum(axis=0) * 2).tolist()
    # Inputs without lanes between others with lanes, and what depends on them alone.
    k = vmap(compile(lambda x, y, z: x * y.exp() + z * y.sin()), in_axes=(0, None, 0))
    x, z = np.arange(3.0), np.array([2.0, -1.0, 0.5])
    np.testing.assert_allclose(k(x, 0.5, z), x * math.exp(0.5) + z * math.sin(0.5), rtol=1e-14)
    _, (_, gy, _) = k.value_and_grad(x, 0.5, z)
    np.testing.assert_allclose(gy, x * math.exp(0.5) + z * math.cos(0.5), rtol=1e-14)
    assert vmap(lambda x: x * 2)([1, 2, 3]).tolist() == [2.0, 4.0, 6.0]
    assert vmap(lambda d: d["a"] + d["b"][0])({"a": np.ones(2), "b": (np.arange(2.0),)}).tolist() == [1.0, 2.0]


def test_results_of_every_kind():
    out = vmap(lambda x: {"a": [x, 3.0], "n": np.array([x, x * x]), "b": x.data > 1, "t": "text"})(np.array([1.0, 2.0]))
    assert out["a"][0].tolist() == [1.0, 2.0]
    assert out["a"][1].tolist() == [3.0, 3.0]
    assert out["n"].tolist() == [[1.0, 1.0], [2.0, 4.0]]
    assert out["b"].tolist() == [False, True]
    assert out["t"] == "text"


def test_detached_numbers_stay_apart_from_their_like():
    # The same operation over a number and over its detached twin has equal values but another gradient.
    def fn(x):
        return (x.tanh() * Value(x.data).tanh()) + x.exp() * x.data + x * x

    x = np.array([0.5, -1.5, 2.0])
    f = compile(fn)
    expected = [f.value_and_grad(number)[1] for number in x.tolist()]
    np.testing.assert_allclose(vmap(f).value_and_grad(x)[1], expected, rtol=1e-12)
    assert compile(fn, fastmath=True).value_and_grad(0.5)[1] == pytest.approx(expected[0], rel=1e-12)
    assert expected[0] == pytest.approx(np.tanh(0.5) * (1 - np.tanh(0.5) ** 2) + np.exp(0.5) * 0.5 + 1.0, rel=1e-12)


def test_empty_and_strided_arrays():
    g = vmap(lambda x: x * x)
    assert g(np.empty(0)).shape == (0,)
    wide = np.arange(10.0)
    assert g(wide[::-3]).tolist() == (wide[::-3] ** 2).tolist()
    assert g(wide.astype(np.float32)).tolist() == (wide**2).tolist()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vmap(lambda x, y: x)(np.ones(2), np.ones(3)), ValueError, "number of lanes: 2 and 3"),
        (lambda: vmap(lambda x: x)(2.0), ValueError, "no argument has a lane axis"),
        (lambda: vmap(lambda x: x, in_axes=3)(np.ones(2)), ValueError, "no lane axis 3"),
        (lambda: vmap(lambda x: x, in_axes=(0, 0))(np.ones(2)), ValueError, "names 2 arguments"),
        (lambda: vmap(lambda x: x).backward(np.ones(2), reduce="max"), ValueError, "'mean' or 'sum'"),
        (lambda: vmap(lambda x: x).backward(np.ones(0)), ValueError, "no lanes"),
        (lambda: vmap(lambda x: x, threads=-1), ValueError, "threads"),
        (lambda: vmap(lambda x: x)(np.array(["a"])), TypeError, "real numbers"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
