"""An update natively: how long the booth is away, and what of it stays in the daemon's memory."""

import statistics
import tempfile
from pathlib import Path

from tests.faults.documents_load import resident_kib
from tests.updates.supervised import Supervisor, supervised
from tests.updates.test_whole_story import phase, publish, served
from tests.world import World, world

TIMES = 5


async def updates() -> list[tuple[str, str, str]]:
    away_s, whole_s, grown_kib = [], [], []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "served").mkdir()
            with served(folder / "served") as url:
                async with world(folder) as w, supervised(w) as there:
                    away, whole = await _agent(w, there, url)
                    away_s.append(away)
                    whole_s.append(whole)
                    grown_kib.append(await _forms(w, there, url))
    return [
        (
            "update: last message of the old version → `online` of the new",
            f"{statistics.median(away_s):.1f} s",
            f"published → committed {statistics.median(whole_s):.1f} s; slots of two small files, systemd played by the bench; under 5 s",
        ),
        (
            "update: memory of the agent after it had forms fetched and laid out, over before",
            f"{statistics.median(grown_kib) / 1024:+.2f} MiB",
            "RSS of the same process; no process of it is left; nothing",
        ),
    ]


async def _agent(w: World, there: Supervisor, url: str) -> tuple[float, float]:
    sent = len(w.observer.messages)
    publish(w, there, url, "agent", "1.1")
    began_s = w.observer.messages[sent].at_s if len(w.observer.messages) > sent else None
    await phase(w, "committed")
    states = [m for m in w.observer.of("state") if m.at_s > (began_s or 0)]
    online = next(m for m in states if m.json["state"] == "online" and m.json["agent"] == "1.1")
    last = max(m.at_s for m in states if m.json["state"] == "asleep" and m.at_s < online.at_s)  # its goodbye
    committed = next(m for m in w.observer.of("update/reported") if m.json["phase"] == "committed")
    desired = next(m for m in w.observer.messages if m.topic.endswith("update/desired"))
    return online.at_s - last, committed.at_s - desired.at_s


async def _forms(w: World, there: Supervisor, url: str) -> float:
    before_kib = resident_kib(there.pid)
    publish(w, there, url, "forms", "1.1", rev=2)
    await phase(w, "committed")
    await w.until(lambda: (w.observer.last("update/reported")["sections"]["forms"]["version"]) == "1.1", "the forms")
    return resident_kib(there.pid) - before_kib
