"""Reaching the broker: name resolution, TCP and TLS, with the reason in words when it fails."""

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from agent.contract.reasons import connect_reason, dns_reason, tls_reason
from agent.contract.words import is_loopback

Stage = Literal["dns", "connect", "tls", "mqtt"]

ADDRESS_TIMEOUT_S: Final = 3.0  # for one address; a black hole in IPv6 must not cost more before IPv4 is tried
TLS_TIMEOUT_S: Final = 10.0


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
    """Opens connections to one broker. It remembers the last address that answered, for when DNS does not."""

    def __init__(self, address: BrokerAddress, resolve: Callable[..., list[tuple[object, ...]]] | None = None) -> None:
        self.address = address
        self._resolve = resolve or socket.getaddrinfo
        self._last_good: tuple[int, tuple[object, ...]] | None = None  # (family, sockaddr)

    def dial(self) -> socket.socket:
        """A connected socket, with TLS done where the address asks for it. Blocks: call it in a thread.

        Raises `BrokerError`.
        """
        connection = self._connect(self._candidates())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._wrap(connection) if self.address.tls else connection

    def _candidates(self) -> list[tuple[int, tuple[object, ...]]]:
        try:
            found = self._resolve(self.address.host, self.address.port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name can have
            if self._last_good is None:
                raise BrokerError("dns", dns_reason(error)) from error
            return [self._last_good]
        return [(family, sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[misc]

    def _connect(self, candidates: list[tuple[int, tuple[object, ...]]]) -> socket.socket:
        reason = "no-address"
        for family, sockaddr in candidates[:4]:
            connection = None
            try:
                connection = socket.socket(family, socket.SOCK_STREAM)  # fails too: a kernel without IPv6
                connection.settimeout(ADDRESS_TIMEOUT_S)
                connection.connect(sockaddr)
            except OSError as error:
                if connection is not None:
                    connection.close()
                reason = connect_reason(error)
            else:
                self._last_good = (family, sockaddr)
                return connection
        raise BrokerError("connect", reason)

    def _wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        connection.settimeout(TLS_TIMEOUT_S)
        try:
            return tls_context(self.address).wrap_socket(connection, server_hostname=self.address.host)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            connection.close()
            raise BrokerError("tls", tls_reason(error)) from error


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
