"""Root's acts on a real cupsd: a document from before is never printed afterwards."""

import pytest

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import ask, done, write
from tests.virtual_booth.paper import Paper

_SLOTS = '[queues]\ndocument-printer = "forms"\nother = "none"\n'


@pytest.fixture(scope="module")
def paper(cups: Paper) -> Paper:
    write(cups.booth, "/etc/booth-agent/slots.toml", _SLOTS)
    return cups


def act(booth: VirtualBooth, name: str) -> None:
    verdict = ask(booth, name, "document-printer")
    assert done(verdict), verdict


def test_what_waits_is_gone_and_the_queue_stays_stopped(paper: Paper) -> None:
    paper.stop_queue()
    paper.send("an earlier citizen's")
    act(paper.booth, "purge-spool")
    assert paper.jobs() == ""
    assert paper.spool() == ""
    assert "disabled" in paper.state()
    paper.start_queue()
    paper.prints("a new one's")
    assert "an earlier" not in paper.printed()


def test_a_stopped_queue_prints_again_but_not_what_was_held(paper: Paper) -> None:
    paper.stop_queue()
    paper.send("an earlier citizen's")
    paper.booth.run("cupsreject forms")
    act(paper.booth, "enable-queue")
    assert paper.jobs() == ""
    paper.prints("a new one's")
    assert "an earlier" not in paper.printed()


def test_a_new_print_server_has_forgotten_what_was_held(paper: Paper) -> None:
    paper.stop_queue()
    paper.send("an earlier citizen's")
    before = paper.booth.run("systemctl show -P MainPID cups")
    act(paper.booth, "restart-cups")
    assert paper.booth.run("systemctl show -P MainPID cups") != before
    paper.booth.wait_for("lpstat -p forms")
    assert paper.spool() == ""
    paper.start_queue()
    paper.prints("a new one's")
    assert "an earlier" not in paper.printed()


def test_a_queue_that_is_not_there_is_told(paper: Paper) -> None:
    assert ask(paper.booth, "enable-queue", "other")["code"] == "failed"
    assert ask(paper.booth, "enable-queue", "forms")["code"] == "unknown-slot"  # a name of the list, not of a queue
