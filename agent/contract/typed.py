"""A small typed validator: dataclasses in, *every* problem with its path out, JSON Schema as well.

It exists because the contract asks for all problems at once (a document is corrected in one round
trip, not in five) at a cost that an idle daemon on 1 GB can carry; `docs/decisions/0002` weighs it
against pydantic and msgspec.

Understood: `str` `int` `float` `bool` `object` (anything), `Literal`, unions, `list[T]`,
`tuple[T, ...]`, `dict[str, T]`, nested dataclasses, and `Annotated[T, constraint]` with the
constraints of this module. A field with a default may be left out. A field's wire name is its
name, or `field(metadata={"key": "…"})` where Python reserves the word.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

_SAID: Final = 50  # a message of many megabytes about a small document helps nobody

T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (`reporting.heartbeat_s`, `hours[2]`) and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '(whole document)'}: {self.message}"


class Invalid(ValueError):
    """The value does not fit its type; `problems` has every reason, the message the first ones."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = [f"and {len(problems) - _SAID} more"] if len(problems) > _SAID else []
        super().__init__("; ".join([*map(str, problems[:_SAID]), *more]))
        self.problems = list(problems)


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both allowed."""

    low: float
    high: float

    def complaint(self, value: Any) -> str | None:
        if self.low <= value <= self.high:
            return None
        return f"write a number from {self.low:.16g} to {self.high:.16g} (here: {shown(value)})"

    def schema(self) -> Json:
        return {"minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Pattern:
    """A text that matches `regex` as a whole; `meaning` is what an operator is told to write. `secret`: what he wrote instead is
    not repeated."""

    regex: str
    meaning: str
    secret: bool = False

    def complaint(self, value: Any) -> str | None:
        if re.fullmatch(self.regex, value):
            return None
        return f"write {self.meaning}" + ("" if self.secret else f" (here: {shown(value)})")

    def schema(self) -> Json:
        return {"pattern": f"^(?:{self.regex})$", "description": self.meaning}


@dataclass(frozen=True)
class Length:
    """A text, list or table of at most `most` characters or entries."""

    most: int

    def complaint(self, value: Any) -> str | None:
        return None if len(value) <= self.most else f"at most {self.most} long (here: {len(value)})"

    def schema(self) -> Json:
        return dict.fromkeys(_LIMIT_OF, self.most)


@dataclass(frozen=True)
class Check:
    """Any other rule: `rule` returns what is wrong, or None."""

    rule: Callable[[Any], str | None]
    description: str

    def complaint(self, value: Any) -> str | None:
        try:
            return self.rule(value)
        except OSError:  # looked up as a file, and longer than any file's name
            return f"write {self.description} (here: {shown(value)})"

    def schema(self) -> Json:
        return {"description": self.description}


def build(type_: type[T], value: object, path: str = "", unknown: Literal["refuse", "ignore"] = "refuse") -> T:
    """Make a `type_` of plain JSON or TOML data. Raises `Invalid` with every problem."""
    problems: list[Problem] = []
    result = _Builder(problems, unknown == "refuse").any(type_, value, path)
    if problems:
        raise Invalid(problems)
    return typing.cast("T", result)


def plain(value: object) -> Any:
    """The JSON form of a dataclass, the inverse of `build`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: plain(getattr(value, name)) for name, key, _, _ in _fields(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def schema(type_: Any) -> Json:
    """JSON Schema (draft 2020-12) of what `build` accepts."""
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        merged = schema(args[0])
        for constraint in args[1:]:
            kind = merged.get("type")  # None of a union
            merged |= {key: value for key, value in constraint.schema().items() if _LIMIT_OF.get(key) in (None, kind) or not kind}
        return merged
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(arm) for arm in args]}
    if origin in (list, tuple):
        return {"type": "array", "items": schema(args[0])}
    if origin is dict:
        names = {} if args[0] is str else {"propertyNames": schema(args[0])}
        return {"type": "object", **names, "additionalProperties": schema(args[1])}
    if dataclasses.is_dataclass(type_):
        fields = _fields(typing.cast("type", type_))
        return {
            "type": "object",
            "properties": {key: schema(hint) for _, key, hint, _ in fields},
            "required": [key for _, key, _, required in fields if required],
            "additionalProperties": False,
        }
    return dict(_PRIMITIVE_SCHEMAS[type_])


