"""Breaks compiled functions on purpose, one place at a time, and sees a test fail each time.

    python tests/mutation/compiled.py [--only WORD] [--keep FOLDER] [--equivalent]

Works on a copy of the sources, which it builds and tests with the Python it runs under: that needs cmake, ninja,
pybind11 and what the tests need, but no installed tapegrad; ccache is used if it is there. Exit code 1 if a mutant
survived or a mutation no longer fits the source.

Groups, for ``--only``: ``passes``, of the program's passes, guards and recordings; ``loops``, of what finds and runs
repeats and layers (loops.py); ``fused``, of what finds and runs softmax, log(e^x + 1) and softplus as one step
(fused.py, fused_softmax.py, fused_kernels.py, fused_exp.py); ``columns``, of programs for columns of lanes (chains.py,
columns.py). Some ten minutes for the first, some twenty for each of the others. What is listed as computing the same
``--equivalent`` tries out instead: then no test may fail.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import chains
import columns
import fused
import fused_exp
import fused_kernels
import fused_softmax
import loops
from workshop import Mutation, Workshop

TESTS: tuple[str, ...] = (
    "test_compile_random",
    "test_compile",
    "test_vmap",
    "test_compile_guards",
    "test_compile_looks",
)
TESTS += ("test_compile_environment", "test_compile_saving")
LOOP_TESTS = ("core/test_dependence", "core/test_repeats", "core/test_layers", "test_repeats", "test_layers_compiled")
FUSED_TESTS = ("core/test_fuse_cases", "core/test_fuse", "core/test_schedule", "core/test_program")
COLUMN_TESTS = ("core/test_columns", "core/test_program", "core/fuzz_programs")


PASSES = "csrc/core/program/passes/"
ROWS: list[tuple[str, str, str, str]] = [
    (PASSES + "cheap_powers.cpp", "x**2 is 2 x", "{Code::mul, i.a, i.a}", "{Code::add, i.a, i.a}"),
    (PASSES + "cheap_powers.cpp", "x**-1 is x", "{Code::div, one, i.a}", "{Code::div, i.a, one}"),
    (PASSES + "cheap_powers.cpp", "x**0.5 is relu", "{Code::sqrt, i.a}", "{Code::relu, i.a}"),
    (PASSES + "cheap_powers.cpp", "powers replaced where bits count", "if (exact) return 0;", ""),
    (
        PASSES + "constant_folding.cpp",
        "parameters folded",
        "p.code[operand].code == Code::constant",
        "(p.code[operand].code == Code::constant || p.code[operand].code == Code::param)",
    ),
    (PASSES + "constant_folding.cpp", "another number", "0, 0, 0, values[n]}", "0, 0, 0, values[n] + 1}"),
    (
        PASSES + "common_subexpressions.cpp",
        "second operand overlooked",
        "key.second = number_of(i.b);",
        "key.second = 0;",
    ),
    (
        PASSES + "common_subexpressions.cpp",
        "else-branch overlooked",
        "if (i.code == Code::select) key.third = number_of(i.c);",
        "",
    ),
    (
        PASSES + "common_subexpressions.cpp",
        "every operation commutes",
        "if ((i.code == Code::add || i.code == Code::mul) && key.first",
        "if (i.code != Code::select && i.code != Code::powc && key.second && key.first",
    ),
    (
        PASSES + "common_subexpressions.cpp",
        "detached values are their like",
        "return exact ? draft.same[operand] : operand;",
        "return draft.same[operand];",
    ),
    (PASSES + "common_subexpressions.cpp", "all constants are one", "i.a, i.b, bits}", "i.a, i.b, 0}"),
    (
        PASSES + "common_subexpressions.cpp",
        "results left behind",
        "for (std::uint32_t& o : p.outputs) o = replaced[o];",
        "",
    ),
    (PASSES + "sum_chains.cpp", "shared links merged", "uses[n] == 1", "uses[n] >= 1"),
    (
        PASSES + "sum_chains.cpp",
        "chains not cut where bits count",
        "if (exact && (next_a[inner] < n || next_b[inner] < n)) break;",
        "",
    ),
    (PASSES + "sum_chains.cpp", "terms in reverse", "std::reverse(terms.begin(), terms.end());", ""),
    (PASSES + "dead_code.cpp", "guards dropped", "for (const Guard& g : p.guards) needed[g.value] = 1;", ""),
    (PASSES + "dead_code.cpp", "first of equal values dropped", "needed[draft.same[n]] = 1;", ""),
    (PASSES + "dead_code.cpp", "results not renumbered", "for (std::uint32_t& o : p.outputs) o = place[o];", ""),
    (
        PASSES + "uniform.cpp",
        "what varies taken for uniform",
        "any = any || varies[operand];",
        "any = any && varies[operand];",
    ),
    (
        PASSES + "uniform.cpp",
        "inputs not renumbered",
        "if (i.code == Code::input) i.a = place_of_input[i.a];",
        "",
    ),
    (
        "csrc/python/compiled/program_lanes.cpp",
        "uniform gradients doubled",
        "m[v.uniform.seed] = 1.0;",
        "m[v.uniform.seed] = 2.0;",
    ),
    (
        "csrc/core/replay/lane_steps.cpp",
        "first writer adds to what was there",
        "written_[operand] ||\n        !how_.first_writer_stores)",
        "true)",
    ),
    ("csrc/core/program/record.cpp", "Python rules ignored", "if (n->flags & kHasRule)", "if (false)"),
    (
        "csrc/core/program/record.cpp",
        "whole results where exponents vary",
        "} else if (n->op == Op::pow) {\n      all = false;",
        "} else if (false) {",
    ),
    (
        "csrc/core/program/record.cpp",
        "held leaves are constants",
        "n->op == Op::leaf && !n->handle;",
        "n->op == Op::leaf;",
    ),
    ("csrc/core/program/program.cpp", "-0 is 0", " && std::signbit(x) == std::signbit(expected)", ""),
    ("csrc/core/program/program.cpp", "truth guards hold", "return (x != 0) == (expected != 0);", "return true;"),
    ("csrc/core/program/program.cpp", "whole guards hold", "return std::trunc(x) == expected;", "return true;"),
    (
        "csrc/core/program/program.cpp",
        "values used before they are there",
        "if (i >= limit) fail(",
        "if (false) fail(",
    ),
    (
        "csrc/python/compiled/environment.cpp",
        "cells never change",
        "return same(PyCell_GET(holder), item(2));",
        "return true;",
    ),
    (
        "csrc/python/compiled/environment.cpp",
        "lists never change",
        "if (!same(now[i], PyTuple_GET_ITEM(then, i))) return false;",
        "",
    ),
    (
        "csrc/python/compiled/environment.cpp",
        "names never change",
        "if (!same(now, PyTuple_GET_ITEM(values, i))) return false;",
        "",
    ),
    ("csrc/python/compiled/environment.cpp", "arrays keep their shape", "equal && k < now.ndim", "false"),
    ("csrc/python/compiled/environment.cpp", "Values stay bare", "->dict) return false;", "->dict) return true;"),
    (
        "csrc/python/compiled/environment.cpp",
        "classes never change",
        "const bool yes = equal == Py_True;",
        "const bool yes = equal != nullptr;",
    ),
    ("csrc/python/arrays/array_ufunc.cpp", "comparisons by NumPy unseen", "(single && !compares(args[0]))", "single"),
    ("python/tapegrad/compiled/environment.py", "drawing unseen", "if draws.changed()", "if False"),
    ("python/tapegrad/compiled/environment.py", "defaults not followed", "f.__defaults__ or (),", "(),"),
    (
        "python/tapegrad/compiled/traced.py",
        "formatting unseen",
        "return format(self._exact(), spec)",
        "return format(self._plain(), spec)",
    ),
    ("python/tapegrad/compiled/traced.py", "gradients through .data", "_core.detach(self._value)\n", "self._value\n"),
    ("python/tapegrad/compiled/recordings.py", "no bound", 'count >= self.options["max_recordings"]', "False"),
    (
        "python/tapegrad/compiled/storage.py",
        "checksums not compared",
        "hexdigest() != checksum.strip()",
        "hexdigest() == 0",
    ),
]

Row = tuple[str, str, str, str]


def mutations(rows: list[Row], tests: tuple[str, ...], group: str) -> list[Mutation]:
    return [Mutation(file, what, old, new, tests, group) for file, what, old, new in rows]


RECORD = "csrc/core/program/record.cpp"
RECORD_ROWS = [
    (
        RECORD,
        "nodes of others recorded too",
        "return !std::memchr(used_.begin()",
        "return true || !std::memchr(used_.begin()",
    ),
    (
        RECORD,
        "new nodes are not kept where many died",
        "known_[made] - 1 : find_shared(n);",
        "known_[made] - 1 : is_new(n) ? kUnknown : find_shared(n);",
    ),
    (RECORD, "no room for old nodes", "known_[made] - 1 : find_shared(n);", "known_[made] - 1 : kUnknown;"),
    (RECORD, "operands swapped", "i.b = use(n->b);", "i.b = i.a, i.a = use(n->b);"),
]

MUTATIONS = (
    mutations(ROWS, TESTS, "passes")
    + mutations(RECORD_ROWS, ("core/test_record",), "passes")
    + mutations(loops.ROWS, LOOP_TESTS, "loops")
)
# Mutants that compute the same, or as much as anybody is promised. Their reasons are in the lists.
EQUIVALENT: list[Mutation] = []
for part in (fused, fused_softmax, fused_kernels, fused_exp):
    MUTATIONS += mutations(part.ROWS, FUSED_TESTS, "fused")
    EQUIVALENT += mutations([row[:4] for row in part.EQUIVALENT], FUSED_TESTS, "fused")
for part in (chains, columns):
    MUTATIONS += mutations(part.ROWS, COLUMN_TESTS, "columns")
    EQUIVALENT += mutations([row[:4] for row in part.EQUIVALENT], COLUMN_TESTS, "columns")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a group, or what file or description of a mutation contain")
    parser.add_argument("--keep", type=Path, help="a folder for sources and build, to be used again")
    parser.add_argument("--equivalent", action="store_true", help="those that compute the same: no test may fail")
    options = parser.parse_args()
    all_of_them = EQUIVALENT if options.equivalent else MUTATIONS
    chosen = [m for m in all_of_them if m.group == options.only]
    if not chosen:
        chosen = [m for m in all_of_them if options.only in m.file or options.only in m.what]
    tests = tuple(dict.fromkeys(itertools.chain.from_iterable(m.tests for m in chosen)))
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(options.keep or Path(scratch))
        if not workshop.build(tests):
            print("the sources do not compile before anything is broken")
            return 1
        if workshop.module.exists() and not workshop.is_imported():
            print("another tapegrad than the copy's is imported: use a Python in which none is installed")
            return 1
        failing = workshop.failing_test(tests)
        if failing:
            print(f"a test fails before anything is broken: {failing}")
            return 1
        for mutation in chosen:
            start = time.monotonic()
            outcome = workshop.try_out(mutation)
            if options.equivalent and not outcome.startswith("!! no longer"):
                outcome = "the same" if outcome == "!! SURVIVED" else f"!! {outcome.removeprefix('!! ')}"
            bad += outcome.startswith("!!")
            seconds = time.monotonic() - start
            print(f"{mutation.file}: {mutation.what}: {outcome[:100]} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen)} mutations, {bad} {'seen or unfit' if options.equivalent else 'not caught'}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
