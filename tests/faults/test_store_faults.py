"""Rows 41, 42 and 46 to 50 of the fault catalogue: the disk under the store, and the file itself."""

import asyncio
import contextlib
import errno
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.system import store as store_module
from agent.system.outbox import OutboxFile
from agent.system.outbox_rows import PRIORITY_ALARM, PRIORITY_INFO, PRIORITY_ROUTINE, Batch, Draft, Limits, Stamp, StoredEvent
from agent.system.store import Store
from tests.world import World, world

PAGE = 4096
SAVED = {"judgements": {"board": {"status": "ok"}}, "alarms": [{"code": "media-empty"}]}


def stamp() -> Stamp:
    return Stamp("2026-11-22T10:00:00.000Z", 1, "synced", "boot")


def draft(number: int, priority: int = PRIORITY_ROUTINE, size: int = 200) -> Draft:
    return Draft("health", "tick", "board", {"n": number, "filler": "x" * size}, stamp(), priority)


def outbox(file: Path) -> OutboxFile:
    return OutboxFile(file, Limits(), stamp)


def everything(file: OutboxFile) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    while batch := file.pending(found[-1].position if found else 0, 50):
        found += batch
    return found


def bodies(events: list[StoredEvent]) -> list[dict[str, Any]]:
    return [json.loads(event.body) for event in events]


def gaps(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["class"] == "lifecycle" and event["code"] == "gap"]


# --- a full disk ---


@contextlib.contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own at `folder`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space there is; returns the file to delete."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(PAGE)):
            pass
    return filler


def use_up_inodes(folder: Path) -> list[Path]:
    """Take all the inodes there are; returns the files to delete."""
    taken: list[Path] = []
    try:
        while True:
            file = folder / f"taken-{len(taken)}"
            file.touch()
            taken.append(file)
    except OSError as error:
        assert error.errno == errno.ENOSPC
    return taken


def remove(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def without_room(file: Path) -> None:
    """Make a store that has no free page of its own left, and no journal on disk."""
    made = outbox(file)
    made.open()
    made.close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("VACUUM")


def condition_of(store: Store) -> str:
    return store.condition


async def test_f41_a_full_disk_keeps_events_in_memory_drops_routine_and_stores_alarms_when_space_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.05)
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        store = Store(disk / "store.db", stamp)
        await store.open()
        try:
            filler = fill(disk)
            said = 0
            while await store.flushed(0.2):  # the store's own room first
                said += 1
                assert said < 1000, "the disk is full, and the store did not notice"
                store.append(draft(said, PRIORITY_ALARM, size=4000))
            assert condition_of(store) == "full"
            early = said
            for priority, count in ((PRIORITY_INFO, 300), (PRIORITY_ALARM, 500), (PRIORITY_ROUTINE, 600)):
                for _ in range(count):
                    said += 1
                    store.append(draft(said, priority))

            filler.unlink()
            assert await store.flushed(20)
            assert condition_of(store) == "ok"
            events: list[dict[str, Any]] = []
            position = 0
            while batch := await store.pending(position, 50):
                position = batch[-1].position
                events += bodies(list(batch))
        finally:
            await store.close()

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), "no hole, and in order"
    numbers = [event["data"]["n"] for event in events if event["code"] == "tick"]
    assert numbers == sorted(set(numbers)), "each once, in the order in which they happened"
    alarms = {*range(1, early + 1), *range(early + 301, early + 801)}
    assert alarms <= set(numbers), "no alarm was dropped while there was anything else to drop"
    infos = [number for number in numbers if early < number <= early + 300]
    assert infos == [], "info goes first"
    assert numbers[-1] == said, "the oldest routine goes, not the newest"
    (gap,) = gaps(events)
    assert gap["count"] == said - len(numbers) > 0
    assert gap["reason"] == "store-failed"


async def test_f41_an_agent_on_a_full_disk_lives_says_store_full_and_loses_nothing(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "state", "size=1m") as disk:
        async with world(tmp_path) as w:
            without_room(disk / "store.db")
            (disk / "agent.lock").write_text("1\n")
            filler = fill(disk)
            await w.start_agent()
            await _events_wait_until(w, filler.unlink)


async def test_f42_an_agent_without_inodes_lives_says_store_full_and_loses_nothing(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "state", "size=4m,nr_inodes=12") as disk:
        async with world(tmp_path) as w:
            (disk / "agent.lock").write_text("1\n")
            taken = use_up_inodes(disk)
            await w.start_agent()
            await _events_wait_until(w, lambda: remove(taken))


