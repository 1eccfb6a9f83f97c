"""`booth-light`: drives the light on bare GPIO lines. A process of its own, so that it outlives the agent.

It listens on a datagram socket for a word of contract §9, blinks it, and shows `starting` from the start, and
whenever it has heard nothing for `HOLD_S`. Exit status 1: no lines or no socket, 2: the command line.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, Protocol, get_args

from agent.contract.light import COLOURS, HOLD_S, RHYTHMS, Colour, phase
from agent.contract.words import LightWord
from agent.devices.gpio_lines import GpioLines, NoSuchLine

_COLOURS: Final[tuple[Colour, ...]] = get_args(Colour)
_FEEDINGS: Final = 3  # in the watchdog's time: every 10 s of 30
_DATAGRAM_LIMIT: Final = 32  # bytes; the longest word has 11
_WORDS: Final[dict[bytes, LightWord]] = {word.encode(): word for word in get_args(LightWord)}


class Lines(Protocol):
    def light(self, lit: Iterable[str]) -> None: ...

    def close(self) -> None: ...


class PrintedLines:
    """`--dry-run`: says on standard output which lines would be on."""

    def light(self, lit: Iterable[str]) -> None:
        print(" ".join(sorted(lit)) or "dark", flush=True)

    def close(self) -> None:
        print("closed", flush=True)


class Light:
    """What to show, and until when. Times are seconds of one monotonic clock."""

    def __init__(self, hold_s: float, now_s: float) -> None:
        self._hold_s = hold_s
        self._word: LightWord = "starting"
        self._since_s = now_s
        self._until_s: float | None = None

    def heard(self, word: LightWord, now_s: float) -> None:
        """The agent lives, and this is its word."""
        self._turn_to(word, now_s)
        self._until_s = None if word == "starting" else now_s + self._hold_s

    def look(self, now_s: float) -> tuple[frozenset[Colour], float | None]:
        """The colours that are lit at `now_s`, and the seconds until that may change; None for never."""
        if self._until_s is not None and now_s >= self._until_s:
            self._turn_to("starting", self._until_s)
            self._until_s = None
        lit, left_ms = phase(RHYTHMS[self._word], int((now_s - self._since_s) * 1000))
        ends = [] if left_ms is None else [left_ms / 1000]
        if self._until_s is not None:
            ends.append(self._until_s - now_s)
        return COLOURS[self._word] if lit else frozenset(), min(ends, default=None)

    def _turn_to(self, word: LightWord, now_s: float) -> None:
        if word != self._word:  # the same word again must not disturb its rhythm
            self._word, self._since_s = word, now_s


class ServiceManager:
    """sd_notify(3) without libsystemd, which this process has no other use for. Says nothing where nobody listens."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        deadline_us = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = bool(address) and ours and deadline_us.isdigit() and int(deadline_us) > 0
        self._every_s = int(deadline_us) / 1e6 / _FEEDINGS if watched else None
        self._fed_s: float | None = None

    def ready(self) -> None:
        self._say(b"READY=1")

    def feed(self, now_s: float) -> float | None:
        """Feeds the watchdog when it is time; the seconds until the next time, None for never."""
        if self._every_s is None:
            return None
        if self._fed_s is None or now_s - self._fed_s >= self._every_s:
            self._say(b"WATCHDOG=1")
            self._fed_s = now_s
        return self._fed_s + self._every_s - now_s

    def _say(self, state: bytes) -> None:
        if not self._address:
            return
        # A manager that does not listen, or whose queue is full, must not stop the light.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender, contextlib.suppress(OSError):
            sender.sendto(state, self._address)


def run(
    light: Light, lines: Lines, names: dict[Colour, str], listener: socket.socket,
    clock: Callable[[], float], manager: ServiceManager,
) -> NoReturn:  # fmt: skip
    """Until a signal's exception. Sleeps until the next step, the next word, the end of the hold, or the watchdog's time."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    shown: set[str] | None = None
    while True:
        colours, step_s = light.look(clock())
        lit = {names[colour] for colour in colours}
        if lit != shown:
            lines.light(lit)
            shown = lit
        left_s = min((wait for wait in (step_s, manager.feed(clock())) if wait is not None), default=None)
        # Rounded up: a wait that ends before the step would only look again.
        poller.poll(None if left_s is None else int(left_s * 1000) + 1)
        with contextlib.suppress(BlockingIOError):
            while True:
                if (word := _WORDS.get(listener.recv(_DATAGRAM_LIMIT).strip())) is not None:
                    light.heard(word, clock())


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """The socket, for its owner and group. Raises OSError."""
    path.unlink(missing_ok=True)  # of a process that was killed; the service manager runs only one
    before = os.umask(0o117)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
    finally:
        os.umask(before)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="booth-light", description="Drives the light on GPIO lines, named as in `gpioinfo`.")
    for colour in _COLOURS:
        parser.add_argument(f"--{colour}", metavar="LINE", help=f"the line of the {colour} LED")
    parser.add_argument("--white", metavar="LINE", help="the only line, of a light of one colour")
    parser.add_argument("--active-low", action="store_true", help="the LEDs are on when their lines are low")
    parser.add_argument(
        "--socket", type=Path, default=Path("/run/booth-agent/light.sock"), metavar="PATH", help="where to listen"
    )
    parser.add_argument("--hold-s", type=float, default=HOLD_S, metavar="SECONDS", help="silence after which it shows `starting`")
    parser.add_argument("--dry-run", action="store_true", help="print the lines' states instead of driving lines")
    return parser


def _names(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[Colour, str]:
    given: dict[Colour, str | None] = {colour: getattr(options, colour) for colour in _COLOURS}
    names = {colour: name for colour, name in given.items() if name}
    if options.white and not names:
        return dict.fromkeys(_COLOURS, options.white)
    if options.white or len(set(names.values())) != len(_COLOURS):
        parser.error("write --red, --green and --blue with a line each, or --white alone")
    return names


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    names = _names(parser, options)
    # An ordinary way out for SIGTERM: the lines are dark and the socket is gone afterwards.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            lines: Lines = PrintedLines() if options.dry_run else GpioLines(sorted(set(names.values())), options.active_low)
            stack.callback(lines.close)
            listener = stack.enter_context(listening(options.socket))
            manager = ServiceManager(os.environ)
            manager.ready()
            run(Light(options.hold_s, time.monotonic()), lines, names, listener, time.monotonic, manager)
    except KeyboardInterrupt:
        return 0
    except (NoSuchLine, ImportError, OSError) as error:
        print(f"booth-light: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
