"""Reaching the broker: name resolution, TCP and TLS, with the reason in words when it fails."""

import contextlib
import errno
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from agent.contract.reasons import connect_reason, dns_reason, tls_reason
from agent.contract.words import is_loopback
from agent.system.race import Candidate, first_connected

Stage = Literal["dns", "connect", "tls", "mqtt"]
Found = Sequence[tuple[Any, ...]]  # what getaddrinfo answers

LOOKUP_DEADLINE_S: Final = 6.0  # the first of two name servers may be dead: libc turns to the second after 5 s
TLS_TIMEOUT_S: Final = 10.0
_MOST_REMEMBERED: Final = 4


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and what proves both sides. `ca` is None for plain `mqtt://`, allowed on loopback only."""

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keepalive_s: int = 30

    @classmethod
    def of_url(
        cls, url: str, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None, keepalive_s: int = 30
    ) -> "BrokerAddress":
        """Raises ValueError with what to write instead."""
        if (problem := url_problem(url)) is not None:
            raise ValueError(problem)
        parts = urlsplit(url)
        tls = parts.scheme == "mqtts"
        return cls(str(parts.hostname), parts.port or (8883 if tls else 1883), tls, ca, certificate, key, keepalive_s)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def url_problem(url: str) -> str | None:
    """What is wrong with a broker's URL, and what to write instead; None if nothing is."""
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        return "write a port from 1 to 65535, as in mqtts://broker.example:8883"
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        return "write mqtts://HOST:8883"
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        return "write only mqtts://HOST:PORT; a booth proves itself with its certificate, not with a password"
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        return f"write a host name that exists (here: {parts.hostname!r})"
    if parts.scheme == "mqtt" and not is_loopback(parts.hostname):
        return "write mqtts://…: plain mqtt:// is allowed for a broker on this machine only"
    return None


class BrokerError(Exception):
    """The broker could not be reached: at which stage, and why in one word."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage: Stage = stage
        self.reason = reason


@dataclass(frozen=True)
class TcpFigures:
    """What the kernel knows of a connection (TCP_INFO): no probe, no privilege."""

    rtt_ms: float
    segments_out: int
    retransmitted: int


class Dialer:
    """Opens connections to one broker. It remembers the addresses that proved to be the broker's, for when DNS fails.

    `memory` is a file that keeps them over a restart: a booth that is switched on while its box resolves no name
    can then say so. A stale or damaged one does no harm: whoever answers there has to prove the broker's name.
    """

    def __init__(self, address: BrokerAddress, resolve: Callable[..., Found] | None = None, memory: Path | None = None) -> None:
        self.address = address
        self._resolve = resolve or socket.getaddrinfo
        self._memory = memory
        self._lookup: Future[Found] | None = None
        self._known = _read_addresses(memory, self._name)  # the last one that worked first

    def dial(self) -> socket.socket:
        """A connected socket, with TLS done where the address asks for it. Blocks for 20 s at most: call it in a thread.

        Raises `BrokerError`.
        """
        candidates = self._candidates()
        try:
            connection, winner = first_connected(candidates)
        except OSError as error:
            raise BrokerError("connect", connect_reason(error)) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proven = self._wrap(connection) if self.address.tls else connection
        self._remember(winner, candidates)
        return proven

    @property
    def _name(self) -> str:
        return f"{self.address.host}:{self.address.port}"

    def _candidates(self) -> list[Candidate]:
        try:
            found = self._looked_up()
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name can have
            if not self._known:
                raise BrokerError("dns", dns_reason(error)) from error
            return [(_family(host), (host, self.address.port)) for host in self._known]
        return [(family, sockaddr) for family, _, _, _, sockaddr in found]

    def _looked_up(self) -> Found:
        """getaddrinfo has no deadline: one that hangs is left behind in its thread, and no second one is started."""
        if self._lookup is None or self._lookup.done():
            lookup: Future[Found] = Future()
            try:
                threading.Thread(target=self._look_up, args=(lookup,), name="resolve-broker", daemon=True).start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, "no thread is to be had") from error
            self._lookup = lookup
        return self._lookup.result(LOOKUP_DEADLINE_S)

    def _look_up(self, lookup: "Future[Found]") -> None:
        try:
            lookup.set_result(self._resolve(self.address.host, self.address.port, 0, socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits, not swallowed
            lookup.set_exception(error)

    def _remember(self, winner: Candidate, candidates: list[Candidate]) -> None:
        """A portal that answers in the broker's stead got no further than TLS, and is not remembered."""
        hosts = [str(sockaddr[0]) for _, sockaddr in (winner, *candidates)]
        known = [host for host in dict.fromkeys(hosts) if host != self.address.host][:_MOST_REMEMBERED]
        if known == self._known:
            return
        self._known = known
        if self._memory is not None and not is_loopback(self.address.host):
            with contextlib.suppress(OSError):  # a full or broken disk is told elsewhere, and holds up no connection
                replacement = self._memory.with_suffix(".new")
                replacement.write_text("\n".join([self._name, *known, ""]))
                replacement.rename(self._memory)

    def _wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        connection.settimeout(TLS_TIMEOUT_S)
        try:
            return tls_context(self.address).wrap_socket(connection, server_hostname=self.address.host)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            connection.close()
            raise BrokerError("tls", tls_reason(error)) from error


def _read_addresses(file: Path | None, name: str) -> list[str]:
    """What was remembered for `name`; nothing from a file that is missing, damaged or another broker's."""
    if file is None:
        return []
    try:
        of_name, *hosts = file.read_text().split()
    except (OSError, ValueError):
        return []
    return [host for host in hosts[:_MOST_REMEMBERED] if of_name == name and _is_address(host)]


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(_family(text), text)
    except (OSError, ValueError):
        return False
    return True


def tls_context(address: BrokerAddress) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's name verified. Files are read at every connection: they are renewed in place."""
    context = ssl.create_default_context(cafile=None if address.ca is None else str(address.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.certificate is not None:
        # A key with a passphrase is an error, not a question to a terminal that no booth has.
        context.load_cert_chain(address.certificate, address.key, password=lambda: "")
    return context


def tcp_figures(connection: socket.socket) -> TcpFigures | None:
    """TCP_INFO of a connection (`struct tcp_info` in linux/tcp.h); None where the kernel has none."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    except OSError:
        return None
    if len(info) < 140:
        return None
    (rtt_us,) = struct.unpack_from("=I", info, 68)
    (retransmitted,) = struct.unpack_from("=I", info, 100)
    (segments_out,) = struct.unpack_from("=I", info, 136)
    return TcpFigures(rtt_us / 1000, segments_out, retransmitted)
