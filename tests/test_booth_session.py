"""`booth-session`: an application that knows nothing of the lock, wrapped."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import booth_session
from agent.system.session import LOCK_NAME, SessionLock, open_lock, try_lock
from tests.world import BIN

PROGRAM = str(BIN / "booth-session")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A runtime directory with the lock in it, as the system makes it."""
    os.close(open_lock(tmp_path))
    return tmp_path


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PROGRAM, "--runtime-dir", str(folder), "--wipe-socket", str(folder / "wipe.sock"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def opened(process: "subprocess.Popen[str]") -> list[Path]:
    """The files that it has open."""
    return [descriptor.resolve() for descriptor in Path(f"/proc/{process.pid}/fd").iterdir()]


def test_the_lock_is_held_for_as_long_as_the_command_runs_and_its_status_is_passed_on(folder: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "--runtime-dir", str(folder), "sh", "-c", "echo begun; read answer; exit 7"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert SessionLock(folder).held()
    process.communicate("go\n", timeout=20)
    assert process.returncode == 7
    assert not SessionLock(folder).held()


def test_the_command_does_not_inherit_the_lock(folder: Path) -> None:
    status, output, _ = finish(start(folder, "sh", "-c", "sleep 30 >/dev/null 2>&1 & echo $!"))
    try:
        assert status == 0
        assert not SessionLock(folder).held()
    finally:
        os.kill(int(output), signal.SIGKILL)


def test_it_waits_for_a_check_of_the_agents(folder: Path) -> None:
    agents = open_lock(folder)
    assert try_lock(agents)
    process = start(folder, "echo", "begun")
    until(lambda: folder / LOCK_NAME in opened(process))
    time.sleep(0.5)  # it waits through several attempts to take the lock
    assert process.poll() is None
    os.close(agents)
    assert finish(process) == (0, "begun\n", "")


def test_a_citizen_waits_no_longer_than_that_and_the_lock_is_taken_when_it_can_be(folder: Path) -> None:
    agents = open_lock(folder)
    assert try_lock(agents)
    process = start(folder, "--wait", "0.3", "sh", "-c", "echo begun; exec sleep 30")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    os.close(agents)
    until(SessionLock(folder).held)
    process.terminate()
    status, _, errors = finish(process)
    assert status == 128 + signal.SIGTERM
    assert "starting without it" in errors


def test_signals_are_the_commands(folder: Path) -> None:
    process = start(folder, sys.executable, "-c",
                    "import signal, sys\n"
                    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
                    "print('ready', flush=True)\n"
                    "signal.pause()")  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert finish(process)[0] == 5


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "name the command"),
        (["/nowhere/application"], 127, "there is no command"),
        (["/etc/passwd"], 126, "Permission denied"),
    ],
)
def test_mistakes_are_explained(folder: Path, arguments: list[str], status: int, said: str) -> None:
    ended, _, errors = finish(start(folder, *arguments))
    assert ended == status
    assert said in errors
    assert not SessionLock(folder).held()


@pytest.mark.parametrize("place", ["missing", "."])
def test_without_a_lock_it_says_what_to_do_and_makes_none(tmp_path: Path, place: str) -> None:
    status, output, errors = finish(start(tmp_path / place, "echo", "begun"))
    assert (status, output) == (1, "")
    assert "there is no session lock" in errors
    assert "systemd-tmpfiles --create" in errors
    assert "--runtime-dir" in errors
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_the_kiosks_own_unit_is_not_the_agents(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Path("/run/booth-agent") == booth_session.RUNTIME_DIR
    agents = folder / "agents"
    monkeypatch.setattr(booth_session, "RUNTIME_DIR", agents)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))  # where there is a lock, of nobody's
    assert booth_session.main(["true"]) == 1
    assert str(agents / "session.lock") in capfd.readouterr().err


