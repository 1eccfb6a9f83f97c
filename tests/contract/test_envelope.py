"""DSSE envelopes and the documents inside them."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.decode import MAX_BYTES
from agent.contract.documents import Document, Refusal, read_document
from agent.contract.envelope import MAX_ENVELOPE_BYTES, Envelope, open_envelope

KEY_ID = "ab" * 32
DOCUMENT: dict[str, Any] = {
    "schema": 1, "audience": "booth/v1/61/_all", "rev": 17, "epoch": 1, "issued_at": "2026-10-06T12:32:00.000Z",
    "not_after": None, "confirm_s": 120, "doc": {},
}  # fmt: skip


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def wire(inside: bytes = b"{}", /, **changes: Any) -> bytes:
    return json.dumps(
        {"payload": b64(inside), "payloadType": "t", "signatures": [{"keyid": KEY_ID, "sig": b64(b"s")}]} | changes
    ).encode()


def refusal(message: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        open_envelope(message)
    return caught.value


def test_what_is_signed_are_the_bytes_of_the_dsse_specifications_own_example() -> None:
    # secure-systems-lab/dsse, protocol.md, "Test vectors".
    envelope = Envelope("http://example.com/HelloWorld", b"hello world", ())
    assert envelope.signed_bytes() == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_in_it_are_bytes_and_not_characters() -> None:
    assert Envelope("é", "€".encode(), ()).signed_bytes() == b"DSSEv1 2 \xc3\xa9 3 \xe2\x82\xac"
    assert Envelope("", b"", ()).signed_bytes() == b"DSSEv1 0  0 "


@given(st.text(max_size=6), st.binary(max_size=6), st.text(max_size=6), st.binary(max_size=6))
def test_two_envelopes_that_differ_are_never_signed_over_the_same_bytes(a: str, b: bytes, c: str, d: bytes) -> None:
    same = Envelope(a, b, ()).signed_bytes() == Envelope(c, d, ()).signed_bytes()
    assert same == ((a, b) == (c, d))


def test_the_specifications_example_envelope_is_read() -> None:
    signature = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    message = wire(
        payload="aGVsbG8gd29ybGQ=",
        payloadType="http://example.com/HelloWorld",
        signatures=[{"keyid": KEY_ID, "sig": signature}],
    )
    envelope = open_envelope(message)
    assert (envelope.payload_type, envelope.payload) == ("http://example.com/HelloWorld", b"hello world")
    assert [(key_id, len(signature)) for key_id, signature in envelope.signatures] == [(KEY_ID, 64)]


def test_either_alphabet_of_base64_is_read() -> None:
    payload = bytes(range(250, 256)) * 3
    for text in (base64.b64encode(payload), base64.urlsafe_b64encode(payload)):
        assert open_envelope(wire(payload=text.decode())).payload == payload


def test_keys_that_dsse_may_add_are_ignored() -> None:
    assert open_envelope(wire(extra=1)).payload == b"{}"


def test_a_signature_by_a_key_of_another_form_does_not_make_it_a_bad_envelope() -> None:
    signatures = [{"keyid": "release-2026", "sig": b64(b"x")}, {"keyid": KEY_ID, "sig": b64(b"s")}]
    assert [key_id for key_id, _ in open_envelope(wire(signatures=signatures)).signatures] == ["release-2026", KEY_ID]


@pytest.mark.parametrize(
    "message",
    [
        b"", b"{}", b"null", b"[]", b"not json", b"\xff", b"{" * 100, json.dumps(DOCUMENT).encode(), wire()[:-1],
        wire(payload=1), wire(payload=None), wire(payload="a"), wire(payload="YQ"),
        wire(payload="Y Q=="), wire(payload="é==="), wire(payloadType=1), wire(signatures={}),
        wire(signatures=[1]), wire(signatures=[{}]), wire(signatures=[{"keyid": KEY_ID, "sig": "!"}]),
        wire(signatures=[{"keyid": "k" * 257, "sig": ""}]), wire(signatures=[{"keyid": KEY_ID, "sig": ""}] * 33),
        b'{"payload":"","payload":"","payloadType":"t","signatures":[]}',
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused_as_bad_envelope(message: bytes) -> None:
    assert refusal(message).code == "bad-envelope"


def test_a_document_of_the_largest_size_fits_and_one_byte_more_is_too_large() -> None:
    assert len(open_envelope(wire(b"x" * MAX_BYTES)).payload) == MAX_BYTES
    assert refusal(wire(b"x" * (MAX_BYTES + 1))).code == "too-large"


def test_a_message_too_large_for_any_document_is_not_even_decoded() -> None:
    assert refusal(b"[" * (MAX_ENVELOPE_BYTES + 1)).code == "too-large"


@given(st.binary())
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(message: bytes) -> None:
    with pytest.raises(Refusal):
        open_envelope(message)


# --- the document inside ---


def rejected(payload: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_document(payload)
    return caught.value


def test_a_document_is_read() -> None:
    assert read_document(json.dumps(DOCUMENT).encode()) == Document(**DOCUMENT)


def test_not_after_and_confirm_s_have_defaults() -> None:
    short = {key: value for key, value in DOCUMENT.items() if key not in ("not_after", "confirm_s")}
    assert read_document(json.dumps(short).encode()) == Document(**DOCUMENT)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b'{"rev":1,"rev":2}', b'{"rev":NaN}', b"\xff\xfe{}", b'{"doc":' + b"[" * 40 + b"]" * 40 + b"}"]
)
def test_a_document_that_is_no_strict_json_is_bad_json(payload: bytes) -> None:
    assert rejected(payload).code == "bad-json"


def test_a_document_over_256_kib_is_too_large() -> None:
    assert rejected(b" " * (256 * 1024 + 1)).code == "too-large"


def test_a_document_of_another_schema_is_unsupported_whatever_it_holds() -> None:
    assert rejected(b'{"schema":2,"layers":[]}').code == "unsupported"


def test_a_document_with_mistakes_is_invalid_with_every_path() -> None:
    wrong = DOCUMENT | {"schema": "1", "audience": "booth/v1/61/+", "rev": -1, "confirm_s": 5, "issued_at": "now", "sig": 1}
    caught = rejected(json.dumps(wrong).encode())
    assert caught.code == "invalid"
    assert {problem.path for problem in caught.problems} == {"schema", "audience", "rev", "confirm_s", "issued_at", "sig"}
    assert caught.path == caught.problems[0].path
    assert all(problem.message in str(caught) for problem in caught.problems)
