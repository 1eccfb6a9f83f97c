"""`booth-session`: an application that knows nothing of the lock, wrapped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.system.session import SessionLock, open_lock, try_lock
from tests.world import BIN

PROGRAM = str(BIN / "booth-session")


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PROGRAM, "--runtime-dir", str(folder), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors


def test_the_lock_is_held_for_as_long_as_the_command_runs_and_its_status_is_passed_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "--runtime-dir", str(tmp_path), "sh", "-c", "echo begun; read answer; exit 7"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert SessionLock(tmp_path).held()
    process.communicate("go\n", timeout=20)
    assert process.returncode == 7
    assert not SessionLock(tmp_path).held()


def test_the_command_does_not_inherit_the_lock(tmp_path: Path) -> None:
    status, output, _ = finish(start(tmp_path, "sh", "-c", "sleep 30 >/dev/null 2>&1 & echo $!"))
    try:
        assert status == 0
        assert not SessionLock(tmp_path).held()
    finally:
        os.kill(int(output), signal.SIGKILL)


def test_it_waits_for_a_check_of_the_agents(tmp_path: Path) -> None:
    agents = open_lock(tmp_path)
    assert try_lock(agents)
    process = start(tmp_path, "echo", "begun")
    time.sleep(0.5)
    assert process.poll() is None
    os.close(agents)
    assert finish(process) == (0, "begun\n", "")


def test_a_citizen_waits_no_longer_than_that_and_the_lock_is_taken_when_it_can_be(tmp_path: Path) -> None:
    agents = open_lock(tmp_path)
    assert try_lock(agents)
    process = start(tmp_path, "--wait", "0.3", "sh", "-c", "echo begun; exec sleep 30")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    os.close(agents)
    end_s = time.monotonic() + 20
    while not SessionLock(tmp_path).held():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    process.terminate()
    status, _, errors = finish(process)
    assert status == 128 + signal.SIGTERM
    assert "starting without it" in errors


def test_signals_are_the_commands(tmp_path: Path) -> None:
    process = start(tmp_path, sys.executable, "-c",
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
def test_mistakes_are_explained(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    ended, _, errors = finish(start(tmp_path, *arguments))
    assert ended == status
    assert said in errors
    assert not SessionLock(tmp_path).held()


def test_without_a_runtime_directory_it_says_what_to_do(tmp_path: Path) -> None:
    status, _, errors = finish(start(tmp_path / "missing", "true"))
    assert status == 1
    assert "--runtime-dir" in errors
