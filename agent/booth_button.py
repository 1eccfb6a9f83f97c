"""`booth-button`: waits for the shopkeeper's button on a GPIO line, and tells the agent. A process of its own: GPIO chips and
the library for them are nothing that the agent should have.

It tells wishes, not edges: `pressed` once the button is up again, `held` once while it is still down after `HELD_S`. So a
process that dies in between leaves nobody waiting for the other edge. Exit status 1: no line, 2: the command line, or no
`[button]` in agent.toml.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Protocol

from agent.contract.button import HELD_S, SOCKET_NAME, Button, ButtonTable, ButtonWord
from agent.contract.typed import Invalid, build
from agent.devices.gpio_button import ButtonLine, Edge
from agent.devices.gpio_lines import NoSuchLine

_TOLD_S: Final = 1.0  # an edge that is read later than this was nobody's wish any more: the process was stopped meanwhile


@dataclass(frozen=True)
class _File:
    """Of agent.toml, what concerns us; the agent complains about the rest."""

    button: Button | None = None


class Line(Protocol):
    def fileno(self) -> int: ...
    def edges(self) -> list[Edge]: ...

    @property
    def down(self) -> bool: ...


class Press:
    """What the edges mean. A button that is down when this begins was pressed by nobody."""

    def __init__(self) -> None:
        self._since_s: float | None = None  # of a press that nothing was said of yet

    def edge(self, edge: Edge, now_s: float) -> ButtonWord | None:
        """What is wished by it."""
        since_s, self._since_s = self._since_s, edge.at_s if edge.down else None
        if edge.down or since_s is None or now_s - edge.at_s > _TOLD_S:
            return None
        return "held" if edge.at_s - since_s >= HELD_S else "pressed"

    def left_s(self, now_s: float) -> float | None:
        """Until it has been held long enough; None where nothing is to be waited for."""
        return None if self._since_s is None else max(0.0, self._since_s + HELD_S - now_s)

    def held(self, *, down: bool, now_s: float) -> ButtonWord | None:
        """The time is over, and the line is so: the wish, once for each press."""
        since_s, self._since_s = self._since_s, None
        late = since_s is None or now_s - since_s - HELD_S > _TOLD_S
        return "held" if down and not late else None


def run(line: Line, tell: Callable[[ButtonWord], None], clock: Callable[[], float]) -> NoReturn:
    """Until a signal's exception, or OSError where the chip is gone. Sleeps until somebody presses."""
    press = Press()
    poller = select.poll()
    poller.register(line.fileno(), select.POLLIN)
    while True:
        left_s = press.left_s(clock())
        # Rounded up: a wait that ends before its time would only look again.
        wishes: list[ButtonWord | None] = []
        if poller.poll(None if left_s is None else int(left_s * 1000) + 1):
            wishes = [press.edge(edge, clock()) for edge in line.edges()]
        elif press.left_s(clock()) == 0:
            wishes = [press.held(down=line.down, now_s=clock())]
        for wish in wishes:
            if wish is not None:
                tell(wish)


def told(path: Path) -> Callable[[ButtonWord], None]:
    """Tells the agent, and waits for nobody."""

    def tell(word: ButtonWord) -> None:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as sender:
            try:
                sender.sendto(word.encode(), str(path))
            except OSError as error:
                _say(f"{word}, and the agent does not listen at {path} ({error.strerror}): systemctl status booth-agent")

    return tell


def table_in(file: Path) -> ButtonTable | None:
    """`[button]`; None after the problem was printed."""
    try:
        with open(file, "rb") as stream:
            table = build(_File, tomllib.load(stream), unknown="ignore").button
    except OSError as error:
        _say(f"{file}: {error.strerror}; name the file with --config FILE")
    except ValueError as error:  # Invalid is one
        _say(f"{file}: {error}" if isinstance(error, Invalid) else f"{file} is not TOML: {error}")
    else:
        if table is None:
            _say(f"there is no [button] in {file} (docs/button.md)")
        return table
    return None


def _say(text: str) -> None:
    print(f"booth-button: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="booth-button", description="Tells the agent when the shopkeeper's button is pressed.")
    folder = Path(os.environ.get("CONFIGURATION_DIRECTORY", "/etc/booth-agent"))
    parser.add_argument(
        "--config", type=Path, default=folder / "agent.toml", metavar="FILE", help="agent.toml, with its [button]"
    )
    parser.add_argument(
        "--socket", type=Path, default=Path("/run/booth-agent") / SOCKET_NAME, metavar="PATH", help="where the agent listens"
    )
    parser.add_argument("--print", action="store_true", help="print what would be told instead of telling it: to try the wiring")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    table = table_in(options.config)
    if table is None:
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tell = (lambda word: print(word, flush=True)) if options.print else told(options.socket)
    try:
        line = ButtonLine(table.line, active_low=table.active_low, bias=table.held_by)
        with contextlib.closing(line):
            run(line, tell, time.monotonic)
    except KeyboardInterrupt:
        return 0
    except ImportError:
        _say("the Python package gpiod is missing: install booth-agent with its extra gpio")
    except NoSuchLine as error:
        _say(str(error))
    except OSError as error:
        _say(f"the line is gone ({error.strerror})")
    return 1


if __name__ == "__main__":
    sys.exit(main())
