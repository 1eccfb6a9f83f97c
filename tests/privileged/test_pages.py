"""On a real cupsd: what was printed is counted, a session and a day have so many pages, and no way around leads to more."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from agent.lockdown.printing import LIMITS, RULE, Printing
from agent.lockdown.rule import COMPLIANT, Place
from agent.peripherals.document_printer import PERIPHERAL, DocumentPrinterSource, Options
from agent.privileged import cups, pages
from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.simulator.mosquitto import free_port
from tests.peripherals.surroundings import Around, Recorded
from tests.privileged.booth import Booth
from tests.privileged.print_server import MISSING, PATH, QUEUE, PrintServer
from tests.privileged.test_program import run

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing: apt-get install cups-daemon cups-client")

PLACE = Place(queues={"document-printer": QUEUE})
SLOTS = Slots(queues={"document-printer": QUEUE})
COUNTS = "var/lib/booth-acts/pages.json"
# A page for each line, as a driver says it. While `mode` is `hold` it stands at the first one.
BACKEND = """#!/bin/sh
[ $# -ge 6 ] || exit 0
echo "$1" >> {folder}/tried
n=0
while read -r line; do
    while [ "$(cat {folder}/mode)" = hold ]; do sleep 0.05; done
    n=$((n + 1))
    echo "PAGE: $n $4" >&2
    echo "INFO: page $n" >&2
    echo "$line" >> {folder}/printed
done < "$6"
"""


class Printer(PrintServer):
    """A booth whose cupsd is told by the rule, and whose systemd starts what it is asked to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "abort-job")
        (self.folder / "bin/backend/booth").write_text(BACKEND.format(folder=self.folder))
        (root / "etc").mkdir()
        (root / "etc/cups").symlink_to(self.folder)
        (root / "usr/bin/cupsreject").symlink_to(shutil.which("cupsreject", path=PATH) or "/nonexistent")
        self.root, self.booth = root, Booth(root)
        self.booth.slots()
        program = f"{sys.executable} -m agent.privileged.pages --root {root}"
        self.booth.program("systemctl", f'case "$*" in *booth-pages*) PYTHONPATH={Path.cwd()} exec {program} ;; esac')
        self.booth.program("cupsd")  # that it is installed
        emptied = root / "etc/systemd/system/cups.service.d/booth.conf"
        emptied.parent.mkdir(parents=True)
        emptied.touch()
        (root / "var/log/cups").mkdir(parents=True)

    def allow(self, of_session: int, of_day: int) -> None:
        policy = Printing(pages_per_session=of_session, pages_per_day=of_day)
        before = (self.folder / "cupsd.conf").read_text()
        RULE.apply(Machine(self.root), PLACE, policy)
        if (self.folder / "cupsd.conf").read_text() != before:
            self.end()  # as try-restart does
            self.start()
        assert RULE.measure(Machine(self.root), PLACE, policy) == COMPLIANT

    def prints(self, pages_: int, copies: int = 1) -> None:
        """A document comes out, and is counted, as the path unit has it."""
        lines_before = self.logged()
        self.tool("lp", "-d", QUEUE, "-n", str(copies), "-t", "canary-0e7f", "-", stdin="page\n" * pages_)
        self.until(lambda: self.logged() > lines_before, "cupsd logs the document")
        pages.settle(Machine(self.root), [QUEUE])

    def logged(self) -> int:
        file = self.root / "var/log/cups/page_log"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def counts(self) -> tuple[int, int]:
        counts = json.loads((self.root / COUNTS).read_text())
        return counts["of_session"], counts["of_day"]

    def takes_jobs(self) -> bool:
        return self.tool("lpstat", "-a", QUEUE).startswith(f"{QUEUE} accepting")

    def session_over(self) -> None:
        pages.settle(Machine(self.root), [QUEUE], session_over=True)


