"""When an update is applied, and that nobody is disturbed by it."""

import asyncio
from pathlib import Path

from agent.rules.update_window import IDLE_S
from tests.engine.test_heal import on_virtual_time
from tests.engine.updated_booth import Booth, started, until

HOUR_S = 3600.0


async def laid(booth: Booth, window: str | None) -> None:
    """In the morning, while people come and go."""
    booth.citizen.there = True
    await asyncio.sleep(60)
    booth.citizen.there = False
    booth.web.lasts_s = 1.0
    booth.publish({"forms": "1.1"}, window=window)
    await booth.laid()


async def comes_and_goes(booth: Booth, lasts_s: float = 60.0) -> None:
    booth.citizen.there = True
    await asyncio.sleep(lasts_s)
    booth.citizen.there = False


async def switched(booth: Booth, within_s: float) -> bool:
    try:
        await until(lambda: booth.in_use("forms") == "1.1", within_s, every_s=5.0)
    except TimeoutError:
        return False
    return True


# --- power-on ---


@on_virtual_time
async def test_power_on_is_the_next_start_of_the_machine_and_no_restart_of_the_agent(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="power-on")
        await booth.laid()
        assert not await switched(booth, 8 * HOUR_S), "however idle it is"
        await booth.stop()
        await booth.start()
        assert not await switched(booth, 8 * HOUR_S), "it is the same boot"
        await booth.stop()
        booth.boot("second")
        await booth.start()
        assert await switched(booth, 60)


@on_virtual_time
async def test_power_on_is_before_anybody_has_used_the_booth(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="power-on")
        await booth.laid()
        await booth.stop()
        booth.boot("second")
        booth.citizen.there = True
        await booth.start()
        await asyncio.sleep(60)
        booth.citizen.there = False
        assert not await switched(booth, 8 * HOUR_S), "she was first"
        await booth.stop()
        booth.boot("third")
        await booth.start()
        assert await switched(booth, 60)


@on_virtual_time
async def test_an_agent_that_starts_late_does_not_know_whether_the_booth_was_used(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="power-on")
        await booth.laid()
        await booth.stop()
        booth.boot("second")
        await booth.start(up_s=700.0)
        assert not await switched(booth, 8 * HOUR_S)


@on_virtual_time
async def test_who_used_the_booth_during_a_download_was_there(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="power-on")
        await booth.laid()
        await booth.stop()
        booth.boot("second")
        booth.root.away = True
        await booth.start()
        await comes_and_goes(booth)
        booth.root.away = False
        assert not await switched(booth, 8 * HOUR_S)


# --- closed ---


