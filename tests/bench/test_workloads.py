"""Every workload on every installed engine: equal to 1e-9, right by an oracle that is no engine, as large as said."""

import math

import numpy as np
import pytest

import tapegrad
from tapegrad.bench.contestants import gather
from tapegrad.bench.engines import ENGINES
from tapegrad.bench.engines.base import Parameter
from tapegrad.bench.engines.floats import FloatAdapter
from tapegrad.bench.equality import difference
from tapegrad.bench.workloads import WORKLOADS
from tapegrad.bench.workloads.base import Case
from tapegrad.bench.workloads.chain import CHAIN, START
from tapegrad.bench.workloads.gpt import GPT, MATRICES, NAMES, Adam, encode, initial_weights
from tapegrad.bench.workloads.greeks import black_scholes, options
from tapegrad.bench.workloads.layers import LAYERS
from tapegrad.bench.workloads.moons import MOONS
from tapegrad.bench.workloads.size import SIZE
from tapegrad.bench.workloads.west import WEST

# A dependency's own warnings, which are not ours to fix, are not errors here.
pytestmark = pytest.mark.filterwarnings("default")

BY_NAME = {workload.name: workload for workload in WORKLOADS}


@pytest.fixture(scope="module")
def adapters():
    """Every engine that is installed, imported once."""
    found = {}
    for engine in ENGINES:
        try:
            found[engine.name] = engine.load()
        except ModuleNotFoundError:
            continue
    return found


def outcome(workload, adapter, size, steps=3):
    form = workload.form_for(adapter)
    prepared = workload.prepare(adapter, form, Case("test", size))
    for _ in range(steps):
        prepared.step()
    return prepared.outcome()


def players(workload, adapters):
    for engine in ENGINES:
        stays_out = (workload.engines and engine.name not in workload.engines) or workload.name in engine.never
        if engine.name in adapters and not stays_out and (not engine.only or workload.name in engine.only):
            adapter = adapters[engine.name]
            if workload.form_for(adapter) and not (workload.changes and adapter.replays and not adapter.keeps_programs):
                yield engine.name, adapter


@pytest.mark.parametrize("name", BY_NAME)
def test_results_are_equal_across_engines(name, adapters):
    workload = BY_NAME[name]
    outcomes = {
        engine: outcome(workload, adapter, workload.check_size) for engine, adapter in players(workload, adapters)
    }
    reference = "tapegrad.reference" if "tapegrad.reference" in outcomes else next(iter(outcomes))
    for engine, found in outcomes.items():
        assert difference(engine, found, reference, outcomes[reference]) is None


@pytest.mark.parametrize("name", [w.name for w in WORKLOADS if w.name != "layers-relu"])
def test_tapegrad_and_another_engine_take_part(name, adapters):
    names = [engine for engine, _ in players(BY_NAME[name], adapters)]
    assert "tapegrad" in names
    assert names == ["tapegrad"] if name == "size" else len(names) > 1


def test_chain_by_its_closed_form(adapters):
    """s_n = b^n s + a (b^n - 1) / (b - 1) and its three derivatives."""
    s, b, a = START
    n = 500
    found = outcome(CHAIN, adapters["tapegrad"], 2 * n)
    geometric = (b**n - 1) / (b - 1)
    d_geometric = (n * b ** (n - 1) * (b - 1) - (b**n - 1)) / (b - 1) ** 2
    assert found.values == pytest.approx([b**n * s + a * geometric], rel=1e-9)
    assert found.gradients == pytest.approx([b**n, n * b ** (n - 1) * s + a * d_geometric, geometric], rel=1e-9)


