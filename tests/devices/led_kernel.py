"""LEDs of a kernel that is not there: a tree as in /sys/class/leds, and triggers that do what those of Linux 6.1 do.

Written after drivers/leds/led-{class,core,triggers}.c and trigger/ledtrig-{pattern,timer,transient}.c, with time of its own:
`pass_ms` lets it pass. Timers fire exactly, or (`coarse`) late as the timer wheel of a kernel with HZ=250 does.
`tests/virtual_booth` asks a real kernel the same.
"""

import asyncio
import bisect
import errno
from dataclasses import dataclass, field
from pathlib import Path

from agent.devices.sysfs import KernelFiles

ATTRIBUTES = {
    "none": (),
    "pattern": ("pattern", "repeat"),
    "timer": ("delay_on", "delay_off"),
    "transient": ("activate", "state", "duration"),
}
JIFFY_MS = 4


@dataclass(eq=False)
class Led:
    """One LED. `history` is every brightness that it was set to, and when."""

    maximum: int
    trigger: str = "none"
    due_ms: int | None = None
    history: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    attributes: dict[str, int] = field(default_factory=dict)  # as written
    tuples: list[tuple[int, int]] = field(default_factory=list)
    current: int = 0
    following: int = 1
    repeat: int = -1
    faded_ms: int = 0
    restore: int = 0

    def at(self, at_ms: int) -> int:
        return self.history[bisect.bisect(self.history, at_ms, key=lambda entry: entry[0]) - 1][1]


