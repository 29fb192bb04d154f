"""Objects that change the program under the engine's feet: an exception or a result, but never a crash.

Each snippet runs in a process of its own, since a crash would take the other tests with it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SNIPPETS = {
    "an input that makes its Values as it is read": """
        from tapegrad.micrograd import nn

        class Fresh:
            def __len__(self):
                return 3

            def __getitem__(self, i):
                if i >= 3:
                    raise IndexError(i)
                return Value(float(i))

        x = Fresh()
        for model in (nn.Neuron(3), nn.Layer(3, 2), nn.MLP(3, [4, 1])):
            for _ in range(50):
                out = model(x)
            [v.backward() for v in (out if isinstance(out, list) else [out])]
        n = nn.Layer(3, 2, nonlin=False)
        for w in n.parameters():
            w.data = 2
        assert [v.data for v in n(x)] == [2 + 2 * 0 + 2 * 1 + 2 * 2.0] * 2
    """,
    "an array that makes its items as it is read": """
        from tapegrad import Value as Plain
        from tapegrad._core import neuron

        w, b = [Plain(1.0), Plain(2.0)], Plain(0.5)
        for x in ((Plain(i) for i in range(2)), map(Plain, [0.0, 1.0]), {Plain(0): 1, Plain(1): 2}.keys()):
            assert neuron(w, x, b, "").data == 2.5
    """,
    "an input that empties the list of inputs": """
        from tapegrad.micrograd import nn

        class Evil:
            def __float__(self):
                x.clear()
                return 1.0

        for model in (nn.Neuron(2), nn.Layer(2, 2), nn.MLP(2, [2, 1])):
            x = [Value(1.0)]
            x.append(Evil())
            model(x)
    """,
    "an input that empties the weights": """
        from tapegrad.micrograd import nn

        class Evil:
            def __float__(self):
                for n in layer.neurons:
                    n.w.clear()
                return 1.0

        layer = nn.Layer(2, 2)
        layer([Value(1.0), Evil()])
    """,
    "a flag that empties the layer": """
        from tapegrad.micrograd import nn

        class Evil:
            def __bool__(self):
                layer.neurons.clear()
                x.clear()
                return True

        layer, x = nn.Layer(2, 3), [Value(1.0), Value(2.0)]
        for n in layer.neurons:
            n.nonlin = Evil()
        del n
        layer(x)
    """,
    "a neuron whose weights are a property": """
        from tapegrad.micrograd import nn

        x = [Value(1.0), Value(2.0)]
        nn.Neuron.w = property(lambda self: (x.clear(), [Value(3.0), Value(4.0)])[1])
        nn.Neuron.b = property(lambda self: Value(0.5))
        layer = nn.Layer(2, 0)
        layer.neurons = [nn.Neuron.__new__(nn.Neuron) for _ in range(2)]
        for n in layer.neurons:
            n.nonlin = False
        layer(x)
    """,
    "a local gradient that empties the children": """
        class Evil:
            def __float__(self):
                children.clear()
                gc.collect()
                return 1.0

        children = [Value(1.0), Value(2.0)]
        v = Value(1.0, children, (Evil(), 2.0))
        v.backward()
        repr(v._children)
    """,
    "data that empties the children": """
        class Evil:
            def __float__(self):
                children.clear()
                return 1.0

        children = [Value(1.0), Value(2.0)]
        Value(Evil(), children, "op").backward()
    """,
    "an operation's name that empties the children": """
        class Evil(str):
            def __hash__(self):
                children.clear()
                return 5

            def __eq__(self, other):
                return False

        children = [Value(1.0), Value(2.0)]
        v = Value(1.0, children, Evil("x"))
        v.backward()
        repr(v._children)
    """,
    "children that change while they are read": """
        def children():
            kept = [Value(1.0)]
            yield kept.pop()
            gc.collect()
            yield Value(2.0)

        v = Value(3.0, children(), "op")
        assert sorted(u.data for u in v._prev) == [1.0, 2.0]
        w = Value(3.0)
        w._prev = children()
        assert sorted(u.data for u in w._prev) == [1.0, 2.0]
    """,
    "numbers that change the operands": """
        class Evil:
            def __float__(self):
                v.__init__(9.0)
                w.__init__(8.0)
                held.clear()
                gc.collect()
                return 3.0

        for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.lt):
            v = Value(1.0)
            w = v * 2
            held = [Value(4.0)]
            for pair in ((v, Evil()), (Evil(), w), (held[0], Evil())):
                op(*pair)
    """,
    "a class assigned to a Value, many times": """
        class Sub(Value):
            pass

        for _ in range(20_000):
            v = Value(1.0)
            try:
                v.__class__ = Sub
            except TypeError:
                break  # a refusal is an answer, too
            assert type(v) is Sub and (v * 2).data == 2
            del v
        v = Value(2.0)
        assert type(v * 3) is Value
    """,
    "a class taken back from a subclass, many times": """
        class Sub(Value):
            pass

        for _ in range(20_000):
            v = Sub(1.0)
            try:
                v.__class__ = Value
            except TypeError:
                break
            del v
        assert type(Value(2.0) * 3) is Value
    """,
    "format with something that is no text": """
        try:
            Value(1.0).__format__(5)
        except TypeError:
            pass
    """,
    "attributes that fight back when replaced": """
        class Back:
            def __init__(self, v):
                self.v = v

            def __del__(self):
                self.v.x = 1
                self.v._backward = lambda: None
                self.v.__init__(4.0)

            def __call__(self):
                pass

        for _ in range(100):
            v = Value(1.0)
            v.x = Back(v)
            v._backward = Back(v)
            v._backward = Back(v)
            v.x = 5
            del v
        gc.collect()
    """,
    "a graph bent into a circle": """
        a = Value(2.0)
        b = a * 3
        c = b * 4
        for bend in (
            lambda: a.__init__(1.0, (c,), "x"),
            lambda: setattr(a, "_prev", {c}),
            lambda: setattr(b, "_prev", {b}),
            lambda: c.__init__(1.0, (c,), "x"),
            lambda: setattr(c, "_prev", {c}),
        ):
            try:
                bend()
            except ValueError:
                pass
        c.backward()
        a.backward()
    """,
    "names of operations and labels of every kind": """
        for text in ("", "a" * 100_000, "λ", "\\x00", "\\ud800", "%s{}"):
            v = Value(1.0, (Value(2.0),), text)
            v.label = text
            assert v._op == text and v.label == text
            repr(v)
            v.backward()
        for i in range(20_000):
            Value(1.0, (), f"op{i}")
    """,
    "the core's own functions, given the wrong things": """
        from tapegrad import _core

        for name in ("export_nodes", "find_exported", "clone", "native_op", "assigned_rule"):
            for bad in (5, None, object(), Value):
                try:
                    getattr(_core, name)(bad)
                except TypeError:
                    pass
                else:
                    raise AssertionError(name)
    """,
    "threads on one graph": """
        import threading

        a = Value(1.0)
        shared = [a]

        def work(seed):
            for i in range(3000):
                v = shared[-1] * 0.5 + a
                v.child = v
                v._prev
                shared.append(v)
                if len(shared) > 20:
                    del shared[1:10]
                if i % 100 == 0:
                    v.backward()

        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """,
    "a full set of dialects": """
        from tapegrad._core import make_dialect

        made = []
        try:
            while len(made) < 100:
                made.append(make_dialect(f"program.Value{len(made)}"))
        except ValueError as error:
            assert "16" in str(error)
        assert [type(cls(1.0) * 2) for cls in made] == made
    """,
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_no_crash(name: str) -> None:
    imports = "import gc, operator, sys\nfrom tapegrad.micrograd.engine import Value\n"
    program = imports + textwrap.dedent(SNIPPETS[name]) + "\ngc.collect()\n"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
