"""Rows of the fault catalogue about commands and who sends them, over a real broker."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.engine.rate import PER_S
from agent.simulator.machine import SimulatedMachine
from agent.system.mqtt_link import MAX_PACKET_BYTES
from tests.commands.technician import command, ended, send, states
from tests.faults.documents_load import resident_kib
from tests.faults.fake_broker import PUBLISH, FakeBroker, until
from tests.world import BOOTH, ROOT, World, agent_inside, world

NO_CONNECTION = "no connection to the broker"
FLOOD_S = 4  # of `PER_SECOND` requests; `make bench` has the ten seconds
PER_SECOND = 10_000


# --- another client under our name ---


async def test_f07_duplicate_client_id_is_told_and_slows_the_booth_down(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        thief = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, client_id=BOOTH)
        thief.connect("127.0.0.1", w.broker.port)
        thief.loop_start()
        try:
            await w.until(lambda: "takeover" in w.observer.codes("booth"), "the finding", 90)
            event = await w.until(lambda: [e for e in w.observer.events() if e["code"] == "takeover"], "the event", 90)
            assert (event[0]["class"], event[0]["data"]) == ("security", {"times": 1, "told_by": "closed-connections"})
            already = agent.stderr().count(NO_CONNECTION)
            began_s = time.monotonic()
            await w.until(lambda: agent.stderr().count(NO_CONNECTION) >= already + 2, "two more times", 180)
            assert time.monotonic() - began_s > 4, "it does not fight for its name"
            await w.until(lambda: w.observer.last("led") == "ok", "the shopkeeper can do nothing about it")
        finally:
            thief.loop_stop()
            thief.disconnect()


# --- floods ---


def flood(port: int, for_s: float) -> "subprocess.Popen[bytes]":
    """A process of its own: the test's loop is to see what the booth says meanwhile."""
    program = f"""
import time
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
client.max_queued_messages_set(0)
client.connect("127.0.0.1", {port})
client.loop_start()
end_s = time.monotonic() + {for_s}
sent = 0
while time.monotonic() < end_s:
    due = int(({for_s} - (end_s - time.monotonic())) * {PER_SECOND})
    for number in range(sent, due):
        client.publish("{ROOT}/cmd/locate/req", b'{{"id":"f-%d","args":{{"duration_s":1}}}}' % number, 0)
    sent = max(sent, due)
    time.sleep(0.002)
"""
    return subprocess.Popen([sys.executable, "-c", program])


