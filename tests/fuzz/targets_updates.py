"""What is fuzzed of updates and forms: the operator's document, and the files that it names. Their hashes are signed, what is in
them is not looked at by whoever signs."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import cmp_to_key
from pathlib import Path
from typing import Any, Final

from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.forms import Catalogue, flaw, read_catalogue
from agent.contract.typed import Invalid, build, plain
from agent.contract.update import MAX_ARTIFACT_BYTES, Version
from agent.fetching.failed import Failed
from agent.fetching.server import _taken_apart
from agent.updates import kinds
from agent.updates.agent_release import MANIFEST, WHEELS, Manifest, _fits, _manifest, _whole, older
from agent.updates.archive import unpack
from agent.updates.kind import Kind, NotGood

UPDATES: Final = kinds()
ARCHITECTURES: Final = ("amd64", "arm64", "riscv64")  # the last one is none of ours
REASONS: Final = ("bad-archive", "wrong-architecture", "wrong-python", "base-too-old")
WHEEL: Final = "small-1.0-py3-none-any.whl"
NO_WHEEL: Final = b"PK"
_VERSIONS: Final = ("0", "1.4.dev1", "1.4a1", "1.4.0", "1.4.0.1")
_DAYS: Final = (date.min, date(2026, 11, 25), date.max)


def update(data: bytes) -> None:
    """The sections of an update document: each by itself is built or told."""
    try:
        doc = decode_object(data)
    except BadJson:
        return
    for name in UPDATES.keys() & doc.keys():
        _section(UPDATES[name], doc[name], f"doc.{name}")
    _are_ordered([*_VERSIONS, *itertools.islice(_versions(doc), 6)])


def catalogue(data: bytes) -> None:
    """`catalogue.json` as root judges it, and as an older booth reads it."""
    try:
        strict = read_catalogue(data)
    except Invalid as error:
        _are_told(error)
        try:
            _is_a_catalogue(read_catalogue(data, unknown="ignore"))
        except Invalid as lenient:
            _are_told(lenient)
            assert len(lenient.problems) <= len(error.problems), "less is wrong with it"
        return
    assert read_catalogue(data, unknown="ignore") == strict
    _is_a_catalogue(strict)


def archive(data: bytes) -> None:
    """The file that carries an update: all of it is laid out below its folder, or it is refused."""
    with _folder() as folder:
        file, to = folder / "x.tar", folder / "to"
        file.write_bytes(data)
        to.mkdir()
        try:
            unpack(file, to)
        except NotGood as error:
            assert (error.reason, bool(str(error))) == ("bad-archive", True)
        assert {entry.name for entry in folder.iterdir()} == {"x.tar", "to"}, "nothing lies outside"
        assert file.read_bytes() == data
        found = list(to.rglob("*"))
        assert all(entry.is_dir() or (entry.is_file() and entry.stat().st_nlink == 1) for entry in found)
        assert not any(entry.is_symlink() for entry in found)
        assert sum(entry.stat().st_size for entry in found if entry.is_file()) <= len(data)


def manifest(data: bytes) -> None:
    """`manifest.json` of a bundle with one file in the wheels' place."""
    with _folder() as folder:
        (folder / WHEELS).mkdir()
        (folder / MANIFEST).write_bytes(data)
        (folder / WHEELS / WHEEL).write_bytes(NO_WHEEL)
        try:
            said = _manifest(folder)
            _fits(said, said.version)
            wheels = _whole(folder, said)
        except NotGood as error:
            assert error.reason in REASONS
            assert str(error).isprintable()
        else:
            assert [wheel.file for wheel in wheels] == [WHEEL]
    try:
        built = build(Manifest, decode_object(data))
    except BadJson:
        return
    except Invalid as error:
        _are_told(error)
        return
    assert build(Manifest, plain(built)) == built
    assert all("/" not in wheel.file and wheel.file.isascii() for wheel in built.wheels)
    assert all(python.isascii() for python in built.python)


def _section(kind: Kind, value: object, path: str) -> None:
    try:
        section = build(kind.section, value, path)
    except Invalid as error:
        _are_told(error)
        assert all(problem.path.startswith(path) for problem in error.problems)
        return
    assert build(kind.section, plain(section)) == section
    assert encode(plain(section))
    version = kind.version(section)
    assert version.isascii()
    assert version.isprintable(), "it is published"
    assert not kind.older(version, version)
    for architecture in ARCHITECTURES:
        file = kind.artifact(section, architecture)
        if file is None:
            continue
        assert 1 <= file.size_bytes <= MAX_ARTIFACT_BYTES
        try:
            _, host, port, target = _taken_apart(file.url)
        except Failed as failed:
            assert failed.reason == "bad-url"
        else:
            assert host
            assert 0 < port <= 0xFFFF
            assert target.startswith("/")
            assert target.isascii()
            assert "@" not in file.url.removeprefix("https://").removeprefix("http://").partition("/")[0], (
                "a password is published"
            )


def _versions(value: Any) -> Iterator[str]:
    """Every text of a document that is one, wherever it stands."""
    if isinstance(value, str):
        try:
            yield build(Version, value)
        except Invalid:
            return
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _versions(item)


def _are_ordered(versions: list[str]) -> None:
    """Else a step back would be none, on the way round."""
    ascending = sorted(versions, key=cmp_to_key(_compared))
    for index, lower in enumerate(ascending):
        for higher in ascending[index:]:
            assert not older(lower, higher), (lower, higher)
            assert older(higher, lower) or _spelt(higher) == _spelt(lower), "two versions are one"


def _compared(one: str, other: str) -> int:
    return older(one, other) - older(other, one)


def _spelt(version: str) -> tuple[str, str]:
    """Without the zeros that say nothing: 1.0 is 1.0.0."""
    numbers = "".join(itertools.takewhile(lambda letter: letter in "0123456789.", version)).rstrip(".")
    rest = version[len(numbers) :]
    while numbers.endswith(".0"):
        numbers = numbers[:-2]
    return numbers, rest


def _is_a_catalogue(found: Catalogue) -> None:
    assert read_catalogue(encode(plain(found))) == found
    for key in ("cerfa", "file"):
        assert len({getattr(form, key) for form in found.forms}) == len(found.forms) >= 1
    for form in found.forms:
        assert [form.expired(day) for day in _DAYS] == sorted(form.expired(day) for day in _DAYS)
        assert flaw(Path("/nonexistent"), form) == "absent"
        assert (form.title + (form.warning or "")).isprintable(), "a citizen reads it"
        assert (form.cerfa + form.file + form.source + form.version).isascii()


def _are_told(error: Invalid) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert str(problem).isprintable()
        assert encode(plain(problem))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
