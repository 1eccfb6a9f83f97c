"""Nothing of a citizen comes out: made-up people go in through every way that a citizen or a device can reach (`ways_in`), and
are looked for in everything that the booth says, writes and prints.

What is echoed on purpose stands in `ECHOED`, with the reason; everything else is 0.
"""

import base64
import contextlib
import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from agent.rules.bundle import unpacked
from agent.system.collecting import collected
from tests.commands.technician import command, ended, send
from tests.diagnostics.large import assembly_of
from tests.documents.operator import Operator
from tests.privacy import ways_in
from tests.privacy.canaries import Canary, People, found_in
from tests.privacy.ways_in_updates import updates_come, written_by_root
from tests.world import ROOT, World, agent_inside

# Where a canary may come out, by the way in: the beginnings of topics below the booth's own, `requester` for the topic that the
# requester named, `paper`, `file` with a name, or `root log`, which root's part of updates writes. Never: the agent's log, the
# bundle.
_STORED: Final = "file store.db"  # what is published is stored before
ECHOED: Final[dict[str, tuple[str, ...]]] = {
    # A technician's own name, in the answer to her and in the record of it. Contract §8: `by`.
    "command: by": ("cmd/locate/", "requester", _STORED),
    # What somebody asked wrongly, in the answer to him: without it, he could not find what is wrong. It is stored nowhere.
    "command: arguments": ("cmd/",),
    "command: bad id": ("cmd/locate/",),
    "command: verb": ("cmd/",),
    # What the printer calls its toner, and what ails it: a technician brings the part by these words. They come from the printer
    # and its driver, not from a document.
    "printer: marker names": ("health/document-printer", "cmd/self-test/", _STORED),
    "printer: state reasons": (
        "health/document-printer", "event/health", "cmd/self-test/", _STORED, "file printer-reasons",
    ),
    # What a configured device calls itself. Contract §4: `device`; and `meta`. On the ticket it says which one to open.
    "usb printer: strings": ("health/document-printer", "meta", "event/health", "paper", _STORED),
    "usb scanner: strings": ("health/scanner", "meta", "paper", _STORED),
    "sound card: name": ("health/audio", "meta", "cmd/self-test/", "event/health", "paper", _STORED),
    # What is plugged in where a device is missing: a technician accepts it by this name, or sees whose it is and unplugs it.
    "another device in the printer's port": ("health/document-printer", "event/health", "meta", "paper", _STORED),
    # A driver's last line when it failed: without it, nobody knows why. It knows the camera, and nobody in front of it.
    "camera: last words": ("health/camera", "event/health", "cmd/self-test/", _STORED),
    # What the operator signed and no booth takes, back to him: as with every document, by the path and the value. An address is
    # not repeated: a token may stand in it.
    "update: unknown kind": ("update/reported",),
    "update: unknown key": ("update/reported",),
    "update: wrong value": ("update/reported",),
    # What is wrong with the operator's own file, in the machine's journal, where root's part writes: he hears a word of it, and
    # whoever looks for the cause on the spot reads which file it is. The bundle has no line of root's.
    "forms: wrong catalogue": ("root log",),
    "forms: left over": ("root log",),
    "forms: name in an archive": ("root log",),
}  # fmt: skip


def test_the_search_finds_every_form() -> None:
    """A search that finds nothing proves nothing by itself."""
    canary, other = Canary("here", 7), Canary("there", 8)
    for text in (*canary.texts, canary.slug):
        data = f"before {text} behind".encode()
        for form in (
            data, data.upper(), data.replace(b" ", b""), data.replace(b" ", b"\n"), data.hex().encode(), gzip.compress(data),
            b"x" + gzip.compress(gzip.compress(data)), quote(text).encode(), text.encode("utf-16"),
        ):  # fmt: skip
            assert found_in(form, [canary, other]) == {"here"}, (text, form)
        for before in range(4):
            assert found_in(base64.b64encode(b"x" * before + data), [canary, other]) == {"here"}
    assert found_in(b"nobody is here: 06 98 71, Zoe Quxley", [canary, other]) == set()


async def test_nothing_of_a_citizen_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    people = People()
    journal = str(ways_in.journal_of_others(tmp_path / "journal", people))
    monkeypatch.setattr("agent.system.collecting.collected", lambda question: collected(question | {"journal": journal}))
    out: list[tuple[str, bytes]] = []  # where, and what
    with logged() as lines:
        async with ways_in.scene(tmp_path, people) as (w, cups, machine):
            Operator().install(tmp_path)
            answers = what_the_requester_hears(w)
            async with agent_inside(w, machine):
                await w.until(lambda: (w.observer.last("state") or {}).get("state") == "online", "online")
                await updates_come(w, people)
                await ways_in.citizens_print(w, cups, people)
                session = await ways_in.a_session_runs(w, people)
                await ways_in.things_are_plugged_in(w, machine, people)
                await ways_in.commands_come(w, people)
                await ways_in.documents_come(w, people)
                session.terminate()
                await session.wait()
                out += await everything_is_asked(w)
            said = [m for m in w.observer.messages if not m.topic.endswith(("/req", "/desired", "/echo"))]
            out += [(m.topic.removeprefix(f"{ROOT}/"), f"{m.topic} ".encode() + m.payload) for m in said]
            out += [("requester", answer.payload) for answer in answers]
            out.append(("paper", w.printer.paper.encode()))
    out.append(("log", "\n".join(lines).encode()))
    out.append(("standard output", "".join(capfd.readouterr()).encode()))
    for folder in (w.state_dir, w.runtime_dir):
        out += [(f"file {file.name}", file.read_bytes()) for file in folder.rglob("*") if file.is_file()]
    out += [(f"root {file.name}", file.read_bytes()) for file in written_by_root(tmp_path / "root")]
    assert {"bundle", "paper", "log", "requester", "file store.db", "state", "meta", "root log"} <= {where for where, _ in out}
    assert len(people.all) >= 49, "every way in was tried"
    hits: dict[str, set[str]] = {}
    for where, data in out:
        for place in found_in(data, people.all):
            hits.setdefault(place, set()).add(where)
    leaked = {
        place: sorted(where for where in found if not where.startswith(ECHOED.get(place, ("-",))))
        for place, found in hits.items()
    }
    assert not any(leaked.values()), json.dumps({place: where for place, where in leaked.items() if where}, indent=1)
    assert ECHOED.keys() == hits.keys(), "an exception that is not needed is none; and a search that misses an echo is broken"


async def everything_is_asked(w: World) -> list[tuple[str, bytes]]:
    """A self-test, the ticket, and the bundle."""
    await command(w, "self-test")
    assert (await command(w, "ticket"))["state"] == "succeeded"
    id_ = send(w, "diagnostics")
    status = await ended(w, "diagnostics", id_)
    assert status["state"] == "succeeded", status
    bundle = assembly_of(w.observer, id_).bundle(status["result"])
    found = unpacked(bundle)
    assert found["journal"]["entries"], "the journal was read"
    assert found["peripherals"]["document-printer"]["findings"], "and there is something to tell"
    return [("bundle", bundle)]


def what_the_requester_hears(w: World) -> list[Any]:
    answers: list[Any] = []
    w.observer._client.message_callback_add("answers/#", lambda _client, _data, message: answers.append(message))
    w.observer._client.subscribe("answers/#", 1)
    return answers


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """Every line that is logged meanwhile, whole, with its exceptions."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    keeper, root = Keeper(), logging.getLogger()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(keeper)
