"""JSON Schemas of what an operator signs: `python docs/schemas.py [--check]` writes config, policy, update, trust and the forms'
catalogue from the types."""

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any, Final, get_args

from agent import lockdown, updates
from agent.contract.documents import CONFIG_SECTIONS
from agent.contract.forms import Catalogue
from agent.contract.typed import Json, schema
from agent.contract.words import RESERVED_PERIPHERAL, Name
from agent.documents.trust import Trust
from agent.peripherals import declared
from agent.peripherals.declaration import Peripheral
from agent.rules.services import DEFAULT_RULES
from agent.settings_remote import BROKER_KEYS, HomeAssistantTable, local_options
from agent.settings_tables import DAYS, Document

HERE: Final = Path(__file__).parent
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> Json:
    """The `doc` of a configuration. Over `agent.toml` it lies key by key, so that no key is required."""
    local = schema(Document)["properties"]
    sections = {name: _optional(local[name]) for name in CONFIG_SECTIONS if name in local}
    sections["broker"]["properties"] = {key: sections["broker"]["properties"][key] for key in BROKER_KEYS}
    sections["services"]["propertyNames"] = {"enum": list(DEFAULT_RULES)}
    sections["hours"]["properties"]["week"]["propertyNames"] = {"enum": list(DAYS)}
    kinds = [kind for kind in declared().values() if kind.kind != RESERVED_PERIPHERAL]
    sections["peripherals"] = {
        "type": "object",
        "propertyNames": schema(Name),
        "additionalProperties": {"anyOf": [_options(kind) for kind in sorted(kinds, key=lambda kind: kind.kind)]},
    }
    sections["home_assistant"] = schema(HomeAssistantTable)
    return _document("configuration of a booth: the doc of config/desired", sections)


def policy_schema() -> Json:
    """The `doc` of a policy: a section for each rule. What a section leaves out is locked."""
    sections = {}
    for name, rule in sorted(lockdown.rules().items()):
        sections[name] = schema(rule.schema)
        sections[name]["properties"] = {
            key: value | {"default": default}
            for (key, value), default in zip(sections[name]["properties"].items(), _defaults(rule.schema), strict=True)
        }
    return _document("policy of a booth: the doc of policy/desired", sections)


def update_schema() -> Json:
    """The `doc` of an update: a section for each kind."""
    sections = {name: schema(kind.section) for name, kind in sorted(updates.kinds().items())}
    return _document("update of a booth: the doc of update/desired", sections)


def forms_schema() -> Json:
    return {"$schema": _DIALECT, "title": "catalogue.json of the forms"} | schema(Catalogue)


def trust_schema() -> Json:
    return {"$schema": _DIALECT, "title": "trust.json of a booth, and trust/desired"} | schema(Trust)


def files() -> dict[str, str]:
    """What is generated, by its name in this folder."""
    schemas = {
        "config": config_schema(), "policy": policy_schema(), "update": update_schema(), "trust": trust_schema(),
        "forms": forms_schema(),
    }  # fmt: skip
    return {f"{name}.schema.json": json.dumps(each, indent=1, ensure_ascii=False) + "\n" for name, each in schemas.items()}


def main(arguments: list[str], folder: Path = HERE) -> int:
    """Write them, or with --check only compare. Exit status 0 good, 1 something is to be done, 2 usage."""
    if arguments not in ([], ["--check"]):
        print("usage: python docs/schemas.py [--check]", file=sys.stderr)
        return 2
    stale = 0
    for name, text in files().items():
        file = folder / name
        if not arguments:
            file.write_text(text, encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text:
            print(f"docs/{name} is not what the types say: run `make reference` and commit it", file=sys.stderr)
            stale = 1
    return stale


def _document(title: str, sections: dict[str, Json]) -> Json:
    return {"$schema": _DIALECT, "title": title, "type": "object", "properties": sections, "additionalProperties": False}


def _optional(table: Json) -> Json:
    return {key: value for key, value in table.items() if key != "required"}


def _options(kind: Peripheral) -> Json:
    table = _optional(schema(kind.options))
    remote = {key: value for key, value in table["properties"].items() if key not in local_options(kind)}
    return table | {"title": kind.kind, "properties": remote}


def _defaults(type_: Any) -> list[Any]:
    while typing.get_origin(type_) is typing.Annotated:
        type_ = get_args(type_)[0]
    return [
        field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        for field in dataclasses.fields(type_)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
