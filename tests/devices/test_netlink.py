"""The kernel's network state by rtnetlink, beside what `ip` of iproute2 says of the same kernel."""

import asyncio
import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from agent.devices.netlink import Links, NetworkState
from tests.machine.namespace import Namespace, missing

DUMP = """
import dataclasses, json
from agent.devices.netlink import Links
print(json.dumps(dataclasses.asdict(Links().snapshot())))
"""


def by_ip(links: list[dict[str, Any]], addresses: list[dict[str, Any]], routes: list[dict[str, Any]]) -> dict[str, Any]:
    """What `ip -j` says, in the shape of `NetworkState`."""
    found = {item["ifname"]: [] for item in links}  # type: dict[str, list[str]]
    for item in addresses:
        found[item["ifname"]] += [entry["local"] for entry in item.get("addr_info", ()) if entry["scope"] == "global"]
    interfaces = [
        {
            "name": item["ifname"],
            "up": "UP" in item["flags"],
            "carrier": {"UP", "LOWER_UP"} <= set(item["flags"]),
            "addresses": sorted(found[item["ifname"]]),
        }
        for item in links
        if "LOOPBACK" not in item["flags"]
    ]
    default = [{"interface": item["dev"], "gateway": item.get("gateway")} for item in routes if item["dst"] == "default"]
    return {"interfaces": sorted(interfaces, key=str), "default_routes": sorted(default, key=str)}


def ours(state: dict[str, Any]) -> dict[str, Any]:
    interfaces = [item | {"addresses": sorted(item["addresses"])} for item in state["interfaces"]]
    routes = [{"interface": item["interface"], "gateway": item["gateway"]} for item in state["default_routes"]]
    return {"interfaces": sorted(interfaces, key=str), "default_routes": sorted(routes, key=str)}


def test_the_dump_agrees_with_ip_on_this_machine() -> None:
    if shutil.which("ip") is None:
        pytest.skip("the command ip is missing (apt-get install iproute2)")

    def ip(*arguments: str) -> Any:
        return json.loads(subprocess.run(["ip", "-j", *arguments], check=True, capture_output=True).stdout or b"[]")

    state = Links().snapshot()
    plain = {
        "interfaces": [
            {"name": item.name, "up": item.up, "carrier": item.carrier, "addresses": list(item.addresses)}
            for item in state.interfaces
        ],
        "default_routes": [{"interface": item.interface, "gateway": item.gateway} for item in state.default_routes],
    }
    expected = by_ip(ip("link"), ip("address"), ip("-4", "route", "show", "default") + ip("-6", "route", "show", "default"))
    assert ours(plain) == expected


@pytest.fixture
def namespace() -> Any:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with Namespace("netlink") as made:
        yield made


def dump(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = namespace.json(sys.executable, "-c", DUMP)
    return found


def test_the_dump_agrees_with_ip_where_there_is_everything(namespace: Namespace) -> None:
    namespace.run("sh", "-ec", """
        echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
        ip address add 198.51.100.7/24 dev eth0
        ip address add 169.254.3.4/16 dev eth0 scope link
        ip -6 address add 2001:db8::20/64 dev eth0 nodad
        ip -6 route add default via 2001:db8::1 dev eth0 metric 50
        ip link add spare0 type veth peer name spare1
        ip address add 203.0.113.9/32 dev spare0
        ip link set spare0 up
        ip route add default dev spare0 metric 500
        ip route add default via 192.0.2.77 dev eth0 table 100
        ip route add blackhole default metric 900
        ip route add 10.0.0.0/8 via 192.0.2.5
    """)  # fmt: skip
    found = dump(namespace)
    routes = namespace.json("ip", "-j", "-4", "route") + namespace.json("ip", "-j", "-6", "route")
    expected = by_ip(namespace.json("ip", "-j", "link"), namespace.json("ip", "-j", "address"), [
        route for route in routes if route.get("type", "unicast") == "unicast"
    ])  # fmt: skip
    assert ours(found) == expected
    assert len(expected["interfaces"]) == 3
    # The preferred one first: IPv4 by metric, then IPv6.
    assert [(route["interface"], route["gateway"]) for route in found["default_routes"]] == [
        ("eth0", "192.0.2.1"), ("spare0", None), ("eth0", "2001:db8::1"),
    ]  # fmt: skip


def test_a_cable_that_is_out_keeps_the_interface_up_and_takes_its_carrier(namespace: Namespace) -> None:
    namespace.cable(plugged=False)
    (eth0,) = dump(namespace)["interfaces"]
    assert eth0 == {"name": "eth0", "up": True, "carrier": False, "addresses": ["192.0.2.20"]}
    namespace.run("ip", "link", "set", "eth0", "down")
    (eth0,) = dump(namespace)["interfaces"]
    assert (eth0["up"], eth0["carrier"]) == (False, False)


ASK = """
import asyncio, json, sys
from agent.devices.netlink import Links
async def main():
    links = Links()
    heard = links.neighbour_answers(sys.argv[1])
    answers = await links.host_answers(sys.argv[1])
    print(json.dumps([heard, answers, links.neighbour_answers(sys.argv[1])]))
asyncio.run(main())
"""


def test_a_gateway_that_refuses_a_connection_is_there_and_the_link_layer_then_knows_it(namespace: Namespace) -> None:
    namespace.run("ip", "neighbour", "flush", "dev", "eth0")
    assert namespace.json(sys.executable, "-c", ASK, "192.0.2.1") == [None, True, True]


def test_a_gateway_that_nobody_has_is_silent_and_then_known_to_be_gone(namespace: Namespace) -> None:
    heard, answers, _ = namespace.json(sys.executable, "-c", ASK, "192.0.2.99")
    assert heard is None
    assert not answers  # refused by our own kernel, or nothing within the deadline
    namespace.run("ip", "neighbour", "replace", "192.0.2.99", "dev", "eth0", "nud", "failed")
    assert namespace.json(sys.executable, "-c", ASK, "192.0.2.99")[0] is False


def test_without_a_route_no_host_answers(namespace: Namespace) -> None:
    namespace.unroute()
    assert namespace.json(sys.executable, "-c", ASK, "203.0.113.1") == [None, False, None]


async def test_a_watch_ends_with_close_and_a_snapshot_needs_none() -> None:
    links = Links()
    links.watch(lambda: None)
    links.close()
    links.close()
    assert isinstance(links.snapshot(), NetworkState)


WATCH = """
import asyncio, sys
from agent.devices.netlink import Links
async def main():
    links = Links()
    changed = asyncio.Event()
    links.watch(changed.set)
    print("watching", flush=True)
    while True:
        await changed.wait()
        changed.clear()
        print("changed", flush=True)
asyncio.run(main())
"""


async def test_every_kind_of_change_is_announced(namespace: Namespace) -> None:
    process = await asyncio.create_subprocess_exec(*namespace.inside(sys.executable, "-c", WATCH), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"watching\n"
            for change in (namespace.unroute, namespace.take_address, namespace.give_address, namespace.route):
                change()
                assert await process.stdout.readline() == b"changed\n"
    finally:
        process.kill()
        await process.wait()


async def test_a_flood_of_changes_overflows_the_socket_and_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflown:
        def recv(self, _: int) -> bytes:
            raise OSError(105, "No buffer space available")

    changes: list[None] = []
    links = Links()
    links.watch(lambda: changes.append(None))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(links, "_events", Overflown())
            links._readable()
    finally:
        links.close()
    assert len(changes) == 1  # something changed: that is all we need
