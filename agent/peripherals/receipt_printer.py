"""The receipt printer: ESC/POS over TCP, a serial line or USB."""

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Check, Pattern, Range
from agent.devices import usb
from agent.devices.escpos.codec import Status
from agent.devices.escpos.printer import NotResponding, StatusPrinter
from agent.devices.lines import Absent, Line, LineAddress, Taken, open_line
from agent.devices.receipt_printing import NotPrinted, Paper, print_on
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice
from agent.peripherals.declaration import LOCAL, Acceptance, Hands, NotAcceptable, Peripheral, Signals, TestFailed, act
from agent.peripherals.receipt_trial import TEST_PRINT
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Identity, Observed, Reading, Unreadable
from agent.rules.health import Finding
from agent.rules.ladder import Remedy
from agent.ticket.paragraphs import Paragraph, plain_paragraphs


def _device_problem(url: str) -> str | None:
    try:
        LineAddress.parse(url)
    except ValueError as error:
        return str(error)
    return None


_TROUBLED_S: Final = 2.0  # between questions to a printer that is offline or mute and does not push


@dataclass(frozen=True)
class Options:
    """`poll_s`: a printer that cannot push is asked this often; `check_s`: one that can, is it still there.

    `profile`: the model, as python-escpos names it, for what is printed on it: its columns, cutter and code pages. `page`: the
    code page, where the profile's best one prints other letters (`booth-agent slip --code-pages` prints them all).
    """

    device: Annotated[str, Check(_device_problem, "tcp://, serial:// or usb:// URL of the printer")] = field(metadata=LOCAL)
    poll_s: Annotated[float, Range(1, 15)] = 15.0
    check_s: Annotated[float, Range(1, 3600)] = 120.0
    absent_s: Annotated[float, Range(1, 10)] = 5.0
    profile: Annotated[str, Pattern("[A-Za-z0-9_-]{1,40}", "a profile of python-escpos, such as TM-T88III")] = "default"
    page: Annotated[str, Pattern("[A-Z0-9_-]{1,20}", "a code page of the profile, such as CP858")] | None = None


def find(facts: Mapping[str, FactValue], _options: Options) -> Iterable[Observed]:
    """A paper sensor can be wrong while the cover is open, so an open cover hides it; `offline` alone has no other cause."""
    if facts["error"] is not None:
        yield Observed("cutter-error" if facts["error"] == "cutter" else f"{facts['error']}-error")
    if facts["cover_open"]:
        yield Observed("cover-open")
    elif facts["paper"] == "empty":
        yield Observed("media-empty")
    elif facts["paper"] == "low":
        yield Observed("media-low")
    explained = facts["error"] is not None or facts["cover_open"] or facts["paper"] == "empty" or facts["feeding"]
    if not facts["online"] and not explained:
        yield Observed("offline")


