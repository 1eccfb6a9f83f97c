"""The daemon's part of updates on a virtual clock: root is the real one on a root of the test's own, asked in this process;
the citizen, the download and the light are played."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from agent.contract.decode import encode
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import Address, Topic
from agent.contract.typed import build, plain
from agent.engine.publish import Publisher
from agent.engine.update_parts import Quiet, Self
from agent.engine.update_reporter import UpdateReporter
from agent.engine.updates import Updates
from agent.privileged.update import answer as answered
from agent.privileged.updating import DOWNLOADS
from agent.rules.update_window import spread_s
from agent.system.clock import rfc3339
from agent.system.downloads import NotFetched
from agent.updates.words import Request
from tests.documents.published import PLACES
from tests.engine.clinic import EPOCH_S, Citizen
from tests.engine.test_command import Queue
from tests.engine.test_publish import Link
from tests.updates.story import OPERATOR, Root

ADDRESS: Final = Address("61", "61-0007")
TOPICS: Final = {layer: f"{place}/update/desired" for layer, place in PLACES.items()}
SPREAD_S: Final = 3600.0


class RootsPart:
    """What answers at root's socket, one question at a time. `hangs_up`: on so many questions. `away`: on all of them. `says`: in
    place of its answers. `lasts_s`: how long it takes for an act. `asked`: when, and what."""

    installed = True

    def __init__(self, root: Root) -> None:
        self.root = root
        self.asked: list[tuple[float, str]] = []
        self.hangs_up = 0
        self.away = False
        self.says: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
        self.lasts_s: dict[str, float] = {}
        self.under_way = False

    async def ask(
        self, request: Mapping[str, Any], message: bytes = b"", heard: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> dict[str, Any]:
        assert not self.under_way, "one question at a time"
        self.under_way = True
        try:
            asked = build(Request, dict(request))
            self.asked.append((asyncio.get_running_loop().time(), asked.act))
            if self.away or self.hangs_up:
                self.hangs_up -= not self.away
                raise ConnectionResetError("it is busy")
            updating = self.root.updating(told=lambda said: heard(json.loads(encode(plain(said)))))
            answer: dict[str, Any] = json.loads(encode(plain(answered(updating, asked, message))))
            await asyncio.sleep(self.lasts_s.get(asked.act, 0.1))  # whoever asked may be gone before the answer
            return self.says(answer)
        finally:
            self.under_way = False

    def acts(self, *names: str) -> list[str]:
        return [act for _, act in self.asked if act in names]


class Web:
    """The download process, and the server that it asks. `lasts_s` of a whole file. `fails`: the reasons of the next attempts.
    `bodies`: what the file of a hash holds, where it is not what was signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.lasts_s = 10.0
        self.fails: list[str] = []
        self.began: list[tuple[float, str]] = []
        self.urls: list[str] = []
        self.under_way = 0
        self.ended = 0

    def got(self, sha256: str) -> bool:
        return (self.folder / sha256).is_file()

    def forget(self, keep: Collection[str]) -> None:
        for file in self.folder.iterdir():
            if file.name.removesuffix(".part") not in keep:
                file.unlink()

    async def fetch(self, url: str, size_bytes: int, sha256: str, progress: Callable[[int], None]) -> None:
        assert not self.under_way, "one after the other"
        assert size_bytes > 0
        self.began.append((asyncio.get_running_loop().time(), sha256))
        self.urls.append(url)
        self.under_way = 1
        part = self.folder / f"{sha256}.part"
        try:
            for pct in range(int(part.read_text()) if part.exists() else 0, 100, 10):
                part.write_text(str(pct))
                progress(pct)
                await asyncio.sleep(self.lasts_s / 10)
                if self.fails:
                    raise NotFetched(self.fails.pop(0), "as the test wants it")
            part.write_bytes(self.files[sha256])
            part.rename(self.folder / sha256)
            progress(100)
        except asyncio.CancelledError:
            self.ended += 1
            raise
        finally:
            self.under_way = 0


