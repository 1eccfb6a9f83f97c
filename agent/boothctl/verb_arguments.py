"""The arguments of a command as they are typed: options from the fields of the verb's declaration, and back to JSON."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from agent.boothctl.terminal import usage
from agent.contract.typed import Length, Pattern, Range

# An argument of one of these names has no option of its own: each command has it for itself.
_TAKEN: Final = frozenset({"id", "by", "code", "sign", "json", "wait", "wait-s", "broker", "ca", "certificate", "area"})
_OPPOSITE: Final = {"on": "off"}
_WORD: Final = "typed_"
_OPTION: Final = "given_"

Kind = Literal["text", "number", "switch"]


@dataclass(frozen=True)
class Argument:
    """One argument of a verb. `meaning` says what may be written; `default` is None where there is none."""

    name: str
    kind: Kind
    required: bool
    many: bool
    choices: tuple[str, ...]
    meaning: str
    default: Any

    @property
    def flag(self) -> str:
        return self.name.replace("_", "-")

    @property
    def has_option(self) -> bool:
        return self.flag not in _TAKEN

    @property
    def metavar(self) -> str:
        named = "NAME" if self.flag.startswith("peripheral") else self.flag.rpartition("-")[2].upper()
        return {"s": "SECONDS"}.get(self.flag.rpartition("-")[2], named) if self.kind == "number" else named


class Interleaved(argparse.ArgumentParser):
    """Takes a word that may be left out after an option too, where argparse alone has given up on it; and no word too many."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            found, rest = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False
        if rest:  # else the whole program's usage would be shown
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest


def arguments(declared: type) -> list[Argument]:
    """Of a verb, in the order of its declaration."""
    hints = typing.get_type_hints(declared, include_extras=True)
    return [_argument(field, hints[field.name]) for field in dataclasses.fields(declared)]


def typed(known: Sequence[Argument]) -> Argument | None:
    """The one that may stand there without its option: a list, or the first that is required and no switch."""
    return next((one for one in known if one.many or (one.required and one.kind != "switch")), None)


def add_to(parser: argparse.ArgumentParser, declared: type) -> None:
    known = arguments(declared)
    for one in known:
        if one.kind == "switch":
            _add_switch(parser, one)
        elif one.has_option:
            more: dict[str, Any] = {"action": "append"} if one.many else {}
            parser.add_argument(
                f"--{one.flag}", dest=_OPTION + one.name, metavar=one.metavar, help=_help(one), **_shape(one), **more
            )
    word = typed(known)
    if word is not None:
        parser.add_argument(
            _WORD + word.name, nargs="*" if word.many else "?", metavar=word.metavar, help=_help(word), **_shape(word)
        )


def given(options: argparse.Namespace, declared: type) -> dict[str, Any]:
    """What was typed, as JSON. Whether it fits is not looked at. Raises `Failed`, as wrong usage."""
    found: dict[str, Any] = {}
    known = arguments(declared)
    for one in known:
        option = getattr(options, _OPTION + one.name, None)
        word = getattr(options, _WORD + one.name, None) or None
        if one.many:
            if both := [*(word or ()), *(option or ())]:
                found[one.name] = both
            continue
        if option is not None and word is not None:
            raise usage(f"{one.name} is given twice: {word} and --{one.flag} {option}")
        value = word if option is None else option
        if value is not None:
            found[one.name] = value
    return found


def _shape(one: Argument) -> dict[str, Any]:
    return ({"choices": one.choices} if one.choices else {}) | ({"type": int} if one.kind == "number" else {})


def _add_switch(parser: argparse.ArgumentParser, one: Argument) -> None:
    pair = parser.add_mutually_exclusive_group()  # that one is required is told with all else that is missing
    dest = _OPTION + one.name
    pair.add_argument(
        f"--{one.flag}", dest=dest, nargs="?", const=True, type=_truth, metavar="true|false", help="true where nothing is said"
    )
    pair.add_argument(f"--{_OPPOSITE.get(one.flag, f'no-{one.flag}')}", dest=dest, action="store_false", default=None)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError("write true or false")
    return text == "true"


def _help(one: Argument) -> str:
    default = None if one.default in (None, [], ()) else f"default {one.default}"
    # argparse reads a format in it.
    return ", ".join(filter(None, (one.meaning, default))).replace("%", "%%")


def _argument(field: "dataclasses.Field[Any]", hint: Any) -> Argument:
    kind, choices, many, meaning = _read(hint)
    meaning = field.metadata.get("meaning", meaning)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    default: Any = None
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        default = field.default
    return Argument(field.name, kind, required, many, choices, meaning, default)


def _read(hint: Any) -> tuple[Kind, tuple[str, ...], bool, str]:
    """Kind, choices, whether there may be many, and what may be written, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, choices, many, meaning = _read(args[0])
        said = (_limit(constraint, many=many) for constraint in args[1:])
        return kind, choices, many, ", ".join(filter(None, (meaning, *said)))
    if origin in (Union, types.UnionType):
        return _read(next(arm for arm in args if arm is not types.NoneType))
    if origin is Literal:
        return "text", tuple(map(str, args)), False, "one of " + ", ".join(map(str, args))
    if origin in (list, tuple):
        kind, choices, _, meaning = _read(args[0])
        return kind, choices, True, meaning
    return {bool: "switch", int: "number"}.get(hint, "text"), (), False, ""  # type: ignore[return-value]


def _limit(constraint: Any, *, many: bool) -> str:
    match constraint:
        case Range():
            return f"{constraint.low:.16g} to {constraint.high:.16g}"
        case Pattern():
            return constraint.meaning
        case Length() if many:
            return f"at most {constraint.most} of them"
        case _:
            return ""
