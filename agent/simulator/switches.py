"""What can be broken in a simulated booth, peripheral by peripheral."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.simulator.audio import SoundCard
from agent.simulator.camera import Behaviour, Camera
from agent.simulator.check_page import CheckPage
from agent.simulator.cups import Cups
from agent.simulator.forms import FormsCache
from agent.simulator.kiosk import KioskApplication
from agent.simulator.machine import SimulatedMachine
from agent.simulator.receipt_printer import ReceiptPrinter
from agent.simulator.scanner import Scanner
from agent.system.session import open_lock, try_lock

Act = Callable[[bool], Awaitable[None]]
ProfileName = Literal["everything", "fonctionnaire-virtuel", "visio-guichet"]

# Which kinds a booth has; the name of each peripheral is that of its kind.
PROFILES: Final[dict[ProfileName, frozenset[str]]] = {
    "everything": frozenset(
        ("receipt-printer", "document-printer", "forms", "scanner", "camera", "kiosk", "audio", "network", "board")
    ),
    "fonctionnaire-virtuel": frozenset(("document-printer", "receipt-printer", "forms", "network", "board")),
    "visio-guichet": frozenset(("document-printer", "scanner", "camera", "network", "board")),
}


@dataclass(frozen=True)
class Switch:
    """Something that can be broken and repaired: by `key` on the keyboard, by the two names in a script.

    `kind` is the kind of peripheral that it is about; None for what every booth has. Where both names are the same, nothing
    is broken: it only happens.
    """

    kind: str | None
    key: str
    breaks: str
    repairs: str
    meaning: str
    set: Act  # True: broken

    @property
    def only_happens(self) -> bool:
        return self.breaks == self.repairs


def at_once(act: Callable[[bool], object]) -> Act:
    async def set_(broken: bool) -> None:
        act(broken)

    return set_


def of_receipt_printer(printer: ReceiptPrinter, machine: SimulatedMachine) -> tuple[Switch, ...]:
    change, behaviour, kind = printer.change, printer.behaviour, "receipt-printer"

    async def unplug(broken: bool) -> None:
        if broken:
            await printer.unlisten()
        else:
            await printer.listen(printer.port)
            machine.uevents.plugged("usb", "/devices/simulated")

    return (
        Switch(kind, "p", "paper-out", "paper-in", "the roll ends", at_once(lambda b: change(paper="out" if b else "plenty"))),
        Switch(kind, "l", "paper-low", "paper-full", "near the end of the roll",
               at_once(lambda b: change(paper="near-end" if b else "plenty"))),
        Switch(kind, "c", "cover-open", "cover-closed", "cover", at_once(lambda b: change(cover_open=b))),
        Switch(kind, "k", "cutter-jammed", "cutter-free", "cutter", at_once(lambda b: change(error="cutter" if b else None))),
        Switch(kind, "o", "printer-offline", "printer-online", "offline", at_once(lambda b: change(switched_offline=b))),
        Switch(kind, "m", "printer-mute", "printer-answers", "no answer", at_once(lambda b: setattr(behaviour, "mute", b))),
        Switch(kind, "s", "printer-slow", "printer-fast", "one byte a second",
               at_once(lambda b: setattr(behaviour, "byte_delay_s", 1.0 if b else 0.0))),
        Switch(kind, "x", "printer-noise", "printer-clean", "garbage on the line",
               at_once(lambda b: setattr(behaviour, "noise", b"\xff\x80\x00" if b else b""))),
        Switch(kind, "u", "printer-unplugged", "printer-plugged", "unplugged", unplug),
    )  # fmt: skip


def of_document_printer(cups: Cups) -> tuple[Switch, ...]:
    """CUPS learns of a printer's trouble while a job runs, so somebody prints."""
    kind = "document-printer"

    def trouble(**broken_as: object) -> Act:
        whole = {name: getattr(cups.laser, name) for name in broken_as}

        async def set_(broken: bool) -> None:
            cups.change(**(broken_as if broken else whole))
            if broken or "toner_pct" in broken_as:  # a job that waits goes on by itself
                await cups.print_something()

        return set_

    async def stop_queue(broken: bool) -> None:
        await (cups.stop_queue() if broken else cups.start_queue())

    async def lose_queue(broken: bool) -> None:
        await (cups.delete_queue() if broken else cups.add_queue())

    async def kill(broken: bool) -> None:
        await (cups.kill() if broken else cups.start())

    return (
        Switch(kind, "P", "sheets-out", "sheets-in", "a form is printed, the tray is empty", trouble(paper="out")),
        Switch(kind, "J", "sheet-jammed", "sheet-freed", "a form is printed and jams", trouble(jammed=True)),
        Switch(kind, "C", "door-open", "door-closed", "a form is printed with the door open", trouble(cover_open=True)),
        Switch(kind, "T", "toner-low", "toner-changed", "a form is printed with 3 % of toner, one with a new cartridge", trouble(toner_pct=3)),
        Switch(kind, "H", "job-stuck", "job-moves", "a form is printed and stands still", trouble(held=True)),
        Switch(kind, "Q", "queue-stopped", "queue-started", "the queue is stopped", stop_queue),
        Switch(kind, "L", "queue-lost", "queue-found", "the queue is deleted", lose_queue),
        Switch(kind, "D", "cups-dead", "cups-alive", "cupsd is killed", kill),
        Switch(kind, "Z", "cups-frozen", "cups-moves", "cupsd hangs", at_once(lambda b: cups.freeze() if b else cups.thaw())),
    )  # fmt: skip


