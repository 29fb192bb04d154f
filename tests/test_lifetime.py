"""Lifetimes under random programs: after a collection exactly those nodes live that the program's variables lead to.

The oracle is a model in plain Python: for each node its operands, attributes and rule, as sets of numbers; what is
alive is what can be reached from the variables that the program still holds.
"""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import random
import weakref
from dataclasses import dataclass, field

import pytest

from tapegrad import Value, live_nodes


@dataclass
class Model:
    """What the program knows of one node: the numbers of the nodes that it leads to."""

    operands: list[int]
    attributes: dict[str, int] = field(default_factory=dict)
    rule: list[int] = field(default_factory=list)


class Sub(Value):
    """A subclass whose instances carry a slot."""

    __slots__ = ("slot",)


def nothing(*held: Value) -> None:
    """A rule that does nothing but hold Values."""


# Repeats are weights.
ACTIONS = [
    *["leaf", "sub", "op", "op", "op", "constant", "custom", "attribute", "slot", "rule", "late_rule"],
    *["drop", "drop", "look", "watch", "backward", "collect", "label"],
]


class Program:
    """Takes random steps on Values and on the model at once."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.models: dict[int, Model] = {}
        self.held: dict[int, Value] = {}
        self.watched: dict[int, weakref.ref[Value]] = {}
        self.count = 0
        self.base = live_nodes()

    def new(self, value: Value, operands: list[int], **more: object) -> int:
        self.count += 1
        self.models[self.count] = Model(operands, **more)
        self.held[self.count] = value
        return self.count

    def pick(self) -> int:
        return self.random.choice(list(self.held))

    def step(self) -> None:
        r = self.random
        action = r.choice(ACTIONS)
        if action == "leaf" or len(self.held) < 2:
            self.new(Value(r.random()), [])
        elif action == "sub":
            self.new(Sub(r.random()), [])
        elif action == "op":
            i, j = self.pick(), self.pick()
            a, b = self.held[i], self.held[j]
            self.new(r.choice([lambda: a + b, lambda: a * b])(), [i, j])
        elif action == "constant":
            i = self.pick()
            out = self.held[i] * 0.5
            leaf = self.new(out._children[1], [])
            self.new(out, [i, leaf])
            del self.held[leaf]
        elif action == "custom":
            operands = [self.pick() for _ in range(r.randrange(4))]
            self.new(Value(0.5, [self.held[i] for i in operands], "mine"), operands)
        elif action == "attribute":
            i, j = self.pick(), self.pick()
            name = r.choice("xyz")
            setattr(self.held[i], name, [self.held[j]])
            self.models[i].attributes[name] = j
        elif action == "slot":
            subs = [i for i, v in self.held.items() if isinstance(v, Sub)]
            if subs:
                i, j = r.choice(subs), self.pick()
                self.held[i].slot = self.held[j]
                self.models[i].attributes["slot"] = j
        elif action in {"rule", "late_rule"}:
            i = self.pick()
            out = self.held[i] if action == "late_rule" else Value(1.0, (self.held[i],), "ruled")
            number = i if action == "late_rule" else self.new(out, [i])
            other = self.held[self.pick()]
            out._backward = functools.partial(nothing, out, other)
            self.models[number].rule = [number, next(k for k, v in self.held.items() if v is other)]
        elif action == "drop":
            del self.held[self.pick()]
        elif action == "look":
            i = self.pick()
            children = self.held[i]._prev
            assert all(self.held[k] in children for k in self.models[i].operands if k in self.held)
        elif action == "watch":
            i = self.pick()
            self.watched[i] = weakref.ref(self.held[i])
        elif action == "backward":
            self.held[self.pick()].backward()
        elif action == "label":
            self.held[self.pick()].label = "named"
        elif action == "collect":
            self.check()

    def reach(self, roots: list[int]) -> set[int]:
        seen: set[int] = set()
        waiting = list(roots)
        while waiting:
            i = waiting.pop()
            if i not in seen:
                seen.add(i)
                m = self.models[i]
                waiting += [*m.operands, *m.attributes.values(), *m.rule]
        return seen

    def check(self) -> None:
        gc.collect()
        alive = self.reach(list(self.held))
        assert live_nodes() - self.base == len(alive)
        for i, watch in self.watched.items():
            assert (watch() is not None) == (i in alive)
        self.models = {i: m for i, m in self.models.items() if i in alive}
        self.watched = {i: w for i, w in self.watched.items() if i in alive}


@pytest.mark.parametrize("seed", range(30))
def test_random_programs(seed):
    gc.collect()
    program = Program(seed)
    for _ in range(250):
        program.step()
    program.check()
    program.held.clear()
    program.check()


def test_a_collection_sees_through_nodes_without_handles():
    base = live_nodes()
    a = Value(1.0)
    b = (a * 2 + 1).tanh()
    a.child = b
    gc.collect()
    assert live_nodes() == base + 6
    assert a.child.data == b.data
    del a, b
    gc.collect()
    assert live_nodes() == base


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_and_copies_leave_nothing_behind(protocol):
    gc.collect()
    base = live_nodes()
    a = Value(1.0, label="a")
    b = a * 2 + 1
    b.note = [a]
    a.back = b
    for twin in (pickle.loads(pickle.dumps([a, b], protocol)), copy.deepcopy([a, b])):
        ta, tb = twin
        assert ta.back is tb
        assert tb.note[0] is ta
        tb.backward()
        assert (ta.grad, a.grad) == (2.0, 0.0)
    del a, b, twin, ta, tb
    gc.collect()
    assert live_nodes() == base
