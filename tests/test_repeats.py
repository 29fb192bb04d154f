"""Repeated blocks in compiled functions: whatever loop is recorded, values and gradients are those of eager code."""

import itertools
import math
import pickle
import random
import threading

import numpy as np
import pytest

import tapegrad
from tapegrad import Value
from tapegrad.compiled import PASSES, Program

RELATIVE_VALUE, RELATIVE_GRADIENT = 1e-12, 1e-11


def as_values(x):
    if isinstance(x, np.ndarray):
        values = np.empty(x.shape, dtype=object)
        for index in np.ndindex(x.shape):
            values[index] = Value(float(x[index]))
        return values
    if isinstance(x, (list, tuple)):
        return [as_values(item) for item in x]
    return Value(x)


def flat_grads(x):
    if isinstance(x, Value):
        return [x.grad]
    return [g for item in x for g in flat_grads(item)]


def eager(fn, params, args):
    for p in params:
        p.grad = 0.0
    values = [as_values(arg) for arg in args]
    out = fn(*values)
    out.backward()
    return out.data, [p.grad for p in params], [g for v in values for g in flat_grads(v)]


def close(x, y, relative):
    scale = max((abs(v) for v in y), default=0.0) or 1.0
    assert len(x) == len(y)
    assert all(abs(a - b) <= relative * scale for a, b in zip(x, y, strict=True))


def agrees(fn, params, *args, **options):
    """Compares a compiled function with eager code in all three ways, twice; returns the function."""
    f = tapegrad.compile(fn, **options)
    for _ in range(2):
        value, by_param, by_input = eager(fn, params, args)
        for p in params:
            p.grad = 0.5
        close([f(*args)], [value], RELATIVE_VALUE)
        close([f.backward(*args)], [value], RELATIVE_VALUE)
        close([p.grad - 0.5 for p in params], by_param, RELATIVE_GRADIENT)
        if args:
            seen, gradients = f.value_and_grad(*args)
            close([seen], [value], RELATIVE_VALUE)
            parts = [gradients] if len(args) == 1 else gradients
            close([g for part in parts for g in np.ravel(np.array(part, dtype=float))], by_input, RELATIVE_GRADIENT)
        for p in params:
            p.data = p.data * 0.9 + 0.01
        args = tuple(np.asarray(arg) * 0.75 if isinstance(arg, np.ndarray) else arg for arg in args)
    assert len(f.cache_info()) == 1
    return f


def weights(rng, *shape):
    if not shape:
        return Value(rng.gauss(0, 0.5))
    return [weights(rng, *shape[1:]) for _ in range(shape[0])]


def flatten(x):
    return [x] if isinstance(x, Value) else [v for item in x for v in flatten(item)]


def rows(rng, *shape):
    return np.array([rng.gauss(0, 1) for _ in range(math.prod(shape))]).reshape(shape)


def lanes_of(f):
    return [int(words.split()[0]) for words in f.program._core.repeats]


# ---- loops as learners write them
# ----------------------------------------------------------------------------------------------------


def test_a_loss_over_the_rows_of_an_array():
    rng = random.Random(0)
    w, b = weights(rng, 7, 3), weights(rng, 7)
    v = weights(rng, 7)

    def loss(X, y):
        total = 0
        for x, t in zip(X, y, strict=True):
            hidden = [
                sum((wi * xi for wi, xi in zip(row, x, strict=True)), bi).tanh() for row, bi in zip(w, b, strict=True)
            ]
            total = total + (sum(a * h for a, h in zip(v, hidden, strict=True)) - t) ** 2
        return total / len(y)

    f = agrees(loss, flatten([w, b, v]), rows(rng, 50, 3), rows(rng, 50))
    assert f.program.found[0] == "50 repeats of a block of 66 nodes, run as 50 lanes"
    assert "found: 50 repeats" in str(f.program)


