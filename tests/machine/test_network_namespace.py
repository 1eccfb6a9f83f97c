"""The network chain on a machine of our own making: a network namespace with a real cable and a real kernel.

Broker, agent and observer run inside, on its loopback, so that the observer still hears the booth when its
way out is gone. What is inferred (the gateway, names, the portal) is believed after 20 s: those booths live
side by side, in one fixture.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.simulator.booth import toml
from tests.background import meanwhile
from tests.machine.namespace import Namespace, missing
from tests.world import BIN, BOOTH, ROOT

PORT = 1883  # of a loopback that is ours alone
PATIENCE_S = 60.0
UNTIL_IT_WORKS = ("sh", "-c", 'until "$@" 2>/dev/null; do sleep 0.05; done', "sh")  # before a command: an attempt ends at once

SILENT_NAME_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("192.0.2.1", 53))
print("ready", flush=True)
while True:
    server.recv(4096)
"""

CHECK_PAGE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[1]))
        self.send_header("Location", "http://portal.example/login")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("192.0.2.1", 8080), Handler)
print("ready", flush=True)
server.serve_forever()
"""


class Booth:
    """A broker, an agent with a `network` peripheral, and an observer, all inside a namespace."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.seen: list[tuple[float, str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self._folder = folder
        self._news = asyncio.Event()

    @asynccontextmanager
    async def running(self, *, well: bool = True, **network: Any) -> AsyncIterator[None]:
        """With these options of the peripheral; `well` waits until it was seen healthy."""
        tables = {
            "booth": {"id": BOOTH, "area": "61"},
            "broker": {"url": f"mqtt://127.0.0.1:{PORT}"},
            "reporting": {"alarm_after_s": 1},
            "peripherals": {"network": {"kind": "network", "interval_s": 5} | network, "board": {"kind": "board"}},
        }
        config = self._folder / "agent.toml"
        config.write_text("".join(f"{name} = {toml(table)}\n" for name, table in tables.items()))
        broker_config = self._folder / "mosquitto.conf"
        broker_config.write_text(f"listener {PORT} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\n")
        state = self._folder / "state"
        state.mkdir()
        log = self._folder / "agent.log"
        broker = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert broker is not None, "mosquitto is missing"
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(program(self.namespace.inside(broker, "-c", str(broker_config))))
            await stack.enter_async_context(self._observed())
            with open(log, "wb") as output:
                agent = await stack.enter_async_context(
                    program(
                        self.namespace.inside(
                            str(BIN / "booth-agent"), "run", "--config", str(config), "--state-dir", str(state)
                        ),
                        stderr=output,
                    )
                )
            await self.until(lambda: self.last("state"), "a connection")
            if well:
                await self.until_well()
            yield
            assert agent.returncode is None, log.read_text()
        assert "Traceback" not in log.read_text()

    async def until(self, condition: Callable[[], Any], what: str) -> float:
        """Until `condition` is truthy; returns when the message arrived that made it so."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                try:
                    await self._news.wait()
                except asyncio.CancelledError:
                    print(f"never came true: {what}; health {self.last('health/network')}")
                    raise
        return self.seen[-1][0]

    async def until_only(self, code: str) -> float:
        """Until the network has this finding and no other."""
        return await self.until(lambda: self.codes() == [code], code)

    async def until_well(self) -> None:
        await self.until(lambda: self.status() == "ok" and not self.codes(), "a healthy network again")
        await self.until(lambda: self.last("service/web") == "ok" and self.last("led") == "ok", "web and light ok")

    def last(self, topic: str) -> Any:
        payload = self.retained.get(f"{ROOT}/{topic}")
        if not payload:
            return None
        return json.loads(payload) if payload.startswith(b"{") else payload.decode()

    def status(self) -> Any:
        return (self.last("health/network") or {}).get("status")

    def finding(self) -> dict[str, Any]:
        """The worst finding that stands."""
        found: dict[str, Any] = self.last("health/network")["findings"][0]
        return found

    def codes(self) -> list[str]:
        return [finding["code"] for finding in (self.last("health/network") or {}).get("findings", ())]

    def raised(self) -> set[str]:
        """Every code of the network that was ever raised."""
        events = [json.loads(payload) for _, topic, payload in self.seen if topic == f"{ROOT}/event/health"]
        return {event["code"] for event in events if event["peripheral"] == "network" and event["data"]["change"] == "raised"}

    def _beside_the_broker(self, *command: str) -> tuple[str, ...]:
        return self.namespace.inside(*command)

    @asynccontextmanager
    async def _observed(self) -> AsyncIterator[None]:
        sub = ("mosquitto_sub", "-V", "mqttv5", "-p", str(PORT), "-q", "1", "-t", "booth/#", "-F", "%t\t%p")
        command = self._beside_the_broker(*UNTIL_IT_WORKS, *sub)
        async with (
            program(command, stdout=asyncio.subprocess.PIPE) as subscriber,
            meanwhile(self._read(subscriber)),
        ):
            yield

    async def _read(self, subscriber: asyncio.subprocess.Process) -> None:
        assert subscriber.stdout is not None
        while line := await subscriber.stdout.readline():
            topic, _, payload = line.rstrip(b"\n").decode("latin-1").partition("\t")
            self.seen.append((time.monotonic(), topic, payload.encode("latin-1")))
            self.retained[topic] = payload.encode("latin-1")
            self._news.set()


@asynccontextmanager
async def program(command: tuple[str, ...], **streams: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child in a session of its own, so that its own children end with it."""
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.DEVNULL)
    process = await asyncio.create_subprocess_exec(*command, **(quiet | streams), start_new_session=True, limit=2**20)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def at_the_box(namespace: Namespace, script: str, *arguments: str) -> AsyncIterator[None]:
    """A server at the other end of the cable, ready."""
    command = namespace.at_the_box(sys.executable, "-c", script, *arguments)
    async with program(command, stdout=asyncio.subprocess.PIPE) as server:
        assert server.stdout is not None
        async with asyncio.timeout(20):
            assert await server.stdout.readline() == b"ready\n"
        yield