async def _events_wait_until(w: World, make_room: Any) -> None:
    """The store cannot take anything: health, alarms and light work; events come when it can, gapless."""
    see = w.observer
    await w.until(lambda: see.last("alarm/booth/store-full"), "the alarm")
    await w.until(lambda: see.last("health/receipt-printer"))
    w.printer.change(paper="out")
    await w.until(lambda: see.last("alarm/receipt-printer/media-empty"))
    w.printer.change(paper="plenty")
    await w.until(lambda: see.last("alarm/receipt-printer/media-empty") is None)
    assert see.events() == [], "what is not stored is not said"

    make_room()
    await w.until(lambda: any(e["code"] == "store-full" and e["data"]["change"] == "cleared" for e in see.events()))
    events = see.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["stream"] for event in events}) == 1
    codes = [(event["code"], event["data"].get("change")) for event in events]
    assert codes[0] == ("started", None) or ("started", None) in codes
    for code in ("store-full", "media-empty"):
        assert [change for name, change in codes if name == code] == ["raised", "cleared"]


# --- a damaged file ---


def filled_store(folder: Path, count: int = 60) -> tuple[bytes, dict[str, dict[str, Any]]]:
    """The bytes of a store with events and state, and its events by id."""
    file = outbox(folder / "original.db")
    file.open()
    for start in range(0, count, 10):
        file.write(Batch(drafts=[draft(n) for n in range(start, start + 10)], state=SAVED))
    events = bodies(everything(file))
    file.close()
    return (folder / "original.db").read_bytes(), {event["id"]: event for event in events}


