"""`booth-agent demo` as a process: what an evaluator sees in the first minute."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.simulator.booth import SimulatedBooth
from tests.world import BIN

LINE = re.compile(r" *(\d+\.\d\d)  (.*)")


class Demo:
    """`booth-agent demo --plain`, its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                assert self.process.returncode is None, self.lines
                await asyncio.sleep(0.02)

    def at(self, text: str) -> float:
        """The seconds that the first line with this text shows; fails where there is none."""
        times = [float(found[1]) for line in self.lines if text in line and (found := LINE.fullmatch(line))]
        assert times, "\n".join([f"no line with {text!r}", *self.lines])
        return times[0]


@contextlib.asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[Demo]:
    process = await asyncio.create_subprocess_exec(
        str(BIN / "booth-agent"), "demo", "--plain", *arguments,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, limit=2**20,
    )  # fmt: skip
    here = Demo(process)
    reading = asyncio.create_task(here.read())
    try:
        yield here
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        str(BIN / "booth-agent"), "demo", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_script_shows_the_whole_story_of_an_empty_roll_and_the_demo_ends_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "morning.txt"
    file.write_text("1 paper-out  # the roll ends\n6 paper-in\n")
    async with demo("--for", "9", "--script", str(file)) as d:
        await d.process.wait()
    assert d.process.returncode == 0, d.lines
    assert not any("Traceback" in line for line in d.lines)

    story = [
        d.at(">>> paper-out  (broken: paper-out)"),
        d.at("61-0007/health/receipt-printer  fault media-empty"),
        d.at("61-0007/alarm/receipt-printer/media-empty  fault, shopkeeper: Plus de papier dans l'imprimante à tickets."),
        d.at("61-0007/led  your-turn"),
        d.at(">>> paper-in"),
        d.at("61-0007/alarm/receipt-printer/media-empty  cleared"),
    ]
    out, fault, alarm, turn, back, cleared = story
    assert out <= fault < alarm <= turn < back <= cleared, "times are rounded to 10 ms"
    assert fault - out < 2, "what a device states itself is believed at once"
    assert 2.5 < alarm - out < 6, "an alarm after 3 s"
    assert cleared - back < 2, "the shopkeeper's light turns at once"
    d.at("61-0007/event/health  #")
    assert d.at("61-0007/service/print  degraded") < d.at("61-0007/alarm/receipt-printer/media-empty  fault")
    assert "The end: 61-0007 online, light ok, web:ok forms:ok print:ok scan:ok visio:ok" in d.lines
    assert d.at("61-0007/state  asleep") > cleared, "the agent's last word is shown too"


async def test_the_line_that_it_prints_shows_the_same_topics_in_another_terminal() -> None:
    async with demo() as d:
        await d.until(lambda: any("61-0007/state  online" in line for line in d.lines))
        command = next(line.strip() for line in d.lines if line.strip().startswith("mosquitto_sub "))
        assert re.fullmatch(r"mosquitto_sub -V mqttv5 -h 127\.0\.0\.1 -p \d+ -v -t 'booth/v1/61/61-0007/#'", command)
        listener = await asyncio.create_subprocess_shell(
            f"exec timeout 20 {command} -W 2", stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=2**20
        )
        out, _ = await listener.communicate()
        heard = {line.split(" ")[0].removeprefix("booth/v1/61/") for line in out.decode().splitlines()}
        wanted = {"state", "meta", "led", "service/web", "service/print"} | {
            f"health/{name}" for name in ("board", "booth", "network", "receipt-printer")
        }
        assert {f"61-0007/{topic}" for topic in wanted} <= heard
        shown = {found[2].split(" ")[0] for line in d.lines if (found := LINE.fullmatch(line))}
        assert {topic for topic in heard if "/event/" not in topic} <= shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_as_well_and_its_broker_with_it(number: signal.Signals) -> None:
    async with demo() as d:
        await d.until(lambda: any("61-0007/state  online" in line for line in d.lines))
        children = Path(f"/proc/{d.process.pid}/task/{d.process.pid}/children").read_text().split()
        assert children, "the broker"
        d.process.send_signal(number)
        assert await asyncio.wait_for(d.process.wait(), 15) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)


async def test_the_actions_are_listed_with_key_and_meaning(tmp_path: Path) -> None:
    status, out, err = await run("--actions")
    assert (status, err) == (0, "")
    switches = SimulatedBooth(tmp_path).switches
    rows = [line.split(maxsplit=3) for line in out.splitlines()]
    assert rows == [
        [switch.key, switch.breaks, switch.repairs, f"{switch.kind or 'booth'}: {switch.meaning}"] for switch in switches
    ]
    assert len({row[0] for row in rows}) == len(rows) > 10
    assert "q" not in {row[0] for row in rows}, "q ends the demo"


