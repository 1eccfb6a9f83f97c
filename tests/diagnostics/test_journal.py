"""The journal over a socket: the unit that may read it answers, and its allow-list decides what comes out."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.diagnostics import journal

_ACTIVATE = shutil.which("systemd-socket-activate")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """As systemd serves booth-journal@.service: a process for each connection."""
    if _ACTIVATE is None:
        pytest.skip("systemd-socket-activate is missing (apt-get install systemd)")
    path = tmp_path / "journal.sock"
    command = [_ACTIVATE, "--accept", "--inetd", "-l", str(path), sys.executable, "-I", "-m", "agent.diagnostics.journal"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end_s = time.monotonic() + 30
    while not path.is_socket():
        assert time.monotonic() < end_s, "no socket"
        time.sleep(0.02)
    yield path
    process.terminate()
    process.wait()


def test_the_unit_answers_in_the_form_of_the_bundle(served: Path) -> None:
    found = journal.told({"kiosk.service"}, {"scanner"}, served)
    assert set(found) == {"entries", "counts", "since", "stopped", "unavailable"}
    assert found["unavailable"] is None or "systemd-journal" in found["unavailable"]


def test_it_takes_names_and_nothing_else(served: Path) -> None:
    for question in (b'{"units":[1],"peripherals":[]}\n', b"\xff\n", b"{}\n", b'{"units":[],"peripherals":["A B"]}\n'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(served))
            connection.sendall(question)
            assert connection.recv(100) == b""


def test_one_that_hangs_up_or_talks_nonsense_is_told_in_the_bundle(tmp_path: Path) -> None:
    for number, answer in enumerate((b"", b"no JSON", b"[1]")):
        path = tmp_path / f"{number}.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()

            def once(listening: socket.socket = listening, answer: bytes = answer) -> None:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

            answering = threading.Thread(target=once)
            answering.start()
            found = journal.told((), (), path)
            answering.join(10)
        assert found["unavailable"].startswith("booth-journal does not answer: ")
        assert json.dumps(found)
