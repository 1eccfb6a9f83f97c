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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NoReturn, Protocol, get_args

from agent.contract.light import COLOURS, HOLD_S, RHYTHMS, Colour, phase
from agent.contract.words import LightWord
from agent.devices.gpio_lines import GpioLines, NoSuchLine

_COLOURS: Final[tuple[Colour, ...]] = get_args(Colour)
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


def run(light: Light, lines: Lines, names: dict[Colour, str], listener: socket.socket, clock: Callable[[], float]) -> NoReturn:
    """Until a signal's exception. Sleeps until the next step, the next word, or the end of the hold."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    shown: set[str] | None = None
    while True:
        colours, left_s = light.look(clock())
        lit = {names[colour] for colour in colours}
        if lit != shown:
            lines.light(lit)
            shown = lit
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
            run(Light(options.hold_s, time.monotonic()), lines, names, listener, time.monotonic)
    except KeyboardInterrupt:
        return 0
    except (NoSuchLine, ImportError, OSError) as error:
        print(f"booth-light: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
