"""The scanner, through SANE: what it says when it is really used, a square centimetre at a time.

Plugged or not is read from sysfs where the option `usb` names the device, at each kernel event. All else is seen only
by opening and scanning, in a worker, when no citizen has the booth. Nothing but the number of bytes leaves the worker; of a
scan that `test-scan` asked for, its size and mean brightness too.
"""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.typed import Check, Pattern, Range
from agent.devices import usb
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice
from agent.devices.workers import WorkerFailed
from agent.peripherals.declaration import LOCAL, Acceptance, Hands, Peripheral, Signals, Test, act
from agent.peripherals.scanner_trial import try_scan
from agent.peripherals.surroundings import Surroundings
from agent.rules.declaration import Fact, FindingKind, Identity, Observed, Reading, Unreadable
from agent.rules.ladder import Remedy

_DEVICE: Final = re.compile(r"sane:([A-Za-z0-9_]+):(\S.{0,199})")
_FINE: Final = ("ok", "no-docs")
_ON_THE_SPOT: Final = (
    "jammed",
    "cover-open",
    "no-device",
)  # somebody may be mending it right now, and waits for the light to turn
_MENDING_S: Final = 600.0
_SETTLING_S: Final = 10.0  # after plugging in, udev has yet to set the permission; after sleep, one failure more is usual
_NOT_MENDED_S: Final = 30.0
_ENDING_S: Final = 60.0  # after a session, its browser may still be closing the scanner
_NOT_THERE: Final = ("invalid", "io-error", "unsupported")  # how backends answer to a name that they do not know


def _device_problem(device: str) -> str | None:
    if _DEVICE.fullmatch(device) and device.isprintable():
        return None
    return f"write sane:BACKEND:DEVICE as `scanimage -L` shows it, or sane:BACKEND:auto (here: {device[:60]!r})"


@dataclass(frozen=True)
class Options:
    """`usb`: vendor:product[/serial], to see it plugged without opening it. `config_dir`: where the backend's own file
    is taken from. `scan`: whether a check scans; otherwise it opens only. `mend_s`: between checks while somebody may
    be mending it; `retry_s`: in other trouble; `absent_s`: is it plugged again (with `usb`); `check_s`: is it still, and in
    all trouble out of hours."""

    device: Annotated[str, Check(_device_problem, "sane:BACKEND:DEVICE, or sane:BACKEND:auto for the first one it finds")] = (
        field(metadata=LOCAL)
    )
    usb: Annotated[str, Pattern("[0-9a-f]{4}:[0-9a-f]{4}(/.+)?", "VENDOR:PRODUCT[/SERIAL] as `lsusb` shows it")] | None = None
    config_dir: Annotated[str, Pattern("/.+", "a whole path, such as /etc/sane.d")] | None = field(default=None, metadata=LOCAL)
    scan: bool = True
    worker_s: Annotated[float, Range(1, 20)] = 20.0
    mend_s: Annotated[float, Range(1, 4)] = 3.0
    retry_s: Annotated[float, Range(1, 3600)] = 60.0
    absent_s: Annotated[float, Range(1, 10)] = 10.0
    check_s: Annotated[float, Range(1, 3600)] = 3600.0


def find(facts: Mapping[str, FactValue], _options: Options) -> Iterable[Observed]:
    """One check, one status. While somebody else has the scanner, what was believed of it still stands."""
    status = facts["status"]
    if facts["cover_open"] and status != "cover-open":
        yield Observed("cover-open")
    if status in (None, "ok"):
        return
    if status == "busy":
        yield Observed("busy")
        for code in ("jammed", "cover-open", "io-error", "access-denied", "hardware-error", "lamp-error"):
            yield Observed(code, holds_only=True)
    elif status in ("jammed", "cover-open", "no-docs", "access-denied"):
        yield Observed(str(status))
    elif status == "warming-up":
        yield Observed("lamp-error")
    elif status == "no-memory":
        yield Observed("probe-failed", {"reason": "out of memory"})  # the booth's, not the scanner's
    elif status == "io-error" or not facts["opened"]:
        yield Observed("io-error", {"status": status})
    else:
        yield Observed("hardware-error", {"status": status})


