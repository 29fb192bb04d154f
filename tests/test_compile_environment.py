"""What a compiled function reads beside its arguments: each change of it is seen at the next call, whatever holds it.

A scenario is a generator: it yields the function to compile, or that and its twin with a state of its own for the eager
run, and makes one change each time it is asked to go on.
"""

import argparse
import array
import collections
import contextvars
import dataclasses
import enum
import functools
import itertools
import operator
import random
import sys
import threading
import types
import warnings
import weakref

import numpy as np
import pytest

from tapegrad import MLP, Value
from tapegrad.compiled import compile, grad, vmap
from tapegrad.compiled.environment import Snapshot

FACTOR = 1.0


class Settings:
    rate = 1.0


def helper(x):
    return x * FACTOR


def changes(make, read, change):
    """A scenario in which a function reads a number from what `make` makes."""

    def scenario():
        holder = make()
        yield lambda x: x * read(holder)
        change(holder)

    return scenario


def set_dtype(array, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from NumPy 2.5 on, and yet it may be done
        array.dtype = dtype


def replace_first(h):
    h[0] = 2


def replace_a(h):
    h["a"] = 2.0


class Slots:
    __slots__ = ("a",)


@dataclasses.dataclass
class Data:
    a: float = 1.0


class Items:
    def __init__(self):
        self.store = {"a": 1.0}

    def __getitem__(self, key):
        return self.store[key]

    def __getattr__(self, key):
        return self.store[key]

    @property
    def b(self):
        return self.store["a"] * Settings.rate


def with_a(h):
    h.a = 1.0
    return h


def set_a(h):
    h.a = 5.0


def set_store(h):
    h.store["a"] = 5.0


SCENARIOS = {
    "SimpleNamespace": changes(lambda: types.SimpleNamespace(a=1.0), lambda h: h.a, set_a),
    "argparse": changes(lambda: argparse.Namespace(a=1.0), lambda h: h.a, set_a),
    "deque": changes(lambda: collections.deque([1.0]), lambda h: h[0], replace_first),
    "longer deque": changes(lambda: collections.deque([1.0]), sum, lambda h: h.append(2.0)),
    "array.array": changes(lambda: array.array("d", [1.0]), lambda h: h[0], replace_first),
    "bytearray": changes(lambda: bytearray(b"\1"), lambda h: h[0], replace_first),
    "memoryview": changes(lambda: memoryview(bytearray(b"\1")), lambda h: h[0], replace_first),
    "dict": changes(lambda: {"a": 1.0}, lambda h: h["a"], replace_a),
    "order of a dict": changes(
        lambda: {"a": 1.0, "b": 3.0}, lambda h: next(iter(h.values())), lambda h: h.update(a=h.pop("a"))
    ),
    "defaultdict": changes(lambda: collections.defaultdict(float, a=1.0), lambda h: h["a"], replace_a),
    "OrderedDict": changes(
        lambda: collections.OrderedDict(a=1.0, b=3.0),
        lambda h: next(iter(h.values())),
        lambda h: h.move_to_end("a"),
    ),
    "Counter": changes(lambda: collections.Counter(a=1), lambda h: h["a"], replace_a),
    "UserDict": changes(lambda: collections.UserDict(a=1.0), lambda h: h["a"], replace_a),
    "UserList": changes(lambda: collections.UserList([1.0]), lambda h: h[0], replace_first),
    "ChainMap": changes(lambda: collections.ChainMap({}, {"a": 1.0}), lambda h: h["a"], lambda h: replace_a(h.maps[1])),
    "set": changes(lambda: {1.0}, sum, lambda h: h.add(3.0)),
    "nest": changes(lambda: ([1.0], {"k": [1.0]}), lambda h: h[1]["k"][0], lambda h: replace_first(h[1]["k"])),
    "numbers in an array": changes(lambda: np.ones(3), lambda h: h[0], replace_first),
    "strided array": changes(lambda: np.ones(9)[::2], lambda h: h[0], replace_first),
    "shape of an array": changes(lambda: np.ones(4), lambda h: h.shape[0], lambda h: h.resize((2, 2), refcheck=False)),
    "sides of an array": changes(
        lambda: np.ones((2, 3)), lambda h: h.shape[0], lambda h: h.resize((3, 2), refcheck=False)
    ),
    "kind of number in an array": changes(lambda: np.ones(3), lambda h: float(h[0]), lambda h: set_dtype(h, np.int64)),
    "kind of number in a strided array": changes(
        lambda: np.ones((3, 2)).T[1:], lambda h: float(h[0, 0]), lambda h: set_dtype(h, np.dtype(">f8"))
    ),
    "array of bools": changes(lambda: np.array([True]), lambda h: int(h[0]), lambda h: h.fill(False)),
    "array of texts": changes(lambda: np.array(["a"]), lambda h: len(str(h[0]) * (h[0] < "b")), lambda h: h.fill("c")),
    "structured array": changes(
        lambda: np.array([(1.0, 2)], dtype=[("a", "f8"), ("b", "i4")]),
        lambda h: h["a"][0],
        lambda h: h["a"].fill(7.0),
    ),
    "array of Values": changes(
        lambda: np.array([Value(1.0), Value(2.0)]), lambda h: h[0], lambda h: h.fill(Value(7.0))
    ),
    "slots": changes(lambda: with_a(Slots()), lambda h: h.a, set_a),
    "dataclass": changes(Data, lambda h: h.a, set_a),
    "__getitem__": changes(Items, lambda h: h["a"], set_store),
    "__getattr__": changes(Items, lambda h: h.a, set_store),
    "property": changes(Items, lambda h: h.b, set_store),
    "name put together": changes(lambda: with_a(Items()), lambda h: getattr(h, "".join("a")), set_a),
    "attrgetter": changes(lambda: with_a(Data()), operator.attrgetter("a"), set_a),
    "ContextVar": changes(lambda: contextvars.ContextVar("v", default=1.0), lambda h: h.get(), lambda h: h.set(2.0)),
    "thread's own": changes(lambda: with_a(threading.local()), lambda h: h.a, set_a),
    "attribute of a Value": changes(lambda: with_a(Value(2.0)), lambda h: h * h.a, set_a),
    "attribute added to a Value": changes(lambda: Value(2.0), lambda h: h * getattr(h, "a", 1.0), set_a),
    "label of a Value": changes(lambda: Value(2.0), lambda h: h * len(h.label), lambda h: setattr(h, "label", "long")),
    "operands of a Value": changes(lambda: Value(2.0) * 3, lambda h: sum(h._prev), lambda h: h._prev.pop()),
}


def scenario(fn):
    SCENARIOS[fn.__name__.replace("_", " ")] = fn
    return fn


@scenario
def a_mapping_proxy_and_a_view():
    d = {"a": 1.0}
    proxy, view = types.MappingProxyType(d), d.values()
    yield lambda x: x * proxy["a"] * sum(view)
    d["a"] = 2.0


@scenario
def a_weak_reference():
    holder = Data()
    ref, table = weakref.ref(holder), weakref.WeakValueDictionary(k=holder)
    yield lambda x: x * ref().a * table["k"].a
    holder.a = 3.0


@scenario
def a_global_found_by_name():
    yield lambda x: x * globals()["FACTOR"] * eval("FACTOR")
    globals()["FACTOR"] = 5.0
    yield
    globals()["FACTOR"] = 1.0


@scenario
def a_global_of_a_helper():
    yield helper
    globals()["FACTOR"] = 6.0
    yield
    globals()["FACTOR"] = 1.0


@scenario
def a_builtin_that_is_shadowed():
    yield lambda x: abs(x) * 2
    globals()["abs"] = lambda x: x * 10
    yield
    del globals()["abs"]


@scenario
def a_module_imported_inside():
    module = sys.modules["settings_of_a_test"] = types.ModuleType("settings_of_a_test")
    module.a = 1.0

    def fn(x):
        import settings_of_a_test
        from settings_of_a_test import a

        return x * a * settings_of_a_test.a

    yield fn
    module.a = 5.0
    yield
    sys.modules["settings_of_a_test"] = types.ModuleType("settings_of_a_test")
    sys.modules["settings_of_a_test"].a = 7.0
    yield
    del sys.modules["settings_of_a_test"].a
    sys.modules["settings_of_a_test"].a = 8.0


@scenario
def a_module_called_like_one_of_pythons():
    module = types.ModuleType("profile")
    module.__file__ = __file__
    exec("k = 1.0\ndef f(x): return x * k", module.__dict__)
    saved = sys.modules.get("profile")
    sys.modules["profile"] = module
    yield lambda x: module.f(x)
    module.k = 4.0
    yield
    sys.modules.pop("profile")
    if saved is not None:
        sys.modules["profile"] = saved


@scenario
def nested_functions_and_partials():
    k, numbers = 1.0, [1.0]

    def outer(x, factor):
        def inner():
            return x * k * factor[0]

        return inner()

    yield functools.partial(outer, factor=numbers)
    k = 3.0
    yield
    numbers[0] = 4.0


@scenario
def callable_objects_and_methods():
    class Model:
        rate = 1.0

        def __init__(self):
            self.a = 1.0

        def __call__(self, x):
            return x * self.a + self.double(x) + self.by_class(x)

        @staticmethod
        def double(x):
            return x * 2 * Model.rate

        @classmethod
        def by_class(cls, x):
            return x * cls.rate

    model = Model()
    yield model
    model.a = 4.0
    yield
    Model.rate = 3.0
    yield
    Model.double = staticmethod(lambda x: x)


@scenario
def base_classes_and_metaclasses():
    class Meta(type):
        k = 1.0

    class Base:
        a = 1.0

    class Derived(Base, metaclass=Meta):
        pass

    yield lambda x: x * Derived().a * Derived.k
    Base.a = 3.0
    yield
    Meta.k = 5.0


@scenario
def code_that_is_replaced():
    def f(x):
        return x * 2

    yield lambda x: f(x)
    f.__code__ = (lambda x: x * 3).__code__


@scenario
def an_enumeration():
    class Kind(enum.Enum):
        ONE = 1
        TWO = 2

    current = [Kind.ONE]
    yield lambda x: x * current[0].value
    current[0] = Kind.TWO


@scenario
def a_network_whose_parts_are_replaced():
    random.seed(1)
    model = MLP(1, [2, 1])
    yield lambda x: model([x])
    model.layers[0].neurons[0].w[0] = Value(0.0)
    yield
    model.layers.append(model.layers[-1])


@scenario
def types_and_signs_of_numbers():
    numbers = [1, 0.0, True]
    yield lambda x: x * len(repr(numbers))
    numbers[0] = 1.0
    yield
    numbers[1] = -0.0
    yield
    numbers[2] = 1


# ---- state that each call changes ------------------------------------------------------------------------------------


def twins(make):
    def scenario():
        yield make(), make()
        for _ in range(3):
            yield

    return scenario


def counting_up():
    count = 0

    def fn(x):
        nonlocal count
        count += 1
        return x * count

    return fn


def appending():
    seen = []

    def fn(x):
        seen.append(x.data)
        return x * len(seen)

    return fn


def filling_a_cache():
    cache = {}

    def fn(x):
        if "w" not in cache:
            cache["w"] = Value(3.0)
        return x * cache["w"]

    return fn


class Counter:
    def __init__(self):
        self.calls = 0

    def fn(self, x):
        self.calls += 1
        self.last = x
        return x * self.calls


def reading(make):
    def twin():
        source = make()
        return lambda x: x * next(source)

    return twins(twin)


def drawing(make):
    def twin():
        draw = make()
        return lambda x: x * draw()

    return twins(twin)


SCENARIOS |= {
    "counting": twins(counting_up),
    "appending": twins(appending),
    "filling a cache": twins(filling_a_cache),
    "counting in an instance": twins(lambda: Counter().fn),
    "an iterator": reading(lambda: iter([float(n) for n in range(20)])),
    "a generator": reading(lambda: (float(n) for n in range(20))),
    "itertools.count": reading(itertools.count),
    "itertools.cycle": reading(lambda: itertools.cycle([1.0, 2.0])),
    "random.Random": drawing(lambda: (lambda r: lambda: r.random())(random.Random(3))),
    "method of random.Random": drawing(lambda: random.Random(3).gauss),
    "numpy Generator": drawing(lambda: np.random.default_rng(3).normal),
    "numpy MT19937": drawing(lambda: np.random.Generator(np.random.MT19937(3)).normal),
    "numpy RandomState": drawing(lambda: np.random.RandomState(3).normal),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_changes_are_seen(name):
    steps = SCENARIOS[name]()
    first = next(steps)
    fn, twin = first if isinstance(first, tuple) else (first, first)
    f = compile(fn)
    values = []
    while True:
        for _ in range(2 if fn is twin else 1):
            values.append(twin(Value(2.0)).data)
            assert f(2.0) == values[-1]
        try:
            next(steps)
        except StopIteration:
            break
    assert f(2.0) == twin(Value(2.0)).data
    if name != "filling a cache":
        assert len(set(values)) > 1 or f(2.0) != values[0], "nothing changed"


@pytest.mark.parametrize("module", [random, np.random])
def test_global_random_numbers_are_drawn_at_each_call(module):
    def fn(x):
        return x * module.random()

    module.seed(5)
    expected = [fn(Value(2.0)).data for _ in range(4)]
    f = compile(fn)
    module.seed(5)
    assert [f(2.0) for _ in range(4)] == expected
    assert f.cache_info()[0].reason == "random numbers are drawn"


def test_what_does_not_change_is_recorded_once():
    model, history, rng = MLP(1, [2, 1]), [], random.Random(1)
    ns = types.SimpleNamespace(scale=2.0, deque=collections.deque([1.0]), iterator=iter([1, 2, 3]))

    def fn(x, draw=False):
        noise = rng.random() if draw else 0.0
        return model([x]) * ns.scale + noise

    f = compile(fn)
    for number in (1.0, 2.0, 3.0):
        history.append(f(number))
        for p in model.parameters():
            p.data -= 0.01
            p.grad = 0.0
    assert len(f.cache_info()) == 1
    assert f.cache_info()[0].calls == 3


@pytest.mark.parametrize("make", [counting_up, lambda: Counter().fn, lambda: lambda x: x * random.random()])
def test_over_lanes_a_function_must_not_change_what_it_reads(make):
    with pytest.raises(ValueError, match=r"cannot be mapped over lanes.*because"):
        vmap(make())(np.ones(3))
    assert vmap(filling_a_cache())(np.ones(3)).tolist() == [3.0, 3.0, 3.0]


def test_of_a_transform_only_its_function_is_read():
    scale = [2.0]
    mapped, gradient = vmap(lambda x: x * scale[0]), grad(lambda x: x * x * scale[0])

    def f():
        return mapped(np.ones(2)).sum() + gradient(1.0)

    checks = len(Snapshot([f]).finish())
    assert f() == 8.0
    assert len(Snapshot([f]).finish()) == checks  # not what the two recorded
