"""Dialling: whatever a name or an address does, the answer is a stage and a word, never another exception."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.simulator.mosquitto import free_port
from agent.system import race
from agent.system.broker import BrokerAddress, BrokerError, Dialer, url_problem
from tests.faults.pki import Authority


def found(*sockaddrs: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """As getaddrinfo answers."""
    families = [socket.AF_INET6 if ":" in sockaddr[0] else socket.AF_INET for sockaddr in sockaddrs]
    return [(family, socket.SOCK_STREAM, 0, "", sockaddr) for family, sockaddr in zip(families, sockaddrs, strict=True)]


class Names:
    """A resolver that knows these addresses until `fails` holds an error."""

    def __init__(self, *sockaddrs: tuple[Any, ...]) -> None:
        self.known = found(*sockaddrs)
        self.fails: Exception | None = None
        self.asked = 0

    def __call__(self, *_: object) -> list[tuple[Any, ...]]:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return self.known


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


@contextlib.contextmanager
def full_server() -> Iterator[tuple[str, int]]:
    """A port that is there and answers nobody: its queue is full, and the kernel drops what comes."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listening.getsockname())
            yield listening.getsockname()


def test_a_label_that_no_name_can_have_is_an_unknown_name() -> None:
    with pytest.raises(BrokerError) as caught:
        Dialer(BrokerAddress("broker..example", 8883)).dial()
    assert (caught.value.stage, caught.value.reason) == ("dns", "unknown-name")
    assert url_problem("mqtts://broker..example:8883") is not None


def test_a_closed_port_is_refused() -> None:
    with pytest.raises(BrokerError) as caught:
        Dialer(BrokerAddress("127.0.0.1", free_port())).dial()
    assert (caught.value.stage, caught.value.reason) == ("connect", "refused")


# --- several addresses ---


def test_an_address_of_a_family_that_the_kernel_lacks_does_not_hide_the_next_one(server: tuple[str, int]) -> None:
    unsupported = (255, socket.SOCK_STREAM, 0, "", ("::1", server[1]))
    connection = Dialer(BrokerAddress("broker.example", server[1]), lambda *_: [unsupported, *found(server)]).dial()
    assert connection.getpeername() == server
    assert connection.gettimeout() is None
    connection.close()


def test_f27_an_address_that_swallows_everything_costs_a_head_start_and_no_time_out(server: tuple[str, int]) -> None:
    with full_server() as silent:
        started_s = time.monotonic()
        connection = Dialer(BrokerAddress("broker.example", server[1]), Names(silent, silent, server)).dial()
        assert 2 * race.HEAD_START_S <= time.monotonic() - started_s < race.ADDRESS_TIMEOUT_S
        assert connection.getpeername() == server
        connection.close()


def test_f27_an_address_that_refuses_costs_no_head_start(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "HEAD_START_S", 60.0)
    connection = Dialer(BrokerAddress("broker.example", server[1]), Names(("127.0.0.1", free_port()), server)).dial()
    assert connection.getpeername() == server
    connection.close()


def test_f27_however_many_addresses_of_ipv6_there_are_the_one_of_ipv4_has_its_turn() -> None:
    v6 = [(socket.AF_INET6, (f"2001:db8::{n}", 8883, 0, 0)) for n in range(1, 6)]
    v4 = [(socket.AF_INET, ("192.0.2.1", 8883))]
    assert race.interleaved([*v6, *v4]) == [v6[0], v4[0], *v6[1:]]
    assert race.interleaved([*v4, *v6]) == [v4[0], *v6]
    assert race.interleaved([]) == []


@pytest.mark.parametrize("silent_first", [True, False])
def test_of_two_failures_the_one_that_says_more_is_told(silent_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "ADDRESS_TIMEOUT_S", 0.4)
    with full_server() as silent:
        refusing = ("127.0.0.1", free_port())
        names = Names(silent, refusing) if silent_first else Names(refusing, silent)
        with pytest.raises(BrokerError) as caught:
            Dialer(BrokerAddress("broker.example", 8883), names).dial()
        assert (caught.value.stage, caught.value.reason) == ("connect", "refused")
        with pytest.raises(BrokerError) as caught:
            Dialer(BrokerAddress("broker.example", 8883), Names(silent)).dial()
        assert (caught.value.stage, caught.value.reason) == ("connect", "timeout")


# --- names that fail ---


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "no answer"), socket.gaierror(socket.EAI_NONAME, "unknown")])
def test_f24_when_the_name_is_not_found_any_more_the_addresses_that_worked_are_tried(
    error: OSError, server: tuple[str, int]
) -> None:
    names = Names(("127.0.0.2", server[1]), server)  # of two, nobody listens at the first
    dialer = Dialer(BrokerAddress("broker.example", server[1]), names)
    dialer.dial().close()
    names.fails = error
    with dialer.dial() as connection:
        assert connection.getpeername() == server
    assert names.asked == 2


