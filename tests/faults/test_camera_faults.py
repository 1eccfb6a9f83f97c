"""Rows 57, 62, 65 and 67 of the catalogue for the camera: programs that hang, crash, are stopped, and what they saw."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.devices.camera_light import CameraLight
from agent.peripherals import camera as module
from agent.simulator.camera import MARK, Behaviour, Camera
from tests.devices.test_csi import gone, running
from tests.peripherals.test_camera import Filmed, codes, filmed
from tests.world import World, world

BEHAVIOURS: tuple[tuple[Behaviour, str | None], ...] = (
    ("good", None),
    ("black", "black"),
    ("frozen", "frozen"),
    ("no-frames", "no-frames"),
    ("stalled", "no-frames"),
    ("busy", "busy"),
    ("hang", "no-frames"),
    ("crash", "probe-failed"),
    ("unplugged", "no-device"),
)


async def until(condition: Callable[[], Any], patience_s: float = 15.0) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def world_with_camera(
    folder: Path, behaviour: Behaviour = "good", *, online: bool = True
) -> AsyncIterator[tuple[World, Camera]]:
    """An agent as a process, and the camera that it films with."""
    camera = Camera(folder / "camera")
    camera.behaviour = behaviour
    async with world(folder) as w:
        w.config["peripherals"]["camera"] = {"kind": "camera", "device": "csi:0", "csi_program": str(camera.program)}
        await w.start_agent(online=online)
        yield w, camera


def parent_of(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def holding(folder: Path, needle: bytes) -> list[Path]:
    """Files in which it stands."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and needle in path.read_bytes()]