@pytest.mark.parametrize("ahead", [True, False])
def test_scores_first_then_losses_then_their_sum(ahead):
    rng = random.Random(31)
    net = tapegrad.MLP(2, [8, 1])
    X, y = rows(rng, 24, 2).tolist(), [rng.choice([-1, 1]) for _ in range(24)]

    def loss():
        scores = list(map(net, X))
        if ahead:
            sum((t > 0) == (s.data > 0) for t, s in zip(y, scores, strict=True))  # the accuracy, by guards
        losses = [(1 + -t * s).relu() for t, s in zip(y, scores, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in net.parameters())

    f = tapegrad.compile(loss)
    value, by_param, _ = eager(loss, net.parameters(), ())
    for p in net.parameters():
        p.grad = 0.0
    close([f.backward()], [value], RELATIVE_VALUE)
    close([p.grad for p in net.parameters()], by_param, RELATIVE_GRADIENT)
    assert lanes_of(f) == [24]
    assert f.program.near_misses == []


@pytest.mark.parametrize("ahead", [True, False])
def test_lists_of_lists_closed_over_and_passed(ahead):
    rng = random.Random(1)
    w, b = weights(rng, 5), weights(rng)
    X, y = rows(rng, 60, 5).tolist(), rows(rng, 60).tolist()

    def over(X, y):
        losses = [
            (sum((wi * xi for wi, xi in zip(w, x, strict=True)), b).tanh() - t) ** 2 for x, t in zip(X, y, strict=True)
        ]
        return sum(losses) / len(losses) + 0.01 * sum(p * p for p in w)

    f = agrees(over, [*w, b], X, y) if ahead else agrees(lambda: over(X, y), [*w, b])
    assert lanes_of(f) == [60]


def test_labels_pick_a_value_of_the_block():
    rng = random.Random(2)
    w = weights(rng, 4, 6)
    X, labels = rows(rng, 80, 6), [rng.randrange(4) for _ in range(80)]

    def loss(X):
        losses = []
        for x, label in zip(X, labels, strict=True):
            scores = [sum(a * c for a, c in zip(row, x, strict=True)) for row in w]
            top = max(s.data for s in scores)
            parts = [(s - top).exp() for s in scores]
            losses.append(-(parts[label] / sum(parts)).log())
        return sum(losses) / len(losses)

    assert lanes_of(agrees(loss, flatten(w), X)) == [80]


def test_branches_on_labels_make_two_bodies():
    rng = random.Random(3)
    w = weights(rng, 12)
    X, labels = rows(rng, 200, 12).tolist(), [rng.random() < 0.5 for _ in range(200)]

    def loss():
        total = Value(0.0)
        for x, positive in zip(X, labels, strict=True):
            p = sum(a * c for a, c in zip(w, x, strict=True)).sigmoid()
            total = total + (-p.log() if positive else -((1 - p) * 1.5).log())
        return total / len(X)

    assert sorted(lanes_of(agrees(loss, w))) == sorted([sum(labels), 200 - sum(labels)])


def test_sequences_of_a_batch_are_the_lanes_of_a_recurrent_network():
    rng = random.Random(4)
    into, state, out = weights(rng, 4), weights(rng, 4, 4), weights(rng, 4)

    def loss(batch):
        total = 0.0
        for sequence in batch:
            h = [0.0] * 4
            for x, target in itertools.pairwise(sequence):
                h = [
                    (a * x + sum(c * d for c, d in zip(row, h, strict=True))).tanh()
                    for a, row in zip(into, state, strict=True)
                ]
                total = total + (sum(a * d for a, d in zip(out, h, strict=True)) - target) ** 2
        return total / batch.size

    f = agrees(loss, flatten([into, state, out]), rows(rng, 30, 8))
    assert lanes_of(f) == [30]
    assert f.program.near_misses == []


def test_one_long_sequence_keeps_its_order():
    rng = random.Random(5)
    embedding, state, out = weights(rng, 6, 5), weights(rng, 5, 5), weights(rng, 6, 5)
    text = [rng.randrange(6) for _ in range(80)]

    def loss():
        h, losses = [Value(0.0)] * 5, []
        for now, then in itertools.pairwise(text):
            h = [
                (e + sum(a * c for a, c in zip(row, h, strict=True))).tanh()
                for e, row in zip(embedding[now], state, strict=True)
            ]
            parts = [sum(a * c for a, c in zip(row, h, strict=True)).exp() for row in out]
            losses.append(-(parts[then] / sum(parts)).log())
        return sum(losses) / len(losses)

    f = agrees(loss, flatten([embedding, state, out]))
    assert lanes_of(f)
    assert any("carried on from repeat to repeat" in words for words in f.program.near_misses)


def test_monte_carlo():
    rng = random.Random(6)
    spot, volatility, rate = Value(1.0), Value(0.3), Value(0.05)
    paths = [[rng.gauss(0, 1) for _ in range(12)] for _ in range(150)]

    def price():
        total = 0.0
        for path in paths:
            s = spot
            for z in path:
                s = s * ((rate - volatility * volatility * 0.5) / 12 + volatility * z * 12**-0.5).exp()
            total += (s - 1.05).relu()
        return total / len(paths) * (-rate).exp()

    assert lanes_of(agrees(price, [spot, volatility, rate])) == [150]


def test_values_used_after_the_loop():
    rng = random.Random(7)
    w = weights(rng, 6)

    def loss(X):
        scores = [sum(a * c for a, c in zip(w, x, strict=True)).tanh() for x in X]
        mean = sum(scores) / len(scores)
        spread = (sum((s - mean) ** 2 for s in scores) / len(scores) + 1e-3).sqrt()
        normal = [(s - mean) / spread for s in scores]
        best = normal[0]
        for s in normal[1:]:
            best = tapegrad.maximum(best, s)
        return sum((n.sigmoid() - 0.3) ** 2 for n in normal) + best * normal[5] + (scores[0] * scores[-1]).exp()

    f = agrees(loss, w, rows(rng, 120, 6))
    assert lanes_of(f)


def test_first_and_last_repeats_that_differ():
    rng = random.Random(8)
    w = weights(rng, 4)

    def loss(X):
        total = (w[0] * X[0][0]).sin()
        for i, x in enumerate(X):
            term = sum(a * c for a, c in zip(w, x, strict=True)).tanh() * (x[0] + 2.0)
            if i == len(X) - 1:
                term = term * w[1] + term.exp()
            total = total + term
        return total

    f = agrees(loss, w, rows(rng, 140, 4))
    assert lanes_of(f) == [139]
    assert any("repeat 141 is computed by itself" in words for words in f.program.near_misses)


def test_loops_inside_loops():
    rng = random.Random(9)
    w, v = weights(rng, 3), weights(rng, 10)

    def loss(batches):
        total = 0.0
        for batch in batches:
            inner = 0.0
            for x in batch:
                inner = inner + (sum(a * c for a, c in zip(w, x, strict=True))).tanh()
            total = total + (inner / len(batch) - 0.1) ** 2
        return total + sum(a * a for a in v)

    for shape in ((20, 10, 3), (10, 10, 3), (3, 60, 3), (60, 3, 3)):
        assert lanes_of(agrees(loss, w + v, rows(rng, *shape))), shape


def test_products_and_results_that_are_lists():
    rng = random.Random(10)
    w = weights(rng, 5)
    X = rows(rng, 90, 5)

    def likelihood(X):
        p = 1.0
        for x in X:
            p = p * (0.9 + 0.2 * (sum(a * c for a, c in zip(w, x, strict=True)).tanh() + 0.5).sigmoid())
        return p

    assert lanes_of(agrees(likelihood, w, X)) == [90]

    def scores(X):
        return [(sum(a * c for a, c in zip(w, x, strict=True)).tanh() * 2).exp() for x in X]

    f = tapegrad.compile(scores)
    close(f(X), [s.data for s in scores(as_values(X))], RELATIVE_VALUE)
    assert lanes_of(f) == [90]


def test_pairs_of_parameters():
    rng = random.Random(11)
    points = weights(rng, 30, 2)

    def energy():
        pairs = itertools.combinations(points, 2)
        return sum(1 / ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + 0.1).sqrt() for a, b in pairs)

    assert lanes_of(agrees(energy, flatten(points))) == [435]


