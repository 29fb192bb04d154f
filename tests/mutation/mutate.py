"""Mutation tests of the derivatives: each sign, operand, number and function of every derivative row is changed, one
at a time, and the core's own tests must see it.

``python mutate.py rows`` changes the rows of ops.def and the functions that only derivatives use. All mutants are
compiled into one program, which is told by a variable of the environment which of them to be: seconds in all.
``python mutate.py arrays`` changes the rules of the array operations, one build a mutant: minutes.
Both end with the number of mutants killed and with every survivor; the exit code is 1 if there is one.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "csrc" / "core"
COMPILER = os.environ.get("CXX", "c++")
FLAGS = ["-std=c++20", "-ffp-contract=off", "-w"]
TIMEOUT = 120  # a mutant that hangs is killed

# Functions of functions.hpp that derivatives alone are made of.
DERIVATIVE_FUNCTIONS = ("one", "zero", "positive", "sign", "above", "hypot1", "pow_dx", "pow_dy")

# Mutants that compute the same as the original, with the reason.
EQUIVALENT = {
    ("relu dx", "fn::positive(x)"): "relu(x) is positive where x is",
}

TOKEN = re.compile(r"fn::\w+|std::[\w:<>]+\(\)|std::\w+|[A-Za-z_]\w*|\d+(?:\.\d*)?|==|<=|>=|&&|\|\||\S")
FLIPS = {"+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], ">": ["<"], "<": [">"], "==": ["!="]}
TWINS = {"fn::sin": "fn::cos", "fn::cos": "fn::sin", "fn::sinh": "fn::cosh", "fn::cosh": "fn::sinh"}


@dataclass
class Mutant:
    """One change: where, and what the expression became."""

    place: str
    text: str


def is_unary_minus(tokens: list[str], i: int) -> bool:
    return tokens[i] == "-" and (i == 0 or tokens[i - 1] in {"(", ",", "?", ":", "*", "/", "+", "-"})


def changed(expression: str, names: list[str]) -> list[str]:
    """The expression with one token changed, in every way; and the whole of it with its sign flipped."""
    tokens = TOKEN.findall(expression)
    out = [f"-({expression})"]

    def put(i: int, text: str) -> None:
        out.append(" ".join([*tokens[:i], text, *tokens[i + 1 :]]))

    for i, token in enumerate(tokens):
        if is_unary_minus(tokens, i):
            put(i, "")
        elif token in FLIPS:
            for other in FLIPS[token]:
                put(i, other)
        elif token in names:
            ignored = i >= 2 and tokens[i - 2] in {"fn::one", "fn::zero"}  # they do not look at their argument
            for other in names:
                if other != token and not ignored:
                    put(i, other)
        elif token in TWINS:
            put(i, TWINS[token])
        elif re.fullmatch(r"\d+(\.\d*)?", token):
            put(i, f"({token} + 1)")
    return [text for text in dict.fromkeys(out) if not is_zero(expression)]


def is_zero(expression: str) -> bool:
    """Minus zero is zero, and no test needs to tell them apart."""
    return expression.strip() == "0.0" or expression.strip().startswith("fn::zero(")


def split_arguments(text: str) -> list[str]:
    """The arguments of a macro, at commas outside parentheses and quotes."""
    parts, depth, quoted = [""], 0, False
    for c in text:
        quoted ^= c == '"'
        depth += (c == "(") - (c == ")") if not quoted else 0
        if c == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += c
    return parts


class Schemata:
    """Sources in which every expression is a choice between itself and its mutants."""

    def __init__(self) -> None:
        self.mutants: list[Mutant] = []

    def choice(self, place: str, expression: str, names: list[str]) -> str:
        expression = expression.strip()
        text = expression
        for other in changed(expression, names):
            if (place, re.sub(r"\s*([(),:])\s*", r"\1", other).replace(",", ", ")) in EQUIVALENT:
                continue
            self.mutants.append(Mutant(place, other))
            text = f"(tapegrad_mutant() == {len(self.mutants)} ? decltype({expression})({other}) : {text})"
        return text

    def table(self, source: str) -> str:
        """ops.def with choices for the derivatives."""
        lines = []
        for line in source.splitlines():
            row = re.fullmatch(r"TAPEGRAD_(UNARY|BINARY)\((.*)\)", line)
            if row:
                a = split_arguments(row[2])
                if row[1] == "UNARY":
                    a[3] = self.choice(f"{a[0].strip()} dx", a[3], ["x", "z"])
                else:
                    a[3] = self.choice(f"{a[0].strip()} dx", a[3], ["x", "y", "z"])
                    a[4] = self.choice(f"{a[0].strip()} dy", a[4], ["x", "y", "z"])
                line = f"TAPEGRAD_{row[1]}({','.join(a)})"
            lines.append(line)
        return "\n".join(lines) + "\n"

    def functions(self, source: str) -> str:
        """functions.hpp with choices for what the derivatives are made of."""
        for name in DERIVATIVE_FUNCTIONS:
            found = re.search(rf"inline double {name}\(([^)]*)\) {{\n  return (.*);\n}}", source)
            if not found:
                raise SystemExit(f"functions.hpp has no one-line function {name}")
            names = re.findall(r"double (\w+)", found[1])
            source = source.replace(found[2], self.choice(name, found[2], names), 1)
        return source


def build(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


def dies(command: list[str], **variables: str) -> bool:
    """Whether the test fails."""
    try:
        done = subprocess.run(command, capture_output=True, env=os.environ | variables, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def rows(folder: Path) -> list[Mutant]:
    """Builds test_ops with all mutants of the derivative rows in it, and gives those that it does not see."""
    schemata = Schemata()
    overlay = folder / "core" / "ops"
    overlay.mkdir(parents=True)
    (overlay / "functions.hpp").write_text(schemata.functions((CORE / "ops" / "functions.hpp").read_text()))
    (overlay / "ops.def").write_text(schemata.table((CORE / "ops" / "ops.def").read_text()))
    (folder / "mutant.hpp").write_text(
        "#include <cstdlib>\ninline int tapegrad_mutant() {\n"
        '  static const int mutant = std::atoi(std::getenv("TAPEGRAD_MUTANT"));\n  return mutant;\n}\n'
    )
    program = folder / "test_ops"
    include = [f"-I{folder}", f"-I{ROOT / 'csrc'}", "-include", str(folder / "mutant.hpp")]
    # The memory of nodes is the test's own: nothing of the core but the table is linked.
    build(
        [
            COMPILER,
            *FLAGS,
            "-O1",
            *include,
            str(ROOT / "tests/core/test_ops.cpp"),
            str(CORE / "ops" / "ops.cpp"),
            "-o",
            str(program),
        ]
    )
    if dies([str(program)], TAPEGRAD_MUTANT="0"):
        raise SystemExit("test_ops fails without any mutation")
    survivors = [m for k, m in enumerate(schemata.mutants, 1) if not dies([str(program)], TAPEGRAD_MUTANT=str(k))]
    print(f"derivative rows: {len(schemata.mutants) - len(survivors)} of {len(schemata.mutants)} mutants killed")
    return survivors


# What is changed in the rules of array operations, in the functions that compute gradients.
TEXT_FLIPS = [
    (" += ", " -= "),
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " / "),
    (" / ", " * "),
    (".x", ".g"),
    ("[0]", "[1]"),
    ("[1]", "[0]"),
]


def gradient_lines(text: str) -> list[int]:
    """Numbers of the lines within functions called backward."""
    lines, out, depth, inside = text.splitlines(), [], 0, False
    for n, line in enumerate(lines):
        if re.search(r"\b(static )?(bool|void) backward\w*\(|\b(static )?(bool|void) \w*_backward\(", line):
            inside, depth = True, 0
        if inside:
            depth += line.count("{") - line.count("}")
            out.append(n)
            if depth <= 0 and "}" in line:
                inside = False
    return out


def arrays(folder: Path, jobs: int) -> list[Mutant]:
    """Builds test_arrays once for each change in core/arrays/rules/, and gives the changes that it does not see."""
    build(
        [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(folder / "build"),
            "-G",
            "Ninja",
            "-DTAPEGRAD_TESTS=ON",
            "-DCMAKE_BUILD_TYPE=Debug",
        ]
    )
    build(["cmake", "--build", str(folder / "build"), "--target", "test_arrays"])
    changes = []
    for path in sorted((CORE / "arrays" / "rules").glob("*.hpp")):
        text = path.read_text()
        lines = text.splitlines()
        for n in gradient_lines(text):
            code = lines[n].split("//")[0]
            for old, new in TEXT_FLIPS:
                for found in re.finditer(re.escape(old), code):
                    mutated = code[: found.start()] + new + code[found.end() :]
                    changes.append((path, n, mutated, [*lines[:n], mutated, *lines[n + 1 :]]))
    objects = folder / "build" / "libtapegrad_core.a"
    test = next((folder / "build").rglob("test_arrays.cpp.o"))

    def survives(k: int) -> bool:
        path, _, _, lines = changes[k]
        own = folder / f"m{k}"
        (own / "core" / "arrays" / "rules").mkdir(parents=True)
        (own / "core" / "arrays" / "rules" / path.name).write_text("\n".join(lines) + "\n")
        program = own / "test"
        command = [
            COMPILER,
            *FLAGS,
            "-O0",
            f"-I{own}",
            f"-I{ROOT / 'csrc'}",
            str(CORE / "arrays" / "array_rules.cpp"),
            str(test),
            str(objects),
            "-lpthread",
            "-o",
            str(program),
        ]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False  # no program at all
        alive = not dies([str(program)])
        program.unlink()
        return alive

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        alive = list(pool.map(survives, range(len(changes))))
    survivors = [
        Mutant(f"{p.name}:{n + 1}", text.strip()) for (p, n, text, _), a in zip(changes, alive, strict=True) if a
    ]
    print(f"array rules: {len(changes) - len(survivors)} of {len(changes)} mutants killed")
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rows", "arrays"])
    parser.add_argument("--jobs", type=int, default=2, help="builds at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        survivors = rows(Path(folder)) if options.what == "rows" else arrays(Path(folder), options.jobs)
    for mutant in survivors:
        print(f"survived: {mutant.place}: {mutant.text}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
