"""The picture that a technician sees, put together from messages that anybody may have sent."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.topics import Topic
from agent.rules.fleet import BoothPicture, Fleet, message_line

NOON = datetime.fromisoformat("2026-12-07T12:00")  # a Monday
MIDNIGHT = datetime.fromisoformat("2026-12-07T00:00")
ROOT = "booth/v1/61/61-0007"
WHEN = "2026-10-06T12:32:00.000Z"
ALARM: dict[str, Any] = {
    "code": "media-empty", "peripheral": "receipt-printer", "severity": "fault", "fix_by": "shopkeeper",
    "services": ["print"], "since": WHEN, "clock": "synced", "tried": [], "part": None,
    "runbook": "receipt-printer/media-empty", "text": {"fr": "Plus de papier.", "en": "Out of paper."},
}  # fmt: skip
HEALTH: dict[str, Any] = {
    "peripheral": "receipt-printer", "kind": "receipt-printer", "slot": None, "status": "fault",
    "findings": [{"code": "media-empty", "severity": "fault", "fix_by": "shopkeeper", "since": WHEN, "detail": {}}],
    "facts": {"paper": "empty"}, "device": {"vendor": None, "product": None, "serial": None},
    "since": WHEN, "checked_at": WHEN, "healing": None,
}  # fmt: skip
EVENT: dict[str, Any] = {
    "id": "9b1d-7", "stream": "9b1d", "seq": 7, "ts": WHEN, "mono_ms": 1, "boot_id": "b", "clock": "synced",
    "class": "health", "code": "media-empty", "peripheral": "receipt-printer", "data": {"change": "raised"},
}  # fmt: skip


def state(word: str, session: str = "s1", **services: str) -> dict[str, Any]:
    return {
        "state": word, "session": session, "boot_id": "b", "agent": "0.1.0", "since": WHEN, "clock": "synced",
        "services": services,
    }  # fmt: skip


class Heard:
    """A fleet that heard the messages of one booth."""

    def __init__(self, *messages: tuple[str, Any]) -> None:
        self.fleet = Fleet()
        for topic, payload in messages:
            self.say(topic, payload)

    def say(self, topic: str, payload: Any) -> Topic | None:
        data = (
            payload
            if isinstance(payload, bytes)
            else payload.encode()
            if isinstance(payload, str)
            else json.dumps(payload).encode()
        )
        return self.fleet.take(f"{ROOT}/{topic}", data)

    @property
    def booth(self) -> BoothPicture:
        return self.fleet.booths["61-0007"]


def test_a_booth_is_what_it_said_last() -> None:
    heard = Heard(
        ("state", state("starting")), ("state", state("online")), ("led", "your-turn"), ("service/print", "down"),
        ("health/receipt-printer", HEALTH), ("alarm/receipt-printer/media-empty", ALARM),
    )  # fmt: skip
    booth = heard.booth
    assert (booth.area, booth.booth, booth.word, booth.light) == ("61", "61-0007", "online", "your-turn")
    assert booth.services == {"print": "down"}
    assert booth.health == {"receipt-printer": HEALTH}
    assert booth.as_json()["alarms"] == [ALARM]
    assert booth.is_red(NOON)


def test_a_booth_that_has_said_nothing_of_itself_is_unknown() -> None:
    assert Heard(("led", "ok")).booth.word == "unknown"


def test_a_lost_booth_is_red_and_none_of_its_services_is_known() -> None:
    booth = Heard(("service/print", "ok"), ("state", state("online")), ("state", state("lost"))).booth
    assert (booth.word, booth.is_red(NOON), booth.services) == ("lost", True, {"print": "unknown"})


def test_f81_a_booth_that_the_master_switch_turned_off_at_night_is_no_ones_task() -> None:
    hours = {"tz": "Europe/Paris", "week": {"mon": ["07:00-12:30"]}, "exceptions": {}}
    booth = Heard(("state", state("lost"))).booth
    booth.meta = {"hours": hours}
    assert not booth.is_red(MIDNIGHT)
    assert booth.is_red(NOON)
    for unknown in (None, {}, {"tz": 5}):
        booth.meta = {"hours": unknown}
        assert booth.is_red(MIDNIGHT)  # not knowing when it closes is no reason to overlook it


def test_whatever_order_its_retained_messages_arrive_in() -> None:
    booth = Heard(("state", state("lost")), ("service/print", "ok")).booth
    assert (booth.services, booth.as_json()["services"]) == ({"print": "unknown"}, {"print": "unknown"})


def test_an_asleep_booth_is_not_red() -> None:
    booth = Heard(("service/print", "ok"), ("state", state("asleep"))).booth
    assert (booth.is_red(NOON), booth.services) == (False, {"print": "unknown"})


def test_a_lost_of_another_session_is_stale() -> None:
    heard = Heard(("service/print", "ok"), ("state", state("online", "s1")), ("state", state("online", "s2")))
    heard.say("state", state("lost", "s1"))
    assert (heard.booth.word, heard.booth.services) == ("online", {"print": "ok"})
    heard.say("state", state("lost", "s2"))
    assert heard.booth.word == "lost"
    heard.say("state", state("online", "s3"))
    assert (heard.booth.word, heard.booth.services) == ("online", {"print": "ok"})


def test_a_cleared_alarm_is_gone_and_the_booth_no_longer_red() -> None:
    heard = Heard(("state", state("online")), ("alarm/receipt-printer/media-empty", ALARM))
    assert heard.say("alarm/receipt-printer/media-empty", b"") is not None
    assert (heard.booth.alarms, heard.booth.is_red(NOON)) == ({}, False)
    heard.say("alarm/receipt-printer/media-empty", b"")


def test_a_warning_is_not_red() -> None:
    assert not Heard(
        ("state", state("online")), ("alarm/receipt-printer/media-empty", ALARM | {"severity": "warning"})
    ).booth.is_red(NOON)


@pytest.mark.parametrize(("topic", "payload"), [("service/print", "ok"), ("led", "broken"), ("health/receipt-printer", HEALTH)])
def test_a_cleared_topic_is_forgotten(topic: str, payload: Any) -> None:
    heard = Heard((topic, payload))
    heard.say(topic, b"")
    assert (heard.booth.services, heard.booth.light, heard.booth.health) == ({}, "", {})


def test_booths_stand_sorted_by_area_and_name() -> None:
    fleet = Fleet()
    for area, booth in (("70", "70-0001"), ("61", "61-0009"), ("61", "61-0002")):
        fleet.take(f"booth/v1/{area}/{booth}/led", b"ok")
    assert [booth.booth for booth in fleet.sorted()] == ["61-0002", "61-0009", "70-0001"]


def test_a_key_that_we_do_not_know_is_ignored() -> None:
    assert Heard(("state", state("online") | {"new": 1})).booth.word == "online"


@pytest.mark.parametrize(
    "topic", ["state", "meta", "led", "service/print", "health/receipt-printer", "alarm/a/b", "event/health"]
)
@pytest.mark.parametrize(
    "payload",
    [
        b"\x00", b"\xff\xfe", b"null", b"[]", b'"x"', b"12", b"{}", b"{", b"[" * 100_000, b'{"a":' * 5000,
        b'{"state":{},"session":[],"services":7}', b'{"findings":[1],"status":null}', b'{"text":"x","severity":[]}',
        b'{"data":null}', "é".encode("utf-16"), b"\x1b[2J", b'{"state":"online","state":"lost"}', b"1" * 5000,
    ],
)  # fmt: skip
def test_garbage_changes_nothing_and_harms_nobody(topic: str, payload: bytes) -> None:
    good = Heard(("state", state("online")), ("led", "ok"), ("service/print", "ok"))
    before = good.booth.as_json()
    assert good.say(topic, payload) is None
    assert good.booth.as_json() == before
    line = message_line(Topic.parse(f"{ROOT}/{topic}") or pytest.fail(topic), payload)
    assert line.isprintable()


@pytest.mark.parametrize(
    "topic", ["a/b", "booth/v1/61", "booth/v2/61/61-0007/state", f"{ROOT}/state/x", "booth/v1/_all/_all/state"]
)
def test_a_topic_of_somebody_else_is_no_booth(topic: str) -> None:
    fleet = Fleet()
    assert fleet.take(topic, json.dumps(state("online")).encode()) is None
    assert not fleet.booths


@given(
    st.sampled_from(["state", "meta", "led", "service/x", "health/x", "alarm/x/y", "event/health", "cmd/probe/1/status"]),
    st.binary(),
)
def test_no_bytes_at_all_can_stop_a_technicians_tool(topic: str, payload: bytes) -> None:
    fleet = Fleet()
    fleet.take(f"{ROOT}/{topic}", payload)
    parsed = Topic.parse(f"{ROOT}/{topic}")
    assert parsed is not None
    assert message_line(parsed, payload).isprintable()


@pytest.mark.parametrize(
    ("topic", "payload", "line"),
    [
        ("state", state("online"), "61-0007/state  online"),
        ("led", "your-turn", "61-0007/led  your-turn"),
        ("service/print", "down", "61-0007/service/print  down"),
        ("health/receipt-printer", HEALTH, "61-0007/health/receipt-printer  fault media-empty"),
        (
            "health/receipt-printer", HEALTH | {"healing": {"remedy": "usb-reset", "rung": 3, "attempt": 1, "since": WHEN}},
            "61-0007/health/receipt-printer  fault media-empty (usb-reset …)",
        ),
        (
            "event/heal", EVENT | {"class": "heal", "data": {"remedy": "usb-reset", "outcome": "cured"}},
            "61-0007/event/heal  #7 receipt-printer media-empty usb-reset cured",
        ),
        (
            "event/command", EVENT | {"class": "command", "code": "heal", "data": {"state": "failed", "reason": "timeout"}},
            "61-0007/event/command  #7 receipt-printer heal failed timeout",
        ),
        ("alarm/x/media-empty", ALARM, "61-0007/alarm/x/media-empty  fault, shopkeeper: Plus de papier."),
        ("event/health", EVENT, "61-0007/event/health  #7 receipt-printer media-empty raised"),
        ("event/lifecycle", EVENT | {"peripheral": None, "data": {}}, "61-0007/event/lifecycle  #7 media-empty"),
        ("tele/board", {"temperature_c": 48.5}, '61-0007/tele/board  {"temperature_c": 48.5}'),
    ],
)  # fmt: skip
def test_a_message_is_one_line_for_a_person(topic: str, payload: Any, line: str) -> None:
    data = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    assert message_line(Topic.parse(f"{ROOT}/{topic}") or pytest.fail(topic), data) == line


def test_a_cleared_topic_says_so() -> None:
    assert message_line(Topic.parse(f"{ROOT}/alarm/a/b") or pytest.fail(), b"") == "61-0007/alarm/a/b  cleared"


@pytest.mark.parametrize("topic", ["cmd/restart/01J-x/status", "cmd/restart/req", "policy/reported", "config/desired"])
def test_a_line_begins_with_the_topic_that_there_is(topic: str) -> None:
    assert message_line(Topic.parse(f"{ROOT}/{topic}") or pytest.fail(), b"") == f"61-0007/{topic}  cleared"


def test_an_escape_sequence_in_a_text_never_reaches_the_terminal() -> None:
    evil = ALARM | {"text": {"fr": "\x1b[2J\x9b31m\u202eévidemment", "en": ""}}
    line = message_line(Topic.parse(f"{ROOT}/alarm/receipt-printer/media-empty") or pytest.fail(), json.dumps(evil).encode())
    assert line.isprintable()
    assert "évidemment" in line
