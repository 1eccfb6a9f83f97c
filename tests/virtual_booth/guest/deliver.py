"""Runs in the virtual booth: hands a document to root as the agent does, and prints root's reports: `deliver.py LAYER FILE`."""

import json
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

SOCKET: Final = "/run/booth-acts/lockdown.sock"
_WITHIN_S: Final = 120.0


def deliver(layer: str, message: bytes, kind: str = "policy") -> list[dict[str, Any]]:
    """Root's reports; none where it hung up."""
    return say(json.dumps({"kind": kind, "layer": layer, "bytes": len(message)}).encode() + b"\n" + message)


def say(data: bytes) -> list[dict[str, Any]]:
    """The same for any bytes."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_WITHIN_S)
        line.connect(SOCKET)
        with suppress(ConnectionError):  # it has read enough
            line.sendall(data)
        with suppress(OSError):
            line.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while read := line.recv(65536):
                answer += read
    return [json.loads(report) for report in answer.splitlines()]


if __name__ == "__main__":
    for one in deliver(sys.argv[1], Path(sys.argv[2]).read_bytes()):
        print(json.dumps(one), flush=True)
