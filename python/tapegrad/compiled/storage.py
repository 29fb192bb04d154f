"""Saved programs: a text file that holds the program, then one line of JSON for the shapes of arguments and result,
options and parameters, then a checksum.

    tapegrad program 1
    inputs 1
    ...
    return %4
    # tapegrad {"arguments": ..., "result": ..., "parameters": [["0x1.8p+0", "w"]], "options": {...}}
    # sha256 ...

Reading builds nothing but numbers, text and containers of them, and checks all of it: a file that was damaged, or
written to do harm, is a ValueError.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
import re
from typing import Any

import numpy as np

from tapegrad import _core
from tapegrad._core import Value
from tapegrad.compiled.trees import Structure, number_count

_STATE = "# tapegrad "
_CHECKSUM = "# sha256 "
_LEAVES = ("float", "int", "value", "number", "whole value", "bool")
_DTYPE = re.compile(r"[<>|=][biufcSU][0-9]{1,4}")
_MOST_DIGITS = 4000


def write(
    text: str, arguments: Structure, result: Structure, parameters: list[tuple[Any, str]], options: dict[str, Any]
) -> str:
    """The content of a file. TypeError where a static argument or a constant in the result is not plain data."""
    state = {
        "arguments": _encode(arguments),
        "result": _encode(result),
        "parameters": [[_encode_plain(number), label] for number, label in parameters],
        "options": {
            "fastmath": options["fastmath"],
            "check": options["check"],
            "disable": list(options["disable"]),
        },
    }
    body = text + _STATE + json.dumps(state, ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n"
    return body + _CHECKSUM + hashlib.sha256(body.encode()).hexdigest() + "\n"


def read(content: str) -> tuple[str, Structure, Structure, list[tuple[Any, str]], dict[str, Any]]:
    """What write() was given. ValueError for anything else."""
    body, found, checksum = content.rpartition(_CHECKSUM)
    if not found or not body.startswith("tapegrad program "):
        raise ValueError(
            "not a saved program: it should start with 'tapegrad program' and end with a checksum; it was damaged, or "
            "something else wrote it"
        )
    if hashlib.sha256(body.encode()).hexdigest() != checksum.strip():
        raise ValueError("the saved program was damaged or edited: its checksum differs")
    text, found, line = body.rpartition(_STATE)
    try:
        if not found:
            raise ValueError(f"no line starts with {_STATE!r}")
        state = json.loads(line)
        _require(isinstance(state, dict), "the state is no object")
        arguments, result = _decode(state["arguments"]), _decode(state["result"])
        _require(len(arguments) == 4 and arguments[0] == "tuple" and arguments[3][0] == "dict", "strange arguments")
        _require(arguments[2][0] == "tuple", "strange arguments")
        parameters = [(_number(number), _text(label)) for number, label in state["parameters"]]
        options = {name: state["options"][name] for name in ("fastmath", "check", "disable")}
        _require(type(options["fastmath"]) is bool and type(options["check"]) is bool, "an option is no truth value")
        options["disable"] = [_text(name) for name in options["disable"] if name in _core.passes]
    except (KeyError, TypeError, IndexError, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(f"damaged program: {type(error).__name__} in its last lines: {error}") from None
    return text, arguments, result, parameters, options


def restored(state: tuple[str, Structure, Structure, list[tuple[Any, str]], dict[str, Any]]) -> _core.Program:
    """The program with new Values as its parameters. ValueError where text and state do not fit together."""
    text, arguments, result, parameters, options = state
    values = [Value(number) for number, _ in parameters]
    for value, (_, label) in zip(values, parameters, strict=True):
        if label:
            value.label = label
    program = _core.read_program(
        text, values, not options["fastmath"], list(options["disable"]), bool(options["check"])
    )
    if number_count(arguments) != program.inputs or output_count(result) != program.outputs:
        raise ValueError(
            f"damaged program: it takes {program.inputs} numbers and returns {program.outputs}, but its shapes have "
            f"{number_count(arguments)} and {output_count(result)}"
        )
    return program


def portable(structure: Structure) -> Structure:
    """The structure with a description in place of each class, so that it can be compared across processes."""
    kind = structure[0]
    if kind not in ("list", "tuple", "dict"):
        return structure
    first = 3 if kind == "dict" else 2
    fields = getattr(structure[1], "_fields", None)
    described = (structure[1].__name__, *(fields or ()))
    return (kind, described, *structure[2:first], *map(portable, structure[first:]))


def output_count(result: Structure) -> int:
    """How many numbers of a program a result is made of."""
    kind = result[0]
    if kind in ("list", "tuple", "array"):
        return sum(map(output_count, result[2:]))
    if kind == "dict":
        return sum(map(output_count, result[3:]))
    return 0 if kind in ("static", "copy") else 1


# ---- structures ------------------------------------------------------------------------------------------------------


def _encode(structure: Structure) -> Any:
    kind = structure[0]
    if kind == "static":
        return {"static": _encode_plain(structure[2])}
    if kind == "copy":
        array = structure[2]
        if not _DTYPE.fullmatch(array.dtype.str):
            raise TypeError(f"cannot save a program whose result holds an array of {array.dtype}")
        return {"copy": list(array.shape), "dtype": array.dtype.str, "bytes": array.tobytes().hex()}
    if kind == "array" and len(structure) == 3 and isinstance(structure[2], bool):
        return {"numbers": list(structure[1]), "float": structure[2]}
    if kind == "array":
        return {"array": list(structure[1]), "parts": [_encode(part) for part in structure[2:]]}
    if kind == "dict":
        _plain_class(structure[1], dict)
        return {"dict": [_encode_plain(key) for key in structure[2]], "parts": [_encode(p) for p in structure[3:]]}
    if kind in ("list", "tuple"):
        fields = getattr(structure[1], "_fields", None)
        if fields is None:
            _plain_class(structure[1], list if kind == "list" else tuple)
        named = {} if fields is None else {"named": [structure[1].__name__, *fields]}
        return {kind: [_encode(part) for part in structure[2:]], **named}
    return kind


def _decode(x: Any) -> Structure:
    if isinstance(x, str):
        _require(x in _LEAVES, f"unknown kind {x!r:.40}")
        return (x,)
    _require(isinstance(x, dict), f"unknown structure {x!r:.40}")
    if "static" in x:
        plain = _decode_plain(x["static"])
        return ("static", type(plain), plain)
    if "copy" in x:
        _require(bool(_DTYPE.fullmatch(_text(x["dtype"]))), "unknown dtype")
        shape = _shape(x["copy"])
        array = np.frombuffer(bytes.fromhex(_text(x["bytes"])), dtype=np.dtype(x["dtype"])).reshape(shape).copy()
        return ("copy", shape, array)
    if "numbers" in x:
        _require(type(x["float"]) is bool, "float is no truth value")
        return ("array", _shape(x["numbers"]), x["float"])
    if "array" in x:
        shape, parts = _shape(x["array"]), [_decode(part) for part in x["parts"]]
        _require(math.prod(shape) == len(parts), "an array has another number of items")
        return ("array", shape, *parts)
    if "dict" in x:
        keys, parts = tuple(map(_decode_plain, x["dict"])), [_decode(part) for part in x["parts"]]
        _require(len(keys) == len(parts) == len(set(keys)), "a dict has other keys than items")
        return ("dict", dict, keys, *parts)
    if "list" in x:
        return ("list", list, *map(_decode, x["list"]))
    parts = [_decode(part) for part in x["tuple"]]
    if "named" not in x:
        return ("tuple", tuple, *parts)
    name, *fields = map(_text, x["named"])
    _require(len(fields) == len(parts), "a named tuple has other fields than items")
    return ("tuple", collections.namedtuple(name, fields), *parts)  # ValueError unless all are identifiers


def _plain_class(cls: type, expected: type) -> None:
    if cls is not expected:
        raise TypeError(
            f"cannot save a program with a {cls.__name__} among its arguments or results; use a {expected.__name__}"
        )


def _shape(x: Any) -> tuple[int, ...]:
    _require(isinstance(x, list) and len(x) <= 32, "a shape is no short list")
    _require(all(type(extent) is int and 0 <= extent < 2**31 for extent in x), "a shape has an impossible extent")
    return tuple(x)


# ---- plain data ------------------------------------------------------------------------------------------------------


def _encode_plain(x: Any) -> Any:
    if x is None or type(x) in (bool, str):
        return x
    if type(x) is int and x.bit_length() < 3 * _MOST_DIGITS:
        return {"int": str(x)}
    if type(x) is float:
        return {"float": x.hex()}
    if type(x) is complex:
        return {"complex": [x.real.hex(), x.imag.hex()]}
    if type(x) is bytes:
        return {"bytes": x.hex()}
    if isinstance(x, np.generic) and _DTYPE.fullmatch(x.dtype.str):
        return {"scalar": x.dtype.str, "bytes": x.tobytes().hex()}
    raise TypeError(
        f"cannot save a program with {type(x).__name__} {x!r:.100} among its static arguments, keys or constant "
        "results: only None, numbers, text and bytes can be saved. Programs with others can be pickled"
    )


def _decode_plain(x: Any) -> Any:
    if x is None or type(x) in (bool, str):
        return x
    _require(isinstance(x, dict), f"unknown constant {x!r:.40}")
    if "int" in x:
        text = _text(x["int"])
        _require(len(text) <= _MOST_DIGITS and bool(re.fullmatch("-?[0-9]+", text)), "no whole number")
        return int(text)
    if "float" in x:
        return float.fromhex(_text(x["float"]))
    if "complex" in x:
        real, imag = x["complex"]
        return complex(float.fromhex(_text(real)), float.fromhex(_text(imag)))
    if "scalar" in x:
        _require(bool(_DTYPE.fullmatch(_text(x["scalar"]))), "unknown dtype")
        return np.frombuffer(bytes.fromhex(_text(x["bytes"])), dtype=np.dtype(x["scalar"]), count=1)[0]
    return bytes.fromhex(_text(x["bytes"]))


def _number(x: Any) -> Any:
    number = _decode_plain(x)
    _require(type(number) in (int, float), "a parameter is no number")
    return number


def _text(x: Any) -> str:
    _require(isinstance(x, str), "a text is missing")
    text: str = x
    return text


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
