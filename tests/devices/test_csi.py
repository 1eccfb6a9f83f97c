"""The CSI worker against a stand-in for rpicam-vid: a real program, real pipes, real signals."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.devices.frames import JUDGED, WANTED
from agent.simulator.camera import STALLS_AFTER, Behaviour, Camera

NOT_FILMED = {"luma_mean": None, "luma_deviation": None, "distinct_frames": None}


def film(program: Path | str | None, within_s: float = 5.0, **environment: str) -> dict[str, Any]:
    """The job as the agent runs it."""
    command = [sys.executable, "-I", "-m", "agent.devices.worker", "agent.devices.csi:film"]
    request = {"index": 0, "program": None if program is None else str(program), "within_s": within_s}
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, timeout=30, check=False, env=environment or None
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def camera_that_is(behaviour: Behaviour, folder: Path) -> Path:
    camera = Camera(folder)
    camera.behaviour = behaviour
    return camera.program


def running(program: Path) -> list[str]:
    """Processes of the stand-in that are still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(program.parent / "behaviour").encode() in words:
            found.append(entry.parent.name)
    return found


async def gone(program: Path) -> None:
    """Killed is gone a moment later: the kernel ends it, and its new parent takes notice."""
    async with asyncio.timeout(5):
        while running(program):
            await asyncio.sleep(0.01)


def test_a_good_film_is_told_in_numbers(tmp_path: Path) -> None:
    program = camera_that_is("good", tmp_path)
    answer = film(program)
    assert (answer["outcome"], answer["frames"], answer["distinct_frames"]) == ("filmed", WANTED, JUDGED)
    assert 100 < answer["luma_mean"] < 150
    assert answer["luma_deviation"] > 40
    assert running(program) == []


def test_a_black_and_a_frozen_one_differ_in_their_numbers(tmp_path: Path) -> None:
    black = film(camera_that_is("black", tmp_path / "a"))
    assert black == {"outcome": "filmed", "frames": WANTED, "luma_mean": 16.0, "luma_deviation": 0.0, "distinct_frames": JUDGED}
    frozen = film(camera_that_is("frozen", tmp_path / "b"))
    assert (frozen["frames"], frozen["distinct_frames"]) == (WANTED, 1)
    assert frozen["luma_deviation"] > 40


@pytest.mark.parametrize(("behaviour", "frames"), [("no-frames", 0), ("stalled", STALLS_AFTER), ("hang", 0)])
def test_frames_that_do_not_come_are_waited_for_so_long_and_no_longer(behaviour: Behaviour, frames: int, tmp_path: Path) -> None:
    program = camera_that_is(behaviour, tmp_path)
    started_s = time.monotonic()
    assert film(program, within_s=1.0) == {"outcome": "filmed", "frames": frames, **NOT_FILMED}
    assert time.monotonic() - started_s < 1 + 2 + 2  # the film, the end of a program that ignores SIGINT, and the worker itself
    assert running(program) == []


@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [
        ("busy", {"outcome": "busy"}),
        ("unplugged", {"outcome": "gone", "reason": "no cameras available"}),
        (
            "crash",
            {"outcome": "failed", "reason": "SIGABRT: terminate called after throwing an instance of 'std::bad_alloc'"},
        ),
    ],
)
def test_what_the_program_says_last_is_why_it_gave_up(behaviour: Behaviour, answer: dict[str, Any], tmp_path: Path) -> None:
    assert film(camera_that_is(behaviour, tmp_path)) == answer


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text("#!/bin/sh\n" + text)
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("ERROR V4L2 v4l2_videodevice.cpp:1047 /dev/video0[13:cap]: Unable to set format: Device or resource busy", "busy"),
        ("ERROR: *** selected camera is not available ***", "gone"),
        ("ERROR: *** failed to start camera ***", "failed"),
    ],
)
def test_other_last_words_of_the_real_program(words: str, outcome: str, tmp_path: Path) -> None:
    assert film(script(tmp_path, "rpicam-vid", f"echo '{words}' >&2\nexit 255\n"))["outcome"] == outcome


def test_control_characters_and_a_flood_of_words_are_harmless(tmp_path: Path) -> None:
    flood = script(
        tmp_path, "rpicam-vid", "yes a word and another | head -n 150000 >&2\nprintf '\\033[2J!%0200d\\n' 7 >&2\nexit 3\n"
    )
    answer = film(flood)
    assert answer["outcome"] == "failed"
    assert answer["reason"].startswith("exit status 3: \\x1b[2J!0000")
    assert len(answer["reason"]) < 120


def test_a_program_that_is_missing_or_cannot_run_is_named(tmp_path: Path) -> None:
    assert film(tmp_path / "nothing") == {"outcome": "failed", "reason": f"{tmp_path}/nothing is not installed"}
    broken = tmp_path / "rpicam-vid"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    assert film(broken) == {"outcome": "failed", "reason": "rpicam-vid: Exec format error"}
    assert film(None, PATH=str(tmp_path / "empty")) == {"outcome": "failed", "reason": "rpicam-vid is not installed"}


def test_the_older_name_is_found_where_there_is_no_newer_one(tmp_path: Path) -> None:
    script(tmp_path, "libcamera-vid", "echo 'ERROR: *** no cameras available ***' >&2\nexit 255\n")
    assert film(None, PATH=f"{tmp_path}:/usr/bin:/bin")["outcome"] == "gone"


def test_the_program_does_not_outlive_a_worker_that_is_killed_alone(tmp_path: Path) -> None:
    program = camera_that_is("hang", tmp_path)
    command = [sys.executable, "-I", "-m", "agent.devices.worker", "agent.devices.csi:film"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin
        worker.stdin.write(json.dumps({"index": 0, "program": str(program), "within_s": 30}).encode())
        worker.stdin.close()
        until(lambda: bool(running(program)))
        worker.kill()
        until(lambda: not running(program))


def until(condition: Any) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "in vain"
        time.sleep(0.02)