@on_virtual_time
async def test_closed_is_outside_the_opening_hours(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await laid(booth, "closed")
        assert not await switched(booth, 8 * HOUR_S)
        booth.open = False
        assert await switched(booth, 65)


# --- idle ---


@on_virtual_time
async def test_idle_is_half_an_hour_without_anybody_and_each_citizen_begins_it_anew(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await laid(booth, "idle")
        await comes_and_goes(booth)
        assert not await switched(booth, IDLE_S - 120)
        await comes_and_goes(booth)
        left_s = asyncio.get_running_loop().time()
        assert not await switched(booth, IDLE_S - 60)
        assert await switched(booth, 200)
        assert IDLE_S <= asyncio.get_running_loop().time() - left_s < IDLE_S + 90


@on_virtual_time
async def test_idle_counts_from_the_last_citizen_also_where_nothing_waited_while_she_was_there(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await asyncio.sleep(5 * HOUR_S)
        await comes_and_goes(booth)
        booth.publish({"forms": "1.1"}, window="idle")
        envelope_s = asyncio.get_running_loop().time()
        booth.web.lasts_s = 1.0
        await booth.laid()
        staged_s = asyncio.get_running_loop().time()
        await comes_and_goes(booth)
        assert staged_s > envelope_s
        assert not await switched(booth, IDLE_S - 60)


@on_virtual_time
async def test_who_left_just_before_an_update_was_laid_counts(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await asyncio.sleep(5 * HOUR_S)
        booth.web.lasts_s = 1200.0
        booth.publish({"forms": "1.1"}, window="idle")
        await booth.fetching()
        await asyncio.sleep(1000)
        await comes_and_goes(booth)
        await booth.laid()
        assert not await switched(booth, IDLE_S - 400), "people use this booth: a quiet moment is half an hour"
        assert await switched(booth, 600)


# --- now, and none ---


@on_virtual_time
async def test_now_is_within_a_minute_or_two_and_after_the_citizen_who_is_there(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.citizen.there = True
        booth.publish({"forms": "1.1"}, window="now")
        assert not await switched(booth, 8 * HOUR_S)
        booth.citizen.there = False
        assert await switched(booth, 125)


@on_virtual_time
async def test_without_a_window_it_is_the_first_quiet_moment(tmp_path: Path) -> None:
    for name in ("closed", "idle", "power-on"):
        booth = Booth(tmp_path / name)
        await booth.start()
        await laid(booth, None)
        if name == "closed":
            booth.open = False
        elif name == "idle":
            await asyncio.sleep(IDLE_S)
        else:
            await booth.stop()
            booth.boot("second")
            await booth.start()
        assert await switched(booth, 65), name
        await booth.stop()


@on_virtual_time
async def test_another_window_counts_at_once(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="power-on")
        await booth.laid()
        assert not await switched(booth, 8 * HOUR_S)
        booth.publish({"forms": "1.1"}, window="now")
        assert await switched(booth, 60)
        assert len(booth.web.began) == 1


# --- nobody is disturbed ---


@on_virtual_time
async def test_nothing_is_switched_while_a_session_lasts_whatever_the_window(tmp_path: Path) -> None:
    for window in ("now", "closed", "idle", "power-on", None):
        booth = Booth(tmp_path / str(window))
        booth.open = False
        await booth.start()
        booth.publish({"forms": "1.1"}, window=window)
        await booth.fetching()
        booth.citizen.there = True
        assert not await switched(booth, 8 * HOUR_S), window
        assert not booth.root.acts("stage"), "unpacking takes what her browser needs"
        await booth.stop()


@on_virtual_time
async def test_a_citizen_who_comes_during_a_switch_waits_for_its_end(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.root.lasts_s["switch"] = 3.0
        booth.publish({"forms": "1.1"}, window="now")
        await until(lambda: booth.root.acts("switch"))
        await booth.citizen.wants()
        assert booth.citizen.waited_s is not None
        assert 2.0 < booth.citizen.waited_s < 3.5
        assert booth.in_use("forms") == "1.1"


@on_virtual_time
async def test_no_citizen_begins_between_the_switch_and_the_end_of_the_old_version(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"}, window="now")
        await until(lambda: booth.in_use() == "1.1")
        wants = asyncio.create_task(booth.citizen.wants())
        await until(lambda: booth.ended, 20)
        assert not booth.citizen.there
        await booth.stop()
        await asyncio.wait_for(wants, 1)


@on_virtual_time
async def test_she_does_not_wait_for_root_that_does_not_answer(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.root.lasts_s["stage"] = 2.0
        booth.publish({"forms": "1.1"}, window="now")
        await until(lambda: booth.root.acts("stage"))
        booth.root.away = True
        booth.publish({"forms": "1.1"}, window="now")
        await until(lambda: booth.root.acts("switch"))
        await booth.citizen.wants()
        assert booth.citizen.waited_s is not None
        assert booth.citizen.waited_s < 5
        booth.citizen.there = booth.root.away = False
        assert await switched(booth, 400)


@on_virtual_time
async def test_a_check_or_a_command_of_our_own_is_brought_to_its_end_and_is_no_citizen(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="power-on")
        await booth.laid()
        await booth.stop()
        booth.boot("second")
        booth.citizen.ours = booth.citizen.there = True  # it lasts, and nothing more may join it
        await booth.start()
        assert not await switched(booth, 300)
        booth.citizen.ours = booth.citizen.there = False
        assert await switched(booth, 20), "nobody has used the booth"


@on_virtual_time
async def test_a_lock_that_cannot_be_opened_is_a_citizens(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.citizen.openable, booth.citizen.there = False, True  # as the lock says it
        booth.publish({"forms": "1.1"}, window="now")
        assert not await switched(booth, 8 * HOUR_S)
        booth.citizen.openable, booth.citizen.there = True, False
        assert await switched(booth, 125)
