"""What is fuzzed: bytes go in, and nothing but a refusal comes out, or something that keeps what is promised of it.

The bytes are *behind* the signatures where there are any: they are signed here, or no mutation would ever pass them. What a booth
runs and prints is in `targets_updates`.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.contract.command import PAYLOAD_TYPE as COMMAND_TYPE
from agent.contract.command import Request
from agent.contract.decode import BadJson, decode, decode_object, encode
from agent.contract.documents import LayerName, Refusal
from agent.contract.envelope import open_envelope
from agent.contract.typed import Invalid, build, plain
from agent.documents.commands import signed_request
from agent.documents.judge import judge, payload_type
from agent.documents.report import effective_sha256, errors_of, good_until
from agent.documents.signatures import seal
from agent.documents.trust import PAYLOAD_TYPE, next_trust, read_trust
from agent.lockdown import rules
from agent.lockdown.rule import Place
from agent.overlay import merged
from agent.peripherals import declared
from agent.settings import read
from agent.settings_remote import layer_problems, reported_sections
from agent.verbs import declared as declared_verbs
from tests.documents.operator import Operator
from tests.fuzz.targets_updates import archive, catalogue, manifest, update

OPERATOR: Final = Operator()
TRUST: Final = read_trust(json.dumps(OPERATOR.trust()).encode())
BOOTH: Final = "booth/v1/61/61-0007"
NOW: Final = "2026-11-25T12:00:00.000Z"
KINDS: Final = declared()
RULES: Final = rules()
VERBS: Final = declared_verbs()
PLACE: Final = Place(
    now=datetime(2026, 11, 25, 13),  # noqa: DTZ001 - local
    now_utc=datetime(2026, 11, 25, 12, tzinfo=UTC),
    units={"kiosk": "kiosk.service"},
)
LOCAL: Final[dict[str, Any]] = {
    "booth": {"id": "61-0007", "area": "61"},
    "broker": {"url": "mqtt://127.0.0.1:1883"},
    "peripherals": {
        "audio": {"kind": "audio"},
        "board": {"kind": "board"},
        "camera": {"kind": "camera", "device": "v4l2:/dev/video0"},
        "document-printer": {"kind": "document-printer", "device": "ipp://localhost/printers/office"},
        "forms": {"kind": "forms"},
        "kiosk": {"kind": "kiosk", "unit": "kiosk.service"},
        "network": {"kind": "network"},
        "receipt-printer": {"kind": "receipt-printer", "device": "tcp://127.0.0.1:9100"},
        "scanner": {"kind": "scanner", "device": "sane:airscan:e0:Scanner"},
    },
}


def envelope(data: bytes) -> None:
    """A message as anybody may publish it."""
    try:
        opened = open_envelope(data)
        judge(data, "config", BOOTH, TRUST, None, NOW)
    except Refusal as refusal:
        _told(refusal)
    else:
        raise AssertionError(f"accepted without a key: {opened}")


def document(data: bytes) -> None:
    """A payload that the operator signed."""
    try:
        message = seal(payload_type("config"), data, [OPERATOR.first])
        judged = judge(message, "config", BOOTH, TRUST, None, NOW)
    except Refusal as refusal:
        _told(refusal)
        return
    assert judged.document.audience == BOOTH
    assert judge(message, "config", BOOTH, TRUST, judged.revision, NOW).known
    for moment in (judged.document.issued_at, good_until([judged.document])):
        if moment is not None:
            datetime.fromisoformat(moment).timestamp()


def trust(data: bytes) -> None:
    """A trust list, as a file and as the next one that the roots signed."""
    try:
        listed = read_trust(data)
        assert read_trust(encode(plain(listed))) == listed
        for use in ("config", "policy", "update", "command"):
            assert all(len(key) == 32 for key in listed.keys_for(use).values())
        following, payload = next_trust(TRUST, seal(PAYLOAD_TYPE, data, list(OPERATOR.roots)))
    except Refusal as refusal:
        _told(refusal)
    else:
        assert (following.version, payload) == (2, data) or following is TRUST
        assert following.epoch >= TRUST.epoch


def policy(data: bytes) -> None:
    """The sections of a policy: each by itself is read or told, and looser than nothing is what it is."""
    try:
        doc = decode_object(data)
    except BadJson:
        return
    for name in RULES.keys() & doc.keys():
        rule = RULES[name]
        try:
            part = build(rule.schema, doc[name], f"doc.{name}")
        except Invalid as error:
            assert all(problem.path.startswith(f"doc.{name}") for problem in error.problems)
            continue
        assert build(rule.schema, plain(part)) == part
        assert effective_sha256(plain(part))
        assert not rule.looser(part, part), "nothing is looser than itself"
        assert not rule.looser(part, rule.schema()), "nor is what is locked"
        assert rule.beyond is None or not rule.beyond(part, part)
        moment = rule.next_change(PLACE, part)
        assert moment is None or PLACE.now is None or moment > PLACE.now


def config(data: bytes) -> None:
    """The sections of a configuration, over an `agent.toml` with one of each kind of peripheral."""
    try:
        doc = decode(data)
    except BadJson:
        return
    if not isinstance(doc, dict):
        return
    before = encode(LOCAL)
    problems = layer_problems(doc, LOCAL, KINDS, Path("/nonexistent"))
    assert all(problem.path.startswith("doc.") and problem.message for problem in problems)
    assert encode(LOCAL) == before
    if problems:
        return
    layers: dict[LayerName, Any] = {"booth": doc}
    data_of_it = merged(LOCAL, layers)
    settings = read(data_of_it, KINDS, Path("/nonexistent"))
    assert merged(data_of_it, layers) == data_of_it
    text = encode(reported_sections(settings, LOCAL, layers)).decode()
    assert [item.name for item in settings.peripherals] == list(LOCAL["peripherals"])
    for item in settings.peripherals:
        device = LOCAL["peripherals"][item.name].get("device")
        assert device is None or (item.options.device == device and device not in text)


def command(data: bytes) -> None:
    """A request that a technician signed, and the same bytes as anybody's."""
    try:
        request = signed_request(seal(COMMAND_TYPE, data, [OPERATOR.first]), TRUST, "61-0007", "maintenance")
    except Refusal as refusal:
        _told(refusal)
    else:
        assert (request.booth, request.verb) == ("61-0007", "maintenance")
        assert datetime.fromisoformat(request.issued_at).timestamp() and datetime.fromisoformat(request.expires_at).timestamp()
    try:
        plain_request = build(Request, decode_object(data), unknown="ignore")
    except (BadJson, Invalid):
        return
    for verb in VERBS.values():
        try:
            args: Any = build(verb.args, plain_request.args)
        except Invalid as error:
            assert error.problems
        else:
            assert build(verb.args, plain(args)) == args


def _told(refusal: Refusal) -> None:
    for error in errors_of("booth", refusal):
        assert encode(plain(error))
        assert error.message.isprintable()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "envelope": envelope,
    "document": document,
    "trust": trust,
    "policy": policy,
    "config": config,
    "command": command,
    "update": update,
    "catalogue": catalogue,
    "archive": archive,
    "manifest": manifest,
}
