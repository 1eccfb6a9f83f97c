"""The light where the kernel has no LED device: words for booth-light, the process that owns the GPIO lines.

It blinks by itself, and shows `starting` when it has heard nothing for `HOLD_S`: a dead, stopped or hung agent needs
nobody's help. One datagram is one word of contract §9, in ASCII.
"""

import contextlib
import socket
from pathlib import Path

from agent.contract.words import LightWord
from agent.devices.led import LightUnavailable


class GpioLight:
    """The agent's side of booth-light. Sends without waiting, and holds nothing open in between."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._shown: LightWord | None = None

    async def show(self, word: LightWord, dim_pct: int) -> None:
        """Raises LightUnavailable where booth-light does not listen. A line is on or off: it is not dimmed."""
        if word != self._shown:
            self._send(word)

    async def rearm(self) -> None:
        if self._shown is not None:
            self._send(self._shown)

    async def leave_starting(self) -> None:
        self._send("starting")

    def _send(self, word: LightWord) -> None:
        self._shown = None
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as sender:
            try:
                sender.sendto(word.encode(), str(self._path))
            except OSError as error:
                raise LightUnavailable(
                    f"booth-light does not listen at {self._path} ({error.strerror}): "
                    "`systemctl status booth-light` says why (docs/light.md)"
                ) from error
        self._shown = word
