"""The kiosk application and the sound card, as faults meet them: through the whole agent, to the broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.peripherals import audio, declared
from agent.settings import read
from agent.simulator.audio import SoundCard
from agent.simulator.kiosk import UNIT, KioskApplication
from agent.simulator.machine import SimulatedMachine
from tests.devices.control_group import control_group, end, process_in
from tests.world import World, world

CANARY = "\x1b]0;pwned\x07\u202e<b>2 81 09 99 123 456"


class Scene:
    """An agent in this process, on a simulated machine with a sound card and a kiosk application."""

    def __init__(self, w: World, folder: Path, name: str) -> None:
        self.w = w
        self.machine = SimulatedMachine(folder / "machine")
        self.card = SoundCard(self.machine.files, folder / "sound", name)
        self.application = KioskApplication(self.machine.files, folder, beat_s=0.2)

    def codes(self, peripheral: str) -> list[str]:
        return self.w.observer.codes(peripheral)

    async def until(self, peripheral: str, *codes: str) -> None:
        def there() -> bool:
            return self.w.observer.last(f"health/{peripheral}") is not None and self.codes(peripheral) == list(codes)

        await self.w.until(there, f"{peripheral} with {codes}")

    def plugged(self, action: str = "add") -> None:
        self.machine.uevents.plugged("sound", SoundCard.devpath)


@asynccontextmanager
async def scene(folder: Path, name: str = "USB-Audio - Headset") -> AsyncIterator[Scene]:
    async with world(folder) as w:
        here = Scene(w, folder, name)
        heartbeat = str(here.application.heartbeat)
        peripherals = {
            "kiosk": {
                "kind": "kiosk",
                "unit": UNIT,
                "heartbeat": heartbeat,
                "frozen_after_s": 5,
                "interval_s": 1,
            },
            "audio": {"kind": "audio", "amixer": str(here.card.amixer), "interval_s": 10},
        }
        settings = read(w.config | {"peripherals": peripherals}, declared(), folder)
        stop = asyncio.Event()
        here.application.start()
        agent = asyncio.create_task(Agent(settings, w.state_dir, here.machine, runtime_dir=folder).run(stop))
        try:
            await here.until("audio")
            await here.until("kiosk")
            yield here
        finally:
            stop.set()
            await agent
            await here.application.stop()


async def test_f57_a_mixer_that_never_answers_is_killed_and_the_kiosk_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "_AMIXER_S", 1.0)
    async with scene(tmp_path) as here:
        assert here.w.observer.last("health/audio")["status"] == "ok"
        here.card.hang(hangs=True)
        here.plugged()
        here.application.crash()
        await here.until("audio", "not-responding")
        pid = here.card.hanging_pid
        assert pid is not None
        await here.w.until(lambda: not _lives(pid), "the program that hung, killed with its worker")
        await here.until("kiosk", "app-not-running")  # its own 10 s: nobody waited for the mixer
        here.application.start()
        here.card.hang(hangs=False)
        here.plugged()
        await here.until("audio")
        await here.until("kiosk")


async def test_f62_a_headset_that_is_pulled_out_is_absent_and_back_when_it_is_plugged(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.card.unplug()
        here.machine.uevents.plugged("sound", "/devices/simulated/sound/card1")
        await here.until("audio", "no-device")
        assert here.w.observer.last("health/audio")["status"] == "absent"
        assert set(here.w.observer.last("health/audio")["facts"].values()) == {None}
        here.card.plug(records=False)
        here.plugged()
        await here.until("audio", "no-microphone")
        assert here.w.observer.last("health/audio")["findings"][0]["detail"] == {"reason": "absent"}
        here.card.plug()
        here.card.mute(microphone=True, speaker=True)
        here.plugged()
        await here.until("audio", "no-microphone", "no-speaker")
        here.card.mute()
        here.plugged()
        await here.until("audio")


async def test_f66_garbage_in_a_cards_name_reaches_the_broker_harmless(tmp_path: Path) -> None:
    async with scene(tmp_path, f"USB-Audio - {CANARY}{'x' * 500}") as here:
        facts = here.w.observer.last("health/audio")["facts"]
        assert facts["microphone_card"].startswith("USB-Audio - \\x1b]0;pwned\\x07\\u202e<b>")
        for seen in here.w.observer.messages:
            assert "\x1b" not in seen.payload.decode()
            assert "\u202e" not in seen.payload.decode()


async def test_a_frozen_application_is_seen_and_seen_to_move_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.application.freeze()
        await here.until("kiosk", "app-frozen")
        assert here.w.observer.last("health/kiosk")["status"] == "fault"
        here.application.start()
        await here.until("kiosk")


# --- the kernel's own control groups, the agent as a process ---


@pytest.fixture
def group() -> Iterator[Path]:
    with control_group("fault") as folder:
        yield folder


async def test_an_application_that_is_killed_is_missed_within_its_debounce(group: Path, tmp_path: Path) -> None:
    application = process_in(group)
    kiosk: dict[str, Any] = {"kind": "kiosk", "cgroup": str(group), "interval_s": 300}
    try:
        async with world(tmp_path, peripherals={"kiosk": kiosk}) as w:
            await w.start_agent()
            await w.until(lambda: w.observer.last("health/kiosk"), "the first health")
            assert w.observer.last("health/kiosk")["facts"] == {
                "running": True, "closed": None, "restarting": False, "heartbeat_age_s": None,
            }  # fmt: skip
            end(application)
            group.rmdir()  # as systemd does, at once
            # With 300 s between looks, only the kernel's own word can bring this within 30 s.
            await w.until(lambda: w.observer.codes("kiosk") == ["app-not-running"], "the application missed")
            group.mkdir()
            application = process_in(group)
            await w.until(lambda: w.observer.codes("kiosk") == [], "the application back")
    finally:
        end(application)


async def test_a_machine_without_that_sound_card_says_so(tmp_path: Path) -> None:
    async with world(tmp_path, peripherals={"audio": {"kind": "audio", "card": "no-such-card"}}) as w:
        await w.start_agent()
        await w.until(lambda: w.observer.codes("audio") == ["no-device"], "the card missed")
        assert w.observer.last("health/audio")["status"] == "absent"


def _lives(pid: int) -> bool:
    """Whether a process runs or sleeps; one that is dead and waits for init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
