"""Power: a plug with a loose contact, and the shop's master switch at night."""

import asyncio
import itertools
from pathlib import Path

from agent.simulator.booth import SimulatedBooth
from agent.system.uevents import Uevent
from tests.world import Observer, world

FLAPS = 50
_CONTACT_S = 0.05  # how long the plug has contact, or none
_EVENTS_S = 0.02  # from one pair of events to the next
_QUIET_S = 3.0  # much longer than the second after an event in which a camera is left to start up


async def test_f63_a_printer_that_flaps_fifty_times_is_said_at_a_bounded_rate_and_stands_as_it_is_in_the_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        link = tmp_path / "printer"
        w.printer.open_pty(link)
        # Below /dev, as the option wants it, and the same node each time as udev's link would be.
        device = Path("/dev/shm") / f"{tmp_path.name}-printer"
        device.symlink_to(link)
        try:
            w.config["peripherals"]["receipt-printer"] = {
                "kind": "receipt-printer", "device": f"serial://{device}", "absent_s": 1,
            }  # fmt: skip
            agent = await w.start_agent()
            await w.until(lambda: (w.observer.last("health/receipt-printer") or {}).get("status") == "ok", "the printer ready")
            already = len(w.observer.of("health/receipt-printer"))
            for _ in range(FLAPS):
                w.printer.close_ptys()
                await asyncio.sleep(_CONTACT_S)
                w.printer.open_pty(link)
                await asyncio.sleep(_CONTACT_S)
            await w.until(lambda: (w.observer.last("health/receipt-printer") or {}).get("status") == "ok", "as it is in the end")
            said = w.observer.of("health/receipt-printer")[already:]
            assert all(later.at_s - earlier.at_s > 0.5 for earlier, later in itertools.pairwise(said))
            # What is an event is said each time, and in pairs.
            await w.until(lambda: len(_changes(w.observer)) % 2 == 0, "the last event")
            changes = _changes(w.observer)
            assert changes == ["raised", "cleared"] * (len(changes) // 2)
            assert len(changes) <= 2 * FLAPS
            assert agent.process.returncode is None
            w.printer.change(paper="out")
            await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "seen as before")
        finally:
            device.unlink()


async def test_f63_fifty_usb_events_make_no_storm_of_scans_and_films(tmp_path: Path) -> None:
    booth = SimulatedBooth(tmp_path, profile="visio-guichet")
    films = tmp_path / "films"
    booth.camera.program.write_text(booth.camera.program.read_text().replace("\nexec", f"\necho >> {films}\nexec"))
    observer = None
    try:
        await booth.start()
        observer = Observer(booth.broker.port)
        for name in ("scanner", "camera"):
            await observer.until(lambda name=name: observer.last(f"health/{name}"), name)  # type: ignore[misc]
        before = len(films.read_text())
        for _ in range(FLAPS):
            for action in ("remove", "add"):
                booth.machine.uevents.announce(Uevent(action, "usb", "/devices/simulated"))
            await asyncio.sleep(_EVENTS_S)
        assert await _until_none_begins(films) - before <= 4
        for name in ("scanner", "camera"):
            await observer.until(lambda name=name: observer.last(f"health/{name}")["status"] == "ok", name)  # type: ignore[misc]
    finally:
        if observer is not None:
            observer.close()
        await booth.stop()


async def _until_none_begins(films: Path) -> int:
    """How many were begun, once a quiet interval shows that no other follows."""
    async with asyncio.timeout(60):
        while True:
            begun = len(films.read_text())
            await asyncio.sleep(_QUIET_S)
            if len(films.read_text()) == begun:
                return begun


def _changes(observer: Observer) -> list[str]:
    return [event["data"]["change"] for event in observer.events() if event["code"] == "no-device"]


async def test_f81_the_master_switch_at_night_makes_lost_and_no_alarm_and_the_morning_needs_nobody(tmp_path: Path) -> None:
    hours = {"week": {day: ["07:00-12:30"] for day in ("mon", "tue", "wed", "thu", "fri", "sat")}}
    async with world(tmp_path, hours=hours) as w:
        agent = await w.start_agent()
        await w.until(lambda: w.observer.last("led") == "ok", "a good evening")
        await agent.kill()  # the switch
        await w.until(lambda: w.observer.last("state")["state"] == "lost", "the broker's word for it", 60)
        assert set(w.observer.last("state")["services"].values()) == {"unknown"}
        assert w.observer.last("meta")["hours"]["week"]["mon"] == ["07:00-12:30"]  # so that a reader can tell

        await w.start_agent()  # the switch again
        await w.until(lambda: w.observer.last("led") == "ok", "a good morning")
        assert w.observer.last("state")["state"] == "online"
        assert (w.observer.last("health/receipt-printer") or {}).get("status") == "ok"
        assert not [message for message in w.observer.messages if "/alarm/" in message.topic and message.payload]
