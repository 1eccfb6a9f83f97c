"""Sound: there, muted, taken; what is asked when, and what a session hides."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.contract.words import TEXT_LIMIT
from agent.peripherals import audio
from agent.peripherals.audio import PERIPHERAL, AudioSource, Options
from agent.rules.declaration import Reading
from agent.rules.health import Judgement, Now, judge
from agent.simulator.audio import SoundCard
from agent.simulator.machine import SimulatedFiles
from agent.system.session import open_lock, try_lock
from tests.peripherals.surroundings import Around, Recorded

FINE: dict[str, Any] = {"microphone": "ok", "microphone_card": "x", "speaker": "ok", "speaker_card": "x"}
HDMI = " 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0\n                      vc4-hdmi-0"


class Booth:
    """A headset on a machine of files, and a source that listens to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(audio, "monotonic", lambda: self.now_s)
        self.files = SimulatedFiles(folder / "machine")
        self.card = SoundCard(self.files, folder)
        self.folder = folder
        self.options = Options(amixer=str(self.card.amixer), **options)
        self.signals = Recorded()
        self.around = Around(self.files, runtime_dir=folder)
        self.source = AudioSource(self.options, self.around.view, self.signals)

    async def reading(self, *, active: bool = False) -> Reading | None:
        return await self.source.probe(active=active)

    async def words(self, *, active: bool = False) -> tuple[Any, Any]:
        """Of microphone and speaker."""
        reading = await self.reading(active=active)
        assert reading is not None
        assert reading.unreadable is None, reading
        return reading.facts.get("microphone"), reading.facts.get("speaker")

    async def codes(self, *, active: bool = False) -> list[str]:
        reading = await self.reading(active=active)
        assert reading is not None
        return [item.code for item in PERIPHERAL.findings_of(reading, self.options)]

    def asked(self) -> int:
        """How often the mixer was asked since the last time."""
        log = self.folder / "asked"
        count = len(log.read_text().splitlines()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return count

    @contextmanager
    def session(self) -> Iterator[None]:
        """A citizen uses the booth."""
        lock = open_lock(self.folder)
        assert try_lock(lock)
        try:
            yield
        finally:
            os.close(lock)


@pytest.fixture
def booth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Booth:
    made = Booth(tmp_path, monkeypatch)
    script = made.card.amixer.read_text()
    made.card.amixer.write_text(script.replace("#!/bin/sh\n", f"#!/bin/sh\necho asked >> '{tmp_path}/asked'\n"))
    return made


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, []),
        ({"microphone": None, "speaker": None}, []),
        ({"microphone": "absent"}, [("no-microphone", None, "absent")]),
        ({"microphone": "muted"}, [("no-microphone", None, "muted")]),
        ({"microphone": "taken"}, [("no-microphone", "warning", "taken")]),
        ({"speaker": "absent"}, [("no-speaker", None, "absent")]),
        ({"speaker": "muted", "microphone": "muted"}, [("no-microphone", None, "muted"), ("no-speaker", None, "muted")]),
        ({"speaker": "taken"}, [("no-speaker", "warning", "taken")]),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], found: list[Any]) -> None:
    observed = list(audio.find(FINE | facts, Options()))
    assert [(item.code, item.severity, item.detail["reason"]) for item in observed] == found


def test_a_card_that_is_being_set_up_is_not_called_muted() -> None:
    observed = PERIPHERAL.findings_of(Reading(FINE | {"microphone": "muted"}), Options())
    judgement, _ = judge(Judgement(), [], PERIPHERAL.finding_kinds, Now(0.0, "w"))
    for at_s, status in ((1.0, "ok"), (1.4, "ok"), (1.5, "fault")):
        judgement, _ = judge(judgement, observed, PERIPHERAL.finding_kinds, Now(at_s, "w"))
        assert judgement.status == status


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"card": "hw:0"}, "card"),
        ({"speaker_card": ""}, "speaker_card"),
        ({"amixer": "/bin/sh"}, "amixer"),  # what may be set from afar must not name any program
        ({"amixer": "../amixer"}, "amixer"),
        ({"interval_s": 1}, "interval_s"),
    ],
)
def test_wrong_options_are_named_by_their_path(options: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Options, options, "peripherals.audio")
    assert [problem.path for problem in caught.value.problems] == [f"peripherals.audio.{path}"]