def test_parameters_in_and_outside_the_loop_and_shared_subexpressions():
    rng = random.Random(12)
    a, b, c = weights(rng, 3)

    def loss(X):
        gain = (a * b).exp()
        total = gain * 0.5
        for x in X:
            total = total + (gain * x[0] + c * x[1] + a).tanh() * (b * b).sigmoid()
        return total * c + (a - b) ** 2 * gain

    assert lanes_of(agrees(loss, [a, b, c], rows(rng, 100, 2))) == [100]


def test_where_detach_and_custom_gradients_inside():
    rng = random.Random(13)
    w, b = weights(rng, 3), weights(rng)

    def clipped(x):
        return Value(x.data * 2.0, (x,), (x.data * 0.0 + 2.0,))

    def loss(X):
        total = 0.0
        for x in X:
            s = sum(a * c for a, c in zip(w, x, strict=True)) + b
            r = tapegrad.where(s > 0.0, s * 0.5, s.exp() - 1.0)
            total = total + clipped(r.tanh()) * (s.data + 1.0) + (r - s.data) ** 2
        return total

    f = tapegrad.compile(loss)
    X = rows(rng, 64, 3)
    values = as_values(X)

    def plain(X):  # the same, with what the recording keeps of .data: a number without gradient
        total = 0.0
        for x in X:
            s = sum(a * c for a, c in zip(w, x, strict=True)) + b
            r = s * 0.5 if s.data > 0 else s.exp() - 1.0
            t = r.tanh()
            total = total + Value(t.data * 2.0, (t,), (2.0,)) * (s.data + 1.0) + (r - s.data) ** 2
        return total

    out = plain(values)
    for p in [*w, b]:
        p.grad = 0.0
    out.backward()
    value, gradients = f.value_and_grad(X)
    close([value], [out.data], RELATIVE_VALUE)
    close(np.ravel(gradients), flat_grads(values), RELATIVE_GRADIENT)
    assert lanes_of(f) == [64]