@pytest.fixture(scope="module", autouse=True)
def namespaces_can_be_made() -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    for name in ("mosquitto_sub", "mosquitto"):
        if shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin") is None:
            pytest.skip(f"{name} is missing (apt-get install mosquitto mosquitto-clients)")


# --- what the kernel states: believed at once ---


async def test_a_pulled_cable_is_said_within_a_second_and_its_return_heals_without_restart(tmp_path: Path) -> None:
    with Namespace("cable") as namespace:
        booth = Booth(namespace, tmp_path)
        async with booth.running():
            for _ in range(2):
                await asyncio.sleep(1)  # one health message a second: the next one must not wait for its turn
                pulled_s = time.monotonic()
                namespace.cable(plugged=False)
                assert await booth.until_only("no-carrier") - pulled_s < 1
                await booth.until(lambda: booth.last("service/web") == "down", "web down")
                await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
                alarm = booth.last("alarm/network/no-carrier")
                assert (alarm["fix_by"], alarm["services"]) == ("shopkeeper", ["web"])
                assert alarm["text"]["fr"] == "Le câble réseau est débranché, ou la box est éteinte."
                namespace.cable(plugged=True)
                await booth.until_well()
            assert booth.raised() == {"no-carrier"}
            assert booth.last("state")["state"] == "online"


async def test_a_lost_address_is_said_after_its_two_seconds_and_heals_when_it_is_back(tmp_path: Path) -> None:
    with Namespace("address") as namespace:
        booth = Booth(namespace, tmp_path)
        async with booth.running():
            taken_s = time.monotonic()
            namespace.take_address()
            said_s = await booth.until_only("no-address")
            assert 2 <= said_s - taken_s < 6
            assert booth.finding()["detail"] == {"interface": "eth0"}
            await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
            namespace.give_address()
            namespace.route()
            await booth.until_well()
            assert booth.raised() == {"no-address"}


# --- what is inferred: believed after 20 s ---


@dataclass(frozen=True)
class Outcome:
    """What one booth said while something was broken, and afterwards."""

    finding: dict[str, Any]
    facts: dict[str, Any]
    web: str
    raised: set[str]
    after_s: float
    heard_s: float | None = None  # how long a pulled cable took meanwhile


Story = Callable[[Namespace, Booth], Awaitable[Outcome]]


async def told(booth: Booth, breaks: Callable[[], object], code: str, repairs: Callable[[], object]) -> Outcome:
    """Break it, wait for the code, the service and the light; repair it, wait until all is well."""
    broken_s = time.monotonic()
    breaks()
    after_s = await booth.until_only(code) - broken_s
    finding, facts = booth.finding(), booth.last("health/network")["facts"]
    await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
    web = booth.last("service/web")
    repairs()
    await booth.until_well()
    return Outcome(finding, facts, web, booth.raised(), after_s)


async def no_route(namespace: Namespace, booth: Booth) -> Outcome:
    async with booth.running():
        return await told(booth, namespace.unroute, "gateway-unreachable", namespace.route)