async def test_all_is_well_and_asked_only_when_it_is_worth_it(booth: Booth) -> None:
    reading = await booth.reading(active=True)
    assert reading is not None
    assert reading.facts == {
        "microphone": "ok",
        "microphone_card": "USB-Audio - Simulated Headset",
        "speaker": "ok",
        "speaker_card": "USB-Audio - Simulated Headset",
    }
    assert reading.identity.product == "USB-Audio - Simulated Headset"
    assert booth.source.interval_s() == 300.0
    assert booth.asked() == 1  # once for both
    for _ in range(3):
        assert await booth.words() == ("ok", "ok")
    assert booth.asked() == 0
    assert await booth.words(active=True) == ("ok", "ok")
    assert booth.asked() == 1
    assert booth.around.view.workers.alive == 0


async def test_what_is_unplugged_is_absent_and_comes_back_with_its_mixer_asked(booth: Booth) -> None:
    assert await booth.codes(active=True) == []
    booth.card.unplug()
    assert await booth.codes() == ["no-device"]
    assert booth.source.interval_s() == 3.0
    booth.asked()
    booth.card.plug()
    assert await booth.codes() == []
    assert booth.asked() == 1  # it may be muted now


async def test_one_of_the_two_can_be_missing(booth: Booth) -> None:
    booth.card.plug(records=False)
    assert await booth.words(active=True) == ("absent", "ok")
    assert booth.source.interval_s() == 3.0
    booth.card.plug()
    assert await booth.words() == ("ok", "ok")


async def test_only_what_is_needed_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booth = Booth(tmp_path, monkeypatch, microphone=False)
    booth.card.plug(records=False)
    assert await booth.words(active=True) == (None, "ok")
    booth.card.unplug()
    assert await booth.codes() == ["no-device"]
    nothing = Booth(tmp_path / "nothing", monkeypatch, microphone=False, speaker=False)
    assert await nothing.codes(active=True) == []


@pytest.mark.parametrize(
    ("options", "words"), [({}, ("absent", "ok")), ({"speaker_card": "Headset"}, None), ({"card": "1"}, None)]
)
async def test_a_named_card_is_not_replaced_by_a_screens_loudspeaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: Any
) -> None:
    booth = Booth(tmp_path, monkeypatch, **options)
    booth.card.unplug()
    booth.files.write("proc/asound/cards", HDMI)
    booth.files.write("proc/asound/card0/pcm0p/sub0/status", "closed")
    if words is None:
        assert await booth.codes(active=True) == ["no-device"]
    else:
        assert await booth.words(active=True) == words


async def test_muted_is_found_by_an_active_check_and_watched_until_it_is_mended(booth: Booth) -> None:
    assert await booth.words(active=True) == ("ok", "ok")
    booth.card.mute(microphone=True)
    assert await booth.words() == ("ok", "ok")  # nothing announces it
    assert await booth.words(active=True) == ("muted", "ok")
    for after_s, interval_s in ((0, 3.0), (599, 3.0), (601, 30.0)):
        booth.now_s = 1000.0 + after_s
        assert booth.source.interval_s() == interval_s
    booth.around.open = False
    assert booth.source.interval_s() == 300.0  # nobody is at it
    booth.around.open = True
    booth.card.mute(speaker=True)
    assert await booth.words() == ("ok", "muted")
    booth.card.mute()
    assert await booth.words() == ("ok", "ok")
    booth.asked()
    assert await booth.words() == ("ok", "ok")
    assert booth.asked() == 0


async def test_in_use_for_a_minute_with_nobody_there_is_taken(booth: Booth) -> None:
    await booth.words(active=True)
    booth.card.use("pcm0c", used=True)
    assert await booth.words() == ("ok", "ok")
    assert booth.source.interval_s() == 20.0
    booth.now_s += 59
    assert await booth.words() == ("ok", "ok")
    booth.now_s += 1
    assert await booth.words() == ("taken", "ok")
    booth.card.use("pcm0c", used=False)
    assert await booth.words() == ("ok", "ok")
    booth.card.use("pcm0p", used=True)
    await booth.words()
    booth.now_s += 60
    assert await booth.words() == ("ok", "taken")


async def test_a_session_is_not_told_by_what_it_uses(booth: Booth) -> None:
    before = await booth.reading(active=True)
    with booth.session():
        booth.card.use("pcm0c", used=True)
        booth.card.use("pcm0p", used=True)
        for _ in range(5):
            booth.now_s += 60
            assert await booth.reading() == before
            assert booth.source.interval_s() == 300.0
    assert await booth.reading() == before  # its last moment
    booth.now_s += 30
    with booth.session():
        await booth.reading()
    booth.now_s += 31
    assert await booth.reading() == before  # a minute, but not without a session in it


