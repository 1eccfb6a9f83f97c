"""The generated reference: what stands in it, that it is fresh, and that its schema judges `agent.toml` as the agent does."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from agent.contract.typed import Invalid
from agent.peripherals import declared
from agent.settings import Settings, read
from agent.simulator import booth
from agent.simulator.booth import SimulatedBooth
from tests.peripherals.toy import toy_package

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def script(file: Path) -> ModuleType:
    """A program of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = script(DOCS / "reference.py")
INDEX = script(DOCS / "runbook" / "index.py")


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def judge() -> jsonschema.Draft202012Validator:
    return validator(REFERENCE.agent_schema(declared().values()))


@pytest.fixture
def smallest() -> dict[str, Any]:
    return {"booth": {"id": "61-0007", "area": "61"}, "broker": {"url": "mqtt://127.0.0.1"}, "peripherals": {}}


def test_the_reference_that_is_committed_is_what_the_declarations_say() -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / "reference.py"), "--check"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stale_or_missing_file_is_named_with_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert REFERENCE.main([], tmp_path) == 0
    assert REFERENCE.main(["--check"], tmp_path) == 0
    assert capsys.readouterr().err == ""
    page = tmp_path / "peripherals.md"
    page.write_text(page.read_text().replace("shopkeeper", "technician", 1))
    (tmp_path / "agent.schema.json").unlink()
    assert REFERENCE.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"docs/{name} is not what the declarations say: run `make reference` and commit it"
        for name in ("peripherals.md", "agent.schema.json")
    ]
    assert REFERENCE.main(["--chekc"], tmp_path) == 2


def test_every_declared_word_stands_in_the_reference_and_every_link_leads_somewhere() -> None:
    text = REFERENCE.reference(declared().values())
    _, *parts = re.split("^## (.*)$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(sections) == sorted(declared())
    for kind in declared().values():
        section = sections[kind.kind]
        for fact in kind.facts:
            row = f"^\\| `{fact.name}` \\| {fact.type} \\| {fact.unit or ''} \\|.*{re.escape(fact.meaning)}"
            assert re.search(row, section, re.MULTILINE)
        for finding in kind.finding_kinds.values():
            row = f"| [{finding.code}](runbook/{kind.kind}/{finding.code}.md) | {finding.severity} | {finding.fix_by} |"
            assert row in section
            assert finding.text.fr in section
            assert finding.text.en in section
        for field in dataclasses.fields(kind.options):
            assert f"| `{field.name}` |" in section
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DOCS / target).is_file(), target


def test_the_order_in_which_the_kinds_are_found_changes_nothing() -> None:
    kinds = list(declared().values())
    assert REFERENCE.files(kinds) == REFERENCE.files(reversed(kinds))


def uncommented(text: str) -> str:
    """A TOML file with its examples switched on: lines such as `# key = value` and `# [table]`, the first of each key."""
    seen: set[tuple[str, str]] = set()
    table, kept = "", []
    for commented in text.splitlines():
        line = re.sub(r"^# (?=\[|[a-z_]+ = )", "", commented)
        table = line if line.startswith("[") else table
        key = (table, line.partition(" = ")[0])
        if " = " not in line or key not in seen:
            kept.append(line)
            seen.add(key)
    return "\n".join(kept)


def test_the_example_of_provisioning_keeps_the_schema(judge: jsonschema.Draft202012Validator) -> None:
    text = (ROOT / "provisioning" / "agent.toml").read_text()
    assert not list(judge.iter_errors(tomllib.loads(text)))
    with_examples = tomllib.loads(uncommented(text))
    assert with_examples["broker"]["keepalive_s"] == 30
    assert not list(judge.iter_errors(with_examples))


async def test_the_simulated_booths_tables_keep_the_schema(
    judge: jsonschema.Draft202012Validator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, Any]] = []

    def note(data: dict[str, Any], *others: Any) -> Settings:
        written.append(data)
        return read(data, *others)

    monkeypatch.setattr(booth, "read", note)
    here = SimulatedBooth(tmp_path)
    try:
        await here.printer.listen()
        await here.page.start()
        here._settings()
    finally:
        await here.stop()
    (data,) = written
    assert set(data["peripherals"]) == set(declared()) - {"booth"}
    assert not list(judge.iter_errors(data))


