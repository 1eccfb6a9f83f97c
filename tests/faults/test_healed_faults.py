"""Rows 57 to 61 of the catalogue again, with healing on, for longer than any ladder's patience: what it does, and what it leaves
alone. The two booths are in `healed_scenes`."""

import asyncio

import pytest

from tests.faults.healed_scenes import Told, both
from tests.peripherals.whole_booth import WHOLE, processes_of

pytestmark = WHOLE


@pytest.fixture(scope="module")
def booths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Told]:
    folder = tmp_path_factory.mktemp("healed")
    told = asyncio.run(both(folder))
    assert processes_of(folder) == []
    return told


@pytest.fixture
def mute(booths: tuple[Told, Told]) -> Told:
    """A mute printer on USB, an empty tray, a scanner in use."""
    return booths[0]


@pytest.fixture
def slow(booths: tuple[Told, Told]) -> Told:
    """A cover that is open and then a slow printer, a killed scheduler and then a jam, a frozen scanner."""
    return booths[1]


def test_f57_a_mute_printer_has_each_rung_once_and_no_more(mute: Told) -> None:
    rungs = ["reopen", "usb-rebind", "usb-reset", "usb-authorize", "usb-power"]
    assert mute.heals("receipt-printer") == [(rung, "failed") for rung in rungs]
    # `given-up` was long after the last rung: what is in vain is not done again.
    assert [act for act, slot in mute.asked if slot == "receipt-printer"] == rungs[1:]
    first, *_, last = mute.alarms("receipt-printer/not-responding")
    assert first["tried"] == []
    assert [item["remedy"] for item in last["tried"]] == rungs
    assert last["fix_by"] == "shopkeeper"  # to switch it off and on is what she can do, before and after
    assert mute.observer.last("alarm/receipt-printer/not-responding") is None


def test_f57_while_its_ladder_is_climbed_everybody_else_goes_on(mute: Told) -> None:
    others = ("audio", "board", "camera", "kiosk", "network")
    assert {kind: mute.codes(kind, "broken") for kind in others} == {kind: set() for kind in others}
    states = [message.json["state"] for message in mute.observer.of("state")]
    assert set(states) <= {"starting", "online"}
    assert {peripheral for _, peripheral in mute.asked} == {"receipt-printer", "document-printer"}
    told = [event for event in mute.observer.events() if event["class"] == "heal"]
    assert {event["peripheral"] for event in told} == {"receipt-printer"}


def test_f57_a_frozen_backend_is_tried_again_and_its_holders_ended_and_no_more(slow: Told) -> None:
    assert slow.heals("scanner") == [("try-again", "failed"), ("end-holders", "failed")]  # it is not on USB
    assert slow.codes("scanner", "broken", "repaired") == {"not-responding"}
    alarms = slow.alarms("scanner/not-responding")
    assert [item["remedy"] for item in alarms[-1]["tried"]] == ["try-again", "end-holders"]
    assert (alarms[0]["fix_by"], alarms[-1]["fix_by"]) == ("auto", "technician")


def test_f57_another_ladder_is_climbed_in_between_and_cures(slow: Told) -> None:
    assert slow.heals("kiosk") == [("restart-kiosk", "cured")]
    running = [health["healing"]["remedy"] for kind in ("kiosk", "scanner") for health in slow.healths(kind) if health["healing"]]
    assert {"restart-kiosk", "try-again", "end-holders"} <= set(running)


def test_f58_a_byte_a_second_is_healed_as_silence_is_and_does_not_loop(slow: Told) -> None:
    assert slow.codes("receipt-printer", "slow", "repaired") == {"not-responding"}
    assert slow.heals("receipt-printer") == [("reopen", "failed")]  # by TCP there is no other rung
    assert slow.alarms("receipt-printer/not-responding")[-1]["fix_by"] == "shopkeeper"
    assert slow.observer.last("alarm/receipt-printer/not-responding") is None


def test_f59_an_empty_tray_is_for_hands_and_no_remedy_is_tried(mute: Told) -> None:
    assert mute.codes("document-printer", "broken", "repaired") == {"media-empty"}
    assert mute.heals("document-printer") == []
    # What waited goes with its citizen: that is no remedy.
    assert [act for act, slot in mute.asked if slot == "document-printer"] == ["purge-spool"]
    alarms = mute.alarms("document-printer/media-empty")
    assert {(alarm["fix_by"], tuple(alarm["tried"])) for alarm in alarms} == {("shopkeeper", ())}


def test_f59_neither_an_open_cover_nor_a_jam_is_healed(slow: Told) -> None:
    assert slow.codes("receipt-printer", "broken", "slow") == {"cover-open"}
    assert slow.codes("document-printer", "jam", "repaired") == {"media-jam"}
    for topic in ("receipt-printer/cover-open", "document-printer/media-jam"):
        assert {(alarm["fix_by"], tuple(alarm["tried"])) for alarm in slow.alarms(topic)} == {("shopkeeper", ())}, topic
    assert slow.heals("document-printer") == []


def test_f60_a_scheduler_that_restarts_in_the_middle_of_a_query_is_not_restarted(slow: Told) -> None:
    assert slow.codes("document-printer", "broken", "jam") == set()
    assert ("restart-cups", "document-printer") not in slow.asked
    assert slow.alarms("document-printer/scheduler-down") == []


def test_f61_a_scanner_in_use_is_no_fault_and_is_not_taken_from_who_has_it(mute: Told) -> None:
    assert mute.codes("scanner", "broken", "repaired") == {"busy"}
    statuses = {health["status"] for health in mute.healths("scanner", "broken")}
    assert "fault" not in statuses
    assert mute.heals("scanner") == []
    assert mute.alarms("scanner/busy") == []