@pytest.mark.parametrize(("workload", "size"), [(WEST, 400), (SIZE, 2000)])
def test_gradients_by_finite_differences(workload, size, adapters):
    """The sum of all partial derivatives along a direction, against central differences over plain floats."""
    adapter = adapters["tapegrad"]
    program, parameters = workload.scalar_program(adapter, size)
    start = [p.data for p in parameters]
    found = outcome(workload, adapter, size).gradients
    floats = FloatAdapter()
    if workload is SIZE:
        program, _ = workload.scalar_program(floats, size)
    direction = [math.sin(i + 1) for i in range(len(start))]
    h = 1e-6
    forward, back = (
        program(floats.math, [x + sign * h * d for x, d in zip(start, direction, strict=True)]) for sign in (1, -1)
    )
    assert sum(g * d for g, d in zip(found, direction, strict=True)) == pytest.approx(
        (forward - back) / (2 * h), rel=1e-6
    )


def test_gpt_by_finite_differences_and_a_hand_written_adam(adapters):
    """First loss and gradient over plain floats; the second step's loss after an update by the textbook's formula."""
    adapter = adapters["tapegrad"]
    floats = FloatAdapter()
    floats.math.relu = lambda x: max(x, 0.0)
    program, _ = GPT.scalar_program(floats, 7)
    start = initial_weights()
    first = outcome(GPT, adapter, 7, steps=1)
    assert first.values == pytest.approx([program(floats.math, start)], rel=1e-12)
    assert first.values[0] == pytest.approx(math.log(27), rel=0.1), "untrained, it knows nothing of 27 tokens"
    direction = [math.sin(i + 1) for i in range(len(start))]
    h = 1e-5
    forward, back = (
        program(floats.math, [x + sign * h * d for x, d in zip(start, direction, strict=True)]) for sign in (1, -1)
    )
    slope = sum(g * d for g, d in zip(first.gradients, direction, strict=True))
    assert slope == pytest.approx((forward - back) / (2 * h), rel=1e-6)

    parameters = [Parameter(x, g) for x, g in zip(start, first.gradients, strict=True)]
    Adam(parameters).step()
    # After one step, mean and square are unbiased g and g^2.
    expected = [x - 0.01 * g / (abs(g) + 1e-8) for x, g in zip(start, first.gradients, strict=True)]
    assert [p.data for p in parameters] == pytest.approx(expected, rel=1e-9)


def test_gpt_is_as_large_as_said():
    assert sum(rows * columns for rows, columns in MATRICES.values()) == len(initial_weights()) == 4192
    assert {len(name) for name in NAMES} == {7}
    assert encode("az") == [0, 1, 26, 0]


def test_training_lowers_the_loss(adapters):
    for workload, size in ((MOONS, 20), (LAYERS, 20), (GPT, 7)):
        first, later = (outcome(workload, adapters["tapegrad"], size, steps).values[0] for steps in (1, 25))
        assert later < 0.9 * first


def test_greeks_by_textbook_formulas(adapters):
    """Delta, vega, rho and theta by central differences of the value that NumPy computes."""
    columns, constants = options(50)
    math_ = adapters["NumPy"].math
    found = outcome(BY_NAME["greeks"], adapters["tapegrad"], 50)
    assert np.array(found.values) == pytest.approx(black_scholes(math_, *columns, *constants), rel=1e-12)
    for i, gradient in enumerate(np.split(np.asarray(found.gradients), 4)):
        h = 1e-5
        up, down = ([c + s * h * (j == i) for j, c in enumerate(columns)] for s in (1, -1))
        slope = (black_scholes(math_, *up, *constants) - black_scholes(math_, *down, *constants)) / (2 * h)
        assert gradient == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_greeks_values_are_black_scholes_values():
    """The tanh approximation against the error function, to the approximation's own accuracy (cents)."""
    (spot, volatility, rate, years), (strike,) = options(1000)
    normal = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / (volatility * np.sqrt(years))
    exact = spot * normal(d1) - strike * np.exp(-rate * years) * normal(d1 - volatility * np.sqrt(years))
    assert black_scholes(np, spot, volatility, rate, years, strike) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("name", BY_NAME)
