"""What a camera's facts mean, when it is filmed and when it is left alone."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import Invalid, build
from agent.devices.frames import WANTED
from agent.devices.workers import WorkerFailed
from agent.peripherals import camera as module
from agent.peripherals.camera import PERIPHERAL, CameraSource, Options, find
from agent.rules.declaration import Reading
from agent.rules.health import Judgement, Now, judge
from agent.simulator.camera import Behaviour, Camera
from agent.simulator.machine import SimulatedFiles
from agent.system.session import open_lock, try_lock
from tests.peripherals.surroundings import Around, Recorded

GOOD: dict[str, Any] = {
    "present": True, "busy": False, "frames": WANTED,
    "luma_mean": 120.0, "luma_deviation": 50.0, "distinct_frames": 10, "bad_films": 0,
}  # fmt: skip
DARK: dict[str, Any] = {"luma_mean": 17.0, "luma_deviation": 1.2}
SURE = ("present", "busy", "frames", "distinct_frames", "bad_films")
UNKNOWN = dict.fromkeys(("frames", "luma_mean", "luma_deviation", "distinct_frames", "bad_films"))
OPTIONS = Options("csi:0")
USB_PATH = "sys/devices/pci0000:00/usb1/1-1/1-1.2"
NODE_PATH = f"/{USB_PATH}/1-1.2:1.0/video4linux/video0"


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({}, []),
        ({"frames": 0, **UNKNOWN | {"frames": 0}}, ["no-frames"]),
        (UNKNOWN | {"frames": WANTED - 1}, ["no-frames"]),
        (DARK, ["black"]),
        (DARK | {"distinct_frames": 1}, ["black"]),  # behind a lens cap frames may well be equal
        ({"luma_mean": 17.0, "luma_deviation": 30.0}, []),  # a dark room with a lamp in it
        ({"luma_mean": 200.0, "luma_deviation": 0.0}, []),  # a white wall
        ({"distinct_frames": 1}, ["frozen"]),
        ({"distinct_frames": 2}, []),
        ({"luma_mean": None, "luma_deviation": None}, []),  # compressed only
        ({"luma_mean": None, "luma_deviation": None, "distinct_frames": 1}, ["frozen"]),
        (UNKNOWN, []),
    ],
)
def test_findings_follow_from_facts(facts: dict[str, Any], codes: list[str]) -> None:
    assert [item.code for item in find(GOOD | facts, OPTIONS)] == codes


def test_where_black_begins_can_be_set() -> None:
    grey = GOOD | {"luma_mean": 90.0, "luma_deviation": 3.0}
    assert [item.code for item in find(GOOD | DARK, replace(OPTIONS, black_below=16.0))] == []
    assert [item.code for item in find(grey, replace(OPTIONS, black_below=91.0))] == ["black"]


def judged(steps: list[tuple[float, dict[str, Any]]]) -> list[tuple[str, list[str]]]:
    """Status and codes after each reading, at its second."""
    judgement = Judgement()
    seen: list[tuple[str, list[str]]] = []
    for at_s, facts in steps:
        found = PERIPHERAL.findings_of(Reading(facts), OPTIONS)
        judgement, _ = judge(judgement, found, PERIPHERAL.finding_kinds, Now(at_s, "2026-12-01T12:00:00.000Z"))
        seen.append((judgement.status, [finding.code for finding in judgement.findings]))
    return seen


@pytest.mark.parametrize(("bad", "code"), [(DARK, "black"), ({"distinct_frames": 1}, "frozen")])
def test_two_films_have_to_agree(bad: dict[str, Any], code: str) -> None:
    first, second = GOOD | bad | {"bad_films": 1}, GOOD | bad | {"bad_films": 2}
    assert judged([(0, first), (60, second), (120, GOOD)]) == [("unknown", []), ("fault", [code]), ("ok", [])]
    assert judged([(0, GOOD), (60, first), (120, GOOD)]) == [("ok", []), ("ok", []), ("ok", [])]


def test_while_somebody_else_has_it_nothing_is_accused_and_nothing_forgotten() -> None:
    busy = {"present": True, "busy": True}
    assert judged([(0, busy)]) == [("ok", ["busy"])]
    no_frames = GOOD | UNKNOWN | {"frames": 0}
    assert judged([(0, no_frames), (60, busy), (120, GOOD)]) == [
        ("fault", ["no-frames"]), ("fault", ["no-frames", "busy"]), ("ok", []),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "device"),
        ({"device": "/dev/video0"}, "device"),
        ({"device": "v4l2:/sys/video0"}, "device"),
        ({"device": "v4l2:/dev/../etc/passwd"}, "device"),
        ({"device": "csi:camera"}, "device"),
        ({"device": "csi:0", "csi_program": "rpicam-vid; reboot"}, "csi_program"),
        ({"device": "csi:0", "indicator": "../../block"}, "indicator"),
        ({"device": "csi:0", "indicator": ".."}, "indicator"),
        ({"device": "csi:0", "black_below": 256}, "black_below"),
    ],
)
def test_wrong_options_are_named_by_their_path(options: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(Options, options, "peripherals.camera")
    assert {problem.path for problem in caught.value.problems} == {f"peripherals.camera.{path}"}


@pytest.mark.parametrize("device", ["csi:1", "v4l2:/dev/video0", "v4l2:/dev/v4l/by-id/usb-046d_C270_A1-video-index0"])
def test_the_ways_to_name_a_camera(device: str) -> None:
    options = build(Options, {"device": device, "indicator": "camera:white"}, "peripherals.camera")
    assert options.device == device


class Filmed:
    """A source with a simulated machine, a stand-in for rpicam-vid and, where wanted, a LED."""

    def __init__(self, folder: Path, device: str = "csi:0", **options: Any) -> None:
        self.camera = Camera(folder / "camera")
        self.files = SimulatedFiles(folder / "machine")
        self.signals = Recorded()
        runtime_dir = folder / "run"
        runtime_dir.mkdir(exist_ok=True)
        self.around = Around(self.files, runtime_dir=runtime_dir)
        self.runtime_dir = runtime_dir
        self.options = Options(device, csi_program=str(self.camera.program), **options)
        self.source = CameraSource(self.options, self.around.view, self.signals)

    async def film(self, behaviour: Behaviour | None = None) -> Reading:
        if behaviour is not None:
            self.camera.behaviour = behaviour
        reading = await self.source.probe(active=True)
        assert reading is not None
        return reading

    def event(self, action: str, path: str) -> None:
        for handler in self.around._usb:
            handler(action, path)

    @contextlib.contextmanager
    def citizen(self) -> Any:
        lock = open_lock(self.runtime_dir)
        assert try_lock(lock)
        try:
            yield
        finally:
            os.close(lock)


@asynccontextmanager
async def filmed(folder: Path, device: str = "csi:0", **options: Any) -> AsyncIterator[Filmed]:
    made = Filmed(folder, device, **options)
    try:
        yield made
    finally:
        await made.source.close()
        assert made.around.view.workers.alive == 0


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The source's clock, in its one item."""
    now_s = [1000.0]
    monkeypatch.setattr(module, "_now_s", lambda: now_s[0])
    return now_s


