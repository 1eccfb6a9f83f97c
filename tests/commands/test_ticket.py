"""The ticket and the test print over a real broker: what came out, who may use its code, and what never leaves the booth."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.simulator.machine import SimulatedMachine
from agent.simulator.receipt_paper import CUT
from agent.simulator.scanner import Scanner
from agent.ticketing import printing
from agent.verbs.declaration import NotDone
from tests.commands.technician import begin_session, command, dated, ended, send, states
from tests.devices.ports import dev_folder
from tests.devices.test_usb import plug
from tests.documents.operator import Operator
from tests.world import World, agent_inside, world

OPERATOR = Operator()
CODE = re.compile(r"[A-Z0-9]{4}-[A-Z0-9]{4}")
PRINTER = {"peripheral": "receipt-printer"}


@asynccontextmanager
async def booth(folder: Path, **ticket: Any) -> AsyncIterator[tuple[World, Agent]]:
    """A booth that is online and sees its printer."""
    async with world(folder, ticket={"phone": "02 33 00 00 00"} | ticket) as w:
        w.config["peripherals"]["receipt-printer"] |= {"profile": "TM-T88III", "poll_s": 1}
        OPERATOR.install(folder)
        async with agent_inside(w, SimulatedMachine(folder / "machine")) as agent:
            await w.until(lambda: (w.observer.last("state") or {}).get("state") == "online", "online")
            await w.until(lambda: (w.observer.last("health/receipt-printer") or {}).get("status") == "ok", "the printer")
            yield w, agent


def code_on(w: World) -> str:
    return str(CODE.findall(w.printer.paper)[-1])


async def test_the_ticket_is_printed_and_its_code_is_a_technicians_signature_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with booth(tmp_path) as (w, agent):
        status = await command(w, "ticket")
        assert (status["state"], status["result"]["said_by"]) == ("succeeded", "GS r")
        assert states(w, "ticket", status["id"]) == ["received", "accepted", "executing", "succeeded"]
        for said in ("61-0007", "CE QUI MARCHE", "Impression", "Téléphone : 02 33 00 00 00", "Code valable"):
            assert said in w.printer.paper
        code = code_on(w)
        request: dict[str, Any] = {"args": {"on": True, "duration_s": 60}, "code": code}
        assert (await command(w, "maintenance", **request, **dated()))["state"] == "succeeded"
        assert (await command(w, "maintenance", **request, **dated()))["reason"] == "not-signed"
        await w.until(lambda: w.observer.last("led") == "working", "the light")
        heard = b"".join(m.topic.encode() + m.payload for m in w.observer.messages if not m.topic.endswith("/req")).decode()
        bare = code.replace("-", "")
        files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        for place in (heard, caplog.text, files.decode("latin-1")):
            assert code not in place
            assert bare not in place
        assert agent.ticket_code.fits(bare) is False


async def test_a_ticket_that_does_not_come_out_leaves_no_code(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.printer.after_lines(12, lambda: w.printer.change(paper="out"))
        status = await command(w, "ticket")
        assert (status["state"], status["result"]["codes"], status["result"]["printer"]) == (
            "failed", ["media-empty"], "receipt-printer",
        )  # fmt: skip
        assert "runbook/receipt-printer/media-empty" in status["result"]["message"]
        w.printer.change(paper="plenty")
        await w.until(lambda: CODE.search(w.printer.paper), "the rest of it, once there is paper")
        refused = await command(w, "maintenance", args={"on": True}, code=code_on(w), **dated())
        assert refused["reason"] == "not-signed"


async def test_one_that_fails_takes_nothing_from_who_holds_the_one_before(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        assert (await command(w, "ticket"))["state"] == "succeeded"
        code = code_on(w)
        w.printer.change(cover_open=True)
        failed = await command(w, "ticket")
        assert (failed["state"], failed["result"]["codes"]) == ("failed", ["cover-open"])
        w.printer.change(cover_open=False)
        asked: dict[str, Any] = {"on": True, "duration_s": 5}
        assert (await command(w, "maintenance", args=asked, code=code, **dated()))["state"] == "succeeded"


async def test_nothing_is_printed_while_a_citizen_is_there(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, agent):
        session = begin_session(w)
        for verb, args in (("ticket", {}), ("test-print", PRINTER)):
            status = await command(w, verb, args=args)
            assert (status["state"], status["reason"]) == ("refused", "session-active"), verb
        with pytest.raises(NotDone) as caught:  # whoever else asks for it
            await agent.ticketing.command()
        assert caught.value.reason == "session-active"
        id_ = send(w, "ticket", wait_s=60)
        await w.until(lambda: "waiting" in states(w, "ticket", id_), "it waits")
        assert w.printer.paper == ""
        os.close(session)
        assert (await ended(w, "ticket", id_))["state"] == "succeeded"


async def test_a_press_in_a_session_is_remembered_and_printed_at_its_end(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, agent):
        session = begin_session(w)
        agent.ticketing.print_now("pressed")
        agent.ticketing.print_now("pressed again")
        await command(w, "probe", args={"peripheral": "board"})
        assert w.printer.paper == ""
        os.close(session)
        await w.until(lambda: len(CODE.findall(w.printer.paper)) == 1, "one ticket")
        await command(w, "probe", args=PRINTER)
        assert len(CODE.findall(w.printer.paper)) == 1


async def test_a_press_that_waited_too_long_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "PRESS_GOOD_S", 0.5)
    async with booth(tmp_path) as (w, agent):
        session = begin_session(w)
        agent.ticketing.print_now("pressed")
        await w.until(lambda: agent.ticketing._pressed_s is None, "it is forgotten")
        os.close(session)
        assert (await command(w, "probe", args=PRINTER))["state"] == "succeeded"
        assert w.printer.paper == ""


# --- the test print ---


async def test_a_test_print_succeeds_when_the_printer_says_that_it_came_out(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        status = await command(w, "test-print", args=PRINTER)
        assert (status["state"], status["result"]) == ("succeeded", {"printed": True, "said_by": "GS r"})
        assert "Si ces lignes se lisent bien" in w.printer.paper
        await w.until(lambda: w.printer.asked_to_push, "the agent listens to it again")
        w.printer.change(paper="out")
        await w.until(lambda: w.observer.codes("receipt-printer") == ["media-empty"], "what it pushes")


async def test_a_printer_that_does_not_know_gs_r_is_judged_by_what_it_answers_at_once(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.printer.behaviour.tells_when_done = False
        status = await command(w, "test-print", args=PRINTER)
        assert (status["state"], status["result"]["said_by"]) == ("succeeded", "DLE EOT")


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"paper": "out"}, "media-empty"),
        ({"cover_open": True}, "cover-open"),
        ({"error": "cutter"}, "cutter-error"),
        ({"switched_offline": True}, "offline"),
    ],
)
@pytest.mark.parametrize("when", ["before", "in the middle"])
async def test_f59_what_stops_it_is_named(tmp_path: Path, what: dict[str, Any], code: str, when: str) -> None:
    async with world(tmp_path, heal={"enabled": False}) as w, agent_inside(w, SimulatedMachine(tmp_path / "machine")):
        await w.until(lambda: (w.observer.last("health/receipt-printer") or {}).get("status") == "ok", "the printer")
        w.printer.after_lines(3, partial(w.printer.change, **what)) if when != "before" else w.printer.change(**what)
        status = await command(w, "test-print", args=PRINTER)
        assert (status["state"], status["result"]["codes"]) == ("failed", [code])
        assert f"runbook/receipt-printer/{code}" in status["result"]["message"]
        assert "code" not in status["result"]
        assert ("Si ces lignes" in w.printer.paper) is False


async def test_f57_a_printer_that_falls_mute_in_the_middle_did_not_print(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.printer.after_lines(3, partial(setattr, w.printer.behaviour, "mute", True))
        status = await command(w, "test-print", args=PRINTER)
        assert (status["state"], status["result"]["sent"]) == ("failed", True)
        assert "switch it off and on" in status["result"]["message"]
        assert status["result"]["codes"] == ["not-responding"]


async def test_f62_a_printer_that_goes_in_the_middle_did_not_print(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.printer.after_lines(3, w.printer.hang_up)
        status = await command(w, "test-print", args=PRINTER)
        assert (status["state"], status["result"]["codes"]) == ("failed", ["no-device"])


async def test_f80_on_a_noisy_line_no_stray_byte_passes_for_the_end_of_printing(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        w.printer.behaviour.noise = b"\xff\x80\x00"
        status = await command(w, "test-print", args=PRINTER)
        assert (status["state"], status["result"]["said_by"]) == ("succeeded", "DLE EOT")


async def test_it_prints_on_a_serial_line_that_the_agent_itself_holds(tmp_path: Path) -> None:
    with dev_folder() as folder:
        async with world(tmp_path) as w:
            w.printer.open_pty(folder / "printer")
            w.config["peripherals"]["receipt-printer"]["device"] = f"serial://{folder}/printer?baud=115200"
            async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
                await w.until(partial(_printer_is_well, w), "the printer")
                status = await command(w, "test-print", args=PRINTER)
                assert (status["state"], status["result"]["said_by"]) == ("succeeded", "GS r")
                assert w.observer.last("health/receipt-printer")["status"] == "ok"


async def test_f66_it_prints_on_usb_and_what_the_printer_says_of_itself_is_no_command(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path / "machine")
    strings = {"manufacturer": b"\x1b@\x1dV\x00\x10\x04\x01", "product": b"\xed\xa0\x80\xff\x00TM" + b"T" * 9000}
    device = plug(machine.files.root, "1-1.2", "04b8", "0202", **strings, serial=b"S")
    (device / "1-1.2:1.0" / "usbmisc" / "lp0").mkdir(parents=True)
    (machine.files.root / "dev/usb").mkdir(parents=True)
    async with world(tmp_path) as w:
        w.printer.open_pty(machine.files.root / "dev/usb/lp0")
        w.config["peripherals"]["receipt-printer"] |= {"device": "usb://04b8:0202", "profile": "TM-T88III"}
        async with agent_inside(w, machine):
            await w.until(partial(_printer_is_well, w), "the printer")
            w.printer.change(paper="near-end")
            await w.until(lambda: w.observer.codes("receipt-printer") == ["media-low"], "something to say of it")
            cuts = w.printer.roll.count(CUT)
            status = await command(w, "ticket")
            assert (status["state"], status["result"]["phone_codes"]) == ("succeeded", ["T12"])
            assert "Appareil : \\x1b@\\x1dV\\x00\\x10\\x04\\x01" in w.printer.paper
            assert "T" * 50 not in w.printer.paper.replace("\n", "").replace(" ", "")
            assert w.printer.roll.count(CUT) == cuts + 1


def _printer_is_well(w: World) -> bool:
    return bool((w.observer.last("health/receipt-printer") or {}).get("status") == "ok")


# --- by itself ---


async def her_turn(w: World) -> None:
    w.printer.change(paper="out")
    await w.until(lambda: w.observer.last("led") == "your-turn", "her turn")


@asynccontextmanager
async def scanner_missing(folder: Path) -> AsyncIterator[tuple[World, Agent, Scanner]]:
    """A booth that prints a ticket by itself when its scanner is unplugged."""
    scanner = Scanner(folder / "scanner")
    async with world(folder, ticket={"auto": True}, heal={"enabled": False}) as w:
        w.config["peripherals"]["scanner"] = {
            "kind": "scanner", "device": scanner.device, "config_dir": str(scanner.folder),
        }  # fmt: skip
        async with agent_inside(w, SimulatedMachine(folder / "machine")) as agent:
            await w.until(partial(_printer_is_well, w), "the printer")
            await w.until(lambda: w.observer.last("led") == "ok", "all is well")
            yield w, agent, scanner


async def test_when_it_is_the_shopkeepers_turn_one_ticket_is_printed_without_a_code(tmp_path: Path) -> None:
    async with scanner_missing(tmp_path) as (w, agent, scanner):
        scanner.plugged = False
        agent.check_now()
        await w.until(lambda: w.observer.last("led") == "your-turn", "her turn")
        await w.until(lambda: CUT in w.printer.roll, "the ticket")
        await w.until(lambda: not agent.ticketing._printing, "the end of it")
        assert "1. Vérifiez le scanner : son voyant est-il allumé ?" in " ".join(w.printer.paper.split())
        assert not CODE.search(w.printer.paper)
        printed = w.printer.paper
        send(w, "locate", args={"duration_s": 1})  # the light says something else for a while
        await w.until(lambda: w.observer.last("led") == "locate", "the light")
        await w.until(lambda: w.observer.last("led") == "your-turn", "her turn still")
        await command(w, "probe", args=PRINTER)
        assert w.printer.paper == printed, "one for each turn"
        assert (agent.ticketing._by_itself.printed, agent.ticketing._by_itself.told) == (1, True)
        scanner.plugged = True
        agent.check_now()
        await w.until(lambda: w.observer.last("led") == "ok", "it is mended")
        assert not agent.ticketing._by_itself.told


async def test_by_itself_it_waits_for_the_end_of_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "_BY_ITSELF_AGAIN_S", 0.2)
    async with scanner_missing(tmp_path) as (w, agent, scanner):
        scanner.plugged = False
        agent.check_now()
        await w.until(lambda: w.observer.codes("scanner") == ["no-device"], "it is missed")
        session = begin_session(w)
        await w.until(lambda: w.observer.last("led") == "your-turn", "her turn")
        assert agent.ticketing._wants_one()
        await command(w, "probe", args={"peripheral": "board"})
        assert w.printer.paper == ""
        os.close(session)
        await w.until(lambda: "CE QUE VOUS POUVEZ FAIRE" in w.printer.paper, "the ticket")


async def test_a_receipt_printer_that_is_itself_what_is_broken_prints_nothing_of_it(tmp_path: Path) -> None:
    async with booth(tmp_path, auto=True) as (w, agent):
        await her_turn(w)
        assert not agent.ticketing._may_print_by_itself()
        w.printer.change(paper="plenty")
        await w.until(lambda: w.observer.last("led") == "ok", "it is mended")
        assert w.printer.paper == ""


async def test_at_most_four_a_day_over_restarts_and_more_the_next_day(tmp_path: Path) -> None:
    async with booth(tmp_path, auto=True) as (_, agent):
        ticketing = agent.ticketing
        today = ticketing._today()
        ticketing.remember({"ticket": {"day": today, "printed": 4, "told": False}})
        assert not ticketing._may_print_by_itself()
        ticketing.remember({"ticket": {"day": "2020-01-01", "printed": 4, "told": False}})
        assert ticketing._may_print_by_itself()
        ticketing.remember({"ticket": "of another version"})


async def test_the_booth_without_a_receipt_printer_offers_no_ticket(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        del w.config["peripherals"]["receipt-printer"]
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")) as agent:
            await w.until(lambda: (w.observer.last("state") or {}).get("state") == "online", "online")
            await w.until(lambda: w.observer.last("meta"), "meta")
            assert "ticket" not in w.observer.last("meta")["capabilities"]["commands"]
            status = await command(w, "ticket")
            assert (status["state"], status["reason"]) == ("refused", "not-supported")
            with pytest.raises(NotDone):
                await agent.ticketing.pressed()
            agent.ticketing.print_now("pressed")
            await w.until(lambda: agent.ticketing._pressed_s is None, "it is given up")