def of_scanner(scanner: Scanner, machine: SimulatedMachine) -> tuple[Switch, ...]:
    def says(word: str) -> Act:
        return at_once(lambda broken: setattr(scanner, "status", word if broken else "ok"))

    def unplug(broken: bool) -> None:
        scanner.plugged = not broken
        machine.uevents.plugged("usb", "/devices/simulated")

    return (
        Switch("scanner", "1", "scanner-jammed", "scanner-freed", "a sheet is stuck", says("jammed")),
        Switch("scanner", "2", "lid-open", "lid-closed", "the cover", says("cover-open")),
        Switch("scanner", "3", "scanner-taken", "scanner-free", "another program scans", says("busy")),
        Switch("scanner", "4", "scanner-fails", "scanner-works", "an error in the middle of a scan", says("io-error")),
        Switch("scanner", "5", "scanner-out", "scanner-in", "unplugged", at_once(unplug)),
    )


def of_camera(camera: Camera) -> tuple[Switch, ...]:
    def films(behaviour: Behaviour) -> Act:
        return at_once(lambda broken: setattr(camera, "behaviour", behaviour if broken else "good"))

    return (
        Switch("camera", "6", "camera-covered", "camera-clear", "something before the lens", films("black")),
        Switch("camera", "7", "camera-frozen", "camera-moves", "the same picture for ever", films("frozen")),
        Switch("camera", "8", "camera-mute", "camera-films", "no pictures", films("no-frames")),
        Switch("camera", "9", "camera-taken", "camera-free", "another program films", films("busy")),
        Switch("camera", "0", "camera-out", "camera-in", "unplugged", films("unplugged")),
    )


def of_kiosk(kiosk: KioskApplication) -> tuple[Switch, ...]:
    return (
        Switch("kiosk", "A", "app-crashed", "app-started", "the application ends",
               at_once(lambda b: kiosk.crash() if b else kiosk.start())),
        Switch("kiosk", "F", "app-frozen", "app-moves", "the application freezes",
               at_once(lambda b: kiosk.freeze() if b else kiosk.start())),
    )  # fmt: skip


def of_audio(card: SoundCard, machine: SimulatedMachine) -> tuple[Switch, ...]:
    def unplug(broken: bool) -> None:
        if broken:
            card.unplug()
        else:
            card.plug()
        machine.uevents.plugged("sound", card.devpath)

    return (
        Switch("audio", "M", "microphone-muted", "microphone-heard", "muted", at_once(lambda b: card.mute(microphone=b))),
        Switch("audio", "N", "headset-out", "headset-in", "unplugged", at_once(unplug)),
    )


def of_forms(cache: FormsCache) -> tuple[Switch, ...]:
    return (
        Switch("forms", "f", "form-lost", "form-found", "a form's file is gone",
               at_once(lambda b: cache.lose() if b else cache.lay())),
    )  # fmt: skip


def of_network(machine: SimulatedMachine, page: CheckPage) -> tuple[Switch, ...]:
    return (
        Switch("network", "n", "cable-out", "cable-in", "the cable", at_once(lambda b: machine.links.change(cable=not b))),
        Switch("network", "i", "box-dead", "box-alive", "the Internet box", at_once(lambda b: machine.links.change(box=not b))),
        Switch("network", "g", "portal", "no-portal", "a captive portal",
               at_once(lambda b: setattr(page, "mood", "portal" if b else "good"))),
    )  # fmt: skip


def of_board(machine: SimulatedMachine) -> tuple[Switch, ...]:
    return (
        Switch("board", "v", "power-weak", "power-good", "under-voltage", at_once(lambda b: machine.power(weak=b))),
        Switch("board", "t", "hot", "cool", "heat", at_once(lambda b: machine.heat(86.0 if b else 48.0))),
        Switch("board", "d", "disk-read-only", "disk-writable", "memory card", at_once(lambda b: machine.mount(read_only=b))),
    )


def of_button(socket_file: Path) -> Switch:
    """A short press, told as booth-button tells it."""

    def press(_: bool) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling, contextlib.suppress(OSError):
            telling.sendto(b"pressed", str(socket_file))  # an agent that is away does not hear it

    return Switch(None, "B", "button-pressed", "button-pressed", "the shop's button, pressed briefly: a ticket", at_once(press))


class Citizen:
    """Somebody at the booth: the application holds the session lock meanwhile, and waits for it as it should."""

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._descriptor: int | None = None

    async def comes(self) -> None:
        descriptor = open_lock(self._runtime_dir)
        while not try_lock(descriptor):  # noqa: ASYNC110 - nothing announces that a lock was freed
            await asyncio.sleep(0.05)
        self._descriptor = descriptor

    def goes(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def switches(self) -> tuple[Switch, ...]:
        async def session(begins: bool) -> None:
            if begins:
                await self.comes()
            else:
                self.goes()

        return (Switch(None, "e", "citizen-comes", "citizen-goes", "a session: the devices are left alone", session),)