# ---- guards
# ----------------------------------------------------------------------------------------------------


def test_a_guard_that_fails_in_one_repeat_records_anew():
    rng = random.Random(14)
    w = weights(rng, 3)

    def loss(X):
        total = 0.0
        for x in X:
            s = sum(a * c for a, c in zip(w, x, strict=True))
            total = total + (s.tanh() * 2.0 if s.data > 0 else (s * 0.1).exp())
        return total

    f = tapegrad.compile(loss)
    X = rows(rng, 60, 3)
    for k in range(6):
        X = rows(rng, 60, 3) if k < 3 else X * np.where(rows(rng, 60, 1) > 1.6, -1.0, 1.0)
        value, by_param, _ = eager(loss, w, (X,))
        for p in w:
            p.grad = 0.0
        close([f.backward(X)], [value], RELATIVE_VALUE)
        close([p.grad for p in w], by_param, RELATIVE_GRADIENT)
        close([f(X)], [value], RELATIVE_VALUE)
    assert len(f.cache_info()) > 1


def test_a_failed_guard_changes_no_gradient():
    w = Value(0.5)

    def loss(X):
        total = 0.0
        for x in X:
            s = (w * x).tanh()
            total = total + s.exp() * s.sin() * s
            if s.data > 0.7:
                raise ArithmeticError("too large")
        return total

    f = tapegrad.compile(loss)
    X = np.linspace(-1, 1, 80)
    f.backward(X)
    assert lanes_of(f) == [80]
    before = w.grad
    X[40] = 5.0
    with pytest.raises(ArithmeticError, match="too large"):
        f.backward(X)
    assert w.grad == before


