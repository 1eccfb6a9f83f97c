"""The command engine over a real broker: states, ids, times, who may ask, and restarts. Contract §8."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.app import Agent
from agent.simulator.machine import SimulatedMachine
from tests.commands.technician import (
    begin_session,
    command,
    dated,
    ended,
    moment,
    new_id,
    send,
    send_envelope,
    signed,
    signed_command,
    states,
)
from tests.documents.operator import Operator, key
from tests.world import ROOT, World, agent_inside, world

OPERATOR = Operator()
DONE = ["received", "accepted", "executing", "succeeded"]


@asynccontextmanager
async def booth(folder: Path, machine: SimulatedMachine | None = None) -> AsyncIterator[tuple[World, Agent]]:
    """A booth that is online and has looked at its printer, with a synchronised clock and a trust list."""
    async with world(folder) as w:
        OPERATOR.install(folder)
        async with agent_inside(w, machine or SimulatedMachine(folder / "machine")) as agent:
            await w.until(lambda: w.observer.last("state") and w.observer.last("state")["state"] == "online", "online")
            await w.until(lambda: w.observer.last("led") == "ok" and w.observer.last("service/print") == "ok", "its first look")
            yield w, agent


# --- the way of a command ---


async def test_every_state_is_published_in_order_and_the_last_one_stays(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        status = await command(w, "probe", args={"peripheral": "receipt-printer"}, by="tech-7")
        assert states(w, "probe", status["id"]) == DONE
        assert (status["reason"], status["by"]) == (None, "tech-7")
        assert status["result"]["status"] == "ok"
        assert status["result"]["facts"]["paper"] == "adequate"
        retained = w.observer.retained[f"{ROOT}/cmd/probe/{status['id']}/status"]
        assert (retained.json, retained.expiry_s) == (status, 86_400)


async def test_an_empty_payload_is_a_command_without_arguments(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.observer.publish(f"{ROOT}/cmd/locate/req", b"")
        await w.until(lambda: w.observer.last("led") == "locate", "the light")
        [status] = {m.json["id"] for m in w.observer.messages if "/cmd/locate/" in m.topic and m.topic.endswith("/status")}
        assert status.startswith("c-")


async def test_f17_the_same_id_again_runs_nothing_and_says_what_became_of_it(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        first = await command(w, "locate", args={"duration_s": 1}, id_="c-1")
        await w.until(lambda: w.observer.last("led") == "locate", "the light")
        await w.until(lambda: w.observer.last("led") == "ok", "the end of it")
        said = len(w.observer.of("cmd/locate/c-1/status"))
        send(w, "locate", id_="c-1", args={"duration_s": 300})
        await w.until(lambda: len(w.observer.of("cmd/locate/c-1/status")) > said, "the answer")
        assert w.observer.last("cmd/locate/c-1/status") == first
        assert w.observer.last("led") == "ok"


async def test_what_is_refused_says_why_and_what_to_write(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        cases: list[tuple[str, dict[str, Any], str, str]] = [
            ("locate", {"args": {"duration_s": 301}}, "bad-args", "duration_s"),
            ("locate", {"args": {"colour": "red"}}, "bad-args", "unknown key"),
            ("probe", {}, "bad-args", "peripheral: missing"),
            ("probe", {"args": {"peripheral": "toaster"}}, "bad-args", "receipt-printer"),
            ("test-scan", {"args": {"peripheral": "board"}}, "not-supported", "nothing"),
            ("heal", {"args": {"peripheral": "booth"}}, "not-supported", "receipt-printer"),
            ("heal", {"args": {"peripheral": "receipt-printer", "remedy": "prayer"}}, "bad-args", "reopen"),
            ("restart", {"args": {"what": "browser"}}, "not-supported", "kiosk"),
            ("self-destruct", {}, "unknown-verb", "self-test"),
            ("reboot", {}, "not-signed", "sign it"),
            ("locate", {"wait_s": -1}, "bad-args", "wait_s"),
            ("locate", {"issued_at": moment(600)}, "outside-window", "issued"),
        ]
        for verb, request, reason, words in cases:
            status = await command(w, verb, **request)
            assert (status["state"], status["reason"]) == ("refused", reason), verb
            assert words in status["result"]["message"]
            assert states(w, verb, status["id"]) == ["refused"]
        assert w.observer.last("led") == "ok"


async def test_what_a_client_leaves_out_may_be_null_and_who_asks_may_have_an_accent(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.observer.publish(f"{ROOT}/cmd/locate/req", json.dumps(
            {"id": "c-1", "args": None, "wait_s": None, "issued_at": None, "expires_at": None, "code": None, "by": "Élodie’s"}
        ).encode())  # fmt: skip
        status = await ended(w, "locate", "c-1")
        assert (status["state"], status["by"]) == ("succeeded", "Élodie’s")


async def test_f18_a_retained_command_is_refused_whenever_it_arrives(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.observer.publish(f"{ROOT}/cmd/locate/req", b'{"id":"c-old"}', retain=True)
        await w.start_agent()
        assert (await ended(w, "locate", "c-old"))["reason"] == "retained"
        await w.until(lambda: w.observer.last("led") == "ok", "the light")
        assert b"locate" not in {m.payload for m in w.observer.of("led")}


async def test_what_has_expired_is_not_done(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        status = await command(w, "locate", expires_at=moment(-1))
        assert (status["state"], status["reason"]) == ("expired", None)
        assert states(w, "locate", status["id"]) == ["expired"]


async def test_answers_go_to_the_response_topic_as_well_but_never_below_the_booths_own(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        answers: list[Any] = []
        client = w.observer._client
        client.message_callback_add("answers/#", lambda _client, _data, message: answers.append(message))
        client.subscribe("answers/#", 1)
        for topic in ("answers/tech-7", f"{ROOT}/led", "answers/+", "$SYS/x"):
            properties = _properties(topic, b"\x00\x01")
            client.publish(f"{ROOT}/cmd/locate/req", b'{"id":"c-%d"}' % len(topic), 1, properties=properties)
            await ended(w, "locate", f"c-{len(topic)}")
        await w.until(lambda: len(answers) == 4, "four states at one topic")
        assert [json.loads(one.payload)["state"] for one in answers] == DONE
        assert {one.properties.CorrelationData for one in answers} == {b"\x00\x01"}
        assert {m.payload for m in w.observer.of("led")} <= {b"ok", b"locate", b"starting"}


def _properties(response_topic: str, correlation: bytes) -> Any:
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
    from paho.mqtt.properties import Properties  # noqa: PLC0415

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = response_topic
    properties.CorrelationData = correlation
    return properties


# --- a citizen ---


async def test_what_disturbs_is_refused_in_a_session_or_waits_for_its_end(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        session = begin_session(w)
        asked = {"peripheral": "receipt-printer", "remedy": "reopen"}
        status = await command(w, "heal", args=asked)
        assert (status["state"], status["reason"]) == ("refused", "session-active")
        id_ = send(w, "heal", args=asked, wait_s=60)
        await w.until(lambda: states(w, "heal", id_) == ["received", "accepted", "waiting"], "it waits")
        assert (await command(w, "probe", args={"peripheral": "board"}))["state"] == "succeeded"
        os.close(session)
        assert (await ended(w, "heal", id_))["result"]["tried"] == [{"remedy": "reopen", "outcome": "cured"}]
        assert states(w, "heal", id_) == ["received", "accepted", "waiting", *DONE[2:]]


async def test_a_wait_has_an_end(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        session = begin_session(w)
        status = await command(w, "heal", args={"peripheral": "receipt-printer", "remedy": "reopen"}, wait_s=2)
        assert (status["state"], status["reason"]) == ("refused", "session-active")
        os.close(session)


# --- technicians ---


async def test_a_signed_command_is_done_once(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        envelope = signed(OPERATOR, "maintenance", "c-m", args={"on": True, "duration_s": 60})
        send_envelope(w, "maintenance", envelope)
        assert (await ended(w, "maintenance", "c-m"))["state"] == "succeeded"
        await w.until(lambda: w.observer.last("service/print") == "maintenance", "the service")
        assert w.observer.last("led") == "working"
        off = await signed_command(w, OPERATOR, "maintenance", args={"on": False})
        assert off["result"]["on"] is False
        await w.until(lambda: w.observer.last("service/print") == "ok" and w.observer.last("led") == "ok", "the end of it")
        said = len(w.observer.of("cmd/maintenance/c-m/status"))
        send_envelope(w, "maintenance", envelope)  # whoever overheard it sends it again
        await w.until(lambda: len(w.observer.of("cmd/maintenance/c-m/status")) > said, "the answer")
        assert w.observer.last("service/print") == "ok"


async def test_forged_commands_are_refused_with_their_reason_and_an_event(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        good: dict[str, Any] = {"args": {"on": True}}
        stranger = Operator(first=key("stranger"))
        broken = json.loads(signed(OPERATOR, "maintenance", "c-b", **good))
        broken["signatures"][0]["sig"] = "AAAA" + broken["signatures"][0]["sig"][4:]
        cases = {
            "untrusted-key": signed(stranger, "maintenance", "c-1", **good),
            "bad-signature": json.dumps(broken).encode(),
            "bad-envelope": b'{"payload":1,"payloadType":"x","signatures":[]}',
            "wrong-audience": signed(OPERATOR, "maintenance", "c-2", booth="61-0008", **good),
            "invalid": signed(OPERATOR, "maintenance", "c-3", surprise=1, **good),
            "retained": signed(OPERATOR, "maintenance", "c-4", **good),
            "bad-args": signed(OPERATOR, "maintenance", "c-5", args={"on": 1}),
            "outside-window": signed(OPERATOR, "maintenance", "c-6", issued_at=moment(900), expires_at=moment(960), **good),
        }
        for reason, envelope in cases.items():
            already = len(_refused(w))
            send_envelope(w, "maintenance", envelope, retain=reason == "retained")
            await w.until(lambda already=already: len(_refused(w)) > already, reason)  # type: ignore[misc]
            assert _refused(w)[-1]["reason"] == reason
            w.observer.publish(f"{ROOT}/cmd/maintenance/req", b"", retain=True)
            await w.until(lambda already=already: len(_refused(w)) > already + 1, "an empty one is none")  # type: ignore[misc]
            assert _refused(w)[-1]["reason"] == "not-signed"
        assert w.observer.last("service/print") == "ok"
        recorded = {event["code"] for event in w.observer.events() if event["class"] == "command"}
        assert {"untrusted-key", "bad-signature", "bad-envelope", "wrong-audience"} <= recorded


def _refused(w: World) -> list[Any]:
    return [m.json for m in w.observer.messages if "/cmd/maintenance/" in m.topic and m.topic.endswith("/status")]


async def test_nobody_takes_a_technicians_id_from_her(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        stranger = Operator(first=key("stranger"))
        for forged in (b'{"id":"c-7"}', signed(stranger, "maintenance", "c-7", args={"on": True})):
            send_envelope(w, "maintenance", forged)
            await w.until(lambda: _refused(w) and _refused(w)[-1]["id"] == "c-7", "its refusal, by its name")
            w.observer.messages.clear()
        send_envelope(w, "maintenance", signed(OPERATOR, "maintenance", "c-7", args={"on": True, "duration_s": 5}))
        status = await ended(w, "maintenance", "c-7")
        assert status["state"] == "succeeded"
        w.observer.messages.clear()
        send_envelope(w, "maintenance", signed(stranger, "maintenance", "c-7", args={"on": False}))
        await w.until(lambda: _refused(w), "a refusal")
        assert _refused(w)[-1]["id"] != "c-7", "what became of hers stays"
        assert w.observer.last("cmd/maintenance/c-7/status") == status


async def test_a_clock_that_nobody_keeps_refuses_signed_commands_alone(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path / "machine")
    machine.times.synced = False
    async with booth(tmp_path, machine) as (w, _):
        status = await signed_command(w, OPERATOR, "maintenance", args={"on": True})
        assert (status["state"], status["reason"]) == ("refused", "clock-unsynced")
        assert (await command(w, "locate"))["state"] == "succeeded"


async def test_the_code_of_a_ticket_is_a_technicians_signature_once(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, agent):
        code = agent.ticket_code.new()
        request = {"args": {"on": True, "duration_s": 60}, "code": f"{code[:4]}-{code[4:]}".lower()}
        status = await command(w, "maintenance", **request)
        assert (status["state"], status["reason"]) == ("refused", "not-signed"), "without its times"
        assert (await command(w, "maintenance", **request, **dated()))["state"] == "succeeded"
        assert (await command(w, "maintenance", **request, **dated()))["reason"] == "not-signed"
        assert code not in "".join(m.payload.decode() for m in w.observer.messages if "/req" not in m.topic)


async def test_neither_guesses_nor_other_tickets_take_a_code_away(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, agent):
        code = agent.ticket_code.new()
        for number in range(10):
            wrong = await command(w, "maintenance", args={"on": True}, code=f"ACDEFGH{number}", **dated())
            assert wrong["reason"] == "not-signed"
        for _ in range(3):
            agent.ticket_code.new()
        assert (await command(w, "maintenance", args={"on": True, "duration_s": 5}, code=code, **dated()))["state"] == "succeeded"


# --- in the middle ---


async def test_a_command_that_waits_is_cancelled_by_a_technician(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        session = begin_session(w)
        id_ = send(w, "heal", args={"peripheral": "receipt-printer"}, wait_s=600)
        await w.until(lambda: "waiting" in states(w, "heal", id_), "it waits")
        status = await signed_command(w, OPERATOR, "cancel", args={"id": id_})
        assert (status["state"], status["result"]["state"]) == ("succeeded", "cancelled")
        assert (await ended(w, "heal", id_))["state"] == "cancelled"
        late = await signed_command(w, OPERATOR, "cancel", args={"id": id_})
        assert (late["state"], late["result"]["state"]) == ("succeeded", "cancelled"), "it is"
        unknown = await signed_command(w, OPERATOR, "cancel", args={"id": new_id()})
        assert (unknown["state"], unknown["reason"]) == ("failed", "bad-args")
        os.close(session)


async def test_a_restart_in_the_middle_is_told_and_runs_nothing_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        session = begin_session(w)
        id_ = send(w, "heal", args={"peripheral": "receipt-printer"}, wait_s=600)
        await w.until(lambda: "waiting" in states(w, "heal", id_), "it waits")
        await agent.kill()
        os.close(session)
        await w.start_agent()
        status = await ended(w, "heal", id_)
        assert (status["state"], status["reason"]) == ("failed", "interrupted")
        said = len(w.observer.of(f"cmd/heal/{id_}/status"))
        send(w, "heal", id_=id_, args={"peripheral": "receipt-printer"})
        await w.until(lambda: len(w.observer.of(f"cmd/heal/{id_}/status")) > said, "the answer")
        assert w.observer.last(f"cmd/heal/{id_}/status") == status


async def test_restarting_the_agent_is_done_once_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        id_ = send(w, "restart", args={"what": "agent"})
        await w.until(lambda: "executing" in states(w, "restart", id_), "it begins")
        assert await agent.process.wait() == 0
        await w.start_agent()
        assert (await ended(w, "restart", id_))["state"] == "succeeded"
        assert states(w, "restart", id_) == DONE


async def test_a_broker_that_was_away_is_told_the_newest_state_of_each(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        status = await command(w, "locate")
        await w.broker.stop()
        (w.folder / "mosquitto.db").unlink(missing_ok=True)
        w.observer.messages.clear()
        await w.broker.start()
        assert await ended(w, "locate", status["id"]) == status


async def test_meta_says_which_verbs_there_are_with_their_arguments(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        meta = await w.until(lambda: w.observer.last("meta"), "meta")
        commands = meta["capabilities"]["commands"]
        assert commands["locate"]["properties"]["duration_s"]["maximum"] == 300
        assert commands["reboot"]["x-kind"] == "technician, idle only"
        assert "test-camera" not in commands, "this booth has none"


async def test_maintenance_outlives_a_restart_and_ends_by_itself(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path / "machine")
    async with world(tmp_path) as w:
        OPERATOR.install(tmp_path)
        async with agent_inside(w, machine):
            await w.until(lambda: w.observer.last("service/print") == "ok", "online")
            status = await signed_command(w, OPERATOR, "maintenance", args={"on": True, "duration_s": 12})
            assert status["state"] == "succeeded"
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine-2")):
            await w.until(lambda: w.observer.last("service/print") == "maintenance", "still")
            w.printer.change(paper="out")
            await w.until(lambda: "media-empty" in w.observer.codes("receipt-printer"), "health is said")
            await w.until(lambda: w.observer.last("service/print") == "down", "it ends by itself")
            await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"), "the alarm, afterwards")