def works_with(content: bytes, folder: Path, written: dict[str, dict[str, Any]]) -> tuple[bool, int]:
    """Open a store with these bytes and use it. Returns whether damage was said, and how many events were saved.

    Whatever the bytes are: no exception, no event that was not written, no id used twice, no loss without a gap.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    file = outbox(folder / "store.db")
    (folder / "store.db").write_bytes(content)
    opened = file.open()
    assert all(SAVED.get(key) == value for key, value in opened.state.items())
    file.write(Batch(drafts=[draft(1000)], state={"judgements": {}}))
    stored = everything(file)
    events = bodies(stored)
    file.write(Batch(acknowledged=[event.position for event in stored]))
    assert everything(file) == []
    file.close()
    again = outbox(folder / "store.db")
    assert again.open().state["judgements"] == {}
    assert not again.was_damaged
    again.close()

    saved = [event for event in events if event["id"] in written]
    new = [event for event in events if event["id"] not in written]
    assert all(written[event["id"]] == event for event in saved), "an event that was never written"
    assert [event.class_ for event in stored] == [event["class"] for event in events]
    assert len({event["id"] for event in events}) == len(events), "an id twice"
    assert all(event["data"].get("n") == 1000 for event in new if event["code"] != "gap")
    assert len([event for event in new if event["code"] != "gap"]) == 1
    said = gaps(new)
    if file.was_damaged:
        assert [gap["reason"] for gap in said].count("store-damaged") == 1
        assert {event["stream"] for event in new}.isdisjoint(event["stream"] for event in written.values())
        assert (folder / "store.damaged").exists(), "kept beside for whoever wants to look"
    if len(saved) < len(written):
        assert said, "events are missing, and no gap is said"
    return bool(said), len(saved)


def test_f46_a_store_cut_at_any_byte_opens_and_says_the_gap(tmp_path: Path) -> None:
    content, written = filled_store(tmp_path)
    cuts = {*range(0, len(content), PAGE), 1, 15, 16, 99, 100, 511, 512, 513, 1023, PAGE - 1, PAGE + 1, 3 * PAGE + 77}
    cuts |= {8 * PAGE - 1, len(content) - PAGE - 1, len(content) - 512, len(content) - 1}
    saved = {cut: works_with(content[:cut], tmp_path / "cut", written) for cut in sorted(cuts)}
    assert all(said for said, _ in saved.values()), "cut short, and nothing said"
    assert saved[len(content) - 1][1] >= len(written) - 1, "one byte costs one event"
    assert saved[0][1] == 0
    assert works_with(content, tmp_path / "cut", written) == (False, len(written))


def test_f47_bytes_flipped_in_the_middle_are_noticed_or_harmless(tmp_path: Path) -> None:
    content, written = filled_store(tmp_path)
    chance = random.Random(47)
    used = [page for page in range(len(content) // PAGE) if any(content[page * PAGE + 100 : (page + 1) * PAGE])]
    noticed = 0
    for turn in range(400):
        damaged = bytearray(content)
        start = chance.choice(used) * PAGE
        # Page headers and cell pointers are where a flip does the most.
        offset = start + (chance.randrange(120) if turn % 3 == 0 else chance.randrange(PAGE))
        for index in range(offset, min(offset + chance.choice((1, 1, 4, 64)), len(damaged))):
            damaged[index] ^= 1 << chance.randrange(8)
        said, _ = works_with(bytes(damaged), tmp_path / "flipped", written)
        noticed += said
    assert noticed > 100


def test_f47_pages_of_zeros_or_of_another_place_are_noticed_or_harmless(tmp_path: Path) -> None:
    content, written = filled_store(tmp_path)
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    for index in range(16):
        for other in (bytes(PAGE), pages[(index + 1) % 16], b"\xff" * PAGE):
            works_with(b"".join([*pages[:index], other, *pages[index + 1 :]]), tmp_path / "page", written)


def test_f47_damage_while_the_store_is_open_moves_no_event_to_another_place(tmp_path: Path) -> None:
    file = outbox(tmp_path / "store.db")
    file.open()
    file.write(Batch(drafts=[draft(n) for n in range(400)]))
    before = everything(file)
    with open(tmp_path / "store.db", "r+b") as raw:  # the first page, and the second half of what is used
        raw.write(bytes(64))
        raw.seek(20 * PAGE)
        raw.write(os.urandom(4 * PAGE))
    # What was in flight is acknowledged, by the place that it had in the old file.
    file.write(Batch(drafts=[draft(1000)], acknowledged=[event.position for event in before[:10]]))
    assert file.was_damaged
    after = everything(file)
    known = {event.position: event.body for event in before}
    assert [event for event in after if event.position in known and known[event.position] != event.body] == []
    new = [event for event in after if event.position not in known]
    assert min(event.position for event in new) > before[-1].position, "a reader that goes on from there would miss it"
    assert [event["data"].get("n") for event in bodies(new)] == [None, 1000]
    kept = {event.position for event in after if event.position in known}
    assert kept.isdisjoint(event.position for event in before[:10])
    file.close()


async def test_f47_an_agent_with_a_damaged_store_starts_afresh_and_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        stream = (await w.until(w.observer.events))[0]["stream"]
        await agent.stop()
        file = w.state_dir / "store.db"
        content = bytearray(file.read_bytes())
        content[PAGE : 3 * PAGE] = os.urandom(2 * PAGE)
        file.write_bytes(content)
        already = len(w.observer.events())
        await w.start_agent()
        alarm = await w.until(lambda: w.observer.last("alarm/booth/store-damaged"))
        assert alarm["severity"] == "warning"
        await w.until(lambda: gaps(w.observer.events()[already:]), "the gap")
        fresh = {event["stream"] for event in w.observer.events()[already:]} - {stream}
        assert len(fresh) == 1
        assert (w.state_dir / "store.damaged").exists()


@pytest.mark.parametrize("state", ["empty", "missing"])
async def test_f48_state_files_that_are_empty_or_missing_mean_defaults(tmp_path: Path, state: str) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        await w.until(w.observer.events)
        await agent.stop()
        for name in ("store.db", "clock-floor", "agent.lock"):
            (w.state_dir / name).write_bytes(b"")
            if state == "missing":
                (w.state_dir / name).unlink()
        already = len(w.observer.events())
        agent = await w.start_agent()
        started = await w.until(lambda: [e for e in w.observer.events()[already:] if e["code"] == "started"])
        assert started[0]["stream"] != w.observer.events()[0]["stream"]
        assert bool(gaps(w.observer.events()[already:])) == (state == "empty"), "an empty file was a full one once"
        assert (w.state_dir / "agent.lock").read_text() == f"{agent.pid}\n"
        assert await agent.stop() == 0


# --- kill -9, and power cuts ---

# Forks a writer for every line on its stdin, kills it after that many seconds, and prints what it had said.
KILLED = """
import asyncio, os, select, signal, sys, time
from pathlib import Path
from agent.system.outbox_rows import Draft, Stamp
from agent.system.store import Store

def stamp():
    return Stamp("2026-11-22T10:00:00.000Z", 1, "synced", "boot")

