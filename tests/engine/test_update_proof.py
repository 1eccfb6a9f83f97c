"""How a version on trial proves itself, and what the light says meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.engine.test_heal import on_virtual_time
from tests.engine.updated_booth import Booth, started, until


@asynccontextmanager
async def on_trial(folder: Path, **what_works: bool) -> AsyncIterator[Booth]:
    """A booth whose new version has just started."""
    async with started(folder) as booth:
        booth.publish({"agent": "1.1"}, window="now")
        await until(lambda: booth.in_use() == "1.1")
        await booth.stop()
        booth.lights.clear()
        for name, works in what_works.items():
            setattr(booth, name, works)
        await booth.start("1.1")
        yield booth


def proofs(booth: Booth) -> list[float]:
    """When it said that it is well, since its start."""
    began_s = [at_s for at_s, act in booth.root.asked if act == "status"][-1]
    return [at_s - began_s for at_s, act in booth.root.asked if act == "healthy"]


@on_virtual_time
async def test_a_version_that_works_has_proved_itself_within_a_second_of_all_its_proofs(tmp_path: Path) -> None:
    async with on_trial(tmp_path, probed=False, readable=False, online=False) as booth:
        for name in ("probed", "readable", "online"):
            await asyncio.sleep(5)
            assert not proofs(booth), f"without {name}"
            setattr(booth, name, True)
        await booth.phase("committed", 1.5)
        assert booth.said[-1]["reason"] is None
        await asyncio.sleep(600)
        assert len(proofs(booth)) == 1


@on_virtual_time
async def test_peripherals_that_were_never_looked_at_or_a_store_that_cannot_be_read_prove_nothing(tmp_path: Path) -> None:
    for name in ("probed", "readable"):
        async with on_trial(tmp_path / name, **{name: False}) as booth:
            await asyncio.sleep(600)
            assert not proofs(booth)
            booth.root.root.updating().deadline()
            assert booth.in_use() == "1.0"


@on_virtual_time
async def test_without_a_network_it_stays_on_trial_until_there_is_one_and_the_light_is_not_kept_at_working(
    tmp_path: Path,
) -> None:
    async with on_trial(tmp_path, online=False) as booth:
        booth.root.root.reached = False
        await until(lambda: booth.said[-1:] and booth.said[-1]["reason"] == "offline", 70)
        assert [round(at_s / 10) for at_s in proofs(booth)] == [6]
        assert not booth.updates.working
        for _ in range(5):
            await asyncio.sleep(600)
            booth.root.root.updating().deadline()
        assert (booth.said[-1]["phase"], booth.in_use()) == ("verifying", "1.1")
        booth.root.root.reached = booth.online = True
        await booth.phase("committed", 40)
        assert booth.said[-1]["reason"] is None
        assert [code for code in booth.codes() if code in ("switched", "committed")] == ["switched", "committed"]


@on_virtual_time
async def test_where_root_reaches_the_broker_it_has_to_be_heard_and_root_is_asked_every_half_minute(tmp_path: Path) -> None:
    async with on_trial(tmp_path, online=False) as booth:
        await asyncio.sleep(300)
        assert [round(at_s / 10) for at_s in proofs(booth)] == [6, 9, 12, 15, 18, 21, 24, 27]
        assert (booth.said[-1]["phase"], booth.said[-1]["reason"]) == ("verifying", "no-round-trip")
        booth.online = True
        await booth.phase("committed", 2)
        assert booth.said[-1]["reason"] is None


@on_virtual_time
async def test_a_proof_that_root_does_not_take_is_offered_again_and_is_no_spin(tmp_path: Path) -> None:
    async with on_trial(tmp_path, online=False) as booth:
        await booth.phase("verifying")
        booth.root.away = True
        booth.online = True
        await asyncio.sleep(400)
        assert 10 < len(proofs(booth)) < 120
        booth.root.away = False
        await booth.phase("committed", 10)


@on_virtual_time
async def test_root_that_says_for_ever_that_it_is_on_trial_is_asked_every_few_seconds(tmp_path: Path) -> None:
    async with on_trial(tmp_path, online=False) as booth:
        report = await booth.phase("verifying")
        [task] = booth.updates._tasks
        said = {"reported": report, "tasks": [{**task.__dict__}]}
        booth.root.says = lambda _answer: said
        booth.online = True
        await asyncio.sleep(100)
        assert 5 < len(proofs(booth)) < 30


@on_virtual_time
async def test_the_old_version_does_not_vouch_for_the_new_one_and_ends_itself(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"}, window="now")
        await until(lambda: booth.in_use() == "1.1")
        await booth.stop()
        await booth.start("1.0")  # nobody has started the new one
        await until(lambda: booth.ended, 30)
        assert not booth.root.acts("healthy")
        assert booth.said[-1]["phase"] == "verifying"


@on_virtual_time
async def test_who_switched_ends_itself_where_root_does_not_have_it_started_anew(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"}, window="now")
        await until(lambda: booth.in_use() == "1.1")
        await asyncio.sleep(5)
        assert not booth.ended, "root does it as a rule"
        await until(lambda: booth.ended, 30)
        assert not booth.root.acts("healthy")


@on_virtual_time
async def test_other_kinds_go_on_during_a_trial_and_do_not_end_it(tmp_path: Path) -> None:
    async with on_trial(tmp_path, online=False) as booth:
        booth.publish({"agent": "1.1", "forms": "1.2"}, window="now")
        await until(lambda: booth.codes().count("accepted") == 2)
        await until(lambda: booth.in_use("forms") == "1.2")
        assert booth.said[-1]["sections"]["agent"]["phase"] == "verifying"
        booth.online = True
        await until(lambda: booth.said[-1]["sections"]["agent"]["phase"] == "committed")
        assert not booth.ended, "forms count at once, and nothing is started anew for them"


# --- the light ---


@on_virtual_time
async def test_the_light_says_working_during_a_switch_and_its_proof_and_at_no_other_time(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.root.lasts_s = {"stage": 60.0, "switch": 3.0}
        booth.publish({"agent": "1.1"})
        await until(lambda: booth.root.acts("switch"))
        switching_s = next(at_s for at_s, act in booth.root.asked if act == "switch")
        await until(lambda: booth.ended, 30)
        await booth.stop()
        assert booth.lights == [(switching_s, True)], "not while it is fetched and laid out; and it stays so until the end"
        booth.lights.clear()
        booth.online = False
        await booth.start("1.1")
        await asyncio.sleep(30)
        assert [working for _, working in booth.lights] == [True]
        booth.online = True
        await booth.phase("committed")
        await asyncio.sleep(3600)
        assert [working for _, working in booth.lights] == [True, False]


@on_virtual_time
async def test_forms_are_a_moment_of_work(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="now")
        await until(lambda: booth.in_use("forms") == "1.1")
        await asyncio.sleep(600)
        [(began_s, began), (ended_s, ended)] = booth.lights
        assert (began, ended) == (True, False)
        assert ended_s - began_s < 1
        assert not booth.ended


@on_virtual_time
async def test_a_switch_that_fails_leaves_no_light_that_says_do_not_unplug(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="now")
        await until(lambda: booth.root.acts("stage"))
        booth.root.says = lambda answer: {}
        await until(lambda: booth.root.acts("switch"))
        await asyncio.sleep(2)
        assert not booth.updates.working
        assert booth.lights[-1][1] is False
        booth.root.says = lambda answer: answer
        await booth.phase("committed", 400)
        assert not booth.updates.working