# ---- near misses, planted
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", ["operation", "operand", "constant", "missing", "exponent", "parameter", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_planted_near_misses(mutation, seed):
    rng = random.Random(seed)
    w = weights(rng, 6)
    steps = [(rng.randrange(5), rng.randrange(6), rng.randrange(12)) for _ in range(25)]
    odd, where = rng.randrange(50), rng.randrange(3, 22)

    def block(x, here):
        values = [x[0], x[1]]
        for k, (kind, which, back) in enumerate(steps):
            a, b = values[-1], values[-1 - back % len(values)]
            now = here and k == where
            if now and mutation == "missing":
                continue
            if now and mutation == "operation":
                kind = (kind + 1) % 5
            if now and mutation == "operand":
                a = values[0]
            if now and mutation == "parameter":
                which = (which + 1) % 6
            constant = 0.375 if now and mutation == "constant" else 0.5
            if kind == 0:
                values.append((a + b * constant).tanh())
            elif kind == 1:
                values.append(a.sin() * w[which])
            elif kind == 2:
                values.append((a * constant).sigmoid() - b)
            elif kind == 3:
                values.append(a.tanh() ** (3 if now and mutation == "exponent" else 2) + constant)
            else:
                values.append(a.relu() + w[which] * b.tanh())
        return values[-1].tanh() * values[-2].sin()

    def loss(X):
        total = 0.0
        for k, x in enumerate(X):
            total = total + block(x, k == odd)
        return total / len(X)

    f = agrees(loss, w, rows(rng, 50, 2))
    assert sum(lanes_of(f)) >= 49


@pytest.mark.parametrize("off", [(name,) for name in PASSES], ids=str)
def test_each_pass_can_be_left_out(off):
    rng = random.Random(15)
    w, b = weights(rng, 4, 3), weights(rng, 4)

    def loss(X):
        total = 0.0
        for x in X:
            h = [(sum(a * c for a, c in zip(row, x, strict=True)) + d).tanh() for row, d in zip(w, b, strict=True)]
            total = total + (h[0] * h[1] + h[2] * h[3] + (b[0] * b[1]).exp()) ** 2
        return (total / len(X) + 1e-3).log()

    f = agrees(loss, flatten([w, b]), rows(rng, 40, 3), disable=off)
    assert lanes_of(f) == ([] if off == ("repeats",) else [40])


def test_without_repeats_the_bits_are_those_of_eager_code():
    rng = random.Random(16)
    w = weights(rng, 3)

    def loss(X):
        return sum(sum(a * c for a, c in zip(w, x, strict=True)).tanh() for x in X)

    X = rows(rng, 100, 3)
    value, by_param, _ = eager(loss, w, (X,))
    f = tapegrad.compile(loss, disable=("repeats",))
    for p in w:
        p.grad = 0.0
    assert f.backward(X) == value
    assert [p.grad for p in w] == by_param


# ---- with the rest of compiled functions
# ----------------------------------------------------------------------------------------------------


def moving_average(w):
    def loss(X):
        return sum((sum(a * c for a, c in zip(w, x, strict=True)).tanh() * x[0]).exp() for x in X) / len(X)

    return loss


def test_check_raises_as_eager_code_does():
    w = Value(1.0)
    f = tapegrad.compile(lambda X: sum((w * x).log() * 2.0 for x in X), check=True)
    assert math.isfinite(f(np.linspace(1, 2, 300)))
    with pytest.raises(ValueError, match="log"):
        f(np.linspace(-1, 2, 300))


def test_nan_and_infinity_reach_only_their_own():
    w = Value(1.0)
    f = tapegrad.compile(lambda X: sum((w * x).log().tanh() * x for x in X))
    X = np.linspace(1, 2, 300)
    f(X)
    X[7] = 0.0
    value, gradients = f.value_and_grad(X)
    assert math.isfinite(value)
    X[7] = -1.0
    value, gradients = f.value_and_grad(X)
    assert math.isnan(value)
    assert [k for k, g in enumerate(gradients) if math.isnan(g)] == [7]


