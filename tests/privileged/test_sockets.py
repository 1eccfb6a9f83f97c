"""The real socket activation, without systemd as process 1: one process for each connection."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.privileged.booth import Booth
from tests.privileged.test_program import MALFORMED

if shutil.which("systemd-socket-activate") is None:
    pytest.skip("systemd-socket-activate is missing: apt-get install systemd", allow_module_level=True)


class Door:
    """A socket such as /run/booth-acts/usb-rebind.sock, and what listens at it."""

    def __init__(self, booth: Booth, act: str, path: Path) -> None:
        self.path = path
        program = [sys.executable, "-I", "-m", "agent.privileged", act, "--root", str(booth.root)]
        self._log = open(booth.root / "log", "wb")  # noqa: SIM115 - as long as the door
        self._process = subprocess.Popen(
            ["systemd-socket-activate", "--accept", "--inetd", "-l", str(path), *program],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        end_s = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < end_s
            assert self._process.poll() is None
            time.sleep(0.01)

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def knock(self) -> socket.socket:
        end_s = time.monotonic() + 20
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(60)
            try:
                client.connect(str(self.path))
            except ConnectionRefusedError:  # the file is there a moment before anybody listens
                client.close()
                assert time.monotonic() < end_s
                time.sleep(0.01)
            else:
                return client

    def ask(self, line: bytes) -> Any:
        with self.knock() as client:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough, and answered
                client.sendall(line)
            return answer(client)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(20)
        self._log.close()


def answer(client: socket.socket) -> Any:
    """The verdict, up to the end of the connection."""
    data = b""
    while True:
        try:
            more = client.recv(4096)
        except ConnectionResetError:  # what we said was not read to its end
            break
        if not more:
            break
        data += more
    assert data.endswith(b"\n")
    return json.loads(data)


@pytest.fixture
def door(booth: Booth) -> Iterator[Door]:
    booth.slots()
    booth.plug("1-1.2", {"07": "usblp"})
    with tempfile.TemporaryDirectory(prefix="booth-acts-") as folder:  # a socket's path is short
        opened = Door(booth, "usb-rebind", Path(folder) / "usb-rebind.sock")
        yield opened
        opened.close()
    assert "Traceback" not in opened.log()


def test_the_act_is_done_for_a_client_that_stays_for_the_verdict(door: Door) -> None:
    assert door.ask(b"receipt-printer\n") == {
        "act": "usb-rebind", "slot": "receipt-printer", "done": True, "code": "done", "detail": None,
    }  # fmt: skip
    assert door.ask(b"camera\n")["code"] == "unknown-slot"


def test_whatever_else_is_said_is_refused_and_the_next_one_is_served(door: Door) -> None:
    codes = {door.ask(line)["code"] for line in MALFORMED if line.endswith(b"\n") or len(line) > 65}
    assert codes == {"bad-request"}
    assert door.ask(b"receipt-printer\n")["done"]


def test_a_line_may_come_in_pieces(door: Door) -> None:
    with door.knock() as client:
        for piece in (b"receipt", b"-", b"printer", b"\n"):
            client.sendall(piece)
            select.select([], [], [], 0.1)
        assert answer(client)["done"]


def test_a_line_without_an_end_is_waited_for_no_longer_than_five_seconds(door: Door) -> None:
    began_s = time.monotonic()
    with door.knock() as client:
        client.sendall(b"receipt-printer")
        assert answer(client)["code"] == "bad-request"
    assert 4.5 < time.monotonic() - began_s < 20


def test_a_client_that_ends_its_line_by_going_is_answered_for_nobody(door: Door) -> None:
    for line in (b"", b"receipt-printer"):
        with door.knock() as client:
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            assert answer(client)["code"] == "bad-request"
    with door.knock() as client:
        client.sendall(b"receipt-printer\n")  # and hangs up at once
    assert door.ask(b"receipt-printer\n")["done"]


def test_a_flood_gets_no_more_than_the_limit(door: Door) -> None:
    with ExitStack() as all_of_them:
        clients = [all_of_them.enter_context(door.knock()) for _ in range(16)]
        for client in clients:
            client.sendall(b"receipt-printer\n")
        codes = [answer(client)["code"] for client in clients]
    assert sorted(codes) == ["done"] * 10 + ["rate-limited"] * 6
    assert door.ask(b"receipt-printer\n")["code"] == "rate-limited"
