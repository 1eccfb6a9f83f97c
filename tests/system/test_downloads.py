"""Files that are fetched by a process of their own: what is there afterwards, what is not, and what the daemon sees of it."""

import asyncio
import contextlib
import fcntl
import hashlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import VERSION
from agent.system import downloads as downloads_module
from agent.system.downloads import Downloads, NotFetched, deadline_s
from tests.background import meanwhile
from tests.faults.file_server import FileServer, chunked, cut_after, file_server, held_after, redirect, without_ranges

CONTENT = random.Random(7).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def unlimited() -> float | None:
    return None


def nobody(_per_cent: int) -> None:
    """Listens to no progress."""


def downloads(folder: Path, rate_bytes_s: float | None = None, **more: Any) -> Downloads:
    return Downloads(folder / "downloads", lambda: rate_bytes_s, **more)


def part(folder: Path) -> Path:
    return folder / "downloads" / f"{SHA256}.part"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "downloads").iterdir())


async def fetch(here: Downloads, server: FileServer, progress: Callable[[int], None] = nobody) -> None:
    await here.fetch(server.url(), len(CONTENT), SHA256, progress)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


async def test_a_file_is_there_whole_under_its_hash_and_root_and_the_daemon_read_it(tmp_path: Path) -> None:
    here = downloads(tmp_path)
    said: list[int] = []
    with file_server(CONTENT) as server:
        assert not here.got(SHA256)
        await fetch(here, server, said.append)
    assert here.got(SHA256)
    file = tmp_path / "downloads" / SHA256
    assert file.read_bytes() == CONTENT
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o640, 0o750)
    assert (names(tmp_path), said[-1]) == ([SHA256], 100)


async def test_the_server_learns_the_version_and_nothing_of_the_booth(tmp_path: Path) -> None:
    with file_server(CONTENT) as server:
        await fetch(downloads(tmp_path), server)
        [headers] = server.asked
    assert headers == {
        "host": f"127.0.0.1:{server.server_port}", "user-agent": f"booth-agent/{VERSION}", "accept-encoding": "identity",
        "connection": "close", ":path": "/agent.tar",
    }  # fmt: skip


async def test_a_file_that_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    """Its process ended, and the daemon too, before it heard the answer."""
    with file_server(CONTENT) as server:
        await fetch(downloads(tmp_path), server)
        await fetch(downloads(tmp_path), server)
        assert len(server.asked) == 1


async def test_a_file_that_rotted_on_the_card_is_fetched_again(tmp_path: Path) -> None:
    file = tmp_path / "downloads" / SHA256
    file.parent.mkdir()
    file.write_bytes(CONTENT[:-1] + b"x")
    with file_server(CONTENT) as server:
        await fetch(downloads(tmp_path), server)
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize("habit", [chunked, redirect("/elsewhere/agent%20(1).tar?v=é"), redirect("elsewhere", 308)])
async def test_every_good_way_to_serve_a_file_is_understood(tmp_path: Path, habit: Any) -> None:
    with file_server(CONTENT) as server:
        server.habits = [habit]
        await fetch(downloads(tmp_path), server)
    assert (tmp_path / "downloads" / SHA256).read_bytes() == CONTENT


async def test_what_has_come_is_not_fetched_twice(tmp_path: Path) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT[:200_000])
    with file_server(CONTENT) as server:
        await fetch(downloads(tmp_path), server)
        assert (server.ranges, server.sent) == (["bytes=200000-"], 100_000)
    assert (tmp_path / "downloads" / SHA256).read_bytes() == CONTENT


async def test_a_part_that_is_complete_needs_no_server(tmp_path: Path) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT)
    await downloads(tmp_path).fetch("http://127.0.0.1:1/", len(CONTENT), SHA256, nobody)
    assert names(tmp_path) == [SHA256]


async def test_a_server_without_ranges_sends_it_all_again(tmp_path: Path) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(CONTENT[:200_000])
    with file_server(CONTENT) as server:
        server.habits = [without_ranges]
        await fetch(downloads(tmp_path), server)
        assert len(server.asked) == 1
    assert (tmp_path / "downloads" / SHA256).read_bytes() == CONTENT


async def test_progress_is_said_in_per_cent_and_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads_module, "_LOOK_EVERY_S", 0.02)
    said: list[int] = []
    with file_server(CONTENT) as server:
        server.habits = [held_after(120_000)]
        async with meanwhile(fetch(downloads(tmp_path), server, said.append)):
            await until(lambda: 40 in said)
            server.gate.set()
            await until(lambda: 100 in said)
    assert said == sorted(set(said))


