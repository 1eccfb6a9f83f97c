"""What a booth says of itself, when, and how often: seen from the other side of a real broker."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent import VERSION
from agent.peripherals import declared
from agent.simulator.mosquitto import free_port
from tests.faults.proxy import ChaosProxy
from tests.world import ROOT, Seen, World, world

PERIPHERALS = {"receipt-printer", "board", "booth"}


def topics(messages: list[Seen]) -> list[str]:
    return [message.topic.removeprefix(f"{ROOT}/") for message in messages]


async def healthy(w: World) -> None:
    """Everything was said, and all is well with the printer."""
    await w.until(lambda: {f"{ROOT}/health/{name}" for name in PERIPHERALS} <= w.observer.retained.keys(), "health of all")
    await w.until(lambda: w.observer.last("health/receipt-printer")["status"] == "ok", "a healthy printer")
    await w.until(lambda: w.observer.last("service/print") == "ok", "print offered")


async def out_of_paper(w: World) -> None:
    w.printer.change(paper="out")
    await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"), "the alarm")
    await w.until(lambda: w.observer.last("service/print") == "down" and w.observer.last("led") == "your-turn", "the light")
    await w.until(lambda: w.observer.last("state")["services"] == {"print": "down"}, "the state")


# --- connections ---


async def test_at_every_reconnection_all_that_is_retained_is_said_again_state_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w, ChaosProxy(w.broker.port) as proxy:
        w.config["broker"]["url"] = proxy.url
        await w.start_agent()
        await healthy(w)
        await out_of_paper(w)
        before = {topic for topic, seen in w.observer.retained.items() if seen.payload}
        session = w.observer.last("state")["session"]
        already = len(w.observer.messages)

        proxy.hang_up()
        await w.until(lambda: before <= {seen.topic for seen in w.observer.messages[already:]}, "everything again")
        again = w.observer.messages[already:]
        assert topics(again)[:2] == ["state", "meta"]
        assert again[0].json["state"] == "online"
        assert again[0].json["session"] != session, "a connection of its own"
        assert all(seen.retain for seen in again if seen.topic in before)
        assert "alarm/receipt-printer/media-empty" in topics(again)


async def test_a_broker_that_lost_its_memory_is_told_everything_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        await healthy(w)
        before = {topic for topic, seen in w.observer.retained.items() if seen.payload}
        await w.broker.kill()
        w.observer.retained.clear()
        await w.broker.start()
        await w.until(lambda: before <= w.observer.retained.keys(), "everything again")
        assert w.observer.last("state")["state"] == "online"


async def test_it_says_starting_until_the_first_probes_are_done_and_then_online(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.printer.behaviour.mute = True  # its first answer is waited for
        await w.start_agent()
        states = [seen.json for seen in w.observer.of("state")]
        words = [state["state"] for state in states]
        assert words == sorted(words, key=["starting", "online"].index)
        assert set(words) == {"starting", "online"}
        assert states[0]["services"] == {"print": "unknown"}, "unknown is never shown as ok"
        assert len({state["session"] for state in states}) == 1
        assert next(seen.text for seen in w.observer.of("led")) == "starting"
        await w.until(lambda: w.observer.last("led") != "starting")
        assert w.observer.codes("receipt-printer") == ["not-responding"]


async def test_it_runs_without_a_broker_and_says_everything_once_there_is_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        port = free_port()
        w.config["broker"]["url"] = f"mqtt://127.0.0.1:{port}"
        agent = await w.start_agent(online=False)
        async with asyncio.timeout(20):
            while "no connection to the broker" not in agent.stderr():
                await asyncio.sleep(0.02)
        assert agent.process.returncode is None
        async with ChaosProxy(w.broker.port, port=port):
            await healthy(w)
            assert w.observer.last("state")["state"] == "online"
            await w.until(lambda: any(event["code"] == "started" for event in w.observer.events()), "what happened meanwhile")
            await agent.stop()


# --- how often ---


async def test_a_flapping_printer_is_said_at_most_once_a_second_and_the_last_word_is_true(tmp_path: Path) -> None:
    async with world(tmp_path, reporting={"alarm_after_s": 30}) as w:
        await w.start_agent()
        await healthy(w)
        already = len(w.observer.of("health/receipt-printer"))
        flaps = 40
        for _ in range(flaps):
            w.printer.change(paper="out")
            await asyncio.sleep(0.05)
            w.printer.change(paper="plenty")
            await asyncio.sleep(0.05)
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "the last word")
        await asyncio.sleep(1.5)  # nothing more may come
        said = w.observer.of("health/receipt-printer")[already:]
        assert said[-1].json["status"] == "fault"
        took_s = said[-1].at_s - said[0].at_s
        assert 2 <= len(said) <= took_s + 2
        assert all(later.at_s - earlier.at_s > 0.5 for earlier, later in pairwise(said))
        assert len(w.observer.of("service/print")) <= took_s + 6

        # What is an event is said each time: raised and cleared in turn, without a hole.
        events = [event for event in w.observer.events() if event["code"] == "media-empty"]
        changes = [event["data"]["change"] for event in events]
        assert changes == ["raised", "cleared"] * (len(changes) // 2) + ["raised"]
        assert len(changes) > flaps
        numbers = [event["seq"] for event in w.observer.events()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_while_nothing_changes_nothing_is_said(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        await healthy(w)
        await w.until(lambda: w.observer.of("config/reported"), "what is in force")
        await asyncio.sleep(2)  # what was held apart at the start
        already = len(w.observer.messages)
        await asyncio.sleep(2.5)
        assert topics(w.observer.messages[already:]) == []


async def test_what_would_expire_is_said_again_at_every_heartbeat_with_a_fresh_check(tmp_path: Path) -> None:
    async with world(tmp_path, reporting={"alarm_after_s": 0, "heartbeat_s": 5, "telemetry_s": 3600}) as w:
        w.config["peripherals"]["receipt-printer"] |= {"check_s": 1, "poll_s": 1}
        await w.start_agent()
        await healthy(w)
        await out_of_paper(w)
        expiring = [
            *(f"health/{name}" for name in sorted(PERIPHERALS)), "service/print", "led", "alarm/receipt-printer/media-empty",
        ]  # fmt: skip
        start_s = max(w.observer.of(topic)[-1].at_s for topic in expiring)
        already = {topic: len(w.observer.of(topic)) for topic in expiring}
        lasting = {topic: len(w.observer.of(topic)) for topic in ("meta", "state")}
        await w.until(lambda: all(len(w.observer.of(topic)) >= already[topic] + 2 for topic in expiring), "two heartbeats")
        for topic in expiring:
            again = w.observer.of(topic)[already[topic] :][:2]
            assert all(seen.retain and seen.expiry_s in (9, 10) for seen in again), "twice the heartbeat"
            assert again[0].at_s - start_s < 7
            assert 3 < again[1].at_s - again[0].at_s < 7, topic
        first, second = (seen.json for seen in w.observer.of("health/receipt-printer")[-2:])
        assert first["checked_at"] < second["checked_at"], "while the booth is online, its health is current"
        assert first | {"checked_at": None} == second | {"checked_at": None}
        assert {topic: len(w.observer.of(topic)) for topic in lasting} == lasting, "what does not expire is not repeated"


# --- what ---


async def test_meta_lists_every_peripheral_with_its_facts_and_health_has_exactly_those(tmp_path: Path) -> None:
    async with world(tmp_path, hours={"week": {"mon": ["07:00-12:30"]}}) as w:
        await w.start_agent()
        await healthy(w)
        meta: Any = w.observer.last("meta")
        assert (meta["agent"], meta["contract"]) == (VERSION, 1)
        assert meta["hours"] == {"tz": "Europe/Paris", "week": {"mon": ["07:00-12:30"]}, "exceptions": {}}
        assert meta["peripherals"].keys() == PERIPHERALS
        python_types = {"boolean": (bool,), "integer": (int,), "number": (int, float), "string": (str,)}
        for name, peripheral in meta["peripherals"].items():
            kind = declared()[peripheral["kind"]]
            assert [(fact["name"], fact["type"], fact["unit"]) for fact in peripheral["facts"]] == [
                (fact.name, fact.type, fact.unit) for fact in kind.facts
            ]
            assert all(fact["meaning"] for fact in peripheral["facts"])
            health = w.observer.last(f"health/{name}")
            assert (health["kind"], health["slot"]) == (peripheral["kind"], peripheral["slot"])
            assert list(health["facts"]) == [fact["name"] for fact in peripheral["facts"]]
            for fact in peripheral["facts"]:
                value = health["facts"][fact["name"]]
                assert value is None or type(value) in python_types[fact["type"]], (name, fact["name"], value)


async def test_a_printer_that_is_not_there_still_has_all_its_facts_and_none_is_known(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.printer.unlisten()
        await w.start_agent()
        health: Any = await w.until(lambda: w.observer.codes("receipt-printer") and w.observer.last("health/receipt-printer"))
        assert (health["status"], w.observer.codes("receipt-printer")) == ("absent", ["no-device"])
        assert health["facts"] == {fact.name: None for fact in declared()["receipt-printer"].facts}


async def test_telemetry_carries_declared_numbers_and_nothing_else(tmp_path: Path) -> None:
    async with world(tmp_path, reporting={"alarm_after_s": 30, "telemetry_s": 5}) as w:
        await w.start_agent()
        await healthy(w)
        await w.until(lambda: len(w.observer.of("tele/agent")) >= 2 and w.observer.of("tele/board"), "telemetry twice")
        messages = [seen for seen in w.observer.messages if "/tele/" in seen.topic]
        assert {topic.removeprefix("tele/") for topic in topics(messages)} == {"agent", "board"}, "the printer measures no number"
        assert all((seen.qos, seen.retain) == (0, False) and seen.expiry_s is not None for seen in messages)
        for seen in messages:
            assert all(type(value) in (int, float, type(None)) for value in seen.json.values())

        numbers = {fact.name for fact in declared()["board"].facts if fact.telemetry}
        assert w.observer.of("tele/board")[-1].json.keys() == numbers
        first, second = (seen.json for seen in w.observer.of("tele/agent")[:2])
        assert first.keys() == {"rss_bytes", "cpu_s", "wakeups", "queue_depth"}
        assert 5_000_000 < first["rss_bytes"] < 200_000_000
        assert 0 < first["cpu_s"] <= second["cpu_s"] < 30
        assert 0 < first["wakeups"] < second["wakeups"]
        assert second["queue_depth"] == 0
        times = [seen.at_s for seen in w.observer.of("tele/agent")]
        assert 3 < times[1] - times[0] < 8


async def test_an_alarm_names_what_it_costs_and_who_can_end_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        await healthy(w)
        await out_of_paper(w)
        health: Any = w.observer.last("health/receipt-printer")
        alarm: Any = w.observer.last("alarm/receipt-printer/media-empty")
        assert alarm["since"] == health["findings"][0]["since"]
        kind = declared()["receipt-printer"].finding_kinds["media-empty"]
        assert alarm | {"since": "", "clock": ""} == {
            "code": "media-empty", "peripheral": "receipt-printer", "severity": "fault", "fix_by": "shopkeeper",
            "services": ["print"], "since": "", "clock": "", "tried": [], "part": kind.part,
            "runbook": "receipt-printer/media-empty", "text": {"fr": kind.text.fr, "en": kind.text.en},
        }  # fmt: skip


async def test_a_finding_that_becomes_another_is_two_alarms_and_no_gap(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        await healthy(w)
        w.printer.change(paper="near-end")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-low"), "low")
        assert (w.observer.last("led"), w.observer.last("service/print")) == ("ok", "degraded")
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"), "empty")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-low") is None, "no longer low")
        w.printer.change(paper="plenty")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty") is None, "full")
        await w.until(lambda: len(told(w)) >= 4, "every event")
        assert told(w)[0] == ("media-low", "raised")
        assert sorted(told(w)[1:3]) == [("media-empty", "raised"), ("media-low", "cleared")]
        assert told(w)[3:] == [("media-empty", "cleared")]


def told(w: World) -> list[tuple[str, str]]:
    """Code and change of every event about paper, in order."""
    return [(event["code"], event["data"]["change"]) for event in w.observer.events() if event["code"].startswith("media-")]
