"""Mutants of derivatives that are written out in the core's code, outside the op table: rules of array operations,
kernels of compiled functions, powers.

Every operator, sign, place and number index in them is changed, one at a time. All changes are compiled into one
program; a variable of the environment says which of them is on.
"""

import re
from dataclasses import dataclass

# What the changed sources are compiled with: marks that stand before an operand, and change what is done with it.
SUPPORT = r"""
#include <cstdlib>
#include <type_traits>
inline int tapegrad_mutant() {
  static const int mutant = std::atoi(std::getenv("TAPEGRAD_MUTANT"));
  return mutant;
}
namespace tapegrad_mutation {
// What the compiler computes is left as it is.
template <int k> constexpr bool on() { return !std::is_constant_evaluated() && tapegrad_mutant() == k; }
template <int k, typename T> constexpr T either(T a, std::type_identity_t<T> b) { return on<k>() ? b : a; }
template <int k> struct Mark {};
template <int k, typename T> struct Half { T value; };
template <int k, typename T> struct Amount { T value; };
#define TAPEGRAD_MARK(op, other)                                                         \
  template <int k, typename T> constexpr Half<k, T> operator op(T a, Mark<k>) { return {a}; } \
  template <int k, typename T, typename U>                                               \
  constexpr auto operator op(Half<k, T> a, U b) -> decltype(a.value op b) {                 \
    if constexpr (requires { a.value other b; }) {                                       \
      if (on<k>()) return static_cast<decltype(a.value op b)>(a.value other b);          \
    }                                                                                    \
    return a.value op b;                                                                 \
  }
TAPEGRAD_MARK(+, -)
TAPEGRAD_MARK(-, +)
TAPEGRAD_MARK(*, /)
TAPEGRAD_MARK(/, *)
TAPEGRAD_MARK(==, !=)
TAPEGRAD_MARK(!=, ==)
#undef TAPEGRAD_MARK
template <int k, typename T> constexpr T operator->*(Mark<k>, T a) { return on<k>() ? a : -a; }
template <int k, typename T> constexpr Amount<k, T> operator+=(Mark<k>, T b) { return {b}; }
template <int k, typename T, typename U> constexpr T& operator+=(T& a, Amount<k, U> b) {
  return a = static_cast<T>(on<k>() ? a - b.value : a + b.value);
}
}  // namespace tapegrad_mutation
using tapegrad_mutation::operator+;
using tapegrad_mutation::operator-;
using tapegrad_mutation::operator*;
using tapegrad_mutation::operator/;
using tapegrad_mutation::operator==;
using tapegrad_mutation::operator!=;
using tapegrad_mutation::operator->*;
using tapegrad_mutation::operator+=;
namespace tapegrad { using namespace tapegrad_mutation; }
"""

# What is changed: a pattern, and what stands in its place. {k} is the number of the mutant.
CHANGES = [
    (r" ([-+*/]|==|!=) ", r" {1} tapegrad_mutation::Mark<{k}>() {1} "),
    (r" \+= ", r" += tapegrad_mutation::Mark<{k}>() += "),
    (r"(?<=[(,=?:] )-(?=[\w(])|(?<=\()-(?=[\w(])", r"tapegrad_mutation::Mark<{k}>()->*"),
    (r"\b(\w+(?:\[[^][]*\]|\.\w+)*)\.x\b(?!\.)", r"tapegrad_mutation::either<{k}>({1}.x, {1}.g)"),
    (r"(?<=[\w\]])\[0\]", r"[tapegrad_mutation::on<{k}>() ? 1 : 0]"),
    (r"(?<=[\w\]])\[1\]", r"[tapegrad_mutation::on<{k}>() ? 0 : 1]"),
    (r"\? (\w+(?:\([^()]*\))?) : ([\w.]+(?:\([^()]*\))?)(?=[;,)])", r"!= tapegrad_mutation::on<{k}>() ? {1} : {2}"),
    (r"select\((\w+), ", r"select(tapegrad_mutation::on<{k}>() ? !({1}) : ({1}), "),
    (r"\bpower\(x, y - 1\)", r"power(x, tapegrad_mutation::on<{k}>() ? y : y - 1)"),
]


@dataclass
class Source:
    """A file of the core, the functions in it that are changed, and lines in them that cannot be."""

    path: str
    functions: str  # a regular expression for their names
    kinds: tuple[int, ...]  # of CHANGES
    skip: str = r"$^"


@dataclass
class Change:
    """One mutant."""

    place: str
    text: str


def lines_of(text: str, functions: str) -> list[int]:
    """Numbers of the lines within functions of such names."""
    out, depth, inside, opened = [], 0, False, False
    for n, line in enumerate(text.splitlines()):
        if not inside and re.search(rf"^\s*(?!return\b)[\w:<>,&* ]*\b({functions})(<[^;=]*>)?\([^;]*$", line):
            inside, opened, depth = True, False, 0
        if inside:
            out.append(n)
            depth += line.count("{") - line.count("}")
            opened |= "{" in line
            if (opened and depth <= 0) or (line.rstrip().endswith(";") and not opened):
                inside = False
    return out


def after_condition(line: str) -> tuple[str, str]:
    """The line up to the end of the last condition that the compiler decides, and the rest."""
    start = line.rfind("if constexpr (")
    if start < 0:
        return "", line
    depth = 0
    for at in range(line.index("(", start), len(line)):
        depth += (line[at] == "(") - (line[at] == ")")
        if not depth:
            return line[: at + 1], line[at + 1 :]
    return line, ""


def changed(source: Source, text: str, changes: list[Change]) -> str:
    """The source with all its mutants in it; each is added to the list, whose length is its number."""
    lines = text.splitlines()
    for n in lines_of(text, source.functions):
        code, slashes, comment = lines[n].partition("//")
        if re.search(source.skip, code):
            continue
        fixed, code = after_condition(code)
        for kind in source.kinds:
            pattern, template = CHANGES[kind]

            def put(found: re.Match[str], template: str = template, n: int = n, line: str = code) -> str:
                changes.append(Change(f"{source.path}:{n + 1}", f"{found[0].strip()} in {line.strip()}"))
                return template.format(*[found[0], *found.groups()], k=len(changes))

            code = re.sub(pattern, put, code)
        lines[n] = fixed + code + slashes + comment
    return "\n".join(lines) + "\n"