@pytest.fixture
def printer() -> Iterator[Printer]:
    with tempfile.TemporaryDirectory(prefix="booth-") as folder:
        running = Printer(Path(folder))
        running.start()
        yield running
        running.end()


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    class Tomorrow(date):
        @classmethod
        def today(cls) -> "Tomorrow":
            return cls(2999, 1, 1)

    return lambda: monkeypatch.setattr(pages, "date", Tomorrow)


def test_the_document_that_reaches_the_limit_comes_out_and_the_next_is_refused(printer: Printer) -> None:
    printer.allow(3, 100)
    printer.prints(2)
    assert (printer.counts(), printer.takes_jobs()) == ((2, 2), True)
    printer.prints(3)
    assert (printer.counts(), printer.takes_jobs()) == ((5, 5), False)
    assert len(printer.printed()) == 5
    with pytest.raises(AssertionError, match="not accepting jobs"):
        printer.submit("one more")
    assert pages.REASON in printer.tool("lpstat", "-a", QUEUE), "the citizen is told"
    printer.session_over()
    printer.prints(1)
    assert printer.counts() == (1, 6)


def test_copies_are_pages(printer: Printer) -> None:
    printer.allow(10, 100)
    printer.prints(2, copies=3)
    assert printer.counts() == (6, 6)


def test_what_waits_when_the_limit_is_reached_is_never_printed(printer: Printer) -> None:
    printer.allow(1, 100)
    printer.submit("WAITS", held=True)
    printer.prints(1)
    assert printer.jobs("all") == []
    assert printer.printed() == ["page"]


def test_what_is_being_printed_then_is_cancelled(printer: Printer) -> None:
    printer.allow(1, 100)
    printer.mode("hold")
    printer.submit("NEXT")
    printer.until(printer.tried, "the printer has it")
    (printer.root / "var/log/cups/page_log").write_text("total 1\n")  # of another queue
    pages.settle(Machine(printer.root), [QUEUE])
    printer.mode("print")
    assert printer.jobs("all") == []
    assert printer.printed() == []
    assert pages.REASON in printer.tool("lpstat", "-p", QUEUE), "whatever the cancelled job said"


def test_no_page_is_a_limit_too_and_the_default(printer: Printer) -> None:
    printer.allow(0, 0)
    assert not printer.takes_jobs()
    printer.allow(1, 1)
    assert printer.takes_jobs()


def test_a_day_has_its_pages_whoever_printed_them(printer: Printer, tomorrow: Callable[[], None]) -> None:
    printer.allow(10, 2)
    printer.prints(2)
    printer.session_over()
    assert (printer.counts(), printer.takes_jobs()) == ((0, 2), False)
    tomorrow()
    pages.settle(Machine(printer.root), [QUEUE])
    assert (printer.counts(), printer.takes_jobs()) == ((0, 0), True)


def test_healing_is_no_way_to_more_pages(printer: Printer) -> None:
    printer.allow(1, 100)
    printer.prints(1)
    printer.tool("cupsdisable", QUEUE)
    assert run(printer.booth, "enable-queue", b"document-printer\n")["code"] == "done"
    assert not printer.takes_jobs()
    assert "enabled" in printer.queue()


def test_a_queue_that_others_made_refuse_jobs_is_healed_and_not_ours_to_open(printer: Printer) -> None:
    printer.allow(1, 100)
    printer.tool("cupsreject", QUEUE)
    printer.session_over()
    assert not printer.takes_jobs()
    cups.enable(Machine(printer.root), SLOTS, "document-printer")
    printer.tool("cupsreject", QUEUE)
    assert run(printer.booth, "enable-queue", b"document-printer\n")["code"] == "done"
    assert printer.takes_jobs()


def test_a_queue_that_somebody_opened_again_is_drift(printer: Printer) -> None:
    policy = Printing(pages_per_session=1, pages_per_day=100)
    printer.allow(1, 100)
    printer.prints(1)
    printer.tool("cupsaccept", QUEUE)
    assert RULE.measure(Machine(printer.root), PLACE, policy).state == "violated"
    RULE.apply(Machine(printer.root), PLACE, policy)
    assert not printer.takes_jobs()