@pytest.mark.parametrize(("behaviour", "code"), BEHAVIOURS)
async def test_each_way_to_fail_has_its_code_and_leaves_nothing_running(
    behaviour: Behaviour, code: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FILM_S", 1.0)
    async with filmed(tmp_path) as f:
        found = codes(await f.film(behaviour))
        assert found[:1] == ([] if code is None else [code])
        await gone(f.camera.program)
        assert f.around.view.workers.alive == 0
        assert codes(await f.film("good")) == [], "and it is well again as soon as the camera is"


async def test_f57_a_film_that_takes_too_long_is_killed_with_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORKER_S", 1.0)
    async with filmed(tmp_path) as f:
        started_s = time.monotonic()
        reading = await f.film("hang")
        assert codes(reading) == ["not-responding"]
        assert reading.unreadable is not None
        assert reading.unreadable.detail == {"reason": "no answer in 1 s"}
        assert time.monotonic() - started_s < 3
        await gone(f.camera.program)


async def test_f57_a_stopped_worker_is_killed_and_its_neighbours_notice_nothing(tmp_path: Path) -> None:
    async with world_with_camera(tmp_path, "no-frames", online=False) as (w, camera):
        await until(lambda: running(camera.program))
        worker = parent_of(running(camera.program)[0])
        os.kill(worker, signal.SIGSTOP)
        await w.until(lambda: w.observer.last("health/receipt-printer"), "the printer seen")
        await w.until(lambda: w.observer.last("health/receipt-printer")["status"] == "ok", "the printer judged meanwhile")
        assert running(camera.program) != [], "not given up yet"
        await w.until(lambda: w.observer.codes("camera") == ["not-responding"], "the camera given up")
        await gone(camera.program)
        assert not Path(f"/proc/{worker}").exists()
        assert w.observer.codes("booth") == w.observer.codes("receipt-printer") == []


async def test_f62_one_that_is_unplugged_while_it_is_filmed_is_absent(tmp_path: Path) -> None:
    """On the ribbon only a restart finds it again; it is tried all the same."""
    async with filmed(tmp_path) as f:
        assert codes(await f.film("good")) == []
        assert codes(await f.film("unplugged")) == ["no-device"]
        assert 9 < f.source.interval_s() <= 10
        f.camera.behaviour = "good"
        assert codes(await f.source.probe(active=False) or await f.film()) == []


async def test_f65_a_camera_in_use_is_left_to_its_user_and_nobody_is_accused(tmp_path: Path) -> None:
    async with world_with_camera(tmp_path, "busy") as (w, _):
        await w.until(lambda: w.observer.codes("camera") == ["busy"], "the camera found busy")
        health = w.observer.last("health/camera")
        assert (health["status"], health["findings"][0]["severity"], health["findings"][0]["fix_by"]) == (
            "unknown",
            "info",
            "nobody",
        )
        assert health["checked_at"] is None, "it was never seen to work"
        assert health["facts"] == {
            "present": True, "busy": True, "frames": None,
            "luma_mean": None, "luma_deviation": None, "distinct_frames": None, "bad_films": None,
        }  # fmt: skip
        assert w.observer.last("alarm/camera/busy") is None


async def test_f67_a_worker_that_cannot_be_killed_makes_it_wedged_and_there_is_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WORKER_S", 0.5)
    monkeypatch.setattr("agent.devices.workers._DIES_WITHIN_S", 0.3)
    async with filmed(tmp_path, indicator="camera") as f:
        led(f)
        workers = f.around.view.workers
        kill, workers._kill = workers._kill, lambda _: None  # as from the kernel's uninterruptible sleep
        for _ in range(2):
            assert codes(await f.film("hang")) == ["wedged"]
            assert workers.alive == 1
        assert lit(f), "it may be filming still"
        (worker,) = workers._alive
        kill(worker.pid)
        await until(lambda: f.signals.wakes == 1)
        assert not lit(f)
        await gone(f.camera.program)
        workers._kill = kill
        monkeypatch.setattr(module, "_WORKER_S", 10.0)
        f.camera.behaviour = "good"
        assert codes(await f.source.probe(active=False)) == [], "filmed at once, unasked"


def led(f: Filmed) -> None:
    f.files.write("sys/class/leds/camera/brightness", "0")
    f.files.write("sys/class/leds/camera/max_brightness", "255")


def lit(f: Filmed) -> bool:
    return f.files.number("sys/class/leds/camera/brightness") == 255


@pytest.mark.parametrize("behaviour", ["good", "hang", "crash"])
async def test_the_light_is_on_before_the_camera_opens_and_goes_out_after_it_closed(
    behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FILM_S", 1.0)
    order: list[str] = []
    put_out = CameraLight.put_out

    async with filmed(tmp_path, indicator="camera") as f:
        led(f)
        seen = tmp_path / "seen"
        brightness = f.files.path("sys/class/leds/camera/brightness")
        f.camera.program.write_text(f.camera.program.read_text().replace("\nexec", f"\ncp {brightness} {seen}\nexec"))

        def noted(light: CameraLight) -> None:
            order.append(f"out with {len(running(f.camera.program))} programs and {f.around.view.workers.alive} workers")
            put_out(light)

        monkeypatch.setattr(CameraLight, "put_out", noted)
        await f.film(behaviour)
        assert seen.read_text().strip() == "255"
        assert order == ["out with 0 programs and 0 workers"]
        assert f.files.number("sys/class/leds/camera/brightness") == 0


async def test_an_agent_that_ends_in_mid_film_takes_the_program_with_it_and_puts_the_light_out(tmp_path: Path) -> None:
    async with filmed(tmp_path, indicator="camera") as f:
        led(f)
        f.camera.behaviour = "hang"
        filming = asyncio.ensure_future(f.source.probe(active=True))
        await until(lambda: running(f.camera.program))
        assert lit(f)
        filming.cancel()
        await asyncio.gather(filming, return_exceptions=True)
        assert filming.cancelled()
        await gone(f.camera.program)
        assert not lit(f)


async def test_what_the_camera_saw_is_in_no_file_no_message_and_no_log(tmp_path: Path) -> None:
    async with world_with_camera(tmp_path) as (w, _):
        await w.until(lambda: w.observer.last("health/camera")["status"] == "ok", "a good film")
        await w.until(lambda: w.observer.last("health/camera")["facts"]["frames"] == 25, "filmed")
        assert holding(tmp_path, MARK) == []
        assert [seen.topic for seen in w.observer.messages if MARK in seen.payload] == []
    assert holding(tmp_path, MARK) == []
    (tmp_path / "proof").write_bytes(b"x" + MARK)
    assert holding(tmp_path, MARK) == [tmp_path / "proof"], "the search finds what is there"


async def test_a_camera_that_films_is_seen_from_the_broker(tmp_path: Path) -> None:
    async with world_with_camera(tmp_path, "black") as (w, _):
        await w.until(lambda: filmed_once(w), "the first film")
        health = w.observer.last("health/camera")
        assert (health["status"], health["findings"]) == ("unknown", []), "one dark film is no proof, and no proof of health"
        assert health["slot"] == "csi-0"


def filmed_once(w: World) -> bool:
    health = w.observer.last("health/camera")
    return health is not None and health["facts"]["frames"] == 25
