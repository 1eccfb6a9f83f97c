"""The daemon's part of updates: what it carries to root, what it says of it, and what it tells once."""

import asyncio
from pathlib import Path
from typing import Any

from tests.engine.test_heal import on_virtual_time
from tests.engine.updated_booth import Booth, started, until


def errors(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(error["layer"], error["code"]) for error in report["errors"]]


# --- documents ---


@on_virtual_time
async def test_what_is_in_use_is_said_before_any_document_comes(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        report = await booth.phase("idle")
        assert (report["status"], report["from"], report["to"]) == ("applied", "1.0", None)
        assert {kind: section["version"] for kind, section in report["sections"].items()} == {"agent": "1.0", "forms": "1.0"}
        assert not booth.events


@on_virtual_time
async def test_each_document_is_answered_by_a_report_of_its_own(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await booth.phase("idle")
        for number, layer in enumerate(("booth", "area", "fleet"), start=1):
            before = len(booth.said)
            booth.publish({"agent": "1.0"}, layer=layer, rev=number)
            await booth.said_more_than(before)
            assert booth.said[-1]["layers"][layer] == {"seen_rev": number, "applied_rev": number}
            assert booth.said[-1]["at"] > booth.said[-2]["at"]
        assert booth.codes() == ["accepted"] * 3


@on_virtual_time
async def test_the_same_bytes_again_are_answered_and_root_is_not_asked(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        envelope = booth.publish({"agent": "1.0"})
        await until(lambda: booth.codes() == ["accepted"])
        for _ in range(3):  # as each connection does
            before = len(booth.said)
            booth.deliver(envelope)
            await booth.said_more_than(before)
        assert booth.root.acts("take") == ["take"]
        assert booth.codes() == ["accepted"]


@on_virtual_time
async def test_what_is_refused_is_recorded_and_nothing_else_changes_until_it_is_put_right(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        good = booth.publish({"agent": "1.1"})
        await until(lambda: booth.codes() == ["accepted"])
        booth.deliver(good[:-40] + b"}")
        await until(lambda: booth.codes() == ["accepted", "bad-envelope"])
        assert errors(booth.said[-1]) == [("booth", "bad-envelope")]
        assert booth.said[-1]["status"] == "rejected"
        booth.deliver(good)  # it is retained still: that nothing is wrong any more is root's to say
        await until(lambda: not booth.said[-1]["errors"])
        assert booth.root.acts("take") == ["take"] * 3
        await booth.laid()


@on_virtual_time
async def test_a_flood_of_forgeries_is_ten_events_a_minute_and_hides_nothing(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await booth.phase("idle")
        for number in range(100):
            booth.deliver(b"forged %d" % number)
        await until(lambda: booth.delivered_again, 60)
        assert booth.codes() == ["bad-envelope"] * 10
        assert len(booth.root.acts("take")) < 40
        await asyncio.sleep(60)
        booth.deliver(b"one more")
        await until(lambda: booth.codes() == ["bad-envelope"] * 11)
        assert [data for class_, code, data in booth.events if code == "refusals"] == [{"dropped": 22}]


@on_virtual_time
async def test_an_empty_payload_takes_nothing_away(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"})
        await booth.laid()
        asked = len(booth.root.asked)
        booth.deliver(b"")
        await asyncio.sleep(30)
        assert len(booth.root.asked) == asked
        assert booth.said[-1]["phase"] == "waiting-idle"


# --- root is busy, or away ---


@on_virtual_time
async def test_root_that_is_busy_is_asked_again_at_once(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await booth.phase("idle")
        booth.root.hangs_up = 3
        booth.publish({"agent": "1.1"})
        await until(lambda: booth.codes() == ["accepted"], 5)
        assert all(report["status"] != "rejected" for report in booth.said)


@on_virtual_time
async def test_while_root_is_away_a_document_is_pending_and_none_is_lost(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await booth.phase("idle")
        booth.root.away = True
        booth.publish({"agent": "1.1"}, layer="area", rev=1)
        booth.publish({"forms": "1.2"}, layer="booth", rev=1)
        await until(lambda: [layer for layer, _ in errors(booth.said[-1])] == ["booth"])
        assert [errors(report) for report in booth.said[-2:]] == [[("area", "unsupported")], [("booth", "unsupported")]]
        assert {report["status"] for report in booth.said[-2:]} == {"pending"}
        assert "tried again" in booth.said[-1]["errors"][0]["message"]
        asked = len(booth.root.asked)
        await asyncio.sleep(600)
        assert len(booth.root.asked) - asked < 200, "it is no spin"
        booth.root.away = False
        await until(lambda: booth.codes() == ["accepted"] * 2)
        assert not booth.said[-1]["errors"]
        assert {kind: section["to"] for kind, section in booth.said[-1]["sections"].items()} == {"agent": "1.1", "forms": "1.2"}


@on_virtual_time
async def test_of_documents_that_wait_for_root_the_newer_one_is_judged(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        await booth.phase("idle")
        booth.root.away = True
        booth.publish({"agent": "1.1"})
        await until(lambda: errors(booth.said[-1]))
        booth.publish({"agent": "1.2"})
        booth.root.away = False
        await until(lambda: booth.said[-1]["to"] == "1.2")
        await asyncio.sleep(600)
        assert booth.codes() == ["accepted"], "the older one would be a rollback"


@on_virtual_time
async def test_an_answer_that_nobody_understands_ends_nothing(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.root.says = lambda _answer: {"reported": {"phase": "upside-down"}, "tasks": 7}
        booth.publish({"agent": "1.1"})
        await asyncio.sleep(3600)
        assert len(booth.root.asked) < 130, "it is no spin"
        assert booth.said[-1]["status"] == "pending"
        booth.root.says = lambda answer: answer
        await until(lambda: booth.in_use() == "1.1")


@on_virtual_time
async def test_a_newer_root_may_say_more_than_is_known_here(tmp_path: Path) -> None:
    """The base is the installed one: it stays when a booth goes back to an older version of the agent."""

    def more(answer: dict[str, Any]) -> dict[str, Any]:
        answer["reported"]["sections"]["firmware"] = {"state": "new"}
        return answer | {"mood": "good", "tasks": [task | {"priority": 1} for task in answer["tasks"]]}

    async with started(tmp_path) as booth:
        booth.root.says = more
        booth.publish({"agent": "1.1"})
        await booth.laid()
        assert booth.updates.reporter.failed is None


@on_virtual_time
async def test_what_root_did_not_say_at_the_start_it_is_asked_for_without_any_document(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"}, window="power-on")
        await booth.laid()
        await booth.stop()
        booth.boot("second")
        booth.root.away = True
        await booth.start()
        await asyncio.sleep(400)  # and there is no network either
        assert not booth.said
        booth.root.away = False
        await until(lambda: booth.in_use() == "1.1", 300)


# --- what is told once ---


@on_virtual_time
async def test_each_step_is_one_event_however_often_the_agent_restarts(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"}, window="now")
        await until(lambda: booth.in_use() == "1.1")
        for _ in range(3):
            await booth.stop()
            booth.online = False
            await booth.start("1.1")
            await booth.phase("verifying")
        booth.online = True
        await booth.phase("committed")
        await booth.stop()
        await booth.start("1.1")
        await booth.phase("committed")
        assert booth.codes() == ["accepted", "staged", "switched", "committed"]
        told = [data for class_, code, data in booth.events if code != "accepted"]
        assert told == [{"kind": "agent", "from": "1.0", "to": "1.1", "reason": None}] * 3


@on_virtual_time
async def test_what_was_told_and_cannot_be_read_is_told_again(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"forms": "1.1"}, window="now")
        await booth.phase("committed")
        kept: Any
        for kept in (None, [], {"forms": 7}, {"forms": ["committed", "1.1", None]}):
            await booth.stop()
            booth.told = {"update": kept}
            await booth.start()
            await booth.phase("committed")
        assert booth.codes() == ["accepted", "staged", *["committed"] * 4]


@on_virtual_time
async def test_what_failed_stands_until_something_else_is_wanted(tmp_path: Path) -> None:
    async with started(tmp_path) as booth:
        booth.publish({"agent": "1.1"}, body=b"broken", window="now")
        report = await booth.phase("failed")
        assert (report["status"], report["reason"]) == ("reverted", "selftest-failed")
        assert booth.updates.reporter.failed == "agent 1.1: selftest-failed"
        assert booth.failures == ["agent 1.1: selftest-failed"]
        assert not booth.names(), "the card is needed for other things"
        await booth.stop()
        await booth.start()
        await booth.phase("failed")
        assert booth.updates.reporter.failed == "agent 1.1: selftest-failed", "after a restart too"
        await asyncio.sleep(24 * 3600)
        assert len(booth.web.began) == 1, "not tried again"
        assert booth.codes() == ["accepted", "failed"]
        booth.publish({"agent": "1.2"}, window="now")
        await booth.phase("downloading")
        assert booth.failures[-1] is None
        await until(lambda: booth.in_use() == "1.2")


# --- the end ---


@on_virtual_time
async def test_it_can_be_ended_at_any_moment_and_leaves_nothing_behind(tmp_path: Path) -> None:
    booth = Booth(tmp_path)
    booth.web.lasts_s = 20.0
    booth.root.lasts_s = {"stage": 10.0, "switch": 10.0, "healthy": 10.0}
    for moment in ("wait", "download", "stage", "switch", "healthy"):
        await booth.start(booth.in_use())
        if moment == "wait":
            booth.publish({"agent": "1.1"}, window="now")
            await booth.phase("downloading")
        elif moment == "download":
            await booth.fetching()
        else:
            await booth.asking(moment)
        await booth.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
    await booth.start(booth.in_use())
    await booth.phase("committed")
    await booth.stop()
    assert booth.in_use() == "1.1"
