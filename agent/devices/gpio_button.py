"""A push-button on a GPIO line, through libgpiod 2: the kernel debounces it and tells each edge with its time."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from agent.contract.button import Bias
from agent.devices.gpio_lines import request_line

_BOUNCES: Final = timedelta(milliseconds=30)


@dataclass(frozen=True)
class Edge:
    """It went down, or up. `at_s`: CLOCK_MONOTONIC, as `time.monotonic` has it."""

    down: bool
    at_s: float


class ButtonLine:
    """Owns the line as long as it lives. Readable (`fileno`) when there are edges."""

    def __init__(self, name: str, *, active_low: bool, bias: Bias) -> None:
        """Raises NoSuchLine; ImportError where the package gpiod is not installed."""
        import gpiod  # noqa: PLC0415 - an extra: only where there is a button

        settings = gpiod.LineSettings(
            direction=gpiod.line.Direction.INPUT,
            edge_detection=gpiod.line.Edge.BOTH,
            bias=getattr(gpiod.line.Bias, bias.replace("-", "_").upper()),
            active_low=active_low,
            debounce_period=_BOUNCES,
            event_clock=gpiod.line.Clock.MONOTONIC,
        )
        self._name = name
        self._down_edge = gpiod.EdgeEvent.Type.RISING_EDGE  # logical: of an active-low line it is the falling one
        self._active = gpiod.line.Value.ACTIVE
        self._request = request_line(gpiod, name, settings, "booth-button")

    def fileno(self) -> int:
        return int(self._request.fd)

    def edges(self) -> list[Edge]:
        """Those that came since; waits for one where there is none. Raises OSError where the chip is gone."""
        return [Edge(event.event_type == self._down_edge, event.timestamp_ns / 1e9) for event in self._request.read_edge_events()]

    @property
    def down(self) -> bool:
        """Now, whatever edges were told. Raises OSError where the chip is gone."""
        return bool(self._request.get_value(self._name) == self._active)

    def close(self) -> None:
        self._request.release()