def codes(reading: Reading | None) -> list[str]:
    assert reading is not None
    return [item.code for item in PERIPHERAL.findings_of(reading, OPTIONS)]


async def test_a_good_film_needs_no_other_soon(tmp_path: Path) -> None:
    async with filmed(tmp_path) as f:
        reading = await f.film()
        assert {name: reading.facts[name] for name in SURE} == {name: GOOD[name] for name in SURE}
        assert reading.identity.slot == "csi-0"
        assert f.source.interval_s() == 3600
        assert await f.source.probe(active=False) is None


async def test_a_bad_film_is_made_again_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed(tmp_path) as f:
        now_s = clock(monkeypatch)
        reading = await f.film("black")
        assert (codes(reading), reading.facts["bad_films"]) == (["black"], 1)
        assert f.source.interval_s() == 60
        assert await f.source.probe(active=False) is None, "a moment later is too soon"
        now_s[0] += 60
        again = await f.source.probe(active=False)
        assert (codes(again), again and again.facts["bad_films"]) == (["black"], 2)
        assert (await f.film("frozen")).facts["bad_films"] == 1, "another trouble: not agreed on"
        assert (await f.film("good")).facts["bad_films"] == 0
        assert f.source.interval_s() == 3600


async def test_while_it_is_black_it_is_filmed_often_for_ten_minutes_and_then_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filmed(tmp_path) as f:
        now_s = clock(monkeypatch)
        answer = {"outcome": "filmed", **GOOD, **DARK}
        calls = _worker_says(f, answer, monkeypatch)
        await f.source.probe(active=True)
        for at_s, interval_s in ((60, 2), (62, 2), (659, 2), (661, 30), (691, 30)):
            now_s[0] = 1000.0 + at_s
            assert codes(await f.source.probe(active=False)) == ["black"]
            assert f.source.interval_s() == interval_s, at_s
        f.around.open = False
        made = len(calls)
        assert f.source.interval_s() == 3600, "nobody is at it"
        now_s[0] += 3600
        assert await f.source.probe(active=False) is None
        assert len(calls) == made
        f.around.open = True
        answer |= GOOD
        assert codes(await f.source.probe(active=False)) == []
        assert f.source.interval_s() == 3600


