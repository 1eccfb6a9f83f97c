"""The journal in a bundle: real journal files, of which no message goes in."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.diagnostics import lines
from agent.diagnostics.allowed import LEFT_OUT
from agent.diagnostics.units import Names
from tests.diagnostics.journal_file import FAILED, STARTED, journal_file, others, ours, systemds

NAMES = Names(["kiosk.service"])


def read(folder: Path, written: list[dict[str, Any]]) -> lines.Lines:
    return lines.read(NAMES, ("printer",), journal_file(folder / "journal", written))


def test_of_our_lines_the_template_and_the_fields_that_are_known(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        [
            ours("no connection to the broker: %s", "no connection to the broker: connect: refused", reason="refused"),
            ours("%s %s", "media-empty raised", peripheral="printer", code="media-empty"),
            ours(
                "%s %s",
                "x",
                peripheral="jeanne-dupont",
                code="185057800608436",
                reason="Jeanne",
                verb="dupont",
                layer="0612345678",
            ),
            ours(
                "the broker refused a message: reason code %#04x",
                topic="booth/v1/61/61-0007/cmd/locate/dupont/status",
                reason=135,
            ),
        ],
    )
    assert found.entries == [
        {
            "at": "2026-10-06T12:00:00.000Z", "priority": 6, "unit": "booth-agent.service",
            "message": "no connection to the broker: %s", "reason": "refused",
        },
        {
            "at": "2026-10-06T12:00:01.000Z", "priority": 6, "unit": "booth-agent.service",
            "message": "%s %s", "peripheral": "printer", "code": "media-empty",
        },
        {
            "at": "2026-10-06T12:00:02.000Z", "priority": 6, "unit": "booth-agent.service", "message": "%s %s",
            "peripheral": LEFT_OUT, "code": LEFT_OUT, "reason": LEFT_OUT, "verb": LEFT_OUT, "layer": LEFT_OUT,
        },
        {
            "at": "2026-10-06T12:00:03.000Z", "priority": 6, "unit": "booth-agent.service",
            "message": "the broker refused a message: reason code %#04x", "reason": "135", "topic": "cmd",
        },
    ]  # fmt: skip


def test_nobody_else_writes_our_lines(tmp_path: Path) -> None:
    """Any program may send a field; only the journal itself says who it was, and a library's message may be made of anything."""
    forged = ours("Jeanne Dupont", "Jeanne Dupont") | {"_SYSTEMD_UNIT": "kiosk.service"}
    library = ours("Task was destroyed: Jeanne Dupont") | {"LOGGER": "asyncio"}
    manager = systemds(STARTED, "cups.service") | {"_PID": 4711}
    found = read(tmp_path, [forged, library, manager])
    assert found.entries == []
    assert found.counts == {"kiosk.service": {"6": 1}, "booth-agent.service": {"6": 1}, "init.scope": {"6": 1}}


def test_of_systemd_what_became_of_units_that_we_know(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        [
            systemds(STARTED, "cups.service", JOB_RESULT="done"),
            systemds(FAILED, "kiosk.service", UNIT_RESULT="exit-code", PRIORITY=4),
            systemds(FAILED, "booth-act-usb-reset@3-1234-0.service", UNIT_RESULT="Jeanne"),
            systemds(STARTED, "media-JEANNE_DUPONT.mount"),
            systemds("0" * 32, "cups.service"),
        ],
    )
    assert [{key: value for key, value in entry.items() if key != "at"} for entry in found.entries] == [
        {"priority": 6, "unit": "cups.service", "event": "started", "job": "done"},
        {"priority": 4, "unit": "kiosk.service", "event": "failed", "result": "exit-code"},
        {"priority": 6, "unit": "booth-act-usb-reset@.service", "event": "failed", "result": LEFT_OUT},
    ]
    assert found.counts == {"init.scope": {"6": 2}}


def test_of_others_only_how_many_there_were(tmp_path: Path) -> None:
    secret = "Jeanne Dupont\nFR76 3000 6000 0112"
    found = read(
        tmp_path,
        [
            others("cups.service", secret, PRIORITY=3),
            others("cups.service", secret, PRIORITY=3),
            others("", secret, _TRANSPORT="kernel", PRIORITY=5),
            others("jeanne-dupont.service", secret),
            others("kiosk.service", secret, PRIORITY="Jeanne", MESSAGE_ID="Jeanne"),
        ],
    )
    assert found.counts == {"cups.service": {"3": 2}, "(kernel)": {"5": 1}, "(others)": {"6": 1}, "kiosk.service": {"6": 1}}
    assert "Jeanne" not in json.dumps(asdict(found))


def test_the_newest_lines_are_kept_and_it_is_said_that_there_are_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "ENTRIES", 2)
    found = read(tmp_path, [ours("one"), ours("two"), ours("three")])
    assert [entry["message"] for entry in found.entries] == ["two", "three"]
    assert (found.since, found.stopped) == ("2026-10-06T12:00:01.000Z", "there are older lines")


def test_a_journal_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "systemd-journal" in str(lines.read(NAMES, (), empty).unavailable)
    assert "No such file" in str(lines.read(NAMES, (), tmp_path / "none").unavailable)