class PrinterSource:
    """Asks in rounds, and reports what the printer pushes in between."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        address = LineAddress.parse(options.device)
        self._options = options
        self._networked = address.scheme == "tcp"
        self._signals = signals
        self._session = surroundings.session
        self._workers = surroundings.workers
        self._files = surroundings.files
        self._paper = Paper(address, options.profile, options.page)
        self._absent = True
        self._troubled = False
        self._identity = Identity()  # of the line that was opened last; a mute printer has a port too
        self._printer = StatusPrinter(
            lambda handlers: self._open(open_line(address, surroundings.files, handlers, surroundings.resolve)),
            self._pushed,
            signals.wake,
            self._lost,
        )
        self._unsubscribe = surroundings.on_usb(self._usb_event)

    async def probe(self, *, active: bool) -> Reading | None:
        del active  # asking is all there is to do without paper
        if self._printer.line is not None:
            return await self._ask()  # what is open is neither opened nor moved by a question
        with self._session.taken() as ours:
            return await self._ask() if ours else None

    async def _ask(self) -> Reading:
        try:
            status = await self._printer.ask()
        except Absent as error:
            return self._gone(str(error))
        except NotResponding as error:
            self._absent = False
            self._troubled = True
            return Reading(identity=self._identity, unreadable=Unreadable("not-responding", {"reason": str(error)}))
        except (Taken, OSError) as error:
            # Another process, a permission, no driver: nothing a shopkeeper could mend. A moment after plugging in,
            # udev has yet to set the permission, and announces when it has: so this waits like an absent device.
            self._absent = True
            return Reading(unreadable=Unreadable("probe-failed", {"reason": _reason(error)}))
        self._absent = False
        self._troubled = not status.online
        return self._reading(status)

    def interval_s(self) -> float:
        if self._absent:
            return self._options.absent_s
        if self._printer.pushes:
            return self._options.check_s
        # Somebody may be mending it right now, and waits for the light to turn.
        return min(_TROUBLED_S, self._options.poll_s) if self._troubled else self._options.poll_s

    async def close(self) -> None:
        self._unsubscribe()
        self._printer.close()

    def reopen(self) -> None:
        """Let go of the line; the next question opens it anew."""
        self._printer.close()

    async def print_document(self, paragraphs: Iterable[Paragraph]) -> str:
        """Print, cut, and wait until it came out; returns what says so. Nobody may probe meanwhile: the line is let go of for a
        worker, and opened again by the next question. Raises TestFailed."""
        with self._session.taken() as ours:
            if not ours:
                raise TestFailed("a citizen uses the booth: nothing is printed before she has gone", reason="session-active")
            self._printer.close()
            plain = plain_paragraphs(paragraphs)
            try:
                return await print_on(self._workers, self._options.device, self._paper, self._files, plain)
            except NotPrinted as failure:
                stopped = None if failure.status is None else self.stopped_by(Reading(failure.status))
                raise stopped or TestFailed(str(failure), sent=failure.sent) from failure

    def stopped_by(self, reading: Reading) -> TestFailed | None:
        """What keeps it from printing, if a reading shows anything."""
        if reading.unreadable is not None:
            codes: list[str] = [reading.unreadable.code]
        else:
            codes = [item.code for item in find(reading.facts, self._options) if item.code != "media-low"]
            if not codes and reading.facts["online"]:
                return None
            codes = codes or ["offline"]  # which is believed a moment later
        text = PERIPHERAL.finding_kinds[codes[0]].text.en
        return TestFailed(f"{text} docs/runbook/receipt-printer/{codes[0]}.md says what to do.", codes=codes)

    async def recover(self) -> None:
        """Out of an error that was mended, or that a second try mends. Raises what opening the line raises."""
        await self._printer.recover()

    def _pushed(self, status: Status) -> None:
        self._signals.report(self._reading(status))

    def _lost(self, reason: str) -> None:
        # A print server may close an idle connection: there, the next attempt shows whether the printer went.
        if not self._networked:
            self._signals.report(self._gone(reason))
        self._signals.wake()

    def _gone(self, reason: str) -> Reading:
        self._absent = True
        return Reading(unreadable=Unreadable("no-device", {"reason": reason}))

    def _usb_event(self, action: str, _path: str) -> None:
        # Any event may be ours while we wait for the device; once it is open, the line itself tells.
        if self._absent and action in ("add", "bind", "change"):
            self._signals.wake()

    def _reading(self, status: Status) -> Reading:
        facts: dict[str, Any] = {
            "online": status.online,
            "cover_open": status.cover_open,
            "paper": status.paper,
            "error": status.error,
            "feeding": status.feeding,
        }
        return Reading(facts, self._identity)

    async def _open(self, opening: Awaitable[Line]) -> Line:
        line = await opening
        device = line.device
        told = () if device is None else (device.vendor, device.product, device.serial)
        self._identity = Identity(line.slot, *told)
        return line


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


async def _reopen(source: PrinterSource, _hands: Hands) -> None:
    source.reopen()


async def _recover(source: PrinterSource, _hands: Hands) -> None:
    await source.recover()


def _on_its_bus(finding: Finding) -> bool:
    """Of failed checks, only where the device is there and its driver is not: a rebind may have lost it."""
    return finding.code != "probe-failed" or "usblp" in str(finding.detail.get("reason"))


def _named(configured: str, device: UsbDevice, files: KernelFiles) -> str:
    address = LineAddress.parse(configured)
    if address.scheme == "serial":
        port = usb.serial_port(files, device)
        if port is None:
            raise NotAcceptable("what is plugged in there has no serial port with a name in /dev/serial/by-id")
        return f"serial://{port}?baud={address.baud}"
    if usb.printer_node(files, device) is None:
        raise NotAcceptable("what is plugged in there is no printer: the kernel's usblp driver does not have it")
    named = "usb://" + usb.ids_like("/".join(address.place[1:]), device)
    readable = LineAddress.parse(named).place == (device.vendor_id, device.product_id, device.serial)
    return named if readable else f"usb://{device.vendor_id}:{device.product_id}"


_ACCEPTANCE: Final = Acceptance(
    "device",
    _named,
    "a printer in the network has an address: write it as device into agent.toml, and restart the agent",
    takes=lambda configured: not configured.startswith("tcp:"),
)
_MUTE: Final = frozenset({"not-responding"})
_LOST: Final = _MUTE | {"probe-failed"}
_LADDER: Final = (
    Remedy("reopen", _MUTE, _reopen, deadline_s=2.0, settle_s=0.5),
    Remedy("recover", frozenset({"cutter-error", "recoverable-error"}), _recover, deadline_s=5.0, settle_s=3.0, max_attempts=2),
    Remedy("usb-rebind", _MUTE, act("usb-rebind"), settle_s=3.0, needs_usb=True),
    Remedy("usb-reset", _LOST, act("usb-reset"), settle_s=4.0, needs_usb=True, when=_on_its_bus),
    Remedy("usb-authorize", _LOST, act("usb-authorize"), settle_s=4.0, needs_usb=True, when=_on_its_bus),
    # A device that the kernel does not see may have hung before it was enumerated; most often its cable is out, though.
    Remedy(
        "usb-power",
        _LOST | {"no-device"},
        act("usb-power"),
        deadline_s=15.0,
        settle_s=8.0,
        patience_s=60.0,
        needs_usb=True,
        when=_on_its_bus,
    ),
)

PERIPHERAL = Peripheral(
    kind="receipt-printer",
    noun=Text("l'imprimante à tickets", "the receipt printer"),
    options=Options,
    facts=(
        Fact("online", "boolean", "the printer takes data"),
        Fact("cover_open", "boolean", "the cover is open"),
        Fact("paper", "string", "the roll: adequate, low or empty; a printer without near-end sensor never says low"),
        Fact("error", "string", "cutter, recoverable, unrecoverable or auto-recoverable; null without error"),
        Fact("feeding", "boolean", "paper is being fed by the button"),
    ),
    findings=(
        FindingKind(
            "media-empty", "fault", "shopkeeper",
            Text("Plus de papier dans l'imprimante à tickets.", "The receipt printer is out of paper."), part="thermal roll",
        ),
        FindingKind(
            "media-low", "warning", "shopkeeper",
            Text("Il n'y a presque plus de papier dans l'imprimante à tickets.", "The receipt printer is low on paper."), part="thermal roll",
        ),
        FindingKind(
            "cover-open", "fault", "shopkeeper",
            Text("Le capot de l'imprimante à tickets est ouvert.", "The cover of the receipt printer is open."),
        ),
        FindingKind(
            "cutter-error", "fault", "technician",
            Text("Le coupe-papier de l'imprimante à tickets est bloqué.", "The cutter of the receipt printer is jammed."),
        ),
        FindingKind(
            "recoverable-error", "fault", "technician",
            Text("L'imprimante à tickets signale une erreur.", "The receipt printer reports a recoverable error."),
        ),
        FindingKind(
            "auto-recoverable-error", "warning", "auto",
            Text("La tête de l'imprimante à tickets refroidit.", "The head of the receipt printer is cooling down."),
        ),
        FindingKind(
            "unrecoverable-error", "fault", "technician",
            Text("L'imprimante à tickets est en panne.", "The receipt printer has failed."), part="receipt printer",
        ),
        FindingKind(
            "offline", "fault", "shopkeeper",
            Text("L'imprimante à tickets est en attente : appuyez sur son bouton.", "The receipt printer is offline: press its button."),
            raise_after_s=0.5,
        ),
    ),
    find=find,
    open=PrinterSource,
    deadline_s=8.0,
    ladder=_LADDER,
    tests=(TEST_PRINT,),
    accept=_ACCEPTANCE,
)  # fmt: skip