def test_the_command_ends_with_its_wrapper(folder: Path) -> None:
    process = start(folder, "sh", "-c", "echo $$; exec sleep 60")
    assert process.stdout is not None
    command = int(process.stdout.readline())
    try:
        process.kill()
        process.communicate(timeout=20)  # until the command too has closed its output
    except subprocess.TimeoutExpired:
        os.kill(command, signal.SIGKILL)
        process.communicate()
        raise
    assert not SessionLock(folder).held()


# Popen has started the command, and not yet said so.
EARLY = """
import os, signal, subprocess, sys
from agent import booth_session
class Slow(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
subprocess.Popen = Slow
sys.exit(booth_session.main(sys.argv[1:]))
"""


def test_a_signal_that_comes_while_the_command_starts_reaches_it(folder: Path) -> None:
    command = [sys.executable, "-c", EARLY, "--runtime-dir", str(folder), "sleep", "60"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")


def test_an_ignored_signal_stays_ignored(folder: Path) -> None:
    """`nohup booth-session …`: the command inherits what its wrapper was started with."""
    command = [
        "sh",
        "-c",
        'trap "" HUP; exec "$0" "$@"',
        PROGRAM,
        "--runtime-dir",
        str(folder),
        "grep",
        "SigIgn",
        "/proc/self/status",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert int(ended.stdout.split()[1], 16) & 1 << signal.SIGHUP - 1


class Root:
    """Root's door, as systemd keeps it: notes what it is asked and whether the lock was free then; answers what it is told to."""

    def __init__(self, folder: Path, *codes: str | None) -> None:
        self.asked: list[tuple[bytes, bool]] = []
        self._folder = folder
        self._codes = codes
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(folder / "wipe.sock"))
        self._door.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for code in self._codes:
            self._door.settimeout(20)
            client, _ = self._door.accept()
            with client:
                self.asked.append((client.recv(100), not SessionLock(self._folder).held()))
                if code is not None:
                    client.sendall(code.encode())

    def close(self) -> None:
        self._thread.join(20)
        self._door.close()


DONE, REFUSED, FAILED = (json.dumps({"act": "wipe-session", "code": code}) + "\n" for code in ("done", "refused", "failed"))


def test_at_the_end_root_is_asked_to_wipe_once_the_lock_is_free(folder: Path) -> None:
    root = Root(folder, DONE)
    assert finish(start(folder, "sh", "-c", "exit 7")) == (7, "", "")
    root.close()
    assert root.asked == [(b"session\n", True)]


def test_a_check_of_the_agents_that_holds_the_lock_then_is_waited_for(folder: Path) -> None:
    root = Root(folder, REFUSED, None, DONE)  # None: systemd hangs up while another one is served
    assert finish(start(folder, "true")) == (0, "", "")
    root.close()
    assert len(root.asked) == 3


@pytest.mark.parametrize("answer", [FAILED, "nonsense\n", "[]\n", "{}\n"])
def test_what_may_be_left_is_said_and_the_status_is_the_commands(folder: Path, answer: str) -> None:
    root = Root(folder, answer)
    status, _, errors = finish(start(folder, "sh", "-c", "exit 3"))
    root.close()
    assert status == 3
    assert errors == "booth-session: what the session left may not be wiped (failed)\n"


def test_whoever_stops_the_kiosk_to_wipe_does_not_wait_for_it(folder: Path) -> None:
    """Root stops its unit while it waits there for root's verdict."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(folder / "wipe.sock"))
    door.listen()
    door.settimeout(20)
    process = start(folder, "true")
    client, _ = door.accept()
    assert client.recv(100) == b"session\n"
    until(lambda: not caught(process, signal.SIGTERM))
    process.terminate()
    assert finish(process)[0] == -signal.SIGTERM
    client.close()
    door.close()


def caught(process: "subprocess.Popen[str]", number: int) -> bool:
    """proc(5): whether the process has a handler for the signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & 1 << number - 1)
