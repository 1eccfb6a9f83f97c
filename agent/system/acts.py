"""Ask root for one of the acts that it has written down: a line with a name goes in, a verdict comes out. `agent.privileged`."""

import asyncio
import json
from pathlib import Path
from typing import Final

from agent.contract.words import printable

_VERDICT_LIMIT: Final = 4096  # bytes


class SocketActs:
    """One socket for each act, made by systemd, below `folder`."""

    def __init__(self, folder: Path = Path("/run/booth-acts")) -> None:
        self._folder = folder

    async def act(self, name: str, slot: str) -> str:
        """`done`, or why not: root's own word; `not-installed` where there is no such socket, `busy` where another act of that
        kind is under way, `bad-verdict`. Waits for as long as the act takes: the caller has a deadline."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._folder / f"{name}.sock", limit=_VERDICT_LIMIT)
        except (FileNotFoundError, ConnectionRefusedError):
            return "not-installed"
        except OSError as error:
            return printable(f"failed: {error.strerror}")
        try:
            writer.write(f"{slot}\n".encode())
            line = await reader.readline()
        except (ConnectionError, BrokenPipeError):
            line = b""
        except ValueError:  # longer than a verdict can be
            return "bad-verdict"
        finally:
            writer.close()
        if not line:
            return "busy"  # systemd hangs up on what is over MaxConnections=
        try:
            verdict = json.loads(line)
            return "done" if verdict["done"] is True else printable(str(verdict["code"]))
        except (ValueError, TypeError, LookupError):
            return "bad-verdict"
