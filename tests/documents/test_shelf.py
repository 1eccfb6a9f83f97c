"""What is kept of documents: whole after a power cut at any moment, and never more than what was accepted."""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.contract.documents import LayerName
from agent.documents import disk
from agent.documents.judge import payload_type
from agent.documents.shelf import Revision, Shelf, State
from agent.documents.signatures import seal
from tests.documents.operator import ISSUED, Operator

OPERATOR = Operator()
AUDIENCES: dict[LayerName, str] = {"fleet": "booth/v1/_all/_all", "area": "booth/v1/61/_all", "booth": "booth/v1/61/61-0007"}


def document(rev: int, layer: LayerName = "booth", epoch: int = 1) -> tuple[Revision, bytes]:
    payload = json.dumps(OPERATOR.statement({"made": rev}, rev, AUDIENCES[layer], epoch=epoch)).encode()
    return Revision(epoch, rev, hashlib.sha256(payload).hexdigest()), seal(payload_type("config"), payload, [OPERATOR.first])


def accept(shelf: Shelf, rev: int, layer: LayerName = "booth", *, on_trial: bool = False) -> Revision:
    revision, message = document(rev, layer)
    shelf.accept(layer, revision, message, ISSUED, on_trial=on_trial)
    return revision


def in_force(shelf: Shelf) -> dict[LayerName, Any]:
    return {layer: kept.doc["made"] for layer, kept in shelf.documents().items()}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


def test_an_empty_shelf_holds_nothing_and_makes_no_file(folder: Path) -> None:
    shelf = Shelf(folder)
    assert (shelf.state, shelf.documents(), shelf.damaged()) == (State(), {}, [])
    shelf.confirm()
    assert shelf.revert() is None
    assert not folder.exists()


def test_the_exact_bytes_that_were_accepted_are_found_again(folder: Path) -> None:
    accept(Shelf(folder), 1)
    accept(Shelf(folder), 2)
    accept(Shelf(folder), 7, "fleet")
    assert in_force(Shelf(folder)) == {"fleet": 7, "booth": 2}
    revision, message = document(2)
    assert [file.read_bytes() for file in folder.glob("booth-*")] == [message], "of the one before nothing is left"
    assert Shelf(folder).state.accepted["booth"] == revision


def test_only_its_owner_reads_what_is_kept(folder: Path) -> None:
    accept(Shelf(folder), 1)
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_a_trial_is_confirmed_or_taken_back_and_then_remembered(folder: Path) -> None:
    shelf = Shelf(folder)
    first = accept(shelf, 1, on_trial=True)
    shelf.confirm()
    failed = accept(shelf, 2, on_trial=True)
    assert (in_force(shelf), shelf.state.trying, shelf.state.before) == ({"booth": 2}, "booth", first)
    shelf = Shelf(folder)  # the power went
    assert shelf.revert() == "booth"
    assert (in_force(shelf), shelf.state.trying) == ({"booth": 1}, None)
    assert Shelf(folder).state.reverted == {"booth": failed}
    accept(shelf, 3)
    assert Shelf(folder).state.reverted == {}


def test_a_first_document_on_trial_leaves_nothing_when_it_is_taken_back(folder: Path) -> None:
    shelf = Shelf(folder)
    accept(shelf, 1, on_trial=True)
    shelf.revert()
    assert in_force(Shelf(folder)) == {}


@pytest.mark.parametrize("layer", AUDIENCES)
@pytest.mark.parametrize("on_trial", [False, True])
def test_what_nobody_confirmed_is_not_confirmed_by_the_next_document(folder: Path, layer: LayerName, on_trial: bool) -> None:
    """Whoever tried it was killed. Else the way back would lead to what was never confirmed, or nowhere."""
    shelf = Shelf(folder)
    accept(shelf, 1)
    accept(shelf, 2, on_trial=True)
    accept(Shelf(folder), 3, layer, on_trial=on_trial)
    shelf = Shelf(folder)
    assert in_force(shelf) == {"booth": 1} | {layer: 3}
    shelf.revert()
    assert in_force(Shelf(folder))["booth"] == (3 if layer == "booth" and not on_trial else 1)


def test_the_newest_that_came_by_is_noted_and_an_older_one_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(folder)
    shelf.saw("booth", document(5)[0])
    monkeypatch.setattr(disk, "write", lambda *_: pytest.fail("a flood must not wear the card"))
    for rev in (5, 4, 0):
        shelf.saw("booth", document(rev)[0])
    monkeypatch.undo()
    shelf.saw("booth", document(0, epoch=2)[0])
    assert Shelf(folder).state.seen == {"booth": document(0, epoch=2)[0]}


