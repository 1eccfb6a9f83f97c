"""What the demo shows: a live screen on a terminal, plain lines elsewhere. Only what the broker told."""

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from agent.contract.topics import Topic
from agent.rules.fleet import BoothPicture, Fleet, message_line
from agent.simulator.booth import SimulatedBooth

_COLOURS: Final = {
    "starting": "white", "locate": "white", "working": "white", "your-turn": "blue",
    "no-internet": "yellow", "broken": "red", "ok": "green",
    "degraded": "yellow", "fault": "red", "absent": "red", "down": "red", "unknown": "dim", "online": "green",
    "lost": "red", "asleep": "dim", "maintenance": "cyan", "warning": "yellow", "info": "dim",
}  # fmt: skip


_FEWEST_EVENTS: Final = 3
_EVENTS: Final = 5  # lines of them that stay, where there is room for more than them


class View(Protocol):
    def start(self) -> None: ...
    def ending(self, fleet: Fleet) -> None: ...
    def stop(self) -> None: ...
    def show(self, fleet: Fleet) -> None: ...
    def message(self, topic: Topic, payload: bytes) -> None: ...
    def acted(self, action: str, broken: set[str]) -> None: ...
    def note(self, text: str) -> None: ...
    def printed(self, line: str) -> None: ...
    def keyboard(self, on_key: Callable[[str], None]) -> contextlib.AbstractContextManager[None]: ...


def make_view(booth: SimulatedBooth, *, plain: bool) -> View:
    """The live screen where there is a terminal and the library for it."""
    if not plain:
        try:
            return LiveScreen(booth)
        except ImportError:
            print("The live screen needs the package rich (pip install booth-agent[demo]); plain lines instead.")
    return PlainLines(booth)


def subscription(booth: SimulatedBooth) -> str:
    """The same in another terminal."""
    return f"mosquitto_sub -V mqttv5 -h 127.0.0.1 -p {booth.broker.port} -v -t '{booth.root_topic}/#'"


def broker_url(booth: SimulatedBooth) -> str:
    """For boothctl."""
    return f"mqtt://127.0.0.1:{booth.broker.port}"


def introduction(booth: SimulatedBooth) -> Iterator[str]:
    """What is said once, before anything else."""
    yield "A simulated booth with its agent and a broker of its own. The same in another terminal:"
    yield f"  {subscription(booth)}"
    yield f"boothctl finds the broker by  export BOOTHCTL_BROKER={broker_url(booth)}"
    if booth.operator is not None:
        yield "The booth trusts these development keys, for what has to be signed (boothctl … --sign KEYFILE):"
        yield from (f"  {file}" for file in sorted(booth.folder.glob("development-*.pem")))
    if "receipt-printer" in booth.profile:
        yield f"What the receipt printer prints is added to  {booth.receipt.file}"


