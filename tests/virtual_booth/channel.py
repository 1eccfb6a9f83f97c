"""How the test bench talks to a running virtual booth: JSON objects, one a line, over sockets of QEMU's."""

import json
import socket
import time
from pathlib import Path
from typing import Any


class BoothFailed(Exception):
    """It did not boot, a command failed or took too long; the text holds what was said."""


class Lines:
    """One such socket. Events of its monitor are set aside."""

    def __init__(self, path: Path, deadline_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._read = b""
        self.gone: set[str] = set()  # devices that were unplugged
        until = time.monotonic() + deadline_s
        while self._socket.connect_ex(str(path)):  # QEMU has not made it yet
            if time.monotonic() > until:
                self._socket.close()
                raise BoothFailed(f"QEMU listens not at {path}")
            time.sleep(0.05)

    def close(self) -> None:
        self._socket.close()

    def write(self, message: dict[str, Any]) -> None:
        self._socket.settimeout(20)
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise BoothFailed(f"the machine takes no command: {error}") from error

    def read(self, timeout_s: float) -> dict[str, Any]:
        """The next one that is no event. Raises BoothFailed."""
        until = time.monotonic() + timeout_s
        while "event" in (message := self._next(until)):
            self._note(message)
        return message

    def read_event(self, timeout_s: float) -> None:
        """Wait for one event. Raises BoothFailed."""
        self._note(self._next(time.monotonic() + timeout_s))

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("event") == "DEVICE_DELETED" and "device" in event["data"]:
            self.gone.add(event["data"]["device"])

    def _next(self, until: float) -> dict[str, Any]:
        while b"\n" not in self._read:
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise BoothFailed("the machine does not answer") from None
            if not data:
                raise BoothFailed("the machine is gone")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
