"""The power goes in the middle of each rung that can be started here, and comes back: the attempt counts, and nothing loops.

One boot serves two tests: what was cut short in one is looked at after the boot, and then the next rung is begun.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import TOPICS, agent, remedies, until_heard, until_said, write
from tests.virtual_booth.network import plugged_in
from tests.virtual_booth.paper import Paper
from tests.virtual_booth.printers import UsbPrinter

_BOOTH = """
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[reporting]
alarm_after_s = 1
"""
_USB_TABLES = f"""
[peripherals.receipt-printer]
kind = "receipt-printer"
device = "{UsbPrinter.url}"
poll_s = 5
check_s = 5
absent_s = 2
"""
_OTHER_TABLES = """
[peripherals.document-printer]
kind = "document-printer"
device = "ipp://127.0.0.1:631/printers/forms"
poll_s = 5
job_stuck_s = 10
[peripherals.kiosk]
kind = "kiosk"
unit = "booth-kiosk.service"
interval_s = 5
[peripherals.board]
kind = "board"
interval_s = 10
units_interval_s = 20
[peripherals.network]
kind = "network"
interface = "eth0"
"""
_SLOTS = f"""
[usb]
receipt-printer = "{UsbPrinter.port}"
[queues]
document-printer = "forms"
[units]
kiosk = "booth-kiosk.service"
[boards]
board = ["sound.service"]
[interfaces]
network = "eth0"
"""
_UNITS = {
    "booth-kiosk": "[Service]\nExecStart=/bin/sleep infinity\nSuccessExitStatus=SIGKILL\n",
    "sound": "[Service]\nExecStart=/bin/sh -c 'test -e /run/card-is-free && exec sleep infinity'\n",
}
_SCANS = "/var/spool/booth-scans"
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_CLIMBED_S = 1800.0  # by the booth's clock; as a bound also by ours
_LADDER_S = 950  # by the booth's clock: longer than any rung waits but the reboot, which is due at 1800


@dataclass(frozen=True)
class Rung:
    """`breaks` makes the peripheral need it; in the order of its ladder, since what was cut short counts as tried."""

    remedy: str
    peripheral: str
    breaks: str = ""

    def __str__(self) -> str:
        return self.remedy


_FULL = f"mkdir -p {_SCANS} && fallocate -l $(($(stat -f -c '%a * %S' /) * 97 / 100)) {_SCANS}/page.pnm"
_USB = [Rung(f"usb-{how}", "receipt-printer") for how in ("rebind", "reset", "authorize", "power")]
_OTHERS = [
    Rung("restart-kiosk", "kiosk", "systemctl kill -s KILL booth-kiosk"),
    Rung("restart-units", "board", "rm /run/card-is-free && systemctl restart sound"),
    Rung("free-disk", "board", _FULL),
    Rung("purge-spool", "document-printer", "echo hangs > /run/paper.does && echo 'an earlier one' | lp -d forms -o raw"),
    Rung("enable-queue", "document-printer", "cupsdisable forms && echo 'an earlier one' | lp -d forms -o raw"),
    Rung("restart-cups", "document-printer", "systemctl stop cups.socket cups.path cups.service"),
    Rung("renew-address", "network", "ip address flush dev eth0"),
    Rung("bounce-link", "network", "ip address flush dev eth0"),
    Rung("restart-network", "network", "ip address flush dev eth0"),
    Rung("reload-driver", "network", "ip address flush dev eth0"),
]


class Chain:
    """A booth whose agent runs, and whose power is cut again and again. With a printer of the kernel's own, or with paper."""

    def __init__(self, booth: VirtualBooth, *, usb: bool) -> None:
        self.booth = booth
        self.printer = UsbPrinter(booth) if usb else None
        self.paper = None if usb else Paper(booth)
        self._here = ExitStack()

    def starts(self, *, remembers: bool) -> None:
        """Whatever does not start by itself here; a booth's own units do."""
        for name, text in _UNITS.items():
            write(self.booth, f"/run/systemd/system/{name}.service", text)
        self.booth.run("touch /run/card-is-free && systemctl daemon-reload && systemctl start booth-kiosk sound")
        if self.printer is not None:
            self._here.enter_context(self.printer)
        if self.paper is not None:
            self._here.enter_context(self.paper)
            self._here.enter_context(plugged_in(self.booth))
        settings = _BOOTH + (_USB_TABLES if self.printer else _OTHER_TABLES)
        self._here.enter_context(agent(self.booth, settings, _SLOTS, remembers=remembers))

    def breaks(self, rung: Rung) -> None:
        if self.printer is not None:
            self.printer.mute("never")
            return
        until_said(self.booth, f"health/{rung.peripheral}", '"status":"(ok|degraded)"', _CLIMBED_S)
        self.booth.run(rung.breaks)

    def is_cut_during(self, rung: Rung) -> None:
        """And boots again."""
        running = f'^{TOPICS}/health/{rung.peripheral} .*"healing":[{{]"remedy":"{rung.remedy}"'
        self.booth.run("echo kept > /var/lib/kept && sync /var/lib/kept && echo gone > /run/gone")
        # Seen from in there, and then its clock must not jump: the remedy would be over before we could pull the plug.
        self.booth.run(
            f"until grep -Eq '{running}' /run/heard; do sleep 0.5; done;"
            " { timeout 60 sh -c 'while :; do :; done' & } > /dev/null 2>&1",
            _CLIMBED_S,
        )
        self.booth.cut_power()
        self.booth.boot(hurried=True)
        assert self.booth.run("cat /var/lib/kept && rm /var/lib/kept") == "kept\n"
        assert self.booth.try_run("test -e /run/gone")[0] != 0

    def printed_nothing_old(self) -> None:
        """As it comes up, before anybody does anything for it."""
        if self.paper is None:
            return
        self.booth.wait_for("lpstat -p forms")
        assert self.paper.spool() == ""
        self.booth.run("cupsenable forms")
        self.paper.prints("a new one's")
        assert "an earlier" not in self.paper.printed()

    def ends(self) -> None:
        """What the tests have made, and the scans."""
        self._here.close()
        self._here = ExitStack()
        files = " ".join(f"/run/systemd/system/{name}.service" for name in _UNITS)
        self.booth.run(f"systemctl stop {' '.join(_UNITS)}; rm -rf {_SCANS} {files}; systemctl daemon-reload")


