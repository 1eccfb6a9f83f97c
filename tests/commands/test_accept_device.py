"""`accept-device`: another device, plugged in at the place of the expected one, becomes the expected one. Fault row 79."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.app import Agent
from agent.devices import usb
from agent.devices.sysfs import KernelFiles
from agent.peripherals import document_printer, receipt_printer, scanner
from agent.peripherals.declaration import NotAcceptable
from agent.simulator.machine import SimulatedMachine
from tests.commands.technician import begin_session, command, dated, signed_command
from tests.devices.test_usb import DEVICES, plug
from tests.documents.operator import Operator
from tests.world import World, agent_inside, world

OPERATOR = Operator()
NAME = "receipt-printer"
ASKED = {"args": {"peripheral": NAME}}
PORT = "1-1.2"


class Plug:
    """The port of the receipt printer, in a tree like the kernel's; what answers there is the emulated one."""

    def __init__(self, w: World, machine: SimulatedMachine) -> None:
        self._w = w
        self._root = machine.files.root

    def put(self, ids: str, serial: str, model: str = "TM-T88", *, prints: bool = True) -> None:
        device = plug(self._root, PORT, *ids.split(":"), manufacturer=b"EPSON", product=model.encode(), serial=serial.encode())
        (self._root / "dev/usb").mkdir(parents=True, exist_ok=True)
        if prints:
            (device / f"{PORT}:1.0/usbmisc/lp0").mkdir(parents=True)
            self._w.printer.open_pty(self._root / "dev/usb/lp0")

    def take(self) -> None:
        self._w.printer.close_ptys()
        shutil.rmtree(self._root / DEVICES / PORT)

    def swap(self, ids: str, serial: str, model: str = "TM-m30", *, prints: bool = True) -> None:
        self.take()
        self.put(ids, serial, model, prints=prints)


@asynccontextmanager
async def desk(folder: Path, device: str = "usb://04b8:0202/J1") -> AsyncIterator[tuple[World, SimulatedMachine, Plug]]:
    """A booth whose receipt printer is on USB; no agent yet."""
    machine = SimulatedMachine(folder / "machine")
    async with world(folder) as w:
        OPERATOR.install(folder)
        # usblp says at once that the device is gone; a terminal in its place, when it is written to.
        w.config["peripherals"][NAME] |= {"device": device, "check_s": 1, "poll_s": 1}
        port = Plug(w, machine)
        port.put("04b8:0202", "J1")
        yield w, machine, port


def codes(w: World, *wanted: str) -> bool:
    health = w.observer.last(f"health/{NAME}")
    return health is not None and health["status"] != "unknown" and w.observer.codes(NAME) == list(wanted)


async def until_codes(w: World, *wanted: str) -> None:
    await w.until(lambda: codes(w, *wanted), f"{wanted or 'nothing'} wrong with it")


async def accepted(w: World) -> dict[str, Any]:
    status = await signed_command(w, OPERATOR, "accept-device", **ASKED)
    assert status["state"] == "succeeded", status
    result: dict[str, Any] = status["result"]
    return result


async def test_f79_a_replaced_printer_is_accepted_and_stays_it_until_agent_toml_says_something_else(tmp_path: Path) -> None:
    async with desk(tmp_path) as (w, machine, port):
        async with agent_inside(w, machine):
            await until_codes(w)
            port.swap("04b8:0e15", "K2")
            await until_codes(w, "device-changed")
            reported = await w.until(lambda: w.observer.last("config/reported"), "what is in force")
            result = await accepted(w)
            assert result == {"was": "usb://04b8:0202/J1", "now": "usb://04b8:0e15/K2", "found": "04b8:0e15 TM-m30 K2"}
            await until_codes(w)
            told = await w.until(
                lambda: [event for event in w.observer.events() if event["code"] == "device-accepted"], "the event"
            )
            assert [(one["class"], one["peripheral"], one["data"]) for one in told] == [
                ("config", NAME, {"was": "usb://04b8:0202/J1", "now": "usb://04b8:0e15/K2"})
            ]
            await w.until(lambda: w.observer.last("meta")["peripherals"][NAME]["serial"] == "K2", "who it is")
            assert w.observer.last("config/reported") == reported
        w.observer.retained.clear()
        async with agent_inside(w, machine):
            await until_codes(w)
            port.take()
            await until_codes(w, "no-device")
            port.put("04b8:0202", "J1")
            await until_codes(w, "device-changed")
        w.config["peripherals"][NAME]["device"] = "usb://04b8:0202"
        w.observer.retained.clear()
        async with agent_inside(w, machine):
            await until_codes(w)
        w.config["peripherals"][NAME]["device"] = "usb://04b8:0202/J1"
        port.swap("04b8:0e15", "K2")
        w.observer.retained.clear()
        async with agent_inside(w, machine):
            await w.until(lambda: codes(w, "no-device") or codes(w, "device-changed"), "the old acceptance does not come back")