def test_facts_are_kept_beside(folder: Path) -> None:
    shelf = Shelf(folder)
    accept(shelf, 1)
    shelf.note({"a": 1, "b": [2]})
    shelf.note({"a": 3})
    assert Shelf(folder).state.facts == {"a": 3, "b": [2]}
    assert in_force(Shelf(folder)) == {"booth": 1}


def test_the_newest_time_only_grows(folder: Path) -> None:
    shelf = Shelf(folder)
    for rev, issued in enumerate(("2026-11-22T00:00:00.000Z", "2026-11-21T00:00:00.000Z")):
        revision, message = document(rev)
        shelf.accept("booth", revision, message, issued, on_trial=False)
    assert Shelf(folder).state.newest_issued_at == "2026-11-22T00:00:00.000Z"


# --- power cuts: f50 ---


class PowerCut(BaseException):
    """No handler of ours sees it."""


@contextmanager
def cut_after(operations: int) -> Iterator[Callable[[], int]]:
    """Every operation on files that changes something happens, until there were so many. Then the power goes: a write that was
    under way leaves half of it."""
    count = 0

    def counted(real: Callable[..., Any], *, halved: bool = False) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if count == operations:
                if halved:
                    os.truncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                raise PowerCut
            count += 1
            return real(*arguments, **options)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", counted(os.open))
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(os, "fchmod", counted(os.fchmod, halved=True))
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        yield lambda: count


ACTS: dict[str, Callable[[Shelf], object]] = {
    "accept": lambda shelf: accept(shelf, 3),
    "accept the first of a layer": lambda shelf: accept(shelf, 3, "area"),
    "try": lambda shelf: accept(shelf, 3, on_trial=True),
    "confirm": lambda shelf: shelf.confirm(),
    "revert": lambda shelf: shelf.revert(),
    "saw": lambda shelf: shelf.saw("booth", document(8)[0]),
    "note": lambda shelf: shelf.note({"a": 2}),
}


def prepared(folder: Path, *, on_trial: bool) -> Shelf:
    shelf = Shelf(folder)
    accept(shelf, 1)
    accept(shelf, 9, "fleet")
    accept(shelf, 2, on_trial=on_trial)
    shelf.note({"a": 1})
    return Shelf(folder)


@pytest.mark.parametrize("on_trial", [False, True])
@pytest.mark.parametrize("name", ACTS)
def test_f50_a_power_cut_at_any_write_leaves_the_old_or_the_new(tmp_path: Path, name: str, on_trial: bool) -> None:
    act = ACTS[name]
    untouched, done = prepared(tmp_path / "old", on_trial=on_trial), prepared(tmp_path / "new", on_trial=on_trial)
    allowed = [(untouched.state, in_force(untouched))]
    if on_trial and name in ("accept", "accept the first of a layer", "try"):  # what was on trial is taken back before
        between = prepared(tmp_path / "between", on_trial=True)
        between.revert()
        allowed.append((between.state, in_force(between)))
    act(done)
    allowed.append((done.state, in_force(done)))
    for operations in itertools.count():
        folder = tmp_path / f"cut-{operations}"
        shutil.copytree(tmp_path / "old", folder)
        shelf = Shelf(folder)
        with cut_after(operations):
            try:
                act(shelf)
            except PowerCut:
                finished = False
            else:
                finished = True
        after = Shelf(folder)
        assert (after.state, in_force(after)) in allowed, operations
        assert after.damaged() == []
        if finished:
            assert (after.state, in_force(after)) == allowed[-1]
            break
        act(after)  # and it goes on from there, whatever lies about
        again = Shelf(folder)
        assert again.damaged() == []
        assert in_force(again) == allowed[-1][1] or name in ("confirm", "revert")
    assert operations > (5 if allowed[0] != allowed[-1] else -1)