class LedKernel:
    """`files` and `write` are what a LedLight is given."""

    def __init__(
        self, root: Path, *names: str, triggers: tuple[str, ...] = ("pattern", "timer", "transient"), maximum: int = 255
    ) -> None:
        self.files = KernelFiles(root)
        self.now_ms = 0
        self.coarse = False
        self.udev_s = 0.0  # how long after the choice of a trigger its attributes can be written
        self.writes: list[tuple[str, str, str]] = []
        self.leds = {name: Led(maximum) for name in names}
        self._triggers = ("none", *triggers)
        for name in names:
            self._folder(name).mkdir(parents=True)
            (self._folder(name) / "max_brightness").write_text(f"{maximum}\n")
            (self._folder(name) / "brightness").write_text("0\n")
            self._show_trigger(name)

    def write(self, path: Path, text: str) -> None:
        """What write(2) to an attribute does."""
        name, attribute = path.parent.name, path.name
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        led = self.leds[name]
        self.writes.append((name, attribute, text))
        assert len(text.encode()) <= 4096, "the kernel takes a page, and what follows begins another pattern"
        if attribute == "trigger":
            self._choose(name, text)
            return
        path.write_text(text)
        if attribute == "pattern":
            self._pattern(led, text)
        elif attribute == "brightness":
            self._brightness(name, int(text))
        else:
            self._number(led, attribute, int(text))

    def pass_ms(self, ms: int) -> None:
        until_ms = self.now_ms + ms
        while True:
            due = [(led.due_ms, name) for name, led in self.leds.items() if led.due_ms is not None and led.due_ms <= until_ms]
            if not due:
                break
            at_ms, name = min(due)
            assert at_ms is not None
            self.now_ms = at_ms
            led = self.leds[name]
            led.due_ms = None
            {"pattern": self._pattern_step, "timer": self._blink, "transient": self._expire}[led.trigger](led)
        self.now_ms = until_ms

    def levels(self, at_ms: int) -> tuple[int, ...]:
        return tuple(led.at(at_ms) for led in self.leds.values())

    # --- sysfs ---

    def _folder(self, name: str) -> Path:
        return self.files.path("sys/class/leds") / name

    def _show_trigger(self, name: str) -> None:
        words = (f"[{word}]" if word == self.leds[name].trigger else word for word in self._triggers)
        (self._folder(name) / "trigger").write_text(" ".join(words) + "\n")

    def _choose(self, name: str, trigger: str) -> None:
        if trigger not in self._triggers:
            raise OSError(errno.EINVAL, "Invalid argument")
        led = self.leds[name]
        for attribute in ATTRIBUTES[led.trigger]:
            (self._folder(name) / attribute).unlink(missing_ok=True)
        led.due_ms = None
        self._set(led, 0)
        led.trigger, led.tuples, led.repeat, led.attributes = trigger, [], -1, {}
        self._show_trigger(name)
        if trigger == "timer":
            led.attributes = {"delay_on": 500, "delay_off": 500}
            self._arm(led, 1)
        if self.udev_s:
            asyncio.get_running_loop().call_later(self.udev_s, self._attributes_appear, name)
        else:
            self._attributes_appear(name)

    def _attributes_appear(self, name: str) -> None:
        for attribute in ATTRIBUTES[self.leds[name].trigger]:
            (self._folder(name) / attribute).write_text("0\n")

    def _brightness(self, name: str, value: int) -> None:
        if value == 0 and self.leds[name].trigger != "none":
            self._choose(name, "none")
        if self.leds[name].trigger != "timer":  # which takes it over when it switches on next
            self._set(self.leds[name], min(value, self.leds[name].maximum))
        else:
            self.leds[name].attributes["blink"] = value

    def _number(self, led: Led, attribute: str, value: int) -> None:
        led.attributes[attribute] = value
        if attribute == "repeat":
            if value < -1 or value == 0:
                raise OSError(errno.EINVAL, "Invalid argument")
            led.repeat = value
            self._begin(led)
        elif attribute in ("delay_on", "delay_off"):
            led.due_ms = None
            if led.attributes["delay_on"] == 0:
                self._set(led, 0)
            else:
                self._arm(led, JIFFY_MS)
        elif attribute == "activate":
            self._activate(led, value)

    def _set(self, led: Led, brightness: int) -> None:
        if led.history[-1][1] != brightness:
            led.history.append((self.now_ms, brightness))

    def _arm(self, led: Led, after_ms: int) -> None:
        led.due_ms = self.now_ms + after_ms
        if self.coarse:
            # calc_wheel_index() of kernel/time/timer.c: eight times coarser on each level, and always rounded up.
            now, expires = self.now_ms // JIFFY_MS, (self.now_ms + after_ms) // JIFFY_MS
            shift = next(3 * wheel for wheel in range(9) if expires - now < 63 << 3 * wheel)
            led.due_ms = ((expires + (1 << shift)) >> shift << shift) * JIFFY_MS

    # --- ledtrig-pattern ---

    def _pattern(self, led: Led, text: str) -> None:
        numbers = [int(word) for word in text.split()]
        tuples = list(zip(numbers[::2], numbers[1::2], strict=True))
        led.tuples = []
        led.due_ms = None
        if len(tuples) > 1024 or len(tuples) < 2 or any(level > led.maximum for level, _ in tuples):
            raise OSError(errno.EINVAL, "Invalid argument")
        led.tuples = tuples
        self._begin(led)

    def _begin(self, led: Led) -> None:
        led.due_ms, led.current, led.following, led.faded_ms = None, 0, 1, 0
        if led.tuples:
            led.due_ms = self.now_ms

    def _advance(self, led: Led) -> None:
        led.current = led.following
        if led.repeat != -1 and led.current == 0:
            led.repeat -= 1
        led.following = (led.following + 1) % len(led.tuples)
        led.faded_ms = 0

    def _pattern_step(self, led: Led) -> None:
        while led.repeat != 0:
            (level, ms), (next_level, next_ms) = led.tuples[led.current], led.tuples[led.following]
            if level == next_level:
                self._set(led, level)
                self._arm(led, ms)
                if next_ms == 0:
                    self._advance(led)
                self._advance(led)
                return
            if led.faded_ms <= ms:  # dims from one to the next, every 50 ms
                self._set(led, level + (next_level - level) * led.faded_ms // ms if ms >= 50 else level)
                self._arm(led, 50)
                led.faded_ms += 50
                return
            self._advance(led)

    # --- ledtrig-timer, ledtrig-transient ---

    def _blink(self, led: Led) -> None:
        lit = led.history[-1][1] == 0
        self._set(led, led.attributes.get("blink", led.maximum) if lit else 0)
        self._arm(led, led.attributes["delay_on" if lit else "delay_off"])

    def _activate(self, led: Led, value: int) -> None:
        if value == 0 and led.due_ms is not None:
            led.due_ms = None
            self._set(led, led.restore)
        elif value == 1 and led.due_ms is None and led.attributes.get("duration"):
            full = led.attributes.get("state", 0) == 1
            self._set(led, led.maximum if full else 0)
            led.restore = 0 if full else led.maximum
            self._arm(led, led.attributes["duration"])

    def _expire(self, led: Led) -> None:
        self._set(led, led.restore)
