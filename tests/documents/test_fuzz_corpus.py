"""What `make fuzz` begins with, replayed without it. What broke something once lies in the corpus, by a name that says what."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.updates.archive import unpack
from tests.fuzz import mutate, mutate_archive
from tests.fuzz.__main__ import NAMES
from tests.fuzz.seeds import ARCHIVED, CONFIG, POLICY, UPDATE, seeds, words
from tests.fuzz.targets import KINDS, LOCAL, RULES, TARGETS, command, config, document, envelope, policy, trust
from tests.fuzz.targets_updates import UPDATES, archive, catalogue, manifest, update

CORPUS = Path(__file__).parents[1] / "fuzz/corpus"
FILES = sorted(file for file in CORPUS.rglob("*") if file.is_file())


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_input_of_the_corpus_breaks_its_target(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


def test_each_target_has_a_corpus_that_is_small() -> None:
    assert sorted(folder.name for folder in CORPUS.iterdir()) == sorted(TARGETS) == sorted(NAMES)
    for name in TARGETS:
        files = [file for file in FILES if file.parent.name == name]
        assert len(files) >= 10
        assert max(file.stat().st_size for file in files) <= 8192


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_begins_with_is_good_and_reaches_behind_every_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would mutate what was refused long before. Where a rule or a kind of peripheral is new, it gets an example."""
    taken = name in ("document", "command")
    monkeypatch.setattr("tests.fuzz.targets._told", lambda refusal: pytest.fail(str(refusal)) if taken else None)
    monkeypatch.setattr("tests.fuzz.targets_updates._are_told", lambda error: pytest.fail(str(error)))
    for seed in seeds(name):
        TARGETS[name](seed)
    assert POLICY.keys() == RULES.keys()
    assert UPDATE.keys() == UPDATES.keys()
    assert {table["kind"] for table in LOCAL["peripherals"].values()} == KINDS.keys() - {"booth"}
    assert CONFIG


@pytest.mark.parametrize("files", ARCHIVED, ids=str)
def test_the_archives_that_it_begins_with_are_unpacked(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(mutate_archive.small(files))
    (tmp_path / "to").mkdir()
    unpack(tmp_path / "x.tar", tmp_path / "to")
    assert {name: (tmp_path / "to" / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("name", TARGETS)
def test_some_mutations_of_it_break_nothing(name: str) -> None:
    """A taste of what `make fuzz` does for a minute; always the same."""
    chance, known = Random(name), words()
    for seed in seeds(name):
        for _ in range(25):
            TARGETS[name](mutate.of(name)(seed, known, chance))


NO_JSON: list[tuple[Any, bytes]] = [
    (envelope, b"null"),
    (document, b"\xff"),
    (trust, b"[" * 100_000),
    (policy, b'{"hours": 1, "hours": 2}'),
    (config, b"NaN"),
    (command, b'{"id": 1, "id": 2}'),
    (update, b'{"agent": {}, "agent": {}}'),
    (catalogue, b"[]"),
    (archive, b"{}"),
    (manifest, b'{"version": 1e999}'),
]


@pytest.mark.parametrize(("target", "data"), NO_JSON)
def test_what_cannot_be_read_is_refused_by_each(target: Any, data: bytes) -> None:
    target(data)


def test_a_target_notices_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a minute of fuzzing would prove nothing."""
    monkeypatch.setattr("tests.fuzz.targets.layer_problems", lambda *_: [])
    with pytest.raises(Exception, match="telemetry_s"):
        config(b'{"reporting": {"telemetry_s": "often"}}')
    monkeypatch.setattr("tests.fuzz.targets.judge", lambda *_: None)
    with pytest.raises(AssertionError, match="without a key"):
        envelope(b'{"payload": "", "payloadType": "x", "signatures": []}')