async def test_another_one_of_the_same_model_is_another_one_where_its_serial_number_is_expected(tmp_path: Path) -> None:
    async with desk(tmp_path) as (w, machine, port), agent_inside(w, machine) as agent:
        await until_codes(w)
        port.swap("04b8:0202", "J2", "TM-T88")
        await until_codes(w, "device-changed")
        code = agent.ticket_code.new()
        status = await command(w, "accept-device", code=code, **ASKED, **dated())
        assert (status["state"], status["result"]["now"]) == ("succeeded", "usb://04b8:0202/J2"), "by the ticket's code, too"
        await until_codes(w)


async def test_a_second_replacement_is_accepted_over_the_first_and_what_was_written_is_what_counts(tmp_path: Path) -> None:
    async with desk(tmp_path, "usb://04b8:0202") as (w, machine, port):
        async with agent_inside(w, machine):
            await until_codes(w)
            for ids, was in (("04b8:0e15", "usb://04b8:0202"), ("04b8:0e03", "usb://04b8:0e15")):
                port.swap(ids, "K2")
                await until_codes(w, "device-changed")
                result = await accepted(w)
                assert (result["was"], result["now"]) == (was, f"usb://{ids}"), "without a serial number, as it was"
                await until_codes(w)
        w.observer.retained.clear()
        async with agent_inside(w, machine):
            await until_codes(w)


async def test_it_is_given_up_while_the_agent_runs_too(tmp_path: Path) -> None:
    async with desk(tmp_path) as (w, machine, port), agent_inside(w, machine) as agent:
        await until_codes(w)
        port.swap("04b8:0e15", "K2")
        await until_codes(w, "device-changed")
        await accepted(w)
        await until_codes(w)
        same = {name: dict(table) for name, table in w.config.items()}
        same["reporting"] = {"alarm_after_s": 2}
        agent._live.adopt(same)  # a document that says nothing of it
        assert _device(agent) == "usb://04b8:0e15/K2"
        same["peripherals"] = w.config["peripherals"] | {NAME: {"kind": NAME, "device": "usb://04b8:0777"}}
        agent._live.adopt(same)
        assert _device(agent) == "usb://04b8:0777"
        agent._live.adopt(w.config)
        assert _device(agent) == "usb://04b8:0202/J1"


def _device(agent: Agent) -> str:
    return next(str(item.options.device) for item in agent._live.current.peripherals if item.name == NAME)


async def test_in_a_session_it_is_taken_and_the_device_is_looked_at_afterwards(tmp_path: Path) -> None:
    async with desk(tmp_path) as (w, machine, port), agent_inside(w, machine) as agent:
        await until_codes(w)
        port.swap("04b8:0e15", "K2")
        await until_codes(w, "device-changed")
        session = begin_session(w)
        assert (await accepted(w))["now"] == "usb://04b8:0e15/K2"
        assert _device(agent) == "usb://04b8:0e15/K2"
        os.close(session)
        await until_codes(w)


# --- refusals ---


async def test_nobody_but_a_technician_accepts(tmp_path: Path) -> None:
    async with desk(tmp_path) as (w, machine, port), agent_inside(w, machine) as agent:
        await until_codes(w)
        port.swap("04b8:0e15", "K2")
        await until_codes(w, "device-changed")
        status = await command(w, "accept-device", **ASKED)
        assert (status["state"], status["reason"]) == ("refused", "not-signed")
        assert _device(agent) == "usb://04b8:0202/J1"


async def test_where_nothing_was_replaced_it_fails_and_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as (w, machine, port), agent_inside(w, machine) as agent:
        await until_codes(w)
        status = await signed_command(w, OPERATOR, "accept-device", **ASKED)
        assert (status["state"], status["reason"]) == ("failed", None)
        assert status["result"] == {
            "message": "no other device was seen in its place: plug it in where the former one was", "codes": [],
        }  # fmt: skip
        port.take()
        await until_codes(w, "no-device")
        assert (await signed_command(w, OPERATOR, "accept-device", **ASKED))["result"]["codes"] == ["no-device"]
        port.put("046d:c31c", "", "Keyboard", prints=False)
        await until_codes(w, "device-changed")
        status = await signed_command(w, OPERATOR, "accept-device", **ASKED)
        assert status["state"] == "failed"
        assert "is no printer" in status["result"]["message"]
        assert status["result"]["found"] == "046d:c31c Keyboard"
        assert _device(agent) == "usb://04b8:0202/J1"


