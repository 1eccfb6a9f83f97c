"""Faults of the broker and of the line to it: rows 1 to 6, 8 to 10, 13, 20 and 28 of the catalogue."""

import asyncio
import base64
import contextlib
import json
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.contract.alarm import Text
from agent.contract.decode import encode
from agent.contract.documents import Refusal, read_document
from agent.contract.envelope import open_envelope
from agent.contract.event import DATA_LIMIT_BYTES, capped_data
from agent.contract.health import FactValue
from agent.peripherals.declaration import Peripheral, Signals
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Observed, Reading
from agent.settings import PeripheralSettings
from agent.simulator.machine import SimulatedMachine
from agent.system.outbox_rows import Draft, Stamp
from agent.system.store import Store
from tests.faults.fake_broker import CONNACK, FakeBroker, Session, packet, until
from tests.faults.proxy import ChaosProxy
from tests.faults.secure_broker import another_observer, secure_broker, watching
from tests.world import BIN, BOOTH, ROOT, AgentProcess, Observer, World, agent_inside, world

KEEPALIVE_S = 5  # the shortest that the configuration allows
WIRE_LIMIT_BYTES = 64 * 1024
NO_CONNECTION = "no connection to the broker"


# --- what the tests look at ---


def stored(w: World, table: str = "outbox") -> list[dict[str, Any]]:
    """The events in the agent's store now, in order."""
    file = w.state_dir / "store.db"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as db:
        return [json.loads(body) for (body,) in db.execute(f"SELECT body FROM {table} ORDER BY rowid")]