async def test_what_was_taken_before_a_session_stays_so_during_it(booth: Booth) -> None:
    await booth.words(active=True)
    booth.card.use("pcm0c", used=True)
    await booth.words()
    booth.now_s += 60
    assert await booth.words() == ("taken", "ok")
    with booth.session():
        assert await booth.words() == ("taken", "ok")
    assert await booth.words() == ("taken", "ok")  # by the same program: not another minute
    with booth.session():
        booth.card.use("pcm0c", used=False)
        assert await booth.words() == ("taken", "ok")
    assert await booth.words() == ("ok", "ok")


async def test_nothing_is_opened_during_a_session_but_what_is_unplugged_is_said(booth: Booth) -> None:
    assert await booth.words(active=True) == ("ok", "ok")
    booth.asked()
    with booth.session():
        booth.card.mute(microphone=True)
        assert await booth.reading(active=True) is None
        assert await booth.reading() is None  # still owed: not called well
        booth.card.plug(records=False)
        assert await booth.words() == ("absent", "ok")
        assert await booth.words(active=True) == ("absent", "ok")
        booth.card.unplug()
        assert await booth.codes() == ["no-device"]
        booth.card.plug()
        reading = await booth.reading()
        assert reading is not None
        assert (reading.untried, reading.facts["microphone"], booth.signals.active_wakes) == (True, None, 1)  # there again
        assert await booth.reading() is None
        assert booth.asked() == 0
    assert await booth.words() == ("muted", "ok")
    with booth.session():
        booth.asked()
        booth.card.mute()
        assert await booth.words() == ("muted", "ok")  # as it was
        assert booth.asked() == 0


async def test_no_session_begins_while_the_mixer_is_asked(booth: Booth) -> None:
    booth.card.hang(hangs=True)
    checking = asyncio.create_task(booth.reading(active=True))
    lock = open_lock(booth.folder)
    try:
        async with asyncio.timeout(10):
            while booth.around.view.workers.alive == 0:
                await asyncio.sleep(0.005)
        assert not try_lock(lock)
    finally:
        booth.around.view.workers.close()
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)
        os.close(lock)


async def test_a_mixer_that_cannot_be_asked_is_not_called_well_until_it_can(booth: Booth) -> None:
    booth.card.amixer.rename(booth.folder / "elsewhere")
    for active in (True, False):
        reading = await booth.reading(active=active)
        assert reading is not None
        assert reading.unreadable is not None
        assert reading.unreadable.code == "probe-failed"
        assert reading.unreadable.detail == {"reason": f"{booth.card.amixer}: No such file or directory"}
        assert booth.source.interval_s() == 120.0
    with booth.session():
        assert await booth.reading() is None
    (booth.folder / "elsewhere").rename(booth.card.amixer)
    assert await booth.words() == ("ok", "ok")


async def test_sound_events_wake_it_and_others_do_not(booth: Booth) -> None:
    for action, path in (("add", "/devices/usb/1-1.3"), ("remove", "/devices/usb/1-1.3")):
        booth.around._usb[0](action, path)
    assert booth.signals.wakes == 0
    booth.around._usb[0]("remove", "/devices/usb/1-1.3/sound/card1")
    booth.around._usb[0]("add", "/devices/usb/1-1.3/sound/card1/pcmC1D0c")
    assert (booth.signals.wakes, booth.signals.active_wakes) == (2, 0)
    booth.around._usb[0]("add", SoundCard.devpath)
    booth.around._usb[0]("change", "/devices/usb/1-1.3/sound/card1")
    assert (booth.signals.wakes, booth.signals.active_wakes) == (4, 2)


async def test_f66_a_cards_name_is_escaped_and_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booth = Booth(tmp_path, monkeypatch)
    booth.card = SoundCard(booth.files, tmp_path, "\x1b[2J\u202eevil" + "x" * 300)
    reading = await booth.reading(active=True)
    assert reading is not None
    for text in (reading.facts["microphone_card"], reading.facts["speaker_card"], reading.identity.product):
        assert isinstance(text, str)
        assert text.startswith("\\x1b[2J\\u202eevilxxx")
        assert len(text) <= TEXT_LIMIT
        assert text.isprintable()


async def test_f66_a_line_that_looks_like_a_card_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booth = Booth(tmp_path, monkeypatch, card="Evil")
    booth.card = SoundCard(booth.files, tmp_path, "USB-Audio - x\n 7 [Evil           ]: y")
    assert await booth.codes(active=True) == ["no-device"]
