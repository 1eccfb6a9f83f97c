"""Which document is accepted, and with which code each other one is refused: contract §7."""

import base64
import dataclasses
import hashlib
import itertools
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from agent.contract.documents import Document, Moment, Refusal, read_document
from agent.contract.typed import Invalid, build
from agent.documents.files import believable
from agent.documents.judge import Judged, Kind, Seen, judge, payload_type
from agent.documents.shelf import Revision
from agent.documents.signatures import seal
from agent.documents.trust import Trust, read_trust
from tests.documents.operator import Operator, key

OPERATOR = Operator()
BOOTH = "booth/v1/61/61-0007"
NOW = "2026-11-25T12:00:00.000Z"


def trust(**over: Any) -> Trust:
    return read_trust(json.dumps(OPERATOR.trust(**over)).encode())


TRUST = trust()


def judged(message: bytes, last: Revision | None = None, kind: Kind = "config", now: str = NOW, **over: Any) -> Judged:
    return judge(message, kind, BOOTH, trust(**over) if over else TRUST, last, now)


def refused(message: bytes, last: Revision | None = None, now: str = NOW, **over: Any) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        judged(message, last, now=now, **over)
    return caught.value.code, caught.value.path


def statement(**over: Any) -> bytes:
    return json.dumps(OPERATOR.statement({}) | over).encode()


def sealed(payload: bytes, kind: str = "config") -> bytes:
    return seal(payload_type(kind), payload, [OPERATOR.first])


# --- one document ---


@pytest.mark.parametrize("kind", ["config", "policy", "update"])
def test_a_document_of_each_kind_is_accepted(kind: Kind) -> None:
    result = judged(OPERATOR.sign(kind, {"any": "thing"}, rev=3), kind=kind)
    assert (result.document.doc, result.revision.rev, result.known) == ({"any": "thing"}, 3, False)
    assert result.signers == {OPERATOR.first.id}


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers() | st.text("abc")), st.data())
def test_what_is_sealed_is_opened_again(doc: dict[str, Any], data: st.DataObject) -> None:
    rev = data.draw(st.integers(0, 2**53))
    result = judged(OPERATOR.sign("config", doc, rev=rev))
    assert (result.document.doc, result.document.rev) == (doc, rev)
    assert result.revision.sha256 == hashlib.sha256(json.dumps(OPERATOR.statement(doc, rev)).encode()).hexdigest()


ENVELOPE = OPERATOR.sign("config", {"reporting": {"telemetry_s": 60}}, rev=2, keys=OPERATOR.both)


