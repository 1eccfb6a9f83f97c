"""A LED that tells people that the camera is open: lit before, put out after. Kernel LED class, /sys/class/leds."""

import contextlib
import logging
from pathlib import Path

from agent.devices.sysfs import KernelFiles

log = logging.getLogger(__name__)


class CameraLight:
    """The LED `name`; None for a booth without one, where there is nothing to do.

    `runtime_dir` keeps a note of how bright it was before, so that an agent which was killed while it filmed leaves
    no LED lit for ever: the next one puts it out.
    """

    def __init__(self, files: KernelFiles, name: str | None, runtime_dir: Path) -> None:
        self._files = files
        self._led = None if name is None else f"sys/class/leds/{name}"
        self._note = runtime_dir / f"camera-light-{name}"
        self.put_out()

    def light(self) -> None:
        """Raises OSError if it stays dark: then nothing is to be filmed."""
        if self._led is None:
            return
        brightness = self._files.path(f"{self._led}/brightness")
        before = brightness.read_text(encoding="ascii").strip()
        if not self._note.exists():
            self._note.write_text(before, encoding="ascii")
        brightness.write_text(self._files.path(f"{self._led}/max_brightness").read_text(encoding="ascii"), encoding="ascii")
        if not self._files.number(f"{self._led}/brightness"):
            raise OSError(f"{self._led} stays dark")

    def put_out(self) -> None:
        """As it was before; nothing to do if it was not lit by us."""
        if self._led is None:
            return
        try:
            before = self._note.read_text(encoding="ascii")
        except OSError:
            return
        try:
            self._files.path(f"{self._led}/brightness").write_text(before, encoding="ascii")
        except OSError as error:
            log.warning("the camera's light %s stays lit: %s", self._led, error.strerror)
        with contextlib.suppress(OSError):
            self._note.unlink()