async def test_a_rate_holds_in_every_second(tmp_path: Path) -> None:
    """What a citizen's page needs of the line is not taken in bursts either."""
    rate_bytes_s = 100_000.0
    began_s = time.monotonic()
    seen: list[tuple[float, int]] = []
    with file_server(CONTENT) as server:
        running = asyncio.create_task(fetch(downloads(tmp_path, rate_bytes_s), server))
        while not running.done():
            seen.append((time.monotonic(), length(part(tmp_path))))
            await asyncio.wait({running}, timeout=0.02)
        await running
    assert time.monotonic() - began_s > len(CONTENT) / rate_bytes_s / 2
    for at_s, had in seen:
        in_a_second = [has - had for later_s, has in seen if at_s <= later_s < at_s + 1.0]
        assert max(in_a_second) < 2 * rate_bytes_s


async def test_who_waits_no_more_ends_the_process_and_keeps_what_came(tmp_path: Path) -> None:
    with file_server(CONTENT) as server:
        server.habits = [held_after(100_000)]
        async with meanwhile(fetch(downloads(tmp_path), server)):
            await until(lambda: length(part(tmp_path)) == 100_000)
        with open(part(tmp_path), "rb") as kept:  # nobody has it any more
            fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await fetch(downloads(tmp_path), server)
        assert server.ranges == [None, "bytes=100000-"]
    assert (tmp_path / "downloads" / SHA256).read_bytes() == CONTENT


async def test_there_is_one_download_at_a_time(tmp_path: Path) -> None:
    """A booth's line carries its health first."""
    here = downloads(tmp_path)
    other = bytes(1000)
    with file_server(CONTENT) as server, file_server(other) as second:
        server.habits = [held_after(100_000)]
        first = asyncio.create_task(fetch(here, server))
        await until(lambda: length(part(tmp_path)) == 100_000)
        waiting = asyncio.create_task(here.fetch(second.url(), len(other), hashlib.sha256(other).hexdigest(), nobody))
        await asyncio.wait({waiting}, timeout=0.1)
        assert second.asked == []
        server.gate.set()
        await asyncio.gather(first, waiting)
        assert len(second.asked) == 1


async def test_a_process_that_outlived_its_daemon_is_not_disturbed(tmp_path: Path) -> None:
    part(tmp_path).parent.mkdir()
    with open(part(tmp_path), "wb") as its, file_server(CONTENT) as server:
        fcntl.flock(its, fcntl.LOCK_EX)
        with pytest.raises(NotFetched) as caught:
            await fetch(downloads(tmp_path), server)
        assert (caught.value.reason, server.asked) == ("busy", [])


async def test_what_is_wanted_no_more_is_deleted_and_what_cannot_be_stays(tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    here = downloads(tmp_path)
    here.forget([])  # no folder yet
    folder.mkdir()
    old, coming = "aa" * 32, "bb" * 32
    for name in (SHA256, old, f"{old}.part", f"{coming}.part", "cc" * 32 + ".part", "stray"):
        (folder / name).write_bytes(b"x")
    (folder / "folder").mkdir()
    here.forget([SHA256, coming])
    assert names(tmp_path) == sorted([SHA256, f"{coming}.part", "folder"])


async def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, file_server(CONTENT) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        await fetch(downloads(tmp_path), server)
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


async def test_a_failure_of_the_process_itself_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NotFetched) as caught:
        await downloads(tmp_path).fetch("http://127.0.0.1:1/", 1, "../../etc/passwd", nobody)
    assert caught.value.reason == "fetch-failed"
    assert list(tmp_path.iterdir()) == []


async def test_after_a_failure_the_next_one_has_its_turn(tmp_path: Path) -> None:
    here = downloads(tmp_path)
    with file_server(CONTENT) as server:
        server.habits = [cut_after(10)]
        with contextlib.suppress(NotFetched):
            await fetch(here, server)
        await fetch(here, server)
    assert here.got(SHA256)


def test_one_that_hangs_ends_but_none_that_a_slow_line_carries() -> None:
    half_a_gigabyte = 512 * 1024 * 1024
    assert deadline_s(1, None) >= 3600
    assert half_a_gigabyte / 8_000 < deadline_s(half_a_gigabyte, None) < 24 * 3600
    assert deadline_s(half_a_gigabyte, 1_000_000.0) == deadline_s(half_a_gigabyte, None)
    assert deadline_s(1_000_000, 1000.0) > 2 * 1000


def test_the_daemon_carries_nothing_of_what_fetches() -> None:
    script = "import sys, agent.daemon, agent.system.downloads; print({'http.client', 'agent.fetching'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