def test_f24_without_an_address_that_ever_worked_the_name_is_to_blame() -> None:
    names = Names()
    names.fails = socket.gaierror(socket.EAI_AGAIN, "no answer")
    with pytest.raises(BrokerError) as caught:
        Dialer(BrokerAddress("broker.example", 8883), names).dial()
    assert (caught.value.stage, caught.value.reason) == ("dns", "no-answer")


def test_f25_a_lookup_that_hangs_is_given_up_and_no_second_one_started(
    server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.system.broker.LOOKUP_DEADLINE_S", 0.1)
    answers = threading.Event()
    asked = 0

    def resolve(*_: object) -> list[tuple[Any, ...]]:
        nonlocal asked
        asked += 1
        assert asked == 1 or answers.wait(10)
        return found(server)

    dialer = Dialer(BrokerAddress("broker.example", server[1]), resolve)
    try:
        dialer.dial().close()
        for _ in range(3):
            dialer.dial().close()  # by the address that worked
        assert asked == 2
        dialer._known = []
        with pytest.raises(BrokerError) as caught:
            dialer.dial()
        assert (caught.value.stage, caught.value.reason) == ("dns", "timeout")
    finally:
        answers.set()


# --- what is remembered ---


def test_f24_the_address_that_worked_is_known_after_a_restart(tmp_path: Path, server: tuple[str, int]) -> None:
    file = tmp_path / "broker-address"
    address = BrokerAddress("broker.example", server[1])
    Dialer(address, Names(("127.0.0.2", server[1]), server), file).dial().close()
    assert file.read_text() == f"broker.example:{server[1]}\n127.0.0.1\n127.0.0.2\n"
    silent = Names()
    silent.fails = socket.gaierror(socket.EAI_AGAIN, "no answer")
    with Dialer(address, silent, file).dial() as connection:
        assert connection.getpeername() == server
    with pytest.raises(BrokerError, match="dns: no-answer"):
        Dialer(BrokerAddress("other.example", server[1]), silent, file).dial()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"\0" * 512, b"broker.example:1", b"broker.example:1\nevil.example\n300.1.1.1\n"]
)
def test_f48_a_damaged_memory_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broker-address"
    file.write_bytes(content)
    silent = Names()
    silent.fails = socket.gaierror(socket.EAI_AGAIN, "no answer")
    with pytest.raises(BrokerError, match="dns: no-answer"):
        Dialer(BrokerAddress("broker.example", 1), silent, file).dial()


def test_f41_a_disk_that_takes_nothing_holds_up_no_connection(tmp_path: Path, server: tuple[str, int]) -> None:
    Dialer(BrokerAddress("broker.example", server[1]), Names(server), tmp_path / "missing" / "broker-address").dial().close()


def test_an_address_that_was_configured_needs_no_memory(tmp_path: Path, server: tuple[str, int]) -> None:
    Dialer(BrokerAddress("127.0.0.1", server[1]), None, tmp_path / "broker-address").dial().close()
    assert list(tmp_path.iterdir()) == []


def test_f24_only_who_proved_to_be_the_broker_is_remembered(tmp_path: Path) -> None:
    """A portal that lies about every name gets as far as TCP: its address must not replace the good one."""
    broker = Authority(tmp_path, "fleet-ca").issue("broker", "DNS:broker.example")
    ca = tmp_path / "fleet-ca" / "ca.pem"
    portal = Authority(tmp_path, "portal-ca").issue("portal", "DNS:broker.example")
    memory = tmp_path / "broker-address"
    port = free_port()
    with tls_server("127.0.0.1", port, broker), tls_server("127.0.0.2", port, portal):
        names = Names(("127.0.0.1", port))
        dialer = Dialer(BrokerAddress("broker.example", port, tls=True, ca=ca), names, memory)
        dialer.dial().close()
        names.known = found(("127.0.0.2", port))
        with pytest.raises(BrokerError, match="tls: unknown-ca"):
            dialer.dial()
        assert memory.read_text() == f"broker.example:{port}\n127.0.0.1\n"
        names.fails = socket.gaierror(socket.EAI_AGAIN, "no answer")
        with dialer.dial() as connection:
            assert connection.getpeername() == ("127.0.0.1", port)


@contextlib.contextmanager
def tls_server(host: str, port: int, pair: Any) -> Iterator[None]:
    """Shakes hands with everybody, one after the other."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    listening = socket.create_server((host, port))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