async def write(number, out):
    store = Store(Path(sys.argv[1]), stamp)
    await store.open()
    while True:
        together = 1 + number % 3
        for n in range(number, number + together):
            store.append(Draft("health", "tick", None, {"n": n}, stamp()))
        assert await store.flushed(10)
        os.write(out, b"".join(b"%d\\n" % n for n in range(number, number + together)))
        number += together

turn = 0
for line in sys.stdin:
    turn += 1
    ours, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        asyncio.run(write(turn * 1_000_000, out))
    os.close(out)
    time.sleep(float(line))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with open(ours) as pipe:
        print(pipe.read().replace("\\n", " "), flush=True)
"""


def test_f49_kill_9_a_thousand_times_loses_no_accepted_event(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    chance = random.Random(49)
    accepted_count = interrupted = 0
    last_seq = 0
    stream = None
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as killer:
        assert killer.stdin is not None
        assert killer.stdout is not None
        for turn in range(1, 1001):
            killer.stdin.write(f"{chance.uniform(0.0, 0.025)}\n")
            accepted = [int(number) for number in killer.stdout.readline().split()]
            again = outbox(file)
            again.open()
            assert not again.was_damaged
            stored = everything(again)
            events = bodies(stored)
            numbers = [event["data"]["n"] for event in events]
            # The batch that was being written may be there too, whole.
            assert numbers[: len(accepted)] == accepted
            assert len(numbers) - len(accepted) <= 3
            assert all(turn * 1_000_000 <= number < (turn + 1) * 1_000_000 for number in numbers), "acknowledged, and back"
            assert [event["seq"] for event in events] == list(range(last_seq + 1, last_seq + 1 + len(events)))
            last_seq += len(events)
            if events:
                assert {event["stream"] for event in events} == {stream or events[0]["stream"]}
                stream = events[0]["stream"]
            accepted_count += len(accepted)
            interrupted += len(numbers) > len(accepted)
            again.write(Batch(acknowledged=[event.position for event in stored]))
            again.close()
        killer.stdin.close()
    assert accepted_count > 100, "it was killed before it did anything: this proves nothing"


async def test_f49_an_agent_killed_in_a_burst_says_each_event_under_one_id(tmp_path: Path) -> None:
    chance = random.Random(490)
    async with world(tmp_path) as w:
        for _ in range(5):
            agent = await w.start_agent()
            await w.until(lambda: w.observer.last("health/receipt-printer"))
            burst = asyncio.create_task(_flip_paper(w, 12))
            await asyncio.sleep(chance.uniform(0.3, 2.0))
            await agent.kill()
            burst.cancel()
            await asyncio.gather(burst, return_exceptions=True)
        w.printer.change(paper="plenty")
        agent = await w.start_agent()
        await w.until(lambda: "media-empty" not in w.observer.codes("receipt-printer"))
        assert await agent.stop() == 0

        stored = outbox(w.state_dir / "store.db")
        stored.open()
        waiting = bodies(everything(stored))
        stored.close()
    said: dict[str, Any] = {}
    for message in w.observer.messages:
        if "/event/" in message.topic:
            assert said.setdefault(message.json["id"], message.payload) == message.payload, "two bodies under one id"
    seqs = {json.loads(payload)["seq"] for payload in said.values()} | {event["seq"] for event in waiting}
    assert seqs == set(range(1, max(seqs) + 1))
    assert len({json.loads(payload)["stream"] for payload in said.values()}) == 1
    assert len(said) > 10


async def _flip_paper(w: World, times: int) -> None:
    for turn in range(times):
        w.printer.change(paper="plenty" if turn % 2 else "out")
        await asyncio.sleep(0.15)


RECORDED = """
import sys
from pathlib import Path
from agent.system.outbox import OutboxFile
from agent.system.outbox_rows import Batch, Draft, Limits, Stamp

def stamp():
    return Stamp("2026-11-22T10:00:00.000Z", 1, "synced", "boot")

file = OutboxFile(Path(sys.argv[1]), Limits(events=40), stamp)
file.open()
for turn in range(1, 13):
    drafts = [Draft("health", "tick", None, {"turn": turn, "part": part, "filler": "x" * 900}, stamp()) for part in range(5)]
    first = file.pending(0, 2)
    done = [event.position for event in first] if turn % 4 == 0 else []
    file.write(Batch(drafts=drafts, acknowledged=done, state={"turn": turn}))
    print(f"accepted {turn}", flush=True)
