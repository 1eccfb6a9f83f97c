"""The table of messages: a message that keeps the contract passes, and each way to break it is noticed."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.contract.messages import PUBLISHED, expiry_s, kind_of, problems
from agent.contract.schema import contract_schema, main
from agent.contract.topics import Topic

ROOT = "booth/v1/61/61-0007"
WHEN = "2026-10-06T12:32:00.000Z"
FINDING = {"code": "media-empty", "severity": "fault", "fix_by": "shopkeeper", "since": WHEN, "detail": {}}
LOW = FINDING | {"code": "media-low", "severity": "warning"}

GOOD: dict[str, Any] = {
    "state": {
        "state": "online", "session": "c41f9a02", "boot_id": "b", "agent": "0.1.0", "since": WHEN, "clock": "synced",
        "services": {"web": "ok", "print": "degraded"},
    },
    "meta": {
        "agent": "0.1.0", "contract": 1, "board": {"model": None, "os": None, "kernel": "6.1", "architecture": "aarch64"},
        "hours": {"tz": "Europe/Paris", "week": {"mon": ["07:00-12:30"]}, "exceptions": {}},
        "peripherals": {"board": {
            "kind": "board", "slot": None, "vendor": None, "product": None, "serial": None, "firmware": None,
            "facts": [{"name": "temperature_c", "type": "number", "unit": "°C", "meaning": "how warm"}],
        }},
        "capabilities": {"commands": {}, "policy_rules": [], "light": []},
    },
    "health/receipt-printer": {
        "peripheral": "receipt-printer", "kind": "receipt-printer", "slot": "usb-1.2", "status": "fault",
        "findings": [FINDING, LOW], "facts": {"online": False, "paper": "empty"},
        "device": {"vendor": None, "product": None, "serial": None}, "since": WHEN, "checked_at": None, "healing": None,
    },
    "alarm/receipt-printer/media-empty": {
        "code": "media-empty", "peripheral": "receipt-printer", "severity": "fault", "fix_by": "shopkeeper",
        "services": ["print"], "since": WHEN, "clock": "synced",
        "tried": [{"remedy": "power-cycle", "at": WHEN, "outcome": "failed"}], "part": None,
        "runbook": "receipt-printer/media-empty", "text": {"fr": "Plus de papier.", "en": "Out of paper."},
    },
    "event/health": {
        "id": "9b1d-1234", "stream": "9b1d", "seq": 1234, "ts": WHEN, "mono_ms": 123456, "boot_id": "b", "clock": "synced",
        "class": "health", "code": "media-empty", "peripheral": "receipt-printer", "data": {"change": "raised"},
    },
    "tele/board": {"temperature_c": 48.5, "count": 3, "free": None},
    "config/reported": {
        "status": "rejected", "layers": {"fleet": {"seen_rev": 17, "applied_rev": 17}, "area": None, "booth": None},
        "effective_sha256": None, "sections": {"peripherals": {"status": "applied"}},
        "errors": [{"layer": "booth", "code": "invalid", "path": "doc.reporting", "message": "…"}], "at": WHEN,
    },
    "policy/reported": {
        "status": "applied", "layers": {}, "effective_sha256": "…", "sections": {}, "errors": [], "at": WHEN,
        "rules": {"web": {"measured": "violated", "at": WHEN, "detail": "another file"}},
    },
    "update/reported": {
        "status": "pending", "layers": {}, "effective_sha256": None, "sections": {}, "errors": [], "at": WHEN,
        "from": "0.1.0", "to": "0.2.0", "phase": "downloading", "attempt": 1, "pct": 50, "reason": None,
    },
    "cmd/probe/c-81f2/status": {
        "id": "c-81f2", "verb": "probe", "state": "succeeded", "step": None, "pct": None, "reason": None,
        "result": {"a": 1}, "by": "tech-7", "at": WHEN,
    },
    "cmd/diagnostics/c-81f2/chunk/0": {"n": 0, "of": 1, "data": "H4sIAAAAAAAA"},
    "service/print": "degraded",
    "led": "your-turn",
    "echo": "d41d8cd98f",
}  # fmt: skip
NOT_RETAINED = ("echo", "event/", "tele/", "cmd/diagnostics/")


def payload_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode()


def check(topic: str, value: Any) -> list[str]:
    return problems(
        f"{ROOT}/{topic}", payload_of(value), 0 if topic.startswith("tele/") else 1, not topic.startswith(NOT_RETAINED)
    )


@pytest.mark.parametrize("topic", GOOD)
def test_a_message_that_keeps_the_contract_has_no_problem(topic: str) -> None:
    assert check(topic, GOOD[topic]) == []


def test_every_kind_of_message_is_among_them() -> None:
    kinds = {id(kind_of(topic)) for name in GOOD if (topic := Topic.parse(f"{ROOT}/{name}")) is not None}
    assert kinds == {id(kind) for kind in PUBLISHED.values()}


@pytest.mark.parametrize("topic", GOOD)
def test_the_wrong_qos_and_the_wrong_retention_are_noticed(topic: str) -> None:
    payload = payload_of(GOOD[topic])
    qos, retained = (0 if topic.startswith("tele/") else 1), not topic.startswith(NOT_RETAINED)
    assert problems(f"{ROOT}/{topic}", payload) == []
    assert problems(f"{ROOT}/{topic}", payload, 1 - qos, retained) == [f"{ROOT}/{topic}: QoS {1 - qos}, not {qos}"]
    assert problems(f"{ROOT}/{topic}", payload, 2, retained) != []
    assert problems(f"{ROOT}/{topic}", payload, qos, not retained) == [
        f"{ROOT}/{topic}: retained is {not retained}, not {retained}"
    ]


@pytest.mark.parametrize("topic", [topic for topic, value in GOOD.items() if isinstance(value, dict)])
def test_each_missing_key_and_an_unknown_one_are_noticed(topic: str) -> None:
    update = {"from", "to", "phase", "attempt", "pct", "reason"}
    optional = {"update/reported": update, "policy/reported": {"rules"}}.get(topic, set())
    if topic != "tele/board":
        for key in GOOD[topic].keys() - optional:
            without = {name: value for name, value in GOOD[topic].items() if name != key}
            assert any(f"{key}: missing" in problem for problem in check(topic, without)), key
        assert check(topic, GOOD[topic] | {"url": "http://private.example"}) != []


@pytest.mark.parametrize("topic", GOOD)
@pytest.mark.parametrize("garbage", [b"\xff", b"\x00{}", b"null", b"[]", b"{", b'{"a":1,"a":2}', b"[" * 1000, b"1e999"])
def test_garbage_is_noticed_everywhere(topic: str, garbage: bytes) -> None:
    if topic == "echo" and garbage != b"\xff":
        return  # any word is the booth's own business
    assert check(topic, garbage) != []


@pytest.mark.parametrize("topic", GOOD)
def test_an_empty_payload_clears_alarms_and_services_and_is_wrong_elsewhere(topic: str) -> None:
    found = check(topic, b"")
    if topic.startswith(("alarm/", "service/", "echo")):
        assert found == []
    else:
        assert found != []


MUTATIONS: list[tuple[str, Any, str]] = [
    ("state", {"state": "dead"}, "state: write one of starting, online, asleep, lost"),
    ("state", {"clock": "unknown"}, "clock"),
    ("state", {"since": "2026-10-06 12:32"}, "since"),
    ("state", {"since": "2026-10-06T12:32:00.000+00:00"}, "since"),
    ("state", {"services": {"web": "fine"}}, "services.web"),
    ("state", {"services": {"Web Access": "ok"}}, "services"),
    ("state", {"state": "lost"}, "lost, with a service that is not unknown"),
    ("state", {"state": "asleep"}, "asleep, with a service that is not unknown"),
    ("meta", {"contract": "1"}, "contract"),
    ("meta", {"contract": True}, "contract"),
    ("meta", {"peripherals": {"My Board": GOOD["meta"]["peripherals"]["board"]}}, "peripherals"),
    ("meta", {"hours": {"tz": "Europe/Paris", "week": {}}}, "hours.exceptions: missing"),
    ("health/receipt-printer", {"status": "ok"}, "ok, with a warning or a fault"),
    ("health/receipt-printer", {"status": "ok", "findings": [LOW]}, "ok, with a warning or a fault"),
    ("health/receipt-printer", {"findings": [LOW, FINDING]}, "findings do not stand worst first"),
    ("health/receipt-printer", {"findings": []}, "fault without a finding that says why"),
    ("health/receipt-printer", {"findings": [LOW]}, "fault without a finding that says why"),
    (
        "health/receipt-printer",
        {"status": "degraded", "findings": [FINDING | {"severity": "info"}]},
        "degraded without a finding",
    ),
    ("health/receipt-printer", {"peripheral": "scanner"}, "peripheral does not match the topic"),
    ("health/receipt-printer", {"status": "broken"}, "status"),
    ("health/receipt-printer", {"facts": {"paper": {"roll": "empty"}}}, "facts.paper"),
    ("health/receipt-printer", {"findings": [FINDING | {"fix_by": "grandmother"}]}, "findings[0].fix_by"),
    ("health/receipt-printer", {"findings": [FINDING | {"code": "Paper Out"}]}, "findings[0].code"),
    ("health/receipt-printer", {"findings": [FINDING | {"severity": "critical"}]}, "findings[0].severity"),
    ("health/receipt-printer", {"healing": {"remedy": "reset"}}, "healing"),
    ("alarm/receipt-printer/media-empty", {"code": "media-low"}, "peripheral and code do not match the topic"),
    ("alarm/receipt-printer/media-empty", {"peripheral": "scanner"}, "peripheral and code do not match the topic"),
    ("alarm/receipt-printer/media-empty", {"severity": "info"}, "an alarm of severity info"),
    ("alarm/receipt-printer/media-empty", {"text": {"en": "only English"}}, "text.fr: missing"),
    ("alarm/receipt-printer/media-empty", {"services": "print"}, "services: write a list"),
    ("event/health", {"class": "heal"}, "class does not match the topic"),
    ("event/health", {"seq": 1235}, "id is not <stream>-<seq>"),
    ("event/health", {"id": "x"}, "id is not <stream>-<seq>"),
    ("event/health", {"mono_ms": 1.5}, "mono_ms"),
    ("event/health", {"data": None}, "data"),
    ("tele/board", {"name": "a text"}, "name"),
    ("tele/board", {"inside": {"a": 1}}, "inside"),
    ("tele/board", {"on": True}, "on"),
    ("config/reported", {"status": "done"}, "status"),
    ("config/reported", {"layers": {"county": None}}, "layers"),
    ("config/reported", {"errors": [{"layer": "booth", "code": "wrong", "path": "", "message": ""}]}, "errors[0].code"),
    ("config/reported", {"phase": "idle"}, "phase: unknown key"),
    ("update/reported", {"phase": "thinking"}, "phase"),
    ("cmd/probe/c-81f2/status", {"id": "c-81f3"}, "verb and id do not match the topic"),
    ("cmd/probe/c-81f2/status", {"verb": "reboot"}, "verb and id do not match the topic"),
    ("cmd/probe/c-81f2/status", {"state": "done"}, "state"),
    ("cmd/probe/c-81f2/status", {"id": "c 81"}, "id"),
]


@pytest.mark.parametrize(("topic", "change", "complaint"), MUTATIONS)
def test_each_broken_message_is_noticed(topic: str, change: dict[str, Any], complaint: str) -> None:
    found = check(topic, GOOD[topic] | change)
    assert any(problem.startswith(f"{ROOT}/{topic}: {complaint}") for problem in found), found


@pytest.mark.parametrize(
    ("topic", "word"),
    [
        ("service/print", "fine"),
        ("service/print", '"ok"'),
        ("service/print", "ok\n"),
        ("led", "green"),
        ("led", "OK"),
        ("led", "broken "),
    ],
)
def test_a_word_that_is_none_of_the_contracts_is_noticed(topic: str, word: str) -> None:
    assert check(topic, word) != []


@pytest.mark.parametrize(
    ("topic", "complaint"),
    [
        ("booth/v1/61/61-0007/diary", "no topic of this contract"),
        ("booth/v2/61/61-0007/state", "no topic of this contract"),
        ("booth/v1/_all/_all/state", "no topic of this contract"),
        ("booth/v1/61/61-0007/config/desired", "a booth does not publish this"),
        ("booth/v1/61/_all/policy/desired", "a booth does not publish this"),
        ("booth/v1/61/61-0007/cmd/probe/req", "a booth does not publish this"),
    ],
)
def test_a_topic_that_is_not_a_booths_is_noticed(topic: str, complaint: str) -> None:
    assert problems(topic, b"{}") == [f"{topic}: {complaint}"]


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("state", None), ("meta", None), ("health", 7200), ("service", 7200), ("led", 7200), ("alarm", 7200), ("echo", None),
        ("event", None), ("tele", 1800), ("reported", None), ("reported-policy", None),
        ("reported-update", None), ("cmd-status", 86400),
    ],
)  # fmt: skip
def test_what_a_dead_booth_leaves_behind_expires_after_two_heartbeats(kind: str, seconds: int | None) -> None:
    assert expiry_s(PUBLISHED[kind], 3600) == seconds
    if PUBLISHED[kind].expiry == "2 heartbeats":
        assert expiry_s(PUBLISHED[kind], 5) == 10


# --- the schema file ---


@pytest.mark.parametrize("topic", [topic for topic, value in GOOD.items() if isinstance(value, dict)])
def test_the_schema_takes_the_same_good_messages(topic: str) -> None:
    parsed = Topic.parse(f"{ROOT}/{topic}")
    assert parsed is not None
    kind = kind_of(parsed)
    name = next(name for name, known in PUBLISHED.items() if known is kind)
    everything = contract_schema()
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": everything["$defs"]}).validate(GOOD[topic])


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(contract_schema())


def test_the_schema_file_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(__file__).parents[2] / "docs" / "contract.schema.json"
    assert main(["--check", str(file)]) == 0, "run `make schema`"
    assert capsys.readouterr().err == ""


def test_a_schema_file_that_is_not_current_is_noticed_and_one_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schema.json"
    file.write_text("{}\n")
    assert main(["--check", str(file)]) == 1
    assert "make schema" in capsys.readouterr().err
    assert main([str(file)]) == 0
    assert main(["--check", str(file)]) == 0
    assert json.loads(file.read_text())["$defs"]["led"]["x-mqtt"] == {
        "qos": 1, "retained": True, "expiry": "2 heartbeats", "empty_clears": False,
    }  # fmt: skip
