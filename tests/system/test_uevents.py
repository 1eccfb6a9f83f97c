"""Kernel events about devices: both groups' datagrams, and the real socket."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.system.uevents import Uevent, Uevents, parse

KERNEL = (
    b"add@/devices/platform/usb1/1-1/1-1.2\0ACTION=add\0DEVPATH=/devices/platform/usb1/1-1/1-1.2\0"
    b"SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=4b8/202/100\0SEQNUM=4711\0"
)
PROPERTIES = b"ACTION=add\0DEVPATH=/devices/platform/usb1/1-1/1-1.2\0SUBSYSTEM=usb\0ID_VENDOR_ID=04b8\0TAGS=:systemd:\0"
PLUGGED = Uevent("add", "usb", "/devices/platform/usb1/1-1/1-1.2")


def from_udev(properties: bytes, offset: int = 40) -> bytes:
    """As udevd sends it: struct udev_monitor_netlink_header (systemd, device-monitor.c), then the properties."""
    header = struct.pack("=8sIIIIIIII", b"libudev\0", socket.htonl(0xFEEDCAFE), 40, offset, len(properties), 1, 2, 3, 4)
    return header + properties


def test_an_event_of_the_kernel_is_read() -> None:
    assert parse(KERNEL) == PLUGGED


def test_the_same_event_of_udev_is_read_behind_its_header() -> None:
    assert parse(from_udev(PROPERTIES)) == PLUGGED


def test_a_value_may_hold_the_sign_of_equality() -> None:
    assert parse(b"change@/a=b\0ACTION=change\0DEVPATH=/a=b\0") == Uevent("change", "", "/a=b")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"libudev\0",
        b"libudev\0short",
        b"add@/x\0ACTION=add\0",
        b"x\0DEVPATH=/x\0",
        from_udev(PROPERTIES, 4_000_000_000),
    ],
)
def test_what_is_no_event_is_none(data: bytes) -> None:
    assert parse(data) is None


@given(st.binary(max_size=200), st.booleans())
def test_no_datagram_raises(data: bytes, with_magic: bool) -> None:
    event = parse(b"libudev\0" + data if with_magic else data)
    assert event is None or isinstance(event, Uevent)


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Uevents, "asyncio.Queue[Uevent]"]]:
    uevents = Uevents()
    heard: asyncio.Queue[Uevent] = asyncio.Queue()
    uevents.subscribe(heard.put_nowait)
    try:
        uevents.start()
    except OSError as error:
        pytest.skip(f"no socket for kernel events here: {error.strerror}")
    try:
        yield uevents, heard
    finally:
        uevents.close()
        uevents.close()


async def until(heard: "asyncio.Queue[Uevent]", wanted: Uevent) -> None:
    async with asyncio.timeout(10):
        while await heard.get() != wanted:
            pass


async def test_a_real_event_of_the_kernel_arrives() -> None:
    trigger = Path("/sys/class/mem/null/uevent")
    if not os.access(trigger, os.W_OK):
        pytest.skip(f"asking the kernel for an event needs write access to {trigger}")
    async with listening() as (_, heard):
        trigger.write_text("change")
        await until(heard, Uevent("change", "mem", "/devices/virtual/mem/null"))


async def test_datagrams_of_both_groups_arrive_through_the_socket_and_nonsense_between_them_harms_nobody() -> None:
    async with listening() as (uevents, heard):
        assert uevents._socket is not None
        port = uevents._socket.getsockname()[0]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as sender:
            try:
                sender.sendto(KERNEL, (port, 0))
            except PermissionError:
                pytest.skip("sending on this netlink family needs root")
            sender.sendto(b"\xff" * 100, (port, 0))
            sender.sendto(from_udev(PROPERTIES), (port, 0))
        await until(heard, PLUGGED)
        await until(heard, PLUGGED)


async def test_after_a_flood_that_overflowed_the_socket_events_are_heard_again() -> None:
    async with listening() as (uevents, heard):
        assert uevents._socket is not None
        uevents._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        port = uevents._socket.getsockname()[0]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as sender:
            sender.setblocking(False)
            refused = 0
            for _ in range(500):
                try:
                    sender.sendto(KERNEL, (port, 0))
                except PermissionError:
                    pytest.skip("sending on this netlink family needs root")
                except OSError:
                    refused += 1
            assert refused, "the socket's buffer never overflowed"
            await until(heard, PLUGGED)
            while not heard.empty():
                heard.get_nowait()
            last = KERNEL.replace(b"1-1.2", b"1-1.4")
            await asyncio.sleep(0)
            sender.sendto(last, (port, 0))
        await until(heard, Uevent("add", "usb", "/devices/platform/usb1/1-1/1-1.4"))
