"""Programs as files and pickles: what was saved comes back, in another process too, and damage is a ValueError."""

import concurrent.futures
import contextlib
import hashlib
import math
import multiprocessing
import pickle
import random
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest

import tapegrad
from tapegrad import Value
from tapegrad.compiled import Program, compile, grad, vmap, where

Pair = namedtuple("Pair", "a b")


@tapegrad.compile
def decorated(x):
    return x * x + 1


def plain(x):
    return x * x * x


class Model:
    def __init__(self):
        self.w = Value(3.0)

    @tapegrad.compile
    def loss(self, x):
        return self.w * x


def recorded(fn, *args, **kwargs):
    f = compile(fn)
    f(*args, **kwargs)
    return f, f.program


def test_arguments_results_parameters_and_options_come_back(tmp_path):
    w, b = Value(0.1, label="weight ü"), Value(7)

    def fn(a, pair, items, flag, *, scale=1.0):
        total = where(a.sum() > 0, (w * a).sum(), b * pair.a) + items["k"][0] * items[3] + pair.b
        return {
            "value": total * scale,
            "whole": [a.shape[0], items[3] * 2, True, None, flag],
            "pair": Pair(total, -0.0),
            "array": np.array([total, total * 2]),
            "table": np.arange(4, dtype=np.int16).reshape(2, 2),
            "number": total.data / 3,
            "truth": total > 0,
            "scalar": np.float32(0.1),
            "bytes": b"\0\1",
            "complex": 1 + 2j,
            "nan": math.nan,
        }

    args = np.array([0.5, -1.5]), Pair(2.0, 1e-300), {"k": [0.1], 3: 4}, "on"
    f, program = recorded(fn, *args, scale=0.3)
    program.save(tmp_path / "p.txt")
    loaded = Program.load(tmp_path / "p.txt")
    assert loaded.text == program.text
    assert [(p.data, p.label) for p in loaded.parameters] == [(0.1, "weight ü"), (7, "")]
    for numbers in (args, (np.array([3.5, 1.5]), Pair(-2.0, 5.0), {"k": [-0.1], 3: -9}, "on")):
        assert repr(loaded(*numbers, scale=2.5)) == repr(f(*numbers, scale=2.5))
    assert type(loaded(*args, scale=1.0)["whole"][1]) is int
    w.data = 5.0
    loaded.parameters[0].data = 5.0
    assert repr(loaded(*args, scale=1.0)) == repr(f(*args, scale=1.0))
    loaded.save(tmp_path / "again.txt")
    assert "weight \\u00fc" in (tmp_path / "again.txt").read_text(encoding="utf-8")
    with pytest.raises(TypeError, match="recorded for"):
        loaded(*args)
    with pytest.raises(TypeError, match="one Value"):
        loaded.value_and_grad(*args, scale=1.0)


def test_gradients_of_a_loaded_program(tmp_path):
    w = Value(2.0)
    f, program = recorded(lambda x, y: (w * x).tanh() * y, 0.5, 2.0)
    program.save(tmp_path / "p.txt")
    loaded = Program.load(tmp_path / "p.txt")
    assert loaded.value_and_grad(0.25, 3.0) == f.value_and_grad(0.25, 3.0)
    assert loaded.value_and_grad(0.25, 3.0, argnums=1) == f.value_and_grad(0.25, 3.0, argnums=1)
    assert loaded.backward(0.25, 3.0) == f.backward(0.25, 3.0)
    assert loaded.parameters[0].grad == w.grad != 0
    with pytest.raises(TypeError, match="numbers, not Values"):
        loaded(Value(1.0), 2.0)


