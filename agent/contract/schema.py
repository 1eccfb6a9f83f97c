"""The contract as one JSON Schema file: `python -m agent.contract.schema [--check] FILE`."""

import json
import sys
from pathlib import Path

from agent.contract.command import Request
from agent.contract.documents import Document
from agent.contract.messages import PUBLISHED
from agent.contract.typed import Json, schema


def contract_schema() -> Json:
    """Every payload by the kind of its topic, with the way it is sent under `x-mqtt`."""
    definitions = {}
    for name, kind in PUBLISHED.items():
        sent = {"qos": kind.qos, "retained": kind.retained, "expiry": kind.expiry, "empty_clears": kind.may_be_empty}
        definitions[name] = schema(kind.type) | {"x-mqtt": sent}
    definitions["desired"] = schema(Document)
    definitions["cmd-req"] = schema(Request)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Booth MQTT contract, version 1",
        "$defs": definitions,
    }


def main(arguments: list[str]) -> int:
    *flags, file = arguments
    text = json.dumps(contract_schema(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in flags:
        if Path(file).read_text() == text:
            return 0
        print(f"{file} is not what the types say: run `make schema` and commit it", file=sys.stderr)
        return 1
    Path(file).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
