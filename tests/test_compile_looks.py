"""Compiled functions against eager code: every way in which a function may look at a number, and what it does with it.

Each function is called with numbers that make it take several courses, also in another order than recorded; value,
type of the value and gradient have to be those of eager code.
"""

# ruff: noqa: UP031, RUF015

import copy
import functools
import math
import operator
import pickle

import numpy as np
import pytest

from tapegrad import Value
from tapegrad.compiled import compile

NUMBERS = (0.5, 2.0, -1.25, 0.0, 3.75, 100.0, 2.0, -0.0, 1e-8, 0.5)
WHOLE = (3, 4, 1, 3)

FLOATS = {
    "rounding": lambda x: x * round(x.data),
    "rounding2": lambda x: x * round(x.data, 1),
    "floor": lambda x: x * math.floor(x.data),
    "floorv": lambda x: x * math.floor(float(x)),
    "ceil": lambda x: x * math.ceil(x.data),
    "truncc": lambda x: x * math.trunc(x.data),
    "strv": lambda x: x * len(str(x)),
    "reprv": lambda x: x * len(repr(x)),
    "fmtv": lambda x: x * len(f"{x}"),
    "fmtv2": lambda x: x * len(f"{x:.2f}"),
    "fmtv3": lambda x: x * len("%s" % x),
    "fmtv4": lambda x: x * len("%.3f" % x.data),
    "fmtv5": lambda x: x * len("%d" % x.data),
    "fmtv6": lambda x: x * len("%.3f" % x),
    "getattrx": lambda x: x * getattr(x, "da" + "ta"),
    "attrgetter": lambda x: x * operator.attrgetter("data")(x),
    "objgetattr": lambda x: x * object.__getattribute__(x, "data"),
    "descr": lambda x: x * Value.data.__get__(x),
    "fromhash": lambda x: x * (hash(x.data) % 7),
    "dictkey": lambda x: x * {0.5: 1, 2.0: 2, -1.25: 3}.get(x.data, 9),
    "inlist": lambda x: x * (1 if x.data in [0.5, 2.0] else 5),
    "inset": lambda x: x * (1 if x.data in {0.5, 2.0} else 5),
    "inrange": lambda x: x * (1 if x.data in range(5) else 5),
    "sorteddata": lambda x: x * sorted([x.data, 1.0, 0.25])[0],
    "maxv": lambda x: max(x, x * x, 1 - x),
    "minv": lambda x: min([x, x * x, 1 - x]),
    "maxmix": lambda x: x * max(x.data, 1.0) + max(x.data, 0),
    "maxkey": lambda x: x * max([x.data, -2 * x.data], key=abs),
    "maxdefault": lambda x: x * max([x.data], default=3) + max([], default=3),
    "argmaxnp": lambda x: x * int(np.argmax([x.data, 1.0, -x.data])),
    "argmaxnpv": lambda x: x * int(np.argmax(np.array([x, Value(1.0), -x]))),
    "npsin": lambda x: x * np.sin(x.data),
    "npexpv": lambda x: np.exp(x * 0.1),
    "npfloat": lambda x: x * np.float64(x.data),
    "nparr": lambda x: x * np.array([x.data, 2.0]).sum(),
    "nparr2": lambda x: x * np.array([x.data, 2.0]).max(),
    "npmaximum": lambda x: x * np.maximum(x.data, 1.0),
    "npwhere": lambda x: x * np.where(x.data > 1, 2.0, 3.0),
    "npwherev": lambda x: x * float(np.where(x > 1, 2.0, 3.0)),
    "npasarray": lambda x: x * np.asarray([x, x * 2], dtype=float).sum(),
    "mathfns": lambda x: x * math.tanh(x.data) + math.hypot(x.data, 1) + math.fsum([x.data, 1]),
    "mathisnan": lambda x: x * (1 if math.isnan(x.data) else 2),
    "mathcopysign": lambda x: x * math.copysign(1.0, x.data),
    "mathmax": lambda x: x * math.pow(x.data, 2),
    "powb": lambda x: x * pow(x.data, 2),
    "powmod": lambda x: x * pow(int(x.data), 2, 5),
    "divmodx": lambda x: x * divmod(x.data, 2)[0],
    "isinst": lambda x: x * (2 if isinstance(x.data, float) else 3),
    "isint": lambda x: x * (2 if x.data.is_integer() else 3),
    "hexx": lambda x: x * len(x.data.hex()),
    "ratio": lambda x: x * x.data.as_integer_ratio()[0],
    "realimag": lambda x: x * x.data.real,
    "conj": lambda x: x * x.data.conjugate(),
    "complexx": lambda x: x * abs(complex(x.data, 1)),
    "boolx": lambda x: x * bool(x),
    "booldata": lambda x: x * bool(x.data),
    "notx": lambda x: x * (not x),
    "cmpidx": lambda x: [x, x * 2][x > 1] * 1,
    "cmparith": lambda x: x * (x > 1) + (x < 1) * 3,
    "cmpsum": lambda x: x * sum([x > 1, x > 2, x > 3]),
    "cmpeq": lambda x: x * (x.data == 2.0),
    "cmpne": lambda x: x * (x.data != 2.0),
    "veq": lambda x: x * (x == 2.0) + (1 if x == x else 7),
    "chained": lambda x: x * (2 if 0 < x < 3 else 5),
    "andor": lambda x: (x > 1 and x * 2) or x * 3,
    "bitand": lambda x: x * ((x > 1) & (x < 3)),
    "bitor": lambda x: x * ((x > 1) | (x < -1)),
    "bitxor": lambda x: x * ((x > 1) ^ (x < 3)),
    "cmpcmp": lambda x: x * ((x > 1) == (x < 3)),
    "booldiv": lambda x: x * ((x > 1) / 2),
    "boolfloor": lambda x: x * ((x > 1) // 1 + 3 % ((x > 1) + 1)),
    "boolstr": lambda x: x * len(str(x > 1)),
    "ternnest": lambda x: x * (1 if x > 1 else 2 if x > 0 else 3),
    "indexint": lambda x: x * "abcdefghij".index("abcdefghij"[int(abs(x.data)) % 10]),
    "slicing": lambda x: x * len([1, 2, 3, 4, 5][: int(abs(x.data))]),
    "anyall": lambda x: x * (any([x > 1, x < -1]) + all([x, x > 1])),
    "filt": lambda x: sum(v for v in [x, x - 1, x - 2] if v > 0) + x,
    "sortedv": lambda x: sum(i * v for i, v in enumerate(sorted([x, 1 - x, x * x]))) + x,
    "sortkey": lambda x: sum(i * v for i, v in enumerate(sorted([x, 1 - x, x * x], key=lambda v: -v.data))) + x,
    "tupcmp": lambda x: x * (2 if (x.data, 1) < (1.0, 2) else 3),
    "listeq": lambda x: x * (2 if [x.data] == [2.0] else 3),
    "valuedata": lambda x: x * Value(x.data),
    "valuefloat": lambda x: x * Value(float(x)),
    "valuefloatdata": lambda x: x * Value(float(x.data)),
    "pickled": lambda x: x * pickle.loads(pickle.dumps(x.data)),
    "copied": lambda x: x * copy.copy(x.data),
    "deepcopied": lambda x: x * copy.deepcopy([x.data])[0],
    "powint": lambda x: x ** int(abs(x.data) % 4),
    "rpowdata": lambda x: x.data**2 * x,
    "rpow": lambda x: 2**x + 2.5 ** (x * 0.1),
    "subdata": lambda x: x - x.data,
    "rsubdata": lambda x: x.data - x,
    "divdata": lambda x: x / (x.data * x.data + 1),
    "rdivdata": lambda x: x.data / (x * x + 1),
    "mapx": lambda x: sum(map(float, [x, x]), 0.0) * x,
    "fstr": lambda x: x * int(f"{x.data:.0f}"),
    "reducex": lambda x: functools.reduce(lambda a, b: a * b, [x, x + 1, x.data]),
    "np_sum": lambda x: np.sum([x, x * 2]) + np.mean(np.array([x, x * x])),
    "np_dot": lambda x: np.dot(np.array([x, x]), np.array([x, 2.0])),
    "np_max": lambda x: np.max(np.array([x, x * x, 1 - x])) * 1,
    "np_sort": lambda x: np.sort(np.array([x, x * x, 1 - x]))[0] * 1,
    "np_clip": lambda x: np.clip(np.array([x]), -1, 1)[0] * x,
    "np_isclose": lambda x: x * bool(np.isclose(x.data, 2.0)),
    "np_round": lambda x: x * np.round(x.data),
    "np_sign": lambda x: x * np.sign(x.data),
    "np_scalar_left": lambda x: np.float64(2.0) * x.data * x,
    "np_cmp": lambda x: x * float(np.float64(1.0) < x.data),
    "intdata": lambda x: x * int(x.data),
    "intresult": lambda x: (x.data + 0, int(x), x.data > 1, x),
}
INTS = {
    "intarg": lambda x: (x * 2 + 1, x / 2, x**2, x**-1 if x.data else x),
    "intarg2": lambda x: (x.data // 2 * x, x.data % 3 * x, x.data * 2, x.relu(), abs(x), -x),
    "intidx": lambda x: [10, 20, 30][x.data % 3] * x,
    "intshift": lambda x: (x.data << 2) * x + (x.data & 3) + (x.data ^ 1) + (~x.data),
    "intrange": lambda x: sum(range(x.data)) * x,
    "intlistmul": lambda x: sum([1.0] * x.data) * x,
    "intbits": lambda x: x * x.data.bit_length(),
    "chrx": lambda x: x * ord(chr(x.data + 65)) + len(bin(x.data)),
}


def inlistv(x):
    xs = [x, x + 1]
    return x * (1 if x in xs else 5)


def argmax(x):
    scores = [x.data, 1.0, -x.data]
    return x * scores.index(max(scores))


def whilel(x):
    n = 0
    while x.data < 20 and n < 50:
        x = x * 2 + 1
        n += 1
    return x * n


def rangeint(x):
    s = x
    for i in range(int(abs(x.data)) % 5):
        s = s * x + i
    return s


def prev(x):
    y = x * 2
    return y * len(y._prev)


def prevdata(x):
    y = x * 2
    return y * [c.data for c in y._children][0]


def opname(x):
    y = x * 2
    return y * len(y._op)


def opname2(x):
    y = x**2
    return y * len(y._op)


def labelx(x):
    y = x * 2
    y.label = "foo"
    return y * len(y.label)


def attrx(x):
    y = x * 2
    y.foo = x.data
    return y * y.foo


def iadd(x):
    s = 0.0
    s += x.data
    s *= 2
    s -= 1
    s /= 3
    return x * s


def gen(x):

    def g():
        y = x
        for _ in range(3):
            y = y * x + 1
            if y > 10:
                return
            yield y

    return sum(g(), x)


def exc(x):
    try:
        if x > 1:
            raise KeyError
        return x * 2
    except KeyError:
        return x * 3


def np_mask(x):
    a = np.array([x, x * x, 1 - x])
    return a[a > 0].sum() + x


FLOATS |= {
    "inlistv": inlistv,
    "argmax": argmax,
    "whilel": whilel,
    "rangeint": rangeint,
    "prev": prev,
    "prevdata": prevdata,
    "opname": opname,
    "opname2": opname2,
    "labelx": labelx,
    "attrx": attrx,
    "iadd": iadd,
    "gen": gen,
    "exc": exc,
    "np_mask": np_mask,
}


def stripped(x):
    """A result with the numbers of its Values."""
    if isinstance(x, Value):
        return x.data
    return tuple(map(stripped, x)) if isinstance(x, tuple) else x


def eager(fn, number):
    x = Value(number)
    out = fn(x)
    if isinstance(out, Value):
        out.backward()
    return stripped(out), x.grad


def same(a, b):
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (math.isnan(a) and math.isnan(b))


def check(fn, number, f, kinds):
    expected, slope = eager(fn, number)
    got = f(number)
    assert same(got, expected), (number, got, expected)
    assert type(got) in kinds
    if type(got) in (int, float):
        assert f.value_and_grad(number) == (got, slope)
        assert type(f.value_and_grad(number)[0]) is type(got)


@pytest.mark.parametrize("name", FLOATS)
def test_looks_at_floats(name):
    f = compile(FLOATS[name])
    for number in NUMBERS:
        check(FLOATS[name], number, f, (float, tuple))


@pytest.mark.parametrize("name", INTS)
def test_looks_at_ints(name):
    f = compile(INTS[name])
    for number in WHOLE:
        check(INTS[name], number, f, (int, float, tuple))
        assert type(f(number)) is type(eager(INTS[name], number)[0])


THREE = np.arange(3.0)
ARRAYS = {
    "arr*x": lambda x: THREE * x,
    "x*arr": lambda x: x * THREE,
    "x+arr": lambda x: x + THREE,
    "arr-x": lambda x: THREE - x,
    "x/arr": lambda x: x / (THREE + 1),
    "arr**x": lambda x: (THREE + 1) ** x,
    "x**arr": lambda x: x**THREE,
    "np.add": lambda x: np.add(x, THREE),
    "np.maximum": lambda x: np.maximum(x, THREE),
    "np.maximum s": lambda x: np.maximum(x, 0.5),
    "np.minimum f": lambda x: np.minimum(np.float64(0.7), x),
    "f<x": lambda x: x * bool(np.float64(1.0) < x),
    "x<f": lambda x: x * bool(x < np.float64(1.0)),
    "arr<x": lambda x: x * (x > THREE).sum(),
    "x<arr": lambda x: x * (x < THREE).sum(),
    "np.less": lambda x: x * np.less(x, 1.0),
    "np.less arr": lambda x: x * np.less(THREE, x).sum(),
    "eq": lambda x: x * np.equal(THREE, x).sum(),
    "data<arr": lambda x: x * (x.data < THREE).sum(),
    "arr<data": lambda x: x * (x.data > THREE).sum(),
    "arr*data": lambda x: x * (THREE * x.data),
    "data*arr": lambda x: x * (x.data * THREE),
    "np.sqrt": lambda x: np.sqrt(x * x + 1),
    "np.tanh": lambda x: np.tanh(x),
    "np.abs": lambda x: np.abs(x),
    "np.sum": lambda x: np.sum(x * THREE),
    "dot": lambda x: np.dot(THREE, np.array([x, x, x])),
    "dot2": lambda x: np.dot(x, 3.0),
    "dot3": lambda x: np.dot(x, THREE),
    "matmul": lambda x: THREE @ np.array([x, x, x]),
    "outer": lambda x: np.outer(np.array([x, x]), THREE),
    "einsum": lambda x: np.einsum("i,i->", THREE, np.array([x, x, x])),
    "linalg": lambda x: np.linalg.norm(np.array([x, x])),
    "mean": lambda x: np.mean([x, x]),
    "where": lambda x: np.where(x < THREE, THREE, x),
    "clip": lambda x: np.clip(x, 0, 1),
    "np.clip data": lambda x: x * np.clip(x.data, 0, 1),
    "any": lambda x: x * np.any(np.array([x - 1, x])),
    "isnan": lambda x: x * np.isnan(x.data),
    "interp": lambda x: x * np.interp(x.data, THREE, THREE),
    "searchsorted": lambda x: x * np.searchsorted(THREE, x.data),
    "digitize": lambda x: x * np.digitize(x.data, THREE),
    "argsort": lambda x: x * np.argsort([x.data, 1.0, 0.2])[0],
    "float(arr)": lambda x: x * np.array([x.data], dtype=float)[0],
    "asarray": lambda x: np.asarray([x, 1.0]).sum(),
    "full": lambda x: np.full(3, x).sum(),
    "full d": lambda x: x * np.full(3, x.data).sum(),
    "stack": lambda x: np.stack([np.array([x, x]), THREE[:2]]).sum(),
    "linspace": lambda x: x * np.linspace(0, x.data, 3).sum(),
    "arange": lambda x: x * np.arange(x.data).sum(),
    "random": lambda x: x.sum(),
    "x.shape": lambda x: x * len(x.shape),
    "x.dot": lambda x: x.dot(3.0),
    "x.clip": lambda x: x.clip(0.0, 1.0),
    "x.max": lambda x: x.max(),
    "float arr": lambda x: float(np.array(x)),
    "x.mean": lambda x: x.mean(),
    "x.T": lambda x: x.T,
}


def numbers_of(x):
    """A result of NumPy's with the numbers of its Values."""
    if isinstance(x, np.ndarray) and x.dtype == object:
        return np.array([stripped(item) for item in x.flat]).reshape(x.shape)
    return np.asarray(stripped(x))


@pytest.mark.parametrize("name", ARRAYS)
def test_looks_by_numpy(name):
    f = compile(ARRAYS[name])
    for number in (0.5, 2.0, -1.0, 0.5):
        np.testing.assert_allclose(f(number), numbers_of(ARRAYS[name](Value(number))), rtol=1e-15)