def once_each(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a reader keeps them: at least once, and `id` makes it exactly once."""
    return list({event["id"]: event for event in reversed(list(events))}.values())[::-1]


def assert_complete_and_in_order(events: Iterable[dict[str, Any]], first_seq: int = 1) -> None:
    seqs = [event["seq"] for event in once_each(events)]
    assert seqs == list(range(first_seq, first_seq + len(seqs)))


def changes(events: Iterable[dict[str, Any]], code: str) -> list[str]:
    return [event["data"].get("change", "?") for event in once_each(events) if event["code"] == code]


@contextlib.contextmanager
def frozen(agent: AgentProcess) -> Any:
    """While an observer takes its place, nothing may be said that it would miss."""
    agent.process.send_signal(signal.SIGSTOP)
    yield
    agent.process.send_signal(signal.SIGCONT)


async def paper_ends_and_comes(w: World, times: int = 1) -> None:
    """Each change is on disk before the next; for an agent whose events go nowhere yet."""
    for time_ in range(times):
        for change, paper in enumerate(("out", "plenty"), start=1):
            w.printer.change(paper=paper)
            wanted = 2 * time_ + change
            await until(lambda wanted=wanted: len(changes(stored(w), "media-empty")) == wanted, f"{wanted} changes on disk")  # type: ignore[misc]


# --- the broker is away ---


async def test_f01_broker_down_at_start(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.broker.stop()
        agent = await w.start_agent(online=False)
        await w.until(lambda: NO_CONNECTION in agent.stderr(), "the first attempt")
        await w.until(lambda: stored(w), "the first event on disk")
        await paper_ends_and_comes(w, 3)
        assert_complete_and_in_order(stored(w))
        with frozen(agent):
            await w.broker.start()
            await watching(w.observer)
        await w.until(lambda: w.observer.last("state") and w.observer.last("state")["state"] == "online", "online")
        await w.until(lambda: changes(w.observer.events(), "media-empty") == ["raised", "cleared"] * 3, "all that happened")
        assert_complete_and_in_order(w.observer.events())
        await w.until(lambda: not stored(w), "an empty queue")


async def test_f02_broker_killed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        session = w.observer.last("state")["session"]
        w.printer.change(paper="out")
        await w.until(lambda: changes(w.observer.events(), "media-empty") == ["raised"], "the paper's end")
        await w.until(lambda: not stored(w), "an empty queue")
        for outage in (1, 2):
            losses = agent.stderr().count(NO_CONNECTION)
            await w.broker.kill()
            await w.until(lambda losses=losses: agent.stderr().count(NO_CONNECTION) > losses, "the loss noticed")  # type: ignore[misc]
            w.printer.change(paper="plenty")
            await w.until(lambda: stored(w), "the paper back, on disk")
            w.printer.change(paper="out")
            await w.until(lambda: len(stored(w)) >= 2, "the paper's end, on disk")
            with frozen(agent):
                await w.broker.start()
                await watching(w.observer)
            so_far = ["raised", *["cleared", "raised"] * outage]
            await w.until(lambda wanted=so_far: changes(w.observer.events(), "media-empty") == wanted, "all of it")  # type: ignore[misc]
            await w.until(lambda: not stored(w), "an empty queue")
        assert_complete_and_in_order(w.observer.events())
        assert w.observer.last("state")["session"] != session


async def test_f03_broker_lost_its_persistence(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.last("led") == "your-turn", "everything that follows from a missing paper")
        w.observer.publish(f"{ROOT}/config/desired", b"{}")
        await w.until(lambda: w.observer.last("config/reported"), "an answer to a document")
        await watching(w.observer)
        before = {topic: seen.payload for topic, seen in w.observer.retained.items() if seen.payload}
        kinds = {topic.removeprefix(ROOT + "/").partition("/")[0] for topic in before}
        assert {"state", "meta", "health", "service", "led", "alarm", "config"} <= kinds

        await w.broker.stop()
        await w.until(lambda: NO_CONNECTION in agent.stderr(), "the loss noticed")
        with frozen(agent):
            await w.broker.start()  # `persistence false`: it knows nothing any more
            fresh = Observer(w.broker.port)
            await watching(fresh)
            assert fresh.retained == {}
        try:
            await fresh.until(lambda: set(fresh.retained) >= set(before), f"all of {sorted(before)}")
            assert {topic for topic in fresh.retained if fresh.retained[topic].payload} == set(before)
            state = f"{ROOT}/state"
            await fresh.until(lambda: json.loads(fresh.retained[state].payload)["state"] == "online", "online")
            after = {topic: seen.payload for topic, seen in fresh.retained.items()}
            differ = [topic for topic in before if topic != state and before[topic] != after[topic]]
            assert differ == []
            old, new = json.loads(before[state]), json.loads(after[state])
            assert old["session"] != new["session"]
            assert old | {"session": None} == new | {"session": None}
            # Its subscriptions too: its own echo, documents of every layer, commands.
            await fresh.until(lambda: len(fresh.of("echo")) == 1, "its word to itself")
            fresh.publish("booth/v1/61/_all/policy/desired", b"{}")
            fresh.publish("booth/v1/_all/_all/update/desired", b"{}")
            fresh.publish(f"{ROOT}/cmd/locate/req", b'{"id":"c-1"}')
            await fresh.until(lambda: fresh.last("policy/reported"), "an answer for the area")
            await fresh.until(lambda: fresh.last("update/reported"), "an answer for the fleet")
            await fresh.until(lambda: fresh.last("cmd/locate/c-1/status"), "an answer to a command")
            assert fresh.problems == []
        finally:
            fresh.close()


# --- the line to it, and its answers ---


async def test_f04_half_open_connection(tmp_path: Path) -> None:
    async with world(tmp_path) as w, ChaosProxy(w.broker.port) as proxy:
        w.config["broker"] = {"url": proxy.url, "keepalive_s": KEEPALIVE_S}
        agent = await w.start_agent()
        session = w.observer.last("state")["session"]
        await w.until(lambda: not stored(w), "a quiet line")
        proxy.swallow = True
        since_s = time.monotonic()
        await w.until(lambda: NO_CONNECTION in agent.stderr(), "the loss noticed", patience_s=4 * KEEPALIVE_S)
        noticed_s = time.monotonic() - since_s
        assert noticed_s <= 2 * KEEPALIVE_S + 3, "longer than twice the keepalive"
        assert proxy.connections <= 2
        w.printer.change(paper="out")
        await w.until(lambda: changes(stored(w), "media-empty") == ["raised"], "local work that goes on")
        proxy.swallow = False
        proxy.hang_up()  # an attempt that began meanwhile
        await w.until(lambda: w.observer.last("state")["session"] != session, "a new connection")
        await w.until(lambda: changes(w.observer.events(), "media-empty") == ["raised"], "what happened meanwhile")
        assert_complete_and_in_order(w.observer.events())


async def test_f05_connack_never_comes(tmp_path: Path) -> None:
    def from_the_second_on(session: Session) -> bytes | None:
        return None if session is broker.sessions[0] else packet(CONNACK, 0, b"\0\0\0")

    async with world(tmp_path) as w, FakeBroker(connack=from_the_second_on) as broker:
        w.config["broker"] = {"url": broker.url}
        agent = await w.start_agent(online=False)
        await broker.until(lambda: broker.sessions and broker.sessions[0].connect, "CONNECT")
        await w.until(lambda: stored(w), "the first event on disk")
        await paper_ends_and_comes(w)
        assert len(broker.sessions) == 1, "local work must not have waited for the broker"
        await broker.until(lambda: len(broker.sessions) >= 2, "another attempt", patience_s=40)
        waited_s = broker.sessions[1].at_s - broker.sessions[0].at_s
        assert 5 < waited_s < 30
        assert "no-connack" in agent.stderr()
        await broker.until(lambda: len(broker.sessions[1].events()) >= 3, "the events")
        assert_complete_and_in_order([json.loads(m.payload) for m in broker.sessions[1].events()])


async def test_f06_puback_never_comes(tmp_path: Path) -> None:
    def none_for_events_at_first(session: Session, message: Any) -> int | None:
        return None if session is broker.sessions[0] and "/event/" in message.topic else 0

    async with world(tmp_path) as w, FakeBroker(puback=none_for_events_at_first) as broker:
        w.config["broker"] = {"url": broker.url, "keepalive_s": KEEPALIVE_S}
        agent = await w.start_agent(online=False)
        await w.until(lambda: stored(w), "the first event on disk")
        await paper_ends_and_comes(w, 7)
        first = broker.sessions[0]
        await broker.until(lambda: first.ended_s is not None, "the connection given up", patience_s=4 * KEEPALIVE_S)
        await w.until(lambda: "no-puback" in agent.stderr(), "the reason said")
        assert first.most_in_flight == len(first.events()) == 10
        assert first.ended_s is not None
        assert first.ended_s - first.events()[0].at_s < 3 * KEEPALIVE_S

        await broker.until(lambda: not stored(w), "an empty queue")
        again = [event for session in broker.sessions[1:] for event in session.events()]
        assert [(m.event_id, m.payload) for m in again[:10]] == [(m.event_id, m.payload) for m in first.events()]
        assert_complete_and_in_order([json.loads(m.payload) for m in again])
        assert changes([json.loads(m.payload) for m in again], "media-empty") == ["raised", "cleared"] * 7


async def test_f06_quota_exceeded_is_for_now_and_not_for_ever(tmp_path: Path) -> None:
    def no_quota_at_first(session: Session, message: Any) -> int:
        return 0x97 if session is broker.sessions[0] and "/event/" in message.topic else 0

    async with world(tmp_path) as w, FakeBroker(puback=no_quota_at_first) as broker:
        w.config["broker"] = {"url": broker.url}
        await w.start_agent(online=False)
        await broker.until(lambda: len(broker.sessions) >= 2 and broker.sessions[1].events(), "another connection")
        await broker.until(lambda: not stored(w), "an empty queue")
        (refused, *_), (accepted, *_) = (session.events() for session in broker.sessions[:2])
        assert refused.event_id == accepted.event_id
        assert stored(w, "dead_letter") == []


# --- what it forbids ---


async def test_f08_publish_denied(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic deny {ROOT}/event/health\ntopic readwrite booth/#\n")
    async with world(tmp_path, broker_extra=f"acl_file {acl}") as w:
        await w.start_agent()
        w.printer.change(paper="out")
        await w.until(lambda: changes(stored(w, "dead_letter"), "media-empty") == ["raised"], "the dead letter")
        await w.until(lambda: "publish-denied" in w.observer.codes("booth"), "publish-denied")
        health = w.observer.last("health/booth")
        assert health["status"] == "fault"
        assert health["facts"]["denied_topics"] == "event/health"
        alarm = await w.until(lambda: w.observer.last("alarm/booth/publish-denied"), "the alarm")
        assert alarm["fix_by"] == "remote"
        assert "subscribe-denied" not in w.observer.codes("booth")
        # What stood behind it in the queue arrives.
        w.observer.publish(f"{ROOT}/config/desired", b"{}")
        await w.until(lambda: [e for e in w.observer.events() if e["class"] == "config"], "a later event of another class")
        # What was not offered waits in the store until it may be: nothing is lost, and nothing else waits with it.
        await w.until(lambda: {event["class"] for event in stored(w)} <= {"health"}, "the others to be gone")
        kept = [*stored(w, "dead_letter"), *stored(w)]
        everything = sorted([*kept, *once_each(w.observer.events())], key=lambda event: event["seq"])
        assert_complete_and_in_order(everything)
        assert {event["class"] for event in kept} == {"health"}


async def test_f08_a_denied_retained_topic_holds_nothing_else_up(tmp_path: Path) -> None:
    """A broker may end the connection after a publication that it denies: the rest must get through all the same."""
    acl = tmp_path / "acl"
    acl.write_text(f"topic deny {ROOT}/service/print\ntopic readwrite booth/#\n")
    async with world(tmp_path, broker_extra=f"acl_file {acl}") as w:
        agent = await w.start_agent()
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"), "the alarm of the printer")
        await w.until(lambda: changes(w.observer.events(), "media-empty") == ["raised"], "the event")
        await w.until(lambda: w.observer.last("alarm/booth/publish-denied"), "the alarm")
        assert w.observer.last("health/booth")["facts"]["denied_topics"] == "service/print"
        await w.until(lambda: not stored(w), "an empty queue")
        # One finding that stands, however often the broker hangs up.
        w.observer.publish(f"{ROOT}/config/desired", b"{}")
        await w.until(lambda: w.observer.last("config/reported"), "an answer")
        assert changes(w.observer.events(), "publish-denied") == ["raised"]
        assert agent.stderr().count("publish-denied cleared") == 0


async def test_f09_subscribe_denied(tmp_path: Path) -> None:
    # mosquitto 2.0 grants this subscription, and then delivers nothing: only the echo tells.
    acl = tmp_path / "acl"
    acl.write_text(
        f"topic write {ROOT}/#\ntopic read {ROOT}/cmd/+/req\ntopic read {ROOT}/config/desired\n"
        "\nuser observer\ntopic readwrite booth/#\n"
    )
    async with (
        world(tmp_path, broker_extra=f"acl_file {acl}") as w,
        another_observer(w, w.broker.port, username_pw_set=("observer",)) as see,
    ):
        await w.start_agent()
        await see.until(lambda: see.of("echo"), "a word to itself")
        await see.until(lambda: "subscribe-denied" in see.codes("booth"), "subscribe-denied")
        assert see.last("health/booth")["status"] == "fault"
        assert see.last("health/booth")["facts"]["echo_heard"] is False
        assert see.codes("booth") == ["subscribe-denied"]
        alarm = await see.until(lambda: see.last("alarm/booth/subscribe-denied"), "the alarm")
        assert alarm["fix_by"] == "remote"
        await see.until(lambda: changes(see.events(), "subscribe-denied") == ["raised"], "the event")


# --- what is too large, and what is no text ---


@pytest.mark.parametrize(
    "data",
    [
        {"detail": "x" * 300_000},
        {"detail": ["é" * 100] * 3_000},
        {f"key-{number}": {"text": "\0" * 20} for number in range(10_000)},
        {"k" * 300_000: 1},
        {"numbers": list(range(60_000))},
    ],
)
async def test_f10_oversized_event_is_capped_before_the_queue(data: dict[str, Any], tmp_path: Path) -> None:
    assert len(encode(data)) > 300_000
    safe = capped_data(data)
    assert 0 < len(encode(safe)) <= DATA_LIMIT_BYTES
    store = Store(tmp_path / "store.db", lambda: Stamp("2026-10-06T12:32:00.000Z", 1, "synced", "boot"))
    await store.open()
    try:
        store.append(Draft("health", "media-empty", "receipt-printer", safe, Stamp("2026-10-06T12:32:00.000Z", 1, "synced", "b")))
        assert await store.flushed(10)
        (event,) = await store.pending(0, 10)
        assert len(event.body) < WIRE_LIMIT_BYTES
        assert json.loads(event.body)["data"] == safe
    finally:
        await store.close()


@dataclass(frozen=True)
class NoOptions:
    """Of a peripheral made for one test."""


class Chatty:
    """A device with far too much to say."""

    def __init__(self, _options: NoOptions, _surroundings: Surroundings, _signals: Signals) -> None:
        return

    async def probe(self, *, active: bool) -> Reading:
        return Reading({"banner": "b" * 300_000})

    def interval_s(self) -> float:
        return 3600.0

    async def close(self) -> None:
        return


def _too_much(_facts: Mapping[str, FactValue], _options: NoOptions) -> Iterable[Observed]:
    yield Observed("hardware-error", {"lines": ["x" * 100] * 3_000, "text": "y" * 300_000})


CHATTY = PeripheralSettings(
    "chatty",
    Peripheral(
        "chatty",
        Text("le bavard", "the chatty one"),
        NoOptions,
        (Fact("banner", "string", "what it says"),),
        (FindingKind("hardware-error", "fault", "technician", Text("En panne.", "Broken.")),),
        _too_much,
        Chatty,
        5.0,
    ),
    NoOptions(),
)


async def test_f10_nothing_over_64_kb_goes_on_the_wire_whatever_a_device_says(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine"), CHATTY):
        await w.until(lambda: "hardware-error" in w.observer.codes("chatty"), "the finding")
        await w.until(lambda: changes(w.observer.events(), "hardware-error") == ["raised"], "the event")
        await w.until(lambda: w.observer.last("alarm/chatty/hardware-error"), "the alarm")
        too_large = {m.topic: len(m.payload) for m in w.observer.messages if len(m.payload) > WIRE_LIMIT_BYTES}
        assert too_large == {}


async def test_f10_nothing_over_64_kb_goes_on_the_wire_whatever_the_booth_is_told(tmp_path: Path) -> None:
    long = "x" * 300_000
    async with world(tmp_path) as w:
        await w.start_agent()
        w.observer.publish(f"{ROOT}/config/desired", encode({long: long}))
        w.observer.publish(f"{ROOT}/policy/desired", encode({"payload": "", "payloadType": long, "signatures": [{long: 1}]}))
        w.observer.publish(f"{ROOT}/update/desired", b"{" + b'"' + long.encode())
        for payload in ({"id": long}, {"by": long}, {"args": {long[:200_000]: 1}}, {long[:200_000]: 1}):
            w.observer.publish(f"{ROOT}/cmd/locate/req", encode(payload))
        await w.until(lambda: len([m for m in w.observer.messages if m.topic.endswith("/status")]) == 4, "four answers")
        await w.until(
            lambda: all(w.observer.last(f"{kind}/reported") for kind in ("config", "policy", "update")), "three answers"
        )
        await w.until(
            lambda: len([e for e in w.observer.events() if e["class"] in ("config", "policy", "update")]) == 3, "events"
        )
        ours = [m for m in w.observer.messages if not m.topic.endswith(("/desired", "/req"))]
        too_large = {m.topic: len(m.payload) for m in ours if len(m.payload) > WIRE_LIMIT_BYTES}
        assert too_large == {}


@pytest.mark.parametrize("kind", ["config", "policy", "update"])
async def test_f13_bad_utf8_outside_is_a_bad_envelope(kind: str, tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_agent()
        w.observer.publish(f"{ROOT}/{kind}/desired", b'{"payload":"","payloadType":"\xc3\x28","signatures":[]}')
        reported = await w.until(lambda: w.observer.last(f"{kind}/reported"), "an answer")
        assert reported["status"] == "rejected"
        assert [(error["layer"], error["code"]) for error in reported["errors"]] == [("booth", "bad-envelope")]
        await w.until(lambda: [e["code"] for e in w.observer.events() if e["class"] == kind] == ["bad-envelope"], "the event")
        w.observer.publish(f"{ROOT}/cmd/locate/req", b'{"id":"\xff"}')
        status = await w.until(lambda: [m.json for m in w.observer.messages if m.topic.endswith("/status")], "an answer")
        assert status[0]["reason"] == "bad-args"
        assert w.observer.last("state")["state"] == "online"


def test_f13_bad_utf8_inside_is_bad_json() -> None:
    payload = b'{"schema":1,"audience":"booth/v1/61/\xff","rev":1,"epoch":1,"issued_at":"2026-10-06T12:32:00.000Z","doc":{}}'
    message = encode({"payload": base64.b64encode(payload).decode(), "payloadType": "application/x", "signatures": []})
    envelope = open_envelope(message)
    with pytest.raises(Refusal) as refused:
        read_document(envelope.payload)
    assert refused.value.code == "bad-json"
    assert read_document(payload.replace(b"\xff", b"_all")).audience == "booth/v1/61/_all"


# --- a bad line ---


async def test_f20_packet_loss_and_latency_raise_no_false_alarm(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as w,
        ChaosProxy(w.broker.port, latency_s=0.2, jitter_s=0.15, stall_every=5, stall_s=1.2) as proxy,
    ):
        # The line takes up to 6 s of it, for the four states of a command; the rest is for a machine that is busy otherwise.
        w.config["broker"] = {"url": proxy.url, "keepalive_s": 4 * KEEPALIVE_S}
        w.config["peripherals"]["network"] = {"kind": "network", "interval_s": 5.0}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            await w.until(lambda: w.observer.last("state") and w.observer.last("state")["state"] == "online", "online")
            for number in range(6):
                w.observer.publish(f"{ROOT}/cmd/locate/req", encode({"id": f"c-{number}"}))
                await w.until(lambda number=number: w.observer.last(f"cmd/locate/c-{number}/status"), f"answer {number}")  # type: ignore[misc]
            quiet_since = proxy.chunks  # then pings alone
            await w.until(lambda: proxy.chunks >= quiet_since + 3, "a ping, its answer, and another one", patience_s=120)
            assert proxy.stalls >= 5
            assert proxy.connections == 1, "the connection was given up"
            assert {m.json["state"] for m in w.observer.of("state")} <= {"starting", "online"}
            found = {m.topic: m.json["findings"] for m in w.observer.messages if "/health/" in m.topic and m.json["findings"]}
            assert found == {}
            assert [m.topic for m in w.observer.messages if "/alarm/" in m.topic and m.payload] == []
            assert [e["code"] for e in w.observer.events() if e["class"] == "health"] == []


# --- TLS ---


async def test_f28_a_good_certificate_on_both_sides_connects_and_proves_the_booths_name(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as w,
        secure_broker(tmp_path, "good") as secure,
        another_observer(w, secure.plain_port) as see,
    ):
        w.config["broker"] = secure.toml(secure.authority.issue(BOOTH), secure.authority.file)
        await w.start_agent()
        w.printer.change(paper="out")
        await see.until(lambda: see.last("alarm/receipt-printer/media-empty"), "an alarm over TLS")
        see.publish(f"{ROOT}/cmd/locate/req", b'{"id":"c-1"}')
        await see.until(lambda: see.last("cmd/locate/c-1/status"), "an answer over TLS")
        assert "publish-denied" not in see.codes("booth")


async def test_f28_a_certificate_of_another_name_may_not_write_in_this_booths(tmp_path: Path) -> None:
    async with world(tmp_path) as w, secure_broker(tmp_path, "good") as secure, another_observer(w, secure.plain_port) as see:
        w.config["broker"] = secure.toml(secure.authority.issue("61-9999"), secure.authority.file)
        agent = await w.start_agent(online=False)
        await w.until(lambda: agent.stderr().count("connected to the broker") >= 3 or stored(w, "dead_letter"), "refusals")

        def denied() -> list[str]:
            return changes(sorted([*stored(w), *stored(w, "dead_letter")], key=lambda event: event["seq"]), "publish-denied")

        await w.until(denied, "the finding on disk")
        assert denied() == ["raised"], "one finding that stands, not one a connection"
        assert [m.topic for m in see.messages if m.topic.startswith(ROOT)] == []


@pytest.mark.parametrize(
    ("certificate", "host", "reason"),
    [
        ("expired", "127.0.0.1", "certificate-expired"),
        ("elsewhere", "127.0.0.1", "wrong-name"),
        ("elsewhere", "localhost", "wrong-name"),
        ("unknown-ca", "127.0.0.1", "unknown-ca"),
    ],
)
async def test_f28_a_brokers_bad_certificate_is_refused_with_the_reason(
    certificate: str, host: str, reason: str, tmp_path: Path
) -> None:
    async with (
        world(tmp_path) as w,
        secure_broker(tmp_path, "good" if certificate == "unknown-ca" else certificate) as secure,
        another_observer(w, secure.plain_port) as see,
    ):
        ca = tmp_path / "ca.pem"
        shutil.copy((secure.stranger if certificate == "unknown-ca" else secure.authority).file, ca)
        w.config["broker"] = secure.toml(secure.authority.issue(BOOTH), ca, host)
        w.config["peripherals"]["network"] = {"kind": "network", "interval_s": 5.0}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")) as agent:
            raised = await until(
                lambda: [e for e in stored(w) if e["code"] == "tls-failure"], "tls-failure", told=lambda: str(stored(w))
            )
            assert raised[0]["data"] == {
                "change": "raised", "severity": "warning", "detail": {"at": "broker", "reason": reason},
            }  # fmt: skip
            codes = [finding.code for finding in agent._watches["network"].judgement.findings]
            assert codes == ["tls-failure"], "broker-unreachable would say the same twice"
            assert see.of("state") == []
            assert await probed_broker(w) == f"tls:{reason}"
            if certificate == "unknown-ca":  # files are read at every connection: put right in place, it connects
                shutil.copy(secure.authority.file, ca)
                await see.until(lambda: changes(see.events(), "tls-failure") == ["raised", "cleared"], "recovery without help")
                assert await probed_broker(w) == "connected"


async def probed_broker(w: World) -> str:
    """What an installer is told, without a broker session."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(BIN / "booth-agent"), "probe", "network", "--json", "--config", str(w.write_config()),
        "--state-dir", str(w.state_dir), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return str(json.loads(output)["facts"]["broker"])