async def test_a_dark_shop_is_not_filmed_and_an_active_check_stays_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed(tmp_path) as f:
        calls = _worker_says(f, {"outcome": "filmed", **GOOD, **DARK}, monkeypatch)
        f.around.open = False
        for active in (True, False):
            assert await f.source.probe(active=active) is None
        assert (calls, f.source.interval_s()) == ([], 3600)


async def test_one_dark_film_before_closing_time_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lights went out a minute before: it must not be believed an hour later."""
    async with filmed(tmp_path) as f:
        now_s = clock(monkeypatch)
        calls = _worker_says(f, {"outcome": "filmed", **GOOD, **DARK}, monkeypatch)
        assert codes(await f.source.probe(active=True)) == ["black"]
        f.around.open = False
        assert f.source.interval_s() == 60
        now_s[0] += 60
        reading = await f.source.probe(active=False)
        assert (codes(reading), reading and reading.untried) == ([], True)
        assert (f.signals.active_wakes, f.source.interval_s()) == (1, 3600)
        assert await f.source.probe(active=True) is None
        f.around.open = True
        reading = await f.source.probe(active=True)
        assert reading is not None
        assert (len(calls), reading.facts["bad_films"]) == (2, 1)


async def test_a_camera_that_was_always_busy_was_never_seen_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed(tmp_path) as f:
        answer: dict[str, Any] = {"outcome": "busy"}
        _worker_says(f, answer, monkeypatch)

        async def busy() -> bool:
            answer["outcome"] = "busy"
            reading = await f.source.probe(active=True)
            assert (codes(reading)[0], f.source.interval_s() > 59) == ("busy", True)
            assert reading is not None
            return not reading.untried

        assert not await busy()
        answer |= {"outcome": "filmed", **GOOD}
        await f.source.probe(active=True)
        assert await busy(), "the last word on its pictures stands"
        answer |= {"outcome": "mute", "reason": "x"}
        await f.source.probe(active=True)
        assert not await busy()


async def test_a_browser_that_is_still_closing_it_does_not_date_the_end_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filmed(tmp_path) as f:
        now_s = clock(monkeypatch)
        calls = _worker_says(f, {"outcome": "busy"}, monkeypatch)
        with f.citizen():
            assert await f.source.probe(active=True) is None
        now_s[0] += 59
        assert await f.source.probe(active=True) is None
        assert (len(calls), f.source.interval_s()) == (1, 15)
        now_s[0] += 2
        assert codes(await f.source.probe(active=True))[0] == "busy"


async def test_nothing_is_opened_while_a_citizen_has_the_booth(tmp_path: Path) -> None:
    async with filmed(tmp_path) as f:
        with f.citizen():
            assert await f.source.probe(active=True) is None
            assert f.around.view.workers.alive == 0
        assert codes(await f.source.probe(active=True)) == []


async def test_no_session_begins_while_it_films(tmp_path: Path) -> None:
    async with filmed(tmp_path) as f:
        f.camera.behaviour = "good"
        filming = asyncio.ensure_future(f.source.probe(active=True))
        async with asyncio.timeout(10):
            while not f.around.view.workers.alive:
                await asyncio.sleep(0)
        lock = open_lock(f.runtime_dir)
        assert not try_lock(lock)
        await filming
        assert try_lock(lock)
        os.close(lock)


def plug(files: SimulatedFiles, node: str = "video0") -> None:
    """A USB camera behind a hub, as sysfs shows it."""
    for place, product in (("sys/devices/pci0000:00/usb1/1-1", "a hub"), (USB_PATH, "C270 \x1b[2JWebcam")):
        for name, text in (("idVendor", "046d"), ("idProduct", "0825"), ("product", product), ("serial", "A1")):
            files.write(f"{place}/{name}", text)
        link = files.path(f"sys/bus/usb/devices/{Path(place).name}")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(files.path(place))
    interface = files.path(f"{USB_PATH}/1-1.2:1.0")
    (interface / "video4linux" / node).mkdir(parents=True)
    (interface / "video4linux" / node / "device").symlink_to(interface)
    entry = files.path(f"sys/class/video4linux/{node}")
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.symlink_to(interface / "video4linux" / node)
    by_id = files.path("dev/v4l/by-id/usb-cam")
    by_id.parent.mkdir(parents=True, exist_ok=True)
    by_id.symlink_to(f"../../{node}")


def unplug(files: SimulatedFiles, node: str = "video0") -> None:
    files.path(f"sys/class/video4linux/{node}").unlink()
    files.path("dev/v4l/by-id/usb-cam").unlink()
    directory = files.path(f"{USB_PATH}/1-1.2:1.0/video4linux/{node}")
    (directory / "device").unlink()
    directory.rmdir()


@asynccontextmanager
async def filmed_by_usb(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str = "v4l2:/dev/video0", **answer: Any
) -> AsyncIterator[tuple[Filmed, list[dict[str, Any]]]]:
    """A USB camera, not plugged in yet, of good pictures; and the requests for them."""
    monkeypatch.setattr(module, "_SETTLES_S", 0.05)
    async with filmed(folder, device) as f:
        yield f, _worker_says(f, {"outcome": "filmed", **GOOD, **answer}, monkeypatch)


async def test_unplugged_is_absent_at_once_and_comes_back_filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed_by_usb(tmp_path, monkeypatch, "v4l2:/dev/v4l/by-id/usb-cam", card="UVC Camera") as (f, calls):
        assert codes(await f.source.probe(active=True)) == ["no-device"]
        assert f.source.interval_s() == 10
        plug(f.files)
        f.event("add", NODE_PATH)
        assert f.signals.wakes == 1
        reading = await f.source.probe(active=False)
        assert codes(reading) == []
        assert reading is not None
        identity = reading.identity
        assert (identity.slot, identity.product, identity.serial) == ("usb-1.2", "C270 \\x1b[2JWebcam", "A1")
        assert calls == [{"path": str(f.files.path("dev/v4l/by-id/usb-cam")), "within_s": 10.0}]

        f.event("add", "/devices/elsewhere/video4linux/video9")
        assert f.signals.wakes == 1, "another camera is none of ours"
        unplug(f.files)
        f.event("remove", NODE_PATH)
        assert f.signals.wakes == 2
        assert codes(await f.source.probe(active=False)) == ["no-device"]
        plug(f.files, "video2")
        assert codes(await f.source.probe(active=False)) == [], "seen at the interval, under another number"
        assert len(calls) == 2


async def test_two_events_of_one_plug_are_one_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells first, udev when the permission stands."""
    async with filmed_by_usb(tmp_path, monkeypatch) as (f, calls):
        plug(f.files)
        for _ in range(2):
            f.event("add", NODE_PATH)
        await f.source.probe(active=False)
        assert await f.source.probe(active=False) is None
        assert len(calls) == 1