@pytest.mark.parametrize("length", [0, 1, 2])  # of what stands before it: base64 then ends in each of its three ways
def test_f36_an_envelope_with_any_bit_flipped_is_refused(length: int) -> None:
    envelope = OPERATOR.sign("config", {"x": "y" * length}, rev=2)
    for position in range(len(envelope) * 8):
        flipped = bytearray(envelope)
        flipped[position // 8] ^= 1 << position % 8
        code, _ = refused(bytes(flipped))
        assert code in ("bad-signature", "bad-envelope", "untrusted-key"), (position, bytes(flipped[position // 8 - 9 :][:20]))


@settings(deadline=None)
@given(st.integers(0, len(ENVELOPE) * 8 - 1))
def test_f36_one_of_two_signatures_that_is_broken_gains_nobody_anything(position: int) -> None:
    """Where one is enough the other still carries the very same bytes; where both are needed, nothing is accepted."""
    flipped = bytearray(ENVELOPE)
    flipped[position // 8] ^= 1 << position % 8
    assert refused(bytes(flipped), thresholds={"config": 2})[0] in ("bad-signature", "bad-envelope", "not-enough-signatures")
    try:
        result = judged(bytes(flipped))
    except Refusal:
        return
    assert result.revision == judged(ENVELOPE).revision


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", ("bad-envelope", "")),
        (b"null", ("bad-envelope", "")),
        (b"\xff\xfe{}", ("bad-envelope", "")),
        (b"[" * 100_000, ("bad-envelope", "")),
        (b" " * 400_000, ("too-large", "")),
        (OPERATOR.sign("config", {}, keys=[]), ("untrusted-key", "signatures")),
        (OPERATOR.sign("config", {}, keys=[key("thief")]), ("untrusted-key", "signatures")),
        (OPERATOR.sign("config", {}, keys=OPERATOR.roots), ("untrusted-key", "signatures")),
        (OPERATOR.sign("policy", {}), ("unsupported", "payloadType")),
        (OPERATOR.sign("config", {}, schema=2), ("unsupported", "schema")),
        (OPERATOR.sign("config", {}, schema=True), ("invalid", "schema")),
        (OPERATOR.sign("config", {}, schema="1"), ("invalid", "schema")),
        (OPERATOR.sign("config", {}, epoch=0), ("rollback", "epoch")),
        (OPERATOR.sign("config", {}, epoch=2), ("untrusted-key", "epoch")),
        (OPERATOR.sign("config", {}, not_after="2026-11-25T11:59:59.999Z"), ("expired", "not_after")),
        (OPERATOR.sign("config", [], rev=1), ("invalid", "doc")),
        (OPERATOR.sign("config", {}, rev=True), ("invalid", "rev")),
        (OPERATOR.sign("config", {}, rev=-1), ("invalid", "rev")),
        (OPERATOR.sign("config", {}, rev=2**53 + 1), ("invalid", "rev")),
        (OPERATOR.sign("config", {}, confirm_s=9), ("invalid", "confirm_s")),
        (OPERATOR.sign("config", {}, more=1), ("invalid", "more")),
        (sealed(b"[" * 100_000), ("bad-json", "")),
        (sealed(statement().replace(b'"rev": 1', b'"rev": 1, "rev": 9')), ("bad-json", "")),
        (sealed(statement().replace(b'"rev": 1', b'"rev": NaN')), ("bad-json", "")),
        (sealed(statement(doc={"a": "\ud800"})), ("bad-json", "")),
        (sealed(statement(doc={"a": "é"}).replace(b"\\u00e9", b"\xe9")), ("bad-json", "")),
    ],
)  # fmt: skip
def test_none_of_these_is_accepted(message: bytes, expected: tuple[str, str]) -> None:
    assert refused(message) == expected


@pytest.mark.parametrize("field", ["issued_at", "not_after"])
@pytest.mark.parametrize(
    "moment", ["2027-13-01T00:00:00.000Z", "2027-02-29T00:00:00.000Z", "2027-01-01T24:00:00.000Z", "0000-01-01T00:00:00.000Z"]
)
def test_a_moment_that_no_calendar_has_is_refused(field: str, moment: str) -> None:
    """It would be kept, and stop whoever reckons with it: the agent, or root at boot, each time anew."""
    over: dict[str, Any] = {field: moment}
    assert refused(OPERATOR.sign("config", {}, **over)) == ("invalid", field)


def test_a_moment_is_one_that_the_calendar_has() -> None:
    for year, month, day in itertools.product((1000, 1900, 2000, 2024, 2026, 2100, 9999), range(14), range(33)):
        text = f"{year}-{month:02}-{day:02}T23:59:59.999Z"
        try:
            datetime.fromisoformat(text)
        except ValueError:
            with pytest.raises(Invalid):
                build(Moment, text)
        else:
            assert build(Moment, text) == text


@pytest.mark.parametrize(
    "audience",
    [
        "booth/v1/61/61-0008", "booth/v1/62/61-0007", "booth/v1/61/_all", "booth/v1/_all/_all", "booth/v1/61/61-0007/config",
        "booth/v1/61/61-0007 ", " booth/v1/61/61-0007", "booth/v1/61/61-0007\n", "booth/v1/61/61-000７", "booth/v1/+/+",
        "booth/v1/#", "BOOTH/V1/61/61-0007", "booth/v1//61-0007", "booth/v1/61/../61/61-0007", "booth/v1/61/61-0007\x00", "",
    ],
)  # fmt: skip
def test_f37_a_document_for_somebody_else_is_refused_whatever_its_audience_looks_like(audience: str) -> None:
    assert refused(OPERATOR.sign("config", {}, audience=audience))[1] == "audience"


@pytest.mark.parametrize("audience", [None, [], ["booth/v1/61/61-0007"], {"booth/v1/61/61-0007": 1}, 1])
def test_f37_an_audience_is_one_text(audience: Any) -> None:
    assert refused(OPERATOR.sign("config", {}, audience=audience)) == ("invalid", "audience")


def test_without_a_trust_list_nothing_is_accepted() -> None:
    with pytest.raises(Refusal) as caught:
        judge(OPERATOR.sign("config", {}), "config", BOOTH, None, None, NOW)
    assert caught.value.code == "untrusted-key"


def test_signatures_come_first_so_that_nobody_without_a_key_learns_or_moves_anything() -> None:
    def seen(message: bytes) -> Revision | None:
        told = Seen()
        with pytest.raises(Refusal):
            judge(message, "config", BOOTH, TRUST, None, NOW, seen=told)
        return told.revision

    assert seen(OPERATOR.sign("config", {}, rev=9, keys=[key("thief")])) is None
    assert seen(OPERATOR.sign("policy", {}, rev=9)) is None
    assert seen(OPERATOR.sign("config", {}, rev=9, audience="booth/v1/61/_all")) is None, "nor with what is for another"
    lagging = seen(OPERATOR.sign("config", {}, rev=9, not_after="2026-01-01T00:00:00.000Z"))
    assert lagging is not None, "but a booth that lags shows it"
    assert lagging.rev == 9


def test_f34_what_was_accepted_stays_known_when_its_time_is_over() -> None:
    message = OPERATOR.sign("config", {}, not_after="2026-12-01T00:00:00.000Z")
    accepted = judged(message).revision
    assert judged(message, accepted, now="2036-11-25T12:00:00.000Z").known


def test_the_clock_follows_a_document_a_day_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: datetime.fromisoformat(NOW).timestamp())
    assert believable("2026-11-20T08:00:00.000Z") == "2026-11-20T08:00:00.000Z"
    assert believable("9999-12-31T23:59:59.999Z") == "2026-11-26T12:00:00.000Z"


# --- the ratchet ---


class Ratchet(RuleBasedStateMachine):
    """Documents of three layers, made in any order, arrive in any order, again and again. The model: of each layer the newest
    epoch and revision that was accepted, and its bytes."""

    documents = Bundle("documents")

    @initialize()
    def begin(self) -> None:
        self.epoch = 1
        self.trust = TRUST
        self.accepted: dict[str, Revision] = {}

    @rule(
        target=documents, layer=st.sampled_from(["_all/_all", "61/_all", "61/61-0007"]), rev=st.integers(0, 4),
        epoch=st.integers(0, 4), what=st.sampled_from("ab"),
    )  # fmt: skip
    def write(self, layer: str, rev: int, epoch: int, what: str) -> Any:
        payload = json.dumps(OPERATOR.statement({"what": what}, rev, f"booth/v1/{layer}", epoch=epoch)).encode()
        # Signed by one, by the other, by both: the same document.
        return multiple(
            *(
                (layer, payload, seal(payload_type("config"), payload, list(keys)))
                for keys in (OPERATOR.both[:1], OPERATOR.both[1:], OPERATOR.both)
            )
        )

    @rule(document=documents)
    def arrive(self, document: tuple[str, bytes, bytes]) -> None:
        layer, payload, message = document
        statement = json.loads(payload)
        last = self.accepted.get(layer)
        revision = Revision(statement["epoch"], statement["rev"], hashlib.sha256(payload).hexdigest())
        expected = self._expected(last, revision)
        try:
            result = judge(message, "config", f"booth/v1/{layer}", self.trust, last, NOW)
        except Refusal as refusal:
            assert refusal.code == expected
            return
        assert ("known" if result.known else "new") == expected
        assert result.revision == revision
        self.accepted[layer] = revision

    def _expected(self, last: Revision | None, new: Revision) -> str:
        if new.epoch != self.epoch:
            return "rollback" if new.epoch < self.epoch else "untrusted-key"
        if last is None or last.epoch < new.epoch or last.rev < new.rev:
            return "new"
        if last == new:
            return "known"
        return "conflict" if last.rev == new.rev else "rollback"

    @rule(document=documents, other=st.sampled_from(["_all/_all", "62/_all", "61/61-0008"]))
    def go_astray(self, document: tuple[str, bytes, bytes], other: str) -> None:
        layer, _, message = document
        if other != layer:
            with pytest.raises(Refusal) as caught:
                judge(message, "config", f"booth/v1/{other}", self.trust, None, NOW)
            assert caught.value.code == "wrong-audience"

    @rule()
    def next_epoch(self) -> None:
        self.epoch = min(self.epoch + 1, 3)
        self.trust = trust(version=self.epoch, epoch=self.epoch)

    @invariant()
    def nothing_goes_back(self) -> None:
        before = getattr(self, "before", {})
        for layer, revision in before.items():
            now = self.accepted[layer]
            assert now == revision or (now.epoch, now.rev) > (revision.epoch, revision.rev)
        self.before = dict(getattr(self, "accepted", {}))


Ratchet.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)
TestRatchet = Ratchet.TestCase


def test_f38_a_replay_is_refused_and_the_same_payload_signed_anew_is_known() -> None:
    last = judged(OPERATOR.sign("config", {"a": 1}, rev=5)).revision
    assert refused(OPERATOR.sign("config", {"a": 1}, rev=4), last) == ("rollback", "rev")
    assert refused(OPERATOR.sign("config", {"a": 2}, rev=5), last) == ("conflict", "rev")
    assert judged(OPERATOR.sign("config", {"a": 1}, rev=5, keys=[OPERATOR.second]), last).known
    assert not judged(OPERATOR.sign("config", {"a": 1}, rev=6), last).known


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text('{}[]",:0123456789.eE-+ntfalsr\\u', max_size=60).map(str.encode))
def test_any_payload_with_good_signatures_is_a_document_or_a_refusal(payload: bytes) -> None:
    try:
        assert isinstance(judged(sealed(payload)).document, Document)
    except Refusal as refusal:
        assert refusal.code in ("bad-json", "invalid", "unsupported")


def test_a_document_keeps_what_it_does_not_say() -> None:
    document = read_document(statement())
    assert (document.not_after, document.confirm_s) == (None, 120)
    assert dataclasses.replace(document, rev=2) != document


def test_an_envelope_may_carry_thirty_two_signatures_and_no_more() -> None:
    good = json.loads(OPERATOR.sign("config", {}))
    crowd = [{"keyid": f"{number}", "sig": base64.b64encode(bytes(64)).decode()} for number in range(31)]
    assert judged(json.dumps(good | {"signatures": [*crowd, *good["signatures"]]}).encode()).signers == {OPERATOR.first.id}
    assert refused(json.dumps(good | {"signatures": [*crowd, *crowd[:1], *good["signatures"]]}).encode())[0] == "bad-envelope"