class PlainLines:
    """A line for each message, with the seconds since the start."""

    def __init__(self, booth: SimulatedBooth) -> None:
        self._booth = booth
        self._started_s = time.monotonic()

    def start(self) -> None:
        for line in introduction(self._booth):
            print(line, flush=True)

    def ending(self, fleet: Fleet) -> None:
        for booth in fleet.sorted():
            services = " ".join(f"{name}:{word}" for name, word in booth.services.items())
            print(f"The end: {booth.booth} {booth.word}, light {booth.light}, {services}", flush=True)

    def stop(self) -> None:
        return

    def show(self, fleet: Fleet) -> None:
        return

    def message(self, topic: Topic, payload: bytes) -> None:
        self.note(message_line(topic, payload))

    def acted(self, action: str, broken: set[str]) -> None:
        self.note(f">>> {action}" + (f"  (broken: {', '.join(sorted(broken))})" if broken else ""))

    def note(self, text: str) -> None:
        print(f"{time.monotonic() - self._started_s:7.2f}  {text}", flush=True)

    def printed(self, line: str) -> None:
        self.note(f"receipt | {line}".rstrip())

    def keyboard(self, on_key: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
        del on_key
        return contextlib.nullcontext()


class LiveScreen:
    """Services, peripherals, alarms, events and the light, with rich. Raises ImportError without it."""

    def __init__(self, booth: SimulatedBooth) -> None:
        from rich.live import Live  # noqa: PLC0415 - only the live screen needs it

        self._booth = booth
        self._log: deque[str] = deque(maxlen=200)
        self._broken: set[str] = set()
        self._live = Live(screen=True, auto_refresh=False)

    def start(self) -> None:
        for line in introduction(self._booth):  # it stands there again when the screen has gone
            print(line, flush=True)
        if self._booth.operator is not None:
            self.note(f"keys to sign with: {self._booth.folder}/development-*.pem")
        if "receipt-printer" in self._booth.profile:
            self.note(f"what is printed: {self._booth.receipt.file}")
        self._live.start()

    def ending(self, fleet: Fleet) -> None:
        self.show(fleet)

    def stop(self) -> None:
        self._live.stop()

    def message(self, topic: Topic, payload: bytes) -> None:
        if topic.kind in ("event", "alarm", "state"):
            self.note(message_line(topic, payload))

    def acted(self, action: str, broken: set[str]) -> None:
        self._broken = broken
        self.note(f">>> {action}")

    def note(self, text: str) -> None:
        self._log.append(f"{time.strftime('%H:%M:%S')}  {text}")

    def printed(self, line: str) -> None:
        return  # the page shows the end of the roll

    def show(self, fleet: Fleet) -> None:
        booths = fleet.sorted()
        if booths:
            self._live.update(self._page(booths[0]), refresh=True)

    @contextlib.contextmanager
    def keyboard(self, on_key: Callable[[str], None]) -> Iterator[None]:
        if not sys.stdin.isatty():
            yield
            return
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        loop = asyncio.get_running_loop()

        def typed() -> None:
            # Not through sys.stdin: its buffer would keep what was typed together, unannounced.
            try:
                keys = os.read(descriptor, 64)
            except OSError:
                keys = b""
            if not keys:  # the terminal is gone, and would be readable for ever
                loop.remove_reader(descriptor)
            for key in keys.decode(errors="ignore"):
                on_key(key)

        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, typed)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def _page(self, booth: BoothPicture) -> Any:
        from rich.console import Group  # noqa: PLC0415
        from rich.panel import Panel  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        head = Text.assemble(
            (f" {booth.booth} ", "bold"), "  ", _coloured(booth.word), f"  clock {booth.state.get('clock', '?')}   light ",
            _coloured(booth.light, bullet=True), "   ",
            *(part for name, word in sorted(booth.services.items()) for part in (f"{name} ", _coloured(word), "   ")),
        )  # fmt: skip
        size = self._live.console.size
        keys = _filled(
            [f"[{s.key}] {s.repairs if s.breaks in self._broken else s.breaks}" for s in self._booth.switches], size.width
        )
        reach = [f"[q] quit   BOOTHCTL_BROKER={broker_url(self._booth)}", subscription(self._booth)]
        reach = [line[at : at + size.width] for line in reach for at in range(0, len(line), size.width)]
        above = len(head.wrap(self._live.console, size.width - 4)) + 2
        taken = above + len(reach) + (len(booth.health) + 3) + (max(1, len(booth.alarms)) + 2) + len(keys) + 2
        alarms = Panel(_alarms(booth), title="alarms", title_align="left")
        if size.height - taken < _FEWEST_EVENTS:  # without the keys, which `--actions` lists too, and a frame
            taken, keys, alarms = taken - len(keys) - 2, [], _alarms(booth)
        room = max(_FEWEST_EVENTS, size.height - taken)
        # The ticket takes what is beyond the events' own need.
        roll = list(self._booth.receipt.lines)[-(room - _EVENTS - 2) :] if room > _EVENTS + 2 else []
        if roll:
            room -= len(roll) + 2
        return Group(
            Panel(head, title="booth-agent demo", title_align="left"),
            _lines(reach, style="dim"),
            Panel(_peripherals(booth), title="peripherals", title_align="left"),
            alarms,
            Panel(_lines(list(self._log)[-room:]), title="events", title_align="left"),
            *([Panel(_lines(roll), title=str(self._booth.receipt.file), title_align="left")] if roll else []),
            *([_lines(keys)] if keys else []),
        )


def _lines(lines: Sequence[str], style: str = "") -> Any:
    """A row for each, whatever its length: the page is as high as it was reckoned to be."""
    from rich.text import Text  # noqa: PLC0415

    return Text("\n".join(lines), style=style, no_wrap=True, overflow="ellipsis")


def _filled(items: Sequence[str], width: int) -> list[str]:
    """As few lines as hold the items, none of them broken."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 2 + len(item) <= width:
            lines[-1] += "  " + item
        else:
            lines.append(item)
    return lines


def _peripherals(booth: BoothPicture) -> Any:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, expand=True)
    widest = max((len(_codes(health)) for health in booth.health.values()), default=0)
    for column, width in (("peripheral", 16), ("status", 10), ("findings", min(40, max(8, widest)))):
        table.add_column(column, no_wrap=True, width=width)
    table.add_column("facts", no_wrap=True, ratio=1)
    for name, health in sorted(booth.health.items()):
        facts = " ".join(f"{key}={value}" for key, value in health["facts"].items() if value is not None)
        table.add_row(name, _coloured(health["status"], bullet=True), _codes(health), facts)
    return table


def _codes(health: dict[str, Any]) -> str:
    return ", ".join(finding["code"] for finding in health["findings"]) or "–"


def _alarms(booth: BoothPicture) -> Any:
    from rich.text import Text  # noqa: PLC0415

    lines = [
        Text.assemble(
            _coloured(alarm["severity"], bullet=True), f"  {peripheral}/{code}  [{alarm['fix_by']}]  {alarm['text']['fr']}"
        )
        for (peripheral, code), alarm in sorted(booth.alarms.items())
    ]
    joined = Text("\n").join(lines) if lines else Text("no alarm", style="dim")
    joined.no_wrap, joined.overflow = True, "ellipsis"
    return joined


def _coloured(word: str, *, bullet: bool = False) -> Any:
    from rich.text import Text  # noqa: PLC0415

    return Text(("● " if bullet else "") + word, style=_COLOURS.get(word, ""))
