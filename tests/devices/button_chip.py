"""A GPIO chip with one button, in place of the package gpiod: what is written to a FIFO are its edges.

Each line of it is `down` or `up`, and how many seconds ago that was. The test writes, the process under test reads.
"""

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.devices import gpio_lines

LINE = "GPIO23"


class Button:
    """The test's end: whoever presses."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "gpiochip0").touch()
        self.folder = folder
        os.mkfifo(folder / "edges")
        self._edges = os.open(folder / "edges", os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        if self._edges >= 0:
            os.close(self._edges)
            self._edges = -1

    def down(self, ago_s: float = 0.0) -> None:
        os.write(self._edges, f"down {ago_s}\n".encode())

    def up(self, ago_s: float = 0.0) -> None:
        os.write(self._edges, f"up {ago_s}\n".encode())

    def press(self) -> None:
        os.write(self._edges, b"down 0.1\nup 0\n")

    def asked_for(self) -> dict[str, str]:
        """With what the line was requested; empty until it was."""
        file = self.folder / "requested"
        pairs = [line.partition("=")[::2] for line in file.read_text().splitlines()] if file.exists() else []
        return dict(pairs)


class _Request:
    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder / "edges", os.O_RDONLY | os.O_NONBLOCK)
        self._value = "inactive"

    def read_edge_events(self) -> list[Any]:
        events = []
        for line in os.read(self.fd, 4096).decode().splitlines():
            word, ago_s = line.split()
            self._value = {"down": "active", "up": "inactive"}[word]
            at_ns = time.monotonic_ns() - round(float(ago_s) * 1e9)
            events.append(SimpleNamespace(event_type={"down": "rising", "up": "falling"}[word], timestamp_ns=at_ns))
        return events

    def get_value(self, line: str) -> str:
        assert line == LINE
        return self._value

    def release(self) -> None:
        os.close(self.fd)


def install(folder: str) -> None:
    """In the process under test: libgpiod is this one."""
    chips = Path(folder)

    @contextlib.contextmanager
    def chip(path: str) -> Iterator[Any]:
        assert path == str(chips / "gpiochip0")
        yield SimpleNamespace(get_info=lambda: SimpleNamespace(num_lines=1), get_line_info=lambda _: SimpleNamespace(name=LINE))

    def request(path: str, consumer: str, config: dict[str, dict[str, Any]]) -> _Request:
        ((name, settings),) = config.items()
        assert name == LINE
        told = {"consumer": consumer, "path": path, **{key: str(value) for key, value in settings.items()}}
        request = _Request(chips)
        (chips / "requested.new").write_text("\n".join(f"{key}={value}" for key, value in told.items()))
        (chips / "requested.new").rename(chips / "requested")
        return request

    def settings(**given: Any) -> dict[str, Any]:
        assert isinstance(given["debounce_period"], datetime.timedelta)
        return given

    gpio_lines._CHIPS = chips  # type: ignore[misc]
    sys.modules["gpiod"] = SimpleNamespace(  # type: ignore[assignment]
        line=SimpleNamespace(
            Value=SimpleNamespace(ACTIVE="active", INACTIVE="inactive"),
            Direction=SimpleNamespace(INPUT="input"),
            Edge=SimpleNamespace(BOTH="both"),
            Bias=SimpleNamespace(PULL_UP="pull-up", PULL_DOWN="pull-down", DISABLED="disabled", AS_IS="as-is"),
            Clock=SimpleNamespace(MONOTONIC="monotonic"),
        ),
        EdgeEvent=SimpleNamespace(Type=SimpleNamespace(RISING_EDGE="rising", FALLING_EDGE="falling")),
        LineSettings=settings,
        Chip=chip,
        request_lines=request,
    )


PROGRAM = """
import sys
from tests.devices.button_chip import install
install(sys.argv.pop(1))
from agent.booth_button import main
sys.exit(main())
"""