async def test_a_bad_script_is_status_2_with_every_problem_and_no_booth(tmp_path: Path) -> None:
    file = tmp_path / "script.txt"
    file.write_text("1 paper-out\nsoon paper-in\n2 fly\n3\n")
    status, out, err = await run("--script", str(file), "--plain")
    assert (status, out) == (2, "")
    assert [line.split(": ")[:2] for line in err.splitlines()] == [[str(file), f"line {number}"] for number in (2, 3, 4)]


async def test_a_script_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    status, out, err = await run("--script", str(tmp_path / "nowhere"))
    assert (status, out, err) == (2, "", f"booth-agent: {tmp_path}/nowhere: No such file or directory\n")


async def test_a_script_that_is_no_text_is_status_2_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "script.txt"
    file.write_bytes(b"1 paper-out\xff\n")
    status, _, err = await run("--script", str(file))
    assert status == 2
    assert "Traceback" not in err


# --- the live screen ---


class Terminal:
    """A pseudo-terminal of 120 × 40 with a demo on it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.modes = termios.tcgetattr(self.slave)
        self.output = b""
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def _read(self) -> None:
        self.output += os.read(self.master, 65536)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.output.decode(errors="replace"))

    async def until(self, text: str) -> None:
        end_s = asyncio.get_running_loop().time() + 30
        while text not in self.text:
            assert asyncio.get_running_loop().time() < end_s, f"never shown: {text}\n{self.text[-6000:]}"
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def live(*arguments: str) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    terminal = Terminal()
    # The terminal's own size counts, not that of whoever runs the tests.
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = await asyncio.create_subprocess_exec(
        str(BIN / "booth-agent"), "demo", *arguments,
        stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave, env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    try:
        yield terminal, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        terminal.close()


def restored(terminal: Terminal) -> None:
    """As the shell expects its terminal back: the ordinary screen, a cursor, echo."""
    for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")):
        assert terminal.output.count(on) >= 1
        assert terminal.output.rfind(off) > terminal.output.rfind(on)
    assert termios.tcgetattr(terminal.slave) == terminal.modes
    assert "Traceback" not in terminal.text


async def test_the_live_screen_shows_the_booth_and_gives_the_terminal_back() -> None:
    async with live("--for", "4") as (terminal, process):
        await terminal.until("61-0007")
        assert await asyncio.wait_for(process.wait(), 30) == 0
        await terminal.until("receipt-printer")
        await terminal.until("mosquitto_sub -V mqttv5")
        restored(terminal)


async def test_keys_break_and_repair_and_q_ends_it() -> None:
    async with live() as (terminal, process):
        await terminal.until("online")
        assert not termios.tcgetattr(terminal.slave)[3] & termios.ECHO, "keys are not echoed meanwhile"
        os.write(terminal.master, b"p")
        await terminal.until("media-empty")
        await terminal.until("[p] paper-in")
        os.write(terminal.master, b"p")
        await terminal.until(">>> paper-in")
        os.write(terminal.master, b"q")
        assert await asyncio.wait_for(process.wait(), 30) == 0
        restored(terminal)


async def test_keys_typed_faster_than_they_are_read_are_not_lost() -> None:
    async with live() as (terminal, process):
        await terminal.until("online")
        os.write(terminal.master, b"ppq")
        assert await asyncio.wait_for(process.wait(), 4) == 0


@pytest.mark.parametrize(
    ("profile", "has", "lacks"),
    [
        ("fonctionnaire-virtuel", ("document-printer", "receipt-printer", "network", "board"), ("scanner", "camera")),
        ("visio-guichet", ("document-printer", "scanner", "camera", "network", "board"), ("receipt-printer",)),
    ],
)
async def test_a_profile_selects_the_peripherals_of_its_kind_of_booth(
    profile: str, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    async with demo("--profile", profile) as d:
        await d.until(lambda: all(any(f"health/{name}  ok" in line for line in d.lines) for name in has))
        assert not any(f"health/{name}" in line for line in d.lines for name in lacks)
    _, actions, _ = await run("--profile", profile, "--actions")
    assert not any(f"{name}: " in actions for name in lacks)


async def test_an_unknown_profile_is_refused_with_those_that_there_are() -> None:
    status, _, err = await run("--profile", "coffee-bar")
    assert status == 2
    assert "visio-guichet" in err


@pytest.mark.parametrize("profile", ["fonctionnaire-virtuel", "visio-guichet"])
async def test_a_profile_runs_under_its_own_signed_configuration_and_policy(profile: str) -> None:
    async with demo("--profile", profile) as here:
        await here.until(lambda: any("reported/policy  applied booth:1" in line for line in here.lines))
        await here.until(lambda: any("reported/config  applied booth:1" in line for line in here.lines))
        assert not any("rejected" in line or "reverted" in line or "violated" in line for line in here.lines), here.lines
