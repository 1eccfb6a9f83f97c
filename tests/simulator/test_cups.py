"""The simulated print server is a real cupsd, and leaves nothing behind."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.devices.ipp import Queue, QueueAddress, converse
from agent.simulator.cups import _PATH, Cups, _session
from agent.simulator.mosquitto import answers

if shutil.which("cupsd", path=_PATH) is None or shutil.which("lp") is None:
    pytest.skip("cupsd or lp is missing: apt-get install cups-daemon cups-client", allow_module_level=True)

PRIVATE = "canary-0e7f"


async def literal(host: str) -> list[str]:
    return [host]


async def queue_of(cups: Cups) -> Queue:
    async with converse(QueueAddress.parse(cups.url), literal, 5) as scheduler:
        return await scheduler.queue()


async def until(cups: Cups, condition: Callable[[Queue], bool]) -> Queue:
    async with asyncio.timeout(15):
        while not condition(queue := await queue_of(cups)):
            await asyncio.sleep(0.02)
    return queue


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


async def test_it_is_up_at_once_and_gone_with_its_backends(tmp_path: Path) -> None:
    cups = Cups(tmp_path)
    began_s = time.monotonic()
    await cups.start()
    try:
        assert time.monotonic() - began_s < 2
        cups.change(held=True)
        await cups.print_something()
        await until(cups, lambda queue: queue.state == 4)
        assert len(_session(cups._process.pid if cups._process else 0)) == 2, "cupsd and its backend"
    finally:
        await cups.stop()
    assert processes_of(tmp_path) == []
    assert not await answers(cups.port)


async def test_a_frozen_or_killed_one_leaves_no_backend_either(tmp_path: Path) -> None:
    for end in ("freeze", "kill"):
        folder = tmp_path / end
        folder.mkdir()
        cups = Cups(folder)
        await cups.start()
        try:
            cups.change(held=True)
            await cups.print_something()
            await until(cups, lambda queue: queue.state == 4)
            if end == "freeze":
                cups.freeze()
            else:
                await cups.kill()
                assert processes_of(folder) == []
                await cups.start()
                await until(cups, lambda queue: queue.state in (3, 4, 5))
        finally:
            await cups.stop()
        assert processes_of(folder) == []


async def test_no_document_stays_in_the_spool(tmp_path: Path) -> None:
    cups = Cups(tmp_path)
    await cups.start()
    try:
        await cups.print_something(PRIVATE)
        await until(cups, lambda queue: queue.queued_jobs == 0 and queue.state == 3 and bool(queue.supplies))
    finally:
        await cups.stop()
    spool = [file for file in (tmp_path / "cups/spool").rglob("*") if file.is_file()]
    assert not [file for file in spool if PRIVATE.encode() in file.read_bytes()]


async def test_a_printer_follows_its_condition_while_a_job_runs(tmp_path: Path) -> None:
    cups = Cups(tmp_path)
    await cups.start()
    try:
        cups.change(paper="out", cover_open=True, toner_pct=12)
        await cups.print_something()
        queue = await until(cups, lambda queue: len(queue.reasons) == 2 and bool(queue.supplies))
        assert set(queue.reasons) == {"media-empty-error", "cover-open-error"}
        assert [(supply.name, supply.level_pct) for supply in queue.supplies] == [
            ("Toner noir", 12),
            ("Bac de toner usagé", None),
        ]
        cups.change(paper="plenty", cover_open=False)
        await until(cups, lambda queue: queue.state == 3 and queue.reasons == ("none",))
        cups.change(crashes=True)
        await cups.print_something()
        await until(cups, lambda queue: queue.state == 5)
        await cups.cancel_jobs()
        cups.change(crashes=False, takes_back=False, jammed=True)
        await cups.start_queue()
        await cups.print_something()
        await until(cups, lambda queue: "media-jam-error" in queue.reasons)
        cups.change(jammed=False)
        await until(cups, lambda queue: queue.state == 3)
        await cups.restart()
        assert (await queue_of(cups)).reasons == ("media-jam-error",), "it outlives its cause, as measured"
        await cups.accept_jobs(accept=False)
        assert (await queue_of(cups)).accepting is False
    finally:
        await cups.stop()


AS_ANOTHER_USER = """
import asyncio, pathlib, sys
from agent.simulator.cups import Cups

async def main():
    cups = Cups(pathlib.Path(sys.argv[1]))
    await cups.start()
    try:
        print(await cups.print_something())
    finally:
        await cups.stop()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user; the other tests run as one")
def test_an_ordinary_user_can_run_it() -> None:
    house = Path(__file__).parents[2]
    python = "/usr/bin/python3"  # root's own interpreter is often closed to others
    may: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/", "timeout": 60}
    version = "import sys, pathlib; sys.exit(sys.version_info < (3, 11) or not pathlib.Path(sys.argv[1]).is_file())"
    if subprocess.run([python, "-c", version, str(house / "setup.cfg")], check=False, capture_output=True, **may).returncode != 0:
        pytest.skip("/usr/bin/python3 of 3.11 or newer is missing, or nobody may not read the house")
    folder = Path(tempfile.mkdtemp(prefix="booth-cups-"))  # pytest's own folder is closed to others
    try:
        shutil.chown(folder, "nobody", "nogroup")
        done = subprocess.run(
            [python, "-c", AS_ANOTHER_USER, str(folder)],
            check=False, capture_output=True, text=True, **may,
            env={"PATH": _PATH, "PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
        assert processes_of(folder) == []
    finally:
        shutil.rmtree(folder)