@pytest.fixture(scope="module")
def chains(hurried: VirtualBooth) -> Iterator[dict[bool, Chain]]:
    """At most one of them runs, with USB or without."""
    running: dict[bool, Chain] = {}
    yield running
    for chain in running.values():
        chain.ends()


@pytest.mark.parametrize("rung", [*_USB, *_OTHERS], ids=str)
def test_a_rung_that_was_cut_short_counts_and_the_booth_comes_up(
    hurried: VirtualBooth, chains: dict[bool, Chain], rung: Rung
) -> None:
    usb = rung in _USB
    if usb not in chains:
        for other in list(chains):
            chains.pop(other).ends()
        chain = Chain(hurried, usb=usb)
        chain.starts(remembers=False)
        chains[usb] = chain
    chain = chains[usb]
    chain.breaks(rung)
    boot = hurried.run(_BOOT_ID)
    chain.is_cut_during(rung)
    try:
        assert hurried.run(_BOOT_ID) != boot
        chain.printed_nothing_old()
    finally:
        chain.ends()
        chain.starts(remembers=True)
    # It came up, and knows what it had begun; that is told, and not begun again.
    until_heard(hurried, "event/heal", f'"remedy":"{rung.remedy}","outcome":"interrupted"')
    until_said(hurried, "state", '"state":"online"')
    assert [outcome for remedy, outcome in remedies(hurried) if remedy == rung.remedy] == ["interrupted"]
    assert hurried.run("journalctl -b -t booth-act -o cat --no-pager | grep -c '^reboot' || true") == "0\n"


def test_what_was_cut_short_on_every_rung_is_given_up_and_not_begun_again(chains: dict[bool, Chain]) -> None:
    """The network's ladder is the longest; all of it was cut short but for its reboot."""
    chain = chains[False]
    boot = chain.booth.run(_BOOT_ID)
    chain.breaks(_OTHERS[-1])
    began_s = int(chain.booth.run("cut -d. -f1 /proc/uptime"))
    chain.booth.wait_for(f"test $(cut -d. -f1 /proc/uptime) -gt {began_s + _LADDER_S}", _CLIMBED_S)
    again = {rung.remedy for rung in _OTHERS if rung.peripheral == "network"}
    assert [remedy for remedy, outcome in remedies(chain.booth) if remedy in again and outcome != "interrupted"] == []
    assert chain.booth.run(_BOOT_ID) == boot
