"""The network chain: who is blamed, which interface counts, and what lies beyond the cable."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.contract.typed import Invalid, build
from agent.devices import reach
from agent.devices.netlink import DefaultRoute, Interface, NetworkState
from agent.devices.sysfs import KernelFiles
from agent.peripherals import network
from agent.peripherals.network import PERIPHERAL, NetworkSource, Options, uplink
from agent.peripherals.surroundings import BrokerView
from agent.rules.declaration import Reading
from agent.rules.health import Judgement, Now, judge
from agent.simulator.check_page import CheckPage, Mood
from agent.simulator.machine import SimulatedLinks
from agent.simulator.mosquitto import free_port
from tests.peripherals.surroundings import Around, Recorded

FINE: dict[str, Any] = {fact.name: None for fact in PERIPHERAL.facts} | {
    "interface": "eth0", "carrier": True, "address": "192.0.2.20", "gateway": "192.0.2.1", "gateway_reachable": True,
    "dns": "ok", "check": "ok", "broker": "connected",
}  # fmt: skip
CHAIN: list[tuple[dict[str, Any], str]] = [
    ({"carrier": False}, "no-carrier"),
    ({"address": None}, "no-address"),
    ({"gateway_reachable": False}, "gateway-unreachable"),
    ({"dns": "timeout"}, "dns-failure"),
    ({"check": "portal"}, "captive-portal"),
    ({"broker": "connect:refused"}, "broker-unreachable"),
]


def codes(**facts: Any) -> list[str]:
    return [item.code for item in network.find(FINE | facts, Options())]


def test_a_healthy_chain_has_no_finding() -> None:
    assert codes() == []


@pytest.mark.parametrize("first", range(len(CHAIN)))
def test_only_the_first_link_that_fails_is_blamed_whatever_fails_behind_it(first: int) -> None:
    facts: dict[str, Any] = {}
    for broken, _ in CHAIN[first:]:
        facts |= broken
    assert codes(**facts) == [CHAIN[first][1]]


@pytest.mark.parametrize(
    ("facts", "code", "severity", "detail"),
    [
        ({"carrier": False}, "no-carrier", None, {"interface": "eth0"}),
        ({"carrier": False, "interface": None}, "no-carrier", None, {}),
        ({"address": None}, "no-address", None, {"interface": "eth0"}),
        ({"gateway_reachable": False}, "gateway-unreachable", None, {"gateway": "192.0.2.1"}),
        ({"gateway_reachable": False, "gateway": None}, "gateway-unreachable", None, {"reason": "no-route"}),
        ({"dns": "unknown-name"}, "dns-failure", None, {"reason": "unknown-name"}),
        ({"check": "portal"}, "captive-portal", None, {}),
        ({"check": "tls:certificate-expired"}, "tls-failure", "fault", {"at": "check-page", "reason": "certificate-expired"}),
        ({"check": "connect:timeout", "broker": "connect:timeout"}, "gateway-unreachable", None, {"reason": "nothing-beyond"}),
        ({"broker": "tls:unknown-ca"}, "tls-failure", None, {"at": "broker", "reason": "unknown-ca"}),
        ({"broker": "mqtt:not-authorised"}, "broker-unreachable", None, {"stage": "mqtt", "reason": "not-authorised"}),
    ],
)
def test_what_a_link_is_blamed_for(facts: dict[str, Any], code: str, severity: str | None, detail: dict[str, Any]) -> None:
    (found,) = network.find(FINE | facts, Options())
    assert (found.code, found.severity, found.detail) == (code, severity, detail)


@pytest.mark.parametrize(
    "facts",
    [
        {"gateway_reachable": None},  # not known is not broken
        {"dns": None, "check": None},  # nothing to ask for
        {"check": "http-503"},  # the operator's own page is broken, not the shop's network
        {"check": "connect:timeout"},  # the page alone: the broker proves that the way is there
        {"broker": None},  # before the first attempt has ended
    ],
)
def test_what_blames_nobody(facts: dict[str, Any]) -> None:
    assert codes(**facts) == []


@pytest.mark.parametrize(
    ("fact", "code", "raises", "holds", "clears"),
    [
        ("rtt_ms", "high-latency", 300.0, 201.0, 200.0),
        ("loss_pct", "high-loss", 3.0, 1.1, 1.0),
        ("wifi_signal_dbm", "weak-signal", -75.0, -71.0, -70.0),
    ],
)
def test_line_quality_has_hysteresis(fact: str, code: str, raises: float, holds: float, clears: float) -> None:
    (found,) = network.find(FINE | {fact: raises}, Options())
    assert (found.code, found.holds_only) == (code, False)
    (found,) = network.find(FINE | {fact: holds}, Options())
    assert (found.code, found.holds_only) == (code, True)
    assert codes(**{fact: clears}) == []


@pytest.mark.parametrize(
    "url", ["ftp://h/x", "http://", "h/204", "http://u@h/x", "http://h:99999/", "http://[::1/", "http://h/a b", "http://h/é"]
)
def test_a_wrong_check_url_is_answered_with_what_to_write(url: str) -> None:
    with pytest.raises(Invalid, match="write http://HOST/PATH or https://HOST/PATH of a page that answers 204"):
        build(Options, {"check_url": url}, "peripherals.network")


def test_f23_a_link_that_flaps_is_one_finding_that_stands() -> None:
    judgement, said = Judgement(), []
    for turn in range(40):
        found = PERIPHERAL.findings_of(Reading(FINE | {"carrier": turn % 2 == 1}), Options())
        judgement, changes = judge(judgement, found, PERIPHERAL.finding_kinds, Now(turn * 2.5, "2026-12-01T12:00:00.000Z"))
        said += [change.what for change in changes]
    assert said == ["raised"]
    assert judgement.due_in_s(PERIPHERAL.finding_kinds, Now(39 * 2.5, "")) == 3.0
    judgement, changes = judge(judgement, [], PERIPHERAL.finding_kinds, Now(39 * 2.5 + 3, "2026-12-01T12:00:00.000Z"))
    assert ([change.what for change in changes], judgement.status) == (["cleared"], "ok")


# --- which interface counts ---


def card(name: str, *addresses: str, carrier: bool = True) -> Interface:
    return Interface(name, up=True, carrier=carrier, addresses=addresses)


def via(name: str, metric: int = 100, gateway: str | None = "192.0.2.1") -> DefaultRoute:
    return DefaultRoute(name, gateway, metric)


@pytest.mark.parametrize(
    ("state", "wanted", "last", "expected"),
    [
        (NetworkState((card("eth0", "192.0.2.2"), card("wlan0", "192.0.2.3")), (via("wlan0"),)), None, None, "wlan0"),
        (NetworkState((card("eth0", "192.0.2.2"), card("wlan0", "192.0.2.3")), (via("wlan0"),)), "eth0", None, "eth0"),
        (NetworkState((card("eth0", carrier=False), card("wlan0", "192.0.2.3"))), None, None, "wlan0"),
        (NetworkState((card("eth0", carrier=False), card("wlan0", carrier=False))), None, "wlan0", "wlan0"),
        (NetworkState((card("eth0", carrier=False), card("wlan0", carrier=False))), None, None, "eth0"),
        (NetworkState((card("eth0"), card("wlan0", carrier=False))), None, "wlan0", "wlan0"),
        (NetworkState(), None, "eth0", None),
        (NetworkState((card("eth0", "192.0.2.2"),)), "wlan0", None, "wlan0"),
    ],
    ids=[
        "the-one-with-the-default-route", "the-wanted-one", "the-one-set-up-furthest", "the-last-known-one",
        "the-first-one", "the-last-known-one-though-another-has-carrier", "none-at-all", "the-wanted-one-is-missing",
    ],
)  # fmt: skip
def test_the_interface_that_counts(state: NetworkState, wanted: str | None, last: str | None, expected: str | None) -> None:
    assert uplink(state, wanted, last).interface == expected


def test_the_preferred_route_gives_the_gateway() -> None:
    state = NetworkState((card("eth0", "192.0.2.2"),), (via("eth0", 10, "192.0.2.9"), via("eth0", 20, "192.0.2.8")))
    assert uplink(state, None, None).gateway == "192.0.2.9"


def test_of_two_routed_interfaces_the_preferred_route_decides() -> None:
    both = (card("eth0", "192.0.2.2"), card("wlan0", "192.0.2.3"))
    assert uplink(NetworkState(both, (via("wlan0", 10), via("eth0", 600))), None, None).interface == "wlan0"
    assert uplink(NetworkState(both, (via("eth0", 10), via("wlan0", 600))), None, "wlan0").interface == "eth0"


def test_a_point_to_point_link_is_routed_without_a_gateway() -> None:
    found = uplink(NetworkState((card("wwan0", "192.0.2.2"),), (via("wwan0", gateway=None),)), None, None)
    assert (found.routed, found.gateway) == (True, None)


# --- a whole probe ---


class Probed:
    """A source behind a simulated cable."""

    def __init__(self, options: Options | None = None, files: KernelFiles | None = None) -> None:
        self.links = SimulatedLinks()
        self.around = Around(files, self.links)
        self.signals = Recorded()
        self.options = options or Options()
        self.source = NetworkSource(self.options, self.around.view, self.signals)

    async def facts(self) -> dict[str, Any]:
        return PERIPHERAL.all_facts(await self.source.probe(active=False))

    async def codes(self) -> list[str]:
        return [item.code for item in PERIPHERAL.findings_of(await self.source.probe(active=False), self.options)]


@asynccontextmanager
async def check_page(mood: Mood = "good") -> AsyncIterator[CheckPage]:
    page = CheckPage()
    await page.start()
    page.mood = mood
    try:
        yield page
    finally:
        await page.stop()
        await quiet()


async def quiet() -> None:
    """Until the servers' ends of aborted connections have noticed."""
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("mood", "result", "found"), [("good", "ok", []), ("portal", "portal", ["captive-portal"]), ("broken", "http-503", [])]
)
async def test_what_the_check_page_answers(mood: Mood, result: str, found: list[str]) -> None:
    async with check_page(mood) as page:
        probed = Probed(Options(check_url=page.url))
        facts = await probed.facts()
        assert facts["check"] == result
        assert facts["check_ms"] is not None
        assert await probed.codes() == found
        await probed.source.close()


