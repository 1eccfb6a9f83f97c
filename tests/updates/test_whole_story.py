"""An update from the operator's document to its end: a real agent, a real broker, a real web server, root's own program; systemd
is played by the test."""

import contextlib
import fcntl
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.updates.story import OPERATOR
from tests.updates.supervised import Supervisor, log_of, supervised
from tests.world import ROOT, World, world


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Any static web server."""

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def publish(w: World, there: Supervisor, url: str, kind: str, version: str, behaviour: str = "new", rev: int = 1) -> None:
    """What `boothctl update publish` does."""
    files = w.folder / "served"
    (files / f"{version}.tar").write_bytes(there.root.archive(version, behaviour.encode()))
    section = there.root.section(version, behaviour.encode())
    section["file"]["url"] = f"{url}/{version}.tar"
    envelope = OPERATOR.sign("update", {kind: section | {"window": "now"}}, rev)
    w.observer.publish(f"{ROOT}/update/desired", envelope, retain=True)


async def phase(w: World, wanted: str, patience_s: float = 60.0) -> dict[str, Any]:
    def seen() -> Any:
        reported = w.observer.last("update/reported")
        return reported if reported and reported["phase"] == wanted else None

    try:
        found = await w.until(seen, f"phase {wanted}", patience_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log_of(w.folder / 'root')[-3000:]}") from error
    assert isinstance(found, dict)
    return found


async def test_an_update_is_fetched_laid_out_switched_proved_and_committed(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with served(tmp_path / "served") as url:
        async with world(tmp_path) as w, supervised(w) as there:
            before = w.observer.last("update/reported")
            assert (before["phase"], before["status"], before["from"]) == ("idle", "applied", "1.0")
            publish(w, there, url, "agent", "1.1")
            reported = await phase(w, "committed")
            assert (reported["status"], reported["from"], reported["to"], reported["reason"]) == ("applied", "1.0", "1.1", None)
            assert reported["layers"]["booth"] == {"seen_rev": 1, "applied_rev": 1}
            assert there.root.in_use("agent") == "1.1"
            await w.until(lambda: w.observer.last("meta")["agent"] == "1.1", "the new version says which it is")
            await w.until(lambda: w.observer.last("led") == "ok", "the light")
            phases = [m.json["phase"] for m in w.observer.of("update/reported")]
            assert [one for one in dict.fromkeys(phases) if one in ("downloading", "waiting-idle", "verifying", "committed")] == [
                "downloading", "waiting-idle", "verifying", "committed",
            ]  # fmt: skip
            lights = [m.text for m in w.observer.of("led")]
            assert "working" in lights, "do not unplug"

            def told() -> list[str]:
                return [event["code"] for event in w.observer.events() if event["class"] == "update"]

            await w.until(lambda: "committed" in told(), "its last event")
            assert told() == ["accepted", "staged", "switched", "committed"]
            sequence = sorted({event["seq"] for event in w.observer.events()})  # one may be sent again: at least once
            assert sequence == list(range(sequence[0], sequence[0] + len(sequence))), "the queue went on where it was"
            assert len({event["stream"] for event in w.observer.events()}) == 1
            assert not list((there.root.folder / "var/lib/booth-agent/downloads").iterdir()), (
                "the card is needed for other things"
            )
            assert "Traceback" not in log_of(there.root.folder)
            offline_at_s = next(m.at_s for m in w.observer.of("state") if m.json["state"] != "online" and m.at_s > 0)
            online_at_s = next(m.at_s for m in w.observer.of("state") if m.json["state"] == "online" and m.at_s > offline_at_s)
            assert online_at_s - offline_at_s < 20  # under 5 s on a quiet machine: make bench


async def test_f52_a_version_that_crashes_is_given_three_starts(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with served(tmp_path / "served") as url:
        async with world(tmp_path) as w, supervised(w) as there:
            publish(w, there, url, "agent", "1.1", "crashes")
            reported = await phase(w, "rolled-back")
            assert (reported["status"], reported["from"], reported["to"]) == ("reverted", "1.0", "1.1")
            assert reported["reason"] == "does-not-start"
            assert there.root.in_use("agent") == "1.0"
            assert there.starts == 1 + 3 + 1
            await w.until(lambda: "update-failed" in w.observer.codes("booth"), "the finding")
            await w.until(lambda: w.observer.last("led") == "ok", "nothing of it is the shopkeeper's")
            starts = there.starts
            publish(w, there, url, "agent", "1.1", "new", rev=2)  # mended
            reported = await phase(w, "committed")
            assert there.root.in_use("agent") == "1.1"
            assert there.starts == starts + 1
            await w.until(lambda: "update-failed" not in w.observer.codes("booth"), "it is over")


async def test_f53_a_version_that_lives_and_is_unhealthy_is_taken_back_at_the_deadline(tmp_path: Path) -> None:
    for behaviour in ("deaf", "hangs"):
        folder = tmp_path / behaviour
        (folder / "served").mkdir(parents=True)
        with served(folder / "served") as url:
            async with world(folder) as w, supervised(w, deadline_s=4) as there:
                publish(w, there, url, "agent", "1.1", behaviour)
                reported = await phase(w, "rolled-back")
                assert reported["status"] == "reverted"
                assert reported["reason"] in ("unhealthy", "no-round-trip")
                assert there.root.in_use("agent") == "1.0"


async def test_forms_count_at_once_and_nothing_is_started_anew(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with served(tmp_path / "served") as url:
        async with world(tmp_path) as w, supervised(w) as there:
            publish(w, there, url, "forms", "1.1")
            reported = await phase(w, "committed")
            assert (reported["from"], reported["to"]) == ("1.0", "1.1")
            assert there.root.in_use("forms") == "1.1"
            assert there.root.in_use("agent") == "1.0"
            assert there.starts == 1


async def test_a_citizen_is_never_disturbed(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    with served(tmp_path / "served") as url:
        async with world(tmp_path) as w, supervised(w) as there:
            lock = os.open(there.root.folder / "run/booth-agent/session.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            publish(w, there, url, "agent", "1.1")
            await w.until(lambda: list((there.root.folder / "var/lib/booth-agent/downloads").glob("?" * 64)), "it is fetched")
            assert there.root.in_use("agent") == "1.0"
            assert there.starts == 1
            os.close(lock)
