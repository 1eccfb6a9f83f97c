"""Hand the operator's documents to root, who judges them itself, and read what it says of itself. `agent.privileged.lockdown`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.system.datagrams import Datagrams

_LINE_BYTES: Final = 1024 * 1024
_ANSWERS_WITHIN_S: Final = 3700.0  # root may wait an hour for the broker before it goes back
_REPORT_BYTES: Final = 1024 * 1024


class LockdownSocket:
    """`socket_path` is made by systemd where root's part is installed; `report` is what root measured last."""

    def __init__(
        self,
        socket_path: Path = Path("/run/booth-acts/lockdown.sock"),
        report: Path = Path("/run/booth-lockdown/reported.json"),
    ) -> None:
        self._socket_path = socket_path
        self._report = report
        self._news: Datagrams | None = None

    @property
    def installed(self) -> bool:
        return self._socket_path.is_socket()

    async def deliver(self, kind: str, layer: str, message: bytes) -> AsyncIterator[dict[str, Any]]:
        """Root's reports, one after another, until the last. Raises OSError where root is not there or hangs up at once."""
        reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=_LINE_BYTES)
        try:
            asked = json.dumps({"kind": kind, "layer": layer, "bytes": len(message)}).encode()
            writer.write(asked + b"\n" + message[: MAX_ENVELOPE_BYTES + 1])  # root says of more that it is too large
            await writer.drain()
            answered = False
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                while line := await reader.readline():
                    answered = True
                    yield json.loads(line)
            if not answered:
                raise ConnectionResetError("root is busy with another document")  # MaxConnections=1
        except (TimeoutError, ValueError) as error:
            raise ConnectionResetError(str(error) or "root does not come to an end") from error
        finally:
            writer.close()

    def report(self) -> dict[str, Any] | None:
        """What root measured last; None where it has said nothing yet."""
        with suppress(OSError, ValueError):
            with open(self._report, "rb") as stream:
                data = json.loads(stream.read(_REPORT_BYTES))
            return data if isinstance(data, dict) else None
        return None

    def listen(self, news: Path, changed: Callable[[], None]) -> None:
        """Call `changed` whenever root sends a datagram to `news`: it wrote another report. Raises OSError."""
        if not self.installed:
            return
        self._news = Datagrams(news, lambda _: changed())

    def close(self) -> None:
        if self._news is not None:
            self._news.close()
            self._news = None
