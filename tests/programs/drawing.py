# ruff: noqa
"""Draws graphs the way the lectures do, with its own trace and draw_dot over `_prev`, `_op` and `id`."""

from graphviz import Digraph
from micrograd import nn
from micrograd.engine import Value


def trace(root):
    nodes, edges = set(), set()

    def build(v):
        if v not in nodes:
            nodes.add(v)
            for child in v._prev:
                edges.add((child, v))
                build(child)

    build(root)
    return nodes, edges


def draw_dot(root, format="svg", rankdir="LR"):
    assert rankdir in ["LR", "TB"]
    nodes, edges = trace(root)
    dot = Digraph(format=format, graph_attr={"rankdir": rankdir})
    for n in nodes:
        dot.node(name=str(id(n)), label="{ data %.4f | grad %.4f }" % (n.data, n.grad), shape="record")
        if n._op:
            dot.node(name=str(id(n)) + n._op, label=n._op)
            dot.edge(str(id(n)) + n._op, str(id(n)))
    for n1, n2 in edges:
        dot.edge(str(id(n1)), str(id(n2)) + n2._op)
    return dot


def canonical(dot, root):
    """Replace addresses by the node's place in a walk of its own, and sort: sets have no order worth printing."""
    names, todo = {}, [root]
    while todo:
        v = todo.pop()
        if id(v) not in names:
            names[id(v)] = f"n{len(names):02d}"
            todo.extend(sorted(v._prev, key=lambda u: (u.data, u.grad, u._op)))
    text = dot.source
    for address, name in names.items():
        text = text.replace(str(address), name)
    return "\n".join(sorted(text.splitlines()))


x = Value(1.0)
y = (x * 2 + 1).relu()
y.backward()
print(canonical(draw_dot(y), y))

a, b = Value(-4.0), Value(2.0)
e = (a + b) * (a - b) / b**3
e.backward()
print(canonical(draw_dot(e, rankdir="TB"), e))

import random

random.seed(1337)
n = nn.Neuron(2)
out = n([Value(1.0), Value(-2.0)])
out.backward()
nodes, edges = trace(out)
print(len(nodes), len(edges), n, canonical(draw_dot(out), out).count("record"))
print(all(id(u) in {id(w) for w in nodes} for u, v in edges), out in nodes, all(w in nodes for w in n.w))

d = a + a
print(len(d._prev), d._prev == {a}, len(trace(d)[1]))
