"""booth-light: the state machine by a clock of the test's, and the program as a process that prints its lines."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from agent.booth_light import Light, ServiceManager, main
from agent.contract.light import COLOURS, HOLD_S, RHYTHMS, phase
from agent.contract.words import LightWord

ALL = "blue-line green-line red-line"
MANAGED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
LINES = ("--red", "red-line", "--green", "green-line", "--blue", "blue-line")


def test_it_starts_with_starting_and_waits_for_the_next_step() -> None:
    light = Light(HOLD_S, 100.0)
    assert light.look(100.0) == (COLOURS["starting"], 1.0)
    assert light.look(100.25) == (COLOURS["starting"], 0.75)
    assert light.look(101.0) == (frozenset(), 1.0)
    assert light.look(1_000_100.0)[0] == COLOURS["starting"]


@pytest.mark.parametrize("word", get_args(LightWord))
def test_a_word_is_shown_until_75_seconds_of_silence(word: LightWord) -> None:
    light = Light(HOLD_S, 0.0)
    light.heard(word, 10.0)
    for at in range(0, 74_900, 50):
        colours, left_s = light.look(10.0 + at / 1000 + 0.0001)
        assert colours == (COLOURS[word] if phase(RHYTHMS[word], at)[0] else frozenset())
        assert left_s is None or 0 < left_s <= HOLD_S
    begun = 0.0 if word == "starting" else 85.0
    for at in range(85_000, 90_000, 100):
        lit, _ = phase(RHYTHMS["starting"], at - round(begun * 1000))
        assert light.look(at / 1000 + 0.0001)[0] == (COLOURS["starting"] if lit else frozenset())


def test_feeding_neither_disturbs_the_rhythm_nor_lets_it_end() -> None:
    light = Light(HOLD_S, 0.0)
    for at in range(0, 300_000, 100):
        if at % 30_000 == 0:
            light.heard("broken", at / 1000)
        assert light.look(at / 1000 + 0.0001)[0] == (COLOURS["broken"] if phase(RHYTHMS["broken"], at)[0] else frozenset())


def test_a_steady_light_wakes_nobody_before_the_silence_ends() -> None:
    light = Light(HOLD_S, 0.0)
    light.heard("ok", 0.0)
    assert light.look(1.0) == (COLOURS["ok"], HOLD_S - 1.0)


@pytest.mark.parametrize(
    "arguments", [[], ["--red", "A"], ["--red", "A", "--green", "A", "--blue", "B"], [*LINES, "--white", "W"]]
)
def test_a_wrong_command_line_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--dry-run"])
    assert end.value.code == 2
    assert "--red, --green and --blue" in capsys.readouterr().err


def test_lines_that_no_chip_has_are_status_1_and_leave_no_socket(tmp_path: Path) -> None:
    pytest.importorskip("gpiod", reason="the Python package gpiod is missing")
    command = [sys.executable, "-m", "agent.booth_light", "--white", "no such line", "--socket", str(tmp_path / "light.sock")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "booth-light: no GPIO chip has a line 'no such line': `gpioinfo` lists all names\n"
    assert list(tmp_path.iterdir()) == []


class Program:
    """The real process. `lines` come with the time at which they were printed."""

    def __init__(self, path: Path, *arguments: str, **environment: str) -> None:
        self.path = path
        plain = {name: value for name, value in os.environ.items() if name not in MANAGED}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.booth_light", "--dry-run", "--socket", str(path), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=plain | environment,
        )

    def line(self) -> tuple[str, float]:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n"), time.monotonic()

    def lines(self, number: int) -> list[str]:
        return [self.line()[0] for _ in range(number)]

    def say(self, datagram: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(datagram, str(self.path))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program(tmp_path / "light.sock", *LINES, "--hold-s", "1.5")
    yield running
    running.end()


def test_the_process_shows_words_falls_back_by_itself_and_ends_dark(program: Program) -> None:
    assert program.lines(2) == [ALL, "dark"]
    mode = program.path.stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
    for noise in (b"", b"purple", b"ok" + bytes(100), b"\xff\xfe", b"OK"):
        program.say(noise)
    program.say(b"ok")
    assert program.line()[0] == "green-line"
    program.say(b"your-turn")
    program.say(b"your-turn")
    assert program.lines(4) == ["blue-line", "dark", "blue-line", "dark"]
    word, white_s = program.line()
    assert word == ALL, "nobody has said anything for 1.5 s"
    word, dark_s = program.line()
    assert word == "dark"
    assert 0.9 < dark_s - white_s < 3
    program.process.send_signal(signal.SIGTERM)
    program.process.wait(10)
    assert program.process.stdout
    assert program.process.stdout.read().split()[-1] == "closed"
    assert program.process.returncode == 0
    assert not program.path.exists()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


def heard(manager: socket.socket, within_s: float) -> bytes | None:
    manager.settimeout(within_s)
    try:
        return manager.recv(100)
    except TimeoutError:
        return None


def test_it_is_ready_when_it_listens_and_feeds_the_watchdog_though_the_light_is_steady(
    tmp_path: Path, manager: socket.socket
) -> None:
    program = Program(tmp_path / "light.sock", *LINES, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000")
    try:
        assert heard(manager, 10) == b"READY=1"
        program.say(b"ok")  # to a socket that is there
        assert heard(manager, 10) == b"WATCHDOG=1"
        begun_s = time.monotonic()
        for _ in range(6):  # each after 0.2 s
            assert heard(manager, 10) == b"WATCHDOG=1"
        assert 1.0 < time.monotonic() - begun_s < 3.0
        os.kill(program.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, program.process.pid, os.WSTOPPED | os.WNOWAIT)
        while heard(manager, 0.01) is not None:
            pass  # what was on its way
        assert heard(manager, 1.0) is None, "who is stopped is not fed for"
    finally:
        program.end()


def test_the_watchdog_is_fed_every_ten_seconds_of_thirty() -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "30000000"})
    assert manager.feed(100.0) == 10.0
    assert manager.feed(103.0) == 7.0
    assert manager.feed(110.0) == 10.0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "30000000"},
        {"NOTIFY_SOCKET": "/nowhere/notify"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_is_fed_where_nobody_watches(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    manager.ready()  # not even to a socket that is gone
    assert manager.feed(100.0) is None


def test_a_steady_light_costs_nothing_without_a_watchdog(tmp_path: Path, manager: socket.socket) -> None:
    program = Program(tmp_path / "light.sock", *LINES, NOTIFY_SOCKET=str(tmp_path / "notify"))
    try:
        assert heard(manager, 10) == b"READY=1"
        assert program.line()[0] == ALL
        program.say(b"ok")
        assert program.line()[0] == "green-line"
        status = Path(f"/proc/{program.process.pid}/status")

        def switches() -> list[str]:
            return [line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches")]

        end_s = time.monotonic() + 20
        before: list[str] = []
        while before != (before := switches()):  # until it sleeps
            assert time.monotonic() < end_s
            time.sleep(0.3)
        time.sleep(2.5)  # a quiet interval, long enough for every rhythm to wake it
        assert switches() == before != []
    finally:
        program.end()


def test_a_socket_left_by_a_killed_process_is_taken_over(tmp_path: Path, program: Program) -> None:
    assert program.line()[0] == ALL
    program.process.kill()
    program.process.wait()
    assert program.path.exists()
    second = Program(program.path, "--white", "lamp")
    try:
        assert second.line()[0] == "lamp"
        second.say(b"locate")
        begun_s = time.monotonic()
        assert second.lines(6) == ["dark", "lamp"] * 3
        assert time.monotonic() - begun_s < 4, "starting would have taken 5 s"
    finally:
        second.end()
