"""Whether root itself reaches the broker: it decides whether a version that did not is to blame."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from agent.privileged.machine import Machine
from agent.privileged.reach import DEADLINE_S, broker_reached
from agent.simulator.mosquitto import Mosquitto, free_port
from tests.faults.file_server import file_server
from tests.faults.pki import Authority, Pair
from tests.machine.namespace import missing_mounts

Reached = Callable[[str, int], bool]

HERE: Final = "IP:127.0.0.1,DNS:localhost"
IN_ALL_S: Final = 2 * DEADLINE_S  # on a busy machine


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"), "fleet-ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"), "other-ca")


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.issue("broker", HERE)


def booth(root: Path, authority: Authority | None, booths: Pair | None = None, scheme: str = "mqtts") -> Reached:
    """Root's look from a booth whose agent.toml names files of its own folder."""
    folder = root / "etc/booth-agent"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["[broker]", f'url = "{scheme}://localhost:8883"']
    if authority is not None:
        shutil.copy(authority.file, folder / "ca.pem")
        lines.append('ca = "ca.pem"')
    if booths is not None:
        shutil.copy(booths.certificate, folder / "booth.pem")
        shutil.copy(booths.key, folder / "booth.key")
        lines += ['certificate = "booth.pem"', 'key = "booth.key"']
    (folder / "agent.toml").write_text("\n".join(lines))
    return broker_reached(Machine(root))


def looked(reached: Reached, host: str, port: int) -> bool:
    began_s = time.monotonic()
    said = reached(host, port)
    assert time.monotonic() - began_s < IN_ALL_S
    return said


@contextmanager
def silent() -> Iterator[int]:
    """Somebody who accepts a connection, and says nothing: a portal, a server that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_broker_that_proves_its_name_is_reached(tmp_path: Path, authority: Authority, good: Pair) -> None:
    with file_server(b"", good) as server:
        assert looked(booth(tmp_path, authority), "localhost", server.server_port)


@pytest.mark.parametrize("wrong", ["expired", "another name", "another authority", "no authority that the system knows"])
def test_a_broker_that_no_agent_would_believe_is_not_reached(
    tmp_path: Path, authority: Authority, stranger: Authority, good: Pair, wrong: str
) -> None:
    """An expired certificate, or a clock that is wrong, must take no version back."""
    pair = good
    if wrong == "expired":
        pair = authority.issue("late", HERE, expired=True)
    elif wrong == "another name":
        pair = authority.issue("elsewhere", "DNS:broker.example")
    believed = {"another authority": stranger, "no authority that the system knows": None}.get(wrong, authority)
    with file_server(b"", pair) as server:
        assert not looked(booth(tmp_path, believed), "localhost", server.server_port)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_an_old_tls_is_no_tls(tmp_path: Path, authority: Authority, good: Pair) -> None:
    with file_server(b"", good, highest=ssl.TLSVersion.TLSv1_1) as server:
        assert not looked(booth(tmp_path, authority), "localhost", server.server_port)


def test_whoever_answers_without_tls_is_the_broker_only_where_agent_toml_wants_none(tmp_path: Path, authority: Authority) -> None:
    with silent() as port:
        assert not looked(booth(tmp_path, authority), "localhost", port)
        assert looked(booth(tmp_path, None, scheme="mqtt"), "localhost", port)


def test_nobody_there_is_not_reached(tmp_path: Path, authority: Authority) -> None:
    for host in ("localhost", "no-such-name.invalid", "", "a" * 70 + ".example", "x..y"):
        assert not looked(booth(tmp_path, authority), host, free_port())
        assert not looked(booth(tmp_path, None, scheme="mqtt"), host, free_port())


@pytest.mark.parametrize(
    "text",
    [None, "[broker", "broker = 3", "[broker]", '[broker]\nurl = 3\nca = 4', '[broker]\nurl = "mqtts://[x"',
     '[broker]\nurl = "mqtts://localhost"\nca = "missing.pem"', '[broker]\nurl = "mqtts://localhost"\ncertificate = "x"'],
)  # fmt: skip
def test_what_agent_toml_does_not_say_cannot_be_reached(tmp_path: Path, good: Pair, text: str | None) -> None:
    reached = booth(tmp_path, None)
    file = tmp_path / "etc/booth-agent/agent.toml"
    file.unlink() if text is None else file.write_text(text)
    with file_server(b"", good) as server:
        assert not looked(reached, "localhost", server.server_port)


async def test_a_broker_that_refuses_the_booths_own_certificate_is_not_reached(
    tmp_path: Path, authority: Authority, stranger: Authority, good: Pair
) -> None:
    """With TLS 1.3 it says so only after its own part is done."""
    port = free_port()
    lines = (
        f"listener {port} 127.0.0.1", f"cafile {authority.file}", f"certfile {good.certificate}", f"keyfile {good.key}",
        "require_certificate true",
    )  # fmt: skip
    broker = Mosquitto(tmp_path, "\n".join(lines), port)
    await broker.start()
    try:
        for pair, reached in (
            (authority.issue("61-0007"), True),
            (authority.issue("61-0008", expired=True), False),
            (stranger.issue("61-0009"), False),
            (None, False),
        ):
            look = booth(tmp_path, authority, pair)
            assert await asyncio.to_thread(looked, look, "localhost", port) is reached, pair
    finally:
        await broker.stop()


def test_an_address_that_leads_nowhere_does_not_hide_the_one_that_leads_there(
    tmp_path: Path, authority: Authority, good: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where IPv6 is broken, connections to it are never answered: here, to a listener whose queue is full."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):  # the kernel takes one or two more than the backlog
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with file_server(b"", good) as server:
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (full.getsockname(), server.server_address)
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            assert looked(booth(tmp_path, authority), "localhost", server.server_port)


ASIDE: Final = """
import socket, sys, time
from pathlib import Path
from agent.privileged.machine import Machine
from agent.privileged.reach import broker_reached
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
    name_server.bind(("127.0.0.1", 53))
    print(broker_reached(Machine(Path(sys.argv[1])))("broker.example", 8883), flush=True)
"""


@pytest.mark.skipif(missing_mounts() is not None, reason=str(missing_mounts()))
def test_a_name_server_that_never_answers_holds_root_up_for_seconds(tmp_path: Path) -> None:
    """libc waits for it for as long as resolv.conf says; the program has to end as well."""
    booth(tmp_path, None)
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    inside = f'ip link set lo up && mount --bind {resolvers} /etc/resolv.conf && exec "$@"'
    began_s = time.monotonic()
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", inside, "sh", sys.executable, "-c", ASIDE, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert DEADLINE_S <= time.monotonic() - began_s < 4 * DEADLINE_S