def test_programs_with_repeats_are_saved_and_pickled(tmp_path):
    rng = random.Random(17)
    w = weights(rng, 3)
    f = tapegrad.compile(moving_average(w))
    X = rows(rng, 60, 3)
    value = f(X)
    f.program.save(tmp_path / "program.txt")
    for program in (pickle.loads(pickle.dumps(f.program)), Program.load(tmp_path / "program.txt")):
        assert program(X) == value
        assert program.found == f.program.found
        assert f.program.found


def test_vmap_over_a_function_with_a_loop():
    rng = random.Random(18)
    w = weights(rng, 3)
    f = tapegrad.compile(moving_average(w))
    many = rows(rng, 9, 40, 3)
    close(tapegrad.vmap(f)(many), [f(X) for X in many], RELATIVE_VALUE)


def test_threads_get_the_same_numbers():
    rng = random.Random(19)
    w = weights(rng, 3)
    f = tapegrad.compile(moving_average(w))
    batches = [rows(rng, 400, 3) for _ in range(4)]
    expected = [f.value_and_grad(X) for X in batches]
    wrong = []

    def work(k):
        for _ in range(20):
            value, gradients = f.value_and_grad(batches[k])
            if value != expected[k][0] or not np.array_equal(gradients, expected[k][1]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_parameters_that_were_computed_pass_their_gradients_on():
    X = np.linspace(-1, 1, 200)
    grads = []
    for compiled in (True, False):
        a, b = Value(0.5), Value(-0.25)
        w = a * b + a
        f = tapegrad.compile(lambda X, w=w: sum((w * x).tanh().exp() * x for x in X))
        if compiled:
            f.backward(X)
            assert lanes_of(f) == [200]
        else:
            f.__wrapped__(as_values(X)).backward()
        grads.append([a.grad, b.grad])
    close(*grads, RELATIVE_GRADIENT)


def test_new_data_of_the_same_shape_records_nothing():
    rng = random.Random(20)
    f = tapegrad.compile(moving_average(weights(rng, 3)))
    for _ in range(5):
        f.backward(rows(rng, 50, 3))
    assert [(info.nodes, info.calls) for info in f.cache_info()] == [(f.program.nodes, 5)]


def test_a_program_without_repeats_tells_of_none():
    a, b = Value(2.0), Value(3.0)
    f = tapegrad.compile(lambda x: (a * x + b).tanh())
    f(1.0)
    assert f.program.found == []
    assert f.program.near_misses == []


@pytest.mark.parametrize("seed", range(12))
def test_random_loops(seed):
    rng = random.Random(100 + seed)
    w = weights(rng, 5)
    count, width, inner = rng.randrange(12, 90), rng.randrange(1, 4), rng.choice([1, 1, 2, 5])
    constants = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(count)]
    picks = [rng.randrange(5) for _ in range(count)]
    carried, leaked, nested = rng.random() < 0.3, rng.random() < 0.5, rng.random() < 0.5

    def loss(X):
        shared = (w[0] * w[1]).sin()
        state = shared
        losses, kept = [], []
        for x, c, k in zip(X, constants, picks, strict=True):
            v = shared * c[0]
            for step in range(inner):
                v = (v * w[2] + x[step % width] * w[k] + c[1] * (step + 1)).tanh()
            if carried:
                state = (state * 0.5 + v * w[3]).tanh()
                v = v + state
            if nested:
                v = v + sum((w[j] * v + j).sigmoid() for j in range(4))
            kept.append(v)
            losses.append((v - c[2]) ** 2)
        out = sum(losses) / len(losses)
        if leaked:
            out = out + kept[0] * kept[-1] + sum(k * k for k in kept[::3]).log()
        return out

    agrees(loss, w, rows(rng, count, width))
