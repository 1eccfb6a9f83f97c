"""A citizen is at the booth: nothing is opened, printed, scanned or filmed; what tells by itself is still heard."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.settings import Settings
from agent.simulator.booth import SimulatedBooth
from agent.simulator.camera import Camera
from agent.simulator.cups import Cups
from agent.simulator.scanner import Scanner
from agent.system.session import open_lock, try_lock
from tests.world import Observer, World, world


def begin_session(w: World) -> int:
    """The kiosk's application takes the lock; closing the descriptor ends the session."""
    descriptor = open_lock(w.runtime_dir)
    assert try_lock(descriptor)
    return descriptor


def is_ok(w: World, name: str) -> bool:
    return bool(w.observer.last(f"health/{name}")["status"] == "ok")


def eyes(scanner: Scanner, camera: Camera) -> dict[str, Any]:
    return {
        "scanner": {"kind": "scanner", "device": scanner.device, "config_dir": str(scanner.folder)},
        "camera": {"kind": "camera", "device": "csi:0", "csi_program": str(camera.program)},
    }


async def test_a_booth_that_starts_in_a_session_goes_online_and_touches_nothing_until_it_ends(tmp_path: Path) -> None:
    scanner, camera = Scanner(tmp_path / "scanner"), Camera(tmp_path / "camera")
    filmed = tmp_path / "filmed"
    camera.program.write_text(camera.program.read_text().replace("\nexec", f"\ntouch {filmed}\nexec"))
    async with world(tmp_path) as w:
        w.config["peripherals"] |= eyes(scanner, camera)
        session = begin_session(w)
        await w.start_agent()
        await w.until(lambda: w.observer.last("service/visio"), "the services")
        for name in ("scanner", "camera", "receipt-printer"):
            health = await w.until(partial(w.observer.last, f"health/{name}"), f"{name} said to be unknown")
            assert (health["status"], health["checked_at"], health["findings"]) == ("unknown", None, []), name
        assert w.observer.last("service/scan") == "unknown"
        assert w.observer.last("health/board")["status"] == "ok"
        assert w.printer.questions == 0
        assert not filmed.exists()

        os.close(session)
        for name in ("scanner", "camera", "receipt-printer"):
            await w.until(partial(is_ok, w, name), f"{name} looked at afterwards")
        assert filmed.exists()
        assert w.observer.last("service/scan") == "ok"


async def test_during_a_session_what_tells_by_itself_or_is_a_service_is_still_published(tmp_path: Path) -> None:
    cups = Cups(tmp_path)
    await cups.start()
    try:
        async with world(tmp_path) as w:
            w.config["peripherals"]["document-printer"] = {"kind": "document-printer", "device": cups.url, "poll_s": 1}
            await w.start_agent()
            await w.until(lambda: w.observer.last("service/print") == "ok", "both printers ready")
            session = begin_session(w)
            w.printer.change(paper="out")
            await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "the pushed status")
            await cups.stop_queue()
            await w.until(lambda: w.observer.codes("document-printer") == ["queue-stopped"], "cupsd's word")
            await w.until(lambda: w.observer.last("led") == "your-turn", "the light")
            os.close(session)
    finally:
        await cups.stop()


class Hourly(SimulatedBooth):
    """A simulated booth with a heartbeat every five seconds."""

    def _settings(self) -> Settings:
        settings = super()._settings()
        return replace(settings, reporting=replace(settings.reporting, heartbeat_s=5, telemetry_s=3600))


async def test_no_session_is_ever_published(tmp_path: Path) -> None:
    """A check is owed when a citizen comes, falls due again while she is there, and is made up for when she is gone."""
    booth = Hourly(tmp_path)
    try:
        await booth.start()
        observer = Observer(booth.broker.port, heartbeat_s=5)
        names = (*booth.profile, "booth")

        def beats() -> int:
            return len(observer.of("health/board"))

        for name in names:
            await observer.until(partial(observer.last, f"health/{name}"), name)
        await observer.until(lambda: observer.last("led") == "ok", "all well")
        await booth.citizen.comes()
        already, begun = len(observer.messages), beats()
        assert booth._agent is not None
        booth._agent.check_now()
        await observer.until(lambda: beats() > begun + 2, "heartbeats while she is there")
        booth.citizen.goes()
        await observer.until(lambda: beats() > begun + 7, "the owed checks, made up for", 60)

        said = observer.messages[already:]
        assert not [message.topic for message in said if "/event/" in message.topic or "/alarm/" in message.topic]
        for topic in {message.topic for message in said}:
            payloads = {
                str({**message.json, "checked_at": None, "facts": None}) if "/health/" in topic else message.text
                for message in said
                if message.topic == topic
            }
            assert len(payloads) == 1, topic
        # What is open is asked on, so that no time of a check stands still while she is there.
        checked = [message.json["checked_at"] for message in said if message.topic.endswith("/health/receipt-printer")]
        assert len(set(checked)) > 2
    finally:
        observer.close()
        await booth.stop()
