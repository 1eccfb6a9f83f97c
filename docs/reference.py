"""The reference of all peripherals and of `agent.toml`, from the declarations: `python docs/reference.py [--check]`."""

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from agent.contract.typed import Check, Json, Length, Pattern, Range, schema
from agent.contract.words import RESERVED_PERIPHERAL, Name
from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral, Test
from agent.rules.declaration import Fact, FindingKind
from agent.rules.ladder import Remedy
from agent.rules.services import DEFAULT_RULES
from agent.settings_tables import DAYS, Document
from agent.verbs import declared as verbs

HERE: Final = Path(__file__).parent

INTRODUCTION = """\
# Peripherals

Everything that a booth agent can watch, by `kind`. `make reference` writes this file and `agent.schema.json` from the
declarations in `agent/peripherals/`; neither is edited by hand.

- *Options* are the keys of `[peripherals.NAME]` in `agent.toml`, beside `kind`. `booth-agent check-config` says what is wrong
  with them; an editor that knows JSON Schema can use [agent.schema.json](agent.schema.json).
- *Facts* are what is measured: all of them stand in `$B/health/NAME`, null where one could not be measured. Those with a
  cross under *tele* also go to `$B/tele/NAME`, over time.
- *Findings* are what can be wrong. One is believed when it has been seen for the first time under *believed*, and gone when it
  has not been seen for the second; *at once* where the device or the kernel states it itself. The severity is the usual one:
  where the facts decide otherwise, the code's page of the runbook says so.
- *Remedies* are what the booth tries about its findings before it calls somebody, from top to bottom ([healing.md](healing.md)).
  One is tried once its finding has lasted for the *patience*; a probe decides after it has *settled*. All wait for
  the end of a citizen's session, and hold the session lock.
- *Tests* are what a technician may have done with it: each is a command of the same name (`$B/cmd/NAME/req`), refused while a
  citizen uses the booth. No page or picture of one is kept or sent.
"""
_WORDS: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def reference(kinds: Iterable[Peripheral]) -> str:
    """The text of peripherals.md."""
    sorted_kinds = sorted(kinds, key=lambda kind: kind.kind)
    contents = [f"- [{kind.kind}](#{kind.kind}): {_in_a_sentence(kind)}" for kind in sorted_kinds]
    sections = (line for kind in sorted_kinds for line in _section(kind))
    return "\n".join([INTRODUCTION, *contents, "", *sections])


def agent_schema(kinds: Iterable[Peripheral]) -> Json:
    """JSON Schema (draft 2020-12) of `agent.toml`. Rules that no schema can say stand in `description`."""
    document = schema(Document)
    for name, hint in _hints(Document).items():
        table = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if isinstance(table, type) and dataclasses.is_dataclass(table):
            document["properties"][name] |= _explained(table)
    configurable = sorted((kind for kind in kinds if kind.kind != RESERVED_PERIPHERAL), key=lambda kind: kind.kind)
    document["properties"]["peripherals"] = {
        "type": "object",
        "propertyNames": schema(Name) | {"not": {"enum": [RESERVED_PERIPHERAL, "agent"]}},
        "additionalProperties": {"oneOf": [_table_schema(kind) for kind in configurable]},
    }
    document["properties"]["services"]["propertyNames"] = {"enum": list(DEFAULT_RULES)}
    document["properties"]["hours"]["properties"]["week"]["propertyNames"] = {"enum": list(DAYS)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agent.toml of a booth agent",
    } | document


def files(kinds: Iterable[Peripheral]) -> dict[str, str]:
    """What is generated, by its name in this folder."""
    kinds = list(kinds)
    return {
        "peripherals.md": reference(kinds),
        "agent.schema.json": json.dumps(agent_schema(kinds), indent=1, ensure_ascii=False) + "\n",
    }


