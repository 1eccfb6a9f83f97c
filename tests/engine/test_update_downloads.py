"""When a booth of a fleet fetches a file, what is said of it meanwhile, and what becomes of one that cannot be had."""

import asyncio
from pathlib import Path
from typing import Any

from tests.engine.test_heal import on_virtual_time
from tests.engine.updated_booth import SPREAD_S, Booth, started, until
from tests.updates.story import Root

HOUR_S = 3600.0


def shown(report: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(report[key] for key in ("phase", "to", "pct", "attempt", "reason"))


async def began(booth: Booth, count: int, patience_s: float = 8 * HOUR_S) -> float:
    """When a download began, since the first one did."""
    await until(lambda: len(booth.web.began) >= count, patience_s, every_s=1.0)
    return booth.web.began[count - 1][0] - booth.web.began[0][0]


# --- when ---


async def beginnings_s(folder: Path, names: list[str], window: str | None) -> dict[str, float]:
    """When each booth of a fleet begins to fetch, since the document came."""
    root = Root(folder)
    root.prepare()
    booths = [Booth(folder, name, root) for name in names]
    envelope = booths[0].sign({"agent": "1.1"}, window=window)
    published_s = asyncio.get_running_loop().time() + 20.0
    for booth in booths:
        booth.web.lasts_s = 10 * SPREAD_S
        await booth.start()
        booth.deliver(envelope)
    for booth in booths:
        await booth.fetching()
    found = {booth.name: booth.web.began[0][0] - published_s for booth in booths}
    for booth in booths:
        await booth.stop()
        (booth.web.folder / f"{booth.web.began[0][1]}.part").unlink(missing_ok=True)
    return found


@on_virtual_time
async def test_the_booths_of_a_fleet_fetch_at_different_moments_within_the_spread_and_each_at_the_same_again(
    tmp_path: Path,
) -> None:
    names = [f"61-{number:04}" for number in range(24)]
    first = await beginnings_s(tmp_path / "a", names, None)
    assert all(0 <= at_s <= SPREAD_S + 5 for at_s in first.values())
    quarters = {int(at_s // (SPREAD_S / 4)) for at_s in first.values()}
    assert quarters >= {0, 1, 2, 3}, f"they all come at once: {first}"
    again = await beginnings_s(tmp_path / "b", names, None)
    assert all(abs(again[name] - first[name]) < 5 for name in names)


@on_virtual_time
async def test_what_is_wanted_now_is_fetched_within_a_minute_and_still_not_by_all_at_once(tmp_path: Path) -> None:
    found = await beginnings_s(tmp_path, [f"61-{number:04}" for number in range(24)], "now")
    assert all(0 <= at_s <= 65 for at_s in found.values())
    assert len({int(at_s // 15) for at_s in found.values()}) >= 4


@on_virtual_time
async def test_who_wants_now_what_could_wait_has_it_now(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"})
        assert booth.spread_of("1.1") > 120
        await asyncio.sleep(30)
        booth.publish({"agent": "1.1"}, window="now")
        await began(booth, 1, 62)


@on_virtual_time
async def test_documents_that_come_again_and_again_do_not_put_it_off(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        began_s = asyncio.get_running_loop().time()
        while not booth.web.began:
            booth.publish({"agent": "1.1"})
            await asyncio.sleep(60)
        assert booth.web.began[0][0] - began_s < booth.spread_of("1.1") + 5


# --- what is said ---


@on_virtual_time
async def test_progress_is_reported_and_a_document_in_between_does_not_hide_it(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        envelope = booth.publish({"agent": "1.1"})
        await until(lambda: booth.said and booth.said[-1]["pct"] == 50)
        assert shown(booth.said[-1]) == ("downloading", "1.1", 50, 1, None)
        assert (booth.said[-1]["status"], booth.said[-1]["from"]) == ("pending", "1.0")
        assert booth.said[-1]["sections"]["agent"]["phase"] == "downloading"
        before = len(booth.said)
        booth.deliver(envelope)
        booth.publish({"forms": "1.0"}, layer="fleet")
        await until(lambda: len(booth.said) >= before + 2, 5, every_s=0.01)
        assert all(shown(report) == ("downloading", "1.1", 50, 1, None) for report in booth.said[before:])
        assert booth.codes() == ["accepted"] * 2
        await booth.laid()
        pcts = [report["pct"] for report in booth.said if report["pct"] is not None]
        assert pcts == sorted(pcts)
        assert (pcts[0], pcts[-1]) == (0, 100)
        assert shown(booth.said[-1]) == ("waiting-idle", "1.1", None, 1, None)


@on_virtual_time
async def test_failures_are_told_with_their_reason_and_tried_again_after_ever_longer(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.fails = ["no-route"] * 8
        booth.publish({"agent": "1.1"})
        waits = []
        for attempt in range(1, 9):
            at_s = await began(booth, attempt)
            await until(lambda: booth.said[-1]["reason"] == "no-route")
            assert shown(booth.said[-1]) == ("downloading", "1.1", None, attempt, "no-route")
            assert booth.said[-1]["status"] == "pending"
            assert booth.said[-1]["sections"]["agent"]["reason"] == "no-route"
            waits.append(await began(booth, attempt + 1) - at_s)
        assert [round(wait_s / 60) for wait_s in waits] == [1, 2, 4, 8, 16, 32, 60, 60]
        await until(lambda: booth.in_use() == "1.1")
        assert "failed" not in booth.codes()
        assert booth.updates.reporter.failed is None


@on_virtual_time
async def test_why_it_waits_is_still_said_after_a_connection_was_made_anew(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.fails = ["http-404"]
        envelope = booth.publish({"agent": "1.1"})
        await until(lambda: booth.said[-1:] and booth.said[-1]["reason"] == "http-404")
        booth.deliver(envelope)
        await asyncio.sleep(1)
        assert shown(booth.said[-1]) == ("failed", "1.1", None, 1, "http-404")


@on_virtual_time
async def test_what_only_the_operator_can_mend_waits_six_hours_or_for_her_next_document(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.fails = ["http-404", "wrong-size"]
        booth.publish({"agent": "1.1"})
        assert 5.9 * HOUR_S < await began(booth, 2) < 6.1 * HOUR_S
        before_s = asyncio.get_running_loop().time()
        await until(lambda: booth.said[-1]["reason"] == "wrong-size")
        booth.publish({"agent": "1.1"}, url="https://mirror.example/1.1.tar", window="now")
        await began(booth, 3)
        assert asyncio.get_running_loop().time() - before_s < 90
        assert booth.web.urls[-1] == "https://mirror.example/1.1.tar"
        await until(lambda: booth.in_use() == "1.1")


@on_virtual_time
async def test_a_download_that_waits_does_not_stand_above_what_is_under_way(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.fails = ["http-404"]
        booth.publish({"forms": "1.2"}, layer="fleet", rev=1)
        await until(lambda: booth.said[-1:] and booth.said[-1]["reason"] == "http-404")
        booth.publish({"agent": "1.1"}, window="power-on", rev=1)
        await booth.laid()
        assert shown(booth.said[-1])[:2] == ("waiting-idle", "1.1")
        assert booth.said[-1]["sections"]["forms"]["reason"] in ("http-404", None)
        assert booth.said[-1]["sections"]["forms"]["phase"] == "failed", (
            "until the operator mends it, and tried again all the same"
        )


# --- which ---


@on_virtual_time
async def test_what_is_no_longer_wanted_is_ended_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.lasts_s = 10 * HOUR_S
        booth.publish({"agent": "1.1"})
        await began(booth, 1)
        await asyncio.sleep(HOUR_S)
        assert booth.names() == [f"{booth.web.began[0][1]}.part"]
        booth.publish({"agent": "1.0"})  # what runs anyway
        await until(lambda: booth.web.ended, 5)
        assert not booth.names()
        assert not booth.web.under_way
        assert (booth.said[-1]["status"], booth.said[-1]["pct"]) == ("applied", None)


@on_virtual_time
async def test_what_goes_too_slowly_here_is_fetched_from_another_server_from_where_it_was(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.lasts_s = HOUR_S
        booth.publish({"agent": "1.1"}, window="power-on")
        await until(lambda: booth.said[-1:] and booth.said[-1]["pct"] == 50)
        booth.web.lasts_s = 10.0
        booth.publish({"agent": "1.1"}, window="power-on", url="https://mirror.example/1.1.tar")
        await until(lambda: booth.web.ended, 5)
        await booth.laid(60)
        assert booth.web.urls[-1] == "https://mirror.example/1.1.tar"
        assert booth.root.acts("stage") == ["stage"]


@on_virtual_time
async def test_several_are_fetched_one_after_the_other(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.lasts_s = 2 * SPREAD_S
        booth.publish({"agent": "1.1", "forms": "1.2"}, window="power-on")
        await until(lambda: len(booth.root.acts("stage")) == 2, 6 * HOUR_S, every_s=5.0)  # the stand-in would say if two ran
        phases = {kind: section["phase"] for kind, section in booth.said[-1]["sections"].items()}
        assert phases == {"agent": "waiting-idle", "forms": "waiting-idle"}
        assert not booth.names()


@on_virtual_time
async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.web.lasts_s = 1000.0
        booth.publish({"agent": "1.1"})
        await until(lambda: booth.said[-1:] and booth.said[-1]["pct"] == 60)
        await booth.stop()
        await booth.start()
        await until(lambda: booth.web.under_way)
        assert booth.said[-1]["pct"] >= 60
        await booth.laid()
        assert booth.root.acts("take") == ["take"], "root has kept the document"


@on_virtual_time
async def test_what_is_left_of_former_updates_is_deleted_at_the_start(tmp_path: Path) -> None:
    booth = Booth(tmp_path)
    for name in ("ab" * 32, f"{'cd' * 32}.part"):
        (booth.web.folder / name).write_bytes(b"of a former update")
    await booth.start()
    await booth.phase("idle")
    assert not booth.names()
    await booth.stop()


# --- what root makes of it ---


@on_virtual_time
async def test_a_file_that_is_not_what_was_signed_is_deleted_and_fetched_again_much_later(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        envelope = booth.sign({"agent": "1.1"})
        [sha256] = booth.web.files
        right, booth.web.files[sha256] = booth.web.files[sha256], b"something else"
        booth.deliver(envelope)
        report = await booth.phase("failed")
        assert (report["status"], report["reason"]) == ("pending", "wrong-hash")
        assert booth.updates.reporter.failed == "agent 1.1: wrong-hash"
        assert not booth.names()
        booth.web.files[sha256] = right
        assert 5.9 * HOUR_S < await began(booth, 2) < 6.1 * HOUR_S
        await until(lambda: booth.in_use() == "1.1")
        assert booth.codes() == ["accepted", "failed", "staged", "switched"]
        assert booth.updates.reporter.failed is None


@on_virtual_time
async def test_it_is_fetched_by_day_and_unpacked_when_nobody_is_there(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.citizen.there = True
        booth.publish({"agent": "1.1"})
        await began(booth, 1)
        await until(lambda: not booth.web.under_way)
        await asyncio.sleep(2 * HOUR_S)
        assert not booth.root.acts("stage")
        assert shown(booth.said[-1]) == ("downloading", "1.1", 100, 1, None)
        booth.citizen.there = False
        await booth.laid(65)


@on_virtual_time
async def test_a_document_that_comes_while_root_lays_another_out_is_judged_after_it_and_ends_no_work(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.root.lasts_s["stage"] = 300.0
        booth.publish({"agent": "1.1"}, window="power-on")
        await until(lambda: booth.root.acts("stage"))
        booth.publish({"agent": "1.2"}, window="power-on")
        await asyncio.sleep(100)
        assert booth.codes() == ["accepted"]
        await until(lambda: booth.said[-1]["to"] == "1.2" and booth.said[-1]["phase"] == "waiting-idle")
        assert "failed" not in booth.codes()


@on_virtual_time
async def test_what_root_no_longer_wants_when_its_turn_comes_is_not_laid_out(tmp_path: Path) -> None:
    """Else root would look for the new file, which nobody has fetched yet, and call that a failure."""
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"})
        await until(lambda: booth.said[-1:] and booth.said[-1]["pct"] == 90)
        booth.root.lasts_s["take"] = 30.0
        booth.publish({"agent": "1.2"})  # judged when the file is whole
        await until(lambda: booth.said[-1]["to"] == "1.2")
        assert not booth.root.acts("stage")
        await until(lambda: booth.codes() == ["accepted", "accepted", "staged"])


@on_virtual_time
async def test_a_card_that_reads_no_more_what_was_laid_out_is_no_spin(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="closed")
        await booth.laid()
        slots = booth.root.root.folder / "var/lib/booth-forms/slots"
        booth.open = False
        for slot in slots.iterdir():
            if slot.name != (slots.parent / "current").readlink().name:
                (slot / "body").unlink()
                (slot / "body").mkdir()  # EISDIR, to whoever reads it
        await until(lambda: len(booth.web.began) == 2, HOUR_S)
        switched_s = next(at_s for at_s, act in booth.root.asked if act == "switch")
        assert booth.web.began[1][0] - switched_s > 55
        await until(lambda: booth.in_use("forms") == "1.1")
