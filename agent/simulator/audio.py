"""A sound card: its files below /proc/asound, and a stand-in for amixer that says what a file holds."""

import shlex
import shutil
from pathlib import Path
from typing import Final

from agent.simulator.machine import SimulatedFiles

_STREAMS: Final = ("pcm0c", "pcm0p")
_RUNNING: Final = "state: RUNNING\nowner_pid   : 1234"


class SoundCard:
    """A USB headset, number 1. The option `amixer` is the path `amixer`; tell the agent of `plug` and `unplug` by a
    uevent with `devpath`."""

    devpath = "/devices/simulated/sound/card1/controlC1"

    def __init__(self, files: SimulatedFiles, folder: Path, name: str = "USB-Audio - Simulated Headset") -> None:
        self._files = files
        self._name = name
        self._mixer = folder / "mixer.txt"
        self._hanging = folder / "amixer-hangs"
        self.amixer = folder / "amixer"
        folder.mkdir(parents=True, exist_ok=True)
        here = shlex.quote(str(folder))
        self.amixer.write_text(
            f"#!/bin/sh\ncd {here}\nif [ -e amixer-hangs ]; then echo $$ > amixer-pid; exec sleep 3600; fi\nexec cat mixer.txt\n"
        )
        self.amixer.chmod(0o755)
        self.mute()
        self.plug()

    def plug(self, *, records: bool = True) -> None:
        """`records`: with its microphone, or as a loudspeaker only."""
        self.unplug()
        self._files.write("proc/asound/cards", f" 1 [Headset        ]: {self._name}\n{'':22}Simulated at usb-1.3, full speed")
        for stream in _STREAMS:
            if records or stream.endswith("p"):
                self._files.write(f"proc/asound/card1/{stream}/sub0/status", "closed")

    def unplug(self) -> None:
        self._files.write("proc/asound/cards", "--- no soundcards ---")
        shutil.rmtree(self._files.path("proc/asound/card1"), ignore_errors=True)

    def mute(self, *, microphone: bool = False, speaker: bool = False) -> None:
        """As with alsamixer: whatever is not muted here is heard."""
        switches = {True: "off", False: "on"}
        self._mixer.write_text(
            "Simple mixer control 'Headset',0\n"
            "  Capabilities: pvolume pswitch pswitch-joined cvolume cvolume-joined cswitch cswitch-joined\n"
            "  Playback channels: Front Left - Front Right\n"
            "  Capture channels: Mono\n"
            "  Limits: Playback 0 - 31 Capture 0 - 35\n"
            f"  Mono: Capture 28 [80%] [21.00dB] [{switches[microphone]}]\n"
            f"  Front Left: Playback 22 [71%] [-9.00dB] [{switches[speaker]}]\n"
            f"  Front Right: Playback 22 [71%] [-9.00dB] [{switches[speaker]}]\n"
        )

    def use(self, stream: str, *, used: bool) -> None:
        """Some program records (`pcm0c`) or plays (`pcm0p`)."""
        self._files.write(f"proc/asound/card1/{stream}/sub0/status", _RUNNING if used else "closed")

    @property
    def hanging_pid(self) -> int | None:
        """The newest amixer that hung; it may be dead."""
        try:
            return int((self.amixer.parent / "amixer-pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def hang(self, *, hangs: bool) -> None:
        """amixer never answers, as when the card's USB firmware is stuck."""
        if hangs:
            self._hanging.touch()
        else:
            self._hanging.unlink(missing_ok=True)
