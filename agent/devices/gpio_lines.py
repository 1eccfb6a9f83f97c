"""Lines of GPIO chips, found by their names, through libgpiod 2 (Python package gpiod)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

_CHIPS: Final = Path("/dev")


class NoSuchLine(LookupError):
    """No chip, or more than one, has a line of this name, or it is taken. The text says which, and what to do."""


class GpioLines:
    """Owns the lines as long as it lives; all dark at first and in the end."""

    def __init__(self, names: Iterable[str], active_low: bool) -> None:
        """Raises NoSuchLine; ImportError where the package gpiod is not installed."""
        import gpiod  # noqa: PLC0415 - an extra: only where a light hangs on bare lines

        self._values: Mapping[bool, Any] = {True: gpiod.line.Value.ACTIVE, False: gpiod.line.Value.INACTIVE}
        settings = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT, active_low=active_low)
        self._requests: dict[str, Any] = {}
        try:
            for name in names:
                self._requests[name] = request_line(gpiod, name, settings, "booth-light")
        except BaseException:
            self.close()
            raise

    def light(self, lit: Iterable[str]) -> None:
        """These lines on, all others off."""
        lit = set(lit)
        for name, request in self._requests.items():
            request.set_value(name, self._values[name in lit])

    def close(self) -> None:
        self.light(())
        for request in self._requests.values():
            request.release()
        self._requests = {}


def request_line(gpiod: Any, name: str, settings: Any, consumer: str) -> Any:
    """A request of the one line that has this name. Raises NoSuchLine."""
    chips = []
    # A Pi has links to chips under their old numbers: each chip is looked at once.
    for path in sorted({path.resolve() for path in _CHIPS.glob("gpiochip*")}):
        try:
            with gpiod.Chip(str(path)) as chip:
                if any(chip.get_line_info(offset).name == name for offset in range(chip.get_info().num_lines)):
                    chips.append(str(path))
        except OSError as error:
            raise NoSuchLine(f"{path} cannot be opened ({error.strerror}): udev/71-booth-light.rules gives it away") from error
    if len(chips) != 1:
        found = f"{len(chips)} chips have" if chips else "no GPIO chip has"
        raise NoSuchLine(f"{found} a line {name!r}: `gpioinfo` lists all names")
    try:
        return gpiod.request_lines(chips[0], consumer=consumer, config={name: settings})
    except OSError as error:
        raise NoSuchLine(
            f"the line {name!r} of {chips[0]} is not to be had ({error.strerror}): `gpioinfo` says whose it is"
        ) from error
