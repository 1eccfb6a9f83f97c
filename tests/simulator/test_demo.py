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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_as_well_and_its_broker_with_it(number: signal.Signals) -> None:
    async with demo() as d:
        await d.until(lambda: any("61-0007/state  online" in line for line in d.lines))
        children = Path(f"/proc/{d.process.pid}/task/{d.process.pid}/children").read_text().split()
        assert children, "the broker"
        d.process.send_signal(number)
        assert await asyncio.wait_for(d.process.wait(), 15) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)


async def test_a_command_that_ends_the_agent_starts_it_anew() -> None:
    async with demo() as d:
        await d.until(lambda: any("61-0007/state  online" in line for line in d.lines))
        done = await boothctl(d, "restart", "agent")
        assert done[0] == 0, done
        assert '"state":"succeeded"' in done[1].replace(" ", "")
        await d.until(lambda: sum("61-0007/state  online" in line for line in d.lines) == 2)
        assert re.search(r"61-0007/cmd/restart/\S+/status  ", "\n".join(d.lines))
        assert d.process.returncode is None


async def test_the_button_prints_a_ticket_that_is_shown_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "press.txt"
    file.write_text("3 button-pressed\n")
    async with demo("--script", str(file)) as d:
        await d.until(lambda: any("receipt | - - - 8<" in line for line in d.lines))
        shown = [line.partition("receipt |")[2].strip() for line in d.lines if "receipt |" in line]
        assert "61-0007" in shown
        receipt = Path(next(line.split()[-1] for line in d.lines if line.endswith("/receipt.txt")))
        assert [line.strip() for line in receipt.read_text("utf-8").splitlines()] == shown
        assert d.at(">>> button-pressed") < d.at("receipt | - - - 8<")
        assert not any("broken: button" in line for line in d.lines), "it only happens"


async def test_the_default_booth_trusts_development_keys_for_commands() -> None:
    async with demo() as d:
        await d.until(lambda: any("61-0007/state  online" in line for line in d.lines))
        key = next(line.strip() for line in d.lines if line.endswith("development-1.pem"))
        status, out, err = await boothctl(d, "maintenance", "--on", "--sign", key)
        assert status == 0, err
        assert '"state":"succeeded"' in out.replace(" ", "")


async def boothctl(d: Demo, *arguments: str) -> tuple[int, str, str]:
    """`boothctl cmd` at the broker that the demo names."""
    url = next(line.rpartition("=")[2] for line in d.lines if "BOOTHCTL_BROKER=" in line)
    process = await asyncio.create_subprocess_exec(
        str(BIN / "boothctl"), "cmd", "61-0007", *arguments, "--json",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"BOOTHCTL_BROKER": url},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


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
    """A pseudo-terminal with a demo on it."""

    def __init__(self, columns: int = 120, rows: int = 40) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
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
async def live(*arguments: str, columns: int = 120, rows: int = 40) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    terminal = Terminal(columns, rows)
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


async def test_on_a_small_terminal_the_line_for_another_one_is_whole() -> None:
    async with live(columns=80, rows=24) as (terminal, _):
        await terminal.until("online")
        os.write(terminal.master, b"W")
        await terminal.until("[W] does nothing")
        page = terminal.text[terminal.text.rindex("[q] quit") :]
        assert re.match(
            r"\[q\] quit   BOOTHCTL_BROKER=mqtt://127\.0\.0\.1:\d+\s+mosquitto_sub .* 'booth/v1/61/61-0007/#'", page
        ), page


async def test_the_ticket_is_on_the_screen_where_there_is_room() -> None:
    async with live(rows=60) as (terminal, _):
        await terminal.until("online")
        os.write(terminal.master, b"B")
        await terminal.until("- - - 8<")
        await terminal.until("receipt.txt ─")


async def test_a_key_that_does_nothing_says_so() -> None:
    async with live("--profile", "visio-guichet") as (terminal, _):
        await terminal.until("online")
        os.write(terminal.master, b"pW")
        await terminal.until("[p] does nothing here: this booth has no receipt-printer")
        await terminal.until("[W] does nothing")


@pytest.mark.parametrize("arguments", [(), ("--plain",)])
async def test_a_terminal_that_is_closed_leaves_nothing_behind(arguments: tuple[str, ...], tmp_path: Path) -> None:
    master, slave = pty.openpty()
    # Its own session, with the terminal as its controlling one: closing that hangs up on everybody.
    process = await asyncio.create_subprocess_exec(
        "setsid", "--ctty", "--wait", str(BIN / "booth-agent"), "demo", *arguments,
        stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "xterm", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    os.close(slave)
    said = b""
    async with asyncio.timeout(30):
        while b"online" not in said:
            said += await asyncio.to_thread(os.read, master, 65536)
    assert list(tmp_path.glob("booth-demo-*"))
    os.close(master)
    await asyncio.wait_for(process.wait(), 20)
    async with asyncio.timeout(20):
        while processes_of(tmp_path) or any(tmp_path.glob("booth-demo-*")):
            await asyncio.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """The command lines that name something in a folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (text := line.read_bytes()):
                found.append(text.decode(errors="replace"))
    return found


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
        await here.until(lambda: any("policy/reported  applied booth:1" in line for line in here.lines))
        await here.until(lambda: any("config/reported  applied booth:1" in line for line in here.lines))
        assert not any("rejected" in line or "reverted" in line or "violated" in line for line in here.lines), here.lines