async def test_one_that_comes_back_during_a_session_is_filmed_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed_by_usb(tmp_path, monkeypatch) as (f, calls):
        plug(f.files)
        with f.citizen():
            f.event("add", NODE_PATH)
            assert await f.source.probe(active=False) is None
            assert (calls, f.source.interval_s(), f.signals.active_wakes) == ([], 15, 1)
        assert codes(await f.source.probe(active=False)) == []


@pytest.mark.parametrize("open_", [True, False])
async def test_one_that_is_plugged_in_again_and_must_not_be_filmed_is_said_to_be_there(
    open_: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filmed_by_usb(tmp_path, monkeypatch) as (f, calls):
        f.around.open = open_
        with f.citizen():
            assert codes(await f.source.probe(active=True)) == ["no-device"]
            plug(f.files)
            f.event("add", NODE_PATH)
            woken = f.signals.active_wakes
            reading = await f.source.probe(active=True)
            assert (codes(reading), reading and reading.untried, f.signals.active_wakes - woken) == ([], True, 1)
            assert reading is not None
            assert reading.facts == UNKNOWN | {"present": True, "busy": None}
            assert reading.identity.serial == "A1"
            assert await f.source.probe(active=True) is None, "said once, owed until it can be filmed"
        f.around.open = True
        reading = await f.source.probe(active=True)
        assert (codes(reading), reading and reading.untried, len(calls)) == ([], False, 1)


async def test_a_camera_on_the_ribbon_is_tried_while_people_are_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed(tmp_path) as f:
        _worker_says(f, {"outcome": "gone", "reason": "no cameras available"}, monkeypatch)
        reading = await f.source.probe(active=True)
        assert reading is not None
        assert reading.unreadable is not None
        assert reading.unreadable.detail == {"reason": "no cameras available", "connector": "csi"}
        assert 9 < f.source.interval_s() <= 10
        f.around.open = False
        assert f.source.interval_s() == 3600
        f.around.open = True
        with f.citizen():
            assert await f.source.probe(active=True) is None, "only filming would tell whether it is back"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"outcome": "gone", "reason": "STREAMON: No such device"}, "no-device"),
        ({"outcome": "mute", "reason": "S_FMT: Input/output error"}, "not-responding"),
        ({"outcome": "failed", "reason": "open: Permission denied"}, "probe-failed"),
    ],
)
async def test_what_the_worker_could_not_do(
    answer: dict[str, Any], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filmed(tmp_path, "v4l2:/dev/video0") as f:
        plug(f.files)
        _worker_says(f, answer, monkeypatch)
        reading = await f.source.probe(active=True)
        assert codes(reading) == [found]
        assert reading is not None
        assert reading.unreadable is not None
        assert reading.unreadable.detail == {"reason": answer["reason"]}
        assert f.source.interval_s() > (0 if found == "no-device" else 59)


async def test_a_light_that_cannot_be_lit_leaves_the_camera_shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed(tmp_path, indicator="camera") as f:
        calls = _worker_says(f, {"outcome": "filmed", **GOOD}, monkeypatch)
        reading = await f.source.probe(active=True)
        assert codes(reading) == ["probe-failed"]
        assert reading is not None
        assert reading.unreadable is not None
        assert reading.unreadable.detail == {"reason": "the light camera cannot be lit: No such file or directory"}

        f.files.write("sys/class/leds/camera/brightness", "0")
        f.files.write("sys/class/leds/camera/max_brightness", "0")
        reading = await f.source.probe(active=True)
        assert reading is not None
        assert reading.unreadable is not None
        assert reading.unreadable.detail == {"reason": "the light camera cannot be lit: stays dark"}
        assert calls == []


async def test_the_light_stays_on_while_a_stuck_worker_may_be_filming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with filmed(tmp_path, indicator="camera") as f:
        f.files.write("sys/class/leds/camera/brightness", "3")
        f.files.write("sys/class/leds/camera/max_brightness", "255")
        freed = []

        async def stuck(*_: Any, **keywords: Any) -> dict[str, Any]:
            freed.append(keywords["freed"])
            raise WorkerFailed("wedged", {"pid": 1})

        monkeypatch.setattr(f.around.view.workers, "call", stuck)
        for _ in range(2):
            assert codes(await f.source.probe(active=True)) == ["wedged"]
            assert f.files.number("sys/class/leds/camera/brightness") == 255
        freed[0]()
        assert f.files.number("sys/class/leds/camera/brightness") == 3
        assert f.signals.wakes == 1


async def test_a_light_that_a_killed_agent_left_on_is_put_out_by_the_next(tmp_path: Path) -> None:
    async with filmed(tmp_path, indicator="camera") as f:
        f.files.write("sys/class/leds/camera/brightness", "0")
        f.files.write("sys/class/leds/camera/max_brightness", "1")
        f.source._light.light()
        assert f.files.number("sys/class/leds/camera/brightness") == 1
        CameraSource(f.options, f.around.view, Recorded())
        assert f.files.number("sys/class/leds/camera/brightness") == 0
        assert [entry.name for entry in f.runtime_dir.iterdir()] == []


def _worker_says(f: Filmed, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """No V4L2 device here: the worker's answer is put in its place. Returns the requests."""
    requests: list[dict[str, Any]] = []

    async def call(_device: str, job: str, request: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        assert job in ("agent.devices.v4l2:film", "agent.devices.csi:film")
        requests.append(request)
        return answer

    monkeypatch.setattr(f.around.view.workers, "call", call)
    return requests
