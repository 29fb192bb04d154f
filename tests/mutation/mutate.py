"""Mutation tests of the derivatives: each sign, operand, number and function of every derivative row is changed, one
at a time, and the core's own tests must see it.

``python mutate.py rows`` changes the rows of ops.def and the functions that only derivatives use. All mutants are
compiled into one program, which is told by a variable of the environment which of them to be: seconds in all.
``python mutate.py arrays`` changes the rules of the array operations, ``python mutate.py replay`` the derivatives that
compiled functions have in forms of their own: see written.py. A build each, and a minute or two.
All end with the number of mutants killed and with every survivor; the exit code is 1 if there is one.
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

from written import SUPPORT, Change, Source
from written import changed as changed_source

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "csrc" / "core"
COMPILER = os.environ.get("CXX", "c++")
FLAGS = ["-std=c++20", "-ffp-contract=off", "-w"]
TIMEOUT = 30  # a mutant that hangs is killed

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


# Derivatives written out in the core: what is changed, what is compiled anew with all changes in it, and which tests
# are asked. The kernels are those of the baseline, which every processor has.
OPERATORS, ADDING, MINUS, OTHER_TERM, FIRST, SECOND, CHOICE, SELECT, EXPONENT = range(9)
RULES = "core/arrays/rules/"
WRITTEN: dict[str, tuple[list[Source], list[str], list[str]]] = {
    "arrays": (
        [
            Source(
                RULES + name,
                "backward|backward_spread|flow|fold|add_back|spread_out|share",
                (OPERATORS, ADDING, FIRST, SECOND, OTHER_TERM),
                r"^\s*for \(",
            )
            for name in ("elementwise.hpp", "given.hpp", "places.hpp", "products.hpp", "reductions.hpp")
        ],
        ["arrays/array_rules.cpp"],
        ["test_arrays"],
    ),
    "replay": (
        [
            Source(
                "core/replay/chunks.inc",
                "unary_backward|binary_backward|reciprocals_backward|powers_backward|selects_backward",
                (OPERATORS, MINUS, FIRST, SECOND, CHOICE, SELECT),
                r"for \(|for_vectors",
            ),
            Source(
                "core/replay/lane_products.inc",
                "one_backward|sum_of",
                (OPERATORS, ADDING, CHOICE, SELECT),
                r"for \(|step\(i",
            ),
            Source(
                "core/replay/lane_layers.inc",
                "gradient_tile|bias_tile|pass_on|add_blocks|sums_of_all",
                (OPERATORS, ADDING, SELECT),
                r"for \(.*\) step|for \(std::size_t i = 0; i|whole_vectors|rows \* columns|constexpr|i \+= "
                r"|std::size_t column,$",
            ),
            Source(
                "core/replay/powers.hpp",
                "product|missing_in_reciprocal|power|power_dx",
                (OPERATORS, MINUS, CHOICE, EXPONENT),
                r"__builtin_fma",  # which the baseline has not: fused_kernels.py breaks it
            ),
            Source(
                "core/replay/replay.cpp",
                "unary_backward|binary_backward|powc_backward|select_backward|backward",
                (OPERATORS, MINUS, FIRST, SECOND, CHOICE),
                r"!= Mode::none\) \{|define|template|<A, |<S, |case ",
            ),
            Source(
                "core/replay/replay_lanes.cpp",
                "backward",
                (OPERATORS, ADDING),
                r"^    for \(|double\* |continue|==|const auto write",
            ),
            Source("core/graph/sweep.cpp", "step|add", (OPERATORS, ADDING)),
        ],
        [
            "replay/chunks_baseline.cpp",
            "replay/lane_products_baseline.cpp",
            "replay/lane_layers_baseline.cpp",
            "replay/replay.cpp",
            "replay/replay_lanes.cpp",
            "graph/sweep.cpp",
        ],
        [
            "test_program",
            "test_sweep",
            "test_layers",
            "fuzz_programs 1000 1",
            "test_powers",
            "fuzz_core 1000 1",
            "test_repeats",
            "test_replay",
        ],
    ),
}

# Such mutants that compute the same, or as much as anybody is promised, with the reason.
EQUIVALENT_LINES = [
    ("core/replay/powers.hpp:74", "1 / x", "then q is no reciprocal, and pow() gives the same bits"),
    ("core/replay/powers.hpp:80", "square.high + low", "then nothing is settled, and pow() gives the same bits"),
    ("core/replay/powers.hpp:81", "(square.high - high) + low", "as before, or the low part has the other sign only"),
]


def written(what: str, folder: Path, build_folder: Path | None, jobs: int) -> list[Mutant]:
    """Builds the tests once with all changes in it, and gives the changes that they do not see."""
    sources, units, tests = WRITTEN[what]
    core_build = build_folder or folder / "build"
    if build_folder is None:
        build(["cmake", "-S", str(ROOT), "-B", str(core_build), "-G", "Ninja", "-DTAPEGRAD_TESTS=ON"])
    build(["cmake", "--build", str(core_build), "--target", "tapegrad_core"])
    changes: list[Change] = []
    overlay = folder / what
    for source in sources:
        path = overlay / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed_source(source, (ROOT / "csrc" / source.path).read_text(), changes))
    (overlay / "mutant.hpp").write_text(SUPPORT)
    flags = [*FLAGS, "-O1", f"-I{overlay}", f"-I{ROOT / 'csrc'}", "-include", str(overlay / "mutant.hpp")]

    def compiled(unit: Path) -> Path:
        out = overlay / (unit.name + ".o")
        own = overlay / unit.relative_to(ROOT / "csrc") if unit.is_relative_to(ROOT / "csrc") else unit
        build([COMPILER, *flags, "-c", str(own if own.exists() else unit), "-o", str(out)])
        return out

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compiled, [CORE / unit for unit in units]))
        mains = list(pool.map(compiled, [ROOT / "tests/core" / f"{test.split()[0]}.cpp" for test in tests]))
        programs = []
        for test, main_object in zip(tests, mains, strict=True):
            program = overlay / test.split()[0]
            library = str(core_build / "libtapegrad_core.a")
            build([COMPILER, *map(str, [main_object, *objects]), library, "-lpthread", "-o", str(program)])
            programs.append([str(program), *test.split()[1:]])
        for program in programs:
            if dies(program, TAPEGRAD_MUTANT="0"):
                shown = subprocess.run(
                    program,
                    capture_output=True,
                    text=True,
                    env=os.environ | {"TAPEGRAD_MUTANT": "0"},
                    check=False,
                )
                raise SystemExit(f"{program[0]} fails without any mutation: {shown.stderr}")

        def seen(number: int) -> bool:
            return any(dies(program, TAPEGRAD_MUTANT=str(number)) for program in programs)

        killed = list(pool.map(seen, range(1, len(changes) + 1)))
    survivors = [
        Mutant(change.place, change.text)
        for change, dead in zip(changes, killed, strict=True)
        if not dead and not any(change.place.startswith(p) and t in change.text for p, t, _ in EQUIVALENT_LINES)
    ]
    print(f"{what}: {sum(killed)} of {len(changes)} mutants killed, {len(survivors)} survivors")
    return survivors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rows", *WRITTEN], nargs="+")
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time")
    parser.add_argument("--build", type=Path, help="a CMake build of the core, without sanitizers, to be used")
    options = parser.parse_args()
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        for what in options.what:
            if what == "rows":
                survivors += rows(Path(folder))
            else:
                survivors += written(what, Path(folder), options.build, options.jobs)
    for mutant in survivors:
        print(f"survived: {mutant.place}: {mutant.text}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