class ScannerSource:
    """Looks whether it is plugged; uses it when asked to, and by itself while it is in trouble."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        match = _DEVICE.fullmatch(options.device)
        assert match is not None  # Options were validated
        self._options = options
        self._surroundings = surroundings
        self._signals = signals
        self._request = {
            "backend": match[1],
            "device": match[2],
            "folder": str(_folder(surroundings.runtime_dir, options.device)),
            "config_dir": options.config_dir,
            "scan": options.scan,
        }
        self._word = "ok"  # SANE's, or the code of an unreadable one, or untried
        self._worked = False  # it did since it appeared
        self._session_seen_s: float | None = None  # when one put a check off last
        self._since_s = time.monotonic()
        self._trial: dict[str, Any] | None = None  # what is told of a test scan goes there
        self._unsubscribe = surroundings.on_usb(self._usb_event)

    async def probe(self, *, active: bool) -> Reading | None:
        plugged = self._plugged()
        if self._options.usb is not None and plugged is None:
            return self._unreadable("no-device", {"reason": "not plugged in"})
        if not active and self._word in _FINE:
            return None  # only using it would tell more
        with self._surroundings.session.taken() as ours:
            return await self._use(plugged) if ours else self._in_session(plugged)

    def interval_s(self) -> float:
        if self._word in _FINE:
            return self._options.check_s
        if self._word == "no-device" and self._options.usb is not None:
            return self._options.absent_s
        on_the_spot = self._word in _ON_THE_SPOT
        expected = self._surroundings.people_expected()
        if time.monotonic() - self._since_s < (_MENDING_S if on_the_spot and expected else _SETTLING_S):
            return self._options.mend_s
        if not expected:
            return self._options.check_s
        return _NOT_MENDED_S if on_the_spot else self._options.retry_s

    async def close(self) -> None:
        """Nothing is open between checks."""
        self._unsubscribe()

    @contextlib.contextmanager
    def trial(self) -> Iterator[dict[str, Any]]:
        """Inside, using the scanner is a test scan, and what is told of it comes into the dictionary."""
        told: dict[str, Any] = {}
        self._trial = told
        try:
            yield told
        finally:
            self._trial = None

    async def end_holders(self) -> None:
        """Kill what of ours still has the scanner."""
        await self._surroundings.workers.end(self._options.device)

    def _in_session(self, plugged: UsbDevice | None) -> Reading | None:
        """That it is plugged in again is said at once; how it is has to wait."""
        self._session_seen_s = time.monotonic()
        if plugged is None or self._word != "no-device":
            return None
        self._note("untried")
        self._signals.wake(active=True)
        facts: dict[str, FactValue] = {fact.name: None for fact in PERIPHERAL.facts}
        return Reading(facts | {"present": True}, _identity(plugged, {"vendor": None, "product": None}), untried=True)

    async def _use(self, plugged: UsbDevice | None) -> Reading | None:
        started_s = time.monotonic()
        request = self._request if self._trial is None else self._request | {"scan": True, "test": True}
        try:
            answer = await self._surroundings.workers.call(
                self._options.device,
                "agent.devices.sane:check",
                request,
                self._options.worker_s,
                freed=self._signals.wake,
            )
        except WorkerFailed as error:
            return self._unreadable(error.code, error.detail)
        status = answer["text"] or answer["status"]
        if plugged is None and not answer["listed"] and not answer["opened"] and status in _NOT_THERE:
            return self._unreadable("no-device", {"reason": "the backend does not find it"})
        busy = status == "busy"
        if busy and self._session_seen_s is not None and time.monotonic() < self._session_seen_s + _ENDING_S:
            return None  # it would tell when the session ended
        if self._trial is not None:
            self._trial |= answer
        self._note("cover-open" if answer["cover_open"] and status == "ok" else status)
        self._worked |= self._word in _FINE
        facts = {
            "present": True if plugged or answer["listed"] or answer["opened"] else None,
            "opened": answer["opened"],
            "status": status,
            "cover_open": answer["cover_open"],
            "document_loaded": answer["document_loaded"],
            "scanned_bytes": answer["scanned_bytes"],
        }
        untried = busy and not self._worked
        return Reading(facts, _identity(plugged, answer), took_s=time.monotonic() - started_s, untried=untried)

    def _unreadable(self, code: Any, detail: Mapping[str, Any]) -> Reading:
        self._note(code)
        self._worked = False
        return Reading(unreadable=Unreadable(code, detail))

    def _note(self, word: str) -> None:
        if word != self._word:
            self._word = word
            self._since_s = time.monotonic()

    def _plugged(self) -> UsbDevice | None:
        if self._options.usb is None:
            return None
        ids, _, serial = self._options.usb.partition("/")
        vendor_id, product_id = ids.split(":")
        return usb.find(self._surroundings.files, vendor_id, product_id, serial or None)

    def _usb_event(self, action: str, path: str) -> None:
        arrives = action in ("add", "bind", "change")
        if self._options.usb is None:
            # Which device this is about cannot be told; only using the scanner shows whether it was that one.
            if (arrives and self._word not in _FINE) or (action == "remove" and self._word != "no-device"):
                self._signals.wake(active=True)
            return
        plugged = self._plugged()
        if plugged is None:
            if self._word != "no-device":
                self._signals.wake()
        elif arrives and (self._word not in _FINE or (action == "add" and path.endswith("/" + plugged.path))):
            self._signals.wake(active=True)


def _folder(runtime_dir: Path, device: str) -> Path:
    return runtime_dir / "sane" / re.sub("[^A-Za-z0-9]+", "-", device)[:100]


def _identity(plugged: UsbDevice | None, answer: Mapping[str, Any]) -> Identity:
    if plugged is None:
        return Identity(vendor=answer["vendor"], product=answer["product"])
    return Identity(plugged.slot, plugged.vendor or answer["vendor"], plugged.product or answer["product"], plugged.serial)


async def _again(_source: ScannerSource, _hands: Hands) -> None:
    """The probe that follows is the remedy: the first use after sleep may fail."""


async def _end_holders(source: ScannerSource, _hands: Hands) -> None:
    await source.end_holders()


def _named(configured: str, device: UsbDevice, _files: KernelFiles) -> str:
    return usb.ids_like(configured, device)


_ACCEPTANCE: Final = Acceptance(
    "usb",
    _named,
    "agent.toml does not say which scanner it is: write its ids, as lsusb shows them, as usb, and restart the agent",
    then="device in agent.toml still names a SANE backend: another model may need another one",
)
_STUCK: Final = frozenset({"not-responding", "io-error"})
_LADDER: Final = (
    Remedy("try-again", _STUCK, _again, deadline_s=1.0, settle_s=1.0),
    Remedy("end-holders", _STUCK | {"wedged"}, _end_holders, deadline_s=5.0),
    Remedy("usb-reset", _STUCK | {"wedged"}, act("usb-reset"), settle_s=5.0, needs_usb=True),
    Remedy("usb-authorize", _STUCK | {"wedged"}, act("usb-authorize"), settle_s=5.0, needs_usb=True),
    Remedy(
        "usb-power",
        _STUCK | {"wedged", "no-device"},
        act("usb-power"),
        deadline_s=15.0,
        settle_s=8.0,
        patience_s=60.0,
        needs_usb=True,
    ),
)

PERIPHERAL = Peripheral(
    kind="scanner",
    noun=Text("le scanner", "the scanner"),
    options=Options,
    facts=(
        Fact("present", "boolean", "it is plugged in, or its backend found it; null where neither can be told"),
        Fact("opened", "boolean", "its backend opened it at the last check"),
        Fact("status", "string", "SANE's status of the last check as a word such as ok, jammed, busy; its text where there is no word"),
        Fact("cover_open", "boolean", "the cover sensor says open; null for a scanner or backend without one"),
        Fact("document_loaded", "boolean", "the feeder's sensor sees a page; null for a scanner or backend without one"),
        Fact("scanned_bytes", "integer", "size of the area that the last check scanned; null where it did not scan", "bytes"),
    ),
    findings=(
        FindingKind(
            "not-responding", "fault", "auto",
            Text("Le scanner ne répond pas : nouvel essai en cours.", "The scanner does not answer: it is being tried again."),
        ),
        FindingKind(
            "jammed", "fault", "shopkeeper",
            Text("Une feuille est coincée dans le scanner : retirez-la.", "A sheet is jammed in the scanner: remove it."),
        ),
        FindingKind(
            "cover-open", "fault", "shopkeeper",
            Text("Le capot du scanner est ouvert : fermez-le.", "The cover of the scanner is open: close it."),
        ),
        FindingKind(
            "io-error", "fault", "auto",
            Text("La liaison avec le scanner échoue : nouvel essai en cours.", "The link to the scanner fails: it is being tried again."),
            raise_after_s=5.0,  # usual for a moment after it was plugged in, or slept
        ),
        FindingKind(
            "access-denied", "fault", "remote",
            Text("La borne n'a pas le droit d'utiliser le scanner.", "The booth is not allowed to use the scanner."),
            raise_after_s=5.0,  # a moment after plugging in, udev has yet to set the permission
        ),
        FindingKind(
            "lamp-error", "warning", "technician",
            Text("La lampe du scanner ne finit pas de chauffer.", "The lamp of the scanner does not get warm."),
            raise_after_s=180.0,  # a cold lamp may take a minute or two
        ),
        FindingKind(
            "hardware-error", "fault", "technician",
            Text("Le scanner refuse de numériser.", "The scanner refuses to scan."), part="scanner",
        ),
        FindingKind(
            "no-docs", "info", "nobody",
            Text("Le chargeur du scanner est vide : c'est normal.", "The feeder of the scanner is empty, as it should be."),
        ),
        FindingKind(
            "busy", "info", "nobody",
            Text("Le scanner est utilisé par un autre programme.", "Another program is using the scanner."),
        ),
    ),
    find=find,
    open=ScannerSource,
    deadline_s=23.0,
    ladder=_LADDER,
    accept=_ACCEPTANCE,
    tests=(Test("test-scan", try_scan),),
)  # fmt: skip
