"""The client programs' own functions, decorated: values and gradients are those of eager code, and what cannot be
compiled says so."""
# ruff: noqa: NPY002 (the programs draw from NumPy's global generator)

from __future__ import annotations

import ast
import contextlib
import io
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapegrad
import tapegrad.micrograd as dialect

FOLDER = Path(__file__).parent / "programs"
Names = dict[str, Any]


@pytest.fixture
def names(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """What a client program leaves behind when it has run on tapegrad."""
    for name, module in (("", dialect), (".engine", dialect.engine), (".nn", dialect.nn)):
        monkeypatch.setitem(sys.modules, f"micrograd{name}", module)
    before = random.getstate(), np.random.get_state()
    path = FOLDER / f"{request.param}.py"
    found: Names = {"__name__": request.param, "__file__": str(path)}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(path.read_text(), path, "exec"), found)
    yield found
    random.setstate(before[0])
    np.random.set_state(before[1])


def program(name: str) -> Any:
    return pytest.mark.parametrize("names", [name], indirect=True)


def training_loss(names: Names) -> Callable[[], Any]:
    """The statements of the program's training loop up to `loss.backward()`, as a function that returns the loss."""
    path = Path(names["__file__"])
    tree = ast.parse(path.read_text(), path)
    for statement in tree.body:
        if not isinstance(statement, ast.For):
            continue
        for k, inner in enumerate(statement.body):
            if not (isinstance(inner, ast.Expr) and ast.unparse(inner).endswith(".backward()")):
                continue
            result = ast.unparse(inner).removesuffix(".backward()")
            code = ast.parse(f"def loss():\n    return {result}")
            function = code.body[0]
            assert isinstance(function, ast.FunctionDef)
            keep = [s for s in statement.body[:k] if "grad" not in ast.unparse(s)]
            function.body[:0] = keep
            exec(compile(code, path, "exec"), names)
            loss: Callable[[], Any] = names["loss"]
            return loss
    raise AssertionError(f"{path.name} has no training loop")


def close(x: Any, y: Any, relative: float) -> None:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    assert x.shape == y.shape
    assert np.isfinite(y).all()
    assert np.abs(x - y).max(initial=0.0) <= relative * max(np.abs(y).max(initial=0.0), 1e-300)


def as_values(x: Any) -> Any:
    return [as_values(item) for item in x] if isinstance(x, (list, tuple)) else dialect.engine.Value(x)


def flat(x: Any) -> list[Any]:
    return [v for item in x for v in flat(item)] if isinstance(x, (list, tuple)) else [x]


def agrees(fn: Callable[..., Any], params: list[Any], *args: Any, steps: int = 3) -> tapegrad.compiled.Program:
    """Compares the decorated function with the plain one, by parameters and by arguments, while the parameters move."""
    decorated = tapegrad.compile(fn)
    for _ in range(steps):
        values = [as_values(arg) for arg in args]
        for p in params:
            p.grad = 0
        out = fn(*values)
        out.backward()
        by_param, by_input = [p.grad for p in params], [v.grad for v in flat(values)]
        for p in params:
            p.grad = 0
        close(decorated(*args), out.data, 1e-12)
        close(decorated.backward(*args), out.data, 1e-12)
        close([p.grad for p in params], by_param, 1e-11)
        if args:
            value, gradients = decorated.value_and_grad(*args)
            close(value, out.data, 1e-12)
            close(flat(gradients), by_input, 1e-11)
        for p, grad in zip(params, by_param, strict=True):
            p.data -= 1e-3 * grad
    assert len(decorated.cache_info()) == 1
    return decorated.program


