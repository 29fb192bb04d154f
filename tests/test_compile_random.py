"""Random programs, compiled: the bits of eager code forward and backward, with every pass switched off in turn."""

import itertools
import random
import struct

import pytest

from tapegrad import Value
from tapegrad.compiled import PASSES, compile

UNARY = ["tanh", "relu", "sigmoid", "exp", "sin", "softplus", "abs"]


def bits(x):
    return struct.pack("<d", float(x) + 0.0)


def random_function(seed, params, size=60):
    """A function of three numbers that builds the same random graph each time it is called."""

    def fn(x, y, z):
        rng = random.Random(seed)
        pool = [x, y, z, *params]
        for _ in range(size):
            kind = rng.randrange(8)
            a, b = rng.choice(pool[-12:] + params), rng.choice(pool[-12:])
            if kind < 2:
                pool.append(a + b)
            elif kind == 2:
                pool.append(a * b)
            elif kind == 3:
                pool.append(getattr((a * 0.3), rng.choice(UNARY))())
            elif kind == 4:
                pool.append(a - b * rng.choice([0.5, 2.0, -1.0]))
            elif kind == 5:
                pool.append((a * 0.1).tanh() / (b * b + 1.0))
            elif kind == 6:
                pool.append((a * 0.1).sin() ** rng.choice([2, 3, 2.0]))
            else:
                pool.append(sum(w * v for w, v in zip(params, pool[-3:], strict=False)).tanh())
        return sum(p.tanh() for p in pool[-6:])

    return fn


def eager(fn, params, numbers, old):
    inputs = [Value(number) for number in numbers]
    for p, grad in zip(params, old, strict=True):
        p.grad = grad
    out = fn(*inputs)
    out.backward()
    return [out.data, *[i.grad for i in inputs], *[p.grad for p in params]]


def compiled(f, params, numbers, old):
    for p, grad in zip(params, old, strict=True):
        p.grad = grad
    value, grads = f.value_and_grad(*numbers)
    assert f(*numbers) == value
    assert f.backward(*numbers) == value
    return [value, *grads, *[p.grad for p in params]]


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_have_the_bits_of_eager_code(seed):
    rng = random.Random(1000 + seed)
    params = [Value(rng.uniform(-1, 1)) for _ in range(4)]
    fn = random_function(seed, params)
    f = compile(fn)
    for _ in range(3):
        numbers = [rng.uniform(-2, 2) for _ in range(3)]
        old = [rng.choice([0.0, 0.25]) for _ in params]
        expected = eager(fn, params, numbers, old)
        assert list(map(bits, compiled(f, params, numbers, old))) == list(map(bits, expected))
        for p in params:
            p.data -= 0.1
    assert len(f.cache_info()) == 1


@pytest.mark.parametrize("off", [*[(name,) for name in PASSES], PASSES, *itertools.combinations(PASSES, 2)], ids=str)
def test_each_pass_can_be_left_out(off):
    rng = random.Random(7)
    params = [Value(rng.uniform(-1, 1)) for _ in range(4)]
    for seed in range(8):
        fn = random_function(seed, params)
        numbers, old = [0.3, -0.7, 1.1], [0.5, 0.0, 0.0, 1.0]
        expected = eager(fn, params, numbers, old)
        assert list(map(bits, compiled(compile(fn, disable=off), params, numbers, old))) == list(map(bits, expected))


@pytest.mark.parametrize("seed", range(10))
def test_fastmath_agrees_closely(seed):
    rng = random.Random(seed)
    params = [Value(rng.uniform(-1, 1)) for _ in range(4)]
    fn = random_function(seed, params)
    expected = eager(fn, params, [0.3, -0.7, 1.1], [0.0] * 4)
    got = compiled(compile(fn, fastmath=True), params, [0.3, -0.7, 1.1], [0.0] * 4)
    assert got == pytest.approx(expected, rel=1e-10, abs=1e-12)
