"""Compiled functions are never silently wrong: what steers Python, and what a function reads beside its arguments, is
watched."""

import math

import numpy as np
import pytest

from tapegrad import Value
from tapegrad.compiled import RecordingLimit, compile, vmap

GLOBAL_SCALE = 2.0
GLOBAL_LIST = [1.0, 2.0]


class Settings:
    factor = 3.0


def branch(x):
    return x * 2 if x > 1 else x * -3


def truth(x):
    return x * 5 if x else x + 7


def loop(x):
    n = 0
    while x < 10:
        x = x * 2 + 4
        n += 1
    return x * n


def largest(x):
    return max([x, x * x - 2, 3 - x], key=lambda v: v.data)


def ordered(x):
    a, b, c = sorted([x, 1 - x, x * x])
    return a * 1 + b * 10 + c * 100


def truncated(x):
    return x * int(x * 3)


def exact(x):
    return x * math.sin(float(x))


def formatted(x):
    return x * len(f"{x.data:.3f}")


def modulo(x):
    return x * (x.data % 1.5) + x.data // 2


def indexed(x):
    return [x, x * 2, x * 3][int(x.data) % 3]


@pytest.mark.parametrize("fn", [branch, truth, loop, largest, ordered, truncated, exact, formatted, modulo, indexed])
def test_every_look_that_steers_python_is_a_guard(fn):
    f = compile(fn)
    for number in [0.5, 2.0, 0.0, -1.25, 0.5, 3.75, 12.5, 2.0, 100.0]:
        v = Value(number)
        out = fn(v)
        out.backward()
        assert f(number) == out.data, number
        assert f.value_and_grad(number) == (out.data, v.grad), number
    assert len(f.cache_info()) <= 9


def test_guards_name_their_line():
    f = compile(branch)
    f(2.0)
    f(0.0)
    first, second = f.cache_info()[::-1]
    assert first.reason == "first call"
    assert "x * 2 if x > 1" in second.reason
    assert __file__ in second.guards[0]


def test_the_number_of_recordings_is_bounded():
    f = compile(exact, max_recordings=3)
    for number in (1.0, 2.0, 3.0, 1.0):
        f(number)
    with pytest.raises(RecordingLimit, match="raise max_recordings"):
        f(4.0)
    assert f(2.0) == 2.0 * math.sin(2.0)
    f = compile(exact, max_recordings=3, on_limit="eager")
    for number in range(10):
        assert f(float(number)) == number * math.sin(number)
    *kept, passing = f.cache_info()
    assert len(kept) == 3
    assert passing.reason.startswith("past max_recordings")
    assert passing.calls == 7


def test_a_guard_on_a_parameter():
    w = Value(2.0)
    f = compile(lambda x: x * 2 if w > 1 else x * 3)
    assert f(1.0) == 2.0
    w.data = 0.0
    assert f(1.0) == 3.0


def test_a_list_of_parameters_that_changes():
    params = [Value(1.0), Value(2.0)]
    f = compile(lambda x: sum(p * x for p in params))
    assert f(3.0) == 9.0
    params.append(Value(3.0))
    assert f(3.0) == 18.0
    params[0] = Value(10.0)
    assert f.backward(3.0) == 45.0
    assert [p.grad for p in params] == [3.0, 3.0, 3.0]
    del params[1:]
    assert f(3.0) == 30.0


def test_variables_of_the_enclosing_function():
    w, scale = Value(2.0), 1.0
    f = compile(lambda x: w * x * scale)
    assert f(3.0) == 6.0
    w = Value(5.0)
    assert f(3.0) == 15.0
    scale = 2.0
    assert f(3.0) == 30.0


def test_globals_classes_and_helpers(monkeypatch):
    def helper(x):
        return x * GLOBAL_SCALE * Settings.factor + GLOBAL_LIST[0]

    f = compile(lambda x: helper(x))
    assert f(1.0) == 7.0
    monkeypatch.setitem(globals(), "GLOBAL_SCALE", 4.0)
    assert f(1.0) == 13.0
    monkeypatch.setattr(Settings, "factor", 1.0)
    assert f(1.0) == 5.0
    GLOBAL_LIST[0] = 100.0
    assert f(1.0) == 104.0
    GLOBAL_LIST[0] = 1.0

    def helper(x):  # noqa: F811
        return x

    assert f(1.0) == 1.0


def test_attributes_and_methods_of_instances():
    class Model:
        def __init__(self):
            self.w = [Value(2.0)]
            self.options = {"power": 2}
            self.history = []

        def __call__(self, x):
            return (self.w[0] * x) ** self.options["power"]

    model = Model()
    f = compile(lambda x: model(x))
    assert f(3.0) == 36.0
    model.history.append(f(3.0))
    assert len(f.cache_info()) == 1
    model.options["power"] = 1
    assert f(3.0) == 6.0
    model.w = [Value(7.0)]
    assert f(3.0) == 21.0
    Model.__call__ = lambda self, x: x
    assert f(3.0) == 3.0


def test_an_attribute_that_appears_later():
    class Model:
        mask = 1.0

    model = Model()
    f = compile(lambda x: x * model.mask * getattr(model, "extra", 1.0))
    assert f(3.0) == 3.0
    model.mask = 2.0
    assert f(3.0) == 6.0
    model.extra = 5.0
    assert f(3.0) == 30.0
    model.__dict__ = {"mask": 7.0}
    assert f(3.0) == 21.0


def test_a_method_of_value_that_is_replaced(monkeypatch):
    f = compile(lambda x: x.tanh())
    assert f(0.5) == Value(0.5).tanh().data
    monkeypatch.setattr(Value, "tanh", lambda self: self * 100)
    assert f(0.5) == 50.0


def test_arrays_closed_over():
    table = np.array([1.0, 2.0])
    f = compile(lambda x: x * table[0])
    assert f(3.0) == 3.0
    table[0] = 5.0
    assert f(3.0) == 15.0


def test_defaults_and_static_objects():
    def fn(x, factor=[2.0]):  # noqa: B006
        return x * factor[0]

    f = compile(fn)
    assert f(3.0) == 6.0
    fn.__defaults__[0][0] = 4.0
    assert f(3.0) == 12.0

    class Model:
        w = Value(2.0)

    model = Model()
    g = compile(lambda x, m: x * m.w)
    assert g(3.0, model) == 6.0
    model.w = Value(5.0)
    assert g(3.0, model) == 15.0


def test_a_number_that_left_its_recording_is_an_ordinary_one():
    kept = []

    def fn(x):
        kept.append(x.data)
        return x * 2

    f = compile(fn)
    f(3.0)
    assert kept[0] + 1 == 4.0
    assert kept[0] < 5
    g = compile(lambda x: x * kept[0])
    assert g(2.0) == 6.0


def test_lanes_that_part_are_an_error_that_names_the_line():
    g = vmap(compile(branch))
    assert g(np.array([2.0, 3.0])).tolist() == [4.0, 6.0]
    assert g(np.array([-2.0, 0.0])).tolist() == [6.0, 0.0]
    with pytest.raises(ValueError, match=r"different courses at .*x \* 2 if x > 1.* of 3 lanes.*where"):
        g(np.array([2.0, 0.0, 3.0]))
