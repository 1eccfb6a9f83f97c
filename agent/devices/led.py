"""The light on LEDs of the kernel: three in red, green and blue, or one. /sys/class/leds, without privilege.

The udev rules (udev/71-booth-light.rules) give the LEDs to the agent's group. What is written, and why a dead agent
leaves `starting`, stands in `devices.led_plan`.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final, Protocol

from agent.contract.light import COLOURS, RHYTHMS, Colour, level, period_ms
from agent.contract.words import LightWord
from agent.devices.led_plan import Lamp, Plan, Writes, plan
from agent.devices.sysfs import KernelFiles

_UDEV_S: Final = 2.0  # what udev is given to set the permissions of a trigger's new attributes
_LOOK_S: Final = 0.05

Write = Callable[[Path, str], None]


class LightUnavailable(OSError):
    """The light cannot be driven now. The text says what to do."""


class LightHardware(Protocol):
    """A light. Each raises LightUnavailable."""

    async def show(self, word: LightWord, dim_pct: int) -> None:
        """Show a word from now on, at `dim_pct` of the full brightness where it can be dimmed."""

    async def rearm(self) -> None:
        """The agent lives: hold off `starting` for another `HOLD_S`."""

    async def leave_starting(self) -> None:
        """Show `starting` without end, with nobody left to do anything."""


def write_attribute(path: Path, text: str) -> None:
    """One write(2), as sysfs wants it. Never creates the file. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        if os.write(descriptor, text.encode()) != len(text):
            raise OSError(errno.EFBIG, "taken in part only", str(path))
    finally:
        os.close(descriptor)


class LedLight:
    """Drives the LEDs of these names. Writes nothing as long as nothing changes, but for the re-arming."""

    def __init__(self, files: KernelFiles, red: str, green: str, blue: str, write: Write = write_attribute) -> None:
        colours: dict[str, set[Colour]] = {}
        named: tuple[tuple[str, Colour], ...] = ((red, "red"), (green, "green"), (blue, "blue"))
        for name, colour in named:
            colours.setdefault(name, set()).add(colour)
        self._leds = [_Led(files, name, colours[name], write) for name in colours]
        self._turn = asyncio.Lock()
        self._shown: tuple[LightWord, int] | None = None
        self._plans: list[Plan] = []
        self._armed_at_s = 0.0
        self._dim_pct = 100

    @classmethod
    def one_colour(cls, files: KernelFiles, name: str, write: Write = write_attribute) -> "LedLight":
        """One LED for all colours: the rhythm alone tells the words apart."""
        return cls(files, name, name, name, write)

    async def show(self, word: LightWord, dim_pct: int) -> None:
        async with self._turn:
            if self._shown != (word, dim_pct):
                await self._drive(word, dim_pct)

    async def leave_starting(self) -> None:
        await self.show("starting", self._dim_pct)

    async def rearm(self) -> None:
        """Begins the rhythm again, where it ends: up to one period (3 s) later."""
        shown = self._shown
        if shown is None or not any(item.rearm for item in self._plans):
            return
        word, dim_pct = shown
        if period_s := period_ms(RHYTHMS[word]) / 1000:
            # The kernel's timers are late by a few per cent. So it is in its last pause then, not in a flash.
            await asyncio.sleep(period_s - (_now_s() - self._armed_at_s) % period_s)
        async with self._turn:
            if self._shown is not shown:
                return  # another word meanwhile, with a dead-man of its own
            try:
                self._write([item.rearm for item in self._plans])
            except OSError:
                # Somebody chose another trigger by hand, or the LED was plugged anew: all of it again.
                await self._drive(word, dim_pct)

    async def _drive(self, word: LightWord, dim_pct: int) -> None:
        self._shown = None
        try:
            triggers = [led.triggers() for led in self._leds]
            maxima = [led.maximum() for led in self._leds]
            common = set[str].intersection(*triggers)
            widest = level(max(maxima), dim_pct)
            self._plans = [
                plan(word, Lamp(led.lit(word), level(maximum, dim_pct), widest, len(self._leds) == 1), common)
                for led, maximum in zip(self._leds, maxima, strict=True)
            ]
            for led, item in zip(self._leds, self._plans, strict=True):
                led.choose(item.trigger)
            for led, item in zip(self._leds, self._plans, strict=True):
                await led.until_writable({attribute for attribute, _ in item.writes})
            self._write([item.writes for item in self._plans])
        except OSError as error:
            raise LightUnavailable(_advice(error)) from error
        self._shown = (word, dim_pct)
        self._dim_pct = dim_pct

    def _write(self, writes: Iterable[Writes]) -> None:
        """The same step on all LEDs before the next step on any: they blink together."""
        named = ([(led, attribute, text) for attribute, text in items] for led, items in zip(self._leds, writes, strict=True))
        for step in filter(None, chain.from_iterable(zip_longest(*named))):
            led, attribute, text = step
            led.write(attribute, text)
        self._armed_at_s = _now_s()


class _Led:
    """One LED's attributes. Every method raises OSError with the file that it is about."""

    def __init__(self, files: KernelFiles, name: str, colours: set[Colour], write: Write) -> None:
        self._files = files
        self._name = f"sys/class/leds/{name}"
        self._colours = colours
        self._write = write

    def lit(self, word: LightWord) -> bool:
        return not self._colours.isdisjoint(COLOURS[word])

    def maximum(self) -> int:
        maximum = self._files.number(f"{self._name}/max_brightness")
        if maximum is None:
            raise FileNotFoundError(errno.ENOENT, "no such LED", str(self._path("")))
        return maximum

    def triggers(self) -> set[str]:
        """Those that the LED can have now; the modules of the others are not loaded."""
        return {word.strip("[]") for word in self._trigger_words()} | {"none"}

    def choose(self, trigger: str) -> None:
        # Not where it is chosen already: that would switch the LED off and on.
        words = self._trigger_words()
        if words and f"[{trigger}]" not in words:
            self.write("trigger", trigger)

    async def until_writable(self, attributes: set[str]) -> None:
        """The trigger's attributes belong to root until udev has heard of them."""
        until_s = _now_s() + _UDEV_S
        while missing := [path for path in map(self._path, sorted(attributes)) if not os.access(path, os.W_OK)]:
            if _now_s() >= until_s:
                raise PermissionError(errno.EACCES, "not writable", str(missing[0]))
            await asyncio.sleep(_LOOK_S)

    def write(self, attribute: str, text: str) -> None:
        self._write(self._path(attribute), text)

    def _path(self, attribute: str) -> Path:
        return self._files.path(self._name) / attribute

    def _trigger_words(self) -> list[str]:
        return (self._files.text(f"{self._name}/trigger") or "").split()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _advice(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"{error.filename} is missing: look at `ls /sys/class/leds` and at the device tree (docs/light.md)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename} may not be written: install udev/71-booth-light.rules and run `udevadm trigger -c add -s leds`; "
            "ReadWritePaths= of the unit has to name the LED (docs/light.md)"
        )
    return f"{error.filename or 'the LED'}: {error.strerror} (docs/light.md)"
