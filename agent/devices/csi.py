"""A CSI camera (ribbon cable), filmed through Raspberry Pi's own program. For a worker process only.

A CSI sensor has no /dev/video node that gives pictures by itself: exposure, white balance and the image processor
are driven by libcamera. So `rpicam-vid` (package `rpicam-apps`; on older systems `libcamera-vid`) films, and writes
raw I420 frames into a pipe; nothing is written to disk. The program belongs to the worker's process group and dies
with it.

Its words (core/rpicam_app.cpp of rpicam-apps, camera.cpp of libcamera) are all that says why it gives up.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from agent.contract.words import printable
from agent.devices.frames import Film, planar_luma

# At this size no row of any of the Pi's image processors has padding: they align to 32, 64 or 128 bytes.
WIDTH: Final = 640
HEIGHT: Final = 480
FRAME_BYTES: Final = WIDTH * HEIGHT * 3 // 2
PROGRAMS: Final = ("rpicam-vid", "libcamera-vid")

_BUSY: Final = ("in use by another process", "failed to acquire camera", "resource busy")
_GONE: Final = ("no cameras available", "selected camera is not available")
_ENDS_WITHIN_S: Final = 2.0  # after SIGINT, which lets it close the camera properly
_SAID_LIMIT: Final = 8192  # bytes
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def film(request: dict[str, Any]) -> dict[str, Any]:
    """`index`: which camera; `program`: its path or name, None for the usual ones; `within_s`: time for all frames.

    The answer's `outcome` is `filmed` (with the figures of `devices.frames`, `frames` perhaps 0), `busy`, `gone`
    or `failed`, the last two with a `reason`.
    """
    wanted = PROGRAMS if request["program"] is None else (request["program"],)
    program = next((path for name in wanted if (path := shutil.which(name))), None)
    if program is None:
        return {"outcome": "failed", "reason": f"{wanted[0]} is not installed"}
    arguments = [
        "--camera", str(request["index"]), "--nopreview", "--timeout", "0", "--codec", "yuv420",
        "--width", str(WIDTH), "--height", str(HEIGHT), "--flush", "--output", "-",
    ]  # fmt: skip
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_dies_with_us,  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        return {"outcome": "failed", "reason": f"{Path(program).name}: {error.strerror}"}
    pipes = _Pipes(process)
    try:
        pipes.collect(time.monotonic() + request["within_s"])
    finally:
        status = pipes.end()
    return _answer(pipes, status)


class _Pipes:
    """What the program writes: frames on standard output, words on standard error."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.film = Film()
        self.said = bytearray()
        self.ended_by_itself = False
        self._process = process
        self._frame = bytearray()
        self._luma = planar_luma(WIDTH, HEIGHT, WIDTH)
        assert process.stdout
        assert process.stderr
        self._frames_fd, self._words_fd = process.stdout.fileno(), process.stderr.fileno()
        self._poll = select.poll()
        self._open = {self._frames_fd, self._words_fd}
        for descriptor in self._open:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)

    def collect(self, until_s: float) -> None:
        """Read until the film is complete, the program has nothing more to say, or it is `until_s`."""
        while not self.film.complete and self._wait(until_s):
            pass
        self.ended_by_itself = not self._open

    def end(self) -> int:
        """Let it close the camera; kill it if it does not. Returns its exit status."""
        self._process.send_signal(signal.SIGINT)
        until_s = time.monotonic() + _ENDS_WITHIN_S
        while self._wait(until_s):
            pass  # a program that cannot write does not look at signals
        try:
            status = self._process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return status

    def _wait(self, until_s: float) -> bool:
        """Take what there is. False once both pipes are at their end, or it is too late."""
        left_s = until_s - time.monotonic()
        if not self._open or left_s <= 0:
            return False
        for descriptor, _ in self._poll.poll(left_s * 1000):
            data = os.read(descriptor, 1 << 20)
            if not data:
                self._poll.unregister(descriptor)
                self._open.discard(descriptor)
            elif descriptor == self._words_fd:
                self.said += data
                del self.said[:-_SAID_LIMIT]
            elif not self.film.complete:
                self._frame += data
                self._cut()
        return True

    def _cut(self) -> None:
        while len(self._frame) >= FRAME_BYTES and not self.film.complete:
            self.film.add(bytes(self._frame[:FRAME_BYTES]), self._luma)
            del self._frame[:FRAME_BYTES]


def _answer(pipes: _Pipes, status: int) -> dict[str, Any]:
    words = pipes.said.decode(errors="replace")
    filmed = {"outcome": "filmed", **pipes.film.figures()}
    if pipes.film.complete:
        return filmed
    if any(phrase in words.lower() for phrase in _BUSY):
        return {"outcome": "busy"}
    for phrase in _GONE:
        if phrase in words.lower():
            return {"outcome": "gone", "reason": phrase}
    if pipes.ended_by_itself and status != 0:
        return {"outcome": "failed", "reason": f"{_how(status)}: {_last_line(words)}"}
    return filmed


def _how(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return printable(lines[-1], 80) if lines else "no word"


def _dies_with_us() -> None:
    """In the child: should the worker die alone, the camera is not left running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
