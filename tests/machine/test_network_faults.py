"""Faults 22 to 28 of the catalogue, with broker and check page behind a real cable, a real resolver and real TLS.

What is inferred is believed after 20 s: the booths live side by side, each in namespaces of its own, in one
fixture. What a broker on the booth's own loopback can show is in `test_network_namespace`.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.faults.pki import Authority
from tests.machine.far_booth import BOX, BROKER, NAMES_WITH_V6, PAGE, V6_NETWORK, FarBooth
from tests.machine.far_servers import PAGE_SERVER
from tests.machine.namespace import Namespace, missing
from tests.machine.test_network_namespace import at_the_box
from tests.world import ROOT


@pytest.fixture(scope="module", autouse=True)
def namespaces_can_be_made() -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    for name in ("mosquitto_sub", "mosquitto", "openssl"):
        if shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin") is None:
            pytest.skip(f"{name} is missing (apt-get install mosquitto mosquitto-clients openssl)")


async def black_hole(booth: FarBooth) -> None:
    async with booth.running_far(keepalive_s=5):
        session = booth.session()
        booth.namespace.swallow(BROKER, PAGE)
        said = await booth.until_stored("gateway-unreachable")
        assert (said["severity"], said["detail"]) == ("fault", {"reason": "nothing-beyond"})
        assert "connect: timeout" in booth.log()
        await booth.until_stored_alarm("gateway-unreachable")
        assert booth.believed_light() == "no-internet"
        booth.namespace.spit_out(BROKER, PAGE)
        await booth.until_back(session, "gateway-unreachable")
        assert booth.raised() == {"gateway-unreachable"}


async def black_hole_before_the_broker_alone(booth: FarBooth) -> None:
    async with booth.running_far(keepalive_s=5):
        cut_s, session = time.monotonic(), booth.session()
        booth.namespace.swallow(BROKER)
        await booth.until_logged("connect: timeout")
        probed = await booth.probed()
        (finding,) = probed["findings"]
        assert (finding["code"], finding["severity"]) == ("broker-unreachable", "warning")
        assert finding["detail"] == {"stage": "connect", "reason": "timeout"}
        assert probed["facts"]["check"] == "ok"
        assert booth.stored_alarms() == []
        assert booth.believed_light() == "ok"
        booth.namespace.spit_out(BROKER)
        await booth.until_back(session)
        assert booth.raised() == set()  # believed after a minute only
        assert set(booth.lights(cut_s)) <= {"ok"}


async def flapping(booth: FarBooth) -> None:
    async with booth.running_far():
        began_s = time.monotonic()
        for _ in range(20):
            for plugged in (False, True):
                booth.namespace.cable(plugged=plugged)
                await asyncio.sleep(0.3)  # how long the cable has contact, or none
        await booth.until(lambda: booth.changes("no-carrier") == ["raised", "cleared"], "one finding that came and went")
        await booth.until_well()
        took_s = time.monotonic() - began_s
        assert took_s > 12
        said = [topic.removeprefix(f"{ROOT}/") for at_s, topic, _ in booth.seen if at_s >= began_s]
        assert said.count("health/network") <= 6
        assert said.count("alarm/network/no-carrier") <= 2
        assert booth.lights(began_s) in (["no-internet", "ok"], [])  # the alarm may have come and gone unheard
        assert booth.raised() == {"no-carrier"}


async def names_fail(booth: FarBooth) -> None:
    async with booth.running_far():
        await booth.names.become("fail")
        session = booth.session()
        await booth.broker_shows(booth.good)  # killed, and started again
        await booth.until_online(session, "a connection without a name")
        await booth.until_only("dns-failure")
        assert booth.finding()["detail"] == {"reason": "no-answer"}
        assert booth.last("health/network")["facts"]["broker"] == "connected"
        await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
        assert booth.last("service/web") == "down"
        session = booth.session()
        await booth.start_agent()  # one that never resolved the name
        await booth.until_online(session, "a connection after a restart, without a name")
        await booth.names.become("answer")
        await booth.until_back(session, "dns-failure")
        assert booth.raised() == {"dns-failure"}


async def names_hang(booth: FarBooth) -> None:
    async with booth.running_far():
        await booth.names.become("silent")
        for paper, codes in (("out", ["media-empty"]), ("plenty", []), ("out", ["media-empty"]), ("plenty", [])):
            await booth.names.asked_for("check.example")  # a lookup begins, and hangs for seconds
            changed_s = time.monotonic()
            booth.printer.change(paper=paper)
            heard_s = await booth.until(lambda codes=codes: booth.codes_of("receipt-printer") == codes, f"paper {paper}")  # type: ignore[misc]
            assert heard_s - changed_s < 1
        await booth.until_only("dns-failure")
        assert booth.finding()["detail"] == {"reason": "timeout"}
        await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
        session = booth.session()
        await booth.broker_shows(booth.good)
        await booth.until_online(session, "a connection while the name hangs")
        assert booth.details("dns-failure") == [{"reason": "timeout"}]
        await booth.names.become("answer")
        await booth.until_back(session, "dns-failure")
        assert booth.raised() == {"dns-failure"}
        booth.expected_of_others |= {("receipt-printer", "media-empty")}


async def portal(booth: FarBooth) -> None:
    async with booth.running_far(keepalive_s=5):
        session = booth.session()
        # The box answers for every name with its own address, and lets nothing else through.
        async with at_the_box(booth.namespace, PAGE_SERVER, BOX, "302"):
            await booth.names.become(BOX)
            booth.namespace.swallow(BROKER, PAGE)
            said = await booth.until_stored("captive-portal")
            assert said["severity"] == "fault"
            await booth.until_stored_alarm("captive-portal")
            assert booth.believed_light() == "no-internet"
        booth.namespace.spit_out(BROKER, PAGE)
        await booth.names.become("answer")
        await booth.until_back(session, "captive-portal")
        assert booth.raised() == {"captive-portal"}


V6_FIRST = """
import socket
first, *_ = socket.getaddrinfo("broker.example", 8883, type=socket.SOCK_STREAM)
connection = socket.socket(first[0], socket.SOCK_STREAM)
connection.settimeout(0.5)
try:
    connection.connect(first[4])