async def test_what_cannot_be_accepted_says_what_to_do_instead(tmp_path: Path) -> None:
    camera = {"kind": "camera", "device": "v4l2:/dev/v4l/by-id/none"}
    queue = {"kind": "document-printer", "device": "ipp://127.0.0.1:1/printers/forms"}
    sane = {"kind": "scanner", "device": "sane:test:auto"}
    async with world(tmp_path) as w:
        OPERATOR.install(tmp_path)
        w.config["peripherals"] |= {"camera": camera, "document-printer": queue, "scanner": sane}
        async with agent_inside(w, SimulatedMachine(tmp_path / "machine")):
            await w.until(lambda: w.observer.last("state") and w.observer.last("state")["state"] == "online", "online")
            cases = {NAME: "address", "camera": "agent.toml", "document-printer": "lpadmin", "scanner": "lsusb"}
            for name, words in cases.items():
                status = await signed_command(w, OPERATOR, "accept-device", args={"peripheral": name})
                assert (status["state"], status["reason"]) == ("failed", "not-supported"), name
                assert words in status["result"]["message"]
            status = await signed_command(w, OPERATOR, "accept-device", args={"peripheral": "board"})
            assert (status["state"], status["reason"]) == ("refused", "not-supported")


async def test_what_cannot_be_kept_is_not_accepted(tmp_path: Path) -> None:
    class FullCard:
        def event(self, *_: Any) -> None: ...
        def save(self, *_: Any) -> None: ...

        async def flushed(self, _deadline_s: float) -> bool:
            return False

    async with desk(tmp_path) as (w, machine, port), agent_inside(w, machine) as agent:
        await until_codes(w)
        port.swap("04b8:0e15", "K2")
        await until_codes(w, "device-changed")
        agent._accepted._memory = FullCard()
        status = await signed_command(w, OPERATOR, "accept-device", **ASKED)
        assert status["state"] == "failed"
        assert "memory card" in status["result"]["message"]
        assert _device(agent) == "usb://04b8:0202/J1"


# --- names ---


@pytest.mark.parametrize(
    ("serial", "name"), [(b"K/2#1", "usb://04b8:0e15/K/2#1"), (b"K?2", "usb://04b8:0e15"), (b"", "usb://04b8:0e15")]
)
def test_a_serial_number_that_no_address_can_hold_is_left_out(tmp_path: Path, serial: bytes, name: str) -> None:
    (plug(tmp_path, PORT, "04b8", "0e15", serial=serial) / f"{PORT}:1.0/usbmisc/lp0").mkdir(parents=True)
    found = usb.in_slot(KernelFiles(tmp_path), "usb-1.2")
    assert found is not None
    assert receipt_printer.PERIPHERAL.accept is not None
    assert receipt_printer.PERIPHERAL.accept.name("usb://04b8:0202/J1", found, KernelFiles(tmp_path)) == name


def test_another_device_is_named_as_the_former_one_was(tmp_path: Path) -> None:
    device = plug(tmp_path, PORT, "04a9", "190f", serial=b"S9")
    (device / f"{PORT}:1.0").mkdir()
    (device / f"{PORT}:1.0/bInterfaceClass").write_text("07\n")
    files = KernelFiles(tmp_path)
    found = usb.in_slot(files, "usb-1.2")
    assert found is not None
    for peripheral in (scanner.PERIPHERAL, document_printer.PERIPHERAL):
        assert peripheral.accept is not None
        assert peripheral.accept.name("04f9:0054", found, files) == "04a9:190f"
        assert peripheral.accept.name("04F9:0054/E1", found, files) == "04a9:190f/S9"
    (device / f"{PORT}:1.0/bInterfaceClass").write_text("08\n")
    assert document_printer.PERIPHERAL.accept is not None
    with pytest.raises(NotAcceptable, match="no printer"):
        document_printer.PERIPHERAL.accept.name("04f9:0054", found, files)


@pytest.mark.parametrize("node", ["ttyUSB3", "tty/ttyACM3"])
def test_a_serial_printer_gets_udevs_name_of_its_new_port(tmp_path: Path, node: str) -> None:
    device = plug(tmp_path, PORT, "0403", "6001")
    (device / f"{PORT}:1.0" / node).mkdir(parents=True)
    names = tmp_path / "dev/serial/by-id"
    names.mkdir(parents=True)
    (names / "usb-Other-port0").symlink_to("../../ttyUSB9")
    files = KernelFiles(tmp_path)
    found = usb.in_slot(files, "usb-1.2")
    accept = receipt_printer.PERIPHERAL.accept
    assert found is not None
    assert accept is not None
    former = "serial:///dev/serial/by-id/usb-FTDI_A50285BI-if00-port0?baud=38400"
    with pytest.raises(NotAcceptable, match="by-id"):
        accept.name(former, found, files)
    (names / "usb-FTDI_B1-if00-port0").symlink_to(f"../../{node.rpartition('/')[2]}")
    assert accept.name(former, found, files) == "serial:///dev/serial/by-id/usb-FTDI_B1-if00-port0?baud=38400"