def test_nodes_are_those_of_the_reference_graph(name, adapters):
    workload = BY_NAME[name]
    adapter = adapters["tapegrad"]
    if workload.form_for(adapter) is None:
        pytest.skip("tapegrad has no such network here")
    claimed = workload.nodes(adapter, tapegrad.live_nodes, workload.check_size)
    if name.startswith("layers"):
        program, parameters = MOONS.scalar_program(adapters["tapegrad.reference"], workload.check_size)
        extra = workload.check_size * (1 if name == "layers" else 0)  # the activation of the output
    elif name == "greeks":
        reference = adapters["tapegrad.reference"]
        columns, constants = options(1)
        parameters = reference.parameters([float(c[0]) for c in columns])
        program, extra = lambda math, p: black_scholes(math, *p, float(constants[0][0])), 0
    else:
        program, parameters = workload.scalar_program(adapters["tapegrad.reference"], workload.check_size)
        extra = 0
    reached, stack = set(), [program(adapters["tapegrad.reference"].math, parameters)]
    while stack:
        node = stack.pop()
        if node not in reached:
            reached.add(node)
            stack.extend(node._children)
    counted = len(reached - set(parameters)) * (workload.check_size if name == "greeks" else 1)
    assert claimed == counted + extra


def test_the_sizes_that_are_published(adapters):
    assert MOONS.nodes(adapters["tapegrad"], tapegrad.live_nodes, 100) == pytest.approx(65_000, rel=0.1)
    assert GPT.nodes(adapters["tapegrad"], tapegrad.live_nodes, 7) == pytest.approx(60_000, rel=0.1)


@pytest.mark.parametrize("quick", [False, True])
def test_cases_go_from_small_to_large(quick):
    for workload in WORKLOADS:
        sizes = [case.size for case in workload.cases(quick) if case.part == "whole"]
        assert sizes == sorted(set(sizes))
        labels = [case.label for case in workload.cases(quick)]
        assert len(labels) == len(set(labels))


@pytest.mark.parametrize("part", ["build", "sweep", "free"])
def test_parts_of_size_leave_nothing_behind(part, adapters):
    before = tapegrad.live_nodes()
    prepared = SIZE.prepare(adapters["tapegrad"], "scalars", Case("test", 3000, part))
    grown = []
    for _ in range(3):
        prepared.setup()
        at_start = tapegrad.live_nodes()
        prepared.step()
        grown.append(tapegrad.live_nodes() - at_start)
    nodes = SIZE.nodes(adapters["tapegrad"], tapegrad.live_nodes, 3000)
    assert grown == [{"build": nodes, "sweep": 0, "free": -nodes}[part]] * 3
    del prepared
    assert tapegrad.live_nodes() == before


def test_a_step_leaves_no_nodes_behind(adapters):
    for workload in (CHAIN, MOONS, LAYERS, GPT, WEST, BY_NAME["greeks"]):
        form = workload.form_for(adapters["tapegrad"])
        prepared = workload.prepare(adapters["tapegrad"], form, Case("test", workload.check_size))
        prepared.step()
        before = tapegrad.live_nodes()
        prepared.step()
        assert tapegrad.live_nodes() == before


def test_without_a_c_compiler_its_engines_are_missing_not_failed(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    absent = []
    engines = [e for e in ENGINES if e.name.startswith("C ") or e.name == "C"]
    assert gather(WEST, engines, {}, absent) == []
    assert [(row.status, row.message) for row in absent] == [("missing", "no C compiler found (cc, gcc or clang)")] * 2


def test_the_list_of_operations_is_the_scalar_program():
    program = WEST.operations(400)
    assert program.nodes == 100 + 7 * 100
    assert program.steps[0] == ("softplus", 100, [90])
    assert program.steps[3] == ("softmax", 103, [99, 100, 101, 102])
    assert all(operand < result for _, result, operands in program.steps for operand in operands)
