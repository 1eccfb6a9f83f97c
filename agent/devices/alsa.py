"""Sound cards: /proc/asound (kernel documentation: sound/designs/procfile.rst), and the mixer as amixer(1) shows it."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from agent.contract.words import printable
from agent.devices.sysfs import KernelFiles

Direction = Literal["capture", "playback"]

_LETTERS: Final[Mapping[Direction, str]] = {"capture": "c", "playback": "p"}
_CARD: Final = re.compile(r" *(\d+) \[(.*?) *\]: (.*)")
_CONTROL: Final = re.compile(r"Simple mixer control '(.*)',\d+")
_CHANNEL: Final = re.compile(r"  [^:]+: (.*\[.*)")
_PCM: Final = re.compile(r"pcm\d+[cp]")
_INAUDIBLE_DB: Final = -30.0  # a volume of 0 % that amplifies by less than this lets nothing through

# Everything goes through those of the first set; those of the second are ways beside each other (a headphone socket
# and a built-in speaker), of which one is enough. Names as the kernel's drivers give them (sound/designs/control-names.rst).
_IN_LINE: Final[Mapping[Direction, frozenset[str]]] = {
    "capture": frozenset({"Capture"}),
    "playback": frozenset({"Master", "PCM", "Digital"}),
}
_BESIDE: Final[Mapping[Direction, frozenset[str]]] = {
    "capture": frozenset({"Mic", "Internal Mic", "Front Mic", "Headset", "Headset Mic"}),
    "playback": frozenset({"Speaker", "Headphone", "Headset", "Line Out", "Front"}),
}


@dataclass(frozen=True)
class Card:
    """One sound card. `id` is what `amixer -c` and ALSA's names call it; both texts are harmless already."""

    index: int
    id: str
    name: str

    @property
    def folder(self) -> str:
        return f"proc/asound/card{self.index}"


def cards(files: KernelFiles) -> list[Card]:
    """The cards that the kernel has now; none where it has no sound at all."""
    found = (_CARD.fullmatch(line) for line in (files.text("proc/asound/cards") or "").splitlines())
    return [Card(int(match[1]), printable(match[2]), printable(match[3])) for match in found if match]


def can(files: KernelFiles, card: Card, direction: Direction) -> bool:
    """Whether the card records, or plays."""
    return bool(_streams(files, card, direction))


def runs(files: KernelFiles, card: Card, direction: Direction) -> bool:
    """Whether sound flows now. A server that has the device open and lets it rest does not count."""
    return any(
        "state: RUNNING" in (files.text(f"{stream}/{part}/status") or "").splitlines()
        for stream in _streams(files, card, direction)
        for part in files.names(stream)
        if part.startswith("sub")
    )


def _streams(files: KernelFiles, card: Card, direction: Direction) -> list[str]:
    letter = _LETTERS[direction]
    return [f"{card.folder}/{name}" for name in files.names(card.folder) if _PCM.fullmatch(name) and name.endswith(letter)]


@dataclass(frozen=True)
class Control:
    """One mixer control. For each direction: whether it lets nothing through; None where it has no say."""

    name: str
    capture: bool | None
    playback: bool | None


def mixer(request: dict[str, Any]) -> dict[str, Any]:
    """A worker's job: `{"program", "card"}` to `{"controls": […]}`, or `{"problem"}` in words.

    amixer opens the card's control device and nothing else: no sound is recorded, none is played.
    """
    command = [request["program"], "-c", str(request["card"]), "scontents"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        return {"problem": f"{request['program']}: {error.strerror}"}
    if done.returncode != 0:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        return {"problem": printable(said[0]) if said else f"amixer ended with {done.returncode}"}
    return {"controls": [vars(control) for control in parse(done.stdout.decode(errors="replace"))]}


def parse(text: str) -> list[Control]:
    """What `amixer scontents` prints; what is not understood has no say."""
    controls: list[Control] = []
    name: str | None = None
    channels: list[str] = []

    def end() -> None:
        if name is not None:
            controls.append(Control(name, _silent(channels, "capture"), _silent(channels, "playback")))
        channels.clear()

    for line in text.splitlines():
        if heading := _CONTROL.fullmatch(line):
            end()
            name = heading[1]
        elif channel := _CHANNEL.fullmatch(line):
            channels.append(channel[1])
    end()
    return controls


def muted(controls: Sequence[Control], direction: Direction, only: str | None = None) -> bool:
    """Whether nothing gets through. `only` names the one control that decides, where the common names mislead.

    A card without any control of this direction (many USB microphones) cannot be muted.
    """
    states = [(control.name, control.capture if direction == "capture" else control.playback) for control in controls]
    said = [(name, silent) for name, silent in states if silent is not None]
    if only is not None:
        return any(name == only and silent for name, silent in said)
    in_line = [silent for name, silent in said if name in _IN_LINE[direction]]
    beside = [silent for name, silent in said if name in _BESIDE[direction]]
    if not in_line and not beside:
        beside = [silent for _, silent in said]  # a USB device may name its controls as it likes
    return any(in_line) or (bool(beside) and all(beside))


def _silent(channels: Sequence[str], direction: Direction) -> bool | None:
    """Silent when every channel is: one that is heard is enough."""
    states = [state for channel in channels if (state := _channel_silent(channel, direction)) is not None]
    return all(states) if states else None


def _channel_silent(text: str, direction: Direction) -> bool | None:
    """Of `Playback 87 [69%] [-20.00dB] [on] Capture 0 [0%] [off]`, or `0 [33%] Capture [off]`: the volume is common to both."""
    common, *parts = re.split(r"\b(Playback|Capture)\b", text)
    own = "".join(values for word, values in zip(parts[::2], parts[1::2], strict=True) if word.lower() == direction)
    marks = re.findall(r"\[([^\]]*)\]", common + own)
    if not marks:
        return None
    decibels = [float(mark[:-2]) for mark in marks if re.fullmatch(r"-?[\d.]+dB", mark)]
    at_zero = "0%" in marks and all(value <= _INAUDIBLE_DB for value in decibels)
    return "off" in marks or at_zero