async def dead_box(namespace: Namespace, booth: Booth) -> Outcome:
    async with booth.running():
        return await told(booth, namespace.box_dies, "gateway-unreachable", namespace.box_lives)


async def silent_names(namespace: Namespace, booth: Booth) -> Outcome:
    """From the start: resolv.conf is read when the agent starts. The broker's own name needs no resolver."""
    namespace.name_server("192.0.2.1")
    async with at_the_box(namespace, SILENT_NAME_SERVER):
        started_s = time.monotonic()
        async with booth.running(well=False, check_url="http://check.booth.example:8080/204"):
            after_s = await booth.until_only("dns-failure") - started_s
            finding, facts = booth.finding(), booth.last("health/network")["facts"]
            await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
            web = booth.last("service/web")
            await asyncio.sleep(1)  # one health message a second, as above
            # A lookup hangs now, as nearly always: the loop must hear the cable all the same.
            pulled_s = time.monotonic()
            namespace.cable(plugged=False)
            heard_s = await booth.until_only("no-carrier") - pulled_s
            return Outcome(finding, facts, web, booth.raised(), after_s, heard_s)


async def portal(namespace: Namespace, booth: Booth) -> Outcome:
    async with contextlib.AsyncExitStack() as good:
        await good.enter_async_context(at_the_box(namespace, CHECK_PAGE, "204"))
        async with booth.running(check_url="http://192.0.2.1:8080/204"):
            await good.aclose()
            async with at_the_box(namespace, CHECK_PAGE, "302"):
                broken_s = time.monotonic()
                after_s = await booth.until_only("captive-portal") - broken_s
                finding, facts = booth.finding(), booth.last("health/network")["facts"]
                await booth.until(lambda: booth.last("led") == "no-internet", "the light says no-internet")
                web = booth.last("service/web")
            async with at_the_box(namespace, CHECK_PAGE, "204"):
                await booth.until_well()
            return Outcome(finding, facts, web, booth.raised(), after_s)


STORIES: dict[str, Story] = {"route": no_route, "box": dead_box, "names": silent_names, "portal": portal}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome | BaseException]]:
    """All stories at once, each in a namespace of its own."""

    async def live(name: str, story: Story) -> Outcome:
        with Namespace(name) as namespace:
            return await story(namespace, Booth(namespace, tmp_path_factory.mktemp(name)))

    async def all_of_them() -> list[Outcome | BaseException]:
        return await asyncio.gather(*(live(name, story) for name, story in STORIES.items()), return_exceptions=True)

    yield dict(zip(STORIES, asyncio.run(all_of_them()), strict=True))


def outcome_of(outcomes: dict[str, Outcome | BaseException], name: str) -> Outcome:
    outcome = outcomes[name]
    if isinstance(outcome, BaseException):
        raise outcome
    assert 15 < outcome.after_s < 50  # debounced: nothing that passes by itself is told
    assert outcome.web == "down"
    assert (outcome.finding["severity"], outcome.finding["fix_by"]) == ("fault", "shopkeeper")
    return outcome


def test_f22_without_a_default_route_the_gateway_is_unreachable(outcomes: dict[str, Outcome | BaseException]) -> None:
    outcome = outcome_of(outcomes, "route")
    assert outcome.finding["detail"] == {"reason": "no-route"}
    assert outcome.facts["gateway"] is None
    assert outcome.raised == {"gateway-unreachable"}


def test_f22_a_box_that_answers_nothing_is_unreachable(outcomes: dict[str, Outcome | BaseException]) -> None:
    outcome = outcome_of(outcomes, "box")
    assert outcome.finding["detail"] == {"gateway": "192.0.2.1"}
    assert outcome.facts["gateway_reachable"] is False
    assert outcome.raised == {"gateway-unreachable"}


def test_f25_names_that_are_never_answered_are_a_dns_failure_and_the_loop_goes_on(
    outcomes: dict[str, Outcome | BaseException],
) -> None:
    outcome = outcome_of(outcomes, "names")
    assert outcome.finding["detail"] == {"reason": "timeout"}
    assert outcome.facts["dns"] == "timeout"
    assert outcome.heard_s is not None
    assert outcome.heard_s < 1
    assert outcome.raised - {"no-carrier"} == {"dns-failure"}  # an event may come after the health that it belongs to


def test_f26_a_captive_portal_is_named_and_goes_when_somebody_signed_in(outcomes: dict[str, Outcome | BaseException]) -> None:
    outcome = outcome_of(outcomes, "portal")
    assert outcome.facts["check"] == "portal"
    assert outcome.raised == {"captive-portal"}