def test_a_log_that_was_rotated_begins_anew(printer: Printer) -> None:
    printer.allow(10, 100)
    printer.prints(2)
    log = printer.root / "var/log/cups/page_log"
    log.rename(log.with_suffix(".1"))
    log.write_text("total 3\nnot a line of ours\ntotal 4")  # the last one is being written
    pages.settle(Machine(printer.root), [QUEUE])
    assert printer.counts() == (5, 5)
    with log.open("a") as stream:
        stream.write("0\n")
    pages.settle(Machine(printer.root), [QUEUE])
    assert printer.counts() == (45, 45)


def test_a_power_cut_ends_the_session_and_not_the_day(printer: Printer) -> None:
    boot = printer.root / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("one\n")
    printer.allow(10, 100)
    printer.prints(2)
    boot.write_text("another\n")
    pages.settle(Machine(printer.root), [QUEUE])
    assert printer.counts() == (0, 2)


def test_the_policy_taken_away_no_limit_is_left(printer: Printer) -> None:
    printer.allow(0, 0)
    RULE.undo(Machine(printer.root), PLACE)
    assert printer.takes_jobs()
    assert not (printer.root / LIMITS).exists()


def test_nothing_of_a_document_is_remembered(printer: Printer) -> None:
    printer.allow(10, 100)
    printer.prints(1)
    assert printer.jobs("all") == []
    log = printer.root / "var/log/cups/page_log"
    assert re.fullmatch(r"(total [0-9]+\n)+", log.read_text())
    counts = json.loads((printer.root / COUNTS).read_text())
    assert set(counts) == {field.name for field in dataclasses.fields(pages.Counts)}
    assert (printer.root / COUNTS).stat().st_mode & 0o777 == 0o600
    left = subprocess.run(["grep", "-rl", "canary-0e7f", printer.root], capture_output=True, text=True, check=False)
    assert left.stdout == ""


async def test_the_agent_takes_it_for_no_fault(printer: Printer) -> None:
    port = free_port()
    config = printer.folder / "cupsd.conf"
    config.write_text(f"Listen 127.0.0.1:{port}\n{config.read_text()}")
    printer.allow(1, 100)
    options = Options(device=f"ipp://127.0.0.1:{port}/printers/{QUEUE}")
    source = DocumentPrinterSource(options, Around().view, Recorded())

    async def codes() -> list[str]:
        reading = await source.probe(active=False)
        assert reading is not None
        return [item.code for item in PERIPHERAL.findings_of(reading, options)]

    printer.prints(1)
    assert not printer.takes_jobs()
    assert await codes() == []
    printer.session_over()
    printer.tool("cupsreject", QUEUE)
    assert await codes() == ["queue-stopped"], "whoever else made it refuse jobs"


def test_a_print_server_that_is_down_is_a_failure_of_the_unit(printer: Printer, capfd: pytest.CaptureFixture[str]) -> None:
    printer.allow(1, 1)
    printer.end()
    (printer.root / LIMITS).write_text('{"pages_per_session": 0}')
    assert pages.main(["--root", str(printer.root)]) == 1
    assert capfd.readouterr().err.startswith("<4>booth-pages: ")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"pages": 1}'])
def test_a_damaged_count_is_none(tmp_path: Path, damage: str) -> None:
    Booth(tmp_path).slots("")
    (tmp_path / COUNTS).write_text(damage)
    assert pages.main(["--root", str(tmp_path)]) == 0
    assert json.loads((tmp_path / COUNTS).read_text())["of_day"] == 0


def test_only_root_counts(tmp_path: Path) -> None:
    Booth(tmp_path).slots("")
    before = os.umask(0)
    try:
        pages.settle(Machine(tmp_path), [])
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / COUNTS).parent.iterdir()} == {0}