"""


@dataclass
class _File:
    """What certainly is on the disk, and the writes since that may or may not be."""

    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def after(self, keep: list[bool]) -> bytes:
        content = bytearray(self.durable)
        for (offset, data), kept in zip(self.pending, keep, strict=True):
            if kept:
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
        return bytes(content)


class _Disk:
    """Files as strace saw them written, by name."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self.accepted = 0

    def apply(self, line: str) -> bool:
        """One system call; returns whether it did anything to the store."""
        call = re.match(r"\d+ +(\w+)\((.*)\) = (-?\d+)", line)
        if call is None or call[3] == "-1":
            return False
        names = [_text(quoted).rpartition("/")[2] for quoted in re.findall(r'[<"]((?:\\x..)*)[">]', call[2])]
        if call[1] == "write" and "accepted" in _text(call[2].partition('"')[2]):
            self.accepted += 1
            return True
        if not names or not names[0].startswith("store."):
            return False
        if call[1] == "pwrite64":
            data = _bytes(re.search(r'"((?:\\x..)*)"', call[2])[1])  # type: ignore[index]
            self.files.setdefault(names[0], _File()).pending.append((int(call[2].rpartition(", ")[2]), data))
        elif call[1] in ("fdatasync", "fsync"):
            file = self.files.setdefault(names[0], _File())
            self.files[names[0]] = _File(file.after([True] * len(file.pending)))
        elif call[1] == "unlink":
            self.files.pop(names[0], None)
        elif call[1] == "rename":
            self.files[names[1]] = self.files.pop(names[0])
        else:
            raise AssertionError(f"a system call that is not replayed: {call[1]}")
        return True

    def leave(self, folder: Path, keep: Any) -> None:
        """What a power cut now may leave: `keep(n)` decides which of n unsynced writes of a file arrived."""
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, file in self.files.items():
            (folder / name).write_bytes(file.after(keep(len(file.pending))))


def _bytes(quoted: str) -> bytes:
    return bytes.fromhex(quoted.replace("\\x", ""))


def _text(quoted: str) -> str:
    return _bytes("".join(re.findall(r"\\x..", quoted))).decode(errors="replace")


def test_f50_a_power_cut_at_every_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    chance = random.Random(50)
    trace, live, cut = tmp_path / "trace", tmp_path / "live", tmp_path / "cut"
    live.mkdir()
    calls = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename"
    subprocess.run(
        ["strace", "-f", "-y", "-xx", "-s", "9000", "-e", f"trace={calls}", "-o", str(trace),
         sys.executable, "-c", RECORDED, str(live / "store.db")],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    disk = _Disk()
    cuts = seen_old = seen_new = 0
    ways: list[Any] = [
        lambda count: [True] * count,  # kill -9: the kernel has them all
        lambda count: [False] * count,
        lambda count: [chance.random() < 0.5 for _ in range(count)],
    ]
    for line in trace.read_text().splitlines():
        if not disk.apply(line):
            continue
        for keep in ways:
            cuts += 1
            disk.leave(cut, keep)
            file = outbox(cut / "store.db")
            turn = file.open().state.get("turn", 0)
            assert not file.was_damaged, "a power cut alone damages nothing"
            assert turn in (disk.accepted, disk.accepted + 1)
            events = bodies(everything(file))
            ticks = [event for event in events if event["code"] == "tick"]
            assert [event["data"]["part"] for event in ticks if event["data"]["turn"] == turn] == ([*range(5)] if turn else [])
            assert max((event["data"]["turn"] for event in ticks), default=0) == turn, "state and events go together"
            seen_old += turn == disk.accepted
            seen_new += turn == disk.accepted + 1
            file.close()
    assert disk.accepted == 12
    assert seen_old > 50
    assert seen_new > 5
    assert cuts > 300


async def test_f50_the_newest_state_of_a_killed_agent_is_read_back_by_the_next(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        w.printer.change(paper="out")
        first = await w.until(lambda: w.observer.codes("receipt-printer") and w.observer.last("health/receipt-printer"))
        await w.until(lambda: [event for event in w.observer.events() if event["code"] == "media-empty"])
        agent.process.send_signal(signal.SIGKILL)
        await agent.process.wait()
        already = len(w.observer.of("health/receipt-printer"))
        await w.start_agent()
        await w.until(lambda: w.observer.of("health/receipt-printer")[already:])
        health = w.observer.last("health/receipt-printer")
        assert health["findings"][0]["since"] == first["findings"][0]["since"]
        assert health["since"] == first["since"]
