"""JSON from outside, decoded with limits: size, UTF-8, depth, duplicate keys, numbers that are none.

Python's own decoder keeps the last of two equal keys, reads NaN and 1e999, takes UTF-16, dies of a
RecursionError on deep nesting and of a ValueError on 5,000 digits: each is refused here instead.
"""

import json
import math
from typing import Any, Final, NoReturn

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 400  # longer integers cost quadratic time and fit no field of ours


class BadJson(ValueError):
    """The bytes are no JSON that this contract accepts; the message says why, in one sentence."""


class TooLarge(BadJson):
    """More bytes than `MAX_BYTES`."""


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Decode one JSON value. Raises `BadJson`."""
    if len(data) > max_bytes:
        raise TooLarge(f"{len(data)} bytes; at most {max_bytes} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"byte {error.start} is not UTF-8") from error
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_short)
    except json.JSONDecodeError as error:
        raise BadJson(f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    _check_surrogates(value)
    return value


def decode_object(data: bytes, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Decode one JSON object. Raises `BadJson`."""
    value = decode(data, max_bytes)
    if not isinstance(value, dict):
        raise BadJson("the outermost value is not an object")
    return value


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON, the form of everything that is published."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _check_depth(text: str) -> None:
    # Before the recursive decoder sees it. Brackets inside strings are skipped.
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise BadJson(f"nested deeper than {MAX_DEPTH}")
        elif character in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson(f"the key {key[:40]!r} stands there twice")
            seen.add(key)
    return result


def _no_constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not a number in JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadJson(f"the number {digits[:20]} is out of range")
    return number


def _short(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadJson(f"a number of {len(digits)} digits")
    return int(digits)


def _check_surrogates(value: Any) -> None:
    # "\ud800" decodes, and then cannot be encoded again: nothing that we echo may die of it.
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadJson("a text holds half of a surrogate pair")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_surrogates(key)
            _check_surrogates(item)
    elif isinstance(value, list):
        for item in value:
            _check_surrogates(item)
