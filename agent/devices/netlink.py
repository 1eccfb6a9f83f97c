"""Links, addresses, routes and neighbours as the kernel has them (rtnetlink(7)), and its word when they change."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_NLM_F_REQUEST_DUMP: Final = 0x1 | 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_GROUPS: Final = 0x1 | 0x10 | 0x100 | 0x40 | 0x400  # RTMGRP_LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_ROUTE, IPV6_ROUTE
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_RT_SCOPE_UNIVERSE: Final = 0
_RT_TABLE_MAIN: Final = 254
_NUD_REACHED: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, noarp, permanent
_NUD_FAILED: Final = 0x20

_DUMP_TIMEOUT_S: Final = 2.0
_ANSWER_TIMEOUT_S: Final = 1.5
_RTNH_F_DEAD, _RTNH_F_LINKDOWN = 0x1, 0x10
_ANY_PORT: Final = 53  # a refusal is an answer too


@dataclass(frozen=True)
class Interface:
    """`carrier`: the cable is in, or the radio associated. `addresses` are global ones, without their masks."""

    name: str
    up: bool
    carrier: bool
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class DefaultRoute:
    interface: str
    gateway: str | None  # None on a point-to-point link
    metric: int


@dataclass(frozen=True)
class NetworkState:
    """Interfaces but loopback, and default routes, the preferred one first."""

    interfaces: tuple[Interface, ...] = ()
    default_routes: tuple[DefaultRoute, ...] = ()

    def interface(self, name: str) -> Interface | None:
        return next((interface for interface in self.interfaces if interface.name == name), None)


class Links:
    """The kernel's network state. `watch` calls back at every change; `snapshot` reads it all."""

    def __init__(self) -> None:
        self._events: socket.socket | None = None
        self._changed: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Returns what ends it. Raises OSError where the sandbox has no netlink."""
        if self._events is None:
            self._events = _netlink(_GROUPS)
            self._events.setblocking(False)
            asyncio.get_running_loop().add_reader(self._events, self._readable)
        self._changed.append(changed)
        return lambda: self._changed.remove(changed) if changed in self._changed else None

    def close(self) -> None:
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events)
            self._events.close()
            self._events = None
        self._changed.clear()

    def snapshot(self) -> NetworkState:
        """A dump of three kernel tables, under a millisecond. Raises OSError."""
        with _netlink(0) as connection:
            connection.settimeout(_DUMP_TIMEOUT_S)
            links = _read_links(connection)
            for index, address in _read_addresses(connection):
                if index in links:
                    links[index].addresses.append(address)
            routes = sorted(_read_default_routes(connection, links), key=lambda route: route.metric)
        interfaces = tuple(
            Interface(link.name, link.up, link.carrier, tuple(link.addresses)) for link in links.values() if not link.loopback
        )
        return NetworkState(interfaces, tuple(routes))

    def neighbour_answers(self, address: str) -> bool | None:
        """Whether the link layer has heard `address` (ARP, NDP); None while it does not know."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        with _netlink(0) as connection:
            connection.settimeout(_DUMP_TIMEOUT_S)
            for body in _dump(connection, _RTM_GETNEIGH, _RTM_NEWNEIGH, struct.pack("=BxxxiHBB", family, 0, 0, 0, 0)):
                _, _, state, _, _ = struct.unpack_from("=BxxxiHBB", body)
                if _attributes(body[12:]).get(1) == packed:  # NDA_DST
                    return True if state & _NUD_REACHED else False if state & _NUD_FAILED else None
        return None

    async def host_answers(self, address: str) -> bool | None:
        """Whether a host of this network sends anything back to a connection attempt; None if it stays silent."""
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, _ANY_PORT)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return None
        except ConnectionResetError:
            return True
        except OSError as error:  # the link layer found nobody; anything else says nothing of the host
            return False if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN) else None
        writer.transport.abort()
        return True

    def _readable(self) -> None:
        assert self._events is not None
        try:
            while True:
                self._events.recv(65536)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # events were lost: there was a change, that is all we need
                raise
        for changed in list(self._changed):
            changed()