WRONG: dict[str, dict[str, Any]] = {
    "an unknown table": {"reportign": {}},
    "an unknown key": {"reporting": {"heartbeat": 5}},
    "a number out of range": {"reporting": {"heartbeat_s": 4}},
    "a word for a number": {"reporting": {"heartbeat_s": "5"}},
    "no booth": {"booth": {"area": "61"}},
    "an unknown kind": {"peripherals": {"sofa": {"kind": "sofa"}}},
    "no kind": {"peripherals": {"board": {}}},
    "the agent's own kind": {"peripherals": {"own": {"kind": "booth"}}},
    "the agent's own name": {"peripherals": {"booth": {"kind": "board"}}},
    "a name in capitals": {"peripherals": {"Board": {"kind": "board"}}},
    "a missing option": {"peripherals": {"printer": {"kind": "receipt-printer"}}},
    "an option of another kind": {"peripherals": {"board": {"kind": "board", "device": "csi:0"}}},
    "an option out of range": {"peripherals": {"board": {"kind": "board", "over_temperature_c": 500}}},
    "an option that matches no pattern": {"peripherals": {"audio": {"kind": "audio", "card": "two words"}}},
    "an unknown day": {"hours": {"week": {"monday": ["07:00-12:30"]}}},
    "an unknown service": {"services": {"coffee": {}}},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_the_agent_refuses_the_schema_refuses_too(
    judge: jsonschema.Draft202012Validator, smallest: dict[str, Any], wrong: dict[str, Any], tmp_path: Path
) -> None:
    read(smallest, declared(), tmp_path)
    assert not list(judge.iter_errors(smallest))
    with pytest.raises(Invalid):
        read(smallest | wrong, declared(), tmp_path)
    assert list(judge.iter_errors(smallest | wrong))


def test_the_defaults_in_the_schema_are_those_of_the_agent() -> None:
    """Each one written out is accepted, and says what leaving it out says."""
    schema = REFERENCE.agent_schema(declared().values())
    arms = schema["properties"]["peripherals"]["additionalProperties"]["oneOf"]
    assert [arm["title"] for arm in arms] == sorted(set(declared()) - {"booth"})
    for arm in arms:
        defaults = {name: option["default"] for name, option in arm["properties"].items() if "default" in option}
        options = declared()[arm["title"]].options
        assert defaults == {
            field.name: field.default
            for field in dataclasses.fields(options)
            if field.name not in arm["required"] and field.default is not None
        }
        for name, default in defaults.items():
            assert not list(validator(arm["properties"][name]).iter_errors(default))


def test_a_toy_dropped_into_a_package_stands_in_schema_and_reference_and_is_missed_in_the_runbook(
    tmp_path: Path, smallest: dict[str, Any]
) -> None:
    with toy_package(tmp_path) as package:
        kinds = {**declared(), **declared(package)}
        generated = REFERENCE.files(kinds.values())
    judge = validator(json.loads(generated["agent.schema.json"]))
    toy = smallest | {"peripherals": {"bear": {"kind": "toy", "naps": 2}}}
    assert not list(judge.iter_errors(toy))
    assert list(judge.iter_errors(smallest | {"peripherals": {"bear": {"kind": "toy", "naps": 10}}}))

    section = generated["peripherals.md"].partition("\n## toy\n")[2]
    for line in (
        "The toy: it sleeps.",
        "| `naps` | whole number | 1 to 9 | `3` |",
        "| `asleep` | boolean |  |  | it sleeps |",
        "| [asleep](runbook/toy/asleep.md) | info | nobody | at once, at once |  | Il dort. | It sleeps. |",
    ):
        assert line in section.splitlines()
    assert "- [toy](#toy): The toy: it sleeps." in generated["peripherals.md"].splitlines()

    already = INDEX.page_problems(list(declared().values()))
    codes = ("asleep", "no-device", "not-responding", "probe-failed", "wedged")
    missed = [problem for problem in INDEX.page_problems(list(kinds.values())) if problem not in already]
    assert missed == [f"docs/runbook/toy/{code}.md is missing: write it, then run `make runbook`" for code in codes]
    assert "| [asleep](toy/asleep.md) | info | nobody | Il dort. | It sleeps. |" in INDEX.index(list(kinds.values()))
