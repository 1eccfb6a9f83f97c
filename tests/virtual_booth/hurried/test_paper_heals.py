"""The document printer's ladder on a real cupsd, and that nothing of an earlier citizen's comes out afterwards."""

from collections.abc import Iterator

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.healed import Patient, heals
from tests.virtual_booth.inside import agent, until_said
from tests.virtual_booth.paper import Paper

_SETTINGS = """
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[reporting]
alarm_after_s = 1
[peripherals.document-printer]
kind = "document-printer"
device = "ipp://127.0.0.1:631/printers/forms"
poll_s = 5
job_stuck_s = 10
"""
_SLOTS = """
[queues]
document-printer = "forms"
"""
_HEALED_S = 400.0  # by our clock: a bound, where others use this machine too


@pytest.fixture(scope="module")
def paper(hurried: VirtualBooth) -> Iterator[Paper]:
    with Paper(hurried) as paper:
        yield paper


@pytest.fixture
def printer(paper: Paper) -> Iterator[Patient]:
    """Well, and nothing was tried yet."""
    with agent(paper.booth, _SETTINGS, _SLOTS):
        until_said(paper.booth, "health/document-printer", '"status":"ok"')
        yield Patient(paper.booth, "document-printer")
    paper.does("prints")
    paper.booth.run("systemctl restart cups && cancel -a -x forms; cupsenable forms; cupsaccept forms", 60)


def prints_again(paper: Paper) -> None:
    """What is sent now comes out, and what was there before does not."""
    paper.prints("a new one's")
    assert "an earlier" not in paper.printed()


@heals("document-printer", "queue stopped")
def test_a_stopped_queue_is_enabled(printer: Patient, paper: Paper) -> None:
    printer.breaks("cupsdisable forms")
    paper.send("an earlier citizen's")
    printer.healed("queue stopped", "enable-queue", _HEALED_S)
    assert paper.jobs() == ""
    prints_again(paper)


@heals("document-printer", "queue takes no jobs")
def test_a_queue_that_takes_no_jobs_takes_them_again(printer: Patient, paper: Paper) -> None:
    printer.breaks("cupsreject forms")
    printer.healed("queue takes no jobs", "enable-queue", _HEALED_S)
    assert printer.attempts() == [("enable-queue", "cured")]
    prints_again(paper)


@heals("document-printer", "job stuck")
def test_a_job_that_is_stuck_is_purged(printer: Patient, paper: Paper) -> None:
    paper.does("hangs")
    printer.breaks()
    paper.send("an earlier citizen's")
    printer.healed("job stuck", "purge-spool", _HEALED_S)
    paper.does("prints")
    prints_again(paper)


@heals("document-printer", "spool full")
def test_a_document_that_fills_the_printer_is_purged_and_its_reason_with_it(printer: Patient, paper: Paper) -> None:
    paper.does("fills")
    printer.breaks()
    paper.send("an earlier citizen's")
    until_said(paper.booth, "health/document-printer", '"code":"spool-area-full"')
    paper.does("prints")
    printer.healed("spool full", "purge-spool", _HEALED_S)
    assert printer.attempts() == [("purge-spool", "cured")]
    prints_again(paper)


@heals("document-printer", "backend stuck")
def test_what_holds_the_printer_ends_with_the_print_server(printer: Patient, paper: Paper) -> None:
    """A process of an earlier job's has the device: every job waits for it, and purging helps until the next."""
    paper.does("holds")
    printer.breaks()
    paper.send("an earlier citizen's")
    # All of it in there: for us the next document would come minutes later, which is no relapse.
    printer.booth.run(
        'until grep -q \'"purge-spool","outcome":"cured"\' /run/heard; do sleep 1; done;'
        ' echo prints > /run/paper.does; echo "an earlier citizen\'s, the second" | lp -d forms -o raw',
        _HEALED_S,
    )
    printer.healed("backend stuck", "restart-cups", _HEALED_S)
    assert printer.attempts() == [("purge-spool", "cured"), ("restart-cups", "cured")]
    prints_again(paper)


@heals("document-printer", "cupsd gone")
@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("cupsd gone", "systemctl stop cups.socket cups.path cups.service"),
        ("cupsd hangs", "systemctl kill -s STOP --kill-who=main cups.service"),
    ],
)
def test_a_print_server_that_is_gone_or_hangs_is_started_anew(printer: Patient, paper: Paper, what: str, how: str) -> None:
    printer.breaks(how)
    printer.healed(what, "restart-cups", _HEALED_S)
    assert printer.attempts() == [("restart-cups", "cured")]
    prints_again(paper)


def test_a_held_document_goes_with_its_citizen_and_no_remedy_is_needed(printer: Patient, paper: Paper) -> None:
    paper.booth.run('echo "an earlier citizen\'s" | lp -d forms -o raw -H indefinite')
    paper.booth.wait_for('test -z "$(lpstat -W all -o forms)"', _HEALED_S)
    assert printer.attempts() == []
    prints_again(paper)