def shown(value: object) -> str:
    """A value as an error message may show it: short, and harmless in a log."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number that is far too long"
    return text if len(text) <= 60 else text[:57] + "…"


_PRIMITIVE_SCHEMAS: dict[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    None: {"type": "null"},
    object: {},
    Any: {},
}
_LIMIT_OF = {"maxLength": "string", "maxItems": "array", "maxProperties": "object"}
_ENTRIES: dict[Any, Any] = {list: list | tuple, tuple: list | tuple, dict: Mapping}
_FLOAT_END = 10**308  # integers from here on may be no float
_WRITE_A = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}


@cache
def _fields(type_: type) -> tuple[tuple[str, str, Any, bool], ...]:
    """(attribute, wire name, type, required) of each field."""
    hints = typing.get_type_hints(type_, include_extras=True)
    missing = dataclasses.MISSING
    return tuple(
        (
            field.name,
            field.metadata.get("key", field.name),
            hints[field.name],
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(type_)
    )


class _Builder:
    """One validation; problems gather in a list that all levels share."""

    def __init__(self, problems: list[Problem], refuse_unknown: bool) -> None:
        self.problems = problems
        self.refuse_unknown = refuse_unknown

    def complain(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))

    def any(self, type_: Any, value: object, path: str) -> object:
        origin, args = get_origin(type_), get_args(type_)
        if origin is Annotated:
            return self.annotated(args, value, path)
        if origin is Literal:
            for word in args:
                if value == word and isinstance(value, bool) == isinstance(word, bool):
                    return word
            self.complain(path, f"write one of {', '.join(map(str, args))} (here: {shown(value)})")
            return value
        if origin in (Union, types.UnionType):
            return self.union(args, value, path)
        if origin in (list, tuple):
            return self.sequence(origin, args[0], value, path)
        if origin is dict:
            return self.mapping(args[0], args[1], value, path)
        if dataclasses.is_dataclass(type_):
            return self.dataclass(typing.cast("type", type_), value, path)
        return self.primitive(type_, value, path)

    def annotated(self, args: tuple[Any, ...], value: object, path: str) -> object:
        before = len(self.problems)
        if isinstance(value, _ENTRIES.get(get_origin(args[0]), ())):
            # Before its entries are looked at: whoever may send ten must not have ninety thousand judged one by one.
            for limit in args[1:]:
                if isinstance(limit, Length) and (message := limit.complaint(value)) is not None:
                    self.complain(path, message)
                    return value
        result = self.any(args[0], value, path)
        if len(self.problems) == before and value is not None:
            for constraint in args[1:]:
                if (message := constraint.complaint(result)) is not None:
                    self.complain(path, message)
        return result

    def union(self, arms: tuple[Any, ...], value: object, path: str) -> object:
        if value is None and types.NoneType in arms:
            return None
        attempts: list[list[Problem]] = []
        for arm in (arm for arm in arms if arm is not types.NoneType):
            attempt = _Builder([], self.refuse_unknown)
            result = attempt.any(arm, value, path)
            if not attempt.problems:
                return result
            attempts.append(attempt.problems)
        fewest: list[Problem] = min(attempts, key=_count)
        self.problems.extend(fewest)
        return None

    def sequence(self, origin: Any, item_type: Any, value: object, path: str) -> object:
        if not isinstance(value, list | tuple):
            self.complain(path, f"write a list (here: {shown(value)})")
            return ()
        return origin(self.any(item_type, item, f"{path}[{index}]") for index, item in enumerate(value))

    def mapping(self, key_type: Any, item_type: Any, value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            self.complain(path, f"write a table of names and values (here: {shown(value)})")
            return {}
        for key in value:
            self.any(key_type, key, path)
        return {key: self.any(item_type, item, _join(path, key)) for key, item in value.items()}

    def dataclass(self, type_: type, value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            self.complain(path, f"write a table with its keys (here: {shown(value)})")
            return None
        before = len(self.problems)
        fields = _fields(type_)
        known = {key for _, key, _, _ in fields}
        if self.refuse_unknown:
            for key in value:
                if key not in known:
                    self.complain(_join(path, key), f"unknown key; known here: {', '.join(sorted(known)) or 'none'}")
        arguments = {}
        for name, key, hint, required in fields:
            if key in value:
                arguments[name] = self.any(hint, value[key], _join(path, key))
            elif required:
                self.complain(_join(path, key), f"missing; write {_described(hint)}")
        return type_(**arguments) if len(self.problems) == before else None

    def primitive(self, type_: Any, value: object, path: str) -> object:
        if type_ in (object, Any):
            return value
        # True is an int to Python; 1.0 is a whole number to JSON Schema.
        if type_ is int and type(value) is float and value.is_integer():
            return int(value)
        if type_ is float and type(value) is int and abs(value) < _FLOAT_END:
            return float(value)
        if type(value) is not type_:
            self.complain(path, f"write {_WRITE_A[type_]} (here: {shown(value)})")
        return value


def _described(type_: Any) -> str:
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        for constraint in args[1:]:
            if isinstance(constraint, Pattern):
                return constraint.meaning
        return _described(args[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if dataclasses.is_dataclass(type_):
        required = [key for _, key, _, is_required in _fields(typing.cast("type", type_)) if is_required]
        return f"a table with {', '.join(required)}"
    if origin is dict:
        return "a table, which may be empty"
    return _WRITE_A.get(type_, "its value")


def _count(problems: list[Problem]) -> int:
    return len(problems)


def _join(path: str, key: object) -> str:
    # A path is printed, logged and published: a key that is not plain stands there as `shown`.
    name = key if isinstance(key, str) and key.isprintable() and len(key) <= 60 else shown(key)
    return f"{path}.{name}" if path else name
