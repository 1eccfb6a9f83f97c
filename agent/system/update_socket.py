"""Ask root's part of updates (`agent.privileged.update`): a line of JSON goes in, with an envelope where there is one, a line
comes out."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.contract.envelope import MAX_ENVELOPE_BYTES

_ANSWER_BYTES: Final = 1024 * 1024
_ANSWERS_WITHIN_S: Final = 920.0  # RuntimeMaxSec= of booth-update-serve@.service, and some more


class UpdateSocket:
    """`socket_path` is made by systemd where root's part is installed."""

    def __init__(self, socket_path: Path = Path("/run/booth-acts/update.sock")) -> None:
        self._socket_path = socket_path

    @property
    def installed(self) -> bool:
        return self._socket_path.is_socket()

    async def ask(
        self, request: Mapping[str, Any], message: bytes = b"", heard: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> dict[str, Any]:
        """Root's last word; those before it are `heard`. Raises OSError where root is not there, is busy, or gives no answer."""
        reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=_ANSWER_BYTES)
        try:
            line = json.dumps({**request, "bytes": len(message)}).encode()
            writer.write(line + b"\n" + message[: MAX_ENVELOPE_BYTES + 1])  # root says of more that it is too large
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await writer.drain()
                while answer := await reader.readline():
                    said = _read(answer)
                    if said.get("last", True):
                        return said
                    heard(said)
        except (TimeoutError, ValueError) as error:
            raise ConnectionResetError(str(error) or "root does not come to an end") from error
        finally:
            writer.transport.abort()  # close() would wait for root to read what it has not
        raise ConnectionResetError("root gave no answer: it is busy, or failed (journalctl -u 'booth-update-serve@*')")


def _read(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConnectionResetError("root's answer is no JSON") from error
    if not isinstance(said, dict):
        raise ConnectionResetError("root's answer is no object")
    return said