def main(arguments: list[str], folder: Path = HERE) -> int:
    """Write both files, or with --check only compare. Exit status 0 good, 1 something is to be done, 2 usage."""
    if arguments not in ([], ["--check"]):
        print("usage: python docs/reference.py [--check]", file=sys.stderr)
        return 2
    stale = 0
    for name, text in files(declared().values()).items():
        file = folder / name
        if not arguments:
            file.write_text(text, encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text:
            print(f"docs/{name} is not what the declarations say: run `make reference` and commit it", file=sys.stderr)
            stale = 1
    return stale


# --- peripherals.md ---


def _section(kind: Peripheral) -> Iterator[str]:
    module = kind.options.__module__.replace(".", "/") + ".py"
    yield from (f"## {kind.kind}", "", _in_a_sentence(kind), "")
    yield from (f"Declared in [`{module}`](../{module}). One look takes {kind.deadline_s:g} s at most.", "", "### Options", "")
    meaning = _written_doc(kind.options)
    if meaning:
        yield from (meaning, "")
    options = list(_options(kind.options))
    if options:
        yield from _table(("option", "type", "write", "default"), options)
    elif not meaning:
        yield from ("None.", "")
    yield from ("### Facts", "")
    yield from _table(("fact", "type", "unit", "tele", "meaning"), map(_fact, kind.facts))
    yield from ("### Findings", "")
    yield from _table(
        ("code", "severity", "who fixes it", "believed, gone", "bring", "French", "English"),
        (_finding(kind.kind, finding) for finding in kind.finding_kinds.values()),
    )
    if kind.ladder:
        yield from ("### Remedies", "")
        yield from _table(
            ("remedy", "cures", "patience", "at most, settles", "attempts, cooldown", "only"), map(_remedy, kind.ladder)
        )
    if kind.tests:
        yield from ("### Tests", "")
        yield from _table(("test", "what it does", "at most"), map(_test, kind.tests))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _options(options: type) -> Iterator[tuple[str, ...]]:
    hints = _hints(options)
    for field in dataclasses.fields(options):
        kind, limits = _described(hints[field.name])
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = None if required else _default_of(field)
        shown = "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"
        yield f"`{field.name}`", kind, ", ".join(limits), "required" if required else shown or "none"


def _described(hint: Any) -> tuple[str, list[str]]:
    """In words: the type, and what limits it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, limits = _described(args[0])
        return kind, limits + [_limit(constraint) for constraint in args[1:]]
    if origin in (Union, types.UnionType):
        arms = [_described(arm) for arm in args if arm is not types.NoneType]
        return " or ".join(kind for kind, _ in arms), [limit for _, limits in arms for limit in limits]
    if origin is Literal:
        return "word", ["one of " + ", ".join(map(str, args))]
    if origin in (list, tuple):
        kind, limits = _described(args[0])
        return f"list of {kind}", limits
    return _WORDS.get(hint, "table"), []


def _limit(constraint: Any) -> str:
    match constraint:
        case Range():
            return f"{constraint.low:.16g} to {constraint.high:.16g}"
        case Pattern():
            return constraint.meaning
        case Length():
            return f"at most {constraint.most} long"
        case Check():
            return constraint.description
    raise TypeError(f"{constraint!r} is no constraint of agent.contract.typed")


def _fact(fact: Fact) -> tuple[str, ...]:
    return f"`{fact.name}`", fact.type, fact.unit or "", "×" if fact.telemetry else "", fact.meaning


def _finding(kind: str, finding: FindingKind) -> tuple[str, ...]:
    debounce = ", ".join(f"{after_s:g} s" if after_s else "at once" for after_s in (finding.raise_after_s, finding.clear_after_s))
    page = f"[{finding.code}](runbook/{kind}/{finding.code}.md)"
    return page, finding.severity, finding.fix_by, debounce, finding.part or "", finding.text.fr, finding.text.en


def _remedy(remedy: Remedy) -> tuple[str, ...]:
    limits = {
        "on USB": remedy.needs_usb,
        "once, and once in 6 h for the whole booth": remedy.reboots,
    }
    return (
        remedy.name,
        " ".join(sorted(remedy.cures)),
        f"{remedy.patience_s:g} s",
        f"{remedy.deadline_s:g} s, {remedy.settle_s:g} s",
        f"{remedy.max_attempts}, {remedy.cooldown_s:g} s",
        ", ".join(limit for limit, holds in limits.items() if holds),
    )


def _test(test: Test) -> tuple[str, ...]:
    return f"`{test.name}`", verbs()[test.name].does, f"{test.deadline_s:g} s"


def _in_a_sentence(kind: Peripheral) -> str:
    doc = sys.modules[kind.options.__module__].__doc__
    return _paragraphs(doc)[0] if doc else f"{kind.noun.en[0].upper()}{kind.noun.en[1:]}."


def _written_doc(type_: type) -> str:
    """The docstring; empty where there is only the one that `dataclass` makes up."""
    doc = type_.__doc__
    return "" if doc is None or doc.startswith(f"{type_.__name__}(") else "\n\n".join(_paragraphs(doc))


def _paragraphs(doc: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(doc).split("\n\n")]


# --- agent.schema.json ---


def _table_schema(kind: Peripheral) -> Json:
    table = schema(kind.options) | _explained(kind.options)
    return table | {
        "title": kind.kind,
        "properties": {"kind": {"const": kind.kind}} | table["properties"],
        "required": ["kind", *table["required"]],
    }


def _explained(table: type) -> Json:
    """The schema of a table, with what an editor shows beside it: its docstring, and each default that TOML can write."""
    explained = schema(table)
    for field in dataclasses.fields(table):
        default = _default_of(field)
        if default is not None and not dataclasses.is_dataclass(default):
            explained["properties"][field.name]["default"] = default
    doc = _written_doc(table)
    return {"properties": explained["properties"]} | ({"description": doc} if doc else {})


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _hints(type_: type) -> dict[str, Any]:
    return typing.get_type_hints(type_, include_extras=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
