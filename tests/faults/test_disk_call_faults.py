"""Rows 44 and 45 of the fault catalogue: what the disk answers to the running agent is an error, or nothing. By strace."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.world import World, world

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None or subprocess.run(["strace", "true"], capture_output=True, check=False).returncode != 0,
    reason="strace is missing, or may not trace: apt-get install strace",
)


@contextlib.asynccontextmanager
async def syncing(pid: int, fault: str) -> AsyncIterator[None]:
    """Meanwhile fsync and fdatasync of that process fare so."""
    strace = await asyncio.create_subprocess_exec(
        "strace", "-f", "-o", "/dev/null", "-e", f"inject=fsync,fdatasync:{fault}", "-p", str(pid),
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert strace.stderr is not None
    try:
        async with asyncio.timeout(20):
            assert b"attached" in await strace.stderr.readline()
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        await strace.communicate()


@contextlib.contextmanager
def service_manager() -> Iterator[tuple[str, list[bytes]]]:
    """The other end of NOTIFY_SOCKET: where it is, and what it was told."""
    loop, said = asyncio.get_running_loop(), list[bytes]()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        loop.add_reader(manager, lambda: said.append(manager.recv(4096)))
        try:
            yield f"{folder}/notify", said
        finally:
            loop.remove_reader(manager)


async def paper_out_and_back(w: World) -> None:
    """What a technician and a shopkeeper see needs no disk."""
    w.printer.change(paper="out")
    await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"), "the printer's alarm")
    w.printer.change(paper="plenty")
    await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty") is None, "the end of it")


async def all_is_told_in_order(w: World) -> None:
    """Once the disk is well: nothing is missing, and nothing comes twice."""

    def changes(code: str) -> list[str]:
        return [event["data"]["change"] for event in w.observer.events() if event["code"] == code]

    await w.until(lambda: "cleared" in changes("store-damaged"), "recovery", 60)
    numbers = [event["seq"] for event in w.observer.events()]
    assert numbers == list(range(1, len(numbers) + 1))
    paper = changes("media-empty")
    assert paper == ["raised", "cleared"] * (len(paper) // 2)
    assert paper


async def test_f44_what_fsync_did_not_take_is_not_counted_as_stored_and_comes_when_it_does(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        await w.until(lambda: w.observer.last("health/receipt-printer"))
        async with syncing(agent.pid, "error=EIO"):
            w.printer.change(paper="out")
            await w.until(lambda: w.observer.last("alarm/booth/store-damaged"), "the alarm")
            w.printer.change(paper="plenty")
            await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty") is None, "the end of it")
            assert [event for event in w.observer.events() if event["code"] == "media-empty"] == [], (
                "what is not stored is not said"
            )
        await all_is_told_in_order(w)


async def test_f45_while_the_disk_hangs_the_watchdog_is_fed_and_all_but_events_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with service_manager() as (address, said):
            agent = await w.start_agent(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"})
            await w.until(lambda: w.observer.last("health/receipt-printer"))
            async with syncing(agent.pid, "delay_enter=15s"):
                await paper_out_and_back(w)
                await w.until(lambda: w.observer.last("alarm/booth/store-damaged"), "the alarm", 40)
                assert w.observer.last("health/booth")["facts"]["store"] == "hangs"
                said.clear()
                await asyncio.sleep(5)
                assert said.count(b"WATCHDOG=1") >= 4
                await paper_out_and_back(w)
        assert agent.process.returncode is None
        await all_is_told_in_order(w)