async def test_a_silent_page_is_given_up_in_time_and_blamed_on_nobody_while_the_broker_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.devices.reach.CHECK_DEADLINE_S", 0.3)
    async with check_page("silent") as page:
        probed = Probed(Options(check_url=page.url))
        assert (await probed.facts())["check"] == "connect:timeout"
        assert await probed.codes() == []
        probed.around.broker = BrokerView("connect:timeout", "broker.example")
        assert await probed.codes() == ["gateway-unreachable"]
        await probed.source.close()


@contextlib.contextmanager
def swallowing(host: str, port: int) -> Iterator[None]:
    """An address that answers nothing: the queue of its port is full, and the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield


async def test_f27_an_address_that_swallows_everything_costs_the_check_a_head_start_and_no_time_out() -> None:
    async with check_page() as page:
        probed = Probed(Options(check_url=page.url.replace("127.0.0.1", "check.example")))
        probed.around.resolve = _several("127.0.0.2", "127.0.0.1")
        with swallowing("127.0.0.2", urlsplit(page.url).port or 0):
            started_s = time.monotonic()
            assert (await probed.facts())["check"] == "ok"
            assert 0.25 <= time.monotonic() - started_s < 3
        await probed.source.close()


async def test_f27_an_address_that_cannot_be_reached_costs_the_check_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.devices.reach.HEAD_START_S", 60.0)
    async with check_page() as page:
        probed = Probed(Options(check_url=page.url.replace("127.0.0.1", "check.example")))
        probed.around.resolve = _several("127.0.0.2", "127.0.0.3", "127.0.0.1")
        async with asyncio.timeout(5):
            assert (await probed.facts())["check"] == "ok"
        await probed.source.close()


async def test_of_several_addresses_that_fail_the_one_that_says_most_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.devices.reach._ADDRESS_TIMEOUT_S", 0.3)
    port = free_port()
    probed = Probed(Options(check_url=f"http://check.example:{port}/204"))
    with swallowing("127.0.0.2", port):
        for addresses in (("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")):
            probed.around.resolve = _several(*addresses)
            assert (await probed.facts())["check"] == "connect:refused"
        probed.around.resolve = _several("127.0.0.2")
        assert (await probed.facts())["check"] == "connect:timeout"
    await probed.source.close()


def test_f27_dead_addresses_of_ipv6_do_not_hide_the_one_of_ipv4() -> None:
    assert reach._interleaved(["2001:db8::1", "2001:db8::2", "192.0.2.1"]) == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]
    assert reach._interleaved(["192.0.2.1", "192.0.2.2", "2001:db8::1"]) == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n<html>Welcome to our hotspot", "portal"),
        (b"HTTP/1.1 511 Network Authentication Required\r\n\r\n", "portal"),
        (b"HTTP/1.0 204 No Content\n\n", "ok"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "http-404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "portal"),
        (b"HTTP/1.1 what\r\n", "portal"),
        (b"\xff" * 200_000, "portal"),
        (b"", "portal"),
    ],
)
async def test_f26_whoever_answers_in_the_pages_stead_is_a_portal(answer: bytes, result: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    probed = Probed(Options(check_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/204"))
    try:
        assert (await probed.facts())["check"] == result
    finally:
        await probed.source.close()
        server.close()
        await quiet()


async def test_f28_a_check_page_whose_certificate_nobody_trusts_is_a_tls_failure_with_the_reason(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "page.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "page.pem", tmp_path / "key.pem")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    probed = Probed(Options(check_url=f"https://localhost:{server.sockets[0].getsockname()[1]}/204"))
    probed.around.resolve = _here
    try:
        assert (await probed.facts())["check"] == "tls:unknown-ca"
        assert await probed.codes() == ["tls-failure"]
    finally:
        await probed.source.close()
        server.close()
        await quiet()


async def _here(_: str) -> list[str]:
    return ["127.0.0.1"]


def _several(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    async def resolve(_: str) -> list[str]:
        return list(addresses)

    return resolve


async def test_without_a_cable_nothing_beyond_is_asked_for() -> None:
    probed = Probed(Options(check_url="http://check.example/204"))

    async def resolve(_: str) -> list[str]:
        raise AssertionError("asked for a name without a cable")

    probed.around.resolve = resolve
    probed.links.change(cable=False)
    assert await probed.codes() == ["no-carrier"]
    await probed.source.close()


async def test_a_pulled_cable_is_reported_at_once_and_its_return_worth_a_probe() -> None:
    probed = Probed()
    await probed.source.probe(active=False)
    probed.links.change(cable=False)
    assert [item.code for item in PERIPHERAL.findings_of(probed.signals.reports[-1], probed.options)] == ["no-carrier"]
    reports, wakes = len(probed.signals.reports), probed.signals.wakes
    probed.links.change(cable=True)
    assert (len(probed.signals.reports), probed.signals.wakes) == (reports, wakes + 1)
    probed.links.change()  # another interface, a lifetime renewed
    assert probed.signals.wakes == wakes + 1
    await probed.source.close()


async def test_a_dead_box_is_gateway_unreachable_unless_a_distant_broker_proves_otherwise() -> None:
    probed = Probed()
    probed.links.change(box=False)
    assert await probed.codes() == ["gateway-unreachable"]
    probed.around.broker = BrokerView("connected", "broker.example", "192.0.2.20")
    assert await probed.codes() == []
    await probed.source.close()


async def _names_nothing(_: str) -> list[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "no answer")


@pytest.mark.parametrize("trouble", ["dns", "box", "broker"])
async def test_while_something_is_wrong_it_is_asked_more_often(trouble: str) -> None:
    probed = Probed()
    await probed.source.probe(active=False)
    assert probed.source.interval_s() == 60.0
    if trouble == "box":
        probed.links.change(box=False)
    elif trouble == "broker":
        probed.around.broker = BrokerView("connect:refused", "127.0.0.1")
    else:
        probed.around.broker = BrokerView("dns:no-answer", "broker.example")
        probed.around.resolve = _names_nothing
    await probed.source.probe(active=False)
    # What the shopkeeper mends is looked at so often that she sees at once that it helped.
    assert probed.source.interval_s() == {"box": 3.0, "dns": 3.0, "broker": 10.0}[trouble]
    await probed.source.close()


async def test_f25_a_lookup_that_hangs_is_left_behind_and_no_second_one_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.network._DNS_DEADLINE_S", 0.1)
    probed = Probed()
    probed.around.broker = BrokerView("connected", "broker.example", "192.0.2.20")
    answered: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    started = 0

    async def resolve(_: str) -> list[str]:
        nonlocal started
        started += 1
        return await answered

    probed.around.resolve = resolve
    assert await probed.codes() == ["dns-failure"]
    assert (await probed.facts())["dns"] == "timeout"
    assert started == 1
    answered.set_result(["203.0.113.5"])
    await asyncio.sleep(0)
    assert (await probed.facts())["dns"] == "ok"
    await probed.source.close()


async def test_f25_who_waits_for_a_lookup_that_hung_says_no_other_reason_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """libc gives up on a silent server some seconds after us, with other words: one trouble, one reason."""
    monkeypatch.setattr("agent.peripherals.network._DNS_DEADLINE_S", 0.1)
    probed = Probed()
    probed.around.broker = BrokerView("connected", "broker.example", "192.0.2.20")
    answered: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def resolve(_: str) -> list[str]:
        return await answered

    probed.around.resolve = resolve
    assert (await probed.facts())["dns"] == "timeout"
    asyncio.get_running_loop().call_later(0.05, answered.set_exception, socket.gaierror(socket.EAI_AGAIN, "no answer"))
    assert (await probed.facts())["dns"] == "timeout"
    assert (await probed.facts())["dns"] == "no-answer"  # a new lookup, and this one is answered so at once
    await probed.source.close()


async def test_f25_a_lookup_that_fails_after_everybody_left_is_no_unhandled_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peripherals.network._DNS_DEADLINE_S", 0.05)
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    probed = Probed()
    probed.around.broker = BrokerView("connected", "broker.example", "192.0.2.20")

    async def resolve(_: str) -> list[str]:
        await asyncio.sleep(0.1)
        raise OSError("at last")

    probed.around.resolve = resolve
    assert await probed.codes() == ["dns-failure"]
    await asyncio.sleep(0.2)
    await probed.source.probe(active=False)
    await probed.source.close()
    await asyncio.sleep(0.01)
    assert unhandled == []


async def test_loss_is_counted_over_the_last_probes_of_one_connection() -> None:
    probed = Probed()

    async def loss(sent: int | None, again: int | None) -> Any:
        probed.around.broker = BrokerView("connected", "127.0.0.1", "127.0.0.1", 1.0, sent, again)
        return (await probed.facts())["loss_pct"]

    assert await loss(100, 5) is None
    assert await loss(110, 5) is None  # too few to say
    assert await loss(200, 10) == 5.0
    assert await loss(10, 0) is None  # a new connection counts from zero
    assert await loss(60, 1) == 2.0
    assert await loss(None, None) is None
    await probed.source.close()


@pytest.mark.parametrize(
    ("line", "signal"),
    [("eth0: 0000   54.  -62.  -256 0 0 0 0 0 0", -62.0), ("wlan9: 0000 54. -62. 0", None), ("eth0: 0000 54. ?", None)],
)
async def test_the_wifi_signal_is_that_of_the_interface_that_counts(tmp_path: Path, line: str, signal: float | None) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/wireless").write_text(f"Inter-| sta-|   Quality\n face | tus | link level noise\n{line}\n")
    probed = Probed(files=KernelFiles(tmp_path))
    assert (await probed.facts())["wifi_signal_dbm"] == signal
    await probed.source.close()


async def test_a_kernel_that_refuses_its_tables_is_a_failed_probe_not_a_dead_network() -> None:
    probed = Probed()

    def refuse() -> NetworkState:
        raise PermissionError(1, "Operation not permitted")

    probed.links.snapshot = refuse  # type: ignore[method-assign]
    assert await probed.codes() == ["probe-failed"]
    await probed.source.close()
