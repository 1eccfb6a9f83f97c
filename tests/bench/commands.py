"""From a technician's request to the booth's last word, and a flood of requests."""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.contract.command import FINAL
from tests.commands.technician import new_id, send
from tests.faults.documents_load import resident_kib
from tests.faults.test_command_faults import PER_SECOND, flood
from tests.world import ROOT, World, world

TIMES = 30
FLOOD_S = 10.0


async def commands() -> list[tuple[str, str, str]]:
    return [*await _probe(), *await _flood()]


async def _probe() -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as name:
        async with world(Path(name)) as w:
            await w.start_agent()
            probes = [await _took_s(w, "probe", peripheral="receipt-printer") for _ in range(TIMES)]
            bare = [await _round_trip_s(w) for _ in range(TIMES)]
    median_s = statistics.median(probes)
    return [
        (
            "command `probe`: published → succeeded, the device answering at once",
            f"{median_s * 1000:.0f} ms",
            f"{median_s / statistics.median(bare):.1f} × a message to the broker and back; stored twice; under 50 ms",
        )
    ]


async def _took_s(w: World, verb: str, **args: str) -> float:
    started_s = time.monotonic()
    id_ = new_id()
    topic = f"{ROOT}/cmd/{verb}/{id_}/status"
    send(w, verb, id_=id_, args=args)
    await w.until(lambda: topic in w.observer.retained and w.observer.retained[topic].json["state"] in FINAL, "its end")
    assert w.observer.retained[topic].json["state"] == "succeeded"
    return w.observer.retained[topic].at_s - started_s


async def _round_trip_s(w: World) -> float:
    started_s = time.monotonic()
    seen = len(w.observer.messages)
    w.observer.publish(f"{ROOT}/cmd/nothing/req", b"x" * 100, qos=1)
    await w.until(lambda: len(w.observer.messages) > seen, "the message")
    return w.observer.messages[seen].at_s - started_s


async def _flood() -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory() as name:
        async with world(Path(name)) as w:
            agent = await w.start_agent()
            await _took_s(w, "locate")
            before_kib = resident_kib(agent.pid)
            w.observer.checks = False
            # Not the flood itself: the figure is the booth's, not that of whoever looks on.
            w.observer._client.unsubscribe("booth/#")
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            w.observer._client.subscribe([(f"{ROOT}/{what}", options) for what in ("health/#", "led", "cmd/locate/+/status")])
            sending = flood(w.broker.port, FLOOD_S)
            try:
                await w.until(lambda: any("/cmd/locate/f-" in m.topic for m in w.observer.messages[-50:]), "the flood")
                await asyncio.sleep(FLOOD_S / 2)
                started_s = time.monotonic()
                w.printer.change(paper="out")
                await w.until(lambda: "media-empty" in w.observer.codes("receipt-printer"), "health", 60)
                health_s = time.monotonic() - started_s
                await w.until(lambda: w.observer.last("led") == "your-turn", "the light", 60)
                light_s = time.monotonic() - started_s
            finally:
                await asyncio.get_running_loop().run_in_executor(None, sending.wait)
            grown_mib = (resident_kib(agent.pid) - before_kib) / 1024
    return [
        (
            f"{PER_SECOND} requests a second for {FLOOD_S:.0f} s: health, light meanwhile",
            f"{health_s * 1000:.0f} ms, {light_s:.1f} s",
            "the light follows the alarm, 1 s here",
        ),
        ("… memory", f"{grown_mib:+.1f} MiB", "flat: a hundred commands are remembered"),
    ]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(commands()), indent=1))