def refuses(fn: Callable[..., Any], *args: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        tapegrad.compile(fn)(*args)


RULE = "_backward"


@program("line_fit")
def test_line_fit(names: Names) -> None:
    agrees(training_loss(names), [names["slope"], names["intercept"]])


@program("polynomial")
def test_polynomial(names: Names) -> None:
    loss = training_loss(names)
    for names["step"] in (0, 1):  # by powers, and by Horner's rule
        agrees(loss, names["poly"].c)
    horner = tapegrad.compile(names["poly"].horner)
    powers = tapegrad.compile(
        lambda x: sum((c * x**k for k, c in enumerate(names["poly"].c[1:], 1)), names["poly"].c[0])
    )
    for x in (-1.0, 0.25, 1.5):
        close(horner(x), names["poly"].horner(x).data, 1e-12)
        close(powers(x), names["poly"].powers(x).data, 1e-12)


@program("logistic_numpy")
def test_logistic_numpy(names: Names) -> None:
    X, y, w, b = (names[name] for name in ("X", "y", "w", "b"))

    def loss() -> Any:
        losses = []
        for xi, yi in zip(X, y, strict=True):
            p = names["sigmoid"](xi[0] * w[0] + xi[1] * w[1] + b)
            losses.append(names["neg_log"](p if yi else 1 - p) + np.float64(1e-3) * (w[0] * w[0] + w[1] ** 2))
        return sum(losses) / np.float64(len(losses))

    refuses(loss, match=RULE)
    names["sigmoid"], names["neg_log"] = (lambda v: v.sigmoid()), (lambda v: -v.log())
    assert agrees(loss, [*w, b]).found


@program("xor")
def test_xor(names: Names) -> None:
    agrees(training_loss(names), names["model"].parameters())


@program("moons")
def test_moons(names: Names) -> None:
    found = agrees(lambda: names["loss"]()[0], names["model"].parameters()).found
    assert found[0].startswith("24 repeats")
    decorated = tapegrad.compile(names["loss"])  # the accuracy too, by guards
    total, accuracy = names["loss"]()
    close(decorated()[0], total.data, 1e-12)
    assert decorated()[1] == accuracy


@program("moons")
def test_moons_in_mini_batches(names: Names) -> None:
    decorated = tapegrad.compile(lambda: names["loss"](16))  # draws a permutation at each call, as it did before
    for seed in range(3):
        np.random.seed(seed)
        total, accuracy = names["loss"](16)
        np.random.seed(seed)
        value, share = decorated()
        close(value, total.data, 1e-12)
        assert share == accuracy
    with pytest.raises(TypeError, match="slice indices"):
        tapegrad.compile(names["loss"])(16)  # an argument is a Value, which is no size of a batch


@program("char_rnn")
def test_char_rnn(names: Names) -> None:
    loss = training_loss(names)
    refuses(loss, match=RULE)
    names.update(tanh=lambda v: v.tanh(), exp=lambda v: v.exp(), log=lambda v: v.log())
    program = agrees(loss, names["params"])
    assert any("carried on from repeat to repeat" in words or "recurrence" in words for words in program.near_misses)


@program("containers")
def test_containers(names: Names) -> None:
    w, M, x = names["w"], names["M"], names["x"]
    w = np.array([dialect.engine.Value(v.data) for v in w])
    agrees(lambda: (w * x).sum() + np.dot(w, x), list(w))
    agrees(lambda: (M @ w).sum() * 0.5 + M.sum(axis=0)[1], [*w, *M.ravel()])
    a, b, c = (dialect.engine.Value(v) for v in (1.0, 1.5, 2.5))
    agrees(lambda: sum([a, b, c], dialect.engine.Value(10)) + a**-1 - b / c + 2 / c + (a - c).relu(), [a, b, c])
    keyed = {a: 2.0, b: -1.0, c: 0.5}
    agrees(lambda: sum(v * k for v, k in keyed.items()), [a, b, c])


@program("custom_ops")
def test_custom_ops(names: Names) -> None:
    loss = training_loss(names)
    refuses(loss, match=RULE)
    names.update(exp=lambda v: v.exp(), log=lambda v: v.log(), maximum=tapegrad.maximum, clamp=tapegrad.clip)
    assert agrees(loss, names["model"].parameters()).found[0].startswith("24 repeats")


@program("drawing")
def test_drawing(names: Names) -> None:
    a, b, n = dialect.engine.Value(-4.0), dialect.engine.Value(2.0), names["n"]
    agrees(lambda: (a + b) * (a - b) / b**3, [a, b])
    agrees(lambda x, y: n([x, y]), n.parameters(), 1.0, -2.0)
    decorated = tapegrad.compile(lambda x: (x * a + b).relu())
    decorated(1.0)
    nodes, edges = names["trace"](decorated.program.graph())
    assert (len(nodes), len(edges)) == (6, 5)


@program("early_stopping")
def test_early_stopping(names: Names) -> None:
    model, tied = names["model"], names["tied"]
    for p, q in zip(model.parameters(), names["best"].parameters(), strict=True):
        p.data = q.data
    agrees(lambda: names["error"](model, names["train"]), model.parameters())
    agrees(lambda x, y: tied([x, y]), tied.parameters(), 1.0, 0.5)


@program("gradcheck")
def test_gradcheck(names: Names) -> None:
    random.seed(5)
    for _ in range(25):
        f, _ = names["grow"](random.randrange(2, 5))
        point = [random.uniform(-2, 2) for _ in range(3)]
        if isinstance(f(as_values(point)), dialect.engine.Value):
            agrees(f, [], point, steps=1)


@program("manual_backprop")
def test_manual_backprop(names: Names) -> None:
    agrees(lambda a, b, c: names["f"](a, b, c)[0], [], 2.0, -3.0, 10.0)
    refuses(lambda a, b, c: names["f"](a, b, c)[0].backward(), 2.0, -3.0, 10.0, match="inside a compiled function")
    all_of_them = tapegrad.compile(names["f"])
    assert all_of_them(2.0, -3.0, 10.0) == (8.0, (-6.0, 4.0, 4.0))


@program("optimisers")
def test_optimisers(names: Names) -> None:
    rosenbrock = names["rosenbrock"]
    agrees(rosenbrock, [], -1.2, 1.0)
    for kind, rate in ((names["Momentum"], 2e-4), (names["RMSProp"], 1e-2), (names["Adam"], 5e-2)):
        ends = []
        for decorated in (False, True):
            x, y = dialect.engine.Value(-1.2), dialect.engine.Value(1.0)
            optimiser = kind([x, y], rate)
            compiled = tapegrad.compile(lambda x=x, y=y: rosenbrock(x, y))
            for _ in range(60):
                optimiser.zero_grad()
                compiled.backward() if decorated else rosenbrock(x, y).backward()
                optimiser.step()  # keeps its state on the Values that the function reads
            ends.append([x.data, y.data])
            assert len(compiled.cache_info()) == decorated
        close(*ends, 1e-11)


@program("pendulum")
def test_pendulum(names: Names) -> None:
    agrees(training_loss(names), [names["vx"], names["vy"]])
    throw, vector = names["throw"], names["Vector"]
    agrees(lambda x, y: throw(vector(x, y)).norm2(), [], 3.0, 4.0)


@program("subclasses")
def test_subclasses(names: Names) -> None:
    a, b, s, n, model = (names[name] for name in ("a", "b", "s", "n", "model"))
    agrees(lambda: a * b + a / 2 - b**2, [a, b])
    agrees(lambda: s * 2 + names["Slotted"](1.5), [s])
    agrees(lambda x: model(x) + model(-x), model.parameters(), 3.0)
    agrees(lambda: n * n + 1 - n, [n])


@program("soft_clusters")
def test_soft_clusters(names: Names) -> None:
    centres = flat(names["centres"])
    for v in centres:
        v.data += 0.25
    assert agrees(names["spread"], centres).found[0].startswith("41 repeats")


@program("markov")
def test_markov(names: Names) -> None:
    agrees(training_loss(names), names["params"])
    agrees(lambda: names["surprise"]([1, 0, 1, 1]), names["params"])


@program("factorisation")
def test_factorisation(names: Names) -> None:
    for p in names["params"]:
        p.data += 0.1
    agrees(training_loss(names), names["params"])


@program("springs")
def test_springs(names: Names) -> None:
    agrees(training_loss(names), names["params"])


PATCHED = """
import contextlib, io, sys
import tapegrad, tapegrad.micrograd as dialect
for name, module in (("", dialect), (".engine", dialect.engine), (".nn", dialect.nn)):
    sys.modules["micrograd" + name] = module
names = {"__name__": "patching"}
with contextlib.redirect_stdout(io.StringIO()):
    exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), names)
Value, add, mul = names["Value"], names["add"], names["mul"]
a, b = Value(2.0), Value(3.0)
try:
    tapegrad.compile(lambda x: (x * a).sin())(0.5)
except (TypeError, ValueError) as refused:
    print("_backward" in str(refused))

def f(x):
    return a * x + sum([x, b]) / x - x**3 + (x.item > 1 and Value.scale) * x

def both():
    decorated = tapegrad.compile(f)
    for at in (1.5, 2.5, 0.5):
        x = Value(at)
        out = f(x)
        out.backward()
        value, gradient = decorated.value_and_grad(at)
        print(abs(value - out.data) <= 1e-12 * abs(out.data), abs(gradient - x.grad) <= 1e-11 * abs(x.grad))
    return decorated

decorated = both()
Value.__mul__, Value.__add__ = mul, add  # operators of the program's own, which count
names["calls"].clear()
both()
print(len(names["calls"]) > 10)
"""


def test_patching() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PATCHED, str(FOLDER / "patching.py")], capture_output=True, text=True, timeout=300
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert set(done.stdout.split()) == {"True"}
    assert len(done.stdout.split()) == 14


def test_every_program_is_here() -> None:
    programs = {path.stem for path in FOLDER.glob("*.py")}
    assert len(programs) >= 20
    assert {f"test_{name}" for name in programs} <= set(globals())
