"""The forms when something is wrong: without any network they print; what is missing, damaged or out of date is said in time."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import RELEASED_AT
from agent.simulator.cups import _PATH
from agent.simulator.machine import SimulatedMachine, SimulatedTimes
from tests.forms_folder import SHIPPED, form, furnish, pdf
from tests.machine.namespace import missing, missing_mounts
from tests.world import World, agent_inside, world

ROOT = Path(__file__).parents[2]


def switch(link: Path, target: str) -> None:
    """As root does it."""
    fresh = link.with_name("current.new")
    fresh.symlink_to(target)
    fresh.rename(link)


@asynccontextmanager
async def booth(folder: Path, current: Path, status: str = "ok", **options: Any) -> AsyncIterator[World]:
    """A running booth with a forms cache, and nothing but."""
    async with world(folder, peripherals={"forms": {"kind": "forms", "device": str(current)} | options}) as w:
        await w.start_agent()
        await until(w, status)
        yield w


async def until(w: World, status: str, *codes: str) -> None:
    def there() -> bool:
        health = w.observer.last("health/forms")
        return health is not None and health["status"] == status and (not codes or w.observer.codes("forms") == [*codes])

    await w.until(there, f"{status} {codes}")


# --- without the Internet ---


async def test_all_ten_forms_print_in_their_copies_while_there_is_no_network_at_all(tmp_path: Path) -> None:
    """Cache read-only, print server and agent in a network namespace whose only interface is loopback."""
    for reason in (missing(), missing_mounts()):
        if reason is not None:
            pytest.skip(reason)
    if shutil.which("cupsd", path=_PATH) is None or shutil.which("lp") is None:
        pytest.skip("cupsd or lp is missing: apt-get install cups-daemon cups-client")
    scene = (sys.executable, "-m", "tests.faults.offline_forms", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        "unshare", "--net", "--mount", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *scene,
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, err.decode()[-4000:]
    wanted = [[one["cerfa"], one["copies"]] for one in json.loads((SHIPPED / "catalogue.json").read_text())["forms"]]
    assert json.loads(out) == wanted
    assert ["15776*02", 2] in wanted


# --- what happens to the files ---


async def test_a_form_that_vanishes_is_said_at_once_and_the_next_catalogue_mends_it(tmp_path: Path) -> None:
    for slot in ("a", "b"):
        furnish(tmp_path / "forms" / "slots" / slot, form("10840"), form("13750"), version=f"2026-{slot}")
    current = tmp_path / "forms" / "current"
    current.symlink_to("slots/a")
    async with booth(tmp_path, current) as w:
        began_s = time.monotonic()
        (current / "13750.pdf").unlink()
        await until(w, "degraded", "form-missing")
        assert time.monotonic() - began_s < 20, "the kernel tells, long before the next look in five minutes"
        await w.until(lambda: w.observer.last("alarm/forms/form-missing"), "the alarm")
        alarm = w.observer.last("alarm/forms/form-missing")
        assert (alarm["severity"], alarm["fix_by"], alarm["runbook"]) == ("warning", "remote", "forms/form-missing")
        [finding] = w.observer.last("health/forms")["findings"]
        assert finding["detail"] == {"forms": "13750", "flaws": "absent"}

        (current / "10840.pdf").write_bytes(pdf("10840")[:-1])
        await w.until(lambda: w.observer.last("health/forms")["facts"]["printable"] == 0, "none left")
        await until(w, "fault", "form-missing")

        switch(current, "slots/b")
        await until(w, "ok")
        facts = w.observer.last("health/forms")["facts"]
        assert (facts["catalogue"], facts["printable"], facts["missing"]) == ("2026-b", 2, 0)


async def test_a_booth_without_a_catalogue_says_so_until_the_first_one_arrives(tmp_path: Path) -> None:
    place = tmp_path / "forms"
    place.mkdir()
    async with booth(tmp_path, place / "current", "absent") as w:
        assert w.observer.codes("forms") == ["no-device"]
        furnish(place / "slots" / "a", form())
        switch(place / "current", "slots/a")
        await until(w, "ok")
        (place / "current" / "catalogue.json").write_text('{"schema": 1')
        await until(w, "absent", "no-device")
        assert "no JSON" in w.observer.last("health/forms")["findings"][0]["detail"]["reason"]


async def test_no_folder_of_rubbish_harms_the_agent(tmp_path: Path) -> None:
    """Links out of the folder, a catalogue without end, names that are none, a thousand files: words, and no more."""
    folder = furnish(tmp_path / "forms", form("10840"), form("13750"))
    (folder / "10840.pdf").unlink()
    (folder / "10840.pdf").symlink_to("/etc/shadow")
    async with booth(tmp_path, folder, "degraded") as w:
        assert w.observer.last("health/forms")["findings"][0]["detail"] == {"forms": "10840", "flaws": "no-file"}
        for number in range(1000):
            (folder / f"\x1b[2J{number}.pdf").touch()
        for text in ("[" * 100_000, '{"schema":1,"forms":[{}]}', " " * 2**20, "\udcff"):
            (folder / "catalogue.json").write_bytes(text.encode(errors="surrogateescape"))
            await until(w, "absent", "no-device")
            furnish(folder, form("13750"))
            await until(w, "ok")
        assert w.agents[0].process.returncode is None


# --- what time does ---


class Times(SimulatedTimes):
    """The machine's clocks, with the wall where a test puts it."""

    moved_s = 0.0

    def wall_s(self) -> float:
        return time.time() + self.moved_s


def day(moved: int) -> str:
    return (datetime.now(UTC).date() + timedelta(moved)).isoformat()


async def test_a_clock_below_its_floor_lets_no_form_expire_and_the_right_one_does(tmp_path: Path) -> None:
    """A Raspberry Pi wakes in 1970. What it then believes of dates is nothing."""
    folder = furnish(tmp_path / "forms", form("10840", not_after=day(-1)), form("13750", not_after=day(30)))
    machine = SimulatedMachine(tmp_path / "machine")
    machine.times = times = Times()
    times.moved_s = 1000.0 - time.time()
    forms = {"forms": {"kind": "forms", "device": str(folder), "interval_s": 10}}
    async with world(tmp_path, peripherals=forms) as w, agent_inside(w, machine):
        await until(w, "ok")
        assert w.observer.last("health/forms")["facts"]["expired"] is None
        assert RELEASED_AT > 1000.0
        times.moved_s = 0.0
        await until(w, "degraded", "form-expired")
        facts = w.observer.last("health/forms")["facts"]
        assert (facts["expired_forms"], facts["next_not_after"], facts["printable"]) == ("10840", day(30), 2)
