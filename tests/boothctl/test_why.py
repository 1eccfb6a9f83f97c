"""`boothctl why BOOTH`: what a person is told, from what lies on a real broker."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.boothctl.why_page import page
from tests.boothctl.program import WHEN, Done, boothctl, say, state
from tests.boothctl.test_boothctl import EVIL, alarm
from tests.boothctl.test_cmd import cmd, key_file, status_of, url
from tests.commands.test_engine import booth
from tests.documents.operator import Operator
from tests.world import World, world

ROOT = Path(__file__).parents[2]


async def why(w: World, name: str = "61-0007", *options: str, status: int = 0) -> Done:
    done = await boothctl(w.folder, "why", name, *options, BOOTHCTL_BROKER=url(w))
    assert (done.status, done.err) == (status, ""), done
    return done


def health(name: str, word: str = "ok", *findings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "peripheral": name, "kind": name, "slot": None, "status": word, "findings": list(findings), "facts": {},
        "device": {"vendor": None, "product": None, "serial": None}, "since": WHEN, "checked_at": WHEN, "healing": None,
    } | changes  # fmt: skip


def finding(code: str, severity: str = "fault", fix_by: str = "technician", **changes: Any) -> dict[str, Any]:
    return {"code": code, "severity": severity, "fix_by": fix_by, "since": WHEN, "detail": {}} | changes


def row(done: Done, name: str) -> str:
    return next(line.strip()[len(name) :].strip() for line in done.out.splitlines() if line.startswith(f"   {name} "))


async def test_a_booth_that_is_well_a_fault_of_it_and_its_end(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        well = await why(w)
        assert well.out.startswith("61-0007 (61) is online since 20")
        assert "\nNothing is wrong.\nLast report: " in well.out
        for name in ("receipt-printer", "board", "booth"):
            assert f"{name} at 20" in well.out
        assert "last commands" not in well.out

        w.printer.change(paper="out")
        await w.until(lambda: w.observer.last("alarm/receipt-printer/media-empty"), "the alarm")
        await w.until(lambda: w.observer.last("led") == "your-turn", "the light")
        await cmd(w, "probe", "receipt-printer", "--by", "tech-7")
        sick = await why(w)
        assert "its light shows your-turn" in sick.out
        assert "\nservices: print down\n1 thing is wrong:\n\n1. receipt-printer/media-empty, a fault, since 20" in sick.out
        assert row(sick, "what") == "The receipt printer is out of paper."
        assert row(sick, "phone") == "T11 « Plus de papier dans l'imprimante à tickets. »"
        assert row(sick, "who").startswith("the shopkeeper")
        assert (row(sick, "services"), row(sick, "tried"), row(sick, "bring")) == ("print", "nothing yet", "thermal roll")
        assert (ROOT / row(sick, "runbook")).is_file()
        last = sick.out.splitlines()[-1].split()
        assert last[1:5] == ["probe", "succeeded", "–", "tech-7"]

        [trouble] = (await why(w, "61-0007", "--json")).json["wrong"]
        assert trouble["phone_code"] == "T11"
        assert (trouble["code"], trouble["seen"], trouble["alarm"], trouble["part"]) == (
            "media-empty",
            True,
            True,
            "thermal roll",
        )
        w.printer.change(paper="plenty")
        await w.until(lambda: not w.observer.last("alarm/receipt-printer/media-empty"), "it clears")
        assert "\nNothing is wrong.\n" in (await why(w)).out


async def test_maintenance_says_until_when(tmp_path: Path) -> None:
    async with booth(tmp_path) as (w, _):
        key_file(w, "tech.pem", Operator().first)
        await cmd(w, "maintenance", "--on", "--duration-s", "600", "--sign", "tech.pem")
        await w.until(lambda: w.observer.last("service/print") == "maintenance", "the service")
        until = (await why(w, "61-0007", "--json")).json["maintenance_until"]
        left_s = (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds()
        assert 500 < left_s <= 600
        assert f"\nSomebody works at it, until {until}: nothing is healed and nothing alarms meanwhile.\n" in (await why(w)).out
        await cmd(w, "maintenance", "--off", "--sign", "tech.pem")
        await w.until(lambda: w.observer.last("service/print") == "ok", "the end of it")
        assert "works at it" not in (await why(w)).out


async def test_what_was_tried_what_runs_and_what_is_not_yet_an_alarm(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        tried = [{"remedy": remedy, "at": WHEN, "outcome": "failed"} for remedy in ("reopen", "usb-rebind")]
        say(w, "61-0008", "state", state(clock="unsynced"))
        healing = {"remedy": "usb-reset", "rung": 3, "attempt": 2, "since": WHEN}
        told: dict[str, Any] = {"code": "io-error", "peripheral": "scanner", "fix_by": "auto", "part": None, "services": []}
        say(w, "61-0008", "alarm/scanner/io-error", alarm() | told | {"tried": tried, "runbook": "scanner/io-error"})
        say(w, "61-0008", "health/scanner", health("scanner", "fault", finding("io-error", fix_by="auto"), healing=healing))
        warned = [finding("toner-low", "warning", detail={"level_pct": 4}), finding("paused", "info")]
        say(w, "61-0008", "health/document-printer", health("document-printer", "degraded", *warned))
        say(w, "61-0008", "health/camera", health("camera", "unknown", checked_at=None))
        say(w, "61-0008", "alarm/board/storage-low", alarm("warning", code="storage-low", peripheral="board"))
        say(w, "61-0008", "health/board", health("board")).wait_for_publish(20)
        done = await why(w, "61-0008")
        blocks = done.out.split("\n\n")
        assert "3 things are wrong:" in blocks[0]
        assert "Not known: camera (not asked yet, or the answer is too old)" in blocks[0]
        assert "takes no signed command" in blocks[0]
        assert blocks[1].startswith("1. scanner/io-error, a fault, "), "faults first"
        assert f"tried     reopen failed at {WHEN}; usb-rebind failed at {WHEN}" in blocks[1]
        assert f"now       usb-reset, attempt 2, since {WHEN}" in blocks[1]
        assert "services  none is affected" in blocks[1]
        assert "bring     nothing is known to be needed" in blocks[1]
        assert blocks[2].startswith("2. board/storage-low, a warning, ")
        assert "still stands, and the booth no longer sees it" in blocks[2]
        assert blocks[3].startswith("3. document-printer/toner-low, a warning, ")
        assert "detail    level_pct 4" in blocks[3]
        assert "runbook   docs/runbook/document-printer/toner-low.md" in blocks[3]
        assert "phone     P21\n" in blocks[3], "no alarm has its sentence yet"
        assert "alarm     none stands" in blocks[3]
        assert "paused" not in done.out, "nothing is wrong with that"
        w.observer.problems.clear()  # what a test says does not expire


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_booth_that_is_not_there_says_what_was_and_whether_it_should_be(tmp_path: Path, is_open: bool) -> None:
    week: dict[str, list[str]] = {} if is_open else {"mon": []}
    closed: dict[str, list[str]] = {(datetime.now(UTC) + timedelta(days)).date().isoformat(): [] for days in (-1, 0, 1)}
    meta = {
        "agent": "0.1.0", "contract": 1, "board": {"model": None, "os": None, "kernel": "6.1", "architecture": "aarch64"},
        "hours": {"tz": "Europe/Paris", "week": week, "exceptions": {} if is_open else closed}, "peripherals": {},
        "capabilities": {"commands": {}, "policy_rules": [], "light": []},
    }  # fmt: skip
    async with world(tmp_path) as w:
        say(w, "61-0008", "meta", meta)
        say(w, "61-0008", "health/board", health("board"))
        say(w, "61-0008", "service/print", "maintenance")
        for word, words in (
            ("lost", f"is lost: it was there from {WHEN} on"),
            ("asleep", f"is asleep: it was shut down in order at {WHEN}"),
        ):
            say(w, "61-0008", "state", state(word, services={"print": "unknown"})).wait_for_publish(20)
            done = await why(w, "61-0008")
            assert done.out.startswith(f"61-0008 (61) {words}")
            assert ("It should be open now" in done.out, "It is closed now" in done.out) == (is_open, not is_open)
            assert "\nservices: print unknown\n" in done.out
            assert "Nothing was wrong when it spoke last." in done.out
            assert "works at it" not in done.out
        say(w, "61-0008", "health/board", health("board", "fault", finding("storage-errors"))).wait_for_publish(20)
        assert "1 thing is wrong, as far as it said before:" in (await why(w, "61-0008")).out
        assert (await why(w, "61-0008", "--json")).json["current"] is False
        w.observer.problems.clear()


async def test_a_booth_that_only_has_a_state_and_one_that_there_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        say(w, "61-0008", "state", state("starting", services={})).wait_for_publish(20)
        assert "Nothing is known of its devices." in (await why(w, "61-0008")).out
        done = await boothctl(tmp_path, "why", "61-0099", BOOTHCTL_BROKER=url(w))
        assert (done.status, done.out) == (3, "")
        assert done.err == "boothctl: no message of a booth '61-0099' on this broker\n"


async def test_the_last_ten_commands_are_told_newest_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        say(w, "61-0008", "state", state())
        for number in range(12):
            at = f"2026-10-06T12:{number:02}:00.000Z"
            say(w, "61-0008", f"cmd/probe/c-{number}/status", status_of("probe", f"c-{number}", "succeeded", at=at))
        say(w, "61-0008", "cmd/probe/c-x/status", status_of("probe", "c-y", "succeeded")).wait_for_publish(20)
        lines = (await why(w, "61-0008")).out.splitlines()
        told = lines[lines.index("last 10 of 12 commands") + 2 :]
        assert [line.split()[-1] for line in told] == [f"c-{n}" for n in range(11, 1, -1)]
        w.observer.problems.clear()


async def test_nothing_that_a_booth_says_can_command_the_terminal(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        say(w, "61-0008", "state", state(agent=EVIL, session=EVIL, boot_id=EVIL))
        tried = [{"remedy": "usb-reset", "at": WHEN, "outcome": EVIL}]
        texts = {"part": EVIL, "runbook": EVIL, "tried": tried, "text": {"fr": EVIL, "en": EVIL}}
        say(w, "61-0008", "alarm/receipt-printer/media-empty", alarm() | texts)
        evil = health("receipt-printer", "fault", finding("media-empty", detail={EVIL: [EVIL]}), slot=EVIL, facts={EVIL: EVIL})
        say(w, "61-0008", "health/receipt-printer", evil)
        result = {"on": True, "until": EVIL, EVIL: EVIL}
        said = status_of("maintenance", "c-1", "succeeded", result=result, step=EVIL)
        say(w, "61-0008", "service/print", "maintenance")
        say(w, "61-0008", "cmd/maintenance/c-1/status", said)
        say(w, "61-0008", "cmd/maintenance/c-2/status", json.dumps({"id": EVIL})).wait_for_publish(20)
        for options in ((), ("--json",)):
            done = await why(w, "61-0008", *options)
            assert "media-empty" in done.out
            assert done.out.replace("\n", "").isprintable()
        w.observer.problems.clear()


def test_how_long_ago_is_said_in_two_units_and_a_time_ahead_not_at_all() -> None:
    now = datetime(2026, 10, 6, 12, 32)  # noqa: DTZ001 - as the page takes it
    said = {
        "booth": "61-0007", "area": "61", "state": "asleep", "since": WHEN, "open": True, "services": {}, "maintenance": False,
        "current": False, "wrong": [], "checked": {}, "unknown": [], "clock": "synced", "commands": [],
    }  # fmt: skip
    for moment, words in {
        "2026-10-06T12:31:58.000Z": " (2 s ago)", "2026-10-06T12:30:00.000Z": " (2 min ago)",
        "2026-10-06T10:22:00.000Z": " (2 h 10 min ago)", "2026-10-03T11:32:00.000Z": " (3 d 1 h ago)",
        "2026-10-07T12:32:00.000Z": "",
    }.items():  # fmt: skip
        assert f"in order at {moment}{words}.\n" in page(said | {"since": moment}, now)
