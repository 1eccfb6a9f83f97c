"""Whether root itself reaches the broker, as the agent would: where the certificate of either has expired, or the clock is wrong,
no version of the agent is to blame."""

import socket
import ssl
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import urlsplit

from agent.privileged import place
from agent.privileged.machine import Machine

DEADLINE_S: Final = 5.0  # of all: the name, the connection, TLS
_REFUSED_WITHIN_S: Final = 1.0  # with TLS 1.3 a broker judges the booth's certificate after its own part is done
_MOST_ADDRESSES: Final = 4


def broker_reached(machine: Machine) -> Callable[[str, int], bool]:
    """What asks for a host and a port; with TLS as `[broker]` of agent.toml says at that moment. It blocks for `DEADLINE_S`."""

    def reached(host: str, port: int) -> bool:
        try:
            context = _context(machine.path(place.CONFIG))
        except (OSError, ValueError):  # the agent cannot connect with that either; ssl.SSLError is an OSError
            return False
        return _reached(host, port, context)

    return reached


def _context(folder: Path) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, the broker's name verified; None for mqtt://. Raises OSError, ValueError."""
    with open(folder / "agent.toml", "rb") as stream:
        table = tomllib.load(stream).get("broker")
    broker: dict[str, Any] = table if isinstance(table, dict) else {}
    if urlsplit(str(broker.get("url"))).scheme == "mqtt":
        return None
    files = {name: folder / broker[name] for name in ("ca", "certificate", "key") if isinstance(broker.get(name), str)}
    context = ssl.create_default_context(cafile=files.get("ca"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if "certificate" in files:
        # A key with a passphrase is an error, not a question to a terminal that no booth has.
        context.load_cert_chain(files["certificate"], files.get("key"), password=lambda: "")
    return context


def _reached(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    """In threads that may be left behind: a look for a name has no deadline of its own, and of several addresses the first may
    lead nowhere."""
    end_s = time.monotonic() + DEADLINE_S
    found: SimpleQueue[list[Any]] = SimpleQueue()
    answers: SimpleQueue[bool] = SimpleQueue()

    def look(family: int, address: Any) -> None:
        answers.put(_answers(family, address, host, context, end_s))

    _aside(lambda: found.put(_addresses(host, port)))
    with suppress(Empty):
        addresses = found.get(timeout=DEADLINE_S)
        for family, address in addresses:
            _aside(partial(look, family, address))
        for _ in addresses:
            if answers.get(timeout=_left_s(end_s)):
                return True
    return False


def _aside(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _addresses(host: str, port: int) -> list[Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that no name can have
        return []
    return [(family, address) for family, _, _, _, address in found][:_MOST_ADDRESSES]


def _answers(family: int, address: Any, host: str, context: ssl.SSLContext | None, end_s: float) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.settimeout(_left_s(end_s))
            line.connect(address)
            if context is None:
                return True
            line.settimeout(_left_s(end_s))
            with context.wrap_socket(line, server_hostname=host) as proven:
                return _stays(proven, min(_REFUSED_WITHIN_S, _left_s(end_s)))
    except (OSError, ValueError):  # ValueError: a name that no certificate can have
        return False


def _stays(line: ssl.SSLSocket, for_s: float) -> bool:
    """Whether the broker does not hang up at once. It waits for the first word; one that says something is there as well."""
    line.settimeout(for_s)
    try:
        return line.recv(1) != b""
    except TimeoutError:
        return True


def _left_s(end_s: float) -> float:
    return max(0.01, end_s - time.monotonic())  # 0 would mean: without waiting