class Booth:
    """`start` an agent of some version, `stop` it, and see what it said. `up_s`: how long the machine has been up."""

    def __init__(self, folder: Path, name: str = "61-0007", root: Root | None = None) -> None:
        if root is None:
            root = Root(folder)
            root.prepare()
        self.name = name
        self.root = RootsPart(root)
        self.web = Web(root.folder / DOWNLOADS)
        self.citizen = Citizen()
        self.told: dict[str, Any] = {}
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.lights: list[tuple[float, bool]] = []
        self.failures: list[str | None] = []
        self.delivered_again = 0
        self.ended = False
        self.open = True
        self.probed = self.readable = self.online = True
        self.boot_id = "first"
        self.link = Link(window=1_000_000)
        self._said: list[dict[str, Any]] = []
        self._booted_at_s = asyncio.get_running_loop().time()
        self.updates: Updates
        self._running: asyncio.Task[None]
        self._publisher: Publisher

    @property
    def now_s(self) -> float:
        """Since the machine began."""
        return asyncio.get_running_loop().time() - self._booted_at_s

    def boot(self, name: str) -> None:
        """The power comes back."""
        self.boot_id = name
        self.root.root.boot(name)
        self._booted_at_s = asyncio.get_running_loop().time()

    async def start(self, version: str = "1.0", up_s: float = 20.0) -> None:
        await asyncio.sleep(max(0.0, up_s - self.now_s))
        self.ended = False
        self.link, self._said = Link(window=1_000_000), []
        self._publisher = Publisher(ADDRESS, self.link, Queue(), 3600, lambda: None)
        own = Self(
            self.name, version, self.boot_id, lambda: self.probed, lambda: self.readable, lambda: self.online, self._end,
        )  # fmt: skip
        reporter = UpdateReporter(
            self._publisher, ADDRESS.reported("update"), self._wall, self._record, self._save, self._changed
        )
        self.updates = Updates(
            reporter, self._record, self.root, self.web, own,
            Quiet(self.citizen, lambda: self.open, lambda: self.now_s, lambda: SPREAD_S), self._changed,
        )  # fmt: skip
        self.updates.ask_again = self._ask_again
        reporter.remember(self.told)
        self._running = asyncio.create_task(self.updates.run())

    async def stop(self) -> None:
        """As the agent ends: cancelled, then closed. What was amiss with it is raised."""
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        self.updates.close()
        await self._publisher.close()

    # --- the operator ---

    def sign(
        self, versions: Mapping[str, str], *, window: str | None = None, body: bytes = b"new", url: str | None = None,
        layer: str = "booth", rev: int | None = None,
    ) -> bytes:  # fmt: skip
        """An envelope; its files are at the server from now on."""
        root = self.root.root
        root.rev = root.rev + 1 if rev is None else rev
        doc = {}
        for kind, version in versions.items():
            section = root.section(version, body)
            self.web.files[section["file"]["sha256"]] = root.archive(version, body)
            section["file"] |= {} if url is None else {"url": url}
            doc[kind] = section | ({} if window is None else {"window": window})
        return OPERATOR.sign("update", doc, root.rev, audience=PLACES[layer])

    def deliver(self, envelope: bytes, layer: str = "booth") -> None:
        topic = Topic.parse(TOPICS[layer])
        assert topic is not None
        self.updates.desired(topic, Incoming(TOPICS[layer], envelope, retained=True))

    def publish(self, versions: Mapping[str, str], **how: Any) -> bytes:
        envelope = self.sign(versions, **how)
        self.deliver(envelope, how.get("layer", "booth"))
        return envelope

    # --- what is seen of it ---

    @property
    def said(self) -> list[dict[str, Any]]:
        """What this agent has published, since its start."""
        self._said += [json.loads(message.payload) for message in self.link.sent[len(self._said) :]]
        return self._said

    def codes(self) -> list[str]:
        return [code for class_, code, _ in self.events if class_ == "update"]

    def in_use(self, kind: str = "agent") -> str:
        return self.root.root.in_use(kind)

    def names(self) -> list[str]:
        """What lies in the folder of downloads."""
        return sorted(file.name for file in self.web.folder.iterdir())

    async def phase(self, wanted: str, patience_s: float = 3 * SPREAD_S) -> dict[str, Any]:
        await until(lambda: self.said and self.said[-1]["phase"] == wanted, patience_s)
        return self.said[-1]

    async def said_more_than(self, count: int) -> None:
        await until(lambda: len(self.said) > count, 60)

    async def fetching(self, patience_s: float = SPREAD_S + 5) -> None:
        await until(lambda: self.web.under_way, patience_s, every_s=1.0)

    async def asking(self, act: str) -> None:
        """Root is about that now."""
        await until(lambda: self.root.under_way and self.root.asked[-1][1] == act)

    async def laid(self, patience_s: float = 3 * SPREAD_S) -> None:
        await self.phase("waiting-idle", patience_s)

    def spread_of(self, version: str, within_s: float = SPREAD_S, kind_body: bytes = b"new") -> float:
        return spread_s(self.name, self.root.root.section(version, kind_body)["file"]["sha256"], within_s)

    # --- what it is given ---

    def _end(self) -> None:
        self.ended = True

    def _wall(self) -> str:
        return rfc3339(EPOCH_S + asyncio.get_running_loop().time())

    def _record(self, class_: EventClass, code: str, data: dict[str, Any]) -> None:
        self.events.append((class_, code, data))

    def _save(self, told: dict[str, Any]) -> None:
        self.told = {"update": json.loads(json.dumps(told))}

    def _changed(self) -> None:
        if not self.lights or self.lights[-1][1] != self.updates.working:
            self.lights.append((asyncio.get_running_loop().time(), self.updates.working))
        self.failures.append(self.updates.reporter.failed)

    def _ask_again(self) -> None:
        self.delivered_again += 1


async def until(condition: Callable[[], Any], patience_s: float = 3 * SPREAD_S, every_s: float = 0.25) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(every_s)


@asynccontextmanager
async def started(folder: Path, version: str = "1.0", up_s: float = 20.0) -> AsyncIterator[Booth]:
    booth = Booth(folder)
    await booth.start(version, up_s)
    try:
        yield booth
    finally:
        await booth.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing of it goes on"