def test_guards_travel_along(tmp_path):
    _, program = recorded(lambda x: x * 2 if x > 1 else x, 3.0)
    program.save(tmp_path / "p.txt")
    loaded = Program.load(tmp_path / "p.txt")
    assert loaded(4.0) == 8.0
    with pytest.raises(ValueError, match=r"guard at .*x \* 2 if x > 1"):
        loaded(0.5)


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (lambda x, m: x * len(type(m).__name__), (1.0, Model)),
        (lambda x: {"a": x, ("b", 1): 2}, (1.0,)),
        (lambda x: [x, np.array(["2020-01-01"], dtype="datetime64[s]")], (1.0,)),
        (lambda x: type("L", (list,), {})([x]), (1.0,)),
    ],
)
def test_what_is_not_plain_data_is_refused_when_saving(tmp_path, fn, args):
    _, program = recorded(fn, *args)
    with pytest.raises(TypeError, match="cannot save"):
        program.save(tmp_path / "p.txt")
    assert not (tmp_path / "p.txt").exists()


def test_other_processes_load_files(tmp_path):
    f, program = recorded(lambda x: (x * 3).sin() / 7, 0.3)
    program.save(tmp_path / "p.txt")
    code = f"""
import sys; sys.path[:0] = {[p for p in sys.path if p]!r}
from tapegrad import Program
program = Program.load({str(tmp_path / "p.txt")!r})
print(repr(program(0.7)), repr(program.value_and_grad(0.7)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split(" ", 1) == [repr(f(0.7)), repr(f.value_and_grad(0.7)) + "\n"]


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    w = Value(0.5, label="w")
    _, program = recorded(lambda a, pair: [w * a[0] + pair.b, pair.a if a[1] > 0 else 0 * w], np.ones(2), Pair(1, 2.0))
    path = tmp_path_factory.mktemp("saved") / "p.txt"
    program.save(path)
    return path.read_bytes()


def load(tmp_path, data):
    (tmp_path / "bad.txt").write_bytes(data)
    return Program.load(tmp_path / "bad.txt")


def test_every_cut_and_every_changed_byte_is_found(content, tmp_path):
    assert load(tmp_path, content)(np.ones(2), Pair(1, 2.0)) == [2.5, 1]
    rng = random.Random(0)
    for end in range(0, len(content) - 1, 7):
        with pytest.raises(ValueError, match=r"bad\.txt|utf-8"):
            load(tmp_path, content[:end])
    for _ in range(400):
        data = bytearray(content)
        data[rng.randrange(len(data) - 1)] ^= 1 << rng.randrange(8)
        if bytes(data) != content:
            with pytest.raises(ValueError, match=r"bad\.txt|utf-8"):
                load(tmp_path, bytes(data))


def sealed(text):
    """The text with a checksum that fits: damage done on purpose."""
    body = text.encode("utf-8", "surrogatepass")
    return body + b"# sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def test_files_made_to_do_harm_are_refused_or_harmless(content, tmp_path):
    body = content.decode().rpartition("# sha256 ")[0]
    assert load(tmp_path, sealed(body)).nodes > 0
    rng = random.Random(1)
    pieces = ["0", "9" * 9, "9" * 30, "-1", "%0", "%99", "null", "[]", "{}", '"', "nan", "inf", " ", "\n", "[" * 3000]
    pieces += [
        '{"static":null}',
        '"float"',
        "linear",
        "sum",
        "detach",
        "select",
        "guard equals %0 1",
        "\ud800",
        "1e999",
    ]
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(600):
        text = body
        for _ in range(rng.randrange(1, 4)):
            at, length = rng.randrange(len(text)), rng.choice([0, 1, 1, 2, 5, 20])
            text = text[:at] + rng.choice([*pieces, text[rng.randrange(len(text)) :][:9]]) + text[at + length :]
        try:
            program = load(tmp_path, sealed(text))
        except ValueError:
            outcomes["refused"] += 1
            continue
        outcomes["loaded"] += 1
        assert "nodes" in str(program)
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            program(np.ones(2), Pair(1, 2.0))
    assert min(outcomes.values()) > 20, outcomes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"numbers":[2]', '"numbers":[3]'),
        ('"numbers":[2]', '"numbers":[-2]'),
        ('"numbers":[2]', '"numbers":[4294967296,4294967296]'),
        ('"numbers":[2]', '"numbers":[2.0]'),
        ('"float":true', '"float":1'),
        ('"named":["Pair","a","b"]', '"named":["Pair","a"]'),
        ('"named":["Pair","a","b"]', '"named":["Pair","a","__class__"]'),
        ('"named":["Pair","a","b"]', '"named":["import os","a","b"]'),
        ('"parameters":[', '"parameters":[["x","y"],'),
        ('"parameters":[', '"parameters":[[{"float":"0x1p+0"},""],'),
        ('"fastmath":false', '"fastmath":"no"'),
        ('"options"', '"choices"'),
        ("inputs 4", "inputs 5"),
        ("params 1", "params 2"),
        ("return", "return %0"),
        ("# tapegrad {", "# tapegrad ["),
        ("# tapegrad ", "# pickle "),
        ("tapegrad program 1", "tapegrad program 2"),
    ],
)
def test_each_part_of_a_file_is_checked(content, tmp_path, old, new):
    body = content.decode().rpartition("# sha256 ")[0]
    assert old in body
    with pytest.raises(ValueError, match=r"bad\.txt"):
        load(tmp_path, sealed(body.replace(old, new, 1)))


def test_loading_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    (tmp_path / "evil.txt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"evil\.txt|utf-8"):
        Program.load(tmp_path / "evil.txt")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError):
        Program.load(tmp_path / "missing.txt")


# ---- pickling and workers --------------------------------------------------------------------------------------------


def test_compiled_functions_are_pickled_by_name_or_by_function():
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    for f, expected in [
        (compile(plain, fastmath=True), 8.0),
        (grad(plain), 12.0),
        (vmap(plain), [8.0]),
        (vmap(grad(plain)), [12.0]),
    ]:
        back = pickle.loads(pickle.dumps(f))
        got = back(np.array([2.0])) if isinstance(expected, list) else back(2.0)
        assert np.array_equal(got, expected)
    assert pickle.loads(pickle.dumps(compile(plain, fastmath=True)))._owner.options["fastmath"]
    model = Model()
    model.loss(1.0)
    back = pickle.loads(pickle.dumps(model.loss))
    assert back(2.0) == 6.0
    again = pickle.loads(pickle.dumps(model))
    again.w.data = 5.0
    assert (again.loss(2.0), model.loss(2.0)) == (10.0, 6.0)


def test_process_pools():
    _, program = recorded(plain, 1.0)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(program, [1.0, 2.0, 3.0])) == [1.0, 8.0, 27.0]


def test_thread_pools():
    w = Value(2.0)
    f = compile(lambda x: w * x * x)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(f, [1.0, 2.0, 3.0])) == [2.0, 8.0, 18.0]
        assert [v for v, _ in pool.map(f.value_and_grad, [1.0, 2.0])] == [2.0, 8.0]


def test_joblib():
    joblib = pytest.importorskip("joblib")
    _, program = recorded(plain, 1.0)
    for backend in ("threading", "loky"):
        parallel = joblib.Parallel(n_jobs=2, backend=backend)
        assert parallel(joblib.delayed(program)(x) for x in (1.0, 2.0)) == [1.0, 8.0]
        assert parallel(joblib.delayed(program.value_and_grad)(x) for x in (1.0, 2.0)) == [(1.0, 3.0), (8.0, 12.0)]


def test_dask():
    dask = pytest.importorskip("dask")
    _, program = recorded(plain, 1.0)
    tasks = [dask.delayed(program)(x) for x in (1.0, 2.0)]
    assert dask.compute(*tasks, scheduler="threads") == (1.0, 8.0)
    assert dask.compute(*tasks, scheduler="processes", num_workers=2) == (1.0, 8.0)
