"""What is believed of the booth, across a restart."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.engine.memory import Remembered
from agent.rules.alarms import Alarm
from agent.rules.health import Finding, Judgement, Now
from tests.world import World, world

SINCE = "2026-11-22T10:00:00.000Z"
FINDING = Finding("media-empty", "fault", "shopkeeper", SINCE, {"tray": 1})
ALARM = Alarm("receipt-printer", "media-empty", "fault", "shopkeeper", SINCE, seen_s=5.0, raised=True, acknowledged=True)


def saved_and_loaded(judgements: dict[str, Judgement], alarms: list[Alarm]) -> Remembered:
    """Through the store's own form: JSON."""
    state = {"judgements": Remembered.of_judgements(judgements), "alarms": Remembered.of_alarms(alarms)}
    return Remembered.load(json.loads(json.dumps(state)))


def test_a_judgement_comes_back_with_its_times_and_without_its_debounce() -> None:
    judgement = Judgement("fault", SINCE, (FINDING,), Now(9.0, SINCE), {"cover-open": 8.0}, {"media-low": 7.0})
    remembered = saved_and_loaded({"receipt-printer": judgement}, [])
    assert remembered.judgements == {"receipt-printer": Judgement("fault", SINCE, (FINDING,))}


def test_raised_alarms_come_back_as_of_now_and_others_do_not() -> None:
    waiting = Alarm("board", "storage-low", "warning", "remote", SINCE, seen_s=5.0)
    (alarm,) = saved_and_loaded({}, [ALARM, waiting]).alarms_at(100.0)
    assert alarm == Alarm(
        "receipt-printer", "media-empty", "fault", "shopkeeper", SINCE, seen_s=100.0, raised=True, acknowledged=True
    )


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"judgements": None, "alarms": None},
        {"judgements": [], "alarms": {}},
        {"judgements": {"board": {"status": "splendid", "since": "", "findings": []}}},
        {"judgements": {"board": 5}, "alarms": [5]},
        {"alarms": [{"peripheral": "board"}]},
    ],
)
def test_what_does_not_fit_is_forgotten(state: dict[str, Any]) -> None:
    remembered = Remembered.load(state)
    assert dict(remembered.judgements) == {}
    assert list(remembered.alarms_at(0.0)) == []


def test_keys_of_a_newer_version_are_ignored() -> None:
    judgements = Remembered.of_judgements({"board": Judgement("ok", SINCE)})
    judgements["board"]["colour"] = "blue"
    assert Remembered.load({"judgements": judgements, "weather": 1}).judgements == {"board": Judgement("ok", SINCE)}


def test_alarms_are_remembered_although_the_judgements_do_not_fit() -> None:
    remembered = Remembered.load({"judgements": 5, "alarms": Remembered.of_alarms([ALARM])})
    assert [alarm.key for alarm in remembered.alarms_at(0.0)] == [ALARM.key]


async def _with_paper_out(w: World) -> tuple[Any, Any]:
    """The finding's health and alarm of an agent that was then killed."""
    see = w.observer
    agent = await w.start_agent()
    w.printer.change(paper="out")
    health = await w.until(lambda: see.codes("receipt-printer") and see.last("health/receipt-printer"))
    alarm = await w.until(lambda: see.last("alarm/receipt-printer/media-empty"))
    await w.until(lambda: see.last("led") == "your-turn")  # after the acknowledgement, which is remembered too
    assert await agent.stop() == 0
    return health, alarm


async def test_since_survives_a_restart_in_health_and_alarm(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        health, alarm = await _with_paper_out(w)
        see = w.observer
        already = len(see.messages)
        await w.start_agent()
        await w.until(lambda: [m for m in see.messages[already:] if m.topic.endswith("health/receipt-printer")])
        again = see.last("health/receipt-printer")
        assert again["findings"][0]["since"] == health["findings"][0]["since"]
        assert again["since"] == health["since"]
        assert see.last("alarm/receipt-printer/media-empty")["since"] == alarm["since"]
        raised = [e for e in see.events() if e["code"] == "media-empty"]
        assert [event["data"]["change"] for event in raised] == ["raised"], "it did not begin anew"


async def test_an_alarm_whose_cause_went_while_the_agent_was_down_is_cleared_on_the_broker(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await _with_paper_out(w)
        see = w.observer
        assert see.last("alarm/receipt-printer/media-empty") is not None
        w.printer.change(paper="plenty")
        await w.start_agent()
        await w.until(lambda: see.last("alarm/receipt-printer/media-empty") is None)
        await w.until(lambda: see.last("led") == "ok")
        await w.until(lambda: [e["data"]["change"] for e in see.events() if e["code"] == "media-empty"] == ["raised", "cleared"])


async def test_an_alarm_of_a_peripheral_that_is_no_longer_configured_is_cleared_on_the_broker(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await _with_paper_out(w)
        w.config["peripherals"] = {"board": {"kind": "board"}}
        await w.start_agent()
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty") is None)


def test_an_alarm_whose_clearing_the_broker_does_not_know_yet_is_remembered() -> None:
    assert Remembered.load({"clearing": [["receipt-printer", "media-empty"]]}).clearing == (("receipt-printer", "media-empty"),)
    assert Remembered.load({"clearing": [["half"]], "alarms": []}).clearing == ()


async def test_it_is_cleared_at_the_broker_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"))
        await w.broker.kill()
        w.printer.change(paper="plenty")
        w.observer.retained.clear()
        await w.until(lambda: "media-empty cleared" in agent.stderr())
        assert await agent.stop() == 0
        await w.broker.start()
        seen = len(w.observer.messages)
        await w.until(w.observer.listens, "the observer back")
        await w.start_agent(online=False)
        await w.until(lambda: any(m.payload == b"" for m in w.observer.messages[seen:] if m.topic.endswith("/media-empty")))