@pytest.mark.parametrize("failing", ["document", "state.json", "state-copy.json"])
def test_what_could_not_be_written_was_not_accepted(folder: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(folder)
    accept(shelf, 1)
    real = disk.write

    def write(where: Path, name: str, data: bytes, mode: int = 0o600) -> None:
        if name == failing or (failing == "document" and name.endswith(".dsse")):
            raise OSError(28, "No space left on device")
        real(where, name, data, mode)

    monkeypatch.setattr(disk, "write", write)
    with pytest.raises(OSError, match="No space left"):
        accept(shelf, 2)
    assert in_force(shelf) == in_force(Shelf(folder)) == {"booth": 1}


def test_what_cannot_be_cleaned_away_is_no_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(folder)
    accept(shelf, 1)
    real = Path.unlink

    def unlink(file: Path, missing_ok: bool = False) -> None:
        if file.suffix == ".dsse":
            raise PermissionError(13, "Permission denied")
        real(file, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    accept(shelf, 2)
    assert in_force(shelf) == in_force(Shelf(folder)) == {"booth": 2}


# --- damage ---


def damages(data: bytes) -> dict[str, bytes | None]:
    middle = len(data) // 2
    return {
        "missing": None,
        "empty": b"",
        "half": data[:middle],
        "one byte short": data[:-1],
        "zeros": bytes(len(data)),
        "a list": b"[]",
        "an object": b"{}",
        "one bit": data[:20] + bytes([data[20] ^ 1]) + data[21:] if len(data) > 20 else b"",
        "deep": b"[" * 100_000,
        "other types": b'{"accepted":{"booth":3},"seen":[]}',
    }


@pytest.mark.parametrize("damage", damages(b"xx"))
def test_f48_any_one_damaged_file_raises_nothing_and_brings_back_nothing_else(folder: Path, damage: str) -> None:
    shelf = Shelf(folder)
    accept(shelf, 1)
    accept(shelf, 9, "fleet")
    accept(shelf, 2)
    shelf.note({"a": 1})  # now of the first one nothing is left
    whole = in_force(shelf)
    for file in sorted(folder.iterdir()):
        before = file.read_bytes()
        broken = damages(before)[damage]
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken)
        after = Shelf(folder)
        found = in_force(after)
        assert found.items() <= whole.items(), "never another document than those that were accepted"
        if file.suffix == ".dsse":
            lost: LayerName = "fleet" if file.name.startswith("fleet") else "booth"
            assert after.damaged() == [lost], "and it is known which is lost"
            assert after.state.accepted[lost].rev == shelf.state.accepted[lost].rev, "what is older is still refused"
        elif file.name == "state-copy.json" or damage not in ("an object", "one bit"):
            assert after.state == shelf.state
        file.write_bytes(before)


def test_f48_a_kept_document_with_other_contents_counts_for_nothing(folder: Path) -> None:
    """Nobody looks at its signatures a second time: a bit that flips on the card must not write a policy."""
    shelf = Shelf(folder)
    _, forged = document(1)
    accept(shelf, 2)
    [file] = folder.glob("booth-*.dsse")
    file.write_bytes(forged)
    assert Shelf(folder).documents() == shelf.documents() == {}
    assert Shelf(folder).damaged() == shelf.damaged() == ["booth"]
    accept(shelf, 2)  # it arrives again
    assert in_force(shelf) == {"booth": 2}


def test_f48_without_any_state_the_shelf_is_empty_and_works(folder: Path) -> None:
    accept(Shelf(folder), 2)
    for name in ("state.json", "state-copy.json"):
        (folder / name).write_bytes(b"")
    shelf = Shelf(folder)
    assert shelf.state == State()
    accept(shelf, 3)
    assert in_force(Shelf(folder)) == {"booth": 3}


@pytest.mark.parametrize("sha256", ["../../secret", "\x00", "/etc/passwd", "a" * 5000, ""])
def test_f48_a_state_with_a_strange_name_reads_no_other_file(folder: Path, sha256: str) -> None:
    accept(Shelf(folder), 2)
    state = json.loads((folder / "state.json").read_bytes())
    state["accepted"]["booth"]["sha256"] = sha256
    (folder / "state.json").write_text(json.dumps(state))
    assert in_force(Shelf(folder)) == {"booth": 2}, "its copy counts"


def test_f48_a_state_whose_parts_do_not_belong_together_loses_nothing(folder: Path) -> None:
    accept(Shelf(folder), 2)
    state = json.loads((folder / "state.json").read_bytes())
    (folder / "state.json").write_text(json.dumps(state | {"trying": "fleet"}))
    shelf = Shelf(folder)
    shelf.revert()
    assert in_force(shelf) == in_force(Shelf(folder)) == {"booth": 2}
    assert shelf.state.trying is None