async def test_f11_a_flood_of_commands_is_dropped_and_counted_and_nothing_else_waits(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        agent = await w.start_agent()
        await command(w, "locate", args={"duration_s": 0})
        before_kib = resident_kib(agent.pid)
        w.observer.checks = False  # ten thousand a second of its own
        sending = flood(w.broker.port, FLOOD_S)
        await w.until(lambda: w.observer.of("cmd/locate/f-10/status"), "the flood is there")
        began_s = time.monotonic()
        w.printer.change(paper="out")
        await w.until(lambda: "media-empty" in w.observer.codes("receipt-printer"), "health, through the flood")
        health_s = time.monotonic() - began_s
        await w.until(lambda: w.observer.last("led") == "your-turn", "the light")
        await asyncio.get_running_loop().run_in_executor(None, sending.wait)
        assert health_s < 5
        # Each one that is taken is kept for a repetition, and its status for the next connection.
        assert resident_kib(agent.pid) - before_kib < 4 * 1024
        answered = {m.topic for m in w.observer.messages if "/cmd/locate/f-" in m.topic and m.topic.endswith("/status")}
        assert len(answered) <= PER_S * (FLOOD_S + 10)
        # What of the flood is still on its way is dropped, and this with it: who asks again is heard.
        for attempt in range(20):
            id_ = send(w, "locate", id_=f"after-{attempt}", args={"duration_s": 0})
            with contextlib.suppress(AssertionError):
                await w.until(lambda id_=id_: "succeeded" in states(w, "locate", id_), "its end", patience_s=3)  # type: ignore[misc]
                break
        else:
            pytest.fail("it hears nobody any more")


async def test_f12_a_payload_of_200_mb_never_reaches_the_booth(tmp_path: Path) -> None:
    async with world(tmp_path, broker_extra="message_size_limit 0\n") as w:
        agent = await w.start_agent()
        before_kib = resident_kib(agent.pid)
        sender = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        sender.connect("127.0.0.1", w.broker.port)
        sender.loop_start()
        sender.publish(f"{ROOT}/cmd/locate/req", b"x" * 200_000_000, 1).wait_for_publish(60)
        sender.loop_stop()
        sender.disconnect()
        assert (await command(w, "locate", args={"duration_s": 0}))["state"] == "succeeded"
        assert resident_kib(agent.pid) - before_kib < 2 * 1024
        assert len([m for m in w.observer.of("state") if m.json["state"] == "online"]) == 1, "it stayed connected"


async def test_f12_a_broker_that_sends_it_all_the_same_is_left(tmp_path: Path) -> None:
    async with world(tmp_path) as w, FakeBroker() as broker:
        w.config["broker"] = {"url": broker.url}
        agent = await w.start_agent(online=False)
        await until(lambda: bool(broker.sessions) and bool(broker.sessions[0].subscribed), "the booth's subscriptions")
        before_kib = resident_kib(agent.pid)
        header = bytes([PUBLISH << 4]) + _remaining_length(200_000_000)
        broker.sessions[0].send(header + b"\0\x04abcd\0" + b"x" * MAX_PACKET_BYTES)
        await until(lambda: len(broker.sessions) > 1, "a new connection")
        assert "packet-too-large" in agent.stderr()
        assert resident_kib(agent.pid) - before_kib < 4 * 1024


def _remaining_length(length: int) -> bytes:
    """MQTT 5.0, 1.5.5."""
    encoded = bytearray()
    while length:
        length, digit = divmod(length, 128)
        encoded.append(digit | (128 if length else 0))
    return bytes(encoded)


# --- a citizen ---


class Citizen:
    """The kiosk's application as a process: what it holds is freed by the kernel when it is killed."""

    def __init__(self, w: World) -> None:
        lock = w.runtime_dir / "session.lock"
        program = (
            f"import fcntl, time; lock = open({str(lock)!r}); fcntl.flock(lock, fcntl.LOCK_EX); "
            "print('held', flush=True); time.sleep(600)"
        )
        self.process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def test_f76_a_command_that_disturbs_waits_for_the_citizen(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine")):
        await w.until(lambda: w.observer.last("health/receipt-printer"), "online")
        citizen = Citizen(w)
        questions = w.printer.questions
        id_ = send(w, "heal", args={"peripheral": "receipt-printer", "remedy": "reopen"}, wait_s=120)
        await w.until(lambda: "waiting" in states(w, "heal", id_), "it waits")
        assert (await command(w, "test-print", args={"peripheral": "receipt-printer"}))["state"] == "refused"
        assert w.printer.questions == questions, "the printer is left alone"
        citizen.kill()
        assert (await ended(w, "heal", id_))["state"] == "succeeded"


async def test_f77_a_killed_application_frees_the_booth_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine")):
        await w.until(lambda: w.observer.last("health/receipt-printer"), "online")
        citizen = Citizen(w)
        asked: dict[str, Any] = {"args": {"peripheral": "receipt-printer", "remedy": "reopen"}}
        assert (await command(w, "heal", **asked))["reason"] == "session-active"
        citizen.kill()
        assert (await command(w, "heal", **asked))["state"] == "succeeded"


@pytest.mark.parametrize("when", ["received", "executing"])
async def test_f17_a_command_that_arrives_twice_while_it_runs_runs_once(tmp_path: Path, when: str) -> None:
    async with world(tmp_path) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine")):
        await w.until(lambda: w.observer.last("health/receipt-printer"), "online")
        id_ = send(w, "heal", args={"peripheral": "receipt-printer", "remedy": "reopen"})
        if when == "executing":
            await w.until(lambda: "executing" in states(w, "heal", id_), "it runs")
        send(w, "heal", id_=id_, args={"peripheral": "receipt-printer", "remedy": "reopen"})
        assert (await ended(w, "heal", id_))["state"] == "succeeded"
        healed = [event for event in w.observer.events() if event["class"] == "heal"]
        await w.until(lambda: [e for e in w.observer.events() if e["class"] == "command"], "its record")
        assert len(healed) <= 1
        assert len([e for e in w.observer.events() if e["class"] == "heal"]) == 1