except TimeoutError:
    print(first[0].name, "times out")
"""


async def broken_ipv6(booth: FarBooth) -> None:
    booth.namespace.broken_ipv6(V6_NETWORK)
    async with booth.far(names=NAMES_WITH_V6):
        assert booth.namespace.run(sys.executable, "-c", V6_FIRST) == "AF_INET6 times out\n", "this proves nothing here"
        asked_s = asyncio.create_task(booth.names.asked_for("broker.example"))
        checked_s = asyncio.create_task(booth.names.asked_for("check.example"))
        await booth.start_agent()
        connected_s = await booth.until(lambda: booth.last("state"), "a connection")
        assert connected_s - await asked_s < 3
        well_s = await booth.until(lambda: (booth.last("health/network") or {}).get("facts", {}).get("check") == "ok", "the page")
        assert well_s - await checked_s < 3
        await booth.until_well()
        assert booth.raised() == set()
        booth.lived()


async def certificate_of_the_page(booth: FarBooth) -> None:
    certificates = {
        "certificate-expired": booth.authority.issue("expired", "DNS:check.example", expired=True),
        "wrong-name": booth.authority.issue("elsewhere", "DNS:elsewhere.example"),
        "unknown-ca": Authority(booth.folder, "other-ca").issue("stranger", "DNS:check.example"),
    }
    async with booth.running_far(scheme="https"):
        well_s = time.monotonic()
        for reason, pair in certificates.items():
            await booth.page_answers(204, pair)
            expected = {"at": "check-page", "reason": reason}
            await booth.until(lambda expected=expected: booth.details("tls-failure")[-1:] == [expected], reason)  # type: ignore[misc]
            assert booth.codes() == ["tls-failure"]
            assert booth.finding()["severity"] == "fault"
            await booth.until(lambda: booth.last("service/web") == "down", "web down")
        await booth.page_answers(204, booth.good)
        await booth.until_well()
        assert booth.raised() == {"tls-failure"}
        assert set(booth.lights(well_s)) <= {"ok"}, "a certificate is nothing that a shopkeeper can mend"


async def certificate_of_the_broker(booth: FarBooth) -> None:
    certificates = {
        "wrong-name": booth.authority.issue("elsewhere", "DNS:elsewhere.example"),
        "unknown-ca": Authority(booth.folder, "other-ca").issue("stranger", "DNS:broker.example"),
        "certificate-expired": booth.authority.issue("expired", "DNS:broker.example", expired=True),
    }
    async with booth.running_far():
        well_s, session = time.monotonic(), booth.session()
        for reason, pair in certificates.items():
            await booth.broker_shows(pair)
            probed = await booth.probed()
            assert [finding["code"] for finding in probed["findings"]] == ["tls-failure"]
            assert probed["findings"][0]["severity"] == "warning"
            assert probed["findings"][0]["detail"] == {"at": "broker", "reason": reason}
        said = await booth.until_stored("tls-failure")
        assert said["severity"] == "warning"
        assert said["detail"]["at"] == "broker"
        await booth.until_stored_alarm("tls-failure")
        assert booth.believed_light() == "ok"
        await booth.broker_shows(booth.good)
        await booth.until_back(session, "tls-failure")
        assert booth.raised() == {"tls-failure"}
        assert set(booth.lights(well_s)) <= {"ok"}


Story = Callable[[FarBooth], Awaitable[None]]
Told = Callable[[Story], None]
STORIES: Mapping[str, Story] = {
    story.__name__: story
    for story in (
        broken_ipv6, black_hole, black_hole_before_the_broker_alone, flapping, names_fail, names_hang, portal,
        certificate_of_the_page, certificate_of_the_broker,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """All stories, each in namespaces of its own; gives what raises the failure of one."""

    async def live(number: int, story: Story) -> None:
        with Namespace(f"f{number}") as namespace:
            await story(FarBooth(namespace, tmp_path_factory.mktemp(story.__name__)))

    async def all_of_them() -> list[BaseException | None]:
        first, *others = (live(number, story) for number, story in enumerate(STORIES.values()))
        # The first one measures seconds from its start: the others start when it is told.
        (alone,) = await asyncio.gather(first, return_exceptions=True)
        return [alone, *await asyncio.gather(*others, return_exceptions=True)]

    outcomes = dict(zip(STORIES, asyncio.run(all_of_them()), strict=True))

    def came_true(story: Story) -> None:
        if (failure := outcomes[story.__name__]) is not None:
            raise failure

    return came_true


def test_f22_a_black_hole_behind_the_box_is_nothing_beyond_it_and_heals_by_itself(told: Told) -> None:
    told(black_hole)


def test_f22_a_black_hole_before_the_broker_alone_is_the_brokers_and_the_light_stays(told: Told) -> None:
    told(black_hole_before_the_broker_alone)


def test_f23_a_link_that_flaps_twenty_times_is_told_once(told: Told) -> None:
    told(flapping)


def test_f24_when_names_fail_the_broker_is_reached_by_the_address_that_worked_after_a_restart_too(told: Told) -> None:
    told(names_fail)


def test_f25_while_names_hang_the_printer_is_heard_within_a_second_and_the_broker_reached(told: Told) -> None:
    told(names_hang)


def test_f26_a_portal_that_answers_for_every_name_is_a_portal_and_nothing_else(told: Told) -> None:
    told(portal)


def test_f27_where_ipv6_alone_is_broken_broker_and_page_are_reached_within_three_seconds(told: Told) -> None:
    told(broken_ipv6)


def test_f28_a_check_page_with_a_bad_certificate_is_refused_with_the_reason(told: Told) -> None:
    told(certificate_of_the_page)


def test_f28_a_broker_with_a_bad_certificate_is_refused_with_the_reason_and_the_light_stays(told: Told) -> None:
    told(certificate_of_the_broker)


def test_a_default_route_with_several_ways_counts_and_its_dead_ones_only_where_all_are() -> None:
    with Namespace("multipath") as namespace:
        namespace.run("sh", "-ec", """
            ip link add spare0 type veth peer name spare1
            ip address add 198.51.100.20/24 dev spare0
            ip link set spare0 up
            ip link set spare1 up
            ip route replace default nexthop via 198.51.100.1 dev spare0 nexthop via 192.0.2.1 dev eth0
        """)  # fmt: skip
        both = [("spare0", "198.51.100.1"), ("eth0", "192.0.2.1")]
        until_default_routes(namespace, both)
        namespace.run("ip", "link", "set", "spare1", "down")
        until_default_routes(namespace, both[1:])
        namespace.cable(plugged=False)
        until_default_routes(namespace, both)


ROUTES = """
import json
from agent.devices.netlink import Links
print(json.dumps([[route.interface, route.gateway] for route in Links().snapshot().default_routes]))
"""


def until_default_routes(namespace: Namespace, expected: list[tuple[str, str]]) -> None:
    """The kernel takes up to a second to tell a route of a carrier."""
    end_s = time.monotonic() + 10
    while (found := [(interface, gateway) for interface, gateway in namespace.json(sys.executable, "-c", ROUTES)]) != expected:
        assert time.monotonic() < end_s, found
