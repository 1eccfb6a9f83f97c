"""A camera on the ribbon connector: a stand-in for `rpicam-vid` that films what a control file says.

A real program behind real pipes, with the real one's options and last words. `python -m agent.simulator.camera
CONTROL OPTIONS…` is what the script beside the control file runs.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Final, Literal, get_args

Behaviour = Literal["good", "black", "frozen", "stalled", "no-frames", "busy", "hang", "crash", "unplugged"]
MARK: Final = b"a-citizen-was-here"  # in every picture: whoever finds it elsewhere has found a leak
STALLS_AFTER: Final = 5  # frames
_FRAME_S: Final = 0.01
_LAST_WORDS: Final = {
    "busy": "[0:19:06.419783286] [2746]  INFO Camera camera.cpp:839 Pipeline handler in use by another process\n"
    "ERROR: *** failed to acquire camera /base/soc/i2c0mux/i2c@1/ov5647@36 ***\n",
    "unplugged": "ERROR: *** no cameras available ***\n",
}


class Camera:
    """`program` is what `csi_program` has to name. Assign `behaviour` at any time: the next film is of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.program = folder / "rpicam-vid"
        self._control = folder / "behaviour"
        self.behaviour: Behaviour = "good"
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m {__name__} {self._control} "$@"\n')
        self.program.chmod(0o755)

    @property
    def behaviour(self) -> Behaviour:
        text = self._control.read_text()
        return next(word for word in get_args(Behaviour) if word == text)

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._control.write_text(behaviour)


def main(arguments: list[str]) -> int:
    """Film until SIGINT, or do what the control file says instead."""
    parser = argparse.ArgumentParser(prog="rpicam-vid")
    parser.add_argument("control", type=Path)
    parser.add_argument("--camera", type=int, default=0)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--timeout", choices=["0"], required=True)
    parser.add_argument("--codec", choices=["yuv420"], required=True)
    parser.add_argument("--output", choices=["-"], required=True)
    parser.add_argument("--nopreview", action="store_true", required=True)
    parser.add_argument("--flush", action="store_true")
    options = parser.parse_args(arguments)
    behaviour = options.control.read_text()
    if behaviour in _LAST_WORDS:
        sys.stderr.write(_LAST_WORDS[behaviour])
        return 255
    if behaviour == "hang":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if behaviour in ("hang", "no-frames"):
        return _wait_for_ever()
    if behaviour == "crash":
        sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
        sys.stderr.flush()
        signal.raise_signal(signal.SIGABRT)
    return _film(options.width, options.height, behaviour)


def _film(width: int, height: int, behaviour: str) -> int:
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    chroma = b"\x80" * (width * height // 2)
    if behaviour == "black":
        luma = bytearray(b"\x10" * (width * height))
    else:
        luma = bytearray(bytes(range(32, 224)) * (width * height // 192))
        luma[: len(MARK)] = MARK
    count = 0
    while not stopped and not (behaviour == "stalled" and count == STALLS_AFTER):
        if behaviour != "frozen":
            # A sensor is never without noise, not even behind a lens cap.
            luma[random.randrange(len(MARK), len(luma))] ^= 1
        try:
            _write(bytes(luma) + chroma)
        except BrokenPipeError:
            return 255
        count += 1
        time.sleep(_FRAME_S)
    while not stopped:
        time.sleep(_FRAME_S)
    return 0


def _write(frame: bytes) -> None:
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(1, rest) :]


def _wait_for_ever() -> int:
    while True:
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
