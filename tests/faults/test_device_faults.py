"""Rows 57, 58, 59, 62, 66 and 80 of the catalogue: a receipt printer in every kind of trouble, and a live agent beside it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.peripherals import declared
from agent.settings import read
from agent.simulator.machine import SimulatedMachine
from tests.devices.ports import dev_folder
from tests.devices.test_usb import plug
from tests.world import World, world

HEALTH = "health/receipt-printer"


@asynccontextmanager
async def booth(
    folder: Path, line: str = "tcp", printer: Callable[[World], None] = lambda _: None, **options: Any
) -> AsyncIterator[World]:
    """A booth whose receipt printer hangs on `line`, seen well before the test begins.

    `printer` may change the emulated printer before the agent starts.
    """
    async with contextlib.AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(folder))
        device = f"tcp://127.0.0.1:{w.printer.port}"
        if line == "serial":
            link = stack.enter_context(dev_folder()) / "printer"
            w.printer.open_pty(link)
            device = f"serial://{link}?baud=19200"
        w.config["peripherals"]["receipt-printer"] = {
            "kind": "receipt-printer", "device": device, "absent_s": 1, "poll_s": 1,
        } | options  # fmt: skip
        printer(w)
        await w.start_agent()
        await w.until(lambda: w.observer.last(HEALTH) and w.observer.last(HEALTH)["status"] == "ok", "a healthy printer")
        yield w


def changes(w: World, peripheral: str = "receipt-printer") -> list[tuple[str, str]]:
    """What came and went, in order."""
    return [
        (event["code"], event["data"]["change"])
        for event in w.observer.events()
        if event["class"] == "health" and event["peripheral"] == peripheral
    ]


async def until_changes(w: World, *expected: tuple[str, str]) -> None:
    """Until these have come and gone, and no more. Events are said once they are on disk, so later than health."""
    await w.until(lambda: len(changes(w)) >= len(expected), f"events {expected}")
    assert changes(w) == list(expected)


async def until_codes(w: World, *codes: str) -> dict[str, Any]:
    """Until the printer has just these findings; returns its health."""
    await w.until(lambda: w.observer.codes("receipt-printer") == list(codes), f"findings {codes}")
    health: dict[str, Any] = w.observer.last(HEALTH)
    return health


async def until_alarm(w: World, code: str, *, raised: bool) -> Any:
    """Until the alarm stands, or does not; an alarm that a shopkeeper waits for goes within 5 s."""
    topic = f"alarm/receipt-printer/{code}"
    await w.until(lambda: (w.observer.last(topic) is not None) is raised, f"{topic} raised: {raised}", 30 if raised else 5)
    return w.observer.last(topic)


LINES = pytest.mark.parametrize("line", ["tcp", "serial"])


# --- 57, 58: mute and slow ---


async def test_f57_a_printer_that_never_answers_is_not_responding_and_harms_nobody_else(tmp_path: Path) -> None:
    async with booth(tmp_path, check_s=1) as w:
        w.printer.behaviour.mute = True
        mute_s = time.monotonic()
        health = await until_codes(w, "not-responding")
        assert time.monotonic() - mute_s < 15  # its deadline is 8 s
        assert health["status"] == "fault"
        assert health["findings"][0]["detail"] == {"reason": "no answer to DLE EOT"}
        assert set(health["facts"].values()) == {None}
        alarm = await until_alarm(w, "not-responding", raised=True)
        assert alarm["text"]["fr"] == "L'imprimante à tickets ne répond pas : éteignez puis rallumez."
        assert (alarm["fix_by"], alarm["services"]) == ("shopkeeper", ["print"])
        assert changes(w, "board") == changes(w, "booth") == []
        assert w.observer.last("health/booth")["status"] == "ok"
        assert w.observer.last("state")["state"] == "online"

        w.printer.behaviour.mute = False
        await until_codes(w)
        await until_alarm(w, "not-responding", raised=False)
        await until_changes(w, ("not-responding", "raised"), ("not-responding", "cleared"))


async def test_f57_a_printer_that_is_mute_from_the_start_does_not_hold_the_booth_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.printer.behaviour.mute = True
        started_s = time.monotonic()
        await w.start_agent()
        assert time.monotonic() - started_s < 15
        await until_codes(w, "not-responding")
        assert w.observer.last("health/receipt-printer")["slot"] == "loopback", "its port is known: remedies need it"
        assert w.observer.last("health/board")["checked_at"]


async def test_f58_a_byte_a_second_is_not_an_answer(tmp_path: Path) -> None:
    async with booth(tmp_path, "serial", check_s=1) as w:
        w.printer.behaviour.byte_delay_s = 1.0
        slow_s = time.monotonic()
        await until_codes(w, "not-responding")
        assert time.monotonic() - slow_s < 15  # the whole question has one deadline, however the bytes trickle

        w.printer.behaviour.byte_delay_s = 0.0
        await until_codes(w)
        await until_changes(w, ("not-responding", "raised"), ("not-responding", "cleared"))


# --- 59: what the printer says of itself ---

STATES: list[tuple[dict[str, Any], dict[str, Any], str, str, str, str]] = [
    # what happens, what ends it, code, severity, who fixes it, the shopkeeper's words
    ({"paper": "out"}, {"paper": "plenty"}, "media-empty", "fault", "shopkeeper", "Plus de papier dans l'imprimante à tickets."),
    ({"paper": "near-end"}, {"paper": "plenty"}, "media-low", "warning", "shopkeeper",
     "Il n'y a presque plus de papier dans l'imprimante à tickets."),
    ({"cover_open": True}, {"cover_open": False}, "cover-open", "fault", "shopkeeper",
     "Le capot de l'imprimante à tickets est ouvert."),
    ({"error": "cutter"}, {"error": None}, "cutter-error", "fault", "technician",
     "Le coupe-papier de l'imprimante à tickets est bloqué."),
    ({"error": "recoverable"}, {"error": None}, "recoverable-error", "fault", "technician",
     "L'imprimante à tickets signale une erreur."),
    ({"error": "unrecoverable"}, {"error": None}, "unrecoverable-error", "fault", "technician",
     "L'imprimante à tickets est en panne."),
    ({"error": "hot"}, {"error": None}, "auto-recoverable-error", "warning", "auto",
     "La tête de l'imprimante à tickets refroidit."),
    ({"switched_offline": True}, {"switched_offline": False}, "offline", "fault", "shopkeeper",
     "L'imprimante à tickets est en attente : appuyez sur son bouton."),
]  # fmt: skip


@LINES
async def test_f59_every_state_has_its_code_its_words_and_one_event_each_way(tmp_path: Path, line: str) -> None:
    async with booth(tmp_path, line, check_s=3600) as w:  # so that only what the printer pushes can be the source
        await w.until(lambda: w.printer.asked_to_push)
        expected: list[tuple[str, str]] = []
        # What the bytes mean does not hang on the line: by the serial one, the first three will do.
        for happens, ends, code, severity, fix_by, french in STATES if line == "tcp" else STATES[:3]:
            await asyncio.sleep(1.0)  # one health message a second: the next one must not wait for its turn
            changed_s = time.monotonic()
            w.printer.change(**happens)
            health = await until_codes(w, code)
            if code != "offline":  # that alone is inferred, with 2 s of patience
                assert time.monotonic() - changed_s < 1, code
            (finding,) = health["findings"]
            assert (finding["severity"], finding["fix_by"]) == (severity, fix_by), code
            assert health["status"] == {"fault": "fault", "warning": "degraded"}[severity]
            alarm = await until_alarm(w, code, raised=True)
            assert (alarm["severity"], alarm["fix_by"], alarm["text"]["fr"]) == (severity, fix_by, french)
            assert alarm["runbook"] == f"receipt-printer/{code}"

            w.printer.change(**ends)
            await until_codes(w)
            if fix_by == "shopkeeper":
                await until_alarm(w, code, raised=False)
            expected += [(code, "raised"), (code, "cleared")]
        await until_changes(w, *expected)


async def test_f59_several_troubles_at_once_come_and_go_one_by_one(tmp_path: Path) -> None:
    async with booth(tmp_path, check_s=3600) as w:
        await w.until(lambda: w.printer.asked_to_push)
        w.printer.change(error="cutter", paper="out")
        await until_codes(w, "cutter-error", "media-empty")
        w.printer.change(cover_open=True)  # a paper sensor can be wrong while the cover is open
        await until_codes(w, "cover-open", "cutter-error")
        w.printer.change(paper="plenty", error=None)
        await until_codes(w, "cover-open")
        w.printer.change(cover_open=False)
        await until_codes(w)


async def test_a_printer_that_cannot_push_is_polled(tmp_path: Path) -> None:
    def dumb(w: World) -> None:
        w.printer.behaviour.pushes = False

    async with booth(tmp_path, printer=dumb, poll_s=1, check_s=3600) as w:
        w.printer.change(paper="out")
        changed_s = time.monotonic()
        await until_codes(w, "media-empty")
        assert time.monotonic() - changed_s < 4  # poll_s, and a slow machine
        w.printer.change(paper="plenty")
        await until_codes(w)
        assert not w.printer.asked_to_push


@LINES
async def test_a_power_cycle_makes_a_printer_forget_its_pushes_and_it_is_asked_again(tmp_path: Path, line: str) -> None:
    async with booth(tmp_path, line, check_s=1) as w:
        await w.until(lambda: w.printer.asked_to_push)
        w.printer.power_cycle()
        assert not w.printer.asked_to_push
        await w.until(lambda: w.printer.asked_to_push, "Automatic Status Back asked for again")
        assert changes(w) == []  # the line stood all the time


# --- 62: vanishing ---


@pytest.mark.parametrize("mid_read", [False, True], ids=["idle", "mid-read"])
@LINES
async def test_f62_a_device_that_vanishes_is_absent_at_once_and_picked_up_when_it_returns(
    tmp_path: Path, line: str, mid_read: bool
) -> None:
    async with booth(tmp_path, line, check_s=1 if mid_read else 3600) as w:
        link = next((item._link for item in w.printer._ptys), None)
        if mid_read:
            w.printer.behaviour.mute = True
            asked = w.printer.questions
            await w.until(lambda: w.printer.questions > asked, "a question that waits for its answer")
        gone_s = time.monotonic()
        if link is None:
            await w.printer.unlisten()
        else:
            w.printer.close_ptys()
        health = await until_codes(w, "no-device")
        assert time.monotonic() - gone_s < 1.5, "at once, but for the one message a second that a peripheral has"
        assert health["status"] == "absent"
        alarm = await until_alarm(w, "no-device", raised=True)
        assert alarm["text"]["fr"] == "La borne ne voit plus l'imprimante à tickets : vérifiez la prise et le câble."
        await w.until(lambda: w.observer.last("service/print") == "down")

        w.printer.behaviour.mute = False
        if link is None:
            await w.printer.listen(w.printer.port)
        else:
            w.printer.open_pty(link)
        await until_codes(w)
        await until_changes(w, ("no-device", "raised"), ("no-device", "cleared"))
        await w.until(lambda: w.printer.asked_to_push)
        w.printer.change(paper="out")
        await until_codes(w, "media-empty")


async def test_f62_the_very_node_of_a_terminal_can_be_the_device(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with dev_folder() as folder:
            w.printer.open_pty(folder / "printer")
            node = (folder / "printer").resolve()
            w.config["peripherals"]["receipt-printer"]["device"] = f"serial://{node}"
            await w.start_agent()
            await w.until(lambda: w.observer.last(HEALTH) and w.observer.last(HEALTH)["status"] == "ok")
            assert w.observer.last(HEALTH)["slot"] == "pty"
            w.printer.close_ptys()
            await until_codes(w, "no-device")


# --- 66: garbage in device strings ---


async def test_f66_garbage_in_a_devices_strings_is_escaped_and_capped_wherever_it_is_published(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path / "machine")
    device = plug(
        machine.files.root, "1-1.2", "04b8", "0202",
        manufacturer=b"\x1b[2J\x1b]0;owned\x07EPSON", product=b"\xed\xa0\x80\xff\x00TM", serial=b"S" * 10_000,
    )  # fmt: skip
    (device / "1-1.2:1.0" / "usbmisc" / "lp0").mkdir(parents=True)
    (machine.files.root / "dev/usb").mkdir(parents=True)
    async with world(tmp_path) as w:
        w.printer.open_pty(machine.files.root / "dev/usb/lp0")
        w.config["peripherals"]["receipt-printer"]["device"] = "usb://04b8:0202"
        stop = asyncio.Event()
        running = asyncio.create_task(Agent(read(w.config, declared(), tmp_path), w.state_dir, machine).run(stop))
        try:
            await w.until(lambda: w.observer.last(HEALTH) and w.observer.last(HEALTH)["status"] == "ok", "a healthy printer")
            await w.until(lambda: w.observer.last("meta")["peripherals"]["receipt-printer"]["serial"])
            health, meta = w.observer.last(HEALTH), w.observer.last("meta")["peripherals"]["receipt-printer"]
            assert health["slot"] == meta["slot"] == "usb-1.2"
            for said in (health["device"], meta):
                assert said["vendor"] == "\\x1b[2J\\x1b]0;owned\\x07EPSON"
                assert said["product"].isprintable()
                assert said["product"].endswith("\\x00TM")
                assert said["serial"] == "S" * 127 + "…"
        finally:
            stop.set()
            await running
        for message in w.observer.messages:
            assert not {0x1B, 0x07, 0x00} & set(message.payload), message.topic
            assert b"\\u001b" not in message.payload, message.topic  # escaped by us, not only by JSON


# --- 80: noise ---

NOISES = pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\xff\x80\x00", id="no-status-at-all"),
        pytest.param(b"\x18\x00", id="half-a-frame"),
        pytest.param(bytes(range(0x80, 0x90)) * 20, id="a-burst"),
    ],
)


@NOISES
async def test_f80_the_live_agent_stays_right_through_noise(tmp_path: Path, noise: bytes) -> None:
    async with booth(tmp_path, poll_s=1, check_s=1) as w:
        w.printer.behaviour.noise = noise
        for happens, code in (({"paper": "out"}, "media-empty"), ({"paper": "plenty", "cover_open": True}, "cover-open")):
            w.printer.change(**happens)
            await until_codes(w, code)
        w.printer.change(cover_open=False)
        await until_codes(w)
        w.printer.behaviour.noise = b""
        w.printer.change(error="cutter")
        await until_codes(w, "cutter-error")
        await until_changes(
            w,
            ("media-empty", "raised"), ("cover-open", "raised"), ("media-empty", "cleared"),
            ("cover-open", "cleared"), ("cutter-error", "raised"),
        )  # fmt: skip


async def test_f80_a_noisy_printer_is_not_asked_without_pause(tmp_path: Path) -> None:
    async with booth(tmp_path, poll_s=1, check_s=1) as w:
        w.printer.behaviour.noise = b"\xff"
        w.printer.change(paper="near-end")
        await until_codes(w, "media-low")
        before = w.printer.questions
        await asyncio.sleep(3)
        assert w.printer.questions - before <= 5 * 8 + 8  # two rounds of four a second, and some slack


async def test_f80_pushes_in_the_middle_of_replies_are_both_understood(tmp_path: Path) -> None:
    async with booth(tmp_path, poll_s=1, check_s=1) as w:
        await w.until(lambda: w.printer.asked_to_push)
        before = w.printer.questions
        # The printer changes its mind all the time, while it is asked every second.
        while w.printer.questions < before + 12:
            for paper in ("near-end", "plenty"):
                w.printer.change(paper=paper)
                await asyncio.sleep(0.02)
        w.printer.change(paper="out")
        await until_codes(w, "media-empty")
        assert {code for code, _ in changes(w)} <= {"media-low", "media-empty"}
        w.printer.change(paper="plenty")
        await until_codes(w)
