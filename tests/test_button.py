"""From the button to what it asks for: booth-button as a process, its socket, and an agent over a real broker."""

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.app import Agent
from agent.contract.button import HELD_S
from agent.simulator.machine import SimulatedMachine
from agent.verbs.declaration import NotDone
from tests.commands.technician import begin_session, command
from tests.devices.button_chip import LINE, PROGRAM, Button
from tests.world import World, agent_inside, world

HOUSE = Path(__file__).parents[1]
JUST_SHORT_OF_IT_S = HELD_S - 0.3


@dataclass
class Shop:
    """A booth with a button, and who presses it."""

    w: World
    agent: Agent
    machine: SimulatedMachine
    button: Button
    rebooted: list[str] = field(default_factory=list)

    def reboots(self) -> None:
        """Root does it; this machine stays up."""

        async def reboot() -> None:
            self.rebooted.append(self.w.observer.last("led"))

        self.machine.acts.table["reboot", "board"] = reboot

    def restarts(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.w.observer.events() if (event["class"], event["code"]) == ("command", "reboot")]

    async def hold(self) -> None:
        self.button.down(ago_s=JUST_SHORT_OF_IT_S)


@contextlib.contextmanager
def booth_button(w: World, folder: Path) -> Iterator[Button]:
    """The program, on the chip of the tests."""
    button = Button(folder)
    command = [sys.executable, "-c", PROGRAM, str(folder), "--config", str(w.folder / "agent.toml")]
    process = subprocess.Popen([*command, "--socket", str(w.runtime_dir / "button.sock")], cwd=HOUSE)
    try:
        yield button
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(30)
        button.close()


@contextlib.asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    machine = SimulatedMachine(folder / "machine")
    async with world(folder, button={"line": LINE}) as w, agent_inside(w, machine) as agent:
        with booth_button(w, folder / "dev") as button:
            await w.until(lambda: w.observer.last("led") == "ok" and button.asked_for(), "a booth where all is well")
            yield Shop(w, agent, machine, button)


async def test_only_its_own_group_can_send_and_nothing_is_left(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        path = s.w.runtime_dir / "button.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


async def test_a_short_press_prints_one_ticket_however_often_it_is_pressed(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:

        def tickets() -> int:
            return s.w.printer.paper.count("CE QUI MARCHE")

        for _ in range(5):
            s.button.press()
        await s.w.until(lambda: tickets() == 1, "the ticket")
        s.button.press()
        await command(s.w, "probe", args={"peripheral": "receipt-printer"})  # it waits for its turn at the printer
        assert tickets() == 1
        s.agent._button._ticket_at_s = None  # the pause is over
        s.button.press()
        await s.w.until(lambda: tickets() == 2, "the next one")
        assert s.restarts() == []


async def test_held_for_eight_seconds_the_board_starts_anew_once_and_the_light_says_so(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        s.reboots()
        await s.hold()
        await s.w.until(lambda: s.rebooted, "root was asked")
        await s.w.until(lambda: s.w.observer.last("led") == "working", "the light")
        await s.w.until(s.restarts, "the event, which is stored before")
        assert s.restarts() == [{"by": "button", "state": "executing"}]
        s.button.up()
        await s.hold()  # while it goes down
        s.button.up()
        s.button.press()
        await s.w.until(lambda: s.agent._button._ticket_at_s is not None, "all of it was heard")
        assert s.machine.acts.asked == [("reboot", "board")]


async def test_in_a_session_it_is_refused_and_recorded_and_done_at_no_later_time(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        s.reboots()
        session = begin_session(s.w)
        await s.hold()
        await s.w.until(s.restarts, "the event")
        assert s.restarts() == [{"by": "button", "state": "refused", "reason": "session-active"}]
        os.close(session)
        s.button.up()
        s.button.press()
        await s.w.until(lambda: s.agent._button._ticket_at_s is not None, "the end of it")
        assert s.machine.acts.asked == []
        assert {message.text for message in s.w.observer.of("led")} <= {"starting", "ok"}


async def test_what_root_does_not_do_is_recorded_with_its_reason_and_the_light_goes_back(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        await s.hold()
        await s.w.until(lambda: len(s.restarts()) == 2, "both events")
        assert s.restarts()[1] == {
            "by": "button", "state": "failed", "reason": "not-supported", "message": "root did not do it: not-supported",
        }  # fmt: skip
        await s.w.until(lambda: s.w.observer.last("led") == "ok", "the light")


async def test_a_ticket_that_fails_is_no_end_of_the_button(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        heard: list[str] = []

        async def ticket() -> dict[str, Any]:
            heard.append("ticket")
            if len(heard) == 1:
                raise NotDone("no paper")
            raise ZeroDivisionError

        s.agent._button._ticket = ticket
        for count in (1, 2):
            s.agent._button._ticket_at_s = None
            s.button.press()
            await s.w.until(lambda count=count: len(heard) == count, "it was asked for")  # type: ignore[misc]
        s.reboots()
        await s.hold()
        await s.w.until(lambda: s.rebooted, "it still works")


async def test_a_booth_without_a_button_listens_to_none(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine")):
        await w.until(lambda: w.observer.last("led") == "ok", "online")
        assert not (w.runtime_dir / "button.sock").exists()