@dataclass
class _Link:
    name: str
    up: bool
    carrier: bool
    loopback: bool
    addresses: list[str] = field(default_factory=list)


def _netlink(groups: int) -> socket.socket:
    connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    connection.bind((0, groups))
    return connection


def _dump(connection: socket.socket, request: int, answer: int, body: bytes) -> Iterator[bytes]:
    """The bodies of one table's messages."""
    connection.send(struct.pack("=IHHII", 16 + len(body), request, _NLM_F_REQUEST_DUMP, 1, 0) + body)
    while True:
        data = connection.recv(65536)
        while len(data) >= 16:
            length, kind, _, _, _ = struct.unpack_from("=IHHII", data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, 16)[0]
                raise OSError(number, os.strerror(number))
            if kind == answer:
                yield data[16:length]
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _read_links(connection: socket.socket) -> dict[int, _Link]:
    links = {}
    for body in _dump(connection, _RTM_GETLINK, _RTM_NEWLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
        _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
        name = _attributes(body[16:]).get(3, b"").rstrip(b"\0").decode(errors="replace")  # IFLA_IFNAME
        carrier = bool(flags & _IFF_UP and flags & _IFF_LOWER_UP)
        links[index] = _Link(name, bool(flags & _IFF_UP), carrier, bool(flags & _IFF_LOOPBACK))
    return links


def _read_addresses(connection: socket.socket) -> Iterator[tuple[int, str]]:
    for body in _dump(connection, _RTM_GETADDR, _RTM_NEWADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
        family, _, _, scope, index = struct.unpack_from("=BBBBi", body)
        if scope == _RT_SCOPE_UNIVERSE and family in (socket.AF_INET, socket.AF_INET6):
            attributes = _attributes(body[8:])
            packed = attributes.get(2) or attributes.get(1)  # IFA_LOCAL, or IFA_ADDRESS
            if packed:
                yield index, socket.inet_ntop(family, packed)


def _read_default_routes(connection: socket.socket, links: dict[int, _Link]) -> Iterator[DefaultRoute]:
    for body in _dump(connection, _RTM_GETROUTE, _RTM_NEWROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, destination_bits, _, _, table, _, _, kind, _ = struct.unpack_from("=BBBBBBBBI", body)
        if destination_bits or kind != 1 or table != _RT_TABLE_MAIN or family not in (socket.AF_INET, socket.AF_INET6):
            continue
        attributes = _attributes(body[12:])
        metric = int.from_bytes(attributes.get(6, b""), "little")  # RTA_PRIORITY
        # IPv4 first: it is what the neighbour table and most booths' boxes speak.
        rank = metric + (0 if family == socket.AF_INET else 1 << 32)
        multipath = attributes.get(9)  # RTA_MULTIPATH: several ways that share one route
        for index, gateway in [_next_hop(attributes)] if multipath is None else _next_hops(multipath):
            if index in links and not links[index].loopback:
                yield DefaultRoute(links[index].name, socket.inet_ntop(family, gateway) if gateway else None, rank)


def _next_hop(attributes: dict[int, bytes]) -> tuple[int, bytes | None]:
    return int.from_bytes(attributes.get(4, b""), "little"), attributes.get(5)  # RTA_OIF, RTA_GATEWAY


def _next_hops(data: bytes) -> list[tuple[int, bytes | None]]:
    """The ways of a multipath route (`struct rtnexthop` in linux/rtnetlink.h); the dead ones only where all are."""
    alive: list[tuple[int, bytes | None]] = []
    dead: list[tuple[int, bytes | None]] = []
    while len(data) >= 8:
        length, flags, _, index = struct.unpack_from("=HBBi", data)
        if length < 8:
            break
        hop = (index, _attributes(data[8:length]).get(5))
        (dead if flags & (_RTNH_F_DEAD | _RTNH_F_LINKDOWN) else alive).append(hop)
        data = data[(length + 3) & ~3 :]
    return alive or dead
